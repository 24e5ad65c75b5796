"""Runs that also find the calving front: what they leave, keep, refuse and take up again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from affine import Affine
from front_files_for_tests import (
    CODES,
    NAME,
    PLACE,
    glacier_network,
    true_front,
    write_edge,
    write_fjord,
    write_shapes,
)
from fronts_for_tests import ICE, NORTH_UP, QUICK, ROCK, WATER, raster
from networks_for_tests import LEGEND
from rasters_for_tests import write_raster
from runs_for_tests import files_in
from sklearn.ensemble import RandomForestClassifier
from stacks_for_tests import stripes

from csc_xr.errors import (
    CscError,
    CscWarning,
    LabelError,
    LegendError,
    LineError,
    ParameterError,
    ResumeError,
)
from csc_xr.export import open_classes, open_result
from csc_xr.files import read_json, write_json
from csc_xr.fronts.deviation import front_error, margin_error
from csc_xr.fronts.digitised import open_digitised
from csc_xr.fronts.extraction import extract_front
from csc_xr.fronts.margins import extract_margins
from csc_xr.legend import GLACIER, ClassLegend
from csc_xr.runs import front_files, fronts
from csc_xr.runs import scene as scene_module
from csc_xr.runs.jobs import prepare_jobs
from csc_xr.runs.scene import RunResult, run_job
from csc_xr.runs.stack import classify_stack
from csc_xr.workflow import ClassifySettings

NETWORK = glacier_network()
PLAIN = ClassifySettings(patch_size=1, mode_radius=2)
WITH_FRONT = replace(PLAIN, front=QUICK)
LABELS = np.where(CODES == 6, ROCK, CODES)
"""The true classes, with all rock one class, as the network knows it."""


def classify(image: Path, out: Path, settings: ClassifySettings = WITH_FRONT) -> RunResult:
    """Classify an image without a network to fit, which takes most of a small run's time."""
    forest = RandomForestClassifier(n_estimators=5, random_state=0)
    (job,) = prepare_jobs([image], NETWORK, out, settings=settings, classifier=forest)
    return run_job(job, NETWORK, out, settings=settings, classifier=forest)


def write_scene(folder: Path) -> Path:
    """Write an image with its labels and what was digitised on it."""
    folder.mkdir(exist_ok=True)
    write_raster(folder / f"SCLS_{NAME}.tif", LABELS[None], **PLACE)
    write_edge(folder)
    margins = extract_margins(raster(CODES), GLACIER)
    write_shapes(folder / f"VM_{NAME}.gpkg", margins.translate(0, 10))
    return write_fjord(folder)


class Runs(NamedTuple):
    """An image and two runs over it."""

    image: Path
    plain: RunResult
    front: RunResult


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    image = write_scene(folder / "images")
    return Runs(image, classify(image, folder / "plain", PLAIN), classify(image, folder / "front"))


def lines_of(result: RunResult) -> geopandas.GeoDataFrame:
    return geopandas.read_file(result.outputs["front lines"], layer="fronts")


def test_what_a_run_leaves(runs: Runs) -> None:
    added = {
        "front lines": f"{NAME}_front.gpkg",
        "front report": f"FRONT_{NAME}_k1.csv",
        "front distances": f"FRONT_{NAME}_k1_distances.csv",
        "front figure": f"FRONT_{NAME}_k1_errors.png",
        "margin report": f"MARGIN_{NAME}_k1.csv",
        "margin distances": f"MARGIN_{NAME}_k1_distances.csv",
        "margin figure": f"MARGIN_{NAME}_k1_errors.png",
    }
    names = {role: path.name for role, path in runs.front.outputs.items()}
    assert names == {role: path.name for role, path in runs.plain.outputs.items()} | added
    folders = [runs.plain.outputs["record"].parent, runs.front.outputs["record"].parent]
    before, after = ({name for name in files_in(out) if ".zarr" not in name} for out in folders)
    assert after - before == set(added.values())
    assert before - after == set()


