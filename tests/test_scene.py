"""Opening, checking and writing scenes, and finding images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from rasterio.control import GroundControlPoint
from rasters_for_tests import NORTH_UP, never, some_pixels, write_raster

from csc_xr.errors import CscWarning, OutputError, ParameterError, SceneError
from csc_xr.scene import (
    check_bands,
    find_images,
    open_scene,
    scene_transform,
    valid_pixels,
    validate_scene,
    write_scene,
)


def image(**coords: Any) -> xr.DataArray:
    pixels = xr.DataArray(some_pixels(3, 6, 8), dims=("band", "y", "x"))
    return pixels.assign_coords(coords)


def test_opening_checking_and_masking_compute_nothing(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "a.tif", some_pixels(4, 40, 50), driver="GTiff", nodata=3, photometric="RGB"
    )
    with dask.config.set(scheduler=never):
        scene = check_bands(validate_scene(open_scene(path, chunks=16)), ["blue"], who="This test")
        valid = valid_pixels(scene)
        lazy = xr.DataArray(da.zeros((3, 5, 5), chunks=2), dims=("band", "y", "x"))
        valid_pixels(lazy.assign_coords(valid=(("y", "x"), da.ones((5, 5), dtype=bool))))
    assert valid.chunks == scene.chunks[1:]
    assert set(valid.coords) == {"x", "y"}


def test_mask_file_is_added_to_other_masks(tmp_path: Path) -> None:
    pixels = some_pixels(3, 20, 30)
    place = {"driver": "GTiff", "transform": NORTH_UP, "crs": "EPSG:32633"}
    image_path = write_raster(tmp_path / "a.tif", pixels, nodata=5, **place)
    mask = some_pixels(1, 20, 30, dtype="float32") % 2
    mask[0, 3, 4] = np.nan
    mask_path = write_raster(tmp_path / "m.tif", mask, **place)
    scene = open_scene(image_path, mask=mask_path, chunks=8)
    np.testing.assert_array_equal(valid_pixels(scene), (mask[0] == 1) & (pixels != 5).all(axis=0))
    plain = write_raster(tmp_path / "p.tif", mask, driver="GTiff")
    with pytest.warns(CscWarning, match=r"p.tif has no georeference, so image and mask"):
        open_scene(image_path, mask=plain)


def test_mask_file_is_added_to_alpha(tmp_path: Path) -> None:
    pixels = some_pixels(4, 20, 30)
    pixels[3] = some_pixels(2, 20, 30)[1] > 40
    mask = (some_pixels(3, 20, 30)[2:] > 70).astype("uint8")
    path = write_raster(tmp_path / "a.png", pixels, driver="PNG")
    mask_path = write_raster(tmp_path / "m.png", mask, driver="PNG")
    valid = valid_pixels(open_scene(path, mask=mask_path))
    np.testing.assert_array_equal(valid, (pixels[3] == 1) & (mask[0] == 1))


def test_mask_must_lie_on_the_grid(tmp_path: Path) -> None:
    place = {"driver": "GTiff", "transform": NORTH_UP, "crs": "EPSG:32633"}
    path = write_raster(tmp_path / "a.tif", some_pixels(1, 20, 30), **place)
    moved = {**place, "transform": NORTH_UP @ Affine.translation(1, 0)}
    wrong = {
        "size": write_raster(tmp_path / "size.tif", some_pixels(1, 20, 31), **place),
        "bands": write_raster(tmp_path / "bands.tif", some_pixels(3, 20, 30), **place),
        "place": write_raster(tmp_path / "place.tif", some_pixels(1, 20, 30), **moved),
        "crs": write_raster(
            tmp_path / "crs.tif", some_pixels(1, 20, 30), **{**place, "crs": "EPSG:32632"}
        ),
    }
    for mask in wrong.values():
        with pytest.raises(SceneError, match="must be one band on the grid of the image"):
            open_scene(path, mask=mask)
    with pytest.raises(SceneError, match="must be a mask, but there is no such file"):
        open_scene(path, mask=tmp_path / "none.tif")


def test_scale_is_by_dtype_or_as_given(tmp_path: Path) -> None:
    for dtype, scale in {"uint8": 255, "int8": 255, "int16": 8192, "float32": 1, "bool": 1}.items():
        assert validate_scene(image().astype(dtype)).attrs["scale"] == scale
    write_scene(image().assign_attrs(scale=2.5), tmp_path / "a.zarr")
    assert open_scene(tmp_path / "a.zarr").attrs["scale"] == 2.5
    assert open_scene(tmp_path / "a.zarr", scale=10_000).attrs["scale"] == 10_000.0


def test_arrays_of_users_become_scenes() -> None:
    pixels = some_pixels(6, 8, 3)
    made = xr.DataArray(pixels, dims=("y", "x", "band"), coords={"band": [1, 2, 3]})
    before = made.copy(deep=True)
    scene = validate_scene(made)
    xr.testing.assert_identical(made, before)
    assert scene.dims == ("band", "y", "x")
    assert isinstance(scene.data, da.Array)
    assert scene.band.values.tolist() == ["red", "green", "blue"]
    np.testing.assert_array_equal(scene, pixels.transpose(2, 0, 1))
    assert scene.x.values.tolist()[:2] == [0.5, 1.5]
    xr.testing.assert_identical(validate_scene(scene), scene)
    assert validate_scene(made.assign_coords(band=[4, 3, 8])).band.values[0] == "band_4"
    split = validate_scene(made.chunk({"band": 1, "x": 2}))
    assert split.chunks == ((3,), (6,), (2, 2, 2, 2))
    unheld = validate_scene(made.assign_attrs(_FillValue=-9999))
    assert "_FillValue" not in unheld.attrs
    mapped = image(x=np.arange(8) * 10.0 + 5, y=95 - np.arange(6) * 10.0)
    assert scene_transform(validate_scene(mapped)) == Affine(10, 0, 0, 0, -10, 100)


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (image().to_dataset(name="a"), "must be an xarray.DataArray, got Dataset"),
        (image().isel(band=0), r"must have dims band, y and x.*got \{'y': 6, 'x': 8\}"),
        (image().isel(x=slice(0, 0)), "none of length 0"),
        (image().astype("complex64"), "got dtype complex64"),
        (image(band=["red", "nir", "red"]), "named once, got red more than once"),
        (image().assign_attrs(scale=0), "scale of a scene must be a positive number, got 0"),
        (image().assign_attrs(scale="x"), "scale of a scene must be a positive number, got 'x'"),
        (image().assign_attrs(_FillValue="x"), "nodata value of a scene .* got 'x'"),
        (image().assign_attrs(nodata_when="no"), "must be 'any' or 'all', got 'no'"),
        (image(x=np.arange(8) ** 2.0, y=np.arange(6)), "Coordinate x must rise or fall evenly"),
        (image(x=np.arange(8), y=np.full(6, np.nan)), "Coordinate y must rise or fall evenly"),
        (image(valid=("y", np.ones(6, bool))), r"valid must have dims \(y, x\)"),
        (
            image(spatial_ref=xr.Variable((), 0, {"GeoTransform": "1 2"})),
            "GeoTransform of spatial_ref must be six numbers",
        ),
        (
            image(spatial_ref=xr.Variable((), 0, {"GeoTransform": "0 0 0 0 0 0"})),
            "must have an area on the map",
        ),
    ],
)
def test_what_is_no_scene_is_refused(broken: Any, match: str) -> None:
    with pytest.raises(SceneError, match=match):
        validate_scene(broken)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="must be an image, but there is no such file"):
        open_scene(tmp_path / "none.tif")
    with pytest.raises(SceneError, match="is a folder and no Zarr store"):
        open_scene(tmp_path)


def test_control_points_are_ignored_with_a_warning(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, 0, 5 * row, 0) for row in range(4)]
    path = write_raster(
        tmp_path / "a.tif", some_pixels(1, 4, 5), driver="GTiff", gcps=points, crs="EPSG:32633"
    )
    with pytest.warns(CscWarning, match="a.tif is placed on the map by ground control points"):
        scene = open_scene(path)
    assert scene.rio.crs is None
    assert scene_transform(scene) == Affine.identity()


def test_transform_without_area_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="5" rasterYSize="4"><GeoTransform>5, 0, 0, 7, 0, -10'
        '</GeoTransform><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    )
    with pytest.raises(SceneError, match="must have an area on the map"):
        open_scene(path)


def test_store_keeps_time_uneven_chunks_and_attributes(tmp_path: Path) -> None:
    moment = np.datetime64("2022-01-25T10:11:12.123456789", "ns")
    scene = validate_scene(image(time=moment).assign_attrs(offset=np.int16(-1000), path=Path("a")))
    scene = scene.chunk({"y": (1, 3, 2), "x": (5, 3)})
    write_scene(scene, tmp_path / "a.zarr")
    back = open_scene(tmp_path / "a.zarr", chunks={"y": 2})
    assert back.time.values == moment
    assert back.time.dtype == scene.time.dtype
    assert back.attrs["offset"] == -1000
    assert back.chunks[1:] == ((2, 2, 2), (8,))
    np.testing.assert_array_equal(back, scene)


def test_store_of_bool_and_nan(tmp_path: Path) -> None:
    write_scene(image() > 60, tmp_path / "bool.zarr")
    back = open_scene(tmp_path / "bool.zarr")
    assert back.dtype == bool
    np.testing.assert_array_equal(back, image() > 60)
    floats = image().astype("float32").where(image() > 60)
    write_scene(floats, tmp_path / "float.zarr")
    back = open_scene(tmp_path / "float.zarr")
    assert "_FillValue" not in back.attrs
    np.testing.assert_array_equal(back, floats)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_stores_xarray_wrote_are_opened(tmp_path: Path, zarr_format: Any) -> None:
    stored = image(band=[1, 2, 3]).rename("reflectance").transpose("y", "x", "band").chunk(x=3)
    stored.to_dataset().to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format, consolidated=False)
    with dask.config.set(scheduler=never):
        scene = open_scene(tmp_path / "a.zarr")
    assert scene.band.values.tolist() == ["red", "green", "blue"]
    assert scene.dtype == np.uint8
    np.testing.assert_array_equal(scene, image())
    with_other = stored.to_dataset().assign(other=stored + 1)
    with_other.to_zarr(tmp_path / "b.zarr", zarr_format=zarr_format, consolidated=False)
    with pytest.raises(SceneError, match="one called 'scene', got other, reflectance"):
        open_scene(tmp_path / "b.zarr")
    renamed = with_other.rename(other="scene")
    renamed.to_zarr(tmp_path / "c.zarr", zarr_format=zarr_format, consolidated=False)
    np.testing.assert_array_equal(open_scene(tmp_path / "c.zarr"), image() + 1)


def test_broken_store_is_refused(tmp_path: Path) -> None:
    write_scene(image(), tmp_path / "a.zarr")
    (tmp_path / "a.zarr/scene/zarr.json").write_text("{")
    with pytest.raises(SceneError, match="a Zarr store that xarray reads, but opening it failed"):
        open_scene(tmp_path / "a.zarr")


def test_store_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    raw = write_raster(tmp_path / "a.tif", some_pixels(1, 600, 64), driver="GTiff")
    scene = open_scene(raw, chunks=64)
    write_scene(image(), tmp_path / "a.zarr")
    raw.unlink()
    with pytest.raises(SceneError, match="cannot be opened"):
        write_scene(scene, tmp_path / "a.zarr", overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]
    np.testing.assert_array_equal(open_scene(tmp_path / "a.zarr"), image())
    with pytest.raises(OutputError, match="must not exist yet, but it does"):
        write_scene(image(), tmp_path / "a.zarr")
    again = open_scene(tmp_path / "a.zarr") + 1
    write_scene(again, tmp_path / "a.zarr", overwrite=True)  # onto the store it is read from
    np.testing.assert_array_equal(open_scene(tmp_path / "a.zarr"), image() + 1)


def test_attributes_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="Records hold numbers, text, lists"):
        write_scene(image().assign_attrs(what=object()), tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []


def test_images_are_found_and_labels_left_out(tmp_path: Path) -> None:
    images = ["SVM_a.tif", "StMarg_2.JPG", "VMware.png", "a.TIFF", "b.jp2", "ledge.jpeg", "z.zarr"]
    others = [
        "EDGE_a.tif",
        "SCLS_StMarg2.tif",
        "a-EDGE.tif",
        "a_VM.png",
        "myscls.txt",
        "xSCLSx.tif",
        "VM_a.tif",
        "a.tif.aux.xml",
        "a.msk",
        ".hidden.tif",
    ]
    for name in [*images, *others]:
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == images
    with pytest.raises(SceneError, match=r"looked for in a folder, but .* is none"):
        find_images(tmp_path / "b.jp2")


def test_images_of_a_folder_are_found(shared: Path) -> None:
    found = find_images(shared / "data/st_marguerite/train")
    assert len(found) == 10
    assert {path.suffix for path in found} == {".jpg"}
