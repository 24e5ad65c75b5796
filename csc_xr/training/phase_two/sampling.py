"""Samples for phase two, drawn by position and seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from csc_xr.blockwise import haloed_blocks
from csc_xr.draws import draw_positions
from csc_xr.errors import ParameterError, SceneError
from csc_xr.inference import patch_halo
from csc_xr.priorities import lowest_of_each
from csc_xr.scene import check_bands, valid_pixels, validate_scene


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled patches.

    Attributes
    ----------
    codes : ndarray of uint8
        Shape (n,): the class of the tile each patch's centre lies in.
    rows, columns : ndarray of int64
        Shape (n,): the centre pixels.
    patches : ndarray
        Shape (n, k, k, bands), in the scene's own dtype and numbers; 0 in place of pixels that
        are not valid.
    """

    codes: NDArray[np.uint8]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    patches: NDArray[np.generic]

    def counts(self) -> dict[int, int]:
        """Count the samples of each class.

        Returns
        -------
        dict of int to int
            Number of samples by class code, in order of the codes.
        """
        codes, counts = np.unique(self.codes, return_counts=True)
        return {int(code): int(count) for code, count in zip(codes, counts, strict=True)}


def draw_samples(
    scene: xr.DataArray,
    classes: xr.DataArray,
    *,
    bands: Sequence[str],
    patch_size: int,
    per_class: int,
    seed: int,
    memory_limit: int = 2**29,
) -> Samples:
    """Draw patches of a scene, as many of each class as there are, up to a number.

    Computes: reads the classes once and the scene once.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x).
    classes : xarray.DataArray
        Dims (y, x), uint8, on the scene's grid; 0 is never drawn.
    bands : sequence of str
        Names of the bands the patches hold, in order.
    patch_size : int
        Side k of the patches in pixels, odd.
    per_class : int
        Samples wanted of each class.
    seed : int
        Another seed draws other pixels.
    memory_limit : int
        Bytes the patches may take; fewer are drawn of each class when they would take more.

    Returns
    -------
    Samples
        Ordered by priority, so that classes are mixed.

    Raises
    ------
    ParameterError
        When ``per_class`` is below 1 or the patch does not fit the scene.
    SceneError
        When no pixel has a class.
    """
    scene = check_bands(validate_scene(scene), bands, who="The patch network")
    halo = patch_halo(patch_size, scene)
    if per_class < 1:
        raise ParameterError(f"per_class must be 1 or more, got {per_class}.")
    drawn = draw_positions(classes, per_class=per_class, seed=seed)
    if not len(drawn):
        raise SceneError(
            "Phase two needs pixels with a class to learn from, but phase one gave none. "
            "Check the scene's nodata and masks, and lower the probability threshold."
        )
    patch_bytes = patch_size**2 * len(bands) * scene.dtype.itemsize
    drawn = _within_budget(drawn, max(memory_limit // patch_bytes, 1))
    patches = _gather_patches(scene, drawn, halo)
    return Samples(drawn["code"], drawn["row"], drawn["column"], patches)


def _within_budget(drawn: NDArray[np.void], most: int) -> NDArray[np.void]:
    """Thin the largest classes until all samples together are no more than a number."""
    counts = np.unique(drawn["code"], return_counts=True)[1]
    allowed = int(counts.max())
    while np.minimum(counts, allowed).sum() > most and allowed > 1:
        allowed = max(1, min(allowed - 1, int(allowed * 0.95)))
    kept = drawn[lowest_of_each(drawn["code"], drawn["priority"], allowed)]
    return np.sort(kept, order="priority")


def _gather_patches(scene: xr.DataArray, drawn: NDArray[np.void], halo: int) -> NDArray[np.generic]:
    filled = scene.where(valid_pixels(scene), scene.dtype.type(0))
    side = 2 * halo + 1
    cut = dask.delayed(_cut_patches, pure=True)
    tasks, places = [], []
    for block in haloed_blocks(filled.data, halo=halo):
        inside = _within(drawn["row"], block.rows) & _within(drawn["column"], block.columns)
        place = np.flatnonzero(inside)
        if len(place):
            rows = drawn["row"][place] - block.rows.start
            columns = drawn["column"][place] - block.columns.start
            tasks.append(cut(block.values, rows, columns, side))
            places.append(place)
    patches = np.empty((len(drawn), side, side, scene.sizes["band"]), scene.dtype)
    for place, found in zip(places, dask.compute(*tasks), strict=True):
        patches[place] = found
    return patches


def _within(positions: NDArray[np.int64], span: slice) -> NDArray[np.bool_]:
    return np.asarray((positions >= span.start) & (positions < span.stop))


def _cut_patches(
    block: NDArray[np.generic],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    side: int,
) -> NDArray[np.generic]:
    # the halo shifts positions by half a patch: a patch starts at its centre's own index
    windows = np.lib.stride_tricks.sliding_window_view(block, (side, side), axis=(1, 2))
    return windows[:, rows, columns].transpose(1, 2, 3, 0)
