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
from csc_xr.priorities import check_seed
from csc_xr.tiles.layout import UNKNOWN_PLACE, tile_legend, validate_tiles

SplitRule = Literal["auto", "scene", "block", "none"]

BLOCK_TILES = (10, 5, 3, 2)
"""Sides of the blocks of a split, in tiles: the first that does is taken."""

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
        Side of the blocks in pixels. Left out, ten tiles, or less where no split by ten holds
        out and learns from every class.
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
    if scenes is not None and by in ("block", "none"):
        raise ParameterError(
            f"Scenes to hold out are named for a split by scene, got {', '.join(scenes)} for a "
            f"split by {by!r}. Leave one of them out."
        )
    check_seed(seed)
    if not 0 < share < 1:
        raise ParameterError(f"share must lie between 0 and 1, got {share}.")
    if by == "none":
        return TileSplit(np.arange(tiles.sizes["tile"]), np.empty(0, np.int64), {"by": "none"})
    if scenes is not None:
        split = _by_scene(tiles, _scene_numbers(tiles, scenes))
    elif by == "block" or (by == "auto" and _few_scenes(tiles)):
        split = _by_blocks(tiles, share, block_size, seed)
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
            "Tiles of one scene cannot be split by scene. Split by block, hold nothing out "
            "(by='none'), or add scenes."
        )
    return numbers[_held_out(group[None], tiles["code"].values, share, seed)]


def _by_scene(tiles: xr.Dataset, held: NDArray[np.int64]) -> TileSplit:
    held_out = np.isin(tiles["scene"].values, held)
    names = [tiles.attrs["scenes"][number]["name"] for number in held]
    return TileSplit(
        np.flatnonzero(~held_out), np.flatnonzero(held_out), {"by": "scene", "scenes": names}
    )


def _by_blocks(tiles: xr.Dataset, share: float, block_size: int | None, seed: int) -> TileSplit:
    """Split by blocks of a size, or by the largest that leave every class on both sides."""
    size = tiles.sizes["y"]
    if block_size is not None and block_size < size:
        raise ParameterError(f"block_size must be at least one tile, {size} px, got {block_size}.")
    if (tiles["row"].values == UNKNOWN_PLACE).any():
        raise TileError(
            "Splitting by block needs the places of the tiles in their scenes, which came without. "
            "Split by scene where there are several, or hold nothing out (by='none')."
        )
    sides = [n * size for n in BLOCK_TILES] if block_size is None else [block_size]
    codes, splits = tiles["code"].values, []
    for side in sides:
        splits.append(_by_block(tiles, share, side, seed))
        if _classes_held(codes, splits[-1]) == len(np.unique(codes)):
            break
    return max(splits, key=lambda split: _classes_held(codes, split))  # of equals the first


def _classes_held(codes: NDArray[np.uint8], split: TileSplit) -> int:
    """Count the classes held out; -1 where one would have no tile to learn from."""
    learned, held = (len(np.unique(codes[part])) for part in (split.learn, split.check))
    return held if learned == len(np.unique(codes)) else -1


def _by_block(tiles: xr.Dataset, share: float, side: int, seed: int) -> TileSplit:
    place = np.stack([tiles[name].values for name in ("scene", "row", "column")], axis=1)
    # the up to four blocks that a tile lies in: those of its corners
    last = tiles.sizes["y"] - 1
    ends = np.array([(0, down, right) for down in (0, last) for right in (0, last)])
    corners = place[None] + ends[:, None]
    corners[..., 1:] //= side
    blocks, group = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    group = group.reshape(len(ends), -1)
    chosen = np.zeros(len(blocks), np.bool_)
    chosen[_held_out(group, tiles["code"].values, share, seed)] = True
    inside = chosen[group].sum(axis=0)
    return TileSplit(
        np.flatnonzero(inside == 0),
        np.flatnonzero(inside == len(ends)),
        {
            "by": "block",
            "block_size": side,
            "share": share,
            "seed": seed,
            "used_for_neither": int(((inside > 0) & (inside < len(ends))).sum()),
        },
    )


def _held_out(
    groups: NDArray[np.intp], codes: NDArray[np.uint8], share: float, seed: int
) -> NDArray[np.intp]:
    """Choose groups that hold out about a share of the tiles of every class.

    A tile is in several groups, one a row of ``groups``: held out when all of them are, learned
    from when none is.
    """
    _, which = np.unique(codes, return_inverse=True)
    kinds, counts = np.unique(np.vstack([groups, which]), axis=1, return_counts=True)
    sizes = np.bincount(kinds[0], counts, minlength=groups.max() + 1)
    random = np.random.default_rng(seed)
    best, chosen = np.inf, np.empty(0, np.intp)
    for _ in range(_TRIALS if len(sizes) > 1 else 0):
        order = random.permutation(len(sizes))
        so_far = sizes[order].cumsum()
        candidate = order[: 1 + int(np.abs(so_far[:-1] - share * so_far[-1]).argmin())]
        inside = np.isin(kinds[:-1], candidate).sum(axis=0)
        learn, check = (
            np.bincount(kinds[-1], counts * (inside == wanted)) for wanted in (0, len(groups))
        )
        held = check / np.maximum(learn + check, 1)
        # a class that is nowhere learned from, or cannot be checked, weighs more than any share
        distance = float(np.abs(held - share).max() + 10 * (learn == 0).sum() + (check == 0).sum())
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
            "or lie on the border of what is. Hold out other scenes, split by smaller blocks, hold "
            "nothing out (by='none'), or label more of these classes."
        )
    if not len(split.check):
        raise TileError(
            "A split must hold out tiles to measure by, but no tile lies in what it holds out. "
            "Hold out other scenes, take blocks of another size, or hold nothing out (by='none')."
        )
