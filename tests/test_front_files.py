"""Fronts of class rasters that exist already: opened, found, followed through time, written."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
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
    layers_of,
    retreated,
    rows_of,
    true_front,
    write_classes,
    write_dated,
    write_edge,
    write_shapes,
    write_stack,
)
from fronts_for_tests import FRONT, ICE, NORTH_UP, QUICK, ROCK, SNOW_ON_ROCK, WATER, raster
from rasters_for_tests import never, some_pixels, write_raster
from runs_for_tests import files_in
from shapely import box

from csc_xr.errors import (
    CscWarning,
    LabelError,
    LegendError,
    LineError,
    OutputError,
    ParameterError,
)
from csc_xr.export import write_class_png, write_json, write_result_zarr
from csc_xr.fronts.extraction import extract_front
from csc_xr.fronts.margins import extract_margins
from csc_xr.legend import GLACIER, ClassLegend, LegendClass
from csc_xr.metres import with_pixel_size
from csc_xr.runs.front_files import (
    ClassRaster,
    open_class_rasters,
    write_fronts,
)
from csc_xr.runs.fronts import FrontFiles

OPTIONS: Any = {"legend": GLACIER, "settings": QUICK}
COAST = ClassLegend(
    "coast",
    [
        LegendClass(WATER, "Sea", "blue"),
        LegendClass(ICE, "Ice", "white"),
        LegendClass(SNOW_ON_ROCK, "Cliff", "grey"),
        LegendClass(ROCK, "Island", "black"),
    ],
)
COAST_SETTINGS = replace(QUICK, glacier=("Ice",), ocean=("Sea",))
NAMES = ["gl_20170821", "gl_20180821", "gl_20190821"]


def found_in(rasters: list[ClassRaster], out: Path, **options: Any) -> dict[str, FrontFiles]:
    found = write_fronts(rasters, out, **{**OPTIONS, **options})
    return {one.name: files for one, files in found}


def test_rasters_of_files_and_results(tmp_path: Path) -> None:
    """Named after their scenes, dated by their names, and not read."""
    classes = raster(CODES, chunks=50)
    result = xr.Dataset({"pixel_class": classes, "tile_class": xr.full_like(classes, WATER)})
    store = tmp_path / "one_20170821_classified.zarr"
    write_result_zarr(result, store)
    files = [
        write_classes(tmp_path / name)
        for name in ("two_classified.tif", "gl_2019-08-21T143751.tif")
    ]
    with dask.config.set(scheduler=never):
        rasters = open_class_rasters([store, *files], **OPTIONS)
    assert [(one.name, one.date) for one in rasters] == [
        ("one_20170821", datetime.datetime(2017, 8, 21)),
        ("two", None),
        ("gl_2019-08-21T143751", datetime.datetime(2019, 8, 21, 14, 37, 51)),
    ]
    for one in rasters:
        np.testing.assert_array_equal(one.classes, CODES)


def test_a_front_drawn_over_the_classes_is_lifted_off(tmp_path: Path) -> None:
    """The classes of the same run are taken, if they are the same run's and of the same place."""
    classes = raster(CODES, chunks=50)
    source = tmp_path / "one_20170821_classified.tif"
    drawn = CODES.copy()
    drawn[true_front().raster.to_numpy() > 0] = FRONT
    write_classes(source, drawn)
    store, record = source.with_suffix(".zarr"), tmp_path / "one_20170821_run.json"
    write_result_zarr(xr.Dataset({"pixel_class": classes, "tile_class": classes}), store)
    for findings in (None, {"findings": {}}):
        if findings is not None:
            write_json(findings, record)
        (as_it_is,) = open_class_rasters([source], **OPTIONS)
        np.testing.assert_array_equal(as_it_is.classes, drawn)
    write_json({"findings": {"front": {"outcome": "found"}}}, record)
    with pytest.warns(CscWarning, match=r"those in one_20170821_classified\.zarr are taken"):
        (lifted,) = open_class_rasters([source], **OPTIONS)
    assert (lifted.name, lifted.source) == ("one_20170821", source)
    np.testing.assert_array_equal(lifted.classes, CODES)
    elsewhere = xr.Dataset({"pixel_class": classes[:50]})
    write_result_zarr(elsewhere, store, overwrite=True)
    (as_it_is,) = open_class_rasters([source], **OPTIONS)
    np.testing.assert_array_equal(as_it_is.classes, drawn)


