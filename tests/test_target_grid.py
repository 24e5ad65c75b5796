"""The grid on which a product becomes a scene."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from csc_xr.errors import SceneError
from csc_xr.grid import place
from csc_xr.products.target import TargetGrid, choose_grid, grid_of, settle_grid

UTM = CRS.from_epsg(32624)
NATIVE = TargetGrid(UTM, Affine(10, 0, 500000, 0, -10, 7400040), 120, 90)
COARSE = TargetGrid(UTM, Affine(20, 0, 500000, 0, -20, 7400040), 60, 45)


def test_all_of_a_file_is_its_own_grid() -> None:
    assert choose_grid(NATIVE) is NATIVE
    assert choose_grid(NATIVE, crs="EPSG:32624", resolution=10) is NATIVE


@given(
    left=st.floats(499900, 500890),
    bottom=st.floats(7398700, 7400030),
    width=st.floats(1, 500),
    height=st.floats(1, 500),
)
def test_a_box_takes_the_pixels_it_touches(
    left: float, bottom: float, width: float, height: float
) -> None:
    box = (left, bottom, left + width, bottom + height)
    edges = NATIVE.bounds
    if box[2] <= edges[0] or box[3] <= edges[1]:
        with pytest.raises(SceneError, match="must touch the image"):
            choose_grid(NATIVE, box=box)
        return
    grid = choose_grid(NATIVE, box=box)
    xs = 500000 + 10 * np.arange(90)
    ys = 7400040 - 10 * np.arange(120)
    slack = 1e-5  # a box that ends at an edge
    columns = np.flatnonzero((xs < box[2] - slack) & (xs + 10 > box[0] + slack))
    rows = np.flatnonzero((ys - 10 < box[3] - slack) & (ys > box[1] + slack))
    assert (grid.width, grid.height) == (max(len(columns), 1), max(len(rows), 1))
    if len(columns) and len(rows):
        assert (grid.transform.c, grid.transform.f) == (xs[columns[0]], ys[rows[0]])


def test_a_box_on_edges_takes_no_more() -> None:
    grid = choose_grid(NATIVE, box=(500010, 7399000, 500030, 7399020))
    assert (grid.height, grid.width) == (2, 2)
    assert grid.bounds == (500010, 7399000, 500030, 7399020)


def test_another_resolution_lies_on_its_multiples() -> None:
    grid = choose_grid(NATIVE, resolution=60)
    assert tuple(grid.transform)[:6] == (60, 0, 499980, 0, -60, 7400040)
    assert (grid.height, grid.width) == (20, 16)
    cut = choose_grid(NATIVE, resolution=20, box=(500005, 7399990, 500041, 7400500))
    assert cut.bounds == (500000, 7399980, 500060, 7400500)


def test_another_crs() -> None:
    grid = choose_grid(NATIVE, crs=3413)
    assert grid.crs == CRS.from_epsg(3413)
    assert grid.pixel == 10
    assert grid.transform.c % 10 == 0 == grid.transform.f % 10
    inner, outer = transform_bounds(UTM, grid.crs, *NATIVE.bounds), grid.bounds
    assert all(low >= edge - 1e-3 for low, edge in zip(inner[:2], outer[:2], strict=True))
    assert all(high <= edge + 1e-3 for high, edge in zip(inner[2:], outer[2:], strict=True))
    degrees = choose_grid(NATIVE, crs="EPSG:4326")
    assert 5e-5 < degrees.pixel < 3e-4


def test_a_box_of_another_crs() -> None:
    box = transform_bounds(UTM, "EPSG:4326", 500100, 7399500, 500200, 7399600)
    grid = choose_grid(NATIVE, box=box, box_crs="EPSG:4326")
    assert grid.pixel == 10
    assert (grid.height, grid.width) in {(10, 10), (11, 11), (12, 12), (11, 12), (12, 11)}
    assert abs(grid.transform.c - 500100) <= 10


def test_boxes_and_resolutions_of_numpy() -> None:
    box = np.array([500095.0, 7400000, 500110, 7400020])
    assert choose_grid(NATIVE, box=box) == choose_grid(NATIVE, box=tuple(box.tolist()))
    scene = place(xr.DataArray(np.zeros((3, 4)), dims=("y", "x")), COARSE.transform, UTM)
    with pytest.raises(SceneError, match="must be left out with it"):
        settle_grid([("B04", NATIVE)], like=scene, box=box)
    assert choose_grid(NATIVE, resolution=np.float32(20)).transform.a == 20


def test_a_box_at_the_very_edge_is_the_last_pixel() -> None:
    _, bottom, right, _ = NATIVE.bounds
    grid = choose_grid(NATIVE, box=(right - 1e-7, bottom - 9, right + 9, bottom + 1e-7))
    assert grid.bounds == (right - NATIVE.pixel, bottom, right, bottom + NATIVE.pixel)


def test_the_antimeridian() -> None:
    native = TargetGrid(CRS.from_epsg(32601), Affine(1000, 0, 300000, 0, -1000, 7400040), 150, 150)
    grid = choose_grid(native, box=(179.5, 66, -179.5, 66.5), box_crs=4326)
    west, east = ((x - 300000) / 1000 for x in (grid.bounds[0], grid.bounds[2]))
    assert 0 < west < east < 150
    with pytest.raises(SceneError, match="must lie on one side of the antimeridian"):
        choose_grid(native, crs="EPSG:4326")


def test_same_box_same_grid_whatever_the_file_covers() -> None:
    other = TargetGrid(UTM, NATIVE.transform @ Affine.translation(30, 20), 120, 90)
    box = (500310, 7399700, 501500, 7399900)
    assert choose_grid(NATIVE, resolution=20, box=box) == choose_grid(other, resolution=20, box=box)


def test_bands_of_several_resolutions() -> None:
    files = [("B04", NATIVE), ("B05", COARSE)]
    assert settle_grid(files, resolution=20) == COARSE
    assert settle_grid(files, resolution=10) == NATIVE
    assert settle_grid(files, crs="EPSG:3413").pixel == 10
    with pytest.raises(SceneError, match=r"B04 10, B05 20\. Pass resolution=10"):
        settle_grid(files)


def test_like_a_scene() -> None:
    scene = place(xr.DataArray(np.zeros((3, 4)), dims=("y", "x")), COARSE.transform, UTM)
    assert settle_grid([("B04", NATIVE)], like=scene) == grid_of(scene)
    with pytest.raises(SceneError, match="like= settles the whole grid"):
        settle_grid([("B04", NATIVE)], like=scene, resolution=10)
    with pytest.raises(SceneError, match="must both have a CRS"):
        settle_grid([("B04", NATIVE)], like=xr.DataArray(np.zeros((3, 4)), dims=("y", "x")))


def test_bands_in_two_places() -> None:
    moved = TargetGrid(UTM, NATIVE.transform @ Affine.translation(500, 0), 120, 90)
    with pytest.raises(SceneError, match="one CRS and cover one area, but B04 is in EPSG:32624"):
        settle_grid([("B04", NATIVE), ("B03", moved)])
    zone = TargetGrid(CRS.from_epsg(32625), NATIVE.transform, 120, 90)
    with pytest.raises(SceneError, match="B03 in EPSG:32625"):
        settle_grid([("B04", NATIVE), ("B03", zone)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 0}, "resolution must be a positive number"),
        ({"resolution": 10, "crs": 4326}, "in the units of .* larger than the whole image"),
        ({"resolution": 0.0001}, "so small that the scene has 12000000 x 9000000"),
        ({"resolution": math.nan}, "resolution must be a positive number"),
        ({"resolution": "10"}, "resolution must be a positive number"),
        ({"crs": "EPSG:1"}, "crs must be a coordinate reference system"),
        ({"box": (0, 0, 1, 1), "box_crs": "nowhere"}, "box_crs must be a coordinate"),
        ({"box": (0, 0, 1)}, "box must be four numbers"),
        ({"box": "0,0,1,1"}, "box must be four numbers"),
        ({"box": (0, 0, 1, math.inf)}, "box must be four numbers"),
        ({"box": (1, 0, 0, 1)}, "Correct the order"),
        ({"box": (0, 0, 1, 1)}, r"must touch the image, which covers \(500000, 7398840"),
        ({"box": (500, 95, 501, 99), "box_crs": 4326}, "must have a place in EPSG:32624"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        choose_grid(NATIVE, **settings)


def test_files_without_a_place_or_rotated() -> None:
    bare = TargetGrid(None, Affine.identity(), 5, 5)
    with pytest.raises(SceneError, match="cannot go to another"):
        choose_grid(bare, crs="EPSG:3413")
    rotated = TargetGrid(UTM, NATIVE.transform @ Affine.rotation(20), 120, 90)
    with pytest.raises(SceneError, match="The image is rotated"):
        choose_grid(rotated, box=(500000, 7399000, 500100, 7400000))
