"""Connected regions of masks, over chunks: the glacier and the ocean of a class raster.

Masks are computed as soon as they are known, because each step asks about all of the one before:
a byte a pixel for each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import dask
import dask.array as da
import numpy as np
from dask_image.ndmeasure import label
from numpy.typing import NDArray
from scipy import ndimage

from csc_xr.blockwise import map_halo, map_places
from csc_xr.fronts.settings import PixelSettings, Radii

Mask = NDArray[np.bool_]

_CHUNK = 4096
"""Side of the chunks regions are labelled in. The number of tasks grows with the square of the
number of chunks: 1473 for a Sentinel-2 scene, 180 000 with chunks of 1024."""

_CORNERS = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}


class Regions(NamedTuple):
    """Connected regions of a mask.

    Attributes
    ----------
    labels : dask.array.Array
        Shape (y, x), int32: 0 outside, else the number of the region.
    pixels : ndarray of int
        Pixels by number of the region; 0 for number 0.
    touching : ndarray of bool
        Whether the region has a pixel in the frame, by number.
    """

    labels: da.Array
    pixels: NDArray[np.int64]
    touching: NDArray[np.bool_]

    def keep(self, chosen: NDArray[np.bool_]) -> da.Array:
        """Give the mask of some of the regions. Computes.

        Parameters
        ----------
        chosen : ndarray of bool
            By number of the region.

        Returns
        -------
        dask.array.Array
            Shape (y, x), bool, computed.
        """
        kept = map_places(_look_up, self.labels, dtype=bool, argument=chosen)
        return kept.persist()


def find_glacier(codes: da.Array, settings: PixelSettings) -> da.Array | None:
    """Find the glacier: the largest region of its classes, holes filled. Computes.

    Parameters
    ----------
    codes : dask.array.Array
        Classes, shape (y, x), uint8.
    settings : PixelSettings
        Which codes.

    Returns
    -------
    dask.array.Array or None
        Shape (y, x), bool, computed; None where no pixel is glacier.
    """
    regions = label_regions(da.isin(codes, settings.glacier), corners=4)
    if not regions.pixels.any():
        return None
    largest = np.arange(len(regions.pixels)) == regions.pixels.argmax()
    return fill_holes(regions.keep(largest))


def find_ocean(codes: da.Array, settings: PixelSettings) -> da.Array | None:
    """Find the ocean: water of some size and width that is not cut off by the image. Computes.

    Holes are filled, strips narrower than `ocean_width` left out. Regions with a pixel in the
    frame are dropped, except the largest of them; of the rest, those of `min_ocean` and more stay.

    Parameters
    ----------
    codes : dask.array.Array
        Classes, shape (y, x), uint8.
    settings : PixelSettings
        Which codes, how wide a frame, how narrow and how small no ocean is.

    Returns
    -------
    dask.array.Array or None
        Shape (y, x), bool, computed; None where nothing is left.
    """
    filled = fill_holes(da.isin(codes, settings.ocean))
    wide = over_chunks(_without_strips, [filled], 3 * max(settings.ocean_width), settings)
    regions = label_regions(wide.persist(), corners=8, frame=settings.frame)
    at_frame = np.where(regions.touching, regions.pixels, 0)
    chosen = ~regions.touching
    chosen[at_frame.argmax()] = True
    chosen[0] = False
    pieces = label_regions(regions.keep(chosen), corners=4)
    large = pieces.pixels >= max(settings.min_ocean, 1)
    return pieces.keep(large) if large.any() else None


def fill_holes(mask: da.Array) -> da.Array:
    """Fill what a mask encloses. Computes.

    Parameters
    ----------
    mask : dask.array.Array
        Shape (y, x), bool.

    Returns
    -------
    dask.array.Array
        Shape (y, x), bool, computed: the mask, and every region without it that does not reach
        the border of the image, edge to edge.
    """
    outside = label_regions(~mask, corners=4, frame=(1, 1))
    holes = ~outside.touching
    holes[0] = True  # the mask itself
    return outside.keep(holes)


def label_regions(mask: da.Array, *, corners: Literal[4, 8], frame: Radii = (0, 0)) -> Regions:
    """Find the connected regions of a mask. Computes their sizes.

    Parameters
    ----------
    mask : dask.array.Array
        Shape (y, x), bool.
    corners : {4, 8}
        Whether pixels are connected by edges alone, or by corners too.
    frame : tuple of int
        Rows and columns along the border of the image that make a region "touching".

    Returns
    -------
    Regions
        Labels stay lazy.
    """
    labels, _ = label(mask.rechunk(_CHUNK), structure=_CORNERS[corners])
    at_frame = frame_mask(labels, frame)
    blocks = zip(labels.to_delayed().ravel(), at_frame.to_delayed().ravel(), strict=True)
    counted = dask.compute(*(dask.delayed(_count)(*pair) for pair in blocks))
    highest = max((int(numbers[-1]) for numbers, _, _ in counted if len(numbers)), default=0)
    pixels, touching = np.zeros(highest + 1, np.int64), np.zeros(highest + 1, bool)
    for numbers, counts, touches in counted:
        pixels[numbers] += counts
        touching[numbers] |= touches
    return Regions(labels, pixels, touching)


def frame_mask(like: da.Array, frame: Radii) -> da.Array:
    """Mark the pixels along the border of an image.

    Parameters
    ----------
    like : dask.array.Array
        Shape (y, x).
    frame : tuple of int
        Rows and columns.

    Returns
    -------
    dask.array.Array
        Shape and chunks of `like`, bool, lazy.
    """
    (rows, columns), (height, width) = like.chunks, like.shape
    y, x = da.arange(height, chunks=(rows,)), da.arange(width, chunks=(columns,))
    near_y = (y < frame[0]) | (y >= height - frame[0])
    near_x = (x < frame[1]) | (x >= width - frame[1])
    return near_y[:, None] | near_x[None, :]


def over_chunks(
    function: Callable[..., Mask], masks: list[da.Array], halo: int, settings: PixelSettings
) -> da.Array:
    """Apply a function of masks that looks so far to every chunk that has an edge in it.

    Parameters
    ----------
    function : callable
        ``function(*masks, settings)``: bool arrays of one shape to another. A mask that is
        all true, or all false, must come out as it is.
    masks : list of dask.array.Array
        Shape (y, x), bool. Beyond the image lies its mirror image.
    halo : int
        Pixels that the function looks to every side.
    settings : PixelSettings
        Handed to every call.

    Returns
    -------
    dask.array.Array
        Shape (y, x), bool, lazy.
    """
    stacked = da.stack([mask.rechunk(masks[0].chunks) for mask in masks])
    # An image smaller than the halo is one chunk; its mirror image repeats from there.
    halo = min(halo, *stacked.shape[1:])
    found = map_halo(
        partial(_trimmed, function, halo), stacked,
        halo=halo, n_outputs=1, dtype=bool, argument=settings, edge="mirror",
    )  # fmt: skip
    return found[0]


def _trimmed(
    function: Callable[..., Mask], halo: int, block: Mask, argument: PixelSettings
) -> Mask:
    inside = slice(halo, -halo or None)
    if (block == block[0, 0, 0]).all():
        return block[:1, inside, inside]
    return function(*block, argument)[None, inside, inside]


def _without_strips(ocean: Mask, settings: PixelSettings) -> Mask:
    """Open a mask, and let what is left grow back along its own edges."""
    box = tuple(2 * radius + 1 for radius in settings.ocean_width)
    middle = ndimage.minimum_filter(ocean.view(np.uint8), box)
    grown = ndimage.maximum_filter(ndimage.maximum_filter(middle, box), box)
    return np.asarray(ocean & grown.view(bool))


def _count(
    labels: NDArray[np.int32], at_frame: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Numbers of the regions of a block in ascending order, their pixels, whether they touch."""
    pixels = np.bincount(labels.ravel())
    pixels[0] = 0
    numbers = np.flatnonzero(pixels)
    return numbers, pixels[numbers], np.isin(numbers, labels[at_frame])


def _look_up(
    block: NDArray[np.int32], _rows: slice, _columns: slice, chosen: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    return chosen[block]
