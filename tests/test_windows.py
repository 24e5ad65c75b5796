"""Window arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csc_xr.errors import ParameterError
from csc_xr.windows import (
    blocks,
    check_patch_size,
    check_tile_size,
    merge_thin_chunks,
    tile_chunks,
    tile_count,
    tile_starts,
    working_chunks,
)

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@given(length=st.integers(1, 400), size=st.integers(1, 60))
def test_tile_windows_are_whole_and_cover_the_axis(length: int, size: int) -> None:
    if size > length:
        return
    starts = tile_starts(length, size)
    assert len(starts) == tile_count(length, size)
    assert all(0 <= start <= length - size for start in starts)
    covered = np.zeros(length, bool)
    for start in starts:
        covered[start : start + size] = True
    assert covered.all()


@given(length=st.integers(1, 400), size=st.integers(1, 60), target=st.integers(1, 200))
def test_tile_chunks_can_predict_alone(length: int, size: int, target: int) -> None:
    if size > length:
        return
    chunks = tile_chunks(length, size, target)
    assert sum(chunks) == length
    assert all(chunk % size == 0 for chunk in chunks[:-1])
    assert chunks[-1] >= size
    # the windows found chunk by chunk are those of the whole axis
    origins = np.cumsum((0, *chunks[:-1]))
    found = [o + s for o, c in zip(origins, chunks, strict=True) for s in tile_starts(c, size)]
    assert tuple(found) == tile_starts(length, size)


@given(chunks=lengths, least=st.integers(0, 60))
def test_merged_chunks_are_thick_enough(chunks: list[int], least: int) -> None:
    merged = merge_thin_chunks(chunks, least)
    assert sum(merged) == sum(chunks)
    assert min(merged) >= min(least, sum(chunks))
    edges = set(np.cumsum(chunks).tolist())
    assert set(np.cumsum(merged).tolist()) <= edges


@given(chunks=lengths, least=st.integers(0, 20), most=st.integers(1, 30))
def test_working_chunks_are_neither_thin_nor_long(chunks: list[int], least: int, most: int) -> None:
    working = working_chunks(chunks, least=least, most=most)
    assert sum(working) == sum(chunks)
    assert min(working) >= min(least, sum(chunks))
    assert max(working) <= most + 2 * max(least, 1)


@given(rows=st.integers(1, 90), columns=st.integers(1, 90), side=st.integers(1, 40))
def test_blocks_cover_once(rows: int, columns: int, side: int) -> None:
    seen = np.zeros((rows, columns), int)
    for row, column in blocks(rows, columns, side):
        assert row.stop - row.start <= side
        assert column.stop - column.start <= side
        seen[row, column] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("size", [0, -3, 2.5, True])
def test_patch_size_must_be_positive_and_whole(size: object) -> None:
    with pytest.raises(ParameterError, match="Patch size must be a positive odd number"):
        check_patch_size(size)  # type: ignore[arg-type]


def test_patch_size_must_be_odd() -> None:
    with pytest.raises(ParameterError, match=r"must be odd.*got 8. Use 7 or 9"):
        check_patch_size(8)


def test_tile_size_must_be_positive_and_fit() -> None:
    with pytest.raises(ParameterError, match="Tile size must be a positive number"):
        check_tile_size(0, (10, 10))
    with pytest.raises(ParameterError, match="at least one tile of 50 x 50 pixels, got a scene"):
        check_tile_size(50, (200, 49))