@pytest.mark.parametrize("lead", ["time", "scene"])
def test_rasters_of_a_stack(lead: str, tmp_path: Path) -> None:
    names = ["first", "second", "third"] if lead == "time" else NAMES
    scenes = [retreated(4 * year) for year in range(3)]
    store = write_stack(tmp_path / "classified.zarr", scenes, lead=lead, names=names)
    rasters = open_class_rasters([store], **OPTIONS)
    assert [one.name for one in rasters] == names
    assert [pd.Timestamp(one.date).isoformat()[:10] for one in rasters] == [
        "2017-08-21", "2018-08-21", "2019-08-21"
    ]  # fmt: skip
    for one, codes in zip(rasters, scenes, strict=True):
        assert one.classes.chunks is not None
        np.testing.assert_array_equal(one.classes, codes)
    found = found_in(rasters[1:2], tmp_path / "out")[names[1]]
    assert found.front.line.equals(true_front(scenes[1]).line)
    (row,) = rows_of(tmp_path / "out" / f"{names[1]}_front.gpkg").itertuples()
    assert (row.scene, row.date) == (names[1], pd.Timestamp("2018-08-21"))


def test_a_raster_without_crs_needs_its_pixel_size(tmp_path: Path) -> None:
    """Then it is measured in its own metres."""
    photo, bare = tmp_path / "photo.png", raster(CODES, crs=None, transform=Affine.identity())
    write_class_png(bare, photo, legend=GLACIER)
    with pytest.raises(LineError, match=r"photo\.png: Pixels need a CRS to be measured in metres"):
        open_class_rasters([photo], **OPTIONS)
    with pytest.raises(LineError, match="pixel size must be a positive number of metres, got -1"):
        open_class_rasters([photo], **OPTIONS, pixel_size_m=-1)
    files = found_in(open_class_rasters([photo], **OPTIONS, pixel_size_m=10), tmp_path / "out")
    found = files["photo"].front
    known = extract_front(with_pixel_size(bare, 10), GLACIER, settings=QUICK)
    assert found.line.equals(known.line)
    (row,) = rows_of(tmp_path / "out" / "photo_front.gpkg").itertuples()
    assert row.geometry.length == pytest.approx(found.measures["length_m"])
    assert found.crs.is_engineering


def test_a_pixel_size_is_for_rasters_without_crs_only(tmp_path: Path) -> None:
    """One that has a place on the map is measured there."""
    (one,) = open_class_rasters([write_classes(tmp_path / "a.tif")], **OPTIONS, pixel_size_m=99)
    assert one.classes.rio.crs.to_epsg() == 32624
    moved = write_raster(tmp_path / "b.tif", CODES[None], driver="GTiff", transform=NORTH_UP)
    with pytest.raises(LineError, match=r"b\.tif: Pixels need a CRS"):
        open_class_rasters([moved], **OPTIONS, pixel_size_m=10)


def test_rasters_that_are_refused(tmp_path: Path) -> None:
    one, other = (write_classes(tmp_path / name) for name in ("gl.tif", "gl_classified.tif"))
    with pytest.raises(LineError, match="each must have a name of its own, got several called gl"):
        open_class_rasters([one, other], **OPTIONS)
    heights = write_raster(tmp_path / "dem.tif", CODES[None].astype("float32"), **PLACE)
    with pytest.raises(LineError, match=r"dem\.tif: A class raster must have dims .* of float32"):
        open_class_rasters([heights], **OPTIONS)
    image = write_raster(tmp_path / "image.tif", some_pixels(3, 9, 9), **PLACE)
    with pytest.raises(ParameterError, match="must be one band of class codes, got 3 bands"):
        open_class_rasters([image], **OPTIONS)
    with pytest.raises(LegendError, match="that are glacier must be in legend 'coast'"):
        open_class_rasters([one], legend=COAST, settings=QUICK)


