"""Calving fronts on the command line: what is said, what is written, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from affine import Affine
from front_files_for_tests import (
    CODES,
    NAME,
    WORDS,
    glacier_network,
    layers_of,
    rows_of,
    true_front,
    write_classes,
    write_dated,
    write_edge,
    write_fjord,
    write_shapes,
)
from fronts_for_tests import QUICK, WATER, raster
from rasters_for_tests import write_raster
from runs_for_tests import QUICKEST, Ended, files_in, run_cli

from csc_xr.export import write_class_png
from csc_xr.files import read_json, write_json
from csc_xr.fronts.deviation import front_error
from csc_xr.fronts.digitised import open_digitised
from csc_xr.fronts.settings import FrontSettings
from csc_xr.legend import GLACIER, ClassLegend, LegendClass
from csc_xr.networks.bundle import save_network


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write classes of three dates; for the second a front was digitised."""
    folder = tmp_path_factory.mktemp("dated")
    sources = write_dated(folder)
    write_edge(folder, sources[1].stem)
    return sources


def rows_in(text: str) -> dict[str, str]:
    """What is said in rows of a name and a value."""
    parts = [line.split("  ", 1) for line in text.splitlines() if "  " in line]
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if "  " not in line and " " in line]
    return {name.strip(): value.strip() for name, value in (*pairs, *parts)}


def refused(*words: object, out: Path) -> str:
    """What is said of bad input; nothing may be written."""
    ended = run_cli(*words, "--out", out)
    assert ended.code == 2, ended.out
    assert "Traceback" not in ended.err
    assert files_in(out) == []
    return ended.err


def test_classify_with_a_front(tmp_path: Path) -> None:
    save_network(glacier_network(), tmp_path / "tiles.keras")
    write_edge(tmp_path)
    image, out = write_fjord(tmp_path), tmp_path / "out"
    words = ("classify", image, "--model", tmp_path / "tiles.keras", "--out", out, *QUICKEST)
    ended = run_cli(*words, "--front", *WORDS)
    assert ended.code == 0, ended.err
    findings = read_json(out / f"{NAME}_run.json")["findings"]
    said = rows_in(ended.out)
    assert said["front"] == f"found. {findings['front']['reason']}"
    median, mean = (findings["front_error"][name] for name in ("median_m", "mean_m"))
    assert said["front error"] == f"median {median:.1f} m, mean {mean:.1f} m, 100 % under 100 m"
    assert said["front lines"] == str(out / f"{NAME}_front.gpkg")
    assert said["front report"] == str(out / f"FRONT_{NAME}_k1.csv")
    settings = read_json(out / f"{NAME}_run.json")["parameters"]["front"]
    assert FrontSettings(**{**settings, "glacier": QUICK.glacier, "ocean": QUICK.ocean}) == QUICK
    again = run_cli(*words, *WORDS)  # settings of a front ask for one
    assert (again.code, again.out.startswith(f"{NAME} is done already")) == (0, True), again.err
    assert "done" in run_cli("status", out).out
    without = run_cli(*words)
    assert without.code == 2
    assert "front.closing_m was 60.0, now None" in without.err
    other = run_cli(*words, "--front")
    assert "front.closing_m was 60.0, now 300.0" in other.err


def test_classify_refuses_a_front_that_cannot_be_found(tmp_path: Path) -> None:
    model, out = tmp_path / "tiles.keras", tmp_path / "out"
    save_network(glacier_network(), model)
    photo = write_fjord(tmp_path, driver="PNG", transform=None, crs=None)
    said = refused("classify", photo, "--model", model, *QUICKEST, "--front", out=out)
    assert "Pixels need a CRS to be measured in metres, got none" in said
    said = refused(
        "classify", photo, "--model", model, *QUICKEST, "--front-setting", "glacier=Ice", out=out
    )
    assert "that are glacier must be in legend 'glacier', but 'Ice' is not among" in said
    assert "No such option" in refused("stack", photo, "--model", model, "--front", out=out)


