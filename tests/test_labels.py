"""Label rasters: found by name, checked against their legend, brought onto the scene's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rasters_for_tests import NORTH_UP, never, reading, write_raster

from csc_xr.errors import CscWarning, LabelError
from csc_xr.labels import find_labels, open_labels
from csc_xr.legend import GLACIER, RIVER, ClassLegend, LegendClass
from csc_xr.scene import open_scene, validate_scene

PLACE = {"driver": "GTiff", "transform": NORTH_UP, "crs": "EPSG:32633"}
SNOW = ClassLegend("snow", [LegendClass(1, "Ice", "blue"), LegendClass(2, "Snow", "white")])


def some_codes(height: int, width: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(5).integers(0, 6, (1, height, width)).astype(dtype)


def write_scene_of(folder: Path, height: int, width: int, **place: Any) -> xr.DataArray:
    pixels = np.ones((3, height, width), "uint16")
    return open_scene(write_raster(folder / "scene.tif", pixels, **{"driver": "GTiff", **place}))


def test_labels_are_found_beside_the_image(tmp_path: Path) -> None:
    for name in ("SCLS_Helheim_1.tif", "SCLS_StMarg26607.tif", "SCLS_b.tiff"):
        (tmp_path / name).touch()
    assert find_labels(tmp_path / "Helheim_1.tif") == tmp_path / "SCLS_Helheim_1.tif"
    assert find_labels(tmp_path / "StMarg_26607.jpg") == tmp_path / "SCLS_StMarg26607.tif"
    assert find_labels(str(tmp_path / "b.zarr")) == tmp_path / "SCLS_b.tiff"
    assert find_labels(tmp_path / "Helheim_2.tif") is None


def test_every_river_image_has_labels_it_shares_a_grid_with(shared: Path) -> None:
    images = sorted((shared / "data/st_marguerite/validate").glob("*.jpg"))
    assert len(images) == 4
    for image in images[:2]:
        path = find_labels(image)
        assert path is not None
        scene = open_scene(image, chunks=900)
        labels = open_labels(path, like=scene, legend=RIVER)
        with reading(path) as dataset:
            stored = dataset.read(1)
        assert stored.dtype == np.float64
        np.testing.assert_array_equal(labels, stored)
        assert labels.dtype == np.uint8
        assert labels.chunks == scene.chunks[1:]
        assert labels.attrs["flag_values"] == [1, 2, 3, 4, 5]


def test_labels_of_glaciers_lie_on_the_grid_to_the_bit(shared: Path) -> None:
    folder = shared / "data/s2_glacier_snow"
    scene = open_scene(folder / "RGI50-11.A54L04_20170719.tif")
    path = folder / "RGI50-11.A54L04_20170719_label.tif"
    labels = open_labels(path, like=scene, legend=SNOW)
    with reading(path) as dataset:
        np.testing.assert_array_equal(labels, dataset.read(1))
    for name in ("x", "y", "spatial_ref"):
        xr.testing.assert_identical(labels.coords[name], scene.coords[name])
    with pytest.raises(LabelError, match=r"codes of legend .ice., 1, or 0 .* got 2 in .*_label"):
        open_labels(path, like=scene, legend=ClassLegend("ice", [LegendClass(1, "Ice", "blue")]))
    other = open_scene(folder / "RGI50-11.A10G05_20170815.tif")
    with pytest.raises(LabelError, match=r"must cover the extent of the scene, x -1631\.239\d* to"):
        open_labels(path, like=other, legend=SNOW)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", "float64"])
def test_any_dtype_of_whole_numbers_is_taken(tmp_path: Path, dtype: str) -> None:
    codes = some_codes(40, 50, dtype)
    path = write_raster(tmp_path / "labels.tif", codes, **PLACE)
    scene = write_scene_of(tmp_path, 40, 50, **PLACE)
    labels = open_labels(path, like=scene, legend=RIVER)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, codes[0])


def test_any_raster_gives_the_grid(tmp_path: Path) -> None:
    """Such as the classes of a result, which are no scene."""
    path = write_raster(tmp_path / "labels.tif", some_codes(40, 50), **PLACE)
    scene = write_scene_of(tmp_path, 40, 50, **PLACE).chunk(16)
    expected = open_labels(path, like=scene, legend=RIVER)
    for like in (scene[0].astype("uint8"), scene[0].drop_vars("band") > 0, scene[0].T):
        labels = open_labels(path, like=like, legend=RIVER)
        xr.testing.assert_identical(labels, expected)
        assert labels.chunks == expected.chunks


def test_result_is_lazy(tmp_path: Path) -> None:
    """Only the codes are looked at; the labels themselves wait."""
    path = write_raster(tmp_path / "labels.tif", some_codes(40, 50), **PLACE)
    scene = write_scene_of(tmp_path, 40, 50, **PLACE)
    labels = open_labels(path, like=scene.chunk(16), legend=RIVER)
    assert labels.chunks == ((16, 16, 8), (16, 16, 16, 2))
    with (
        dask.config.set(scheduler=never),
        pytest.raises(AssertionError, match="something was computed"),
    ):
        labels.compute()
    with (
        dask.config.set(scheduler=never),
        pytest.raises(AssertionError, match="something was computed"),
    ):
        open_labels(path, like=scene, legend=RIVER)


def test_pixels_without_data_are_unlabelled(tmp_path: Path) -> None:
    codes = some_codes(8, 9, "float32")
    codes[0, 0, 0] = np.nan
    codes[0, 1:4, 1:4] = 255
    path = write_raster(tmp_path / "labels.tif", codes, nodata=255, **PLACE)
    scene = write_scene_of(tmp_path, 8, 9, **PLACE)
    expected = np.where(np.isnan(codes[0]) | (codes[0] == 255), 0, codes[0])
    np.testing.assert_array_equal(open_labels(path, like=scene, legend=RIVER), expected)


def test_codes_only_displayed_are_unlabelled(tmp_path: Path) -> None:
    codes = np.array([[[7, 8, 0], [8, 1, 4]]], "uint8")
    path = write_raster(tmp_path / "labels.tif", codes, **PLACE)
    scene = write_scene_of(tmp_path, 2, 3, **PLACE)
    labels = open_labels(path, like=scene, legend=GLACIER)
    assert labels.values.tolist() == [[7, 0, 0], [0, 1, 4]]
    nothing = write_raster(tmp_path / "labels.tif", codes * 0, **PLACE)
    assert not open_labels(nothing, like=scene, legend=GLACIER).any()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    other=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    flips=st.tuples(st.booleans(), st.booleans()),
    chunk=st.integers(1, 70),
    pixel=st.sampled_from([(10.0, -10.0), (0.1, 0.3), (1 / 3, -7e-5)]),
)
@example((37, 1), (10, 1), (True, False), 16, (1 / 3, -7e-5))
def test_resampling_takes_the_pixel_the_centre_falls_in(
    tmp_path: Path,
    size: tuple[int, int],
    other: tuple[int, int],
    flips: tuple[bool, bool],
    chunk: int,
    pixel: tuple[float, float],
) -> None:
    (height, width), (rows, columns) = size, other
    grid = Affine(pixel[0], 0, 330_000.1, 0, pixel[1], 5_822_040.7)
    label_grid = grid @ Affine.scale(width / columns, height / rows)
    codes = stored = some_codes(rows, columns)
    if flips[0]:  # stored from the bottom up, and placed accordingly
        label_grid = label_grid @ Affine(1, 0, 0, 0, -1, rows)
        stored = stored[:, ::-1]
    if flips[1]:
        label_grid = label_grid @ Affine(-1, 0, columns, 0, 1, 0)
        stored = stored[:, :, ::-1]
    path = write_raster(
        tmp_path / "labels.tif", stored, driver="GTiff", transform=label_grid, crs="EPSG:32633"
    )
    scene = write_scene_of(tmp_path, height, width, transform=grid, crs="EPSG:32633").chunk(chunk)
    row = nearest(height, rows, flipped=flips[0])
    column = nearest(width, columns, flipped=flips[1])
    index = (
        [rows - 1 - i for i in row] if flips[0] else row,
        ([columns - 1 - i for i in column] if flips[1] else column),
    )
    if size == other and index == (list(range(height)), list(range(width))):
        labels = open_labels(path, like=scene, legend=RIVER)
    else:
        with pytest.warns(CscWarning, match=f"nearest neighbour, {rows} x {columns} pixels onto"):
            labels = open_labels(path, like=scene, legend=RIVER)
    np.testing.assert_array_equal(labels, codes[0][np.ix_(row, column)])
    assert labels.chunks == scene.chunks[1:]


def nearest(count: int, limit: int, *, flipped: bool) -> list[int]:
    """Label pixel of each pixel in whole numbers; on a border the one stored further on."""
    found = [(2 * i + 1) * limit // (2 * count) for i in range(count)]
    if flipped:
        found = [limit - 1 - i for i in reversed(found)]
    return found


def test_centres_on_a_border_do_not_move_with_rounding(tmp_path: Path) -> None:
    """Of twice as many label pixels, each second one is taken, wherever on the map."""
    codes = np.tile(np.array([1, 2], "uint8"), (1, 40, 300))
    grid = Affine(0.1, 0, 330_000.1, 0, -0.1, 5_822_040.7)
    fine = grid @ Affine.scale(0.5, 1)
    path = write_raster(
        tmp_path / "labels.tif", codes, driver="GTiff", transform=fine, crs="EPSG:3413"
    )
    scene = write_scene_of(tmp_path, 40, 300, transform=grid, crs="EPSG:3413")
    with pytest.warns(CscWarning, match="resampled by nearest neighbour"):
        labels = open_labels(path, like=scene, legend=RIVER)
    assert (labels == 2).all()


def test_sizes_rounded_up_are_one_extent(tmp_path: Path) -> None:
    codes = some_codes(6, 6)
    coarse = {**PLACE, "transform": NORTH_UP @ Affine.scale(2)}
    path = write_raster(tmp_path / "labels.tif", codes, **coarse)
    scene = write_scene_of(tmp_path, 11, 11, **PLACE)
    with pytest.warns(CscWarning, match="6 x 6 pixels onto the 11 x 11 of the scene"):
        labels = open_labels(path, like=scene, legend=RIVER)
    index = np.arange(11) // 2
    np.testing.assert_array_equal(labels, codes[0][np.ix_(index, index)])


def test_grids_that_differ_by_rounding_are_one(tmp_path: Path) -> None:
    codes = some_codes(20, 30)
    moved = {**PLACE, "transform": NORTH_UP @ Affine.translation(0.004, -0.004)}
    path = write_raster(tmp_path / "labels.tif", codes, **moved)
    scene = write_scene_of(tmp_path, 20, 30, **PLACE)
    labels = open_labels(path, like=scene, legend=RIVER)
    np.testing.assert_array_equal(labels, codes[0])
    np.testing.assert_array_equal(labels.x, scene.x)


def test_rotated_scene_with_rotated_labels(tmp_path: Path) -> None:
    codes = some_codes(20, 30)
    turned = {**PLACE, "transform": NORTH_UP @ Affine.rotation(30)}
    path = write_raster(tmp_path / "labels.tif", codes, **turned)
    scene = write_scene_of(tmp_path, 20, 30, **turned)
    np.testing.assert_array_equal(open_labels(path, like=scene, legend=RIVER), codes[0])


@pytest.mark.parametrize("placed", ["scene", "labels"])
def test_one_georeference_is_enough_for_one_size(tmp_path: Path, placed: str) -> None:
    codes = some_codes(20, 30)
    bare = {"driver": "GTiff"}
    scene = write_scene_of(tmp_path, 20, 30, **(PLACE if placed == "scene" else bare))
    path = write_raster(tmp_path / "labels.tif", codes, **(PLACE if placed == "labels" else bare))
    lacking = "labels.tif" if placed == "scene" else "the scene"
    with pytest.warns(CscWarning, match=f"{lacking} has no georeference") as caught:
        labels = open_labels(path, like=scene, legend=RIVER)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(labels, codes[0])
    xr.testing.assert_identical(labels.x, scene.x)


def test_labels_without_georeference_are_stretched_if_of_one_shape(tmp_path: Path) -> None:
    codes = some_codes(20, 30)
    path = write_raster(tmp_path / "labels.tif", codes, driver="GTiff")
    scene = write_scene_of(tmp_path, 40, 60)
    with pytest.warns(CscWarning, match="20 x 30 pixels onto the 40 x 60"):
        labels = open_labels(path, like=scene, legend=RIVER)
    np.testing.assert_array_equal(labels, codes[0].repeat(2, axis=0).repeat(2, axis=1))
    with pytest.raises(LabelError, match="the shape of the scene, 41 x 60 pixels, got 20 x 30"):
        open_labels(path, like=write_scene_of(tmp_path, 41, 60), legend=RIVER)


@pytest.mark.parametrize(
    "change",
    [
        {"crs": "EPSG:32632"},
        {"transform": NORTH_UP @ Affine.translation(2, 0)},
        {"transform": NORTH_UP @ Affine.translation(0, -2)},
        {"transform": NORTH_UP @ Affine.scale(1.2)},
        {"transform": NORTH_UP @ Affine.rotation(1)},
    ],
)
def test_labels_elsewhere_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write_raster(tmp_path / "labels.tif", some_codes(20, 30), **{**PLACE, **change})
    scene = write_scene_of(tmp_path, 20, 30, **PLACE)
    here = r"x 330000 to 330300, y 5821840 to 5822040 in EPSG:32633, but .*labels.tif covers x "
    with pytest.raises(LabelError, match=here):
        open_labels(path, like=scene, legend=RIVER)


@pytest.mark.parametrize(
    ("codes", "match"),
    [
        ([1.5, 2.0], r"Labels must be whole numbers, got 1\.5 in"),
        ([-1.0, 9.0], "codes of legend 'river', 1, 2, 3, 4, 5, or 0 .* got -1, 9 in"),
        (list(range(6, 30)), "got 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, ... in"),
        ([257.0, 1.0], "got 257 in"),
    ],
)
def test_numbers_that_are_no_codes_are_refused(
    tmp_path: Path, codes: list[float], match: str
) -> None:
    stored = np.array([[codes]], "float32")
    path = write_raster(tmp_path / "labels.tif", stored, **PLACE)
    scene = write_scene_of(tmp_path, 1, len(codes), **PLACE)
    with pytest.raises(LabelError, match=match):
        open_labels(path, like=scene, legend=RIVER)


def test_what_is_no_label_raster_is_refused(tmp_path: Path) -> None:
    scene = write_scene_of(tmp_path, 4, 5)
    with pytest.raises(LabelError, match=r"Labels must be one band of class codes, got 3 bands in"):
        open_labels(tmp_path / "scene.tif", like=scene, legend=RIVER)
    with pytest.raises(LabelError, match=r"Labels cannot be read\. .*there is no such file"):
        open_labels(tmp_path / "none.tif", like=scene, legend=RIVER)


def test_labels_of_colour_numbers_are_codes(tmp_path: Path) -> None:
    codes = some_codes(8, 9)
    path = write_raster(
        tmp_path / "labels.png",
        codes,
        driver="PNG",
        fill=lambda dataset: dataset.write_colormap(1, RIVER.colour_table()),
    )
    scene = validate_scene(xr.DataArray(np.ones((1, 8, 9), "uint8"), dims=("band", "y", "x")))
    np.testing.assert_array_equal(open_labels(path, like=scene, legend=RIVER), codes[0])