def test_what_the_record_says(runs: Runs) -> None:
    record = read_json(runs.front.outputs["record"])
    assert record["findings"] == runs.front.record.findings
    assert record["findings"].keys() == {"confusion", "front", "front_error", "margin_error"}
    found = extract_front(open_result(runs.front.outputs["result"])["pixel_class"], GLACIER,
                          settings=QUICK)  # fmt: skip
    assert record["findings"]["front"] == {
        "outcome": "found", "reason": found.reason, **found.measures
    }  # fmt: skip
    assert record["stage_seconds"].keys() - runs.plain.record.stage_seconds.keys() == {"front"}
    assert {Path(entry["path"]).name for entry in record["inputs"]} == {
        f"{NAME}.tif", f"SCLS_{NAME}.tif", f"EDGE_{NAME}.tif", f"VM_{NAME}.gpkg"
    }  # fmt: skip
    assert record["parameters"]["front"]["closing_m"] == QUICK.closing_m
    plain = read_json(runs.plain.outputs["record"])["findings"]
    assert plain == {"confusion": record["findings"]["confusion"]}


def test_the_line_lies_where_the_classes_have_it(runs: Runs) -> None:
    (row,) = lines_of(runs.front).itertuples()
    classes = open_result(runs.front.outputs["result"])["pixel_class"]
    found = extract_front(classes, GLACIER, settings=QUICK)
    assert row.geometry.equals(found.line)
    assert (row.scene, row.outcome) == (NAME, "found")
    assert row.date == pd.Timestamp("2017-08-21")
    assert front_error(found.lines, true_front().lines).median_m < 20


def test_the_raster_shows_the_front_and_the_result_does_not(runs: Runs) -> None:
    stored = open_result(runs.front.outputs["result"]).load()
    assert set(np.unique(stored["pixel_class"])) == {WATER, ICE, ROCK}
    xr.testing.assert_identical(
        stored.drop_attrs(), open_result(runs.plain.outputs["result"]).load().drop_attrs()
    )
    front = extract_front(stored["pixel_class"], GLACIER, settings=QUICK)
    with rasterio.open(runs.front.outputs["classes"]) as dataset:
        shown, colours = dataset.read(1), dataset.colormap(1)
    np.testing.assert_array_equal(shown == 8, front.raster == 1)
    np.testing.assert_array_equal(
        np.where(shown == 8, stored["pixel_class"], shown), stored["pixel_class"]
    )
    assert colours[8] == (255, 0, 0, 255)
    named = Path(f"{runs.front.outputs['classes']}.aux.xml").read_text(encoding="utf-8")
    assert "<Category>Calving Front</Category>" in named


def test_scores_do_not_know_of_the_front(runs: Runs) -> None:
    assert runs.front.scores.keys() == runs.plain.scores.keys() == {"tile_class", "pixel_class"}
    for phase, report in runs.plain.scores.items():
        pd.testing.assert_frame_equal(runs.front.scores[phase], report)


def red_pixels(figure: Path) -> int:
    with rasterio.open(figure) as dataset:
        red, green, blue = dataset.read()[:3].astype(int)
    return int(((red > 240) & (green < 40) & (blue < 40)).sum())


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_figure_shows_the_front(runs: Runs) -> None:
    assert red_pixels(runs.plain.outputs["figure"]) == 0
    assert red_pixels(runs.front.outputs["figure"]) > 100


def test_errors_are_those_measured_by_hand(runs: Runs) -> None:
    """On what lies beside the image, from the files that were written."""
    folder, outputs = runs.image.parent, runs.front.outputs
    edge = open_digitised(folder / f"EDGE_{NAME}.tif")
    by_hand = front_error(lines_of(runs.front).geometry, edge)
    margins = extract_margins(open_result(outputs["result"])["pixel_class"], GLACIER)
    of_margins = margin_error(margins, open_digitised(folder / f"VM_{NAME}.gpkg"))
    for role, wanted in {"front": by_hand, "margin": of_margins}.items():
        (report,) = pd.read_csv(outputs[f"{role} report"]).to_dict("records")
        assert report == pytest.approx(wanted.to_dict())
        distances = pd.read_csv(outputs[f"{role} distances"])["distance_m"]
        np.testing.assert_allclose(distances, wanted.distances_m)
        assert runs.front.record.findings[f"{role}_error"] == pytest.approx(wanted.to_dict())
    assert by_hand.count == (true_front().raster == 1).sum()
    assert 0 < by_hand.median_m < 20
    assert 5 < of_margins.median_m < 20


