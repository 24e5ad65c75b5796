"""Scenes as GeoTIFFs, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from csc_xr.errors import OutputError, SceneError
from csc_xr.export import write_scene_geotiff
from csc_xr.grid import place, scene_transform
from csc_xr.scene import SCENE_TAG, open_scene, valid_pixels, validate_scene

DTYPES = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64",
)  # fmt: skip
BANDS = ("red", "green", "blue", "nir", "swir16")
TRANSFORM = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 7_400_000.0)
SENSED = np.datetime64("2021-07-15T14:37:49.024", "ns")


def make_scene(
    dtype: str = "uint16",
    shape: tuple[int, int, int] = (4, 30, 41),
    transform: Affine = TRANSFORM,
    crs: Any = 32624,
    chunk: int = 16,
    seed: int = 0,
) -> xr.DataArray:
    values = np.random.default_rng(seed).integers(0, 5, shape).astype(dtype)
    scene = xr.DataArray(da.from_array(values, (-1, chunk, chunk)), dims=("band", "y", "x"))
    scene = place(scene, transform, None if crs is None else CRS.from_epsg(crs))
    return validate_scene(scene.assign_coords(band=list(BANDS[: shape[0]])))


def masked(scene: xr.DataArray, seed: int = 1) -> xr.DataArray:
    seen = np.random.default_rng(seed).random(scene.shape[1:]) > 0.5
    return validate_scene(scene.assign_coords(valid=(("y", "x"), seen)))


def written(scene: xr.DataArray, path: Path) -> xr.DataArray:
    """Write, open again, and check what must be the same in any case."""
    write_scene_geotiff(scene, path, overwrite=True)
    found = open_scene(path)
    seen = valid_pixels(scene).values
    np.testing.assert_array_equal(valid_pixels(found).values, seen)
    np.testing.assert_array_equal(found.values[:, seen], scene.values[:, seen])
    assert found.dtype == scene.dtype
    assert found["band"].values.tolist() == scene["band"].values.tolist()
    assert (scene_transform(found), found.rio.crs) == (scene_transform(scene), scene.rio.crs)
    for key in ("scale", "nodata_when"):
        assert found.attrs[key] == scene.attrs[key]
    return found


sizes = st.floats(1e-4, 1e4).flatmap(lambda size: st.sampled_from([size, -size]))


@st.composite
def transforms(draw: st.DrawFn) -> Affine:
    shear = draw(st.sampled_from([0.0, 0.3])), draw(st.sampled_from([0.0, -0.2]))
    across, down, origin = draw(sizes), draw(sizes), st.floats(-1e7, 1e7)
    return Affine(across, shear[0] * across, draw(origin), shear[1] * down, down, draw(origin))


@given(
    dtype=st.sampled_from(DTYPES),
    transform=transforms(),
    crs=st.sampled_from([3413, 4326, None]),
    nodata=st.sampled_from([None, 0, 3]),
    when=st.sampled_from(["any", "all"]),
    with_mask=st.booleans(),
    count=st.integers(1, 5),
)
@settings(max_examples=10, deadline=None)
def test_any_scene_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    transform: Affine,
    crs: Any,
    nodata: int | None,
    when: str,
    with_mask: bool,
    count: int,
) -> None:
    scene = make_scene(dtype, (count, 12, 9), transform, crs, chunk=5, seed=count)
    scene.attrs["nodata_when"] = when
    if nodata is not None:
        scene.attrs["_FillValue"] = np.dtype(dtype).type(nodata)
    if with_mask:
        scene = masked(scene)
    written(scene, tmp_path_factory.mktemp("scene") / "a.tif")


@pytest.mark.parametrize("shape", [(4, 30, 41), (2, 513, 60)])
@pytest.mark.parametrize("with_mask", [False, True])
def test_it_is_cloud_optimised(
    tmp_path: Path, shape: tuple[int, int, int], with_mask: bool
) -> None:
    scene = make_scene(shape=shape, chunk=256)
    path = tmp_path / "a.tif"
    written(masked(scene) if with_mask else scene, path)
    assert cog_validate(path, strict=True) == (True, [], [])
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tif"]


def test_what_the_format_has_no_place_for_is_kept(tmp_path: Path) -> None:
    scene = make_scene().assign_coords(time=SENSED)
    scene = validate_scene(scene.assign_attrs(quantification=10_000.0, scale=4096.0))
    found = written(scene, tmp_path / "a.tif")
    assert found["time"].values == SENSED
    assert found["time"].dtype == scene["time"].dtype
    assert found.attrs["quantification"] == 10_000.0
    assert open_scene(tmp_path / "a.tif", scale=3.0).attrs["scale"] == 3.0
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.scales == (0.0001,) * 4
        assert file.tags()["TIFFTAG_DATETIME"] == "2021:07:15 14:37:49"
        assert [meaning.name for meaning in file.colorinterp[:3]] == ["red", "green", "blue"]


@pytest.mark.parametrize("tag", ["{", "3", '{"time": "no date"}'])
def test_a_tag_that_is_not_ours_is_left_alone(tmp_path: Path, tag: str) -> None:
    write_scene_geotiff(make_scene(), tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.update_tags(**{SCENE_TAG: tag})
    assert open_scene(tmp_path / "a.tif").attrs["scale"] == 8192.0


def test_the_scale_is_that_of_the_dtype_it_was_kept_for(tmp_path: Path) -> None:
    write_scene_geotiff(make_scene().assign_attrs(scale=4096.0), tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        profile = {**file.profile, "driver": "GTiff", "dtype": "float32"}
        values, tags = file.read(), file.tags()
    assert json.loads(tags[SCENE_TAG])["scale"] == 4096.0
    with rasterio.open(tmp_path / "b.tif", "w", **profile) as other:
        other.write(values.astype(np.float32) / 10_000)
        other.update_tags(**tags)
    assert open_scene(tmp_path / "b.tif").attrs["scale"] == 1.0


def test_numbers_below_a_mask_stay_where_no_number_is_nodata(tmp_path: Path) -> None:
    scene = masked(make_scene())
    found = written(scene, tmp_path / "a.tif")
    np.testing.assert_array_equal(found.values, scene.values)
    assert "_FillValue" not in found.attrs
    filled = scene.assign_attrs(_FillValue=np.uint16(0))
    found = written(filled, tmp_path / "a.tif")
    hidden = ~valid_pixels(filled).values
    assert (found.values[:, hidden] == 0).all()
    floats = masked(make_scene("float32"))
    found = written(floats, tmp_path / "a.tif")
    assert np.isnan(found.values[:, ~valid_pixels(floats).values]).all()


def test_bad_scenes_and_targets_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with pytest.raises(SceneError, match=r"A GeoTIFF holds uint8, .* got a scene of bool"):
        write_scene_geotiff(make_scene("bool"), path)
    write_scene_geotiff(make_scene(), path)
    with pytest.raises(OutputError, match=r"a\.tif must not exist yet"):
        write_scene_geotiff(make_scene(), path)
