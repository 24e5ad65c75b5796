"""Which windows of a label raster are of nearly one class; pure NumPy, at memory speed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csc_xr.errors import ParameterError
from csc_xr.legend import NODATA_CODE

Starts = tuple[NDArray[np.int64], NDArray[np.int64]]  # first rows, first columns

_ROUNDING = 1e-6  # of a pixel: a share met exactly is met, however it was computed


class WindowRule(NamedTuple):
    """Which windows become tiles.

    Attributes
    ----------
    size : int
        Side in pixels.
    stride : int
        Pixels from one window to the next.
    purity : float
        Least share of a window that its commonest class covers.
    max_unlabelled : float
        Most of a window that may be unlabelled or not valid, as a share.
    """

    size: int
    stride: int
    purity: float
    max_unlabelled: float

    def check(self) -> None:
        """Check that every value can be used.

        Raises
        ------
        ParameterError
            When one cannot.
        """
        rules = {
            "tile_size": (self.size, _whole(self.size), "be 1 or more whole pixels"),
            "stride": (self.stride, _whole(self.stride), "be 1 or more whole pixels"),
            "purity": (self.purity, 0 < self.purity <= 1, "lie above 0 and up to 1"),
            "max_unlabelled": (self.max_unlabelled, 0 <= self.max_unlabelled <= 1, "lie in 0 to 1"),
        }
        for name, (value, usable, rule) in rules.items():
            if not usable:
                raise ParameterError(f"{name} must {rule}, got {value}.")

    def starts(self, length: int) -> NDArray[np.int64]:
        """Give the first pixels of all windows along one axis.

        Parameters
        ----------
        length : int
            Pixels along the axis, at least ``size``.

        Returns
        -------
        ndarray of int64
            Multiples of the stride, and the window that ends with the axis.

        Examples
        --------
        >>> WindowRule(50, 25, 0.95, 0.1).starts(120).tolist()
        [0, 25, 50, 70]
        """
        last = length - self.size
        return np.unique(np.append(np.arange(0, last + 1, self.stride), last))


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and int(value) >= 1


def majority_codes(codes: NDArray[np.uint8], starts: Starts, rule: WindowRule) -> NDArray[np.uint8]:
    """Give the commonest class of each window, 0 where it covers too little of it.

    Parameters
    ----------
    codes : ndarray of uint8
        Shape (rows, columns); 0 is unlabelled.
    starts : tuple of ndarray
        First rows and first columns of the windows.
    rule : WindowRule
        What a window must hold. A share met exactly is met.

    Returns
    -------
    ndarray of uint8
        Shape (number of first rows, number of first columns). Of classes equally common the
        lowest code counts.

    Examples
    --------
    >>> codes = np.array([[1, 1, 2], [1, 1, 2]], np.uint8)
    >>> first = np.array([0]), np.array([0, 1])
    >>> majority_codes(codes, first, WindowRule(2, 1, 0.9, 0.0))
    array([[1, 0]], dtype=uint8)
    """
    best = np.zeros((len(starts[0]), len(starts[1])), np.uint8)
    most = np.zeros(best.shape, np.int32)
    labelled = np.zeros(best.shape, np.int32)
    for code in range(1, int(codes.max(initial=0)) + 1):
        where = codes == code
        if not where.any():
            continue
        count = window_counts(where, starts, rule.size)
        best[count > most] = code
        np.maximum(most, count, out=most)
        labelled += count
    area = rule.size**2
    pure = most >= rule.purity * area - _ROUNDING
    pure &= area - labelled <= rule.max_unlabelled * area + _ROUNDING
    return np.where(pure, best, np.uint8(NODATA_CODE))


def window_counts(where: NDArray[np.bool_], starts: Starts, size: int) -> NDArray[np.int32]:
    """Count the true pixels of every window, as differences of running sums along each axis.

    The sums run over the strips between the places where windows begin and end, so that each
    pixel is added once, in 8 bits where a strip is narrow enough.

    Parameters
    ----------
    where : ndarray of bool
        Shape (rows, columns), fewer than 2**31 pixels.
    starts : tuple of ndarray
        First rows and first columns of the windows.
    size : int
        Side of a window in pixels.

    Returns
    -------
    ndarray of int32
        Shape (number of first rows, number of first columns).

    Examples
    --------
    >>> window_counts(np.eye(3, dtype=bool), (np.array([0, 1]), np.array([0, 1])), 2)
    array([[2, 1],
           [1, 2]], dtype=int32)
    """
    down = _differences(where.view(np.uint8), starts[0], size)
    return np.ascontiguousarray(_differences(np.ascontiguousarray(down.T), starts[1], size).T)


def _differences(values: NDArray[Any], starts: NDArray[np.int64], size: int) -> NDArray[np.int32]:
    edges = np.unique(np.concatenate([starts, starts + size]))
    narrow = values.dtype == np.uint8 and np.diff(edges).max(initial=0) <= np.iinfo(np.uint8).max
    strips = np.empty((len(edges) - 1, values.shape[1]), np.uint8 if narrow else np.int32)
    for strip, first, end in zip(strips, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        np.add.reduce(values[first:end], axis=0, dtype=strips.dtype, out=strip)
    sums = np.zeros((len(edges), values.shape[1]), np.int32)
    np.cumsum(strips, axis=0, dtype=np.int32, out=sums[1:])
    ends, begins = np.searchsorted(edges, starts + size), np.searchsorted(edges, starts)
    return np.asarray(sums[ends] - sums[begins])
