"""Functions over chunks: the only caller of ``map_blocks`` and ``map_overlap``.

Everything above this module hands over a function of NumPy arrays and says how far it looks
around a pixel; chunk layouts, halos and declared output chunks are settled here. All of it
stays lazy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

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


def map_together(
    function: Callable[..., Any], arrays: Sequence[da.Array], *, dtype: Any
) -> da.Array:
    """Join the chunks of an image and of a layer beside it by a function.

    Parameters
    ----------
    function : callable
        Takes blocks of shape (bands, rows, columns) and (rows, columns), gives (bands + 1, rows,
        columns).
    arrays : sequence of dask.array.Array
        Shape (bands, y, x), all bands in one chunk, and (y, x), with the same chunks.
    dtype : dtype
        Of the result.

    Returns
    -------
    dask.array.Array
        Shape (bands + 1, y, x), lazy.
    """
    image, layer = arrays
    return da.blockwise(
        function, "byx", image, "byx", layer, "yx",
        adjust_chunks={"b": lambda bands: bands + 1}, align_arrays=False,
        dtype=dtype, meta=np.empty((0, 0, 0), dtype),
    )  # fmt: skip


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


def map_places(
    function: Callable[..., Any], array: da.Array, *, dtype: Any, argument: Any
) -> da.Array:
    """Apply a function that knows where in the image a chunk lies.

    Parameters
    ----------
    function : callable
        ``function(block, rows, columns, argument)``: a NumPy block of shape (rows, columns) and
        the slices it covers, to an array of the same shape.
    array : dask.array.Array
        Shape (y, x).
    dtype : dtype
        Of the result.
    argument : object
        Handed to every call, as in :func:`map_halo`; Delayed parts of it are computed.

    Returns
    -------
    dask.array.Array
        Shape (y, x), lazy.
    """
    return da.blockwise(
        partial(_place_block, function),
        "yx",
        array,  # first: the chunks of the result are those of the first array
        "yx",
        *_chunk_starts(array),
        argument=dask.delayed(argument),
        dtype=dtype,
        meta=np.empty((0, 0), dtype),
        align_arrays=False,
        concatenate=True,
    )


def map_leading(
    function: Callable[..., Any], array: da.Array, values: NDArray[Any], *, argument: Any
) -> da.Array:
    """Apply a function to every chunk of a list of windows, with a value for each window.

    Parameters
    ----------
    function : callable
        ``function(block, values, argument)``: a NumPy block of shape (windows, ...) and as many
        values, to an array of the block's shape and dtype.
    array : dask.array.Array
        Chunked along its first axis alone.
    values : ndarray
        Shape (windows,).
    argument : object
        Handed to every call.

    Returns
    -------
    dask.array.Array
        Like the array, lazy.
    """
    axes = tuple(range(array.ndim))
    beside = da.from_array(values, chunks=array.chunks[:1])
    return da.blockwise(
        function, axes, array, axes, beside, axes[:1],
        argument=argument, dtype=array.dtype, meta=array._meta, align_arrays=False,
    )  # fmt: skip


def _chunk_starts(array: da.Array) -> list[Any]:
    """Give the first row and column of every chunk, as arguments of ``blockwise``."""
    found: list[Any] = []
    for axis, lengths in zip("yx", array.chunks[-2:], strict=True):
        starts = np.array([span.start for span in _spans(lengths)])
        found += [da.from_array(starts, chunks=1, inline_array=True), axis]
    return found


def _place_block(
    function: Callable[..., Any],
    block: NDArray[Any],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    argument: Any,
) -> Any:
    (rows, columns), top, left = block.shape, int(row[0]), int(column[0])
    return function(block, slice(top, top + rows), slice(left, left + columns), argument)


def map_stores(
    function: Callable[..., None],
    arrays: Sequence[da.Array],
    *,
    argument: Any,
) -> NDArray[np.object_]:
    """Hand every chunk of several images to a function that keeps it somewhere.

    Parameters
    ----------
    function : callable
        ``function(blocks, rows, columns, argument)``: the NumPy blocks of one chunk of every
        image, in the order given, and the slices that the chunk covers.
    arrays : sequence of dask.array.Array
        Shape (y, x) or (n, y, x), with the same chunks along y and x and one along n.
    argument : object
        Handed to every call, as in :func:`map_halo`.

    Returns
    -------
    ndarray of Delayed
        Shape (chunk rows, chunk columns): a task for each chunk, computed one by one or together.
    """
    given: list[Any] = _chunk_starts(arrays[0])
    for array in arrays:
        given += [array, "nyx"[-array.ndim :]]
    kept = da.blockwise(
        partial(_keep_block, function),
        "yx",
        *given,
        argument=_once_per_worker(argument),
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
        adjust_chunks={"y": 1, "x": 1},
        align_arrays=False,
        concatenate=True,
    )
    tasks: NDArray[np.object_] = kept.to_delayed()
    return tasks


def _keep_block(
    function: Callable[..., None],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    *blocks: NDArray[Any],
    argument: Any,
) -> NDArray[np.uint8]:
    height, width = blocks[0].shape[-2:]
    top, left = int(row[0]), int(column[0])
    function(blocks, slice(top, top + height), slice(left, left + width), argument)
    return np.ones((1, 1), np.uint8)


@dataclass(frozen=True)
class HaloedBlock:
    """One chunk of an image with pixels around it.

    Attributes
    ----------
    values : Delayed
        Array of shape (bands, rows + halo, columns + halo) when computed.
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
    return _overlapping(array, halo, halo, boundary="reflect")


def leading_blocks(array: da.Array, *, reach: int) -> list[HaloedBlock]:
    """Cut an image into delayed blocks that hold every window that begins in them.

    Parameters
    ----------
    array : dask.array.Array
        Shape (bands, y, x), any chunks.
    reach : int
        Pixels added below and to the right of a block, up to the edge of the image: those of a
        window but its first.

    Returns
    -------
    list of HaloedBlock
        In row-major order; values have shape (bands, rows + reach, columns + reach), less at
        the edge of the image. Lazy.
    """
    return _overlapping(array, reach, (0, reach), boundary="none")


def _overlapping(
    array: da.Array, most: int, depth: int | tuple[int, int], *, boundary: str
) -> list[HaloedBlock]:
    array = _rechunked(array, most)
    rows, columns = (_spans(lengths) for lengths in array.chunks[1:])
    overlapped = da.overlap.overlap(
        array,
        depth={0: 0, 1: depth, 2: depth},
        boundary={0: "none", 1: boundary, 2: boundary},
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
