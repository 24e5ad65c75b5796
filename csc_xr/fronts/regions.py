"""Connected regions of masks, over chunks: the glacier and the ocean of a class raster.

Masks are computed as soon as they are known, because each step asks about all of the one before:
a byte a pixel for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, product
from typing import Literal, NamedTuple

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from csc_xr.blockwise import map_halo, map_places
from csc_xr.fronts.settings import PixelSettings, Radii

Mask = NDArray[np.bool_]
Labels = NDArray[np.int64]

_CHUNK = 2048
"""Side of the chunks regions are labelled in."""

_CORNERS = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}


class Regions(NamedTuple):
    """Connected regions of a mask, numbered from 0 in order of their first pixel.

    Attributes
    ----------
    mask : dask.array.Array
        Shape (y, x), bool.
    corners : int
        Whether pixels are connected by edges alone (4), or by corners too (8).
    numbers : dict
        For each chunk, by its first row and column, the number of each of its own regions.
    pixels : ndarray of int
        Pixels by number of the region.
    touching : ndarray of bool
        Whether the region has a pixel in the frame, by number.
    """

    mask: da.Array
    corners: int
    numbers: dict[tuple[int, int], NDArray[np.int64]]
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
        by_chunk = {place: chosen[numbers] for place, numbers in self.numbers.items()}
        argument = (by_chunk, self.corners)
        return map_places(_look_up, self.mask, dtype=bool, argument=argument).persist()


def find_glacier(
    codes: da.Array, settings: PixelSettings, *, inside: da.Array | None = None
) -> da.Array | None:
    """Find the glacier: the largest region of its classes, holes filled. Computes.

    Parameters
    ----------
    codes : dask.array.Array
        Classes, shape (y, x), uint8.
    settings : PixelSettings
        Which codes.
    inside : dask.array.Array, optional
        Shape (y, x), bool: only pixels here count for the size of a region.

    Returns
    -------
    dask.array.Array or None
        Shape (y, x), bool, computed; None where no pixel is glacier.
    """
    ice = da.isin(codes, settings.glacier).persist()  # the classes are read once
    regions = label_regions(ice, corners=4, counted=inside)
    if not regions.pixels.any():
        return None
    largest = np.arange(len(regions.pixels)) == regions.pixels.argmax()
    return fill_holes(regions.keep(largest))


def find_ocean(codes: da.Array, settings: PixelSettings) -> da.Array | None:
    """Find the ocean: water of some size and width that is not cut off by the image. Computes.

    Holes are filled, strips narrower than `ocean_width` left out. Regions with a pixel in the
    frame are dropped, except the largest of them; of the rest, those with `min_ocean`
    of water and more stay.

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
    water = da.isin(codes, settings.ocean).persist()
    filled = fill_holes(water)
    wide = over_chunks(_without_strips, [filled], 3 * max(settings.ocean_width), settings)
    regions = label_regions(wide.persist(), corners=8, frame=settings.frame)
    chosen = ~regions.touching
    if not chosen.all():
        chosen[np.where(regions.touching, regions.pixels, 0).argmax()] = True
    pieces = label_regions(regions.keep(chosen), corners=4, counted=water)
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
    return (~outside.keep(outside.touching)).persist()


def label_regions(
    mask: da.Array,
    *,
    corners: Literal[4, 8],
    frame: Radii = (0, 0),
    counted: da.Array | None = None,
) -> Regions:
    """Find the connected regions of a mask. Computes.

    Each chunk is labelled by itself; regions that meet at the border of two chunks are one. What is
    kept of a chunk are the labels along its border and the sizes of its regions, so memory does
    not grow with the image; the labels themselves are made anew where they are needed.

    Parameters
    ----------
    mask : dask.array.Array
        Shape (y, x), bool.
    corners : {4, 8}
        Whether pixels are connected by edges alone, or by corners too.
    frame : tuple of int
        Rows and columns along the border of the image that make a region "touching".
    counted : dask.array.Array, optional
        Shape (y, x), bool: only pixels here count for the size of a region.

    Returns
    -------
    Regions
        Sizes, and what :meth:`Regions.keep` needs.
    """
    mask = mask.rechunk(_CHUNK)
    starts = [np.cumsum([0, *lengths[:-1]]).tolist() for lengths in mask.chunks]
    places = list(product(*starts))
    count = dask.delayed(partial(_count, shape=mask.shape, frame=frame, corners=corners))
    sized = mask if counted is None else counted.rechunk(_CHUNK)
    blocks = zip(mask.to_delayed().ravel(), sized.to_delayed().ravel(), places, strict=True)
    chunks: tuple[_Chunk, ...] = dask.compute(*(count(*block) for block in blocks))
    before = np.cumsum([0, *(len(chunk.pixels) for chunk in chunks)])
    merged = _merge(chunks, before, mask.numblocks, corners)
    firsts = [
        (chunk.first[:, 0] + row) * mask.shape[1] + chunk.first[:, 1] + column
        for chunk, (row, column) in zip(chunks, places, strict=True)
    ]
    numbers = _in_reading_order(merged, np.concatenate(firsts))
    count_all = int(numbers.max(initial=-1)) + 1
    pixels, touching = np.zeros(count_all, np.int64), np.zeros(count_all, bool)
    np.add.at(pixels, numbers, np.concatenate([chunk.pixels for chunk in chunks]))
    np.logical_or.at(touching, numbers, np.concatenate([chunk.touching for chunk in chunks]))
    own = np.split(numbers, before[1:-1])
    return Regions(mask, corners, dict(zip(places, own, strict=True)), pixels, touching)


