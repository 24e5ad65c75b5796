"""Where the glacier's outline meets the ocean."""

from __future__ import annotations

from typing import NamedTuple

import dask.array as da
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from csc_xr.fronts.outlines import Points, distances_at, trace
from csc_xr.fronts.settings import PixelSettings
from csc_xr.legend import NODATA_CODE


class Contact(NamedTuple):
    """A piece of the glacier's outline along the ocean.

    Attributes
    ----------
    points : ndarray of float64
        Shape (vertices, 2), row and column in pixels; the glacier on the left.
    ocean_m : ndarray of float64
        Metres from the outline's pixels to the nearest of the ocean, by vertex.
    cut : bool
        Whether it ends at the frame of the image, or at pixels without a class.
    """

    points: Points
    ocean_m: NDArray[np.float64]
    cut: bool


def find_contacts(
    ice: da.Array,
    ocean: da.Array,
    codes: da.Array,
    settings: PixelSettings,
    *,
    within: BaseGeometry | None = None,
) -> list[Contact]:
    """Find the pieces of the glacier's outline that have ocean near them. Computes.

    At both ends of a piece, where it turns along the valley wall, vertices that are nearer to land
    than to the ocean are left out.

    Parameters
    ----------
    ice : dask.array.Array
        The glacier, shape (y, x), bool.
    ocean : dask.array.Array
        The ocean, shape (y, x), bool.
    codes : dask.array.Array
        Classes, shape (y, x), uint8.
    settings : PixelSettings
        How near, and how wide a frame is left out.
    within : shapely geometry, optional
        Columns and rows of pixel corners: outlines outside of it are passed over.

    Returns
    -------
    list of Contact
        The longest first.
    """
    outlines = trace(ice)
    if not outlines:
        return []
    near = _distances(np.concatenate(outlines), ice, ocean, codes, settings)
    found, start = [], 0
    for outline in outlines:
        part = near[start : start + len(outline)]
        start += len(outline)
        allowed = np.ones(len(outline), bool)
        if within is not None:
            allowed = shapely.intersects_xy(within, outline[:, ::-1] + 0.5)
        found += _runs(outline, part, allowed, ice.shape, settings)
    return sorted(found, key=lambda piece: (-_length(piece, settings), *piece.points[0]))


def _length(piece: Contact, settings: PixelSettings) -> float:
    steps = np.diff(piece.points, axis=0) * settings.pixel_m
    return float(np.hypot(*steps.T).sum())


def _distances(
    points: Points, ice: da.Array, ocean: da.Array, codes: da.Array, settings: PixelSettings
) -> NDArray[np.float64]:
    """Metres to the nearest ocean, land and pixel without a class; shape (vertices, 3)."""
    ocean, codes = (layer.rechunk(ice.chunks) for layer in (ocean, codes))
    blank = codes == NODATA_CODE
    land = ~(da.isin(codes, (*settings.glacier, *settings.ocean)) | blank)
    masks = [ocean & ~ice, land & ~ice & ~ocean, blank & ~ice & ~ocean]
    return distances_at(points, masks, reach=settings.reach, pixel_m=settings.pixel_m)


def _runs(
    outline: Points,
    near: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    shape: tuple[int, int],
    settings: PixelSettings,
) -> list[Contact]:
    """Cut one outline into the pieces along the ocean."""
    ocean_m, land_m, blank_m = near.T
    cut = _in_frame(outline, shape, settings) | (blank_m <= settings.frame_m)
    at_ocean = (ocean_m <= settings.contact_m) & ~cut & allowed
    order = np.arange(len(outline))
    closed = bool((outline[0] == outline[-1]).all())
    if closed and not at_ocean.all():
        order = np.roll(order[:-1], -int(np.argmin(at_ocean)))  # a ring begins where no piece is
        order = np.append(order, order[0])
    at_ocean, cut, facing = (array[order] for array in (at_ocean, cut, ocean_m <= land_m))
    # An outline ends where the image does; a ring has no end.
    cut_beside = np.concatenate([[not closed], cut, [not closed]])
    changes = np.diff(np.concatenate([[False], at_ocean, [False]]).astype(np.int8))
    pieces = []
    for first, stop in zip(np.flatnonzero(changes > 0), np.flatnonzero(changes < 0), strict=True):
        towards = first + np.flatnonzero(facing[first:stop])
        if len(towards) < 2:
            continue
        start, end = int(towards[0]), int(towards[-1]) + 1
        ends_cut = (start == first and cut_beside[first]) or (end == stop and cut_beside[stop + 1])
        kept = order[start:end]
        pieces.append(Contact(outline[kept], ocean_m[kept], bool(ends_cut)))
    return pieces


def _in_frame(
    outline: Points, shape: tuple[int, int], settings: PixelSettings
) -> NDArray[np.bool_]:
    first, last = np.array(settings.frame), np.array(shape) - 1 - settings.frame
    return np.asarray(((outline < first) | (outline > last)).any(axis=1))
