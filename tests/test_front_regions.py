"""Regions labelled over chunks are those of the whole image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pytest
from fronts_for_tests import (
    ICE,
    WATER,
    plain_glacier,
    plain_ocean,
    plain_width,
    raster,
    small_chunks,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from csc_xr.fronts.regions import fill_holes, find_glacier, find_ocean, label_regions
from csc_xr.fronts.settings import FrontSettings, PixelSettings, in_pixels
from csc_xr.legend import GLACIER

SOME, FEW = (settings(max_examples=count, deadline=None) for count in (40, 15))
STRUCTURE = {4: [[0, 1, 0], [1, 1, 1], [0, 1, 0]], 8: np.ones((3, 3))}
TRUE_PIXEL = (10.0, 10.0)  # near enough to that of the raster below


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@st.composite
def cut_masks(draw: st.DrawFn) -> tuple[np.ndarray, da.Array, int]:
    """A mask of noise or of blobs, the same in chunks, and the side of chunks to label in."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    field = ndimage.gaussian_filter(rng.normal(size=(height, width)), draw(st.sampled_from([0, 2])))
    mask = field > np.quantile(field, draw(st.floats(0, 1)))
    chunks = draw(st.integers(1, height)), draw(st.integers(1, width))
    labelled_in = draw(st.integers(-(-max(height, width) // 4), 45))
    return mask, da.from_array(mask, chunks), labelled_in


def in_10_m_pixels(**given: float) -> PixelSettings:
    return in_pixels(FrontSettings(**given), GLACIER, raster(np.zeros((9, 9), np.uint8)))


def with_min_ocean(pixels: int, *, frame: int, width_m: float = 0.0) -> PixelSettings:
    known = in_10_m_pixels(frame_m=10.0 * frame, min_ocean_width_m=width_m)
    return replace(known, min_ocean=float(pixels))


def in_frame(shape: tuple[int, int], frame: tuple[int, int]) -> np.ndarray:
    marked = np.ones(shape, bool)
    marked[frame[0] : shape[0] - frame[0], frame[1] : shape[1] - frame[1]] = False
    return marked


def in_codes(codes: np.ndarray) -> da.Array:
    return da.from_array(codes, 7)


@SOME
@given(
    cut_masks(), st.sampled_from([4, 8]), st.tuples(st.integers(0, 5), st.integers(0, 5)), st.data()
)
def test_regions_are_those_of_the_whole_mask(
    cut: tuple[np.ndarray, da.Array, int], corners: int, frame: tuple[int, int], data: st.DataObject
) -> None:
    mask, chunked, labelled_in = cut
    labels, count = ndimage.label(mask, STRUCTURE[corners])
    by_first_pixel = list(dict.fromkeys(labels[mask].tolist()))
    at_frame = labels[in_frame(mask.shape, frame)]
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    with small_chunks(labelled_in, 512):
        regions = label_regions(chunked, corners=corners, frame=frame)
        kept = regions.keep(chosen).compute()
    sizes = np.bincount(labels.ravel())
    assert regions.pixels.tolist() == [sizes[number] for number in by_first_pixel]
    assert regions.touching.tolist() == [number in at_frame for number in by_first_pixel]
    np.testing.assert_array_equal(kept, np.isin(labels, np.array(by_first_pixel)[chosen]))


@SOME
@given(cut_masks())
def test_holes_are_those_of_the_whole_mask(cut: tuple[np.ndarray, da.Array, int]) -> None:
    mask, chunked, labelled_in = cut
    with small_chunks(labelled_in, 512):
        filled = fill_holes(chunked).compute()
    np.testing.assert_array_equal(filled, ndimage.binary_fill_holes(mask))


@FEW
@given(cut_masks())
def test_glacier_is_that_of_the_whole_image(cut: tuple[np.ndarray, da.Array, int]) -> None:
    mask, chunked, labelled_in = cut
    labels, _ = ndimage.label(mask)
    sizes = np.sort(np.bincount(labels.ravel())[1:])
    assume(len(sizes) < 2 or sizes[-1] > sizes[-2])
    with small_chunks(labelled_in, 512):
        found = find_glacier(da.where(chunked, np.uint8(ICE), np.uint8(7)), in_10_m_pixels())
    expected = plain_glacier(mask)
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_array_equal(found, expected)


@FEW
@given(cut_masks(), st.integers(1, 5), st.integers(1, 60), st.sampled_from([0.0, 20.0, 80.0]))
def test_ocean_is_that_of_the_whole_image(
    cut: tuple[np.ndarray, da.Array, int], frame: int, least: int, width_m: float
) -> None:
    mask, chunked, labelled_in = cut
    given_in_metres = FrontSettings(
        frame_m=10.0 * frame, min_ocean_m2=100.0 * least, min_ocean_width_m=width_m
    )
    filled = plain_width(ndimage.binary_fill_holes(mask), given_in_metres, TRUE_PIXEL)
    labels, _ = ndimage.label(filled, STRUCTURE[8])
    at_frame = labels[in_frame(mask.shape, (frame, frame)) & filled]
    sizes = np.sort(np.bincount(labels.ravel())[np.unique(at_frame)])
    assume(len(sizes) < 2 or sizes[-1] > sizes[-2])
    with small_chunks(labelled_in, 20):
        codes = da.where(chunked, np.uint8(WATER), np.uint8(ICE))
        found = find_ocean(codes, with_min_ocean(least, frame=frame, width_m=width_m))
    expected = plain_ocean(mask, given_in_metres, TRUE_PIXEL)
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_array_equal(found, expected)


def test_strips_are_no_ocean() -> None:
    codes = np.full((80, 80), ICE, np.uint8)
    codes[10:40, 10:40] = WATER
    codes[25:28, 40:70] = WATER  # 30 m wide, from there
    codes[60:63, 10:70] = WATER
    wide = find_ocean(in_codes(codes), with_min_ocean(1, frame=1, width_m=100.0)).compute()
    assert wide.sum() == 900 + 3 * 5  # what lies within 50 m of the wide part stays
    assert wide[10:40, 10:40].all()
    narrow = find_ocean(in_codes(codes), with_min_ocean(1, frame=1, width_m=20.0)).compute()
    np.testing.assert_array_equal(narrow, codes == WATER)


def test_two_glaciers_that_meet_at_a_corner_are_two() -> None:
    codes = np.full((20, 20), WATER, np.uint8)
    codes[2:6, 2:8] = ICE
    codes[6:12, 8:14] = ICE
    found = find_glacier(in_codes(codes), in_10_m_pixels()).compute()
    assert found.sum() == 36
    assert found[6:12, 8:14].all()


def test_hole_that_opens_at_a_corner_alone_is_filled() -> None:
    codes = np.full((12, 12), WATER, np.uint8)
    codes[2:10, 2:10] = ICE
    codes[4, 4] = codes[9, 9] = codes[8, 8] = 7  # 8, 8 opens to 9, 9 by a corner, and that outwards
    found = find_glacier(in_codes(codes), in_10_m_pixels()).compute()
    assert found[4, 4]
    assert found[8, 8]
    assert not found[9, 9]


def test_region_along_all_chunks_is_one() -> None:
    mask = np.zeros((30, 30), bool)
    mask[::2] = True  # every second row, joined at alternate ends
    mask[1::4, -1] = mask[3::4, 0] = True
    with small_chunks(10, 512):
        regions = label_regions(da.from_array(mask, 5), corners=4)
    assert regions.pixels.tolist() == [mask.sum()]


def test_diagonal_across_corners_of_chunks() -> None:
    mask = np.eye(20, dtype=bool) | np.eye(20, dtype=bool)[::-1]
    with small_chunks(10, 512):
        assert len(label_regions(da.from_array(mask, 4), corners=8).pixels) == 1
        # At the middle of the image the two diagonals make a block of four pixels.
        assert len(label_regions(da.from_array(mask, 4), corners=4).pixels) == 1 + 40 - 4


def test_ocean_with_a_pixel_in_the_frame_is_dropped_unless_it_is_the_largest_of_these() -> None:
    codes = np.full((60, 60), ICE, np.uint8)
    codes[0:10, 0:10] = WATER  # 100 pixels at the border
    codes[30:41, 57:60] = WATER  # 33 at the border
    codes[20:30, 20:30] = WATER  # 100 within
    codes[41:46, 44:57] = WATER  # 65 within, of one region with the 33: they meet at a corner
    found = find_ocean(in_codes(codes), with_min_ocean(30, frame=3)).compute()
    expected = np.zeros(codes.shape, bool)
    expected[0:10, 0:10] = expected[20:30, 20:30] = True
    np.testing.assert_array_equal(found, expected)
    less = find_ocean(in_codes(codes), with_min_ocean(30, frame=1)).compute()
    np.testing.assert_array_equal(less, expected)


def test_ocean_just_large_enough_stays() -> None:
    codes = np.full((30, 30), ICE, np.uint8)
    codes[10:15, 10:14] = WATER
    codes[15:17, 14:20] = WATER  # at its corner: of the same region, but a piece of its own
    assert find_ocean(in_codes(codes), with_min_ocean(20, frame=1)).compute().sum() == 20
    assert find_ocean(in_codes(codes), with_min_ocean(12, frame=1)).compute().sum() == 32
    assert find_ocean(in_codes(codes), with_min_ocean(21, frame=1)) is None


def test_island_is_part_of_the_ocean() -> None:
    codes = np.full((30, 30), ICE, np.uint8)
    codes[5:25, 5:25] = WATER
    codes[10:14, 10:14] = 7
    assert find_ocean(in_codes(codes), with_min_ocean(384, frame=1)).compute().sum() == 400
    assert find_ocean(in_codes(codes), with_min_ocean(385, frame=1)) is None  # water counts


def test_all_in_a_frame_wider_than_the_image() -> None:
    codes = np.full((10, 12), ICE, np.uint8)
    codes[4:6, 4:6] = codes[8:9, 8:11] = WATER
    found = find_ocean(in_codes(codes), with_min_ocean(1, frame=100)).compute()
    assert found.sum() == 4


def test_none_where_there_is_none() -> None:
    codes = in_codes(np.full((10, 12), 7, np.uint8))
    assert find_glacier(codes, in_10_m_pixels()) is None
    assert find_ocean(codes, with_min_ocean(0, frame=1)) is None


def test_masks_are_computed() -> None:
    codes = in_codes(np.repeat(np.array([[ICE, WATER]], np.uint8), 10, axis=0).repeat(9, axis=1))
    for mask in (
        label_regions(codes == ICE, corners=4).keep(np.array([True])),
        find_glacier(codes, in_10_m_pixels()),
        find_ocean(codes, with_min_ocean(0, frame=1)),
    ):
        assert len(dict(mask.__dask_graph__())) == mask.npartitions
        assert mask.dtype == bool