def test_fronts_are_written_one_by_one(tmp_path: Path) -> None:
    sources = write_dated(tmp_path)
    write_edge(tmp_path, NAMES[1])
    rasters = open_class_rasters(sources, **OPTIONS)
    found = found_in(rasters, tmp_path / "out")
    assert list(found) == NAMES
    for year, name in enumerate(NAMES):
        known = true_front(retreated(4 * year))
        assert found[name].front.line.equals(known.line)
        (row,) = rows_of(tmp_path / "out" / f"{name}_front.gpkg").itertuples()
        assert row.geometry.equals(known.line)
        with rasterio.open(tmp_path / "out" / f"{name}_front.tif") as dataset:
            np.testing.assert_array_equal(dataset.read(1) == 8, known.raster == 1)
    assert [files.median_m is None for files in found.values()] == [True, False, True]
    (report,) = pd.read_csv(found[NAMES[1]].outputs["front report"]).to_dict("records")
    assert report["median_m"] == found[NAMES[1]].median_m
    assert 20 <= report["median_m"] <= 60  # 4 columns of 10 m
    assert [
        name
        for name in files_in(tmp_path / "out")
        if "_front.tif" not in name and not name.endswith(".qml")
    ] == [
        f"FRONT_{NAMES[1]}_front.csv",
        f"FRONT_{NAMES[1]}_front_distances.csv",
        f"FRONT_{NAMES[1]}_front_errors.png",
        *(f"{name}_front.gpkg" for name in NAMES),
    ]


def test_digitised_lines_of_a_folder(tmp_path: Path) -> None:
    classes, drawn = tmp_path / "classes", tmp_path / "drawn"
    classes.mkdir()
    drawn.mkdir()
    rasters = open_class_rasters([write_classes(classes / f"{NAME}_classified.tif")], **OPTIONS)
    write_edge(drawn)
    write_shapes(drawn / f"VM_{NAME}.gpkg", extract_margins(raster(CODES), GLACIER))
    found = found_in(rasters, tmp_path / "out", lines=drawn)[NAME]
    assert found.findings.keys() == {"front", "front_error", "margin_error"}
    assert found.median_m < 10
    assert found.findings["margin_error"]["hausdorff_m"] == pytest.approx(0, abs=1e-6)
    assert found_in(rasters, tmp_path / "none")[NAME].deviations == {}


