"""An honest split: no pixel of a validation tile is ever learned from.

Windows overlap, and copies of a tile show the same pixels again. A random share of the tiles would
therefore hold little that was not learned by heart (docs/training.md has the size of the
effect). Here whole scenes are held out, or whole blocks of scenes; tiles across the border
between learned and held-out blocks are used for neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from csc_xr.errors import ParameterError, TileError
from csc_xr.tiles.layout import UNKNOWN_PLACE, tile_legend, validate_tiles

SplitRule = Literal["auto", "scene", "block", "none"]

BLOCK_TILES = 10
"""Side of the blocks of a split, in tiles."""

_TRIALS = 200
_LEAST_SCENES = 3  # fewer are split by block, or half of what there is would not be learned from


@dataclass(frozen=True, eq=False)
class TileSplit:
    """Which tiles are learned from, and which only measure.

    Attributes
    ----------
    learn, check : ndarray of int64
        Positions of the tiles, ascending; none in both. ``check`` may be empty.
    description : dict
        Rule, seed, and the scenes or the share held out: values that JSON can hold.
    """

    learn: NDArray[np.int64]
    check: NDArray[np.int64]
    description: dict[str, Any]


def split_tiles(
    tiles: xr.Dataset,
    *,
    by: SplitRule = "auto",
    share: float = 0.2,
    scenes: Sequence[str] | None = None,
    block_size: int | None = None,
    seed: int = 0,
) -> TileSplit:
    """Hold out tiles that share no pixel with those learned from.

    Of many random choices of scenes or blocks the one is taken that holds out nearest to the
    wanted share of every class. Pixels are not read.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.
    by : {"auto", "scene", "block", "none"}
        What is held out whole: scenes, or square blocks of every scene; "none" learns from all
        tiles. "auto" takes scenes where there are three or more, else blocks, and scenes also
        where places are unknown.
    share : float
        Share of the tiles to hold out.
    scenes : sequence of str, optional
        Names of the scenes to hold out, in place of a choice.
    block_size : int, optional
        Side of the blocks in pixels; ten tiles when left out.
    seed : int
        Another seed holds out others.

    Returns
    -------
    TileSplit
        The split.

    Raises
    ------
    ParameterError
        When a setting is out of range or names no scene.
    TileError
        When the tiles cannot be split so, or a class would have no tile to learn from.
    """
    tiles = validate_tiles(tiles)
    if by not in ("auto", "scene", "block", "none"):
        raise ParameterError(f"by must be auto, scene, block or none, got {by!r}.")
    if not 0 < share < 1:
        raise ParameterError(f"share must lie between 0 and 1, got {share}.")
    if by == "none" and scenes is None:
        return TileSplit(np.arange(tiles.sizes["tile"]), np.empty(0, np.int64), {"by": "none"})
    if scenes is not None:
        split = _by_scene(tiles, _scene_numbers(tiles, scenes))
    elif by == "block" or (by == "auto" and _few_scenes(tiles)):
        split = _by_block(tiles, share, block_size, seed)
    else:
        split = _by_scene(tiles, _chosen_scenes(tiles, share, seed))
    _check_split(tiles, split)
    return split


def _few_scenes(tiles: xr.Dataset) -> bool:
    known = bool((tiles["row"].values != UNKNOWN_PLACE).all())
    return known and len(np.unique(tiles["scene"].values)) < _LEAST_SCENES


def _scene_numbers(tiles: xr.Dataset, names: Sequence[str]) -> NDArray[np.int64]:
    known = [entry["name"] for entry in tiles.attrs["scenes"]]
    unknown = sorted(set(names) - set(known))
    if unknown or not names:
        raise ParameterError(
            f"scenes must name scenes the tiles were cut from, {', '.join(known)}, "
            f"got {', '.join(unknown) or 'none'}."
        )
    return np.flatnonzero(np.isin(known, list(names)))


def _chosen_scenes(tiles: xr.Dataset, share: float, seed: int) -> NDArray[np.int64]:
    numbers, group = np.unique(tiles["scene"].values, return_inverse=True)
    if len(numbers) < 2:
        raise TileError(
            "Tiles of one scene cannot be split by scene. Split by block, or add scenes."
        )
    return numbers[_held_out(group, tiles["code"].values, share, seed)]


def _by_scene(tiles: xr.Dataset, held: NDArray[np.int64]) -> TileSplit:
    held_out = np.isin(tiles["scene"].values, held)
    names = [tiles.attrs["scenes"][number]["name"] for number in held]
    return TileSplit(
        np.flatnonzero(~held_out), np.flatnonzero(held_out), {"by": "scene", "scenes": names}
    )


def _by_block(tiles: xr.Dataset, share: float, block_size: int | None, seed: int) -> TileSplit:
    size = tiles.sizes["y"]
    block_size = BLOCK_TILES * size if block_size is None else block_size
    if block_size < size:
        raise ParameterError(f"block_size must be at least one tile, {size} px, got {block_size}.")
    place = np.stack([tiles[name].values for name in ("scene", "row", "column")], axis=1)
    if (place[:, 1:] == UNKNOWN_PLACE).any():
        raise TileError(
            "Splitting by block needs the places of the tiles in their scenes, which came without. "
            "Split by scene, or cut the tiles with extract_tiles."
        )
    # the up to four blocks that a tile lies in: those of its corners
    ends = np.array([(0, down, right) for down in (0, size - 1) for right in (0, size - 1)])
    corners = place[None] + ends[:, None]
    corners[..., 1:] //= block_size
    blocks, group = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    group = group.reshape(len(ends), -1)
    if len(blocks) < 2:
        raise TileError(
            f"Tiles must lie in two blocks of {block_size} px at least to be split by block, got "
            "one. Pass a smaller block_size, or add scenes."
        )
    chosen = np.zeros(len(blocks), np.bool_)
    chosen[_held_out(group[0], tiles["code"].values, share, seed)] = True
    inside = chosen[group].sum(axis=0)
    return TileSplit(
        np.flatnonzero(inside == 0),
        np.flatnonzero(inside == len(ends)),
        {
            "by": "block",
            "block_size": block_size,
            "share": share,
            "seed": seed,
            "used_for_neither": int(((inside > 0) & (inside < len(ends))).sum()),
        },
    )


def _held_out(
    group: NDArray[np.intp], codes: NDArray[np.uint8], share: float, seed: int
) -> NDArray[np.intp]:
    """Choose groups that together hold about a share of the tiles of every class."""
    classes, which = np.unique(codes, return_inverse=True)
    counts = np.zeros((group.max() + 1, len(classes)), np.int64)
    np.add.at(counts, (group, which), 1)
    total = counts.sum(axis=0)
    random = np.random.default_rng(seed)
    best, chosen = np.inf, np.empty(0, np.intp)
    for _ in range(_TRIALS if len(counts) > 1 else 0):
        order = random.permutation(len(counts))
        tiles_so_far = counts[order].sum(axis=1).cumsum()
        off = np.abs(tiles_so_far[:-1] - share * tiles_so_far[-1])
        candidate = order[: 1 + int(off.argmin())]
        held = counts[candidate].sum(axis=0) / total
        # a class that is nowhere learned from, or cannot be checked, weighs more than any share
        distance = float(np.abs(held - share).max() + 10 * (held == 1).sum() + (held == 0).sum())
        if distance < best:
            best, chosen = distance, candidate
    return np.sort(chosen)


def _check_split(tiles: xr.Dataset, split: TileSplit) -> None:
    codes, legend = tiles["code"].values, tile_legend(tiles)
    lost = sorted(set(np.unique(codes).tolist()) - set(np.unique(codes[split.learn]).tolist()))
    if lost:
        names = ", ".join(f"{code} {legend.class_name(code)}" for code in lost)
        raise TileError(
            f"Every class must have tiles to learn from, but those of {names} are all held out "
            "or lie on the border of what is. Hold out other scenes, split by block or by smaller "
            "blocks, or label more of these classes."
        )
    if not len(split.check):
        raise TileError(
            "A split must hold out tiles to measure by, but no tile lies in what it holds out. "
            "Hold out other scenes, or take larger blocks."
        )
