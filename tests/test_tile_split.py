"""An honest split: no pixel of a tile that measures is learned from."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import BANDS, LEGEND

from csc_xr.errors import ParameterError, TileError
from csc_xr.legend import GLACIER
from csc_xr.synthetic import fjord
from csc_xr.tiles.cutting import extract_tiles
from csc_xr.tiles.layout import UNKNOWN_PLACE, tile_dataset
from csc_xr.tiles.purity import WindowRule
from csc_xr.tiles.sets import add_copies
from csc_xr.tiles.split import TileSplit, split_tiles


def placed_tiles(
    places: list[tuple[int, int, int]], codes: list[int], *, size: int = 4, scenes: int = 0
) -> xr.Dataset:
    """Make tiles of blank pixels at (scene, row, column)."""
    scene, row, column = np.array(places).T
    count = scenes or int(scene.max()) + 1
    return tile_dataset(
        da.zeros((len(places), 3, size, size), dtype=np.uint8),
        code=np.array(codes), scene=scene, row=row, column=column, bands=BANDS, scale=255.0,
        legend=LEGEND, origin={},
        scenes=[{"name": f"scene {number}", "source": ""} for number in range(count)],
    )  # fmt: skip


def grid(scenes: int, side: int, size: int, stride: int, seed: int = 0) -> xr.Dataset:
    """Make all windows of square scenes, classes in patches."""
    starts = WindowRule(size, stride, 1.0, 0.0).starts(side).tolist()
    places = [
        (scene, row, column) for scene in range(scenes) for row in starts for column in starts
    ]
    random = np.random.default_rng(seed).integers(1, 4, (scenes, 1 + side // 9, 1 + side // 9))
    codes = [int(random[scene, row // 9, column // 9]) for scene, row, column in places]
    return placed_tiles(places, codes, size=size)


def shares_a_pixel(tiles: xr.Dataset, split: TileSplit) -> bool:
    size = tiles.sizes["y"]
    place = np.stack([tiles[name].values for name in ("scene", "row", "column")], axis=1)
    apart = np.abs(place[split.learn][:, None] - place[split.check][None])
    return bool(((apart[..., 0] == 0) & (apart[..., 1:] < size).all(axis=-1)).any())


def check(tiles: xr.Dataset, split: TileSplit) -> None:
    assert not shares_a_pixel(tiles, split)
    assert not set(split.learn.tolist()) & set(split.check.tolist())
    for members in (split.learn, split.check):
        assert members.dtype == np.int64
        assert (np.diff(members) > 0).all()
        assert len(members) > 0
    codes = tiles["code"].values
    assert set(codes[split.learn].tolist()) == set(codes.tolist())


@settings(max_examples=60, deadline=None)
@given(
    places=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 60), st.integers(0, 60)),
        min_size=1, max_size=60, unique=True,
    ),
    size=st.integers(1, 9),
    by=st.sampled_from(["auto", "scene", "block"]),
    blocks=st.none() | st.integers(9, 40),
    share=st.sampled_from([0.1, 0.2, 0.5, 0.9]),
    copies=st.booleans(),
    data=st.data(),
)  # fmt: skip
def test_no_pixel_is_on_both_sides(
    places: list[tuple[int, int, int]], size: int, by: Any, blocks: int | None, share: float,
    copies: bool, data: st.DataObject,
) -> None:  # fmt: skip
    codes = data.draw(st.lists(st.integers(1, 3), min_size=len(places), max_size=len(places)))
    tiles = placed_tiles(places, codes, size=size, scenes=4)
    tiles = add_copies(tiles, flips=True) if copies else tiles
    try:
        split = split_tiles(tiles, by=by, share=share, block_size=blocks, seed=len(places))
    except TileError:
        return  # too few scenes, blocks or tiles of a class: refused, not split badly
    check(tiles, split)
    side = np.zeros(tiles.sizes["tile"], int)
    side[split.learn], side[split.check] = 1, 2
    if copies:  # all copies of a tile are on the side of the tile
        assert (side.reshape(8, -1) == side[: len(places)]).all()


@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(2, 8), stride=st.integers(1, 9), share=st.sampled_from([0.15, 0.3]),
    seed=st.integers(0, 5),
)  # fmt: skip
def test_windows_of_any_stride(size: int, stride: int, share: float, seed: int) -> None:
    tiles = grid(1, 70, size, stride, seed)
    split = split_tiles(tiles, by="block", block_size=3 * size, share=share, seed=seed)
    check(tiles, split)


@pytest.mark.parametrize(("scenes", "by"), [(1, "block"), (2, "block"), (12, "scene")])
def test_auto_holds_out_about_the_share(scenes: int, by: str) -> None:
    tiles = grid(scenes, 200 if by == "block" else 50, 6, 3)
    split = split_tiles(tiles, share=0.2)
    check(tiles, split)
    assert split.description["by"] == by
    count = tiles.sizes["tile"]
    used = len(split.learn) + len(split.check)
    if by == "scene":
        assert used == count
        assert len(set(split.description["scenes"])) == 2  # nearest to a fifth of 12
    else:
        assert split.description["block_size"] == 60
        assert split.description["used_for_neither"] == count - used < 0.2 * count
    assert 0.12 < len(split.check) / used < 0.26
    for code in (1, 2, 3):
        members = tiles["code"].values == code
        held = members[split.check].sum()
        assert 0.05 < held / (held + members[split.learn].sum()) < 0.35


def test_seed_decides() -> None:
    tiles = grid(12, 20, 6, 3)
    one, again, other = (split_tiles(tiles, seed=seed) for seed in (1, 1, 2))
    assert one.check.tolist() == again.check.tolist()
    assert one.description == again.description
    assert one.check.tolist() != other.check.tolist()


def test_named_scenes_are_held_out() -> None:
    tiles = grid(3, 20, 6, 3)
    split = split_tiles(tiles, scenes=["scene 1"], by="scene")
    assert split.description == {"by": "scene", "scenes": ["scene 1"]}
    assert set(tiles["scene"].values[split.check].tolist()) == {1}
    assert set(tiles["scene"].values[split.learn].tolist()) == {0, 2}


def test_scenes_of_one_name_are_held_out_together() -> None:
    tiles = grid(3, 20, 6, 3)
    tiles.attrs["scenes"][2]["name"] = "scene 1"
    split = split_tiles(tiles, scenes=["scene 1"])
    assert set(tiles["scene"].values[split.learn].tolist()) == {0}


def test_no_split_learns_from_all() -> None:
    split = split_tiles(grid(1, 20, 6, 3), by="none")
    assert split.learn.tolist() == list(range(36))
    assert len(split.check) == 0
    assert split.description == {"by": "none"}


@pytest.mark.parametrize("seed", range(4))
def test_one_scene_alone_is_split_by_smaller_blocks(seed: int) -> None:
    """Blocks of ten tiles are as large as the scene, so either all is held out or nothing."""
    given = fjord((500, 600), seed=seed)
    tiles = extract_tiles(
        [given["scene"]], [given["labels"]],
        legend=GLACIER, tile_size=50, stride=25, purity=0.7,
    )  # fmt: skip
    split = split_tiles(tiles, seed=seed)
    check(tiles, split)
    codes = tiles["code"].values
    assert set(codes[split.check].tolist()) == set(codes.tolist())
    assert split.description["block_size"] in (150, 100)
    for larger in (side for side in (500, 250, 150) if side > split.description["block_size"]):
        try:
            other = split_tiles(tiles, by="block", block_size=larger, seed=seed)
        except TileError:
            continue
        assert set(codes[other.check].tolist()) < set(codes.tolist())


def test_the_blocks_taken_are_those_that_hold_out_most_classes() -> None:
    """A class of one tile can be held out by no blocks; the others are measured all the same."""
    tiles = grid(1, 50, 6, 3)
    codes = np.where(np.arange(tiles.sizes["tile"]) == 7, 2, 1).astype(np.uint8)
    tiles = tiles.assign(code=("tile", codes))
    split = split_tiles(tiles)
    check(tiles, split)
    assert split.description["block_size"] == 30
    assert set(codes[split.check].tolist()) == {1}


def test_auto_takes_scenes_where_places_are_unknown() -> None:
    unknown = [(scene, UNKNOWN_PLACE, UNKNOWN_PLACE) for scene in (0, 0, 1, 1)]
    tiles = placed_tiles(unknown, [1, 2, 1, 2])
    assert split_tiles(tiles).description["by"] == "scene"
    with pytest.raises(TileError, match=r"places of the tiles .* came without\. Split by scene"):
        split_tiles(tiles, by="block")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"by": "tile"}, "by must be auto, scene, block or none, got 'tile'"),
        ({"share": 0.0}, r"share must lie between 0 and 1, got 0\.0"),
        ({"share": 1.0}, r"share must lie between 0 and 1, got 1\.0"),
        ({"scenes": ["scene 7"]}, "cut from, scene 0, scene 1, got scene 7"),
        ({"scenes": []}, "cut from, scene 0, scene 1, got none"),
        ({"by": "block", "block_size": 3}, "block_size must be at least one tile, 6 px, got 3"),
        ({"by": "block", "block_size": 0}, "block_size must be at least one tile, 6 px, got 0"),
        ({"seed": -1}, "seed must be a whole number of 0 or more, got -1"),
        (
            {"scenes": ["scene 1"], "by": "none"},
            "named for a split by scene, got scene 1 for a split by 'none'. Leave one of them out",
        ),
        (
            {"scenes": ["scene 0", "scene 1"], "by": "block"},
            "got scene 0, scene 1 for a split by 'block'",
        ),
    ],
)
def test_settings_out_of_range(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        split_tiles(grid(2, 20, 6, 3), **changed)


def test_splits_that_cannot_be() -> None:
    with pytest.raises(TileError, match=r"one scene cannot be split by scene\. Split by block"):
        split_tiles(grid(1, 20, 6, 3), by="scene")
    with pytest.raises(TileError, match="no tile lies in what it holds out"):
        split_tiles(grid(1, 20, 6, 3), by="block", block_size=60)
    apart = placed_tiles([(0, 0, 0), (1, 0, 0), (2, 0, 0)], [1, 1, 2])
    with pytest.raises(TileError, match=r"those of 2 Ice are all held out or lie on the border"):
        split_tiles(apart, scenes=["scene 2"])
    across = placed_tiles([(0, 4, 4), (0, 5, 5)], [1, 1], size=4)
    with pytest.raises(TileError, match="those of 1 Water are all held out or lie on the border"):
        split_tiles(across, by="block", block_size=6)
    with pytest.raises(TileError, match="no tile lies in what it holds out"):
        split_tiles(placed_tiles([(0, 0, 0), (0, 9, 9)], [1, 1], scenes=2), scenes=["scene 1"])