def test_fronts_of_classes(dated: list[Path], tmp_path: Path) -> None:
    ended = run_cli("front", *dated[:2], "--out", tmp_path, *WORDS)
    assert ended.code == 0, ended.err
    first, second = ended.out.strip().split("\n\n")
    assert first.splitlines()[0] == dated[0].stem
    assert rows_in(first) == {
        "front": f"found. {true_front().reason}",
        "front lines": str(tmp_path / f"{dated[0].stem}_front.gpkg"),
        "classes": str(tmp_path / f"{dated[0].stem}_front.tif"),
    }
    report = tmp_path / f"FRONT_{dated[1].stem}_front.csv"
    assert rows_in(second)["front report"] == str(report)
    (figures,) = pd.read_csv(report).to_dict("records")
    assert f"median {figures['median_m']:.1f} m, " in rows_in(second)["front error"]
    assert layers_of(tmp_path / f"{dated[1].stem}_front.gpkg") == ["fronts"]
    again = run_cli("front", *dated[1:], "--out", tmp_path, *WORDS)
    assert again.code == 2
    assert f"{dated[1].stem}_front.gpkg must not exist yet, but it does" in again.err
    assert not (tmp_path / f"{dated[2].stem}_front.gpkg").exists()


def test_more_that_can_be_asked_of_front(dated: list[Path], tmp_path: Path) -> None:
    """Further layers, other lines, a region; a raster without CRS that has no front."""
    upper = true_front().lines.buffer(500).translate(0, 600)
    region = write_shapes(tmp_path / "upper.gpkg", upper)
    (tmp_path / "drawn").mkdir()
    ended = run_cli(
        "front", dated[1], "--out", tmp_path, *WORDS, "--margins", "--polygons",
        "--lines", tmp_path / "drawn", "--within", region,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "front error" not in ended.out
    lines = tmp_path / f"{dated[1].stem}_front.gpkg"
    assert layers_of(lines) == ["fronts", "margins", "classes"]
    (row,) = rows_of(lines).itertuples()
    assert row.geometry.within(upper.iloc[0].buffer(10))
    codes = np.full(CODES.shape, WATER, np.uint8)
    bare = raster(codes, crs=None, transform=Affine.identity())
    write_class_png(bare, tmp_path / "photo.png", legend=GLACIER)
    words = ("front", tmp_path / "photo.png", "--out", tmp_path)
    ended = run_cli(*words, "--pixel-size", 10)
    assert ended.code == 0, ended.err
    assert rows_in(ended.out)["front"] == "no glacier. No pixel is Glacier Ice."
    write_edge(tmp_path, "photo")
    ended = run_cli(*words, "--pixel-size", 10, "--overwrite")
    assert ended.code == 2
    assert "must lie on the grid of its image" in ended.err  # EDGE has a place, the photo none
    drawn = true_front().raster.to_numpy()
    write_raster(tmp_path / "EDGE_photo.tif", drawn[None], driver="GTiff")
    ended = run_cli(*words, "--pixel-size", 10, "--overwrite")
    assert rows_in(ended.out)["front error"] == "nothing was found to measure"


def test_a_legend_of_ones_own(dated: list[Path], tmp_path: Path) -> None:
    legend = ClassLegend(
        "coast",
        [LegendClass(code, name, "grey") for code, name in ((1, "Sea"), (4, "Ice, old"), (6, "A"))]
        + [LegendClass(7, "B", "black")],
    )
    write_json(legend.to_dict(), tmp_path / "coast.json")
    words = ("front", dated[0], "--legend", tmp_path / "coast.json", *WORDS)
    said = refused(*words, out=tmp_path / "out")
    assert (
        "that are glacier must be in legend 'coast', but 'Glacier Ice' is not among 1 Sea" in said
    )
    named = ("--front-setting", "glacier=4", "--front-setting", "ocean=Sea")
    ended = run_cli(*words, *named, "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    (row,) = rows_of(tmp_path / "out" / f"{dated[0].stem}_front.gpkg").itertuples()
    assert row.geometry.equals(true_front().line)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none.tif",), "none.tif must be an image, but there is no such file"),
        ((".",), "A result is a Zarr folder"),
        (("--legend", "snow"), "A legend is 'glacier', 'river' or a JSON or CSV file, got 'snow'"),
        (("--legend", "river"), "that are glacier must be in legend 'river'"),
        (("--front-setting", "closing=3"), "A front setting must be NAME=VALUE with a name of"),
        (("--front-setting", "closing_m=-3"), "closing_m must be 0 or more, got -3.0"),
        (("--pixel-size", "wide"), "Invalid value for '--pixel-size'"),
        (("--within", "none.gpkg"), "A vector file must be readable, but none.gpkg is not"),
        (("--out",), "requires an argument"),
        (("--closing", "3"), "No such option: --closing"),
    ],
)
def test_front_refuses(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    classes = write_classes(tmp_path / "gl.tif")
    ended = run_cli("front", classes, "--out", tmp_path / "out", *words)
    assert ended.code == 2
    assert message in " ".join(ended.err.replace("│", " ").split())
    assert files_in(tmp_path / "out") == []


def error_of(predicted: Path, digitised: Path, *words: object) -> tuple[Ended, dict[str, float]]:
    ended = run_cli("front-error", predicted, digitised, *words)
    assert ended.code == 0, ended.err
    return ended, {name: float(value) for name, value in rows_in(ended.out).items()}


def test_error_of_a_front(dated: list[Path], tmp_path: Path) -> None:
    """Of lines and rasters alike; figures as text, as a table and drawn."""
    edge = dated[0].parent / f"EDGE_{dated[1].stem}.tif"
    shapes = true_front().lines.to_crs(4326).translate(0, 0.001)
    line = write_shapes(tmp_path / "moved.geojson", shapes)
    known = front_error(open_digitised(line), open_digitised(edge)).to_dict()
    table, figure = tmp_path / "new" / "error.csv", tmp_path / "error.png"
    _, said = error_of(line, edge, "--out", table, "--figure", figure)
    assert said == pytest.approx(known, rel=1e-5)
    assert said["count"] == (true_front().raster == 1).sum()
    (row,) = pd.read_csv(table).to_dict("records")
    assert row == pytest.approx(known)
    assert figure.read_bytes().startswith(b"\x89PNG")
    _, other = error_of(edge, line)
    assert other["mean_distance_error_m"] == pytest.approx(said["mean_distance_error_m"], rel=0.1)
    _, none = error_of(edge, edge)
    assert (none["median_m"], none["share_under_100_m"]) == (0, 1)


def test_error_of_a_layer(tmp_path: Path) -> None:
    """A file with several needs its name."""
    (tmp_path / "gl").mkdir()
    run_cli("front", write_classes(tmp_path / "gl.tif"), "--out", tmp_path, *WORDS, "--margins")
    lines, edge = tmp_path / "gl_front.gpkg", write_edge(tmp_path, "gl")
    ended = run_cli("front-error", lines, edge)
    assert ended.code == 2
    assert "One layer must be chosen in" in ended.err
    assert "which has fronts, margins" in ended.err
    _, fronts = error_of(lines, edge, "--layer", "fronts")
    _, margins = error_of(lines, edge, "--layer", "margins")
    assert fronts["median_m"] < 10 < margins["median_m"]
    ended = run_cli("front-error", lines, edge, "--layer", "walls")
    assert (ended.code, "must have the layer 'walls'" in ended.err) == (2, True)


def test_front_error_refuses(tmp_path: Path) -> None:
    edge = write_edge(tmp_path, "gl")
    table = tmp_path / "error.csv"
    for found, drawn, message in (
        (tmp_path / "none.gpkg", edge, "A vector file must be readable, but"),
        (edge, tmp_path / "none.tif", "A digitised line cannot be read"),
        (write_classes(tmp_path / "gl.tif"), edge, "one number on the line and 0 elsewhere"),
    ):
        ended = run_cli("front-error", found, drawn, "--out", table)
        assert (ended.code, message in ended.err) == (2, True), ended.err
    assert not table.exists()


@pytest.fixture(scope="module")
def followed(dated: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Path]:
    """Follow a front through three dates and a gap."""
    folder = tmp_path_factory.mktemp("followed")
    gap = write_classes(folder / "gl_20180101.tif", np.full(CODES.shape, WATER, np.uint8))
    return run_cli("front-series", *dated, gap, "--out", folder / "out", *WORDS), folder / "out"


def test_a_series(followed: tuple[Ended, Path]) -> None:
    ended, out = followed
    assert ended.code == 0, ended.err
    table, written = ended.out.split("\n\n", 1)
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["time", "outcome", "length_m", "box_change_m", "centreline_change_m"]
    length = f"{true_front().measures['length_m']:.1f}"
    assert lines[1] == ["2017-08-21", "found", length, "0.0", "0.0"]
    assert lines[2] == ["2018-01-01", "no", "glacier"]
    assert -45 < float(lines[3][3]) < -35
    assert table.splitlines()[-1] == "gl_20180101: no glacier. No pixel is Glacier Ice."
    assert rows_in(written) == {
        "fronts": str(out / "fronts.gpkg"),
        "table": str(out / "fronts.csv"),
        "change": str(out / "change.png"),
        "map": str(out / "fronts.png"),
    }
    assert len(pd.read_csv(out / "fronts.csv")) == 4


def test_a_series_with_its_own_references(
    dated: list[Path], followed: tuple[Ended, Path], tmp_path: Path
) -> None:
    """Box, centreline and image from files."""
    references = followed[1] / "fronts.gpkg"
    words = ("--box", references, "--centreline", references, "--image", dated[0])
    ended = run_cli("front-series", *dated[:2], "--out", tmp_path, *WORDS, *words)
    assert ended.code == 0, ended.err
    first, second = (text.out.splitlines() for text in (followed[0], ended))
    assert [line.split() for line in second[:3]] == [first[at].split() for at in (0, 1, 3)]


def test_a_series_without_a_place_on_the_map(tmp_path: Path) -> None:
    """The image is of the same pixels."""
    photo = tmp_path / "photo_20170821.png"
    write_class_png(raster(CODES, crs=None, transform=Affine.identity()), photo, legend=GLACIER)
    words = ("front-series", photo, "--out", tmp_path / "out", *WORDS, "--image", photo)
    ended = run_cli(*words, "--pixel-size", 10)
    assert ended.code == 0, ended.err
    assert files_in(tmp_path / "out") == ["change.png", "fronts.csv", "fronts.gpkg", "fronts.png"]


def test_front_series_refuses(dated: list[Path], tmp_path: Path) -> None:
    words, out = ("front-series", dated[0], *WORDS), tmp_path / "out"
    line = write_shapes(tmp_path / "line.gpkg", true_front().lines)
    area = write_shapes(tmp_path / "area.gpkg", true_front().lines.buffer(50))
    undated = write_classes(tmp_path / "gl.tif")
    for more, message in (
        (("--box", line), "The box must be one Polygon with vertices, got LineString"),
        (("--centreline", area), "The centreline must be one LineString with vertices"),
        (("--within", line), "must be polygons with a CRS, got LineString"),
        (("--box", tmp_path / "none.gpkg"), "A vector file must be readable"),
        (("--image", tmp_path / "none.tif"), "none.tif must be an image"),
        ((undated,), "A series needs the date of each raster, but gl has none in its name"),
        ((dated[0],), f"got several called {dated[0].stem}"),
    ):
        assert message in refused(*words, *more, out=out)
