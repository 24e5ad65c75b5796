"""Batches of labelled tiles: balanced, turned, and within a bound of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from tiles_for_tests import coloured_tiles, fit_small, held, quick

from csc_xr.tiles.sets import turn
from csc_xr.training.phase_one.batches import TileBatches, TileShelf


def batches_of(tiles: xr.Dataset, **changed: Any) -> TileBatches:
    return TileBatches(tiles, np.arange(tiles.sizes["tile"]), quick(**changed), seed=0)


def test_batches_are_balanced_turned_and_flipped() -> None:
    tiles = coloured_tiles(8)
    batches = batches_of(tiles, class_power=0)
    drawn = [batch for epoch in range(8) for batch in batches.epoch(epoch)]
    assert all(len(batch.tiles) == len(batch.codes) == 16 for batch in drawn)
    counts = np.bincount(np.concatenate([batch.codes for batch in drawn]))[1:]
    assert counts.max() - counts.min() <= 8  # one a class and epoch
    stored = tiles["pixels"].values.astype(np.float32) / np.float32(255)
    known = {
        turn(tile, variant).transpose(1, 2, 0).tobytes() for tile in stored for variant in range(8)
    }
    seen = {view.tobytes() for batch in drawn for view in batch.tiles}
    assert seen <= known
    assert len(seen) > 2 * len(stored)


def test_each_tile_once_an_epoch_where_classes_are_not_drawn() -> None:
    tiles = coloured_tiles(8)
    plain = batches_of(
        tiles, class_power=1, class_weights="balanced", batch_size=6, turns=False, flips=False
    )
    seen = [tile.tobytes() for batch in plain.epoch(0) for tile in batch.tiles]
    assert len(set(seen)) == 18 == len(seen)
    batch = next(plain.epoch(0))
    np.testing.assert_allclose(batch.weights, np.array([0, 0.75, 0.75, 3])[batch.codes])


@settings(max_examples=25, deadline=None)
@given(
    limit=st.integers(1, 60),
    chunk=st.integers(1, 45),
    power=st.sampled_from([0, 0.5, 1]),
    seed=st.integers(0, 9),
)
def test_little_memory_shows_the_same_tiles(
    limit: int, chunk: int, power: float, seed: int
) -> None:
    tiles = coloured_tiles(chunk=chunk)
    chosen = np.arange(0, tiles.sizes["tile"], 2)
    plain = {"class_power": power, "turns": False, "flips": False, "batch_size": 5}
    tile_bytes = 3 * 16 * 16
    shown = []
    for memory in (2**31, limit * tile_bytes):
        batches = TileBatches(tiles, chosen, quick(**plain, memory_limit=memory), seed=seed)
        seen: list[bytes] = []
        for batch in batches.epoch(3):
            seen += [tile.tobytes() for tile in batch.tiles]
        shown.append(sorted(seen))
    assert shown[0] == shown[1]


@pytest.mark.parametrize(("chunk", "batch"), [(7, 4), (7, 16), (20, 32), (1, 9)])
def test_tiles_in_memory_stay_within_the_limit(
    chunk: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those learned from and those validated on together, whatever a batch reaches over."""
    tiles = coloured_tiles(60, chunk=chunk)
    tile_bytes = 3 * 16 * 16
    shelves: set[TileShelf] = set()
    loads, peaks = [0], [0]
    take, load = TileShelf.take, TileShelf._load

    def watched_take(self: TileShelf, part: np.ndarray) -> np.ndarray:
        shelves.add(self)
        found = take(self, part)
        np.testing.assert_array_equal(found, tiles["pixels"].values[part])
        peaks.append(sum(held.nbytes for each in shelves for _, held in each.held.values()))
        return found

    def watched_load(self: TileShelf, members: np.ndarray) -> np.ndarray:
        loads.append(len(members))
        assert all(each.held == {} for each in shelves if each is self)  # made room before
        return load(self, members)

    monkeypatch.setattr(TileShelf, "take", watched_take)
    monkeypatch.setattr(TileShelf, "_load", watched_load)
    limit = 40 * tile_bytes
    fit_small(tiles, held(tiles), settings=quick(batch_size=batch, memory_limit=limit))
    assert len(shelves) == 2
    assert len(loads) > 8
    assert 0.5 * limit < max(peaks) < limit + 2 * chunk * tile_bytes  # a chunk of either


def test_pixels_without_data_stay_0_under_noise() -> None:
    tiles = coloured_tiles(8)
    values = tiles["pixels"].values.copy()
    values[:, :, :4] = 0
    tiles["pixels"] = tiles["pixels"].copy(data=values)
    tiles = tiles.chunk({"tile": 5})
    batch = next(batches_of(tiles, noise=9, brightness=0.3, turns=False, flips=False).epoch(0))
    assert (batch.tiles[:, :4] == 0).all()
    assert (batch.tiles[:, 4:] != 0).all()


def test_batches_from_a_step_on_are_those_of_the_whole_epoch() -> None:
    batches = batches_of(coloured_tiles(), noise=5, brightness=0.2)
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, 1))
    assert len(rest) == len(whole) - 1
    for a, b in zip(whole[1:], rest, strict=True):
        np.testing.assert_array_equal(a.tiles, b.tiles)


def test_tilt_moves_the_bands_against_each_other() -> None:
    tiles = coloured_tiles(8)
    plain = {"turns": False, "flips": False, "class_power": 1}
    before = next(batches_of(tiles, **plain).epoch(0)).tiles
    after = next(batches_of(tiles, tilt=0.2, **plain).epoch(0)).tiles
    gains = (after / before).mean(axis=(1, 2))
    np.testing.assert_allclose(gains[:, 1], 1, rtol=1e-5)
    np.testing.assert_allclose(gains[:, 0] * gains[:, 2], 1, rtol=1e-4)
    assert 1.05 < gains[:, 0].max() < np.exp(0.2)


def test_classes_are_drawn_by_a_power_of_their_number() -> None:
    tiles = coloured_tiles(64)  # 64, 64 and 16
    batches = batches_of(tiles, class_power=0.5)
    counts = np.bincount(np.concatenate([batch.codes for batch in batches.epoch(0)]))[1:]
    assert counts.tolist() == [58, 57, 29]  # as 8 to 8 to 4
