"""The glacier's outline made firm: a morphological geodesic active contour, over chunks.

The level set starts around the glacier, its inlets closed, and is smoothed step by step, while the
glacier's edge holds what comes near it. A step looks three pixels far, so a chunk with a halo of
three pixels a step gives what the whole image gives. Where a chunk holds no edge nothing happens
and nothing is computed: work is done in a band along the outline.

After Marquez-Neila, Baumela and Alvarez 2014, IEEE Transactions on Pattern Analysis and Machine
Intelligence 36:2-17, as :func:`skimage.segmentation.morphological_geodesic_active_contour`
has it. Two things differ. What lies beyond the image counts as its mirror image, not as outside.
And there is no balloon force: with the published setting (balloon -0.5, threshold 0.6) it never
acts, as it needs pixels above 0.6 / 0.5 in an image of zeros and ones. (scikit-image, besides,
alternates its smoothing operators across calls, so that calls in threads would depend on each
other.)
"""

from __future__ import annotations

from functools import reduce

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from csc_xr.fronts.regions import Mask, fill_holes, over_chunks
from csc_xr.fronts.settings import PixelSettings, Radii

_REACH = 3
"""Pixels that a step looks to every side: one for the force, two for the smoothing."""

_LINES = (
    ((0, 1), (0, -1)),
    ((1, 0), (-1, 0)),
    ((1, 1), (-1, -1)),
    ((1, -1), (-1, 1)),
)
"""Neighbours of a pixel along the four lines through it."""


def firm_glacier(glacier: da.Array, settings: PixelSettings) -> da.Array:
    """Smooth the glacier's outline. Computes the level set to start from.

    Parameters
    ----------
    glacier : dask.array.Array
        Shape (y, x), bool, computed.
    settings : PixelSettings
        How far to widen and close, and how many steps.

    Returns
    -------
    dask.array.Array
        Shape (y, x), bool, lazy.
    """
    rows, columns = (m + 2 * c for m, c in zip(settings.margin, settings.closing, strict=True))
    closed = over_chunks(_widen_and_close, [glacier], max(rows, columns), settings).persist()
    start = fill_holes(closed)
    reach = _REACH * settings.iterations + max(settings.margin) + max(_beyond(settings.margin))
    return over_chunks(_contract, [start, glacier], reach, settings)


def _widen_and_close(glacier: Mask, settings: PixelSettings) -> Mask:
    wide = ndimage.binary_dilation(glacier, _diamond(settings.margin)).view(np.uint8)
    box = tuple(2 * radius + 1 for radius in settings.closing)
    closed = ndimage.minimum_filter(ndimage.maximum_filter(wide, box), box)
    return np.asarray(closed.view(bool))


def _contract(level_set: Mask, glacier: Mask, settings: PixelSettings) -> Mask:
    """Let the contour settle, narrow it, and give back what of the glacier it lost by that.

    The contour rests one pixel outside the glacier's edge, or, where smoothing took it onto the
    edge, one pixel inside; what is narrowed would lie two pixels inside there.
    """
    settled = evolve(level_set, glacier, settings.iterations)
    narrow = ndimage.binary_erosion(settled, _diamond(settings.margin), border_value=1)
    lost = ndimage.binary_dilation(narrow, _diamond(_beyond(settings.margin)))
    return np.asarray(narrow | (glacier & lost))


def _beyond(margin: Radii) -> Radii:
    return margin[0] + 1, margin[1] + 1


def _diamond(radii: Radii) -> Mask:
    """Structuring element whose dilation moves a straight edge as far as its erosion does."""
    y, x = np.ogrid[-radii[0] : radii[0] + 1, -radii[1] : radii[1] + 1]
    return np.asarray(abs(y) / max(radii[0], 1) + abs(x) / max(radii[1], 1) <= 1)


def evolve(level_set: Mask, glacier: Mask, iterations: int) -> Mask:
    """Run the active contour on one array.

    Parameters
    ----------
    level_set : ndarray of bool
        Where to start from, shape (rows, columns), each at least 3.
    glacier : ndarray of bool
        Whose edge holds the contour.
    iterations : int
        Steps.

    Returns
    -------
    ndarray of bool
        The level set after the last step. The outermost row or column never changes.

    Examples
    --------
    >>> start = np.zeros((7, 7), bool)
    >>> start[3, 3] = True
    >>> evolve(start, np.zeros((7, 7), bool), 1).any()
    np.False_
    """
    edge = _differences(~glacier)
    for step in range(iterations):
        slopes = _differences(level_set)
        force = edge[0] * slopes[0] + edge[1] * slopes[1]
        level_set = level_set.copy()
        inner = level_set[1:-1, 1:-1]
        inner[force > 0] = True
        inner[force < 0] = False
        for operator in (_open_lines, _close_lines)[:: 1 if step % 2 else -1]:
            level_set = operator(level_set)
    return level_set


def _differences(mask: Mask) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Twice the gradient along rows and columns, of all but the outermost pixels."""
    values = mask.view(np.int8)
    return values[2:, 1:-1] - values[:-2, 1:-1], values[1:-1, 2:] - values[1:-1, :-2]


def _open_lines(mask: Mask) -> Mask:
    """Keep pixels that lie on a line of three; ("SI" of the paper)."""
    return _along_lines(mask, np.logical_and, np.logical_or)


def _close_lines(mask: Mask) -> Mask:
    """Add pixels that have a neighbour on every line through them; ("IS" of the paper)."""
    return _along_lines(mask, np.logical_or, np.logical_and)


def _along_lines(mask: Mask, along: np.ufunc, across: np.ufunc) -> Mask:
    height, width = mask.shape

    def shifted(dy: int, dx: int) -> Mask:
        return mask[1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]

    lines = (along(along(shifted(0, 0), shifted(*a)), shifted(*b)) for a, b in _LINES)
    changed = mask.copy()
    changed[1:-1, 1:-1] = reduce(across, lines)
    return changed