def test_no_front_is_a_result_too(tmp_path: Path) -> None:
    """And nothing can be measured then."""
    codes = np.full_like(CODES, WATER)
    codes[:50] = ROCK
    write_edge(tmp_path)
    result = classify(write_fjord(tmp_path, codes=codes), tmp_path / "out")
    assert result.record.findings["front"] == {
        "outcome": "no glacier", "reason": "No pixel is Glacier Ice."
    }  # fmt: skip
    assert result.record.findings["front_error"]["count"] == 0
    (row,) = lines_of(result).itertuples()
    assert (row.outcome, row.geometry) == ("no glacier", None)
    assert "front report" in result.outputs
    assert "front figure" not in result.outputs
    assert len(pd.read_csv(result.outputs["front distances"])) == 0
    assert set(np.unique(open_classes(result.outputs["classes"])["classes"])) == {WATER, ROCK}
    assert classify(tmp_path / f"{NAME}.tif", tmp_path / "out").kept


def test_a_second_run_keeps_the_first(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_module, "write_front", lambda *_, **__: pytest.fail("found again"))
    again = classify(runs.image, runs.front.outputs["record"].parent)
    assert again.kept
    assert again.outputs == runs.front.outputs
    assert again.record.findings == runs.front.record.findings


@pytest.mark.parametrize(("role", "file"), [("edge", "EDGE"), ("margin", "VM")])
def test_a_digitised_line_that_changed_is_noticed(
    role: str, file: str, runs: Runs, tmp_path: Path
) -> None:
    out = shutil.copytree(runs.front.outputs["record"].parent, tmp_path / "out")
    image = shutil.copytree(runs.image.parent, tmp_path / "images") / runs.image.name
    before = files_in(out)
    (path,) = image.parent.glob(f"{file}_*")
    moved = open_digitised(path).translate(30, 0)
    path.unlink()
    with pytest.raises(ResumeError, match=rf"inputs\.{role} was \w+\.\.\., now None"):
        classify(image, out)
    write_shapes(path.with_suffix(".geojson"), moved)
    with pytest.raises(ResumeError, match=rf"inputs\.{role} was \w+\.\.\., now \w+\.\.\."):
        classify(image, out)
    assert files_in(out) == before


def readable(out: Path) -> dict[str, Any]:
    """What can be read from the files of a run; of those with times in them that they are there."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        if path.is_file():
            plain = path.suffix in (".csv", ".tif") or ".zarr" in str(path.parent)
            # The result says with which software and inputs it was made.
            plain = plain and path.name not in (".zattrs", ".zmetadata")
            found[str(path.relative_to(out))] = path.read_bytes() if plain else b""
    rows = geopandas.read_file(out / f"{NAME}_front.gpkg", layer="fronts")
    return found | {"front": rows.to_wkt().to_dict("records")}


def test_killed_again_and_again(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At one step after another, until the run comes to its end."""

    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    def draw(*_: Any, path: Path, **__: Any) -> None:
        path.write_bytes(b"drawn")

    monkeypatch.setattr(scene_module, "four_part_figure", draw)  # drawing takes most of the time
    steps = [
        (scene_module, "write_front"),
        (fronts, "write_layers"),
        (fronts, "error_histogram"),
        (scene_module, "four_part_figure"),
        (scene_module, "finish_scene"),
        (scene_module, "remove_work"),
    ]
    for module, name in steps:
        assert not (tmp_path / f"{NAME}_run.json").exists()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, killed)
            with pytest.raises(Killed):
                classify(runs.image, tmp_path)
    assert classify(runs.image, tmp_path).kept
    assert readable(tmp_path) == readable(runs.front.outputs["record"].parent)


def test_how_the_front_is_looked_for_decides(runs: Runs) -> None:
    out = runs.front.outputs["record"].parent
    other = replace(WITH_FRONT, front=replace(QUICK, closing_m=80, land=("Bedrock",)))
    with pytest.raises(ResumeError, match="another way: ") as refused:
        classify(runs.image, out, other)
    assert "front.closing_m was 60, now 80" in str(refused.value)
    assert "front.land was None, now ['Bedrock']" in str(refused.value)
    assert "frame_m" not in str(refused.value)
    with pytest.raises(ResumeError, match=r"front\.closing_m was 60, now None"):
        classify(runs.image, out, PLAIN)


def test_results_without_a_front_are_not_taken_for_ones_with(runs: Runs) -> None:
    out = runs.plain.outputs["record"].parent
    with pytest.raises(ResumeError, match=r"front\.closing_m was None, now 60") as refused:
        classify(runs.image, out)
    assert "replace them with overwrite=True" in str(refused.value)
    assert classify(runs.image, out, PLAIN).kept


