"""Files of bands and masks, put together to a scene on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine

from csc_xr.errors import SceneError
from csc_xr.grid import place
from csc_xr.products.target import TargetGrid
from csc_xr.products.warp import RESAMPLING, TOP, Numbers, lazy_warped
from csc_xr.raster import (
    CHUNK,
    Chunks,
    check_complete,
    chunk_sizes,
    lazy_bands,
    near_blocks,
    open_raster,
)

SCALE = 8192.0
"""What networks divide reflectance x 10000 by, unless told otherwise."""


@dataclass(frozen=True)
class BandFile:
    """A band of a product, and what its numbers mean.

    Reflectance x 10000 is gain times the number plus offset.

    Attributes
    ----------
    name : str
        Name the band gets in the scene.
    path : str
        The file, or one in a zip as :func:`csc_xr.raster.path_in_zip` gives it.
    number : int
        Band number in the file, from 1.
    gain, offset : float
        From the numbers of the file to reflectance x 10000.
    nodata : int or None
        Number of pixels without data.
    saturated : int or None
        Number of saturated pixels.
    """

    name: str
    path: str
    number: int = 1
    gain: float = 1.0
    offset: float = 0.0
    nodata: int | None = 0
    saturated: int | None = TOP

    @property
    def numbers(self) -> Numbers:
        """How its numbers become those of a scene."""
        return Numbers(self.gain, self.offset, self.nodata, self.saturated)


@dataclass(frozen=True)
class MaskFile:
    """A file that says which pixels to mask.

    Attributes
    ----------
    path : str
        The file, of whole numbers.
    number : int
        Band number in the file, from 1.
    values : tuple of int
        Numbers that are masked.
    bits : int
        Numbers that share a bit with this one are masked.
    """

    path: str
    number: int = 1
    values: tuple[int, ...] = ()
    bits: int = 0


@dataclass(frozen=True)
class _Source:
    """An opened file: where its pixels are, and of which kind."""

    path: str
    number: int
    grid: TargetGrid
    dtype: str
    block: tuple[int, int]


def assemble(
    bands: Sequence[BandFile],
    *,
    grid: TargetGrid,
    mask: MaskFile | None = None,
    time: np.datetime64 | None = None,
    source: str,
    resampling: str = "bilinear",
    chunks: Chunks | None = None,
    scale: float | None = None,
) -> xr.DataArray:
    """Put bands together to a scene of reflectance x 10000.

    Opens every file, to read its header and to make sure that it is complete. Pixels stay on disk
    until they are computed. Files whose pixels are those of the grid are read as they are;
    others are converted to reflectance x 10000 first and resampled then, with pixels without
    data left out of their neighbours.

    Parameters
    ----------
    bands : sequence of BandFile
        At least one; their names become the ``band`` coordinate.
    grid : TargetGrid
        Grid of the scene.
    mask : MaskFile, optional
        What is masked; resampled by nearest neighbour.
    time : numpy.datetime64, optional
        When the image was taken.
    source : str
        The product, for the attribute ``source``.
    resampling : str
        ``nearest``, ``bilinear``, ``cubic``, ``average`` or ``lanczos``. Where pixels become
        larger, all but ``nearest`` take in all that a pixel covers. ``lanczos`` loses some pixels
        beside those without data.
    chunks : int, tuple of int or mapping, optional
        Rows and columns of a chunk, -1 for all; near 1024 by default. They do not change the
        numbers.
    scale : float, optional
        What networks divide pixels by, 8192 by default.

    Returns
    -------
    xarray.DataArray
        Dims (band, y, x), uint16, Dask-backed: 0 where there is no data, 1 where the
        number would be less, 65535 where saturated. Attributes ``scale``, ``nodata_when``,
        ``_FillValue``, ``quantification`` (10000) and ``source``; coordinate ``valid`` (y, x),
        bool, with a mask, and ``time``.

    Raises
    ------
    SceneError
        When a file is absent, incomplete or not of whole numbers, or a setting cannot be used.
    """
    if resampling not in RESAMPLING:
        raise SceneError(
            f"resampling must be one of {', '.join(RESAMPLING)}, got {resampling!r}. Pass one of "
            "them."
        )
    sources = [_open(band.path, band.number) for band in bands]
    wanted = _sides(sources[0], grid, chunks)
    numbers = [band.numbers for band in bands]
    pixels = _lazy(sources, numbers, grid, wanted, resampling)
    scene = xr.DataArray(
        pixels, dims=("band", "y", "x"), coords={"band": [band.name for band in bands]}
    )
    scene = place(scene, grid.transform, grid.crs)
    if mask is not None:
        scene = scene.assign_coords(valid=(("y", "x"), _unmasked(mask, grid, wanted)))
    if time is not None:
        scene = scene.assign_coords(time=time.astype("datetime64[ns]"))
    scene.attrs.update(
        scale=SCALE if scale is None else _checked_scale(scale),
        nodata_when="any",
        _FillValue=np.uint16(0),
        quantification=10000.0,
        source=source,
    )
    return scene


def _open(path: str, number: int) -> _Source:
    with open_raster(path) as dataset:
        dtype = np.dtype(dataset.dtypes[number - 1]) if number <= dataset.count else None
        if dtype is None or dtype.kind not in "ui" or dtype.itemsize > 2:
            raise SceneError(
                f"Band {number} of {path} must hold whole numbers of 8 or 16 bits, as satellite "
                f"products do, got {dtype or f'{dataset.count} band(s)'}. Open images of other "
                "numbers with open_scene."
            )
        check_complete(dataset)
        grid = TargetGrid(dataset.crs, dataset.transform, dataset.height, dataset.width)
        block = tuple(dataset.block_shapes[number - 1])
    return _Source(path, number, grid, str(dtype), (block[0], block[1]))


def _sides(source: _Source, grid: TargetGrid, chunks: Chunks | None) -> tuple[int, int]:
    """Rows and columns of a chunk: whole blocks where pixels are those of the file."""
    shape = (grid.height, grid.width)
    given = chunk_sizes(chunks, shape)
    if given is not None:
        return given
    sides = [
        near_blocks(block if block <= 2 * CHUNK and block < length else CHUNK, CHUNK, length)
        for block, length in zip(source.block, shape, strict=True)
    ]
    return sides[0], sides[1]


def _lazy(
    sources: Sequence[_Source],
    numbers: Sequence[Numbers],
    grid: TargetGrid,
    sides: tuple[int, int],
    resampling: str,
) -> da.Array:
    """All bands on the grid: (bands, y, x), uint16. Those of one other grid are warped at once."""
    layers: dict[int, da.Array] = {}
    others: dict[TargetGrid, list[int]] = {}
    for index, source in enumerate(sources):
        corner = _corner(source.grid, grid)
        if corner is None:
            others.setdefault(source.grid, []).append(index)
        else:
            layers[index] = numbers[index].lazily(_part(source, grid, corner, sides))
    for native, indices in others.items():
        warped = lazy_warped(
            [(sources[i].path, sources[i].number, sources[i].dtype, numbers[i]) for i in indices],
            native,
            grid,
            resampling=resampling,
            sides=sides,
        )
        layers.update({index: warped[place : place + 1] for place, index in enumerate(indices)})
    together = da.concatenate([layers[index] for index in range(len(sources))])
    return together.rechunk((-1, *sides))


def _part(
    source: _Source, grid: TargetGrid, corner: tuple[int, int], sides: tuple[int, int]
) -> da.Array:
    """Read the pixels of a file that are those of the grid, (1, y, x)."""
    row, column = corner
    whole = (grid.height, grid.width) == (source.grid.height, source.grid.width)
    with open_raster(source.path) as dataset:
        pixels = lazy_bands(dataset, [source.number], chunks=sides if whole else None)
    return pixels[:, row : row + grid.height, column : column + grid.width]


def _unmasked(mask: MaskFile, grid: TargetGrid, sides: tuple[int, int]) -> da.Array:
    """Where a mask leaves pixels to see: (y, x), bool."""
    source = _open(mask.path, mask.number)
    corner = _corner(source.grid, grid)
    if corner is None:
        classes = lazy_warped(
            [(source.path, source.number, source.dtype, None)],
            source.grid,
            grid,
            resampling="nearest",
            sides=sides,
        )[0]
    else:
        classes = _part(source, grid, corner, sides)[0]
    masked: Any = da.isin(classes, list(mask.values))
    if mask.bits:
        masked = masked | ((classes.astype(np.uint16) & np.uint16(mask.bits)) != 0)
    seen: da.Array = (~masked).rechunk(sides)
    return seen


def _corner(native: TargetGrid, grid: TargetGrid) -> tuple[int, int] | None:
    """Row and column in a file of the first pixel of a grid; None where pixels are others."""
    if native.crs != grid.crs:
        return None
    moved: Affine = ~native.transform @ grid.transform
    column, row = round(moved.c), round(moved.f)
    kept = Affine.translation(column, row)
    reach = ((0, 0), (grid.width, 0), (0, grid.height), (grid.width, grid.height))
    for corner in reach:
        (x, y), (kept_x, kept_y) = moved @ corner, kept @ corner
        if abs(x - kept_x) > 1e-6 or abs(y - kept_y) > 1e-6:
            return None
    if row < 0 or column < 0:
        return None
    inside = row + grid.height <= native.height and column + grid.width <= native.width
    return (row, column) if inside else None


def _checked_scale(scale: float) -> float:
    if not (isinstance(scale, int | float) and 0 < scale < np.inf):
        raise SceneError(
            f"The scale of a scene must be a positive number, got {scale!r}. Pass 10000 for "
            "networks of reflectance, or what the network was trained with."
        )
    return float(scale)
