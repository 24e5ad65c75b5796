"""Pixels of each class, drawn by position and seed alone.

Every pixel has a priority, a hash of (seed, row, column); of each class the pixels of lowest
priority are taken. Each chunk proposes its own lowest, proposals are merged, so the outcome is
the same for any chunk layout, scheduler and number of workers, and no chunk sends more than the
number asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from csc_xr.blockwise import haloed_blocks
from csc_xr.priorities import lowest_of_each, pixel_priority

MERGE = 16
"""Proposals merged by one task."""

DRAWN_DTYPE = np.dtype(
    [("code", np.uint8), ("priority", np.uint64), ("row", np.int64), ("column", np.int64)]
)


def draw_positions(
    classes: xr.DataArray, *, per_class: int, seed: int, stream: int = 0
) -> NDArray[np.void]:
    """Draw pixels of each class by lowest priority.

    Parameters
    ----------
    classes : xarray.DataArray
        Dims (y, x), uint8, Dask-backed; 0 is never drawn.
    per_class : int
        Most pixels drawn of a class.
    seed : int
        Seed of the priorities.
    stream : int
        Draws of one seed for different ends do not know of each other when this differs.

    Returns
    -------
    ndarray
        Structured (``DRAWN_DTYPE``), ordered by priority. Computed.
    """
    propose = dask.delayed(_propose, pure=True)
    merge = dask.delayed(_lowest, pure=True)
    proposals = [
        propose(block.values, (block.rows.start, block.columns.start), per_class, (seed, stream))
        for block in haloed_blocks(classes.data[None], halo=0)
    ]
    while len(proposals) > 1:
        proposals = [
            merge(proposals[start : start + MERGE], per_class)
            for start in range(0, len(proposals), MERGE)
        ]
    (drawn,) = dask.compute(*proposals)
    return np.sort(drawn, order="priority")


def _propose(
    block: NDArray[np.uint8], origin: tuple[int, int], per_class: int, key: tuple[int, int]
) -> NDArray[np.void]:
    codes = block[0]
    rows, columns = np.nonzero(codes)
    found = np.empty(len(rows), DRAWN_DTYPE)
    found["code"] = codes[rows, columns]
    found["row"] = rows + origin[0]
    found["column"] = columns + origin[1]
    found["priority"] = pixel_priority(found["row"], found["column"], *key)
    return _lowest([found], per_class)


def _lowest(proposals: Sequence[NDArray[np.void]], per_class: int) -> NDArray[np.void]:
    everything = np.concatenate(proposals)
    return everything[lowest_of_each(everything["code"], everything["priority"], per_class)]
