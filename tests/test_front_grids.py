"""The same front on any grid, in any chunks, whichever way the image lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dask
import numpy as np
import pytest
import shapely
import xarray as xr
from affine import Affine
from dask.callbacks import Callback
from fronts_for_tests import (
    ICE,
    NORTH_UP,
    QUICK,
    ROCK,
    WATER,
    fjord_codes,
    front_of,
    raster,
    rough_codes,
    small_chunks,
    turned,
    vertices,
)
from pyproj import Transformer
from rasters_for_tests import never

from csc_xr.fronts.extraction import extract_front
from csc_xr.fronts.settings import FrontSettings
from csc_xr.legend import GLACIER
from csc_xr.metres import to_metres, with_pixel_size


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.parametrize("resolution", [10.0, 30.0])
def test_straight_front_is_where_the_ice_ends(resolution: float) -> None:
    rows, columns = np.indices((120, 140))
    codes = np.where(columns < 60, ICE, WATER).astype(np.uint8)
    codes[(rows < 30) | (rows >= 90)] = ROCK
    settings = FrontSettings(min_ocean_m2=1e5)
    front = front_of(codes, settings, transform=NORTH_UP @ Affine.scale(resolution / 10))
    x, y = vertices(front).T
    middle = np.abs(y - y.mean()) < 20 * resolution
    assert set(x[middle].tolist()) == {NORTH_UP.c + 60 * resolution}
    assert (y[:-1] > y[1:]).all() == (y[0] > y[-1])
    assert front.measures["length_m"] == pytest.approx(60 * resolution, rel=0.1)


def test_same_line_whichever_way_the_image_lies() -> None:
    codes = rough_codes(seed=1)
    images = turned(codes)
    expected = vertices(extract_front(images.pop("north up"), GLACIER, settings=QUICK))
    for name, image in images.items():
        front = extract_front(image, GLACIER, settings=QUICK)
        np.testing.assert_allclose(vertices(front), expected, rtol=0, atol=1e-6, err_msg=name)


def test_glacier_is_on_the_left_on_the_map() -> None:
    codes = fjord_codes()
    north, south = (vertices(front_of(c))[:, 1] for c in (codes, codes[:, ::-1].copy()))
    assert north[0] < north[-1]  # the glacier lies in the west
    assert south[0] > south[-1]


def test_swap_of_the_axes_changes_the_result() -> None:
    codes = rough_codes(seed=1)
    front, swapped = front_of(codes), front_of(codes.T)
    assert front.outcome == swapped.outcome == "found"
    assert front.line != swapped.line
    assert not np.array_equal(front.raster, swapped.raster)
    wide, high = (
        front_of(codes, transform=NORTH_UP @ Affine.scale(*size)) for size in ((2, 1), (1, 2))
    )
    assert not np.array_equal(wide.raster, high.raster)


def test_thresholds_are_in_metres() -> None:
    """Pixels three times as large and metres three times as many: the same pixels."""
    codes = rough_codes(seed=1)
    large = NORTH_UP @ Affine.scale(3)
    settings = replace(
        QUICK, frame_m=120, min_ocean_m2=9e5, min_ocean_width_m=120, margin_m=60, closing_m=180,
        contact_m=240,
    )  # fmt: skip
    front, same = front_of(codes), front_of(codes, settings, transform=large)
    np.testing.assert_array_equal(same.raster, front.raster)
    lengths = [f.measures["length_m"] for f in (front, same)]
    assert lengths[1] == pytest.approx(3 * lengths[0], rel=1e-3)
    other = front_of(codes, transform=large)
    assert other.line is None or not np.array_equal(other.raster, front.raster)


def shapes_on_the_ground(crs: str, pixel: float) -> xr.DataArray:
    """A glacier between known curves, in metres around a place on the Earth."""
    ground = "+proj=aeqd +lat_0=66.3 +lon_0=-38 +datum=WGS84"
    left, top = Transformer.from_crs(ground, crs, always_xy=True).transform(0, 0)
    count = int(2800 / pixel)
    transform = Affine(pixel, 0, left - 1400, 0, -pixel, top + 1400)
    rows, columns = np.indices((count, count)) + 0.5
    x, y = Transformer.from_crs(crs, ground, always_xy=True).transform(
        left - 1400 + pixel * columns, top + 1400 - pixel * rows
    )
    codes = np.where(x < front_on_the_ground(y), ICE, WATER).astype(np.uint8)
    codes[(abs(y) > 700) | (x < -900)] = ROCK
    return raster(codes, transform=transform, crs=crs)


def front_on_the_ground(y: np.ndarray) -> np.ndarray:
    return 200 + 150 * np.sin(y / 250)


@pytest.mark.parametrize(
    ("crs", "pixel"),
    [("EPSG:32624", 10.0), ("EPSG:3413", 10.0), ("EPSG:32624", 30.0)],
)
def test_same_metres_in_any_projection_and_resolution(crs: str, pixel: float) -> None:
    """EPSG:3413 is 1.3 % out there in length and 2.5 % in area."""
    settings = FrontSettings(simplify_m=1.5 * pixel, closing_m=100, min_ocean_m2=1e5)
    front = extract_front(shapes_on_the_ground(crs, pixel), GLACIER, settings=settings)
    assert front.outcome == "found"
    ground = "+proj=aeqd +lat_0=66.3 +lon_0=-38 +datum=WGS84"
    x, y = shapely.get_coordinates(front.lines.to_crs(ground).segmentize(5)).T
    inner = np.abs(y) < 550
    along = np.linspace(-700, 700, 3000)
    truth = shapely.LineString(np.column_stack([front_on_the_ground(along), along]))
    apart = shapely.distance(truth, shapely.points(x[inner], y[inner]))
    assert apart.mean() < 0.4 * pixel
    assert apart.max() < 2.5 * pixel
    # Where it meets the valley sides, some pixels are nearer to land than to the ocean.
    assert front.measures["length_m"] == pytest.approx(truth.length, rel=0.05 * pixel / 10)
    area = np.trapezoid(900 + front_on_the_ground(along), along)  # less four round corners
    assert front.measures["glacier_area_m2"] == pytest.approx(area, rel=0.005 * (pixel / 10) ** 2)


def test_image_in_local_metres() -> None:
    codes = fjord_codes()
    local = with_pixel_size(xr.DataArray(codes, dims=("y", "x")), 10.0)
    front = extract_front(local, GLACIER, settings=QUICK)
    assert front.crs.is_engineering
    assert front.measures["length_m"] == pytest.approx(front.line.length)
    moved = vertices(front_of(codes)) - (NORTH_UP.c, NORTH_UP.f)
    np.testing.assert_allclose(vertices(front), moved, atol=1e-6)
    simple = extract_front(local, GLACIER, settings=replace(QUICK, simplify_m=20.0))
    assert simple.lines.crs == front.crs
    assert simple.line.boundary == front.line.boundary


def test_line_is_simplified_on_request() -> None:
    codes = fjord_codes()
    front, simple = front_of(codes), front_of(codes, replace(QUICK, simplify_m=30.0))
    assert len(simple.line.coords) < len(front.line.coords) / 2
    assert simple.line.boundary.equals_exact(front.line.boundary, 1e-3)
    assert shapely.hausdorff_distance(simple.line, front.line, densify=0.1) < 31
    assert simple.measures["length_m"] == pytest.approx(to_metres(simple.lines).length.item())
    np.testing.assert_array_equal(simple.raster, front.raster)


def test_rasters_are_lazy() -> None:
    image = raster(fjord_codes(), chunks=(50, 60))
    front = extract_front(image, GLACIER, settings=replace(QUICK, refine=True))
    with dask.config.set(scheduler=never):
        for layer in (front.raster, front.classes):
            assert dask.is_dask_collection(layer.data)
            assert layer.chunks == image.chunks
            with pytest.raises(AssertionError, match="something was computed"):
                layer.compute()


def test_no_task_holds_the_whole_image() -> None:
    largest = 0

    def posttask(_key: Any, result: Any, *_: Any) -> None:
        nonlocal largest
        parts = result if isinstance(result, (list, tuple)) else [result]
        largest = max([largest, *(p.shape[-2] * p.shape[-1] for p in parts if np.ndim(p) > 1)])

    codes = fjord_codes((160, 200))
    with small_chunks(100, 60), Callback(posttask=posttask):
        front = extract_front(raster(codes, chunks=80), GLACIER, settings=QUICK)
        front.classes.persist()
    assert front.outcome == "found"
    assert largest <= 100 * 100
