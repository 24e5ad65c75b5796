"""Pyramids: a raster of any size as small pictures, from full size to one that shows it all.

A raster is read once, a band of rows at a time. Each level is made of the one beneath it while
both pass through memory, so that what is held is a few bands of rows, whatever the raster.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from csc_xr.errors import ParameterError

TILE_SIDE = 512
"""Longest side of a small picture in pixels."""

Kind = Literal["picture", "classes", "scalar", "mask"]
Pixels = NDArray[np.uint8]

MIME: dict[Kind, str] = {
    "picture": "image/jpeg",
    "classes": "image/png",
    "scalar": "image/png",
    "mask": "image/png",
}
"""Form of the small pictures of a layer."""

_STRIP_BYTES = 32 * 2**20
_JPEG_QUALITY = 85
_HALF = 128
"""Least share, of 255, from which a pixel of a mask is 1."""


@dataclass(frozen=True)
class Tile:
    """One small picture.

    Attributes
    ----------
    level : int
        0 is the finest.
    row, column : int
        Its place among the tiles of its level.
    content : bytes
        A file of the layer's form.
    """

    level: int
    row: int
    column: int
    content: bytes


def dropped_levels(shape: tuple[int, int], max_side: int | None) -> int:
    """Count the finest levels that are to be left out.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the raster.
    max_side : int or None
        Longest side of the finest level that is kept; None keeps all.

    Returns
    -------
    int
        The finest level kept has one pixel for so many halvings of the raster.

    Raises
    ------
    ParameterError
        When the longest side is not positive.

    Examples
    --------
    >>> dropped_levels((1960, 3008), None), dropped_levels((1960, 3008), 2000)
    (0, 1)
    """
    if max_side is None:
        return 0
    if max_side < 1:
        raise ParameterError(f"max_side must be 1 pixel or more, got {max_side}.")
    dropped = 0
    while -(-max(shape) // 2**dropped) > max_side:
        dropped += 1
    return dropped


def level_count(shape: tuple[int, int], dropped: int) -> int:
    """Count the levels of a pyramid.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the raster.
    dropped : int
        From :func:`dropped_levels`.

    Returns
    -------
    int
        As many as it takes until one tile holds the raster.

    Examples
    --------
    >>> level_count((1960, 3008), 0), level_count((1960, 3008), 1), level_count((10, 10), 0)
    (4, 3, 1)
    """
    levels = 1
    while -(-max(shape) // 2 ** (dropped + levels - 1)) > TILE_SIDE:
        levels += 1
    return levels


def pyramid_tiles(
    raster: da.Array,
    kind: Kind,
    *,
    dropped: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Tile]:
    """Cut a raster into small pictures, at all levels. Computes, a band of rows at a time.

    Parameters
    ----------
    raster : dask.array.Array
        Of uint8. Classes (y, x), 0 where there is none; scalars (y, x), 0 where there is none,
        else 1 to 255; masks (y, x), 0 or 255; pictures (y, x, 4), red, green, blue, and 255 where
        there is a picture.
    kind : {"picture", "classes", "scalar", "mask"}
        How a level is made of the one beneath it. A class is the commonest of four pixels,
        those without a class not counted, so that thin features stay; of classes equally common
        the first in order of reading is taken, which favours none. Scalars and pictures are means
        of what is there. A mask is 1 where at least half of the pixels of the raster beneath are.
    dropped : int
        So many of the finest levels are left out.
    progress : callable, optional
        Called with the number of pixels of the raster done since the last call.

    Yields
    ------
    Tile
        Level by level within each band of rows. Tiles that would be empty are left out.
    """
    rows, columns = raster.shape[:2]
    levels = level_count((rows, columns), dropped)
    step = _strip_rows(raster)
    with ThreadPoolExecutor() as pool:
        bottom = _levels(kind, dropped, levels)
        for start in range(0, rows, step):
            strip = np.asarray(raster[start : start + step].compute(), dtype=np.uint8)
            blocks = bottom.take(strip, last=start + step >= rows)
            yield from pool.map(_Encoder(kind), blocks)
            if progress:
                progress(len(strip) * columns)


@dataclass(frozen=True)
class _Block:
    """Pixels of a tile, on their way into it."""

    level: int
    row: int
    column: int
    pixels: Pixels


@dataclass(frozen=True)
class _Encoder:
    kind: Kind

    def __call__(self, block: _Block) -> Tile:
        """Put the pixels into a file; both encoders let other threads run meanwhile."""
        file = io.BytesIO()
        if self.kind == "picture":
            colour = np.where(block.pixels[..., 3:] > 0, block.pixels[..., :3], np.uint8(0))
            Image.fromarray(colour).save(file, "JPEG", quality=_JPEG_QUALITY)
        else:
            pixels = block.pixels >= _HALF if self.kind == "mask" else block.pixels
            Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG", compress_level=6)
        return Tile(block.level, block.row, block.column, file.getvalue())


@dataclass
class _Level:
    """Gathers rows until they fill tiles, and hands them on halved.

    A level below 0 is finer than what is kept: it has no tiles.
    """

    number: int
    kind: Kind
    above: _Level | None
    waiting: list[Pixels] = field(default_factory=list)
    tile_row: int = 0

    def take(self, strip: Pixels, *, last: bool) -> list[_Block]:
        """Take the next rows, of which there are no more after the last."""
        self.waiting.append(strip)
        gathered = sum(len(part) for part in self.waiting)
        if gathered < TILE_SIDE and not last:
            return []
        rows = np.concatenate(self.waiting)
        whole = gathered if last else gathered - gathered % TILE_SIDE
        self.waiting = [rows[whole:]]
        ready = rows[:whole]
        blocks = self._cut(ready) if self.number >= 0 else []
        if self.above is not None:
            blocks += self.above.take(_HALVINGS[self.kind](ready), last=last)
        return blocks

    def _cut(self, ready: Pixels) -> list[_Block]:
        blocks = []
        for top in range(0, len(ready), TILE_SIDE):
            for column, left in enumerate(range(0, ready.shape[1], TILE_SIDE)):
                pixels = ready[top : top + TILE_SIDE, left : left + TILE_SIDE]
                if self._holds_something(pixels):
                    blocks.append(_Block(self.number, self.tile_row, column, pixels))
            self.tile_row += 1
        return blocks

    def _holds_something(self, pixels: Pixels) -> bool:
        if self.kind == "picture":
            return bool(pixels[..., 3].any())
        return bool((pixels >= (_HALF if self.kind == "mask" else 1)).any())


def _levels(kind: Kind, dropped: int, levels: int) -> _Level:
    level = _Level(levels - 1, kind, None)
    for number in reversed(range(-dropped, levels - 1)):
        level = _Level(number, kind, level)
    return level


def _strip_rows(raster: da.Array) -> int:
    """Rows to read at a time: whole rows of tiles, and few bytes."""
    row_bytes = int(np.prod(raster.shape[1:]))
    return TILE_SIDE * max(1, _STRIP_BYTES // (TILE_SIDE * row_bytes))


def _quarters(pixels: NDArray[Any]) -> list[NDArray[Any]]:
    """Upper left, upper right, lower left and lower right of all squares of two by two.

    Beyond an odd border there is nothing, 0.
    """
    rows, columns = (length + length % 2 for length in pixels.shape[:2])
    if pixels.shape[:2] != (rows, columns):
        even = np.zeros((rows, columns, *pixels.shape[2:]), pixels.dtype)
        even[: pixels.shape[0], : pixels.shape[1]] = pixels
        pixels = even
    return [pixels[row::2, column::2] for row in (0, 1) for column in (0, 1)]


def _halved_classes(codes: Pixels) -> Pixels:
    four = _quarters(codes)
    best = four[0].copy()
    most = np.zeros(best.shape, np.uint8)
    for one in four:
        count = np.zeros(best.shape, np.uint8)
        for other in four:
            count += one == other
        count[one == 0] = 0
        better = count > most
        best[better] = one[better]
        most[better] = count[better]
    return best


def _halved_scalar(values: Pixels) -> Pixels:
    four = _quarters(values)
    total = sum(part.astype(np.uint16) for part in four)
    count = sum((part > 0).astype(np.uint16) for part in four)
    return _rounded_ratio(total, count)


def _halved_mask(shares: Pixels) -> Pixels:
    four = _quarters(shares)
    total = sum(part.astype(np.uint16) for part in four)
    count = sum(part.astype(np.uint16) for part in _quarters(np.ones_like(shares)))
    return _rounded_ratio(total, count)


def _halved_picture(pixels: Pixels) -> Pixels:
    four = _quarters(pixels)
    there = [part[..., 3:] > 0 for part in four]
    total = sum(
        np.where(seen, part, np.uint8(0)).astype(np.uint16)
        for part, seen in zip(four, there, strict=True)
    )
    return _rounded_ratio(total, sum(seen.astype(np.uint16) for seen in there))


def _rounded_ratio(total: Any, count: Any) -> Pixels:
    least = np.maximum(count, np.uint16(1))
    ratio: Pixels = ((total + least // 2) // least).astype(np.uint8)
    return ratio


_HALVINGS: dict[Kind, Callable[[Pixels], Pixels]] = {
    "picture": _halved_picture,
    "classes": _halved_classes,
    "scalar": _halved_scalar,
    "mask": _halved_mask,
}
