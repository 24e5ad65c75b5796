"""Sets of labelled tiles: several as one, fewer of a class, turned copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from csc_xr.blockwise import map_leading
from csc_xr.errors import ParameterError, TileError
from csc_xr.priorities import check_seed, lowest_of_each, pixel_priority
from csc_xr.tiles.layout import PER_TILE, UNKNOWN_PLACE, band_names, tile_legend, validate_tiles

QUARTER_TURNS = 4
N_VARIANTS = 2 * QUARTER_TURNS
"""Ways to turn a tile by quarters and flip it; variant v is turned v % 4 times, flipped from 4."""


def join_tiles(sets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put several sets of labelled tiles together.

    Parameters
    ----------
    sets : sequence of xarray.Dataset
        Labelled tiles of one size, dtype, scale and legend, with the same bands.

    Returns
    -------
    xarray.Dataset
        All tiles, in the order given; pixels stay lazy. A scene that several sets were cut from
        (of the same name and source) is one scene; those without a source are never the same.

    Raises
    ------
    TileError
        When the sets do not fit together.
    """
    if not sets:
        raise TileError("There must be one set of labelled tiles at least, got none.")
    first, *others = checked = [validate_tiles(tiles) for tiles in sets]
    if not others:
        return first
    for number, tiles in enumerate(others, 2):
        for what, (wanted, came) in _differences(first, tiles).items():
            raise TileError(
                f"Sets of tiles must agree to be joined: the {what} of the first is {wanted}, of "
                f"set {number} it is {came}. Cut the tiles anew in one way, or train apart."
            )
    scenes: list[dict[str, str]] = []
    numbers = []
    for tiles in checked:
        number_of = np.array([_number_of(entry, scenes) for entry in tiles.attrs["scenes"]])
        numbers.append(number_of[tiles["scene"].values])
    origins = [tiles.attrs.get("origin", {}) for tiles in checked]
    alike = all(origin == origins[0] for origin in origins)
    joined = _concatenated(checked).assign(scene=("tile", np.concatenate(numbers)))
    return validate_tiles(
        joined.assign_attrs(scenes=scenes, origin=origins[0] if alike else {"joined": origins})
    )


