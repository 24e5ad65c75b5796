"""Priorities of pixels: what is drawn depends on position and seed alone.

A random choice of at most N of something keeps the N of lowest priority. Parts of a scene propose
their own lowest and proposals are merged, so the outcome is the same for any chunk layout,
scheduler and number of workers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from csc_xr.errors import ParameterError

_STEP = np.uint64(0x9E3779B97F4A7C15)


def pixel_priority(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    seed: int,
    scenes: NDArray[np.int64] | int = 0,
) -> NDArray[np.uint64]:
    """Hash (seed, scene, row, column) to 64 bits.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA, doi:10.1145/2660193.2660195),
    which is one to one, over the position and then over its sum with what seed and scene are
    hashed to: no two pixels of a scene share a priority.

    Parameters
    ----------
    rows, columns : ndarray of int64
        Pixel positions, below 2**32.
    seed : int
        Seed.
    scenes : ndarray of int64 or int
        Number of the scene each pixel lies in, 0 or more.

    Returns
    -------
    ndarray of uint64
        Priorities, uniform over 64 bits.

    Examples
    --------
    >>> import numpy as np
    >>> a = pixel_priority(np.array([1, 2]), np.array([2, 1]), seed=0)
    >>> b = pixel_priority(np.array([1, 2]), np.array([2, 1]), seed=1)
    >>> len({*a.tolist(), *b.tolist()})
    4
    """
    position = (rows.astype(np.uint64) << np.uint64(32)) | columns.astype(np.uint64)
    numbers = np.atleast_1d(np.asarray(scenes)).astype(np.uint64) * _STEP
    offset = _mix(np.array([seed % 2**64], np.uint64) + numbers)
    return _mix(_mix(position) + offset)


def check_seed(seed: int) -> int:
    """Check that a seed can be used.

    Parameters
    ----------
    seed : int
        Any seed.

    Returns
    -------
    int
        The seed.

    Raises
    ------
    ParameterError
        When it is not a whole number of 0 or more.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ParameterError(f"seed must be a whole number of 0 or more, got {seed}.")
    return int(seed)


def lowest_of_each(
    codes: NDArray[np.uint8], priorities: NDArray[np.uint64], most: int
) -> NDArray[np.int64]:
    """Choose the entries of lowest priority of each class.

    Parameters
    ----------
    codes : ndarray of uint8
        Shape (n,): classes.
    priorities : ndarray of uint64
        Shape (n,).
    most : int
        Entries chosen of a class, where it has as many.

    Returns
    -------
    ndarray of int64
        Positions of the chosen, ascending.

    Examples
    --------
    >>> codes = np.array([1, 1, 2, 1], np.uint8)
    >>> lowest_of_each(codes, np.array([9, 4, 7, 5], np.uint64), 2)
    array([1, 2, 3])
    """
    chosen = [np.empty(0, np.int64)]
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        if len(members) > most:
            members = members[np.argpartition(priorities[members], most)[:most]]
        chosen.append(members)
    return np.sort(np.concatenate(chosen))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values + _STEP
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