def test_fronts_are_not_replaced_unasked(tmp_path: Path) -> None:
    sources, out = write_dated(tmp_path)[:2], tmp_path / "out"
    found_in(open_class_rasters(sources[1:], **OPTIONS), out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    both = open_class_rasters(sources, **OPTIONS)
    with pytest.raises(OutputError, match=r"gl_20180821_front\.gpkg must not exist yet"):
        found_in(both, out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    found_in(both, out, settings=replace(QUICK, simplify_m=20), overwrite=True)
    assert {f"{name}_front.gpkg" for name in NAMES[:2]} <= set(files_in(out))
    (row,) = rows_of(out / f"{NAMES[1]}_front.gpkg").itertuples()
    assert len(row.geometry.coords) < len(true_front(retreated(4)).line.coords) / 2


def test_nothing_is_written_when_a_later_raster_cannot_be(tmp_path: Path) -> None:
    rasters = open_class_rasters(write_dated(tmp_path)[:2], **OPTIONS)
    edge = write_edge(tmp_path, NAMES[1], np.zeros(CODES.shape, np.uint8))
    with pytest.raises(LabelError, match=f"at least one pixel, got none in .*EDGE_{NAMES[1]}"):
        found_in(rasters, tmp_path / "out")
    edge.unlink()
    write_shapes(
        tmp_path / f"VM_{NAMES[1]}.geojson", true_front().lines.set_crs(4326, allow_override=True)
    )
    with pytest.raises(LineError, match="must be places on the Earth"):
        found_in(rasters[1:], tmp_path / "out")
    assert files_in(tmp_path / "out") == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"must be a folder, but .*file is a file"):
        found_in(rasters, tmp_path / "file")


def test_codes_that_the_legend_lacks_leave_nothing(tmp_path: Path) -> None:
    codes = CODES.copy()
    codes[0, :5] = 77
    path = write_raster(tmp_path / "gl.tif", codes[None], **PLACE)
    with pytest.raises(ParameterError, match="77"):
        found_in(open_class_rasters([path], **OPTIONS), tmp_path / "out")
    assert files_in(tmp_path / "out") == []


def test_margins_and_classes_are_further_layers(tmp_path: Path) -> None:
    (one,) = open_class_rasters([write_classes(tmp_path / "gl.tif")], **OPTIONS)
    found_in([one], tmp_path / "out", margins=True, polygons=True)
    path = tmp_path / "out" / "gl_front.gpkg"
    assert layers_of(path) == ["fronts", "margins", "classes"]
    margins = extract_margins(raster(CODES), GLACIER)
    assert rows_of(path, "margins").geometry.geom_equals_exact(margins, 1e-6).all()
    polygons = rows_of(path, "classes")
    assert set(polygons["name"]) == {"Open Water", "Glacier Ice", "Snow on Rock", "Bedrock"}
    assert polygons.area.sum() == pytest.approx(CODES.size * 100)


@pytest.mark.parametrize("code", [0, WATER])
def test_layers_that_would_be_empty_are_left_out(code: int, tmp_path: Path) -> None:
    sea = write_classes(tmp_path / "sea.tif", np.full((40, 50), code, np.uint8))
    found = found_in(open_class_rasters([sea], **OPTIONS), tmp_path, margins=True, polygons=True)
    assert found["sea"].front.outcome == "no glacier"
    assert layers_of(tmp_path / "sea_front.gpkg") == ["fronts", "classes"][: 1 + bool(code)]


def test_land_of_another_legend(tmp_path: Path) -> None:
    """Is named in the settings, or refused before a front is looked for."""
    rasters = open_class_rasters(
        [write_classes(tmp_path / "gl.tif")], legend=COAST, settings=COAST_SETTINGS
    )
    options = {"legend": COAST, "settings": COAST_SETTINGS}
    message = "that are land must be in legend 'coast', but 'Snow on Rock' is not among 1 Sea"
    with pytest.raises(LegendError, match=message):
        found_in(rasters, tmp_path / "out", **options, margins=True)
    write_shapes(tmp_path / "VM_gl.gpkg", extract_margins(raster(CODES), GLACIER))
    with pytest.raises(LegendError, match=message):
        found_in(rasters, tmp_path / "out", **options)
    assert files_in(tmp_path / "out") == []
    options["settings"] = replace(COAST_SETTINGS, land=("Cliff", ROCK))
    found = found_in(rasters, tmp_path / "out", **options, margins=True)["gl"]
    assert found.findings["margin_error"]["hausdorff_m"] == pytest.approx(0, abs=1e-6)
    assert layers_of(tmp_path / "out" / "gl_front.gpkg") == ["fronts", "margins"]
    with rasterio.open(found.outputs["classes"]) as dataset:
        assert dataset.colormap(1)[8] == (255, 0, 0, 255)


def test_a_front_may_touch_the_frame_and_has_a_row(tmp_path: Path) -> None:
    """As every outcome has; the class raster then shows it too."""
    cut = CODES[30:70]
    path = write_raster(tmp_path / "cut.tif", cut[None], **PLACE)
    found = found_in(open_class_rasters([path], **OPTIONS), tmp_path / "out")["cut"]
    assert found.front.outcome == "touches the frame"
    assert found.front.line is not None
    (row,) = rows_of(found.outputs["front lines"]).itertuples()
    assert (row.outcome, row.reason) == (found.front.outcome, found.front.reason)
    assert found.findings["front"]["outcome"] == "touches the frame"
    known = extract_front(raster(cut), GLACIER, settings=QUICK)
    assert found.front.measures == pytest.approx(known.measures)


def test_a_region_that_the_front_lies_in(tmp_path: Path) -> None:
    rasters = open_class_rasters([write_classes(tmp_path / "gl.tif")], **OPTIONS)
    left, bottom, right, top = true_front().lines.total_bounds
    upper = geopandas.GeoSeries([box(left, (bottom + top) / 2, right, top)], crs=32624)
    found = found_in(rasters, tmp_path / "upper", within=upper.to_crs(4326))["gl"]
    assert found.front.line.within(upper.iloc[0].buffer(10))
    assert found.front.measures["length_m"] < true_front().measures["length_m"]
    away = upper.translate(5000, 0)
    found = found_in(rasters, tmp_path / "away", within=away)["gl"]
    assert found.front.outcome == "no glacier"
    with pytest.raises(LineError, match="must be polygons with a CRS, got LineString"):
        found_in(rasters, tmp_path / "line", within=true_front().lines)
    assert files_in(tmp_path / "line") == []
