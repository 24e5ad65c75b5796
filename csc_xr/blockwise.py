"""Functions over chunks: the only caller of ``map_blocks`` and ``map_overlap``.

Everything above this module hands over a function of NumPy arrays and says how far it looks
around a pixel; chunk layouts, halos and declared output chunks are settled here. All of it
stays lazy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import dask
import dask.array as da
import numpy as np

from csc_xr.windows import tile_chunks, tile_count, working_chunks

CHUNK = 512
"""Longest side in pixels of the chunks to work on. The store may have others."""


def map_halo(
    function: Callable[..., Any],
    array: da.Array,
    *,
    halo: int,
    n_outputs: int,
    dtype: Any,
    argument: Any,
    edge: Literal["mirror", "none"],
) -> da.Array:
    """Apply a function that needs a halo to every chunk of an image.

    Parameters
    ----------
    function : callable
        ``function(block, argument)``: a NumPy block of shape (bands, rows + 2 halo,
        columns + 2 halo) to an array of shape (n_outputs, rows, columns).
    array : dask.array.Array
        Shape (bands, y, x), any chunks.
    halo : int
        Pixels needed on every side.
    n_outputs : int
        Length of the first axis of the result.
    dtype : dtype
        Of the result.
    argument : object
        Handed to every call; it becomes one task of its own, so a network travels to each
        worker once, not once per chunk.
    edge : {"mirror", "none"}
        Beyond the image the pixels are mirrored (the edge pixel included), or NaN or 0.

    Returns
    -------
    dask.array.Array
        Shape (n_outputs, y, x), lazy.
    """
    array = _rechunked(array, halo)
    chunks = ((n_outputs,), *array.chunks[1:])
    boundary = "reflect" if edge == "mirror" else (np.nan if array.dtype.kind == "f" else 0)
    return da.map_overlap(
        function,
        array,
        depth={0: 0, 1: halo, 2: halo},
        boundary={0: "none", 1: boundary, 2: boundary},
        trim=False,
        allow_rechunk=False,
        align_arrays=False,
        dtype=dtype,
        chunks=chunks,
        meta=np.empty((0, 0, 0), dtype),
        argument=_once_per_worker(argument),
    )


def map_tiles(
    function: Callable[..., Any],
    array: da.Array,
    *,
    tile_size: int,
    n_outputs: int,
    dtype: Any,
    argument: Any,
) -> da.Array:
    """Apply a function to every chunk of whole tiles.

    Parameters
    ----------
    function : callable
        ``function(block, argument)``: a NumPy block of shape (bands, rows, columns) that holds
        whole tiles, and in the last chunk the remainder, to (n_outputs, tile rows, tile columns).
    array : dask.array.Array
        Shape (bands, y, x), any chunks.
    tile_size : int
        Side of a tile in pixels.
    n_outputs : int
        Length of the first axis of the result.
    dtype : dtype
        Of the result.
    argument : object
        Handed to every call, as in :func:`map_halo`.

    Returns
    -------
    dask.array.Array
        Shape (n_outputs, tile rows, tile columns), lazy.
    """
    rows, columns = (tile_chunks(length, tile_size, CHUNK) for length in array.shape[1:])
    return da.map_blocks(
        function,
        array.rechunk({0: -1, 1: rows, 2: columns}),
        dtype=dtype,
        chunks=(
            (n_outputs,),
            tuple(tile_count(length, tile_size) for length in rows),
            tuple(tile_count(length, tile_size) for length in columns),
        ),
        meta=np.empty((0, 0, 0), dtype),
        argument=_once_per_worker(argument),
    )


def map_columns(function: Callable[..., Any], array: da.Array, *, dtype: Any) -> da.Array:
    """Reduce the first axis of every chunk by a function.

    Parameters
    ----------
    function : callable
        Takes a block of shape (n, rows, columns), gives (rows, columns).
    array : dask.array.Array
        Shape (n, y, x); the first axis may be chunked.
    dtype : dtype
        Of the result.

    Returns
    -------
    dask.array.Array
        Shape (y, x), lazy.
    """
    return da.map_blocks(
        function, array.rechunk({0: -1}), drop_axis=0, dtype=dtype, meta=np.empty((0, 0), dtype)
    )


@dataclass(frozen=True)
class HaloedBlock:
    """One chunk of an image with a mirrored halo.

    Attributes
    ----------
    values : Delayed
        Array of shape (bands, rows + 2 halo, columns + 2 halo) when computed.
    rows, columns : slice
        What the chunk covers of the image, its halo left out.
    """

    values: Any
    rows: slice
    columns: slice


def haloed_blocks(array: da.Array, *, halo: int) -> list[HaloedBlock]:
    """Cut an image into delayed blocks with a mirrored halo.

    Parameters
    ----------
    array : dask.array.Array
        Shape (bands, y, x), any chunks.
    halo : int
        Pixels added on every side of a block.

    Returns
    -------
    list of HaloedBlock
        In row-major order. Lazy.
    """
    array = _rechunked(array, halo)
    rows, columns = (_spans(lengths) for lengths in array.chunks[1:])
    overlapped = da.overlap.overlap(
        array,
        depth={0: 0, 1: halo, 2: halo},
        boundary={0: "none", 1: "reflect", 2: "reflect"},
        allow_rechunk=False,
    )
    delayed = overlapped.to_delayed()[0]
    return [
        HaloedBlock(delayed[i, j], row, column)
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    ]


def _spans(lengths: tuple[int, ...]) -> list[slice]:
    stops = np.cumsum(lengths).tolist()
    return [slice(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]


def _rechunked(array: da.Array, halo: int) -> da.Array:
    rows, columns = (
        working_chunks(lengths, least=halo, most=CHUNK) for lengths in array.chunks[1:]
    )
    return array.rechunk({0: -1, 1: rows, 2: columns})


def _once_per_worker(argument: Any) -> Any:
    return dask.delayed(argument, traverse=False)