class _Chunk(NamedTuple):
    """Labels along the sides of a chunk; pixels, frame and first pixel of each of its regions."""

    top: Labels
    bottom: Labels
    left: Labels
    right: Labels
    pixels: Labels
    touching: NDArray[np.bool_]
    first: Labels


def _count(
    mask: Mask,
    counted: Mask,
    place: tuple[int, int],
    *,
    shape: tuple[int, int],
    frame: Radii,
    corners: int,
) -> _Chunk:
    labels, count = ndimage.label(mask, _CORNERS[corners])
    inside = np.flatnonzero(labels)[::-1]
    first = np.zeros(count + 1, np.int64)
    first[labels.ravel()[inside]] = inside  # the last one written is the first pixel
    return _Chunk(
        top=labels[0].astype(np.int64),
        bottom=labels[-1].astype(np.int64),
        left=labels[:, 0].astype(np.int64),
        right=labels[:, -1].astype(np.int64),
        pixels=np.bincount(labels[counted], minlength=count + 1)[1:],
        touching=np.isin(np.arange(1, count + 1), labels[_in_frame(mask, place, shape, frame)]),
        first=np.stack(np.divmod(first[1:], mask.shape[1]), axis=1),
    )


def _in_frame(mask: Mask, place: tuple[int, int], shape: tuple[int, int], frame: Radii) -> Mask:
    """Mark the pixels of a chunk that lie along the border of the image."""
    y, x = (np.arange(n) + start for n, start in zip(mask.shape, place, strict=True))
    near_y = (y < frame[0]) | (y >= shape[0] - frame[0])
    near_x = (x < frame[1]) | (x >= shape[1] - frame[1])
    return near_y[:, None] | near_x[None, :]


def _merge(
    chunks: Sequence[_Chunk], before: Labels, shape: tuple[int, ...], corners: int
) -> Labels:
    """Give one number to regions that meet at borders of chunks."""

    def sides(name: str) -> list[list[Labels]]:
        """Labels along one side of each chunk, by row of chunks, counted over all from 1."""
        found = [getattr(chunk, name) for chunk in chunks]
        counted = [np.where(side, side + n, 0) for side, n in zip(found, before, strict=False)]
        return [counted[i : i + shape[1]] for i in range(0, len(counted), shape[1])]

    right, left = (list(zip(*sides(name), strict=True)) for name in ("right", "left"))
    across = zip(sides("bottom")[:-1], sides("top")[1:], strict=True)
    along = zip(right[:-1], left[1:], strict=True)
    facing = [(np.concatenate(one), np.concatenate(other)) for one, other in chain(across, along)]
    pairs = [_meeting(one, other) for one, other in facing]
    if corners == 8:
        pairs += [_meeting(one[1:], other[:-1]) for one, other in facing]
        pairs += [_meeting(one[:-1], other[1:]) for one, other in facing]
    one, other = np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1)
    count = int(before[-1])
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _meeting(one: Labels, other: Labels) -> Labels:
    """Pairs of regions, from 0, that lie side by side along a border."""
    pairs = np.stack([one, other])
    return np.unique(pairs[:, pairs.all(axis=0)], axis=1) - 1


def _in_reading_order(numbers: Labels, firsts: Labels) -> Labels:
    """Count regions in order of their first pixel, which does not depend on chunks."""
    count = int(numbers.max(initial=-1)) + 1
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, numbers, firsts)
    rank = np.empty(count, np.int64)
    rank[np.argsort(first)] = np.arange(count)
    return rank[numbers]


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
    height, width = stacked.shape[1:]
    for axis, side in ((1, height), (2, width)):
        if side < halo:  # a strip: let its mirror images follow it
            turned = [stacked, da.flip(stacked, axis)] * (1 + halo // side)
            stacked = da.concatenate(turned, axis).rechunk({axis: -1})
    found = map_halo(
        partial(_trimmed, function, halo), stacked,
        halo=halo, n_outputs=1, dtype=bool, argument=settings, edge="mirror",
    )  # fmt: skip
    return found[0, :height, :width]


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


def _look_up(
    mask: Mask,
    rows: slice,
    columns: slice,
    argument: tuple[dict[tuple[int, int], Mask], int],
) -> Mask:
    by_chunk, corners = argument
    chosen = by_chunk[rows.start, columns.start]
    if chosen.all() or not chosen.any():
        return mask if chosen.all() else np.zeros_like(mask)
    labels, _ = ndimage.label(mask, _CORNERS[corners])
    return np.asarray(np.concatenate([[False], chosen])[labels])
