"""Fronts followed through class rasters of several dates: what is written, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
from affine import Affine
from front_files_for_tests import (
    CODES,
    PLACE,
    layers_of,
    retreated,
    rows_of,
    true_front,
    write_classes,
    write_dated,
    write_shapes,
    write_stack,
)
from fronts_for_tests import NORTH_UP, QUICK, WATER
from rasters_for_tests import write_raster
from runs_for_tests import files_in
from shapely import LineString, Point

from csc_xr.errors import LineError, OutputError, ParameterError
from csc_xr.fronts.series import FrontSeries
from csc_xr.legend import GLACIER
from csc_xr.runs import front_files
from csc_xr.runs.front_files import open_class_rasters, open_reference, write_series
from csc_xr.scene import open_scene

OPTIONS: Any = {"legend": GLACIER, "settings": QUICK}
NAMES = ["gl_20170821", "gl_20180821", "gl_20190821"]
Written = tuple[FrontSeries, dict[str, Path]]


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_dated(tmp_path_factory.mktemp("dated"))


@pytest.fixture(scope="module")
def written(dated: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Follow the front; the files in another order than the dates."""
    return follow(dated[::-1], tmp_path_factory.mktemp("written"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Draw nothing, which takes most of the time; note what fronts would be drawn on."""
    backgrounds: list[Any] = []
    monkeypatch.setattr(front_files, "series_figure", lambda *_, **__: None)
    monkeypatch.setattr(
        front_files, "overlay_figure", lambda background, *_, **__: backgrounds.append(background)
    )
    return backgrounds


def follow(sources: list[Path], out: Path, **options: Any) -> Written:
    return write_series(open_class_rasters(sources, **OPTIONS), out, **{**OPTIONS, **options})


def test_a_series(written: Written) -> None:
    """In order of time, whatever the order of the files; the front went back 40 m a year."""
    series, outputs = written
    assert {role: path.name for role, path in outputs.items()} == {
        "fronts": "fronts.gpkg", "table": "fronts.csv", "change": "change.png", "map": "fronts.png"
    }  # fmt: skip
    assert files_in(outputs["map"].parent) == [
        "change.png", "fronts.csv", "fronts.gpkg", "fronts.png"
    ]  # fmt: skip
    assert series.table["name"].tolist() == NAMES
    np.testing.assert_allclose(series.table["box_change_m"], [0, -40, -80], atol=5)
    pd.testing.assert_frame_equal(
        pd.read_csv(outputs["table"], parse_dates=["time"], keep_default_na=False),
        series.table, check_dtype=False,
    )  # fmt: skip
    assert layers_of(outputs["fronts"]) == ["fronts", "box", "centreline"]
    rows = rows_of(outputs["fronts"])
    assert rows["scene"].tolist() == NAMES
    assert rows["date"].dt.year.tolist() == [2017, 2018, 2019]
    np.testing.assert_allclose(rows["box_change_m"], series.table["box_change_m"])
    for row, known in zip(rows.itertuples(), map(retreated, (0, 4, 8)), strict=True):
        assert row.geometry.equals(true_front(known).line)
    for layer in ("box", "centreline"):
        (shape,) = rows_of(outputs["fronts"], layer).geometry
        assert shape.equals_exact(getattr(series, layer).iloc[0], 1e-6)


def test_a_series_of_a_stack(written: Written, undrawn: list[Any], tmp_path: Path) -> None:
    scenes = [retreated(4 * year) for year in range(3)]
    store = write_stack(tmp_path / "classified.zarr", scenes, lead="time", names=["a", "b", "c"])
    series, _ = follow([store], tmp_path / "stack")
    assert series.table["name"].tolist() == ["a", "b", "c"]
    pd.testing.assert_frame_equal(
        series.table.drop(columns="name"), written[0].table.drop(columns="name")
    )
    np.testing.assert_array_equal(undrawn[0], scenes[2])


def test_a_gap_stays_a_row(dated: list[Path], undrawn: list[Any], tmp_path: Path) -> None:
    gap = write_classes(tmp_path / "gl_20180101.tif", np.full((100, 120), WATER, np.uint8))
    series, outputs = follow([*dated[:2], gap], tmp_path / "out")
    row = series.table.iloc[1]
    assert (row["name"], row["outcome"]) == ("gl_20180101", "no glacier")
    assert row["reason"] == "No pixel is Glacier Ice."
    assert np.isnan(row["box_position_m"])
    assert rows_of(outputs["fronts"]).geometry.isna().tolist() == [False, True, False]
    assert len(series.lines) == 2
    np.testing.assert_array_equal(undrawn[0], retreated(4))


def test_nothing_but_gaps(tmp_path: Path) -> None:
    gap = write_classes(tmp_path / "gl_20180101.tif", np.full((40, 50), WATER, np.uint8))
    series, outputs = follow([gap], tmp_path / "out")
    assert series.lines.empty
    assert files_in(tmp_path / "out") == ["change.png", "fronts.csv", "fronts.gpkg"]
    assert outputs.keys() == {"fronts", "table", "change"}
    assert layers_of(outputs["fronts"]) == ["fronts"]


def test_two_images_of_one_day_are_two_rows(
    dated: list[Path], undrawn: list[Any], tmp_path: Path
) -> None:
    other = write_classes(tmp_path / "other_20170821.tif", retreated(2))
    series, _ = follow([*dated[:2], other], tmp_path / "out")
    assert series.table["name"].tolist() == [NAMES[0], "other_20170821", NAMES[1]]
    assert len(undrawn) == 1


@pytest.mark.usefixtures("undrawn")
def test_a_series_is_not_replaced_unasked(dated: list[Path], tmp_path: Path) -> None:
    (tmp_path / "fronts.csv").touch()
    with pytest.raises(OutputError, match=r"fronts\.csv must not exist yet"):
        follow(dated[:1], tmp_path)
    assert files_in(tmp_path) == ["fronts.csv"]
    follow(dated[:1], tmp_path, overwrite=True)
    assert len(pd.read_csv(tmp_path / "fronts.csv")) == 1


def test_a_series_needs_dates(dated: list[Path], tmp_path: Path) -> None:
    undated = [write_classes(tmp_path / f"{name}.tif") for name in ("a", "b_20170821_20180821")]
    message = "needs the date of each raster, but a, b_20170821_20180821 has none in its name"
    with pytest.raises(ParameterError, match=message):
        follow([*dated, *undated], tmp_path / "out")
    with pytest.raises(ParameterError, match="needs at least one front, got none"):
        follow([], tmp_path / "out")
    assert files_in(tmp_path / "out") == []


@pytest.mark.usefixtures("undrawn")
def test_a_series_goes_on_with_its_box_and_centreline(
    dated: list[Path], written: Written, tmp_path: Path
) -> None:
    """From the file it wrote, or from one of their own."""
    first, outputs = written
    flow = write_shapes(tmp_path / "flow.geojson", first.centreline)
    centreline, area = open_reference(flow, "centreline"), open_reference(outputs["fronts"], "box")
    later = write_classes(tmp_path / "gl_20200821.tif", retreated(6))
    series, _ = follow([*dated, later], tmp_path / "out", centreline=centreline, box=area)
    pd.testing.assert_frame_equal(series.table[:3], first.table, atol=0.01, check_exact=False)
    assert series.table["box_change_m"].iloc[3] == pytest.approx(-60, abs=5)
    assert series.box.iloc[0].equals_exact(first.box.iloc[0], 1e-3)


@pytest.mark.usefixtures("undrawn")
def test_fronts_of_a_region(dated: list[Path], tmp_path: Path) -> None:
    away = true_front().lines.buffer(50).translate(5000, 0)
    series, _ = follow(dated[:1], tmp_path, within=away)
    assert series.table["outcome"].tolist() == ["no glacier"]


def no_file(folder: Path) -> Path:
    return folder / "none.gpkg"


def no_vectors(folder: Path) -> Path:
    (folder / "notes.gpkg").write_text("a line from here to there")
    return folder / "notes.gpkg"


def no_geometry(folder: Path) -> Path:
    (folder / "table.csv").write_text("x,y\n1,2\n")
    return folder / "table.csv"


def no_crs(folder: Path) -> Path:
    path = folder / "flow.shp"
    frame = geopandas.GeoDataFrame(geometry=[LineString([(0, 0), (1, 1)])], crs=None)
    pyogrio.write_dataframe(frame, path)
    return path


def other_layers(folder: Path) -> Path:
    frame = geopandas.GeoDataFrame(geometry=[Point(0, 0)], crs=4326)
    for layer in ("first", "second"):
        frame.to_file(folder / "points.gpkg", layer=layer)
    return folder / "points.gpkg"


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize(
    ("write", "message"),
    [
        (no_file, r"must be readable, but .*none\.gpkg is not: .*No such file"),
        (no_vectors, r"must be readable, but .*notes\.gpkg is not"),
        (no_geometry, "one layer of geometries, or one called 'box', got none. Save what is meant"),
        (other_layers, "one called 'box', got first, second"),
        (no_crs, r"flow\.shp must have a CRS, got none"),
    ],
)
def test_references_that_are_refused(
    write: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(LineError, match=message):
        open_reference(write(tmp_path), "box")


def test_a_reference_of_several_layers_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(LineError, match="one layer of geometries, got first, second"):
        open_reference(other_layers(tmp_path))
    assert len(open_reference(tmp_path / "points.gpkg", "second")) == 1


def test_references_of_another_kind_are_refused(dated: list[Path], tmp_path: Path) -> None:
    line, area = true_front().lines, true_front().lines.buffer(50)
    with pytest.raises(LineError, match=r"centreline must be one LineString .* got Polygon"):
        follow(dated[:1], tmp_path, centreline=area)
    with pytest.raises(LineError, match=r"box must be one Polygon .* got LineString"):
        follow(dated[:1], tmp_path, box=line)
    with pytest.raises(LineError, match="must be polygons with a CRS, got LineString"):
        follow(dated[:1], tmp_path, within=line)
    assert files_in(tmp_path) == []


def test_fronts_are_drawn_on_an_image_that_shows_them(dated: list[Path], tmp_path: Path) -> None:
    """Else nothing is written."""
    pixels = np.repeat(CODES[None] * 30, 3, axis=0)
    image = open_scene(write_raster(tmp_path / "image.tif", pixels, **PLACE))
    assert follow(dated[:1], tmp_path / "image", background=image)[1]["map"].stat().st_size
    moved = {**PLACE, "transform": Affine(*NORTH_UP[:5], 7_500_000.0)}
    elsewhere = open_scene(write_raster(tmp_path / "elsewhere.tif", pixels, **moved))
    with pytest.raises(ParameterError, match="background that shows its fronts"):
        follow(dated[:1], tmp_path / "out", background=elsewhere)
    assert files_in(tmp_path / "out") == []
