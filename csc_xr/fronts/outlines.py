"""Outlines of masks as lines, traced chunk by chunk and joined.

What is gathered grows with the length of the outlines, not with the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import dask
import dask.array as da
import geopandas
import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray
from pyproj import CRS
from scipy import ndimage
from shapely.affinity import affine_transform
from skimage.measure import find_contours

from csc_xr.blockwise import haloed_blocks, leading_blocks
from csc_xr.fronts.settings import Radii
from csc_xr.grid import scene_transform

Points = NDArray[np.float64]
"""Shape (vertices, 2): row and column in pixels; pixel centres are whole numbers."""


def trace(mask: da.Array) -> list[Points]:
    """Trace the outlines of a mask. Computes.

    A vertex lies halfway between each pixel inside and its neighbour outside (marching squares).
    Where the image ends, the lines end.

    Parameters
    ----------
    mask : dask.array.Array
        Shape (y, x), bool.

    Returns
    -------
    list of ndarray of float64
        Each of shape (vertices, 2), row and column; the mask lies on the left of who walks along
        with the rows going down. Closed ones begin and end with their first vertex in reading
        order. The longest first. They do not depend on chunks.
    """
    blocks = leading_blocks(mask[None], reach=1)
    traced = dask.compute(
        *(dask.delayed(_trace_block)(b.values, b.rows, b.columns) for b in blocks)
    )
    pieces = [shapely.LineString(line) for lines in traced for line in lines]
    if not pieces:
        return []
    merged = shapely.get_parts(shapely.line_merge(shapely.MultiLineString(pieces), directed=True))
    lines = [_from_first(shapely.get_coordinates(line)) for line in merged]
    return sorted(lines, key=lambda line: (-len(line), *line[0]))


def distances_at(
    points: Points, masks: Sequence[da.Array], *, reach: Radii, pixel_m: tuple[float, float]
) -> Points:
    """Measure how far vertices of an outline are from the nearest pixels of masks. Computes.

    Only chunks that hold a vertex are read.

    Parameters
    ----------
    points : ndarray of float64
        Shape (vertices, 2), from :func:`trace`.
    masks : sequence of dask.array.Array
        Shape (y, x), bool, all with the same chunks.
    reach : tuple of int
        Pixels along y and x that are looked at around each vertex.
    pixel_m : tuple of float
        Height and width of a pixel in metres.

    Returns
    -------
    ndarray of float64
        Shape (vertices, masks): metres from the nearer of the two pixels the vertex lies
        between to the nearest pixel of the mask, from centre to centre; infinite beyond the
        pixels looked at.
    """
    halo = max(reach)
    beyond = [(0, max(0, halo - side)) for side in masks[0].shape]  # of a narrow strip
    masks = [da.pad(mask, beyond) for mask in masks]
    before, after = np.floor(points).astype(np.int64), np.ceil(points).astype(np.int64)
    furthest = min(reach[0] * pixel_m[0], reach[1] * pixel_m[1])
    found = np.full((len(points), len(masks)), np.inf)
    tasks, places = [], []
    for block in haloed_blocks(da.stack(masks), halo=halo):
        for pixels in (before, after):
            here = np.flatnonzero(_within(pixels, block.rows, block.columns))
            if len(here):
                local = pixels[here] - (block.rows.start, block.columns.start) + halo
                tasks.append(dask.delayed(_measure_block)(block.values, local, pixel_m))
                places.append(here)
    for here, metres in zip(places, dask.compute(*tasks), strict=True):
        metres[metres > furthest * (1 + 1e-9)] = np.inf
        found[here] = np.minimum(found[here], metres)
    return found


def lines_on_map(outlines: Sequence[Points], raster: xr.DataArray) -> geopandas.GeoSeries:
    """Bring outlines to the map.

    Parameters
    ----------
    outlines : sequence of ndarray of float64
        From :func:`trace`.
    raster : xarray.DataArray
        Whose pixels they run between.

    Returns
    -------
    geopandas.GeoSeries
        LineStrings in the raster's CRS; on the map, too, the mask lies on the left.
    """
    transform = scene_transform(raster)
    # There, columns come first, and pixel corners are whole numbers.
    in_pixels = [shapely.LineString(points[:, ::-1] + 0.5) for points in outlines]
    lines = [affine_transform(line, transform.to_shapely()) for line in in_pixels]
    if transform.determinant > 0:  # the map shows the image mirrored
        lines = [line.reverse() for line in lines]
    return geopandas.GeoSeries(lines, crs=raster_crs(raster))


def raster_crs(raster: xr.DataArray) -> CRS | None:
    """Give the CRS of a raster in the form that lines have.

    Parameters
    ----------
    raster : xarray.DataArray
        Dims (y, x).

    Returns
    -------
    pyproj.CRS or None
        None where it has none.
    """
    return None if raster.rio.crs is None else CRS.from_user_input(raster.rio.crs)


def _trace_block(block: NDArray[np.bool_], rows: slice, columns: slice) -> list[Points]:
    """Trace a chunk with the first row and column of its neighbours."""
    mask = block[0]
    if mask.all() or not mask.any() or min(mask.shape) < 2:
        return []
    lines = find_contours(mask, 0.5, fully_connected="low")
    return [np.add(line[::-1], (rows.start, columns.start)) for line in lines]


def _from_first(line: Points) -> Points:
    """Let a ring begin at its first vertex in reading order."""
    if (line[0] != line[-1]).any():
        return line
    ring = line[:-1]
    start = int(np.lexsort((ring[:, 1], ring[:, 0]))[0])
    return np.concatenate([ring[start:], ring[: start + 1]])


def _within(pixels: NDArray[np.int64], rows: slice, columns: slice) -> NDArray[np.bool_]:
    row, column = pixels.T
    return np.asarray(
        (row >= rows.start) & (row < rows.stop)
        & (column >= columns.start) & (column < columns.stop)
    )  # fmt: skip


def _measure_block(
    block: NDArray[np.bool_], pixels: NDArray[np.int64], pixel_m: tuple[float, float]
) -> Points:
    found = np.full((len(pixels), len(block)), np.inf)
    for number, mask in enumerate(block):
        if mask.any():
            distances = ndimage.distance_transform_edt(~mask, sampling=pixel_m)
            found[:, number] = distances[tuple(pixels.T)]
    return found