def test_results_from_before_there_were_fronts_are_kept(runs: Runs, tmp_path: Path) -> None:
    out = shutil.copytree(runs.plain.outputs["record"].parent, tmp_path / "out")
    path = out / f"{NAME}_run.json"
    record = read_json(path)
    assert "front" not in record["identity"]  # so that unfinished work goes on, too
    for content, key in ((record, "findings"), (record["parameters"], "front")):
        del content[key]
    write_json(record, path)
    kept = classify(runs.image, out, PLAIN)
    assert kept.kept
    assert kept.record.findings == {}
    with pytest.raises(ResumeError, match=r"front\.closing_m was None, now 60"):
        classify(runs.image, out)


def without_crs(folder: Path) -> Path:
    return write_fjord(folder, "photo", transform=None, crs=None)


def edge_elsewhere(folder: Path) -> Path:
    edge = write_edge(folder)
    with rasterio.open(edge) as dataset:
        drawn = dataset.read()
    write_raster(edge, drawn, **{**PLACE, "transform": Affine(*NORTH_UP[:5], 7_400_500.0)})
    return write_fjord(folder)


def empty_edge(folder: Path) -> Path:
    write_edge(folder, pixels=np.zeros(CODES.shape, np.uint8))
    return write_fjord(folder)


def polygon_edge(folder: Path) -> Path:
    image = write_fjord(folder)
    write_shapes(folder / f"EDGE_{NAME}.gpkg", true_front().lines.buffer(20))
    return image


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (without_crs, LineError, "photo.tif: Pixels need a CRS to be measured in metres, got none"),
        (edge_elsewhere, LabelError, "must lie on the grid of its image"),
        (empty_edge, LabelError, "must have at least one pixel, got none in"),
        (polygon_edge, LineError, "must be a LineString, .* got Polygon in .*EDGE_"),
    ],
)
def test_refused_before_any_work(
    write: Callable[[Path], Path], error: type[CscError], message: str, tmp_path: Path
) -> None:
    image, out = write(tmp_path), tmp_path / "out"
    with pytest.raises(error, match=message):
        classify(image, out)
    assert not out.exists()
    forest = RandomForestClassifier(n_estimators=5, random_state=0)
    prepare_jobs([image], NETWORK, out, settings=PLAIN, classifier=forest)  # no front, no need


def test_a_legend_without_glacier_is_refused_before_any_work(tmp_path: Path) -> None:
    legend = ClassLegend("coast", [*LEGEND.classes, *GLACIER.classes[3:]])
    network, out = glacier_network(legend), tmp_path / "out"
    message = "that are ocean must be in legend 'coast', but 'Open Water' is not among 1 Water"
    with pytest.raises(LegendError, match=message):
        prepare_jobs([write_fjord(tmp_path)], network, out, settings=WITH_FRONT)
    assert not out.exists()
    named = replace(WITH_FRONT, front=replace(QUICK, ocean=("Water",), glacier=(2,)))
    assert len(prepare_jobs([write_fjord(tmp_path)], network, out, settings=named)) == 1


def test_a_stack_takes_no_front(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"A stack must be classified without front=.*series"):
        classify_stack(stripes(1), NETWORK, tmp_path / "out", settings=WITH_FRONT)
    assert not (tmp_path / "out").exists()


def test_a_raster_with_the_front_in_it_has_that_front(runs: Runs, tmp_path: Path) -> None:
    """To the bit beside its run; alone, but for inlets that the front closed: glacier there."""
    options = {"legend": GLACIER, "settings": QUICK}
    drawn = runs.front.outputs["classes"]
    alone = tmp_path / drawn.name
    alone.write_bytes(drawn.read_bytes())
    with pytest.warns(CscWarning, match="has a front drawn over its classes"):
        beside = front_files.open_class_rasters([drawn], **options)
    sources = {
        "result": front_files.open_class_rasters([runs.front.outputs["result"]], **options),
        "beside": beside,
        "alone": front_files.open_class_rasters([alone], **options),
    }
    found = {}
    for role, rasters in sources.items():
        assert rasters[0].name == NAME
        ((_, files),) = front_files.write_fronts(rasters, tmp_path / role, **options)
        found[role] = files
    assert 8 in open_classes(drawn)["classes"].values
    first = lines_of(runs.front).geometry
    for role in ("result", "beside"):
        assert found[role].front.line.equals(first.iloc[0])
        assert found[role].findings["front"] == runs.front.record.findings["front"]
    again = front_error(found["alone"].front.lines, first)
    assert again.hausdorff_m <= 30
    assert again.median_m < 10
