"""Files read lazily by windows, and damaged files found early."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from rasters_for_tests import never, reading, some_pixels, write_raster

from csc_xr.errors import SceneError
from csc_xr.raster import RasterWindows
from csc_xr.scene import open_scene, scene_transform, valid_pixels

LEIPZIG_BANDS = ["b02", "b03", "b04", "b06", "b07", "b08", "b11", "ndvi"]


@pytest.mark.parametrize(
    ("name", "bands", "scale"),
    [
        ("st_marguerite/validate/StMarg_31198.jpg", ["red", "green", "blue"], 255.0),
        ("s2_glacier_snow/RGI50-11.A54L04_20170719.tif", ["B02", "B8A", "B08"], 8192.0),
        (
            "s2_leipzig/leipzig_raster.tif",
            LEIPZIG_BANDS,
            1.0,
        ),
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
    windows = watch_reading(monkeypatch)
    scene = open_scene(path, chunks=64)
    xr.Dataset({"sum": scene.sum("band"), "valid": valid_pixels(scene)}).compute()
    assert windows == [(slice(0, 200), slice(0, 300))]


def test_large_files_decoded_from_the_top_are_read_in_strips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_raster(tmp_path / "a.jpg", some_pixels(3, 180, 300), driver="JPEG")
    whole = open_scene(path).values
    monkeypatch.setattr("csc_xr.raster.READ_BYTES", 300 * 3 * 50)
    windows = watch_reading(monkeypatch)
    np.testing.assert_array_equal(open_scene(path, chunks=64), whole)
    rows = [(0, 50), (50, 100), (100, 150), (150, 180)]
    assert sorted(windows, key=str) == sorted(
        ((slice(*span), slice(0, 300)) for span in rows), key=str
    )


def watch_reading(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    windows: list[Any] = []
    read = RasterWindows.read

    def watched(self: RasterWindows, key: Any) -> np.ndarray:
        windows.append(key[1:])
        return read(self, key)

    monkeypatch.setattr(RasterWindows, "read", watched)
    return windows


def test_keys_follow_the_file(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", some_pixels(1, 9, 9), driver="GTiff")
    one, two = open_scene(path), open_scene(path)
    assert one.data.name == two.data.name
    assert pickle.loads(pickle.dumps(one)).identical(one.compute())  # noqa: S301
    write_raster(path, some_pixels(1, 9, 9) + 1, driver="GTiff", compress="lzw")
    assert open_scene(path).data.name != one.data.name


@pytest.mark.parametrize("driver", ["GTiff", "COG", "JP2OpenJPEG", "PNG", "JPEG"])
@pytest.mark.parametrize("kept", [0.4, 0.97])
def test_files_cut_short_are_found_on_opening(tmp_path: Path, driver: str, kept: float) -> None:
    path = write_raster(tmp_path / "a.img", some_pixels(3, 300, 200), driver=driver)
    assert open_scene(path).shape == (3, 300, 200)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(SceneError, match=r"a.img must be complete, but .* again\."):
        open_scene(path)


def test_blocks_in_any_order_are_checked(tmp_path: Path) -> None:
    """Files written by several threads need not end with their last block."""
    path = tmp_path / "a.tif"
    pixels = some_pixels(1, 64, 64)
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "driver": "GTiff"}

    def last_tile_first(dataset: Any) -> None:
        dataset.write(pixels[:, 48:, 48:], window=((48, 64), (48, 64)))

    write_raster(path, pixels, fill=last_tile_first, compress="lzw", **tiles)
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    with pytest.raises(SceneError, match="bytes long and needs"):
        open_scene(path)
    np.testing.assert_array_equal(
        open_scene(write_raster(path, pixels * 0, sparse_ok=True, **tiles)), pixels * 0
    )


@pytest.mark.parametrize("content", [b"", b"no image\n", b"II*\0nonsense"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(SceneError, match="must be an image GDAL can read, but it cannot be opened"):
        open_scene(path)


def test_damage_found_while_computing_is_understandable(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", some_pixels(1, 600, 64), driver="GTiff", compress="lzw")
    scene = open_scene(path, chunks=64)
    content = bytearray(path.read_bytes())
    content[2000:4000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"a.tif must be readable, but rows \d+ to \d+ of it are"):
        scene.compute()
    write_raster(path, some_pixels(1, 500, 64), driver="GTiff")
    with pytest.raises(SceneError, match="must stay as it was opened, 600 x 64 pixels, but now is"):
        scene.compute()
    path.unlink()
    with pytest.raises(SceneError, match="cannot be opened"):
        scene.compute()


@pytest.mark.parametrize("chunks", [0, -2, 1.5, (1, 2, 3), {"z": 1}, "auto"])
def test_chunks_must_be_numbers_of_pixels(tmp_path: Path, chunks: Any) -> None:
    path = write_raster(tmp_path / "a.tif", some_pixels(1, 30, 20), driver="GTiff")
    assert open_scene(path, chunks={"y": 8}).chunks == ((1,), (8, 8, 8, 6), (20,))
    with pytest.raises(SceneError, match="chunks must be a number of pixels"):
        open_scene(path, chunks=chunks)


def test_threads_read_one_file_at_once(tmp_path: Path) -> None:
    pixels = some_pixels(3, 256, 256)
    path = write_raster(
        tmp_path / "a.tif",
        pixels,
        driver="GTiff",
        photometric="RGB",
        tiled=True,
        blockxsize=16,
        blockysize=16,
    )
    scene = open_scene(path, chunks=16)
    with dask.config.set(scheduler="threads", num_workers=8):
        np.testing.assert_array_equal(scene, pixels)
