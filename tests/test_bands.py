"""Bands of a file: names, choice, alpha, nodata and masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasters_for_tests import reading, some_pixels, write_raster

from csc_xr.errors import SceneError
from csc_xr.scene import check_bands, open_scene, valid_pixels, write_scene

VRT = (
    '<VRTDataset rasterXSize="5" rasterYSize="4">{bands}</VRTDataset>',
    '<VRTRasterBand dataType="{dtype}" band="{number}"><NoDataValue>{nodata}</NoDataValue>'
    '<SimpleSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename>'
    "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>",
)


def write_vrt(path: Path, bands: list[tuple[str, int]]) -> Path:
    """Write a file whose bands have dtypes and nodata values of their own."""
    write_raster(path.with_name("a.tif"), some_pixels(1, 4, 5), driver="GTiff")
    text = [
        VRT[1].format(dtype=dtype, number=number, nodata=nodata)
        for number, (dtype, nodata) in enumerate(bands, 1)
    ]
    path.write_text(VRT[0].format(bands="".join(text)))
    return path


def test_names_come_from_the_file_or_the_number_of_bands(tmp_path: Path) -> None:
    def names(count: int, dtype: str = "uint16", **profile: Any) -> list[str]:
        pixels = some_pixels(count, 4, 4, dtype=dtype)
        path = write_raster(tmp_path / "a.tif", pixels, driver="GTiff", **profile)
        return open_scene(path).band.values.tolist()

    assert names(1) == ["grey"]
    assert names(3) == ["red", "green", "blue"]
    assert names(4) == ["red", "green", "blue", "nir"]
    assert names(5) == ["band_1", "band_2", "band_3", "band_4", "band_5"]
    assert names(3, photometric="RGB") == ["red", "green", "blue"]
    some = ("B4", "B3", "B4")
    assert names(3, fill=lambda d: setattr(d, "descriptions", some)) == ["red", "green", "blue"]
    bgr = [rasterio.enums.ColorInterp[name] for name in ("blue", "green", "red", "undefined")]
    assert names(4, fill=lambda d: setattr(d, "colorinterp", bgr)) == [
        "blue",
        "green",
        "red",
        "nir",
    ]
    table = {0: (0, 0, 0, 255), 9: (255, 0, 0, 255)}
    assert names(1, "uint8", fill=lambda d: d.write_colormap(1, table)) == ["palette"]


def test_near_infrared_marked_as_alpha(tmp_path: Path) -> None:
    """GDAL marks the fourth band of 8-bit files as alpha; only a name can tell."""
    pixels = some_pixels(4, 6, 5)
    path = write_raster(tmp_path / "a.tif", pixels, driver="GTiff")
    rgbn = ["red", "green", "blue", "nir"]
    assert open_scene(path).sizes["band"] == 3
    named = open_scene(path, band_names=rgbn, bands=["nir", "red"])
    assert named.band.values.tolist() == ["nir", "red"]
    assert "valid" not in named.coords
    np.testing.assert_array_equal(named, pixels[[3, 0]])
    write_raster(path, pixels, driver="GTiff", fill=lambda d: setattr(d, "descriptions", rgbn))
    assert open_scene(path).band.values.tolist() == rgbn
    with pytest.raises(SceneError, match="The network needs bands red, nir, got red, green, blue"):
        check_bands(open_scene(path, bands=[1, 2, 3]), ["red", "nir"], who="The network")


def test_png_with_alpha_has_three_bands_and_a_mask(shared: Path) -> None:
    path = next((shared / "data/landsat_fronts/images").glob("*.png"))
    scene = open_scene(path)
    assert scene.band.values.tolist() == ["red", "green", "blue"]
    with reading(path) as dataset:
        np.testing.assert_array_equal(scene.coords["valid"], dataset.read(4) != 0)


def test_bands_are_chosen_by_name_or_number(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", some_pixels(4, 6, 5, dtype="int16"), driver="GTiff")
    write_scene(open_scene(path), tmp_path / "a.zarr")
    whole = open_scene(path)
    for source in (path, tmp_path / "a.zarr"):
        scene = open_scene(source, bands=["nir", 2])
        assert scene.band.values.tolist() == ["nir", "green"]
        np.testing.assert_array_equal(scene, whole.values[[3, 1]])
        assert open_scene(source, bands="blue").band.values.tolist() == ["blue"]
        other = open_scene(source, band_names=["a", "b", "c", "d"])
        chosen = check_bands(other, ["d", "a"], who="This test")
        np.testing.assert_array_equal(chosen, whole.values[[3, 0]])
    assert check_bands(whole, ["red", "green", "blue", "nir"], who="This test") is whole


def test_nodata_of_any_or_all_bands(tmp_path: Path) -> None:
    pixels = some_pixels(2, 3, 4, dtype="uint16")
    pixels[0, 0, 0] = pixels[1, 1, 1] = 65535
    pixels[:, 2, 2] = 65535
    path = write_raster(tmp_path / "a.tif", pixels, driver="GTiff", nodata=65535)
    filled = pixels == 65535
    np.testing.assert_array_equal(valid_pixels(open_scene(path)), ~filled.any(axis=0))
    both = open_scene(path, nodata_when="all")
    np.testing.assert_array_equal(valid_pixels(both), ~filled.all(axis=0))
    write_scene(both, tmp_path / "a.zarr")
    np.testing.assert_array_equal(
        valid_pixels(open_scene(tmp_path / "a.zarr")), ~filled.all(axis=0)
    )
    seven = open_scene(path, nodata=int(pixels[0, 1, 0]))
    np.testing.assert_array_equal(valid_pixels(seven), (pixels != pixels[0, 1, 0]).all(axis=0))


def test_nan_and_infinity_are_not_valid() -> None:
    pixels = np.ones((2, 2, 3), "float32")
    pixels[0, 0, 0], pixels[1, 1, 1], pixels[0, 1, 2] = np.nan, np.inf, -9999
    scene = xr.DataArray(pixels, dims=("band", "y", "x"), attrs={"_FillValue": -9999})
    assert valid_pixels(scene).values.tolist() == [[False, True, True], [True, False, False]]


@pytest.mark.parametrize("internal", [True, False])
def test_masks_of_the_file_are_seen(tmp_path: Path, internal: bool) -> None:
    mask = some_pixels(1, 40, 30)[0] > 60
    path = tmp_path / "a.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        write_raster(
            path,
            some_pixels(3, 40, 30),
            driver="GTiff",
            photometric="RGB",
            fill=lambda d: d.write_mask(mask),
        )
    assert (tmp_path / "a.tif.msk").exists() is not internal
    scene = open_scene(path, chunks=16)
    np.testing.assert_array_equal(valid_pixels(scene), mask)
    write_scene(scene, tmp_path / "a.zarr")
    again = open_scene(tmp_path / "a.zarr")
    assert again.coords["valid"].dtype == bool
    np.testing.assert_array_equal(valid_pixels(again), mask)


def test_nodata_no_pixel_can_have_is_none(tmp_path: Path) -> None:
    scene = open_scene(write_vrt(tmp_path / "a.vrt", [("Byte", -9999), ("Byte", 300)]))
    assert scene.rio.nodata is None
    assert valid_pixels(scene).all()


def test_bands_must_share_nodata_and_dtype(tmp_path: Path) -> None:
    path = write_vrt(tmp_path / "a.vrt", [("Int16", 5), ("Int16", 7), ("Float32", 7)])
    with pytest.raises(SceneError, match=r"must share one nodata value, got 5, 7\. Pass nodata="):
        open_scene(path, bands=[1, 2])
    assert open_scene(path, bands=[1, 2], nodata=6).rio.nodata == 6
    assert open_scene(path, bands=[2]).rio.nodata == 7
    with pytest.raises(SceneError, match="of one dtype, got float32, int16"):
        open_scene(path)


def test_numbers_without_order_are_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", some_pixels(1, 4, 5, dtype="complex64"), driver="GTiff")
    with pytest.raises(SceneError, match=r"must be integers or real numbers .* got complex64"):
        open_scene(path)


def test_file_without_imagery_is_refused(tmp_path: Path) -> None:
    alpha = [rasterio.enums.ColorInterp.alpha]
    path = write_raster(
        tmp_path / "a.tif",
        some_pixels(1, 4, 5),
        driver="GTiff",
        fill=lambda d: setattr(d, "colorinterp", alpha),
    )
    with pytest.raises(SceneError, match="must hold at least one band of imagery, got none"):
        open_scene(path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"bands": ["red", "swir"]}, "bands must be among red, green, blue or .* got swir"),
        ({"bands": [0]}, "numbers 1 to 3, got 0"),
        ({"bands": [4]}, "numbers 1 to 3, got 4"),
        ({"bands": []}, "got none"),
        ({"bands": ["red", 1]}, "Each band must be named once, got red more than once"),
        ({"band_names": ["a", "b"]}, "must name each of the 3 band.* got 2: a, b"),
        ({"band_names": ["a", "b", "a"]}, "Each band must be named once, got a more than once"),
        ({"nodata": 70_000}, "nodata must be a value that pixels of dtype uint16 can have"),
    ],
)
def test_options_must_fit_the_file(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    pixels = some_pixels(3, 4, 5, dtype="uint16")
    path = write_raster(tmp_path / "a.tif", pixels, driver="GTiff")
    write_scene(open_scene(path), tmp_path / "a.zarr")
    for source in (path, tmp_path / "a.zarr"):
        with pytest.raises(SceneError, match=match):
            open_scene(source, **options)
