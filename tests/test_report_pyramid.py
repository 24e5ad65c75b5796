"""Pyramids of small pictures: exact at full size, and true to what lies beneath at every level."""

from __future__ import annotations

import io
from collections.abc import Iterable

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from csc_xr.errors import ParameterError
from csc_xr.report import pyramid
from csc_xr.report.pyramid import (
    TILE_SIDE,
    Kind,
    Tile,
    dropped_levels,
    level_count,
    pyramid_tiles,
)

Pixels = NDArray[np.uint8]
SHAPE = (700, 1301)


def some_codes(shape: tuple[int, int] = SHAPE, seed: int = 0) -> Pixels:
    """Patches of classes 0 to 5 of all sizes down to a pixel, many of them without a class."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 6, shape, dtype=np.uint8)
    for size in (7, 40):
        coarse = generator.integers(0, 6, (-(-shape[0] // size), -(-shape[1] // size)))
        wide = np.kron(coarse, np.ones((size, size)))[: shape[0], : shape[1]].astype(np.uint8)
        codes = np.where(generator.random(shape) < 0.1, codes, wide)
    return codes


def decode(tile: Tile) -> Pixels:
    with Image.open(io.BytesIO(tile.content)) as image:
        return np.asarray(image)


def levels_of(tiles: Iterable[Tile], shape: tuple[int, int]) -> dict[int, Pixels]:
    """Lay tiles out to whole levels, 0 where there is none."""
    levels: dict[int, Pixels] = {}
    for tile in tiles:
        pixels = decode(tile)
        size = tuple(-(-side // 2**tile.level) for side in shape)
        level = levels.setdefault(tile.level, np.zeros((*size, *pixels.shape[2:]), np.uint8))
        top, left = tile.row * TILE_SIDE, tile.column * TILE_SIDE
        room = level[top : top + TILE_SIDE, left : left + TILE_SIDE]
        assert room.shape == pixels.shape  # cropped to what there is
        room[:] = pixels
    return levels


def pyramid_of(pixels: Pixels, kind: Kind, **settings: int) -> dict[int, Pixels]:
    raster = da.from_array(pixels, chunks=(300, 400, *pixels.shape[2:]))
    return levels_of(pyramid_tiles(raster, kind, **settings), pixels.shape[:2])


def squares(pixels: Pixels) -> Pixels:
    """Pixels by twos, (row, column, 4), 0 beyond the border."""
    padded = np.pad(pixels, [(0, side % 2) for side in pixels.shape])
    rows, columns = (side // 2 for side in padded.shape)
    return padded.reshape(rows, 2, columns, 2).swapaxes(1, 2).reshape(rows, columns, 4)


def test_full_size_is_the_raster_itself() -> None:
    codes = some_codes()
    levels = pyramid_of(codes, "classes")
    np.testing.assert_array_equal(levels[0], codes)
    assert sorted(levels) == list(range(level_count(SHAPE, 0)))
    assert max(levels[max(levels)].shape) <= TILE_SIDE < max(levels[max(levels) - 1].shape)


def test_a_class_is_the_commonest_beneath_it() -> None:
    levels = pyramid_of(some_codes(), "classes")
    for level in range(1, len(levels)):
        beneath, found = squares(levels[level - 1]), levels[level]
        counts = np.stack([(beneath == code).sum(-1) for code in range(1, 6)], -1)
        nothing = counts.sum(-1) == 0
        assert (found[nothing] == 0).all()
        chosen = np.take_along_axis(counts, np.maximum(found.astype(int), 1)[..., None] - 1, -1)
        assert (chosen[..., 0] == counts.max(-1)).all()  # 0 only where nothing has a class


def test_of_equally_common_classes_the_first_is_taken() -> None:
    codes = np.array([[3, 1, 0, 2], [1, 3, 0, 0], [2, 1, 5, 4], [4, 4, 4, 5]], np.uint8)
    np.testing.assert_array_equal(pyramid._halved_classes(codes), [[3, 2], [4, 5]])


def test_chunks_do_not_matter() -> None:
    codes = some_codes((600, 530))
    found = [
        list(pyramid_tiles(da.from_array(codes, chunks=chunks), "classes"))
        for chunks in (-1, (64, 530), (601, 100))
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("strip_bytes", [1, 1024 * 530])
def test_bands_of_rows_do_not_matter(strip_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = some_codes((1700, 530))
    whole = pyramid_of(codes, "classes")
    monkeypatch.setattr(pyramid, "_STRIP_BYTES", strip_bytes)
    banded = pyramid_of(codes, "classes")
    assert whole.keys() == banded.keys()
    for level, pixels in whole.items():
        np.testing.assert_array_equal(banded[level], pixels)


def test_a_few_rows_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "_STRIP_BYTES", 1)
    read: list[int] = []

    def rows(block: Pixels) -> Pixels:
        read.append(len(block))
        return np.full_like(block, len(read))

    blank = da.zeros((4096, 64), chunks=(512, 64), dtype=np.uint8)
    raster = blank.map_blocks(rows, dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    ahead = [len(read) - tile.row for tile in pyramid_tiles(raster, "classes") if tile.level == 0]
    assert ahead == [1] * 8
    assert read == [512] * 8  # each once


def test_scalars_are_means_of_what_is_there() -> None:
    values = np.array([[0, 0, 255, 1], [0, 9, 1, 1], [10, 11, 0, 0], [12, 13, 0, 0]], np.uint8)
    np.testing.assert_array_equal(pyramid._halved_scalar(values), [[9, 65], [12, 0]])


def test_masks_are_where_half_is_beneath() -> None:
    mask = np.zeros((1024, 600), np.uint8)
    mask[:512, :256] = 255
    mask[::2, 256:] = 255  # every other row: half
    mask[512:, 300:] *= np.arange(300) % 2 == 0  # a quarter
    levels = pyramid_of(mask, "mask")
    np.testing.assert_array_equal(levels[0], mask > 0)
    assert levels[1][:256].all()
    assert not levels[1][256:, 150:].any()
    assert not levels[1][256:, :128].any()


def test_pictures_leave_out_what_is_not_there() -> None:
    picture = np.zeros((600, 40, 4), np.uint8)
    picture[:, 20:] = (200, 100, 50, 255)
    picture[:, 10:20, :3] = 255  # not there, whatever its colour
    halved = pyramid._halved_picture(picture[:, 9:])
    np.testing.assert_array_equal(halved[0, 5], (200, 100, 50, 255))
    np.testing.assert_array_equal(halved[0, 4], 0)
    levels = pyramid_of(picture, "picture")
    assert levels[0].shape == (600, 40, 3)
    np.testing.assert_allclose(levels[0][:, 32:].astype(int), [[(200, 100, 50)] * 8] * 600, atol=4)
    assert levels[0][:, :10].max() < 8


def test_finest_levels_can_be_left_out() -> None:
    codes = some_codes()
    whole = pyramid_of(codes, "classes")
    tiles = pyramid_tiles(da.from_array(codes, chunks=500), "classes", dropped=1)
    half = tuple(-(-side // 2) for side in SHAPE)
    coarse = levels_of(tiles, half)
    assert sorted(coarse) == list(range(len(whole) - 1))
    for level, pixels in coarse.items():
        np.testing.assert_array_equal(pixels, whole[level + 1])


@pytest.mark.parametrize(
    ("max_side", "dropped"), [(None, 0), (1301, 0), (1300, 1), (651, 1), (650, 2), (1, 11)]
)
def test_sides_and_levels(max_side: int | None, dropped: int) -> None:
    assert dropped_levels(SHAPE, max_side) == dropped


def test_tiles_of_nothing_are_left_out() -> None:
    codes = np.zeros((600, 1100), np.uint8)
    codes[550, 1050] = 3
    tiles = list(pyramid_tiles(da.from_array(codes), "classes"))
    places = {(tile.level, tile.row, tile.column) for tile in tiles}
    assert places == {(0, 1, 2), (1, 0, 1), (2, 0, 0)}
    assert decode(tiles[-1]).max() == 3  # one pixel is seen from afar


def test_progress_ends_with_all_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "_STRIP_BYTES", 1)
    done: list[int] = []
    list(pyramid_tiles(da.from_array(some_codes()), "classes", progress=done.append))
    assert done == [512 * 1301, 188 * 1301]


def test_sides_are_checked() -> None:
    with pytest.raises(ParameterError, match="max_side must be 1 pixel or more, got 0"):
        dropped_levels(SHAPE, 0)