def _concatenated(sets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put sets behind each other that have the attributes of the first."""
    values = {name: np.concatenate([tiles[name].values for tiles in sets]) for name in PER_TILE}
    pixels = da.concatenate([tiles["pixels"].data for tiles in sets])
    return xr.Dataset(
        {
            "pixels": (sets[0]["pixels"].dims, pixels),
            **{name: ("tile", array) for name, array in values.items()},
        },
        coords={"band": sets[0]["band"]},
        attrs=sets[0].attrs,
    )


def _noted(tiles: xr.Dataset, facts: dict[str, object]) -> xr.Dataset:
    """Note in the origin of tiles what became of them."""
    return tiles.assign_attrs(origin=tiles.attrs.get("origin", {}) | facts)


def _number_of(entry: dict[str, str], scenes: list[dict[str, str]]) -> int:
    """Find a scene among others by name and source, or add it to them."""
    if not entry["source"] or entry not in scenes:
        scenes.append(entry)
        return len(scenes) - 1
    return scenes.index(entry)


def thin_tiles(tiles: xr.Dataset, *, per_class: int, seed: int = 0) -> xr.Dataset:
    """Keep a random subset of at most so many tiles of each class.

    Which are kept depends on their places and the seed, not on chunks or the order of the tiles.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.
    per_class : int
        Most tiles of a class.
    seed : int
        Another seed keeps others.

    Returns
    -------
    xarray.Dataset
        The kept ones in their order; pixels stay lazy.

    Raises
    ------
    ParameterError
        When ``per_class`` is below 1.
    """
    check_per_class(per_class)
    check_seed(seed)
    tiles = validate_tiles(tiles)
    kept = lowest_of_each(tiles["code"].values, tile_priorities(tiles, seed), per_class)
    if len(kept) == tiles.sizes["tile"]:
        return tiles
    return _noted(tiles.isel(tile=kept), {"per_class": per_class})


def check_per_class(per_class: int) -> None:
    """Check the most tiles of a class that are kept.

    Parameters
    ----------
    per_class : int
        Tiles.

    Raises
    ------
    ParameterError
        When it is below 1.
    """
    if per_class < 1:
        raise ParameterError(f"per_class must be 1 or more tiles, got {per_class}.")


def add_copies(
    tiles: xr.Dataset, *, flips: bool = False, noise: float = 0.0, seed: int = 0
) -> xr.Dataset:
    """Add copies of tiles turned by 90, 180 and 270 degrees, with noise, to their set.

    A network is fitted to turned and noisy tiles anyway, drawn afresh in every epoch; copies in
    the set are for exchange with programs that expect them.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles without copies.
    flips : bool
        Also copies that are mirrored and then turned: 7 copies of a tile in place of 3.
    noise : float
        Whole numbers drawn evenly from [-noise, noise) are added to each band of each pixel of
        the copies, and what then leaves the range of the dtype is set to its end. Pixels that
        are 0 in all bands, which have no data, stay.
    seed : int
        Of the noise, which otherwise depends on the place of a tile alone.

    Returns
    -------
    xarray.Dataset
        The tiles, then all copies of each turn; lazy.

    Raises
    ------
    ParameterError
        When the noise is negative.
    TileError
        When the set holds copies already.
    """
    if not 0 <= noise < np.inf:
        raise ParameterError(f"noise must be 0 or more, got {noise}.")
    check_seed(seed)
    tiles = validate_tiles(tiles)
    if tiles["variant"].values.any():
        raise TileError(
            "Copies are added to tiles as they were cut, but this set holds copies already. "
            "Select its tiles of variant 0 first."
        )
    sets = [tiles]
    for variant in range(1, N_VARIANTS if flips else QUARTER_TURNS):
        copies = tiles.assign(variant=("tile", np.full(tiles.sizes["tile"], variant, np.uint8)))
        keys = tile_priorities(copies, seed)
        turned = map_leading(_vary, tiles["pixels"].data, keys, argument=(variant, noise))
        sets.append(copies.assign(pixels=(tiles["pixels"].dims, turned)))
    kinds = "turned and flipped" if flips else "turned"
    return validate_tiles(_noted(_concatenated(sets), {"copies": kinds, "copy_noise": noise}))


def turn(tiles: NDArray[np.generic], variant: int) -> NDArray[np.generic]:
    """Turn tiles by quarters and flip them.

    Parameters
    ----------
    tiles : ndarray
        Rows and columns are the last two axes, equally long.
    variant : int
        Quarter turns, counter-clockwise; from 4 on mirrored up to down after them.

    Returns
    -------
    ndarray
        Same shape and dtype.

    Examples
    --------
    >>> turn(np.array([[1, 2], [3, 4]]), 1).tolist(), turn(np.array([[1, 2], [3, 4]]), 4).tolist()
    ([[2, 4], [1, 3]], [[3, 4], [1, 2]])
    """
    turned = np.rot90(tiles, variant % QUARTER_TURNS, axes=(-2, -1))
    return turned[..., ::-1, :] if variant >= QUARTER_TURNS else turned


def tile_priorities(tiles: xr.Dataset, seed: int) -> NDArray[np.uint64]:
    """Hash the place of each tile, and of each copy, with a seed.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles; pixels are not read.
    seed : int
        Seed.

    Returns
    -------
    ndarray of uint64
        Shape (tiles,); where places are unknown the order of the tiles takes their part.
    """
    rows = tiles["row"].values
    rows = np.where(rows == UNKNOWN_PLACE, np.arange(len(rows)), rows)
    columns = np.maximum(tiles["column"].values, 0)
    return place_priorities(
        tiles["scene"].values, rows, columns, tiles["variant"].values, seed=seed
    )


def place_priorities(
    scenes: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    variants: NDArray[np.uint8] | int = 0,
    *,
    seed: int,
) -> NDArray[np.uint64]:
    """Hash places of tiles with a seed.

    Parameters
    ----------
    scenes, rows, columns : ndarray of int64
        Shape (tiles,).
    variants : ndarray of uint8 or int
        Variants of the tiles.
    seed : int
        Seed.

    Returns
    -------
    ndarray of uint64
        Shape (tiles,).
    """
    return pixel_priority(rows, columns * N_VARIANTS + variants, seed, scenes)


def _differences(first: xr.Dataset, other: xr.Dataset) -> dict[str, tuple[object, object]]:
    facts = [
        {
            "tile size": tiles.sizes["y"],
            "bands": band_names(tiles),
            "dtype": str(tiles["pixels"].dtype),
            "scale": tiles.attrs["scale"],
            "legend": tile_legend(tiles).to_dict(),
            "class key": tiles.attrs.get("class_key"),
        }
        for tiles in (first, other)
    ]
    return {what: (facts[0][what], facts[1][what]) for what in facts[0]
            if facts[0][what] != facts[1][what]}  # fmt: skip


def _vary(
    block: NDArray[np.generic], keys: NDArray[np.uint64], argument: tuple[int, float]
) -> NDArray[np.generic]:
    variant, noise = argument
    turned = turn(block, variant).copy()  # never a view of the chunk
    if not noise:
        return turned
    for tile, key in zip(turned, keys, strict=True):
        random = np.random.Generator(np.random.Philox(key=int(key)))
        tile[:] = with_noise(tile, noise, random)
    return turned


def with_noise(
    tile: NDArray[Any], noise: float, random: np.random.Generator
) -> NDArray[np.generic]:
    """Add noise to the pixels of a tile that have data.

    Parameters
    ----------
    tile : ndarray
        Shape (bands, rows, columns).
    noise : float
        Whole numbers from [-noise, noise) are added.
    random : numpy.random.Generator
        Where the numbers come from.

    Returns
    -------
    ndarray
        Same shape and dtype, inside the range of an integer dtype.
    """
    drawn = np.floor(random.uniform(-noise, noise, tile.shape))
    noisy = tile + np.where((tile != 0).any(axis=0), drawn, 0)
    if tile.dtype.kind in "ui":
        limits = np.iinfo(tile.dtype.type)
        noisy = np.clip(noisy, limits.min, limits.max)
    return noisy.astype(tile.dtype)
