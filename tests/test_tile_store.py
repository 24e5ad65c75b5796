"""Stores of labelled tiles: what comes back, what is refused, and what a failure leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from networks_for_tests import LEGEND, noise_scene
from rasters_for_tests import never
from tiles_for_tests import coloured_tiles

from csc_xr.errors import OutputError, TileError
from csc_xr.scene import write_scene
from csc_xr.tiles import layout
from csc_xr.tiles.cutting import extract_tiles
from csc_xr.tiles.keys import ClassKey, class_key_of, with_class_key
from csc_xr.tiles.layout import tiles_per_chunk
from csc_xr.tiles.sets import join_tiles
from csc_xr.tiles.split import split_tiles
from csc_xr.tiles.store import open_tiles, write_tiles


def as_dtype(dtype: str) -> xr.Dataset:
    tiles = coloured_tiles(8, size=6)
    pixels = tiles["pixels"].astype(dtype)
    return tiles.assign(pixels=pixels / 3 if pixels.dtype.kind == "f" else pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_everything_comes_back(dtype: str, tmp_path: Path) -> None:
    tiles = as_dtype(dtype).assign_attrs(scale=8192.0)
    tiles = tiles.assign(variant=tiles["variant"] + 3)
    written = write_tiles(tiles, tmp_path / "tiles.zarr")
    with dask.config.set(scheduler=never):
        found = open_tiles(tmp_path / "tiles.zarr")
    for one in (written, found):
        xr.testing.assert_identical(one, tiles)
        for name in (*tiles.data_vars, "band"):
            assert one[name].dtype.kind in (tiles[name].dtype.kind, "O", "T"), name
        assert one["pixels"].dtype == dtype
        assert "_FillValue" not in one["pixels"].attrs
    stored = json.loads((tmp_path / "tiles.zarr" / "zarr.json").read_text(encoding="utf-8"))
    assert stored["attributes"]["kind"] == "csc_xr labelled tiles"
    assert stored["zarr_format"] == 3


def test_zero_and_nan_stay(tmp_path: Path) -> None:
    tiles = as_dtype("float32")
    values = tiles["pixels"].values
    values[0, 0, 0] = [np.nan, 0, -0.0, np.inf, 1e-30, -1]
    tiles = tiles.assign(pixels=(tiles["pixels"].dims, values))
    found = write_tiles(tiles, tmp_path / "tiles.zarr")["pixels"].values
    np.testing.assert_array_equal(found, values)


def test_what_was_cut_comes_back(tmp_path: Path) -> None:
    scene = noise_scene((40, 50), chunks=(16, 16), holes=0.01).rename("fjord")
    labels = xr.DataArray(np.repeat(np.uint8([[1], [2]]), 20, 0).repeat(50, 1), dims=("y", "x"))
    tiles = extract_tiles([scene], [labels], legend=LEGEND, tile_size=8, stride=4, per_class=30)
    key = ClassKey({1: 2, 2: 2, 3: 1})
    tiles = with_class_key(tiles, key, LEGEND)
    found = write_tiles(tiles, tmp_path / "tiles.zarr")
    xr.testing.assert_identical(found, tiles)
    assert class_key_of(found) == (key, LEGEND)
    assert split_tiles(found, block_size=16).check.tolist() == (
        split_tiles(tiles, block_size=16).check.tolist()
    )


def test_chunks_of_the_store_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_CHUNK_BYTES", 3 * 6 * 6 * 5)
    assert tiles_per_chunk(3 * 6 * 6) == 5
    assert tiles_per_chunk(10**9) == 1
    tiles = join_tiles([coloured_tiles(8, size=6, chunk=7), coloured_tiles(8, size=6, chunk=4)])
    found = write_tiles(tiles, tmp_path / "tiles.zarr")
    assert found["pixels"].data.chunks[0] == (5,) * 7 + (1,)
    xr.testing.assert_identical(found, tiles)
    again = write_tiles(found.isel(tile=slice(3, None)), tmp_path / "again.zarr")
    xr.testing.assert_identical(again, tiles.isel(tile=slice(3, None)))


def test_a_store_is_replaced_only_when_asked(tmp_path: Path) -> None:
    store = tmp_path / "tiles.zarr"
    write_tiles(coloured_tiles(8, size=6), store)
    other = coloured_tiles(12, size=5)
    with pytest.raises(OutputError, match=r"tiles\.zarr must not exist yet.*overwrite=True"):
        write_tiles(other, store)
    xr.testing.assert_identical(write_tiles(other, store, overwrite=True), other)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(_: np.ndarray) -> np.ndarray:
        raise OSError("the file is gone")

    tiles = coloured_tiles(8, size=6)
    pixels = tiles["pixels"]
    broken = pixels.copy(data=pixels.data.map_blocks(fail, meta=np.empty(0, "u1")))
    with pytest.raises(OSError, match="the file is gone"):
        write_tiles(tiles.assign(pixels=broken), tmp_path / "tiles.zarr")
    assert list(tmp_path.iterdir()) == []
    write_tiles(tiles, tmp_path / "tiles.zarr")
    with pytest.raises(OSError, match="the file is gone"):
        write_tiles(tiles.assign(pixels=broken), tmp_path / "tiles.zarr", overwrite=True)
    xr.testing.assert_identical(open_tiles(tmp_path / "tiles.zarr"), tiles)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiles.zarr"]


def test_only_labelled_tiles_are_written(tmp_path: Path) -> None:
    with pytest.raises(TileError, match="code is missing"):
        write_tiles(coloured_tiles(8).drop_vars("code"), tmp_path / "tiles.zarr")
    assert list(tmp_path.iterdir()) == []


def test_other_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TileError, match=r"nothing\.zarr must be a Zarr store .* does not exist"):
        open_tiles(tmp_path / "nothing.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TileError, match=r"folder must be a Zarr store .*, but is none"):
        open_tiles(tmp_path / "folder")
    write_scene(noise_scene((8, 8)), tmp_path / "scene.zarr")
    with pytest.raises(TileError, match=r"must be a store of labelled tiles, but holds scene"):
        open_tiles(tmp_path / "scene.zarr")
    zarr.save_array(str(tmp_path / "array.zarr"), np.zeros(3))
    with pytest.raises(TileError, match=r"array\.zarr must be a Zarr store that xarray reads"):
        open_tiles(tmp_path / "array.zarr")
    store = tmp_path / "tiles.zarr"
    write_tiles(coloured_tiles(8, size=6), store)
    whole = (store / "zarr.json").read_text(encoding="utf-8")
    (store / "zarr.json").write_text(whole[:60], encoding="utf-8")
    with pytest.raises(TileError, match=r"opening it failed: .*\. Make it again"):
        open_tiles(store)
    (store / "zarr.json").write_text(whole, encoding="utf-8")
    shutil.rmtree(store / "pixels")
    with pytest.raises(TileError, match=r"must be a store of labelled tiles, but holds .*code"):
        open_tiles(store)


def test_bands_keep_their_names(tmp_path: Path) -> None:
    names = ["a", "a long name", "ä"]
    found = write_tiles(coloured_tiles(8).assign_coords(band=names), tmp_path / "tiles.zarr")
    assert found["band"].values.tolist() == names
