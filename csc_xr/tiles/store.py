"""Zarr stores of labelled tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from zarr.codecs import ZstdCodec

from csc_xr.errors import TileError
from csc_xr.files import plain_values, replacing
from csc_xr.stores import is_store
from csc_xr.tiles.layout import PER_TILE, tiles_per_chunk, validate_tiles

_KIND = "csc_xr labelled tiles"


def write_tiles(tiles: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> xr.Dataset:
    """Stream labelled tiles into a Zarr store (format 3), whole or not at all.

    Computes the pixels, chunk by chunk through Dask; they are never all in memory.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.
    path : str or Path
        The store, usually with the ending ``.zarr``.
    overwrite : bool
        True replaces a store that exists, False refuses to.

    Returns
    -------
    xarray.Dataset
        The tiles as :func:`open_tiles` gives them.

    Raises
    ------
    TileError
        When the dataset does not hold labelled tiles.
    OutputError
        When the store cannot be written, or exists already.
    """
    tiles = validate_tiles(tiles).drop_encoding()
    pixels = tiles["pixels"]
    step = tiles_per_chunk(int(np.prod(pixels.shape[1:])) * pixels.dtype.itemsize)
    step = min(step, pixels.shape[0])
    tiles = tiles.assign(pixels=pixels.chunk({"tile": step, "band": -1, "y": -1, "x": -1}))
    tiles = tiles.assign_coords(band=tiles["band"].values.astype(object))
    tiles.attrs = {**plain_values(tiles.attrs), "kind": _KIND}
    whole = dict.fromkeys(PER_TILE, (tiles.sizes["tile"],))
    encoding: dict[str, dict[str, Any]] = {name: {"chunks": shape} for name, shape in whole.items()}
    # level 1 packs imagery as tightly as Zarr's own level, in half the time
    encoding["pixels"] = {
        "chunks": (step, *pixels.shape[1:]), "compressors": [ZstdCodec(level=1)],
    }  # fmt: skip
    if pixels.dtype.kind == "f":
        encoding["pixels"]["_FillValue"] = None
    with replacing(path, folder=True, overwrite=overwrite) as partial:
        tiles.to_zarr(partial, zarr_format=3, consolidated=False, encoding=encoding)
    return open_tiles(path)


def open_tiles(path: str | Path) -> xr.Dataset:
    """Open a Zarr store of labelled tiles.

    Parameters
    ----------
    path : str or Path
        A store that :func:`write_tiles` wrote.

    Returns
    -------
    xarray.Dataset
        Labelled tiles as :mod:`csc_xr.tiles.layout` describes them; pixels stay on disk until
        they are computed.

    Raises
    ------
    TileError
        When there is no such store, or it holds something else.
    """
    source = Path(path)
    if not is_store(source):
        what = "is none" if source.exists() else "does not exist"
        raise TileError(
            f"{source} must be a Zarr store of labelled tiles, but {what}. "
            "Make one with csc-xr tiles, or check the path."
        )
    try:
        tiles = xr.open_dataset(
            source, engine="zarr", chunks=None, mask_and_scale=False, consolidated=False
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TileError(
            f"{source} must be a Zarr store that xarray reads, but opening it failed: {error}. "
            "Make it again."
        ) from error
    if tiles.attrs.pop("kind", None) != _KIND or "pixels" not in tiles:
        raise TileError(
            f"{source} must be a store of labelled tiles, but holds "
            f"{', '.join(map(str, tiles.data_vars)) or 'nothing'}. Make one with csc-xr tiles."
        )
    step = tiles["pixels"].encoding["preferred_chunks"]["tile"]
    pixels = tiles["pixels"].chunk({"tile": step})
    return validate_tiles(tiles.drop_vars("pixels").load().assign(pixels=pixels).drop_encoding())
