"""Legends, settings and rasters that fronts can and cannot be found with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dask
import geopandas
import numpy as np
import pytest
import shapely
import xarray as xr
from fronts_for_tests import (
    ICE,
    QUICK,
    WATER,
    fjord_codes,
    front_of,
    raster,
)

from csc_xr.errors import LegendError, LineError, ParameterError
from csc_xr.fronts.extraction import extract_front
from csc_xr.fronts.settings import FrontSettings
from csc_xr.legend import GLACIER, RIVER, ClassLegend, LegendClass
from csc_xr.metres import with_pixel_size

LENGTHS = [name for name in FrontSettings.__dataclass_fields__ if name.endswith(("_m", "_m2"))]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def test_legend_with_other_names() -> None:
    own = ClassLegend("own", [LegendClass(9, "Is", "white"), LegendClass(17, "Sjø", "blue"),
                              LegendClass(200, "Fjell", "grey")])  # fmt: skip
    codes = fjord_codes()
    renamed = np.full(codes.shape, 200, np.uint8)
    renamed[codes == ICE], renamed[codes == WATER] = 9, 17
    by_name = replace(QUICK, glacier=("Is",), ocean=("Sjø",))
    by_code = replace(QUICK, glacier=(9,), ocean=(17,))
    expected = front_of(codes)
    for settings in (by_name, by_code):
        front = extract_front(raster(renamed), own, settings=settings)
        assert front.line == expected.line
    drawn = front.raster.to_numpy() == 1
    np.testing.assert_array_equal(front.classes, np.where(drawn, 8, renamed))
    assert front.classes.attrs["flag_values"] == [8, 9, 17, 200]
    assert front.classes.attrs["flag_meanings"].split()[0] == "Calving_Front"


def test_front_gets_the_first_code_that_is_free() -> None:
    names = {4: "Glacier Ice", 1: "Open Water"}
    taken = [LegendClass(n, names.get(n, f"Class {n}"), "grey") for n in (1, 2, 4, 8)]
    settings = replace(QUICK, ocean=("Open Water",))
    codes = fjord_codes()
    front = extract_front(raster(codes), ClassLegend("own", taken), settings=settings)
    assert (front.classes.to_numpy()[front.raster.to_numpy() == 1] == 3).all()
    own = LegendClass(77, "Edge", "red", display_only=True)
    front = extract_front(raster(codes), ClassLegend("own", [*taken, own]), settings=settings)
    assert (front.classes.to_numpy()[front.raster.to_numpy() == 1] == 77).all()


@pytest.mark.parametrize(
    ("legend", "settings", "message"),
    [
        (RIVER, QUICK, r"classes that are glacier must be in legend 'river', but 'Glacier Ice'"),
        (
            RIVER,
            replace(QUICK, glacier=(2,)),
            r"are ocean .* 'Open Water' .* ocean=\(\.\.\.\)",
        ),
        (GLACIER, replace(QUICK, glacier=(99,)), r"99 is not among 1 Open Water, 2 Iceberg"),
        (GLACIER, replace(QUICK, glacier=(8,)), r"but 8 is not among 1 Open Water"),
        (GLACIER, replace(QUICK, land=("Sand",)), r"that are land .* but 'Sand' is not among"),
        (GLACIER, replace(QUICK, ocean=(1, 4)), r"but Glacier Ice is given as both"),
    ],
)
def test_legend_that_does_not_fit(
    legend: ClassLegend, settings: FrontSettings, message: str
) -> None:
    with pytest.raises(LegendError, match=message):
        extract_front(raster(fjord_codes()), legend, settings=settings)


def test_legend_with_all_codes_taken() -> None:
    names = {1: "Open Water", 4: "Glacier Ice"}
    full = [LegendClass(code, names.get(code, f"Class {code}"), "grey") for code in range(1, 256)]
    with pytest.raises(LegendError, match=r"must leave a code for the front, but has all 255"):
        extract_front(
            raster(fjord_codes()), ClassLegend("full", full), settings=replace(QUICK, ocean=(1,))
        )


def test_legend_that_predicts_calving_fronts() -> None:
    own = ClassLegend("own", [*GLACIER.predicted, LegendClass(9, "Calving Front", "red")])
    assert extract_front(raster(fjord_codes()), own, settings=QUICK).outcome == "found"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        *(
            ({name: value}, rf"{name} must be 0 or more, got {value}")
            for name in (
                "frame_m",
                "min_ocean_m2",
                "margin_m",
                "closing_m",
                "contact_m",
                "simplify_m",
            )
            for value in (-1.0, float("nan"), float("inf"))
        ),
        ({"iterations": -1}, r"iterations must be a whole number of 0 or more, got -1"),
        ({"iterations": 2.5}, r"iterations must be a whole number of 0 or more, got 2\.5"),
        ({"iterations": True}, r"iterations must be a whole number of 0 or more, got True"),
        ({"glacier": "Glacier Ice"}, r"glacier must be a tuple of classes, got 'Glacier Ice'"),
        ({"glacier": ()}, r"glacier and ocean must name a class each at least, got \(\)"),
        ({"ocean": ()}, r"glacier and ocean must name a class each at least, .* and \(\)"),
    ],
)
def test_settings_that_make_no_sense(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        FrontSettings(**changed)


def test_raster_without_crs() -> None:
    with pytest.raises(LineError, match=r"Pixels need a CRS .* its pixel size \(with_pixel_size"):
        front_of(fjord_codes(), crs=None)


@pytest.mark.parametrize(
    "image",
    [
        raster(fjord_codes()).transpose("x", "y"),
        raster(fjord_codes()).expand_dims("band"),
        raster(fjord_codes().astype(np.float32)),
        raster(fjord_codes() > 1),
    ],
    ids=["x first", "bands", "float", "bool"],
)
def test_raster_that_is_not_one_of_classes(image: xr.DataArray) -> None:
    with pytest.raises(LineError, match=r"must have dims \(y, x\) and hold integer codes, got"):
        extract_front(image, GLACIER)


def test_raster_without_pixels() -> None:
    with pytest.raises(LineError, match="must have pixels, got none"):
        extract_front(raster(fjord_codes()).isel(y=slice(0, 0)), GLACIER)


@pytest.mark.parametrize("beyond", [256, -256])
def test_codes_that_no_class_can_have(beyond: int) -> None:
    codes = fjord_codes().astype(np.int32)
    codes[codes == ICE] += beyond
    try:
        front = front_of(codes)
    except LineError:
        return
    assert front.outcome == "no glacier"


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (geopandas.GeoSeries([shapely.box(0, 0, 1, 1)]), r"polygons with a CRS, got no CRS"),
        (geopandas.GeoSeries([], crs=32624), r"polygons with a CRS, got none"),
        (geopandas.GeoSeries([shapely.Point(0, 0)], crs=32624), r"got Point\. Draw one"),
    ],
)
def test_region_that_is_none(region: geopandas.GeoSeries, message: str) -> None:
    with pytest.raises(LineError, match=message):
        extract_front(raster(fjord_codes()), GLACIER, within=region)


SQUARE = shapely.box(500_000, 7_399_000, 501_000, 7_400_000)
BOW_TIE = shapely.Polygon([(500_000, 7_399_000), (501_000, 7_400_000), (501_000, 7_399_000),
                           (500_000, 7_400_000)])  # fmt: skip


def test_region_on_the_earth_for_an_image_in_local_metres() -> None:
    local = with_pixel_size(xr.DataArray(fjord_codes(), dims=("y", "x")), 10.0)
    region = geopandas.GeoSeries([SQUARE], crs=32624)
    with pytest.raises(LineError, match="region"):
        extract_front(local, GLACIER, settings=QUICK, within=region)


def test_empty_region() -> None:
    empty = geopandas.GeoSeries([shapely.Polygon()], crs=32624)
    with pytest.raises(LineError, match=r"polygons with a CRS, got none"):
        extract_front(raster(fjord_codes()), GLACIER, settings=QUICK, within=empty)


def test_region_whose_sides_cross() -> None:
    region = geopandas.GeoSeries([BOW_TIE, SQUARE], crs=32624)
    with pytest.raises(LineError, match="region"):
        extract_front(raster(fjord_codes()), GLACIER, settings=QUICK, within=region)


def test_reason_names_the_region_where_that_leaves_nothing() -> None:
    away = geopandas.GeoSeries([shapely.box(0, 0, 1, 1)], crs=32624)
    front = extract_front(raster(fjord_codes()), GLACIER, settings=QUICK, within=away)
    assert front.outcome == "no glacier"
    assert front.reason == "No pixel is Glacier Ice in the region given."
