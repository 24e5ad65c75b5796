"""Opening, checking and writing scenes: pixels, grid, bands, masks, laziness, errors."""

from __future__ import annotations

import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning

from csc_xr.errors import CscWarning, OutputError, ParameterError, SceneError
from csc_xr.raster import RasterWindows
from csc_xr.scene import (
    check_bands,
    find_images,
    open_scene,
    same_grid,
    scene_transform,
    valid_pixels,
    validate_scene,
    write_scene,
)

NORTH_UP = Affine(10.0, 0.0, 330000.0, 0.0, -10.0, 5822040.0)


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("something was computed")


def write_raster(path: Path, pixels: np.ndarray, **profile: Any) -> Path:
    """Write (band, y, x) pixels; `fill` is a function that goes on writing to the file."""
    fill: Callable[[Any], None] = profile.pop("fill", lambda _: None)
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", count=count, height=height, width=width, dtype=pixels.dtype, **profile
        ) as dataset:
            fill(dataset)
            dataset.write(pixels)
    return path


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            yield dataset


def some_pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(7)
    return rng.integers(1, 120, shape).astype(dtype)


def image(**coords: Any) -> xr.DataArray:
    pixels = xr.DataArray(some_pixels(3, 6, 8), dims=("band", "y", "x"))
    return pixels.assign_coords(coords)


sizes = st.integers(1, 90)
steps = st.floats(1e-6, 1e3) | st.floats(-1e3, -1e-6) | st.sampled_from([10.0, -30.0, 1 / 3])
origins = st.floats(-1e7, 1e7)
north_up = st.builds(lambda a, c, e, f: Affine(a, 0, c, 0, e, f), steps, origins, steps, origins)
quarter_turn = st.builds(lambda b, c, d, f: Affine(0, b, c, d, 0, f), steps, origins, steps, origins)
rotated = st.builds(
    lambda size, angle, c, f: Affine.translation(c, f) @ Affine.rotation(angle) @ Affine.scale(size),
    st.floats(1e-5, 1e3),
    st.floats(1, 89),
    origins,
    origins,
)
transforms = st.just(Affine.identity()) | north_up | quarter_turn | rotated
dtypes = st.sampled_from(
    ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"]
)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), sizes, sizes),
    dtype=dtypes,
    transform=transforms,
    crs=st.sampled_from([None, "EPSG:3413", "EPSG:4326", "EPSG:32633"]),
    chunks=st.none() | st.integers(1, 100) | st.tuples(sizes, st.just(-1)),
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


@settings(max_examples=80, deadline=None)
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


def test_crop_has_the_transform_gdal_gives_the_window(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "a.tif", some_pixels(1, 50, 60), driver="GTiff", transform=NORTH_UP
    )
    crop = open_scene(path).isel(y=slice(7, 20), x=slice(11, 12))
    assert scene_transform(crop) == Affine(10.0, 0.0, 330110.0, 0.0, -10.0, 5821970.0)


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


@pytest.mark.parametrize(
    ("name", "bands", "scale"),
    [
        ("st_marguerite/validate/StMarg_31198.jpg", ["red", "green", "blue"], 255.0),
        ("s2_glacier_snow/RGI50-11.A54L04_20170719.tif", ["B02", "B8A", "B08"], 8192.0),
        ("s2_leipzig/leipzig_raster.tif", "b02 b03 b04 b06 b07 b08 b11 ndvi".split(), 1.0),
        ("s2_l1c_jp2/IMG_DATA/T33UUU_20170216T102101_B02.jp2", ["grey"], 8192.0),
        ("s2_l1c_jp2/IMG_DATA/T33UUU_20170216T102101_B09.jp2", ["grey"], 8192.0),
        ("s2_l1c_jp2/IMG_DATA/T33UUU_20170216T102101_B8A.jp2", ["grey"], 8192.0),
    ],
)
def test_real_images_read_as_rasterio_reads_them(
    shared: Path, name: str, bands: list[str], scale: float
) -> None:
    path = shared / "data" / name
    with dask.config.set(scheduler=never):
        scene = open_scene(path, chunks=200)
    with reading(path) as dataset:
        np.testing.assert_array_equal(scene.values, dataset.read(), strict=True)
        assert scene_transform(scene) == dataset.transform
        assert scene.rio.crs == dataset.crs
        assert scene.rio.nodata is dataset.nodata or np.array_equal(
            scene.rio.nodata, dataset.nodata, equal_nan=True
        )
    assert scene.band.values.tolist() == bands
    assert scene.attrs["scale"] == scale
    assert scene.name == path.stem
    assert "spatial_ref" in scene.coords or path.suffix == ".jpg"


