"""Sets of labelled tiles: joined, thinned, copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from networks_for_tests import LEGEND, noise_scene
from rasters_for_tests import never, write_raster
from runs_for_tests import PLACE
from tiles_for_tests import coloured_tiles

from csc_xr.errors import ParameterError, TileError
from csc_xr.legend import GLACIER
from csc_xr.scene import open_scene
from csc_xr.tiles.cutting import extract_tiles
from csc_xr.tiles.keys import ClassKey, with_class_key
from csc_xr.tiles.layout import UNKNOWN_PLACE, band_names, tile_size, validate_tiles
from csc_xr.tiles.sets import add_copies, join_tiles, thin_tiles, turn, with_noise
from csc_xr.tiles.split import split_tiles


def shuffled(tiles: xr.Dataset, seed: int = 1) -> xr.Dataset:
    return tiles.isel(tile=np.random.default_rng(seed).permutation(tiles.sizes["tile"]))


def by_place(tiles: xr.Dataset) -> dict[tuple[int, ...], bytes]:
    """Pixels of each tile by scene, row, column and variant."""
    places = zip(
        *(tiles[name].values.tolist() for name in ("scene", "row", "column", "variant")),
        strict=True,
    )
    return {
        place: tile.tobytes()
        for place, tile in zip(places, tiles["pixels"].values, strict=True)
    }  # fmt: skip


def test_layout_is_told() -> None:
    tiles = coloured_tiles(8, size=12)
    assert tile_size(tiles) == 12
    assert band_names(tiles) == ("red", "green", "blue")
    whole = tiles.chunk({"y": 5}).pipe(validate_tiles)
    assert whole["pixels"].data.chunks[1:] == ((3,), (12,), (12,))
    assert validate_tiles(tiles.load())["pixels"].chunks is not None


def test_joined_tiles_keep_their_order_and_scenes() -> None:
    first, second = coloured_tiles(8, size=6), coloured_tiles(8, size=6, seed=1)
    first.attrs["scenes"][2]["source"] = "a.tif"
    second.attrs["scenes"] = [
        {"name": "other", "source": "b.tif"},
        {"name": "scene 2", "source": "a.tif"},
        {"name": "scene 0", "source": "elsewhere.tif"},
    ]
    with dask.config.set(scheduler=never):
        joined = join_tiles([first, second])
    assert [entry["name"] for entry in joined.attrs["scenes"]] == [
        "scene 0", "scene 1", "scene 2", "other", "scene 0",
    ]  # fmt: skip
    numbers = np.array([3, 2, 4])[second["scene"].values]
    assert joined["scene"].values.tolist() == [*first["scene"].values.tolist(), *numbers.tolist()]
    np.testing.assert_array_equal(
        joined["pixels"], np.concatenate([first["pixels"], second["pixels"]])
    )
    for name in ("code", "row", "column"):
        assert joined[name].dtype == first[name].dtype
        assert joined[name].values.tolist() == [*first[name].values, *second[name].values]
    assert join_tiles([first]) is first


def test_a_scene_is_one_whatever_its_path_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("images", "elsewhere"):
        (tmp_path / folder).mkdir()
        write_raster(tmp_path / folder / "a.tif", np.ones((3, 12, 12), np.uint8), **PLACE)
    monkeypatch.chdir(tmp_path)
    labels = xr.DataArray(np.ones((12, 12), np.uint8), dims=("y", "x"))
    sets = [
        extract_tiles([open_scene(path)], [labels], legend=LEGEND, tile_size=6, stride=6)
        for path in ("images/a.tif", tmp_path / "images" / "a.tif", "elsewhere/../images/a.tif",
                     "elsewhere/a.tif")
    ]  # fmt: skip
    joined = join_tiles(sets)
    assert joined["scene"].values.tolist() == [0] * 12 + [1] * 4
    assert [entry["source"] for entry in joined.attrs["scenes"]] == [
        str(tmp_path / folder / "a.tif") for folder in ("images", "elsewhere")
    ]


def test_scenes_without_a_source_are_never_the_same() -> None:
    labels = xr.DataArray(np.ones((12, 12), np.uint8), dims=("y", "x"))
    one, other = (
        extract_tiles(
            [noise_scene((12, 12), seed=seed).rename(None)], [labels],
            legend=LEGEND, tile_size=6, stride=6,
        )
        for seed in (0, 1)
    )  # fmt: skip
    assert one.attrs["scenes"] == other.attrs["scenes"] == [{"name": "scene 0", "source": ""}]
    joined = join_tiles([one, other])
    assert joined["scene"].values.tolist() == [0] * 4 + [1] * 4
    assert [entry["name"] for entry in joined.attrs["scenes"]] == ["scene 0", "scene 0"]


def test_origins_are_joined() -> None:
    one, other = coloured_tiles(8, size=6), coloured_tiles(8, size=6, seed=1)
    assert join_tiles([one, other]).attrs["origin"] == {"stride": 6}
    other.attrs["origin"] = {"stride": 3, "seed": 1}
    joined = join_tiles([one, other])
    assert joined.attrs["origin"] == {"joined": [{"stride": 6}, {"stride": 3, "seed": 1}]}
    assert thin_tiles(joined, per_class=3).attrs["origin"] == {
        **joined.attrs["origin"], "per_class": 3,
    }  # fmt: skip
    assert one.attrs["origin"] == {"stride": 6}


def with_attrs(tiles: xr.Dataset, **attrs: Any) -> xr.Dataset:
    return tiles.assign_attrs(attrs)


def test_sets_must_agree() -> None:
    tiles = coloured_tiles(8, size=6)
    keyed = with_class_key(tiles, ClassKey({1: 1, 2: 2, 3: 1}), LEGEND)
    others = {
        "tile size of the first is 6, of set 2 it is 5": coloured_tiles(8, size=5),
        r"bands of the first is \('red', 'green', 'blue'\), of set 2 it is \('a'": (
            tiles.assign_coords(band=["a", "b", "c"])
        ),
        "dtype of the first is uint8, of set 2 it is uint16": tiles.assign(
            pixels=tiles["pixels"].astype(np.uint16)
        ),
        r"scale of the first is 255\.0, of set 2 it is 100": with_attrs(tiles, scale=100.0),
        "legend of the first is .*'test'.*, of set 2 it is .*'glacier'": coloured_tiles(
            8, size=6, legend=GLACIER
        ),
        "class key of the first is None, of set 2": keyed,
    }
    for message, other in others.items():
        with pytest.raises(TileError, match=rf"must agree to be joined: the {message}"):
            join_tiles([tiles, other])
    with pytest.raises(TileError, match="one set of labelled tiles at least, got none"):
        join_tiles([])


def test_thinning_depends_on_places_and_seed_alone() -> None:
    tiles = coloured_tiles(40, size=4)
    one = thin_tiles(tiles, per_class=12, seed=3)
    assert np.bincount(one["code"]).tolist() == [0, 12, 12, 10]
    assert (np.diff(one["row"].values) > 0).all()  # their order stays
    again = thin_tiles(shuffled(tiles).chunk({"tile": 3}), per_class=12, seed=3)
    assert by_place(one) == by_place(again)
    assert by_place(one) != by_place(thin_tiles(tiles, per_class=12, seed=4))
    xr.testing.assert_identical(thin_tiles(tiles, per_class=40), tiles)
    fewer = thin_tiles(one, per_class=5, seed=3)
    assert by_place(fewer) == by_place(thin_tiles(tiles, per_class=5, seed=3))


def test_thinning_tiles_of_unknown_places() -> None:
    tiles = coloured_tiles(40, size=4)
    unknown = xr.full_like(tiles["row"], UNKNOWN_PLACE)
    tiles = tiles.assign(row=unknown, column=unknown)
    kept = thin_tiles(tiles, per_class=12)
    assert np.bincount(kept["code"]).tolist() == [0, 12, 12, 10]
    with pytest.raises(ParameterError, match="per_class must be 1 or more tiles, got 0"):
        thin_tiles(tiles, per_class=0)
    with pytest.raises(ParameterError, match="seed must be a whole number of 0 or more, got -1"):
        thin_tiles(tiles, per_class=1, seed=-1)


@pytest.mark.parametrize(("flips", "count"), [(False, 4), (True, 8)])
def test_copies_are_turned(flips: bool, count: int) -> None:
    tiles = coloured_tiles(8, size=5)
    n = tiles.sizes["tile"]
    with dask.config.set(scheduler=never):
        copies = add_copies(tiles, flips=flips)
    assert copies.sizes["tile"] == count * n
    assert copies["variant"].values.tolist() == np.repeat(np.arange(count), n).tolist()
    told = {"copies": "turned and flipped" if flips else "turned", "copy_noise": 0.0}
    assert copies.attrs == {**tiles.attrs, "origin": {**tiles.attrs["origin"], **told}}
    original, views = tiles["pixels"].values, set()
    for variant in range(count):
        expected = np.rot90(original, variant % 4, axes=(2, 3))
        expected = expected[:, :, ::-1] if variant >= 4 else expected
        found = copies["pixels"].values[variant * n : (variant + 1) * n]
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(found, turn(original, variant))
        views.add(found.tobytes())
        for name in ("code", "scene", "row", "column"):
            assert copies[name].values[variant * n : (variant + 1) * n].tolist() == (
                tiles[name].values.tolist()
            )
    assert len(views) == count
    assert copies.attrs["scenes"] == tiles.attrs["scenes"]  # though none has a source
    split = split_tiles(copies, by="scene")
    sides = np.isin(np.arange(count * n), split.check).reshape(count, n)
    assert (sides == sides[0]).all()  # a copy is where its tile is


def test_noise_is_in_bounds_and_by_place_and_seed() -> None:
    tiles = coloured_tiles(8, size=9)
    values = tiles["pixels"].values.copy()
    values[:, :, 2:4, 3] = 0
    values[:, 0, 5, 5] = 0  # one band only: has data
    values[0, :, 0, :2] = [1, 254]
    tiles = tiles.assign(pixels=(tiles["pixels"].dims, da.from_array(values, chunks=(6, 3, 9, 9))))
    n = len(values)
    noisy = add_copies(tiles, noise=10, seed=2)
    found = noisy["pixels"].values.astype(int)
    np.testing.assert_array_equal(found[:n], values)
    for variant in (1, 2, 3):
        turned = turn(values.astype(int), variant)
        change = found[variant * n : (variant + 1) * n] - turned
        empty = np.broadcast_to((turned == 0).all(axis=1, keepdims=True), turned.shape)
        assert (change[empty] == 0).all()
        inside = (turned > 10) & (turned < 245)
        assert set(np.unique(change[inside])) == set(range(-10, 10))
        assert (np.abs(change) <= 10).all()
    again = add_copies(shuffled(tiles).chunk({"tile": 4}), noise=10, seed=2)
    assert by_place(again) == by_place(noisy)
    fewer = add_copies(tiles.isel(tile=[5, 9]), noise=10, seed=2)
    assert by_place(fewer).items() <= by_place(noisy).items()
    other = by_place(add_copies(tiles, noise=10, seed=3))
    changed = [place for place, tile in by_place(noisy).items() if tile != other[place]]
    assert len(changed) == 3 * n


def test_noise_leaves_its_tiles_alone() -> None:
    """Tiles of one pixel look the same from all sides: a copy of them is still a copy."""
    tiles = coloured_tiles(8, size=1)
    values = tiles["pixels"].values.copy()
    held = tiles.assign(pixels=(tiles["pixels"].dims, da.from_array(values, asarray=False)))
    add_copies(held, noise=50)["pixels"].compute(scheduler="synchronous")
    np.testing.assert_array_equal(values, tiles["pixels"].values)


def test_noise_on_floats_and_signed_numbers() -> None:
    random = np.random.default_rng(0)
    for dtype in ("float32", "int16"):
        tile = np.full((2, 3, 3), -7, dtype)
        noisy = with_noise(tile, 3, random)
        assert noisy.dtype == dtype
        assert noisy.min() >= -10
        assert noisy.max() < -4


def test_copies_need_tiles_as_they_were_cut() -> None:
    tiles = coloured_tiles(8, size=4)
    with pytest.raises(TileError, match=r"this set holds copies already\. Select its tiles of var"):
        add_copies(add_copies(tiles))
    for noise in (-1.0, np.nan, np.inf):
        with pytest.raises(ParameterError, match=f"noise must be 0 or more, got {noise}"):
            add_copies(tiles, noise=noise)
    with pytest.raises(ParameterError, match="seed must be a whole number of 0 or more, got -1"):
        add_copies(tiles, seed=-1)


def test_what_labelled_tiles_must_be() -> None:
    tiles = coloured_tiles(8, size=4)
    wide = xr.DataArray(np.zeros((18, 3, 4, 5), np.uint8), dims=("tile", "band", "y", "x"))
    wrong = {
        "scale, legend and scenes; code, scale is missing": (
            tiles.drop_vars("code").drop_attrs().assign_attrs(scenes=[], legend={})
        ),
        r"squares of dims \(tile, band, y, x\), got .*'y': 4, 'x': 5": (
            tiles.drop_vars("pixels").assign(pixels=wide)
        ),
        "variant uint8, got code int64": tiles.assign(code=tiles["code"].astype(np.int64)),
        "pixels of integers or floats, .*, got pixels bool": tiles.assign(
            pixels=tiles["pixels"] > 0
        ),
        "scale of labelled tiles must be a positive number, got 0": tiles.assign_attrs(scale=0),
        "scale of labelled tiles must be a positive number, got 'x'": tiles.assign_attrs(scale="x"),
        "one labelled tile at least, got none": tiles.isel(tile=[]),
        "codes of legend 'test', 1, 2, 3, got 4, 5, 6": tiles.assign(code=tiles["code"] + 3),
        "one of the 1 named, got numbers from 0 to 2": tiles.assign_attrs(
            scenes=[{"name": "a", "source": ""}]
        ),
        "legend of the labelled tiles cannot be used: A legend needs": tiles.assign_attrs(legend=3),
    }
    for message, given in wrong.items():
        with pytest.raises(TileError, match=message):
            validate_tiles(given)
