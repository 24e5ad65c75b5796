"""Bands put together to a scene: chunks, nodata, resampling, damaged files."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import dask
import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from products_for_tests import CORNER, CRS, write_jp2
from rasterio import crs as crs_module
from rasters_for_tests import never, write_raster

import csc_xr.products.layers as layers_module
from csc_xr.errors import SceneError
from csc_xr.jp2 import jp2_shortfall
from csc_xr.products.layers import BandFile, MaskFile, assemble
from csc_xr.products.target import TargetGrid, choose_grid, native_grid
from csc_xr.products.warp import RESAMPLING
from csc_xr.raster import path_in_zip

SHAPE = (60, 50)


def some_numbers(seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 9000, SHAPE).astype("uint16")
    pixels[10:20, 5:9] = 0
    pixels[30, 30] = 65535
    return pixels


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("layers")
    return str(write_jp2(folder / "x_B05.jp2", some_numbers(), 20, block=32))


def band(path: str, **settings: float) -> BandFile:
    return BandFile("red", path, **settings)  # type: ignore[arg-type]


def numbers(path: str, grid: TargetGrid, **options: object) -> np.ndarray:
    offset = float(options.pop("offset", 0.0))  # type: ignore[arg-type]
    scene = assemble([band(path, offset=offset)], grid=grid, source="x", **options)  # type: ignore[arg-type]
    return scene.values[0]


GRIDS = {
    "half": {"resolution": 10},
    "thrice": {"resolution": 60},
    "odd": {"resolution": 17},
    "cut": {"resolution": 7, "box": (500100, 7399500, 500500, 7400100)},
    "polar": {"crs": "EPSG:3413"},
    "degrees": {"crs": "EPSG:4326"},
}


@pytest.mark.parametrize("resampling", list(RESAMPLING))
@pytest.mark.parametrize("name", list(GRIDS))
@given(rows=st.integers(11, 90), columns=st.integers(11, 90))
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
def test_chunks_do_not_matter(
    file: str, name: str, resampling: str, rows: int, columns: int
) -> None:
    grid = choose_grid(native_grid(file), **GRIDS[name])  # type: ignore[arg-type]
    whole = numbers(file, grid, resampling=resampling, chunks=-1)
    parts = numbers(file, grid, resampling=resampling, chunks=(rows, columns))
    np.testing.assert_array_equal(parts, whole)


def test_nearest_is_the_pixel_that_holds_the_centre(file: str) -> None:
    grid = choose_grid(native_grid(file), crs="EPSG:3413")
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    there = pyproj.Transformer.from_crs(3413, CRS, always_xy=True)
    x, y = there.transform(*(grid.transform @ (columns, rows)))
    column = np.floor((x - CORNER[0]) / 20).astype(int)
    row = np.floor((CORNER[1] - y) / 20).astype(int)
    inside = (column >= 0) & (column < SHAPE[1]) & (row >= 0) & (row < SHAPE[0])
    expected = np.zeros(inside.shape, "uint16")
    expected[inside] = some_numbers()[row[inside], column[inside]]
    np.testing.assert_array_equal(numbers(file, grid, resampling="nearest"), expected)


@pytest.mark.parametrize("resampling", list(RESAMPLING))
@pytest.mark.parametrize("resolution", [7, 10, 33, 60])
def test_nodata_does_not_bleed(tmp_path: Path, resampling: str, resolution: float) -> None:
    pixels = np.full(SHAPE, 4000, "uint16")
    pixels[20:40, 10:30] = 0
    pixels[3, 3] = 0
    path = str(write_jp2(tmp_path / "flat.jp2", pixels, 20))
    for sign in (0.0, -1000.0):
        got = numbers(
            path, choose_grid(native_grid(path), resolution=resolution), resampling=resampling,
            offset=sign,
        )  # fmt: skip
        assert set(np.unique(got)) == {0, 4000 + int(sign)}


def test_bilinear_is_what_it_should_be(tmp_path: Path) -> None:
    pixels = np.array([[100, 200], [300, 400]], "uint16")
    path = str(write_jp2(tmp_path / "four.jp2", pixels, 20))
    got = numbers(path, choose_grid(native_grid(path), resolution=10))
    assert got[1, 1] == 175  # three quarters of each nearest neighbour
    assert got[0, 0] == 100
    means = numbers(path, choose_grid(native_grid(path), resolution=40), resampling="average")
    assert means[-1].tolist() == [250]


@given(
    offset=st.integers(-12000, 2000),
    gain=st.sampled_from([1.0, 0.275, 2.0]),
    dtype=st.sampled_from(["uint16", "uint8", "int16"]),
    nodata=st.sampled_from([0, 255, -9999, None]),
)
@settings(max_examples=60, deadline=None)
def test_numbers_stay_apart(offset: int, gain: float, dtype: str, nodata: int | None) -> None:
    limits = np.iinfo(dtype)
    values = np.arange(limits.min, limits.max + 1).astype(dtype)
    numbers = BandFile("x", "x", gain=gain, offset=offset, nodata=nodata).numbers
    got = numbers.of(values)
    none, full = values == nodata, values == 65535
    assert (got[none] == 0).all()
    assert (got[~none] >= 1).all()
    assert (got[full & ~none] == 65535).all()
    line = np.floor(values * gain + offset + 0.5).clip(1, 65535)
    np.testing.assert_array_equal(got[~none & ~full], line[~none & ~full])
    pairs = [entry.split(":") for entry in numbers.table(np.dtype(dtype)).split(",")]
    places, becomes = np.array(pairs, float).T
    assert (np.diff(places) > 0).all()
    table = np.floor(np.interp(values, places, becomes) + 0.5)
    assert np.abs(table - got).max() <= (0 if gain == 1 else 1)


def test_warped_numbers_are_converted_first(tmp_path: Path, file: str) -> None:
    shifted = some_numbers().astype(int)
    shifted = np.where((shifted > 0) & (shifted < 65535), shifted.clip(1) + 1000, shifted)
    other = str(write_jp2(tmp_path / "shifted.jp2", shifted.astype("uint16"), 20))
    for options in GRIDS.values():
        grid = choose_grid(native_grid(file), **options)  # type: ignore[arg-type]
        np.testing.assert_array_equal(
            numbers(file, grid, resampling="cubic"),
            numbers(other, grid, resampling="cubic", offset=-1000.0),
        )


def test_opening_computes_nothing_and_says_the_same(file: str) -> None:
    grid = choose_grid(native_grid(file), resolution=10)
    with dask.config.set(scheduler=never):
        one, other = (
            assemble([band(file), band(file)], grid=grid, source="x", time=None,
                     mask=MaskFile(file, bits=4))
            for _ in range(2)
        )  # fmt: skip
    assert one.data.name == other.data.name
    assert one.valid.data.name == other.valid.data.name
    again = pickle.loads(pickle.dumps(one))  # noqa: S301
    np.testing.assert_array_equal(again.values, other.values)


def test_crops_are_the_pixels_of_the_file(file: str) -> None:
    native = native_grid(file)
    grid = choose_grid(native, box=(500110, 7399500, 500500, 7399890))
    row, column = round((CORNER[1] - grid.transform.f) / 20), 5
    expected = some_numbers()[row : row + grid.height, column : column + grid.width]
    np.testing.assert_array_equal(numbers(file, grid, chunks=7), expected)
    beyond = TargetGrid(
        native.crs, native.transform @ Affine.translation(-4, -3), SHAPE[0] + 9, SHAPE[1] + 9
    )
    wide = numbers(file, beyond)
    np.testing.assert_array_equal(wide[3 : 3 + SHAPE[0], 4 : 4 + SHAPE[1]], some_numbers())
    assert not wide[:3].any()
    assert not wide[:, -5:].any()


def test_masks(tmp_path: Path, file: str) -> None:
    classes = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype("uint16")
    path = str(write_jp2(tmp_path / "classes.jp2", classes, 20))
    scene = assemble(
        [band(file)], grid=native_grid(file), source="x", mask=MaskFile(path, values=(3, 17))
    )
    np.testing.assert_array_equal(scene.valid, ~np.isin(classes, (3, 17)))
    fine = choose_grid(native_grid(file), resolution=10)
    scene = assemble([band(file)], grid=fine, source="x", mask=MaskFile(path, bits=0b1010))
    expected = (classes & 0b1010) == 0
    np.testing.assert_array_equal(scene.valid, expected.repeat(2, 0).repeat(2, 1))
    assert scene.valid.chunks == scene.chunks[1:]


def test_settings_that_cannot_be_used(tmp_path: Path, file: str) -> None:
    grid = native_grid(file)
    with pytest.raises(SceneError, match="resampling must be one of nearest, bilinear"):
        numbers(file, grid, resampling="best")
    with pytest.raises(SceneError, match="scale of a scene must be a positive number"):
        numbers(file, grid, scale=0)
    floats = write_raster(tmp_path / "f.tif", np.ones((1, 4, 4), "float32"), crs=CRS)
    with pytest.raises(SceneError, match=r"whole numbers of 8 or 16 bits.* got float32"):
        numbers(str(floats), grid)
    with pytest.raises(SceneError, match=r"got 1 band\(s\)"):
        assemble([BandFile("red", file, number=2)], grid=grid, source="x")


def test_a_file_that_changes(tmp_path: Path) -> None:
    path = write_jp2(tmp_path / "x.jp2", some_numbers(), 20)
    grid = choose_grid(native_grid(str(path)), resolution=10)
    scene = assemble([band(str(path))], grid=grid, source="x")
    os.utime(path, (0, 0))
    with pytest.raises(SceneError, match="must stay as it was opened, but changed"):
        scene.compute()


@pytest.mark.parametrize("options", [{}, {"crs": "EPSG:3413"}])
def test_a_file_that_cannot_be_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    path = write_jp2(tmp_path / "x.jp2", some_numbers(), 20, block=32)
    data = path.read_bytes()
    half = parts_of(data)[1]
    path.write_bytes(data[:half] + bytes(len(data) - half))
    monkeypatch.setattr(layers_module, "check_complete", lambda _: None)
    grid = choose_grid(native_grid(str(path)), **options)
    scene = assemble([band(str(path))], grid=grid, source="x")
    with pytest.raises(SceneError, match=r"must be readable, but .*rows 0 to"):
        scene.compute()


def parts_of(data: bytes) -> list[int]:
    """Where the parts of tiles begin."""
    places, at = [], data.find(b"\xff\x90")
    while data[at : at + 2] == b"\xff\x90":
        places.append(at)
        at += int.from_bytes(data[at + 6 : at + 10], "big")
    return places


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("cut", ["half", "tile", "last tile", "end", "byte", "empty end"])
def test_jp2_files_cut_short(tmp_path: Path, cut: str, zipped: bool) -> None:
    path = write_jp2(tmp_path / "x.jp2", some_numbers(), 20, block=32)
    data = path.read_bytes()
    tiles = parts_of(data)
    assert len(tiles) == 4
    length = {
        "half": len(data) // 2, "tile": tiles[2], "last tile": tiles[3],
        "end": len(data) - 2, "byte": len(data) - 1, "empty end": tiles[3],
    }[cut]  # fmt: skip
    damaged = data[:length] + (bytes(len(data) - length) if cut == "empty end" else b"")
    path.write_bytes(damaged)
    name = str(path)
    if zipped:
        with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, "in/x.jp2")
        name = path_in_zip(tmp_path / "x.zip", "in/x.jp2")
    with pytest.raises(SceneError, match=r"x\.jp2 must be complete, but it is"):
        numbers(
            name, TargetGrid(crs_module.CRS.from_string(CRS), Affine(20, 0, 0, 0, -20, 0), 60, 50)
        )


def test_what_a_jp2_lacks(tmp_path: Path) -> None:
    data = write_jp2(tmp_path / "x.jp2", some_numbers(), 20, block=32).read_bytes()
    start = data.find(b"jp2c") - 4
    endless = data[:start] + bytes(4) + data[start + 4 :]  # a last box may have no length
    long = data[:start] + b"\0\0\0\1jp2c" + (len(data) - start + 8).to_bytes(8, "big")
    long += data[start + 8 :]
    bare = data[start + 8 :]
    for whole in (data, endless, long, bare, data + b"\0\0\0\x09xml x"):
        assert jp2_shortfall(io.BytesIO(whole), len(whole)) == ""
    tiles = parts_of(endless)
    for short in (endless[: tiles[2] + 30], endless[: tiles[3] + 4], endless[:-100]):
        assert jp2_shortfall(io.BytesIO(short), len(short)).startswith("cut off after")
    assert jp2_shortfall(io.BytesIO(data[:-1]), len(data) - 1) == (
        f"{len(data) - 1} bytes long and needs {len(data)}"
    )
    assert jp2_shortfall(io.BytesIO(data[:60]), 60) == "without an image inside"
    hole = endless[: tiles[1]] + bytes(len(endless) - tiles[1])
    assert jp2_shortfall(io.BytesIO(hole), len(hole)) == f"damaged at byte {tiles[1]}"
    last = bytearray(bare)
    at = parts_of(bare)[-1]
    last[at + 6 : at + 10] = bytes(4)  # the last part may have no length
    assert jp2_shortfall(io.BytesIO(last), len(last)) == ""
    assert jp2_shortfall(io.BytesIO(last[:-9]), len(last) - 9).startswith("cut off")


@given(cut=st.integers(0, 3000), flips=st.lists(st.integers(0, 2999), max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_told_of_without_an_error(cut: int, flips: list[int]) -> None:
    data = bytearray((b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(range(256)) * 12)[:cut])
    for place in flips:
        if place < len(data):
            data[place] ^= 0xFF
    assert isinstance(jp2_shortfall(io.BytesIO(data), len(data)), str)