def test_png_with_alpha_has_three_bands_and_a_mask(shared: Path) -> None:
    path = next((shared / "data/landsat_fronts/images").glob("*.png"))
    scene = open_scene(path)
    assert scene.band.values.tolist() == ["red", "green", "blue"]
    with reading(path) as dataset:
        np.testing.assert_array_equal(scene.coords["valid"], dataset.read(4) != 0)


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


def test_default_chunks_are_whole_blocks(tmp_path: Path) -> None:
    pixels = np.zeros((1, 1300, 2600), "uint8")
    layouts = {"tiled": {"tiled": True, "blockxsize": 400, "blockysize": 240}, "striped": {}}
    chunks = {}
    for name, layout in layouts.items():
        write_raster(tmp_path / f"{name}.tif", pixels, driver="GTiff", **layout)
        chunks[name] = open_scene(tmp_path / f"{name}.tif").chunks[1:]
    assert chunks["tiled"] == ((960, 340), (1200, 1200, 200))
    assert chunks["striped"][1] == (1024, 1024, 552)
    assert 900 <= chunks["striped"][0][0] <= 1100


@pytest.mark.parametrize("driver", ["JPEG", "PNG"])
def test_files_decoded_from_the_top_are_read_once(
    tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_raster(tmp_path / "a.img", some_pixels(3, 200, 300), driver=driver)
    windows = []
    read = RasterWindows.read
    monkeypatch.setattr(
        RasterWindows, "read", lambda self, key: windows.append(key[1:]) or read(self, key)
    )
    scene = open_scene(path, chunks=64)
    xr.Dataset({"sum": scene.sum("band"), "valid": valid_pixels(scene)}).compute()
    assert windows == [(slice(0, 200, None), slice(0, 300, None))]
    windows.clear()
    monkeypatch.setattr("csc_xr.raster.READ_BYTES", 300 * 3 * 50)
    np.testing.assert_array_equal(open_scene(path, chunks=64).values, scene.values)
    assert windows[1:] == [(slice(i, i + 50, None), slice(0, 300, None)) for i in (0, 50, 100, 150)]


def test_keys_follow_the_file(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", some_pixels(1, 9, 9), driver="GTiff")
    one, two = open_scene(path), open_scene(path)
    assert one.data.name == two.data.name
    assert pickle.loads(pickle.dumps(one)).identical(one.compute())  # noqa: S301
    write_raster(path, some_pixels(1, 9, 9) + 1, driver="GTiff", compress="lzw")
    assert open_scene(path).data.name != one.data.name


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
    assert names(4, fill=lambda d: setattr(d, "colorinterp", bgr)) == ["blue", "green", "red", "nir"]
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
    np.testing.assert_array_equal(valid_pixels(open_scene(tmp_path / "a.zarr")), ~filled.all(axis=0))
    seven = open_scene(path, nodata=int(pixels[0, 1, 0]))
    np.testing.assert_array_equal(valid_pixels(seven), (pixels != pixels[0, 1, 0]).all(axis=0))


def test_nan_and_infinity_are_not_valid() -> None:
    pixels = np.ones((2, 2, 3), "float32")
    pixels[0, 0, 0], pixels[1, 1, 1], pixels[0, 1, 2] = np.nan, np.inf, -9999
    scene = xr.DataArray(pixels, dims=("band", "y", "x"), attrs={"_FillValue": -9999})
    assert valid_pixels(scene).values.tolist() == [[False, True, True], [True, False, False]]


def test_nodata_no_pixel_can_have_is_none(tmp_path: Path) -> None:
    vrt = tmp_path / "a.vrt"
    write_raster(tmp_path / "a.tif", some_pixels(1, 4, 5), driver="GTiff")
    vrt.write_text(
        '<VRTDataset rasterXSize="5" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1">'
        "<NoDataValue>-9999</NoDataValue><SimpleSource><SourceFilename relativeToVRT='1'>a.tif"
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    scene = open_scene(vrt)
    assert scene.rio.nodata is None
    assert valid_pixels(scene).all()


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
    for name, mask in wrong.items():
        with pytest.raises(SceneError, match="must be one band on the grid of the image"):
            open_scene(path, mask=mask)
            pytest.fail(f"the mask of another {name} was taken")
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
