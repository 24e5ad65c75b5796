"""Batches of labelled tiles: balanced, mixed, turned, and within a bound of memory.

All that is random about a batch follows from (seed, epoch, step), so a training that was
interrupted goes on with the very batches it would have had.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from csc_xr.tiles.sets import N_VARIANTS, QUARTER_TURNS, turn
from csc_xr.training.phase_one.settings import TrainSettings

_CHUNKS_AT_ONCE = 8


class Batch(NamedTuple):
    """What a step of training takes.

    Attributes
    ----------
    tiles : ndarray of float32
        Shape (n, row, column, band), scaled.
    codes : ndarray of uint8
        Shape (n,).
    weights : ndarray of float32
        Shape (n,).
    """

    tiles: NDArray[np.float32]
    codes: NDArray[np.uint8]
    weights: NDArray[np.float32]


class TileBatches:
    """Batches of an epoch, for any epoch.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.
    chosen : ndarray of int64
        Positions of the tiles to learn from, ascending.
    settings : TrainSettings
        Batch size, balance, augmentation and memory.
    seed : int
        Of order and augmentation.
    """

    def __init__(
        self, tiles: xr.Dataset, chosen: NDArray[np.int64], settings: TrainSettings, seed: int
    ) -> None:
        self.chosen, self.settings, self.seed = chosen, settings, seed
        self.codes = tiles["code"].values
        self.scale = np.float32(tiles.attrs["scale"])
        self.steps = -(-len(chosen) // settings.batch_size)
        self._shelf = TileShelf(tiles, chosen, settings.memory_limit - settings.memory_limit // 4)
        present, counts = np.unique(self.codes[chosen], return_counts=True)
        self._of_class = [chosen[self.codes[chosen] == code] for code in present]
        drawn = counts**settings.class_power
        self._shares = drawn / drawn.sum()
        self._weights = np.ones(256, np.float32)
        if settings.class_weights == "balanced":
            self._weights[present] = 1 / (len(present) * self._shares)

    def epoch(self, number: int, first_step: int = 0) -> Iterator[Batch]:
        """Give the batches of an epoch; the next is made while one is learned from.

        Parameters
        ----------
        number : int
            The epoch, from 0.
        first_step : int
            Batches before this one are left out.

        Yields
        ------
        Batch
            All of one size.
        """
        random = np.random.default_rng((self.seed, number))
        order = self._shelf.arrange(self._drawn(random), random)
        size = self.settings.batch_size
        with ThreadPoolExecutor(1) as ahead:
            coming = None
            for step in range(first_step, self.steps):
                part = order[step * size : (step + 1) * size]
                following = ahead.submit(self._batch, part, number, step)
                if coming is not None:
                    yield coming.result()
                coming = following
            if coming is not None:
                yield coming.result()

    def _drawn(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Draw the tiles of an epoch: full batches, mixed."""
        total = self.steps * self.settings.batch_size
        ends = np.rint(np.cumsum(self._shares) * total).astype(int)
        wanted = np.diff(ends, prepend=0)
        drawn = [_rounds(*pair, random) for pair in zip(self._of_class, wanted, strict=True)]
        return random.permutation(np.concatenate(drawn))

    def _batch(self, part: NDArray[np.int64], epoch: int, step: int) -> Batch:
        random = np.random.default_rng((self.seed, epoch, step + 1))
        settings = self.settings
        values = self._shelf.take(part).astype(np.float32)
        empty = (values == 0).all(axis=1, keepdims=True)
        if settings.noise:
            values += random.uniform(-settings.noise, settings.noise, values.shape)
        values /= self.scale
        values *= _gains(values.shape[:2], settings, random)[:, :, None, None]
        values = np.where(empty, np.float32(0), values)
        codes = self.codes[part]
        turned = _turned(values, settings, random)
        return Batch(
            np.ascontiguousarray(turned.transpose(0, 2, 3, 1)), codes, self._weights[codes]
        )


