"""How labelled tiles are laid out.

Labelled tiles are an ``xarray.Dataset`` with the dimensions (tile, band, y, x):

``pixels`` (tile, band, y, x)
    In the scenes' own dtype and numbers, Dask-backed; 0 where a scene is not valid.
``code`` (tile), uint8
    The class.
``scene`` (tile), int64
    Position in the attribute ``scenes`` of the scene it was cut from.
``row``, ``column`` (tile), int64
    The first pixel in that scene; -1 where it is not known.
``variant`` (tile), uint8
    0 as it was cut; others are copies turned, flipped or with noise.

The coordinate ``band`` names the bands. Attributes: ``scale``, what networks divide the numbers
by; ``legend``; ``scenes``, a name and source for each; and the settings the tiles were made with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from csc_xr.errors import LegendError, TileError
from csc_xr.legend import ClassLegend

PER_TILE = {
    "code": "uint8",
    "scene": "int64",
    "row": "int64",
    "column": "int64",
    "variant": "uint8",
}
"""Variables with one value a tile, and their dtypes."""

UNKNOWN_PLACE = -1
"""Row and column of tiles that came without."""

_CHUNK_BYTES = 2**22


def tiles_per_chunk(tile_bytes: int) -> int:
    """Give the number of tiles stored together.

    Parameters
    ----------
    tile_bytes : int
        Bytes of one tile.

    Returns
    -------
    int
        As many as 4 MiB hold, at least 1.

    Examples
    --------
    >>> tiles_per_chunk(50 * 50 * 4 * 2)
    209
    """
    return max(1, _CHUNK_BYTES // tile_bytes)


def tile_dataset(
    pixels: da.Array,
    *,
    code: NDArray[Any],
    scene: NDArray[Any],
    row: NDArray[Any],
    column: NDArray[Any],
    bands: Sequence[str],
    scale: float,
    legend: ClassLegend,
    scenes: Sequence[Mapping[str, str]],
    origin: Mapping[str, Any],
    variant: NDArray[Any] | None = None,
) -> xr.Dataset:
    """Put labelled tiles together.

    Parameters
    ----------
    pixels : dask.array.Array
        Shape (tiles, bands, size, size).
    code, scene, row, column : ndarray
        Shape (tiles,), as the module describes them.
    bands : sequence of str
        Names of the bands.
    scale : float
        Divisor of the numbers.
    legend : ClassLegend
        Classes of the codes.
    scenes : sequence of mapping
        ``name`` and ``source`` of each scene.
    origin : mapping
        Settings the tiles were made with: values that JSON can hold.
    variant : ndarray, optional
        Shape (tiles,); 0 for all when left out.

    Returns
    -------
    xarray.Dataset
        The tiles; pixels stay lazy.
    """
    values = {
        "code": code, "scene": scene, "row": row, "column": column,
        "variant": np.zeros(len(code)) if variant is None else variant,
    }  # fmt: skip
    tiles = xr.Dataset(
        {
            "pixels": (("tile", "band", "y", "x"), pixels),
            **{name: ("tile", np.asarray(values[name]).astype(t)) for name, t in PER_TILE.items()},
        },
        coords={"band": list(map(str, bands))},
        attrs={
            "scale": float(scale),
            "legend": legend.to_dict(),
            "scenes": [dict(entry) for entry in scenes],
            "origin": dict(origin),
        },
    )
    return validate_tiles(tiles)


def validate_tiles(tiles: xr.Dataset) -> xr.Dataset:
    """Check that a dataset is laid out as labelled tiles.

    Parameters
    ----------
    tiles : xarray.Dataset
        Any dataset; pixels are not looked at.

    Returns
    -------
    xarray.Dataset
        The tiles, pixels Dask-backed with whole tiles in a chunk.

    Raises
    ------
    TileError
        When variables, dims, dtypes, attributes or codes are not what they must be.
    """
    missing = sorted({"pixels", *PER_TILE} - set(tiles.data_vars))
    missing += sorted({"scale", "legend", "scenes"} - set(tiles.attrs))
    if missing:
        raise TileError(
            f"Labelled tiles must have pixels, {', '.join(PER_TILE)} and the attributes scale, "
            f"legend and scenes; {', '.join(missing)} is missing. Make them with extract_tiles."
        )
    pixels = tiles["pixels"]
    if pixels.dims != ("tile", "band", "y", "x") or pixels.sizes["y"] != pixels.sizes["x"]:
        raise TileError(
            "The pixels of labelled tiles must be squares of dims (tile, band, y, x), got "
            f"{dict(pixels.sizes)}. Make the tiles with extract_tiles."
        )
    wrong = [name for name, dtype in PER_TILE.items() if tiles[name].dtype != dtype]
    if wrong or pixels.dtype.kind not in "uif":
        needed = ", ".join(f"{name} {dtype}" for name, dtype in PER_TILE.items())
        found = ", ".join(f"{name} {tiles[name].dtype}" for name in wrong or ["pixels"])
        raise TileError(
            f"Labelled tiles must hold pixels of integers or floats, {needed}, got {found}. "
            "Convert with astype, or make them with extract_tiles."
        )
    scale = tiles.attrs["scale"]
    if not (isinstance(scale, int | float) and 0 < scale < np.inf):
        raise TileError(
            f"The scale of labelled tiles must be a positive number, got {scale!r}. Pass what "
            "networks are to divide the numbers by."
        )
    if not tiles.sizes["tile"]:
        raise TileError("There must be one labelled tile at least, got none.")
    legend = tile_legend(tiles)
    unknown = sorted(set(np.unique(tiles["code"].values).tolist()) - set(legend.codes))
    if unknown:
        raise TileError(
            f"Tiles must have codes of legend {legend.name!r}, "
            f"{', '.join(map(str, legend.codes))}, got {', '.join(map(str, unknown))}. "
            "Pass the legend the labels were drawn with."
        )
    if not 0 <= int(tiles["scene"].min()) <= int(tiles["scene"].max()) < len(tiles.attrs["scenes"]):
        raise TileError(
            f"The scene of a tile must be one of the {len(tiles.attrs['scenes'])} named, got "
            f"numbers from {int(tiles['scene'].min())} to {int(tiles['scene'].max())}."
        )
    if pixels.chunks is None or any(len(lengths) > 1 for lengths in pixels.chunks[1:]):
        tiles = tiles.assign(pixels=pixels.chunk({"band": -1, "y": -1, "x": -1}))
    return tiles


def tile_legend(tiles: xr.Dataset) -> ClassLegend:
    """Give the legend of labelled tiles.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.

    Returns
    -------
    ClassLegend
        Classes of their codes.

    Raises
    ------
    TileError
        When the attribute is no legend.
    """
    try:
        return ClassLegend.from_dict(tiles.attrs["legend"])
    except (LegendError, TypeError, KeyError, AttributeError) as error:
        raise TileError(f"The legend of the labelled tiles cannot be used: {error}") from error


def tile_size(tiles: xr.Dataset) -> int:
    """Give the side of labelled tiles.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.

    Returns
    -------
    int
        Pixels.
    """
    return int(tiles.sizes["y"])


def band_names(tiles: xr.Dataset) -> tuple[str, ...]:
    """Give the names of the bands of labelled tiles.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.

    Returns
    -------
    tuple of str
        Names, in order.
    """
    return tuple(map(str, tiles["band"].values))


def count_tiles(tiles: xr.Dataset) -> pd.DataFrame:
    """Count the tiles of each class in each scene.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles; pixels are not read.

    Returns
    -------
    pandas.DataFrame
        A row for each scene and one of sums, a column for each class that has tiles and one of
        sums; integers.
    """
    legend = tile_legend(tiles)
    names = [entry["name"] for entry in tiles.attrs["scenes"]]
    codes = np.unique(tiles["code"].values)
    counts = np.zeros((len(names), 256), np.int64)
    np.add.at(counts, (tiles["scene"].values, tiles["code"].values), 1)
    table = pd.DataFrame(
        counts[:, codes],
        index=pd.Index(names, name="Scene"),
        columns=[legend.class_name(int(code)) for code in codes],
    )
    table["All"] = table.sum(axis=1)
    table.loc["All"] = table.sum(axis=0)
    return table
