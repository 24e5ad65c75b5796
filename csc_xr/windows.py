"""Window arithmetic: tile grids, chunk layouts and blocks, in plain integers.

Nothing here touches pixels. One axis at a time: a function that plans rows plans columns too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from csc_xr.errors import ParameterError


def check_patch_size(patch_size: int) -> int:
    """Check that a patch size is odd and positive.

    Parameters
    ----------
    patch_size : int
        Side of the square patch in pixels.

    Returns
    -------
    int
        The patch size.

    Raises
    ------
    ParameterError
        When it is not a positive odd integer.

    Examples
    --------
    >>> check_patch_size(7)
    7
    """
    if isinstance(patch_size, bool) or patch_size != int(patch_size) or patch_size < 1:
        raise ParameterError(f"Patch size must be a positive odd number, got {patch_size}.")
    if patch_size % 2 == 0:
        raise ParameterError(
            f"Patch size must be odd, so that a patch has a centre pixel, got {patch_size}. "
            f"Use {patch_size - 1} or {patch_size + 1}."
        )
    return int(patch_size)


def check_tile_size(tile_size: int, shape: tuple[int, int]) -> int:
    """Check that at least one whole tile fits in a scene.

    Parameters
    ----------
    tile_size : int
        Side of the square tile in pixels.
    shape : tuple of int
        Rows and columns of the scene.

    Returns
    -------
    int
        The tile size.

    Raises
    ------
    ParameterError
        When it is not positive, or larger than the scene.

    Examples
    --------
    >>> check_tile_size(50, (120, 50))
    50
    """
    if isinstance(tile_size, bool) or tile_size != int(tile_size) or tile_size < 1:
        raise ParameterError(f"Tile size must be a positive number of pixels, got {tile_size}.")
    if tile_size > min(shape):
        raise ParameterError(
            f"A scene must hold at least one tile of {tile_size} x {tile_size} pixels, got a scene "
            f"of {shape[0]} x {shape[1]}. Use a network trained on smaller tiles, or a wider crop."
        )
    return int(tile_size)


def tile_count(length: int, tile_size: int) -> int:
    """Count the tiles along one axis, the partial one at the end included.

    Parameters
    ----------
    length : int
        Pixels along the axis.
    tile_size : int
        Side of a tile in pixels.

    Returns
    -------
    int
        Number of tiles.

    Examples
    --------
    >>> tile_count(100, 50), tile_count(101, 50)
    (2, 3)
    """
    return math.ceil(length / tile_size)


def tile_starts(length: int, tile_size: int) -> tuple[int, ...]:
    """Give the first pixel of every tile's window along one axis.

    The window of a partial tile is shifted inwards, so that every window is whole.

    Parameters
    ----------
    length : int
        Pixels along the axis, at least ``tile_size``.
    tile_size : int
        Side of a tile in pixels.

    Returns
    -------
    tuple of int
        One start per tile.

    Examples
    --------
    >>> tile_starts(120, 50)
    (0, 50, 70)
    """
    return tuple(
        min(index * tile_size, length - tile_size) for index in range(tile_count(length, tile_size))
    )


def tile_chunks(length: int, tile_size: int, target: int) -> tuple[int, ...]:
    """Divide one axis into chunks of whole tiles.

    Every chunk but the last is a multiple of the tile; the last also holds the remainder,
    together with at least one whole tile, so each chunk can predict its tiles alone.

    Parameters
    ----------
    length : int
        Pixels along the axis, at least ``tile_size``.
    tile_size : int
        Side of a tile in pixels.
    target : int
        Wanted chunk length in pixels.

    Returns
    -------
    tuple of int
        Chunk lengths; they sum to ``length``.

    Examples
    --------
    >>> tile_chunks(330, 50, 128)
    (100, 100, 130)
    >>> tile_chunks(60, 50, 1000)
    (60,)
    """
    step = max(target // tile_size, 1) * tile_size
    return merge_thin_chunks(split(length, step), tile_size)


def split(length: int, step: int) -> tuple[int, ...]:
    """Cut a length into steps; the last may be shorter.

    Parameters
    ----------
    length : int
        Length to cut, at least 1.
    step : int
        Length of a piece, at least 1.

    Returns
    -------
    tuple of int
        Lengths of the pieces; they sum to ``length``.

    Examples
    --------
    >>> split(10, 4)
    (4, 4, 2)
    """
    whole, rest = divmod(length, step)
    return (step,) * whole + ((rest,) if rest else ())


def merge_thin_chunks(chunks: Sequence[int], least: int) -> tuple[int, ...]:
    """Join chunks to their neighbours until none is thinner than a least length.

    ``map_overlap`` needs every chunk to be at least as long as the halo.

    Parameters
    ----------
    chunks : sequence of int
        Chunk lengths along one axis.
    least : int
        Smallest length allowed. When all chunks together are shorter, one chunk remains.

    Returns
    -------
    tuple of int
        Chunk lengths with the same sum.

    Examples
    --------
    >>> merge_thin_chunks((1, 1, 5, 4), 3)
    (7, 4)
    >>> merge_thin_chunks((5, 5, 2), 3)
    (5, 7)
    """
    merged: list[int] = []
    pending = 0
    for length in chunks:
        pending += length
        if pending >= least:
            merged.append(pending)
            pending = 0
    if pending and merged:
        merged[-1] += pending
    elif pending:
        merged.append(pending)
    return tuple(merged)


def working_chunks(chunks: Sequence[int], *, least: int, most: int) -> tuple[int, ...]:
    """Give the chunk lengths to work with: none much longer than wanted, none thinner than a halo.

    Parameters
    ----------
    chunks : sequence of int
        Chunk lengths of the store along one axis.
    least : int
        Smallest length allowed, the halo.
    most : int
        Longer chunks are cut into equal parts no longer than this.

    Returns
    -------
    tuple of int
        Chunk lengths with the same sum.

    Examples
    --------
    >>> working_chunks((3000, 7), least=3, most=1024)
    (1000, 1000, 1000, 7)
    >>> working_chunks((1, 1, 1, 1), least=3, most=1024)
    (4,)
    """
    pieces = [piece.stop - piece.start for length in chunks for piece in _even_slices(length, most)]
    return merge_thin_chunks(pieces, max(least, 1))


def blocks(rows: int, columns: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Cover an area with nearly equal blocks no longer than a side.

    Parameters
    ----------
    rows, columns : int
        Size of the area.
    side : int
        Longest block side in pixels.

    Yields
    ------
    tuple of slice
        Rows and columns of one block; blocks do not overlap.

    Examples
    --------
    >>> [(r.start, r.stop, c.start, c.stop) for r, c in blocks(2, 5, 4)]
    [(0, 2, 0, 3), (0, 2, 3, 5)]
    """
    for row in _even_slices(rows, side):
        for column in _even_slices(columns, side):
            yield row, column


def _even_slices(length: int, longest: int) -> list[slice]:
    pieces = math.ceil(length / longest)
    step = math.ceil(length / pieces) if pieces else 0
    return [slice(start, min(start + step, length)) for start in range(0, length, step or 1)]
