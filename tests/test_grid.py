"""Transforms, coordinates and grids of scenes, to the bit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rasters_for_tests import NORTH_UP, reading, some_pixels, write_raster

from csc_xr.grid import place
from csc_xr.scene import open_scene, same_grid, scene_transform, write_scene

sizes = st.integers(1, 90)
steps = st.floats(1e-6, 1e3) | st.floats(-1e3, -1e-6) | st.sampled_from([10.0, -30.0, 1 / 3])
origins = st.floats(-1e7, 1e7)
north_up = st.builds(Affine, steps, st.just(0), origins, st.just(0), steps, origins)
quarter_turn = st.builds(Affine, st.just(0), steps, origins, steps, st.just(0), origins)


@st.composite
def rotated(draw: st.DrawFn) -> Affine:
    size, angle = draw(st.floats(1e-5, 1e3)), draw(st.floats(1, 89))
    turned = Affine.rotation(angle) @ Affine.scale(size)
    return Affine.translation(draw(origins), draw(origins)) @ turned


transforms = st.just(Affine.identity()) | north_up | quarter_turn | rotated()
dtypes = st.sampled_from(
    ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"]
)


# Chunks of a pixel only in a small image: each is a file of the store.
@example((2, 5, 4), "uint8", Affine.identity(), None, 1, {}, None)
@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), sizes, sizes),
    dtype=dtypes,
    transform=transforms,
    crs=st.sampled_from([None, "EPSG:3413", "EPSG:4326", "EPSG:32633"]),
    chunks=st.none() | st.integers(8, 100) | st.tuples(sizes, st.just(-1)),
    layout=st.sampled_from(
        [{}, {"tiled": True, "blockxsize": 32, "blockysize": 16}, {"interleave": "pixel"}]
    ),
    nodata=st.none() | st.integers(0, 99),
)
def test_file_and_store_give_pixels_and_grid_to_the_bit(
    shape: tuple[int, int, int],
    dtype: str,
    transform: Affine,
    crs: str | None,
    chunks: Any,
    layout: dict[str, Any],
    nodata: int | None,
) -> None:
    names = [f"b{i}" for i in range(shape[0])]
    with tempfile.TemporaryDirectory() as folder:
        path = write_raster(
            Path(folder) / "a.tif",
            some_pixels(*shape, dtype=dtype),
            driver="GTiff",
            crs=crs,
            transform=transform,
            nodata=nodata,
            fill=lambda dataset: setattr(dataset, "descriptions", names),
            **layout,
        )
        scene = open_scene(path, chunks=chunks)
        with reading(path) as dataset:
            np.testing.assert_array_equal(scene.values, dataset.read(), strict=True)
            assert scene_transform(scene) == dataset.transform
            assert scene.rio.crs == dataset.crs
            assert scene.rio.nodata == dataset.nodata
        assert scene.band.values.tolist() == names
        assert scene.chunks[0] == (shape[0],)
        if isinstance(chunks, int):
            assert set(scene.chunks[1][:-1]) | set(scene.chunks[2][:-1]) <= {chunks}
        write_scene(scene, Path(folder) / "a.zarr")
        back = open_scene(Path(folder) / "a.zarr")
        back.attrs["source"] = scene.attrs["source"]
        xr.testing.assert_identical(back.compute(), scene.compute())
        assert scene_transform(back) == scene_transform(scene)
        assert same_grid(back, scene)


@settings(max_examples=60, deadline=None)
@given(transform=transforms, data=st.data())
def test_transform_follows_crops_flips_and_thinning(transform: Affine, data: Any) -> None:
    pixels = xr.DataArray(np.zeros((1, 30, 40), "uint8"), dims=("band", "y", "x"))
    with tempfile.TemporaryDirectory() as folder:
        path = write_raster(
            Path(folder) / "a.tif", pixels.values, driver="GTiff", transform=transform
        )
        scene = open_scene(path)
        whole = scene_transform(scene)
    first, last = data.draw(st.integers(0, 15)), data.draw(st.integers(20, 30))
    step = data.draw(st.sampled_from([1, 2, 3, -1]))
    rows = range(30)[first:last] if step > 0 else range(30)[last - 1 : first or None : -1]
    rows = rows[:: abs(step)]
    crop = scene_transform(scene.isel(y=list(rows), x=slice(3, 11)))
    size = np.hypot(whole.a, whole.d) + np.hypot(whole.b, whole.e)
    for index in (0, len(rows) - 1):
        expected = whole @ (3.5, rows[index] + 0.5, 1.0)
        found = crop @ (0.5, index + 0.5, 1.0)
        assert np.allclose(found, expected, rtol=1e-12, atol=1e-3 * size)


@settings(max_examples=60, deadline=None)
@given(transform=north_up, row=st.integers(0, 48), column=st.integers(0, 58))
def test_crop_is_whole_pixels_off_to_the_bit(transform: Affine, row: int, column: int) -> None:
    raster = place(xr.DataArray(np.zeros((50, 60)), dims=("y", "x")), transform, None)
    a, e = transform.a, transform.e
    crop = scene_transform(raster.isel(y=slice(row, row + 2), x=slice(column, None)))
    if abs(transform.c) < 1e9 * abs(a) and abs(transform.f) < 1e9 * abs(e):  # else x repeats
        assert crop == Affine(a, 0, a * column + transform.c, 0, e, e * row + transform.f)


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@pytest.mark.parametrize(
    "transform", [NORTH_UP, Affine(0.1, 0, 0.1, 0, 0.3, 0.7), Affine(7, 3, 5, -3, 7, 9)]
)
def test_coordinates_are_those_of_rioxarray(tmp_path: Path, transform: Affine) -> None:
    import rioxarray

    path = write_raster(
        tmp_path / "a.tif",
        some_pixels(1, 5, 6),
        driver="GTiff",
        transform=transform,
        crs="EPSG:3413",
    )
    scene, other = open_scene(path), rioxarray.open_rasterio(path)
    if transform.b:  # no row of a rotated raster has one y
        assert scene.x.values.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    else:
        np.testing.assert_array_equal(scene.x, other.x)
        np.testing.assert_array_equal(scene.y, other.y)
    assert scene.spatial_ref.attrs == other.spatial_ref.attrs


def test_thinned_coordinates_without_a_transform_give_one() -> None:
    x, y = np.arange(4) * 20.0 + 5, np.array([7.0])
    raster = xr.DataArray(np.zeros((1, 4)), {"y": y, "x": x})
    assert scene_transform(raster) == Affine(20, 0, -5, 0, 1, 6.5)
    assert scene_transform(raster.drop_vars("x")) == Affine.identity()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"transform": NORTH_UP @ Affine.translation(0.001, 0)}, True),
        ({"transform": NORTH_UP @ Affine.translation(0.1, 0)}, False),
        ({"transform": NORTH_UP @ Affine.scale(1.01)}, False),
        ({"transform": NORTH_UP @ Affine.rotation(1)}, False),
        ({"crs": "EPSG:32632"}, False),
        ({"crs": None}, False),
    ],
)
def test_same_grid(tmp_path: Path, change: dict[str, Any], same: bool) -> None:
    place = {"driver": "GTiff", "transform": NORTH_UP, "crs": "EPSG:32633"}
    one = open_scene(write_raster(tmp_path / "1.tif", some_pixels(1, 20, 30), **place))
    other = open_scene(
        write_raster(tmp_path / "2.tif", some_pixels(3, 20, 30), **{**place, **change})
    )
    assert same_grid(one, other) is same
    assert not same_grid(one, one.isel(x=slice(1, None)))
