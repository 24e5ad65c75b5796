"""Outlines traced over chunks, and what lies near them, as on the whole image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import dask
import dask.array as da
import numpy as np
import pytest
from affine import Affine
from fronts_for_tests import NORTH_UP, raster, small_chunks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import find_contours

from csc_xr import blockwise
from csc_xr.fronts import outlines
from csc_xr.fronts.outlines import distances_at, lines_on_map, trace

Segments = Counter[tuple[tuple[float, float], tuple[float, float]]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@st.composite
def cut_masks(draw: st.DrawFn) -> tuple[np.ndarray, da.Array, int]:
    """A mask of noise or of blobs, the same in chunks, and the longest side to work on."""
    shape = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    field = ndimage.gaussian_filter(rng.normal(size=shape), draw(st.sampled_from([0, 0.7, 3])))
    mask = field > np.quantile(field, draw(st.floats(0, 1)))
    chunks = tuple(draw(st.integers(-(-length // 4), length)) for length in shape)
    return mask, da.from_array(mask, chunks), draw(st.integers(10, 40))


def chunked(mask: np.ndarray, chunk: int = 7) -> da.Array:
    return da.from_array(mask, chunk)


def segments_of(lines: Sequence[np.ndarray]) -> Segments:
    return Counter(
        (tuple(start), tuple(stop))
        for line in lines
        for start, stop in zip(line[:-1].tolist(), line[1:].tolist(), strict=True)
    )


def whole_outlines(mask: np.ndarray) -> list[np.ndarray]:
    if min(mask.shape) < 2:
        return []
    return find_contours(mask, 0.5, fully_connected="low", positive_orientation="high")


def is_left(mask: np.ndarray, line: np.ndarray) -> bool:
    """Whether the mask lies on the left all along, as seen with the rows going down."""
    middle, along = (line[:-1] + line[1:]) / 2, np.diff(line, axis=0)
    ahead_to_left = np.stack([-along[:, 1], along[:, 0]], axis=1)
    across = ahead_to_left / np.hypot(*ahead_to_left.T)[:, None] * 0.25
    left, right = (
        ndimage.map_coordinates(mask.astype(float), (middle + side * across).T, order=1)
        for side in (1, -1)
    )
    return bool((left > right).all())


@settings(max_examples=40, deadline=None)
@given(cut_masks())
def test_outlines_are_those_of_the_whole_mask(cut: tuple[np.ndarray, da.Array, int]) -> None:
    mask, in_chunks, longest = cut
    with small_chunks(4096, longest):
        found = trace(in_chunks)
    expected = whole_outlines(mask)
    segments = segments_of(found)
    assert set(segments.values()) <= {1}
    assert segments == segments_of(expected)
    assert len(found) == len(expected)
    one_chunk = trace(da.from_array(mask, -1))
    assert len(found) == len(one_chunk)
    for line, same in zip(found, one_chunk, strict=True):
        np.testing.assert_array_equal(line, same)


@settings(max_examples=20, deadline=None)
@given(cut_masks())
def test_each_outline_is_whole(cut: tuple[np.ndarray, da.Array, int]) -> None:
    mask, in_chunks, longest = cut
    with small_chunks(4096, longest):
        found = trace(in_chunks)
    assert [len(line) for line in found] == sorted((len(line) for line in found), reverse=True)
    for line in found:
        assert is_left(mask, line)
        first, last = line[0].tolist(), line[-1].tolist()
        if first == last:
            assert first == min(line.tolist())
            assert len(np.unique(line, axis=0)) == len(line) - 1
        else:
            for row, column in (first, last):
                assert row in (0, mask.shape[0] - 1) or column in (0, mask.shape[1] - 1)
            assert len(np.unique(line, axis=0)) == len(line)


def test_outline_of_a_pixel() -> None:
    mask = np.zeros((3, 3), bool)
    mask[1, 1] = True
    (ring,) = trace(chunked(mask, 2))  # down from the top, to the left: the pixel on the left
    assert ring.tolist() == [[0.5, 1], [1, 0.5], [1.5, 1], [1, 1.5], [0.5, 1]]
    (hole,) = trace(chunked(~mask, 2))
    assert hole.tolist() == ring[::-1].tolist()


def test_pixels_that_meet_at_a_corner_are_apart() -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:4] = mask[4:6, 4:6] = True
    for chunk in (8, 4, 3):
        found = trace(chunked(mask, chunk))
        assert len(found) == 2
        assert len(found[0]) == len(found[1])
        assert found[0][0].tolist() == [1.5, 2]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_image_of_one_row_has_no_outline(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, bool)
    mask.ravel()[::2] = True
    assert trace(chunked(mask, 3)) == []


def test_nothing_and_everything_have_no_outline() -> None:
    for value in (False, True):
        assert trace(chunked(np.full((20, 20), value))) == []


def test_outline_ends_where_the_image_does() -> None:
    mask = np.zeros((20, 9), bool)
    mask[:, :4] = True
    (line,) = trace(chunked(mask))
    assert line.tolist() == [[row, 3.5] for row in range(20)][::-1]


def plain_distances(
    points: np.ndarray, mask: np.ndarray, pixel_m: tuple[float, float]
) -> np.ndarray:
    if not mask.any():
        return np.full(len(points), np.inf)
    field = ndimage.distance_transform_edt(~mask, sampling=pixel_m)
    before, after = np.floor(points).astype(int), np.ceil(points).astype(int)
    return np.minimum(field[tuple(before.T)], field[tuple(after.T)])


@settings(max_examples=20, deadline=None)
@given(
    cut_masks(),
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from([(10.0, 10.0), (10.0, 20.0), (20.0, 10.0), (9.83, 9.83)]),
)
def test_distances_are_those_of_the_whole_image(
    cut: tuple[np.ndarray, da.Array, int],
    seed: int,
    reach: tuple[int, int],
    pixel_m: tuple[float, float],
) -> None:
    mask, in_chunks, _ = cut
    reach = min(reach[0], *mask.shape), min(reach[1], *mask.shape)
    points = np.concatenate([np.zeros((0, 2)), *whole_outlines(mask)])
    rng = np.random.default_rng(seed)
    others = [rng.random(mask.shape) < share for share in (0.3, 0.02, 0.0)]
    masks = [da.from_array(other, in_chunks.chunks) for other in others]
    with small_chunks(4096, 10):
        found = distances_at(points, masks, reach=reach, pixel_m=pixel_m)
    assert found.shape == (len(points), 3)
    furthest = min(n * size for n, size in zip(reach, pixel_m, strict=True)) * (1 + 1e-9)
    for metres, other in zip(found.T, others, strict=True):
        expected = plain_distances(points, other, pixel_m)
        expected[expected > furthest] = np.inf
        np.testing.assert_allclose(metres, expected, rtol=1e-12)


def test_distances_along_rows_and_columns_are_in_their_metres() -> None:
    mask = np.zeros((40, 60), bool)
    mask[20, 30] = True
    points = np.array([[20.0, 33.5], [22.5, 30.0], [20.0, 40.5], [25.5, 30.0], [23.5, 34.0]])
    found = distances_at(points, [chunked(mask)], reach=(10, 5), pixel_m=(10.0, 20.0))
    # From 20, 33; from 22, 30; too far; from 25, 30; from 23, 34
    assert found[:, 0].tolist() == [60.0, 20.0, np.inf, 50.0, np.hypot(30, 80)]


def test_mirror_image_beyond_the_border_is_not_near() -> None:
    mask = np.zeros((30, 30), bool)
    mask[4, 10] = True
    points = np.array([[0.5, 10.0]])
    found = distances_at(points, [chunked(mask, 10)], reach=(9, 9), pixel_m=(1.0, 1.0))
    assert found.tolist() == [[3.0]]


def test_distances_in_a_strip_narrower_than_the_reach() -> None:
    mask = np.zeros((6, 60), bool)
    mask[3, 44] = True
    points = np.array([[3.0, 34.5]])
    with small_chunks(4096, 10):
        near = distances_at(points, [chunked(mask, 9)], reach=(10, 10), pixel_m=(1.0, 1.0))
    assert near.tolist() == [[9.0]]


def test_only_chunks_with_a_vertex_are_read() -> None:
    read: list[tuple[int, int]] = []

    def reading(block: np.ndarray, block_info: list[dict] | None = None) -> np.ndarray:
        if block_info:
            read.append(tuple(block_info[0]["chunk-location"]))
        return block

    mask = da.zeros((90, 90), bool, chunks=10).map_blocks(reading, dtype=bool, meta=np.zeros(0))
    points = np.array([[14.5, 15.0], [15.5, 15.0]])
    read.clear()
    distances_at(points, [mask], reach=(3, 3), pixel_m=(1.0, 1.0))
    assert sorted(set(read)) == [(row, column) for row in range(3) for column in range(3)]


def test_no_block_is_larger_than_a_chunk_and_its_halo(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(1).random((200, 210)) < 0.5
    seen: list[tuple[int, ...]] = []
    for name in ("_trace_block", "_measure_block"):
        function = getattr(outlines, name)

        def noted(block: np.ndarray, *rest: object, function=function) -> object:
            seen.append(block.shape)
            return function(block, *rest)

        monkeypatch.setattr(outlines, name, noted)
    monkeypatch.setattr(blockwise, "CHUNK", 50)
    points = np.concatenate(trace(da.from_array(mask, -1)))
    distances_at(points, [da.from_array(mask, -1)], reach=(5, 8), pixel_m=(1.0, 1.0))
    assert len(seen) >= 2 * 16
    assert max(max(shape) for shape in seen) <= 50 + 2 * 8


@pytest.mark.parametrize(
    "turn",
    [
        Affine.identity(),
        Affine.scale(1, -1),
        Affine.scale(-1, 1),
        Affine(0, 1, 0, 1, 0, 0),
        Affine.rotation(30),
        Affine.scale(2, 1),
    ],
)
def test_mask_is_on_the_left_on_the_map(turn: Affine) -> None:
    mask = np.random.default_rng(2).random((20, 30)) < 0.5
    image = raster(mask.astype(np.uint8), transform=NORTH_UP @ turn)
    for line in lines_on_map(trace(chunked(mask)), image):
        x, y = np.asarray(line.coords).T
        middle = np.array([(x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2])
        across = np.array([-np.diff(y), np.diff(x)]) / 4
        sides = []
        for side in (1, -1):
            back = ~(NORTH_UP @ turn)
            east, north = middle + side * across
            column = back.a * east + back.b * north + back.c
            row = back.d * east + back.e * north + back.f
            at = (row - 0.5, column - 0.5)
            sides.append(ndimage.map_coordinates(mask.astype(float), at, order=1))
        assert (sides[0] > sides[1]).all()


def test_vertices_are_between_the_centres_of_pixels_on_the_map() -> None:
    mask = np.zeros((4, 4), bool)
    mask[:, :2] = True
    (line,) = lines_on_map(trace(chunked(mask)), raster(mask.astype(np.uint8)))
    x, y = np.asarray(line.coords).T
    assert x.tolist() == [NORTH_UP.c + 20] * 4
    assert sorted(y.tolist()) == [NORTH_UP.f - n for n in (35, 25, 15, 5)]
