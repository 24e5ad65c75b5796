"""Cutting tiles: which windows are kept, and what is in them, against the plain way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import BANDS, LEGEND, noise_scene
from numpy.typing import NDArray
from rasters_for_tests import never

from csc_xr.errors import LabelError, ParameterError, SceneError, TileError
from csc_xr.tiles import cutting
from csc_xr.tiles.cutting import extract_tiles
from csc_xr.tiles.layout import count_tiles
from csc_xr.tiles.purity import WindowRule, majority_codes, window_counts
from csc_xr.tiles.sets import thin_tiles

Codes = NDArray[np.uint8]


def label_raster(codes: Codes, chunks: Any = -1) -> xr.DataArray:
    return xr.DataArray(da.from_array(codes, chunks=chunks), dims=("y", "x"))


def patchwork(shape: tuple[int, int], seed: int = 0, classes: int = 3) -> Codes:
    """Squares of 6 px of class 0 and others, and some stray pixels."""
    random = np.random.default_rng(seed)
    high = classes + 1
    squares = random.integers(0, high, (-(-shape[0] // 6), -(-shape[1] // 6)), dtype=np.uint8)
    codes = squares.repeat(6, axis=0).repeat(6, axis=1)[: shape[0], : shape[1]].copy()
    codes[random.random(shape) < 0.05] = 2
    return codes


def starts(length: int, size: int, stride: int) -> list[int]:
    return sorted({*range(0, length - size + 1, stride), length - size})


def one_by_one(codes: Codes, rule: WindowRule) -> list[tuple[int, int, int]]:
    """Code, row and column of every window that is kept, by looking at each."""
    size, stride, purity, max_unlabelled = rule
    kept = []
    for row in starts(codes.shape[0], size, stride):
        for column in starts(codes.shape[1], size, stride):
            counts = np.bincount(codes[row : row + size, column : column + size].ravel())
            empty = counts[0] / size**2
            share = counts[1:].max(initial=0) / size**2
            if share >= purity and share > 0 and empty <= max_unlabelled:
                kept.append((int(counts[1:].argmax()) + 1, row, column))
    return kept


def places(tiles: xr.Dataset) -> list[tuple[int, int, int]]:
    found = (tiles[name].values.tolist() for name in ("code", "row", "column"))
    return list(zip(*found, strict=True))


def cut(scene: xr.DataArray, codes: Codes, **changed: Any) -> xr.Dataset:
    given = {"legend": LEGEND, "tile_size": 5, "stride": 5} | changed
    return extract_tiles([scene], [label_raster(codes)], **given)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    size=st.integers(1, 8),
    stride=st.integers(1, 12),
    purity=st.sampled_from([0.5, 0.75, 0.9, 1.0]),
    max_unlabelled=st.sampled_from([0.0, 0.1, 0.25]),
    seed=st.integers(0, 99),
    classes=st.sampled_from([1, 3]),
    chunks=st.sampled_from([-1, (7, 9), (40, 3), (1, 40)]),
    label_chunks=st.sampled_from([-1, (11, 5)]),
)
def test_tiles_equal_the_plain_way(
    shape: tuple[int, int], size: int, stride: int, purity: float, max_unlabelled: float,
    seed: int, classes: int, chunks: Any, label_chunks: Any,
) -> None:  # fmt: skip
    scene, codes = noise_scene(shape, chunks=chunks), patchwork(shape, seed, classes)
    rule = WindowRule(size, stride, purity, max_unlabelled)
    expected = one_by_one(codes, rule)
    # classes without a window of their own would be an error; leaving them out may make others so
    while out := sorted({*np.unique(codes).tolist()} - {0} - {code for code, _, _ in expected}):
        codes[np.isin(codes, out)] = 0
        expected = one_by_one(codes, rule)
    if not expected:
        return
    tiles = extract_tiles(
        [scene], [label_raster(codes, label_chunks)], legend=LEGEND, tile_size=size,
        stride=stride, purity=purity, max_unlabelled=max_unlabelled,
    )  # fmt: skip
    assert places(tiles) == expected
    pixels = tiles["pixels"].values
    assert pixels.dtype == scene.dtype
    for tile, (_, row, column) in zip(pixels, expected, strict=True):
        np.testing.assert_array_equal(
            tile, scene.values[:, row : row + size, column : column + size]
        )


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(3, 30), st.integers(3, 30)),
    size=st.integers(1, 3),
    stride=st.integers(1, 9),
    codes=st.sampled_from([(0, 1), (0, 2, 255), (7,), (0,), (1, 2, 3, 4)]),
    purity=st.sampled_from([0.3, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_majority_equals_the_plain_way(
    shape: tuple[int, int], size: int, stride: int, codes: tuple[int, ...], purity: float, seed: int
) -> None:
    raster = np.random.default_rng(seed).choice(np.array(codes, np.uint8), shape)
    rule = WindowRule(size, stride, purity, 0.4)
    first = rule.starts(shape[0]), rule.starts(shape[1])
    expected = np.zeros((len(first[0]), len(first[1])), np.uint8)
    for code, row, column in one_by_one(raster, rule):
        expected[first[0].tolist().index(row), first[1].tolist().index(column)] = code
    np.testing.assert_array_equal(majority_codes(raster, first, rule), expected)


def test_counts_of_wide_strips() -> None:
    """Strips of more than 255 px, whose sums 8 bits do not hold."""
    where = np.random.default_rng(0).random((900, 700)) < 0.97
    first = np.array([0, 300, 320]), np.array([0, 1, 100])
    counts = window_counts(where, first, 580)
    plain = [[where[r : r + 580, c : c + 580].sum() for c in first[1]] for r in first[0]]
    assert counts.tolist() == plain


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("chunks", [-1, (16, 16), (9, 61), (64, 1)])
def test_chunks_and_schedulers_do_not_matter(
    scheduler: str, chunks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (64, 61)
    arguments: dict[str, Any] = {
        "legend": LEGEND, "tile_size": 6, "stride": 2, "purity": 0.8, "per_class": 40, "seed": 5,
    }  # fmt: skip
    codes = patchwork(shape, 3)
    scene = noise_scene(shape, holes=0.01).rename("scene")
    expected = extract_tiles([scene], [label_raster(codes)], **arguments)
    # each task sees little of the scene, so that chunks of tiles are made of several
    monkeypatch.setattr(cutting, "_SCENE_BYTES", 900)
    with dask.config.set(scheduler=scheduler):
        scene = noise_scene(shape, chunks=chunks, holes=0.01).rename("scene")
        found = extract_tiles([scene], [label_raster(codes, (30, 20))], **arguments)
        xr.testing.assert_identical(found.compute(), expected.compute())


def test_pixels_stay_lazy() -> None:
    tiles = cut(noise_scene((20, 30)), np.ones((20, 30), np.uint8))
    with dask.config.set(scheduler=never):
        assert count_tiles(tiles).loc["All", "All"] == 24
    assert tiles["pixels"].data.chunks[1:] == ((3,), (5,), (5,))


def test_everything_is_recorded() -> None:
    scene = noise_scene((20, 30)).rename("fjord").assign_attrs(source="fjord.tif")
    tiles = cut(scene, np.ones((20, 30), np.uint8), purity=0.9, per_class=7, seed=3, leave_out=[2])
    assert tiles.attrs["scenes"] == [{"name": "fjord", "source": str(Path.cwd() / "fjord.tif")}]
    assert tiles.attrs["scale"] == 255.0
    assert tiles.attrs["legend"] == LEGEND.to_dict()
    assert tiles.attrs["origin"] == {
        "stride": 5, "purity": 0.9, "max_unlabelled": 0.1, "per_class": 7, "left_out": [2],
        "seed": 3,
    }  # fmt: skip
    assert tiles["band"].values.tolist() == list(BANDS)
    assert tiles["variant"].values.tolist() == [0] * 7


def test_exact_shares_are_kept() -> None:
    """5 of 50 rows unlabelled are 10 %, and 95 of 100 pixels 95 %: both are enough."""
    codes = np.ones((50, 50), np.uint8)
    codes[:5] = 0
    assert cut(noise_scene((50, 50)), codes, tile_size=50, purity=0.9).sizes["tile"] == 1
    codes = np.full((10, 10), 3, np.uint8)
    codes[0, :5] = 1
    scene = noise_scene((10, 10))
    alone = {"tile_size": 10, "stride": 10, "leave_out": [1]}
    assert cut(scene, codes, **alone)["code"].values.tolist() == [3]
    codes[0, 5] = 1
    with pytest.raises(TileError, match=r"95% of each, but no window of 10 px in 1 scene\(s\) is"):
        cut(scene, codes, **alone)


def test_the_last_row_and_column_are_reached() -> None:
    codes = np.zeros((23, 31), np.uint8)
    codes[-8:, -8:] = 2
    scene = noise_scene((23, 31), chunks=(10, 10))
    tiles = cut(scene, codes, tile_size=8, stride=100)
    assert places(tiles) == [(2, 15, 23)]
    np.testing.assert_array_equal(tiles["pixels"].values[0], scene.values[:, -8:, -8:])


def test_windows_that_begin_in_an_unlabelled_chunk() -> None:
    """The chunk in which a window begins need not hold any of its labelled pixels."""
    codes = np.zeros((10, 30), np.uint8)
    codes[:, 10:] = 3
    scene = noise_scene((10, 30), chunks=(10, 10))
    tiles = cut(scene, codes, tile_size=10, stride=1, purity=0.9)
    assert places(tiles) == [(3, 0, column) for column in range(9, 21)]


def test_invalid_pixels_are_unlabelled_and_zero() -> None:
    scene = noise_scene((20, 40)).assign_attrs(_FillValue=9)
    values = scene.values.copy()
    values[values == 9] = 10
    values[:, :, 20:] = 9
    values[1, 3, 4] = 9
    tiles = cut(scene.copy(data=values), np.ones((20, 40), np.uint8), tile_size=20, stride=20)
    assert places(tiles) == [(1, 0, 0)]
    expected = np.where((values[:, :, :20] == 9).any(axis=0), 0, values[:, :, :20])
    np.testing.assert_array_equal(tiles["pixels"].values[0], expected)


def test_masked_pixels_are_unlabelled_and_zero() -> None:
    seen = np.ones((20, 40), np.bool_)
    seen[:, 20:] = False
    seen[7, 7] = False
    scene = noise_scene((20, 40), chunks=(8, 8)).assign_coords(valid=(("y", "x"), seen))
    tiles = cut(scene, np.ones((20, 40), np.uint8), tile_size=20, stride=20)
    assert places(tiles) == [(1, 0, 0)]
    np.testing.assert_array_equal(
        tiles["pixels"].values[0], np.where(seen[:, :20], scene.values[:, :, :20], 0)
    )


def test_thinning_is_over_all_scenes_and_by_seed() -> None:
    scenes = [noise_scene((40, 60), seed=seed) for seed in (0, 1)]
    labels = [label_raster(patchwork((40, 60), seed)) for seed in (0, 1)]
    arguments: dict[str, Any] = {"legend": LEGEND, "tile_size": 4, "stride": 1, "purity": 0.9}
    every = extract_tiles(scenes, labels, **arguments)
    one, again, other = (
        extract_tiles(scenes, labels, per_class=50, seed=seed, **arguments) for seed in (3, 3, 4)
    )
    assert np.bincount(every["code"]).min(initial=99, where=[False, True, True, True]) > 50
    assert np.bincount(one["code"]).tolist() == [0, 50, 50, 50]
    assert set(one["scene"].values.tolist()) == {0, 1}
    xr.testing.assert_identical(one, again)
    assert set(places(one)) != set(places(other))
    # as if they had been thinned afterwards
    later = thin_tiles(every, per_class=50, seed=3)
    xr.testing.assert_equal(one, later)
    np.testing.assert_array_equal(
        one["pixels"].values[7],
        scenes[int(one["scene"][7])].values[
            :, int(one["row"][7]) :, int(one["column"][7]) :
        ][:, :4, :4],
    )  # fmt: skip


def test_a_scene_without_pure_windows_adds_none() -> None:
    scenes = [noise_scene((20, 20), seed=seed) for seed in (0, 1, 2)]
    labels = [label_raster(np.full((20, 20), code, np.uint8)) for code in (1, 0, 2)]
    tiles = extract_tiles(scenes, labels, legend=LEGEND, tile_size=10, stride=10)
    assert tiles["scene"].values.tolist() == [0] * 4 + [2] * 4
    assert tiles["code"].values.tolist() == [1] * 4 + [2] * 4
    np.testing.assert_array_equal(tiles["pixels"].values[4], scenes[2].values[:, :10, :10])
    table = count_tiles(tiles)
    assert table.columns.tolist() == ["Water", "Ice", "All"]
    assert table.values.tolist() == [[4, 0, 4], [0, 0, 0], [0, 4, 4], [4, 4, 8]]


def test_bands_are_taken_by_name() -> None:
    scene = noise_scene((10, 10))
    tiles = cut(scene, np.ones((10, 10), np.uint8), bands=("blue", "red"), tile_size=10)
    np.testing.assert_array_equal(tiles["pixels"].values[0], scene.values[[2, 0]])
    assert tiles["band"].values.tolist() == ["blue", "red"]
    with pytest.raises(SceneError, match=r"extract_tiles needs bands red, nir, got red"):
        cut(scene, np.ones((10, 10), np.uint8), bands=("red", "nir"))


def test_a_labelled_class_without_tiles() -> None:
    codes = np.ones((20, 20), np.uint8)
    codes[3, 4:8] = 2
    scene = noise_scene((20, 20))
    with pytest.raises(
        TileError, match=r"no window of 10 px has 95% of 2 Ice \(4 pixels\)\. .*leave_out="
    ):
        cut(scene, codes, tile_size=10)
    assert set(cut(scene, codes, tile_size=10, leave_out=[2])["code"].values.tolist()) == {1}


def test_codes_must_be_in_the_legend() -> None:
    codes = np.full((20, 20), 9, np.uint8)
    with pytest.raises(LabelError, match=r"codes of legend 'test', 1, 2, 3, got 9\. Pass the leg"):
        cut(noise_scene((20, 20)), codes)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stride": 0}, "stride must be 1 or more whole pixels, got 0"),
        ({"stride": 2.5}, "stride must be 1 or more whole pixels, got 2.5"),
        ({"leave_out": [7]}, "leave_out names classes of legend .*, got 7"),
        ({"tile_size": 0}, "tile_size must be 1 or more whole pixels, got 0"),
        ({"purity": 0.0}, "purity must lie above 0 and up to 1, got 0.0"),
        ({"purity": 1.1}, "purity must lie above 0 and up to 1, got 1.1"),
        ({"max_unlabelled": -0.1}, "max_unlabelled must lie in 0 to 1, got -0.1"),
        ({"per_class": 0}, "per_class must be 1 or more tiles, got 0"),
        ({"tile_size": 21}, "at least one tile of 21 x 21 pixels"),
        ({"seed": -1}, "seed must be a whole number of 0 or more, got -1"),
    ],
)
def test_settings_out_of_range(changed: dict[str, Any], message: str) -> None:
    with (
        dask.config.set(scheduler=never),
        pytest.raises(ParameterError, match=message),
    ):
        cut(noise_scene((20, 30)), np.ones((20, 30), np.uint8), **changed)


def test_scenes_and_labels_must_match() -> None:
    scene, labels = noise_scene((20, 30)), label_raster(np.ones((20, 30), np.uint8))
    arguments: dict[str, Any] = {"legend": LEGEND, "tile_size": 5, "stride": 5}
    with pytest.raises(SceneError, match="each with its labels, got 2 scenes and 1 label rasters"):
        extract_tiles([scene, scene], [labels], **arguments)
    with pytest.raises(SceneError, match="got 0 scenes"):
        extract_tiles([], [], **arguments)
    with pytest.raises(SceneError, match=r"one dtype and scale, got uint16 of .*, uint8 of scale"):
        extract_tiles([scene, scene.astype(np.uint16)], [labels, labels], **arguments)
    with pytest.raises(SceneError, match="got uint8 of scale 100, uint8 of scale 255"):
        extract_tiles([scene, scene.assign_attrs(scale=100)], [labels, labels], **arguments)
    for wrong in (labels[:-1], labels.T, labels.astype(np.int32)):
        with pytest.raises(LabelError, match=r"of their scene, \(20, 30\), got .* for scene 1"):
            extract_tiles([scene, scene], [labels, wrong], **arguments)