class TileShelf:
    """Tiles in memory: all of them, or a few groups of chunks at a time.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.
    chosen : ndarray of int64
        Positions of the tiles that will be asked for, ascending.
    limit : int
        Bytes held at once.
    """

    def __init__(self, tiles: xr.Dataset, chosen: NDArray[np.int64], limit: int) -> None:
        self.pixels = tiles["pixels"].data
        self.tile_bytes = int(np.prod(self.pixels.shape[1:])) * self.pixels.dtype.itemsize
        self.limit = limit
        self.chosen = chosen
        ends = np.cumsum(self.pixels.chunks[0])
        self.starts = ends - self.pixels.chunks[0]
        self.chunk_of = np.searchsorted(ends, np.arange(self.pixels.shape[0]), side="right")
        self.whole = len(chosen) * self.tile_bytes <= limit
        self.group_of = np.zeros(len(ends), np.int64)
        self.held: dict[int, tuple[NDArray[np.int64], NDArray[Any]]] = {}

    def arrange(self, order: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """Bring tiles into an order in which few groups are needed at a time.

        Parameters
        ----------
        order : ndarray of int64
            Positions of tiles.
        random : numpy.random.Generator
            Makes the groups, of random chunks each.

        Returns
        -------
        ndarray of int64
            The same positions, group by group; in their order where all tiles fit in memory.
        """
        if self.whole:
            return order
        counts = np.bincount(self.chunk_of[self.chosen], minlength=len(self.group_of))
        chunks = random.permutation(len(counts))
        filled = np.cumsum(counts[chunks] * self.tile_bytes)
        self.group_of[chunks] = filled // self.limit
        self.held.clear()
        groups = self.group_of[self.chunk_of[order]]
        return order[np.argsort(groups, kind="stable")]

    def take(self, part: NDArray[np.int64]) -> NDArray[Any]:
        """Give the pixels of some tiles, loading their groups if need be.

        Parameters
        ----------
        part : ndarray of int64
            Positions that follow each other in what :meth:`arrange` gave.

        Returns
        -------
        ndarray
            Shape (n, band, row, column), as stored.
        """
        groups = self.group_of[self.chunk_of[part]]
        taken = np.empty((len(part), *self.pixels.shape[1:]), self.pixels.dtype)
        for group in np.unique(groups).tolist():
            if group not in self.held:
                self.held.clear()  # of what came before nothing is needed any more
                members = self.chosen[self.group_of[self.chunk_of[self.chosen]] == group]
                self.held[group] = members, self._load(members)
            members, pixels = self.held[group]
            here = groups == group
            taken[here] = pixels[np.searchsorted(members, part[here])]
        return taken

    def _load(self, members: NDArray[np.int64]) -> NDArray[Any]:
        """Read tiles, a few chunks at a time, into one array."""
        loaded = np.empty((len(members), *self.pixels.shape[1:]), self.pixels.dtype)
        chunks = self.chunk_of[members]
        present = np.unique(chunks)
        for start in range(0, len(present), _CHUNKS_AT_ONCE):
            part = present[start : start + _CHUNKS_AT_ONCE]
            blocks = dask.compute(*(self.pixels.blocks[int(chunk)] for chunk in part))
            for chunk, block in zip(part, blocks, strict=True):
                here = chunks == chunk
                loaded[here] = block[members[here] - self.starts[chunk]]
        return loaded


def _rounds(
    members: NDArray[np.int64], wanted: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Take each member once, in a new order, before any again."""
    rounds = -(-wanted // len(members))
    taken = [random.permutation(members) for _ in range(rounds)]
    return np.concatenate([members[:0], *taken])[:wanted]


def _gains(
    shape: tuple[int, ...], settings: TrainSettings, random: np.random.Generator
) -> NDArray[np.float32]:
    """Draw what each band of each tile is multiplied by."""
    brightness = random.uniform(-settings.brightness, settings.brightness, (shape[0], 1))
    tilt = random.uniform(-settings.tilt, settings.tilt, (shape[0], 1))
    along = np.linspace(1, -1, shape[1]) if shape[1] > 1 else np.zeros(1)
    return ((1 + brightness) * np.exp(tilt * along)).astype(np.float32)


def _turned(
    values: NDArray[np.float32], settings: TrainSettings, random: np.random.Generator
) -> NDArray[np.float32]:
    turns = random.integers(QUARTER_TURNS, size=len(values)) * settings.turns
    flips = random.integers(2, size=len(values)) * settings.flips
    variants = turns + QUARTER_TURNS * flips
    for variant in range(1, N_VARIANTS):
        members = np.flatnonzero(variants == variant)
        values[members] = turn(values[members], variant)
    return values
