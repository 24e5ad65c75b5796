"""Tiles for phase one: which windows are kept, and what is learned from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import BANDS, LEGEND, noise_scene
from numpy.typing import NDArray

from csc_xr.errors import LabelError, ParameterError, SceneError
from csc_xr.training.tiles import LabelledTiles, extract_tiles, fit_tile_network

Codes = NDArray[np.uint8]


def label_raster(codes: Codes) -> xr.DataArray:
    return xr.DataArray(codes, dims=("y", "x"))


def patchwork(shape: tuple[int, int], seed: int = 0) -> Codes:
    """Squares of 6 px of the classes 0 to 3, and some stray pixels."""
    random = np.random.default_rng(seed)
    squares = random.integers(0, 4, (-(-shape[0] // 6), -(-shape[1] // 6)), dtype=np.uint8)
    codes = squares.repeat(6, axis=0).repeat(6, axis=1)[: shape[0], : shape[1]].copy()
    codes[random.random(shape) < 0.05] = 2
    return codes


def one_by_one(
    codes: Codes, size: int, stride: int, purity: float, max_unlabelled: float
) -> list[tuple[int, int, int]]:
    """Code, row and column of every window that is kept, by looking at each."""

    def starts(length: int) -> list[int]:
        return sorted({*range(0, length - size + 1, stride), length - size})

    kept = []
    for row in starts(codes.shape[0]):
        for column in starts(codes.shape[1]):
            counts = np.bincount(codes[row : row + size, column : column + size].ravel())
            empty = counts[0] / size**2
            share = counts[1:].max(initial=0) / size**2
            if share >= purity and share > 0 and empty <= max_unlabelled:
                kept.append((int(counts[1:].argmax()) + 1, row, column))
    return kept


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    size=st.integers(1, 8),
    stride=st.integers(1, 12),
    purity=st.sampled_from([0.5, 0.75, 0.9, 1.0]),
    max_unlabelled=st.sampled_from([0.0, 0.1, 0.25]),
    seed=st.integers(0, 99),
)
def test_windows_equal_the_plain_way(
    shape: tuple[int, int], size: int, stride: int, purity: float, max_unlabelled: float, seed: int
) -> None:
    scene, codes = noise_scene(shape, chunks=(7, 9)), patchwork(shape, seed)
    expected = one_by_one(codes, size, stride, purity, max_unlabelled)
    if not expected:
        return
    tiles = extract_tiles(
        [scene], [label_raster(codes)], bands=BANDS, tile_size=size, stride=stride,
        purity=purity, max_unlabelled=max_unlabelled,
    )  # fmt: skip
    assert tiles.codes.tolist() == [code for code, _, _ in expected]
    assert tiles.values.dtype == scene.dtype
    for values, (_, row, column) in zip(tiles.values, expected, strict=True):
        window = scene.values[:, row : row + size, column : column + size]
        np.testing.assert_array_equal(values, window.transpose(1, 2, 0))


def test_exact_shares_are_kept() -> None:
    """5 of 50 rows unlabelled are 10 %, and 95 of 100 pixels 95 %: both are enough."""
    codes = np.ones((50, 50), np.uint8)
    codes[:5] = 0
    tiles = extract_tiles(
        [noise_scene((50, 50))], [label_raster(codes)], bands=BANDS, tile_size=50, stride=50,
        purity=0.9, max_unlabelled=0.1,
    )  # fmt: skip
    assert tiles.counts() == {1: 1}
    codes = np.full((10, 10), 3, np.uint8)
    codes[0, :5] = 1
    scene = noise_scene((10, 10))
    tiles = extract_tiles([scene], [label_raster(codes)], bands=BANDS, tile_size=10, stride=10)
    assert tiles.counts() == {3: 1}
    codes[0, 5] = 1
    with pytest.raises(LabelError, match=r"95% of each, but none of 1 windows of 10 px in 1 scene"):
        extract_tiles([scene], [label_raster(codes)], bands=BANDS, tile_size=10, stride=10)


def test_the_last_row_and_column_are_reached() -> None:
    codes = np.zeros((23, 31), np.uint8)
    codes[-8:, -8:] = 2
    scene = noise_scene((23, 31))
    tiles = extract_tiles([scene], [label_raster(codes)], bands=BANDS, tile_size=8, stride=100)
    np.testing.assert_array_equal(tiles.values[0], scene.values[:, -8:, -8:].transpose(1, 2, 0))


def test_invalid_pixels_are_unlabelled_and_zero() -> None:
    scene = noise_scene((20, 40)).assign_attrs(_FillValue=9)
    values = scene.values.copy()
    values[values == 9] = 10
    values[:, :, 20:] = 9
    values[:, 3, 4] = 9
    scene = scene.copy(data=scene.chunk().data.map_blocks(lambda _: values))
    labels = label_raster(np.ones((20, 40), np.uint8))
    tiles = extract_tiles([scene], [labels], bands=BANDS, tile_size=20, stride=20)
    assert tiles.counts() == {1: 1}
    assert (tiles.values[0, 3, 4] == 0).all()
    assert (tiles.values[0] != 9).all()


def test_thinning_is_over_all_scenes_and_by_seed() -> None:
    scenes = [noise_scene((40, 60), seed=seed) for seed in (0, 1)]
    labels = [label_raster(patchwork((40, 60), seed)) for seed in (0, 1)]
    arguments: dict[str, Any] = {"bands": BANDS, "tile_size": 4, "stride": 1, "purity": 0.9}
    everything = extract_tiles(scenes, labels, **arguments)
    one, again, other = (
        extract_tiles(scenes, labels, per_class=50, seed=seed, **arguments) for seed in (3, 3, 4)
    )
    assert min(everything.counts().values()) > 50
    assert one.counts() == {1: 50, 2: 50, 3: 50}
    assert set(one.scenes.tolist()) == {0, 1}
    np.testing.assert_array_equal(one.values, again.values)
    assert not np.array_equal(one.values, other.values)
    there = {tile.tobytes() for tile in everything.values}
    assert {tile.tobytes() for tile in one.values} <= there
    assert (np.diff(one.scenes) >= 0).all()


def test_a_scene_without_pure_windows_adds_none() -> None:
    scenes = [noise_scene((20, 20), seed=seed) for seed in (0, 1, 2)]
    labels = [label_raster(np.full((20, 20), code, np.uint8)) for code in (1, 0, 2)]
    tiles = extract_tiles(scenes, labels, bands=BANDS, tile_size=10, stride=10)
    assert tiles.scenes.tolist() == [0] * 4 + [2] * 4
    assert tiles.codes.tolist() == [1] * 4 + [2] * 4


def test_bands_are_taken_by_name() -> None:
    scene = noise_scene((10, 10))
    labels = label_raster(np.ones((10, 10), np.uint8))
    tiles = extract_tiles([scene], [labels], bands=("blue", "red"), tile_size=10, stride=1)
    np.testing.assert_array_equal(tiles.values[0], scene.values[[2, 0]].transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stride": 0}, "stride must be 1 or more pixels, got 0"),
        ({"purity": 0.0}, "purity must lie above 0 and up to 1, got 0.0"),
        ({"purity": 1.1}, "purity must lie above 0 and up to 1, got 1.1"),
        ({"max_unlabelled": -0.1}, "max_unlabelled must lie in 0 to 1, got -0.1"),
        ({"per_class": 0}, "per_class must be 1 or more, or None, got 0"),
        ({"tile_size": 21}, "at least one tile of 21 x 21 pixels"),
    ],
)
def test_settings_out_of_range(changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"bands": BANDS, "tile_size": 5, "stride": 5} | changed
    labels = label_raster(np.ones((20, 30), np.uint8))
    with pytest.raises(ParameterError, match=message):
        extract_tiles([noise_scene((20, 30))], [labels], **arguments)


def test_scenes_and_labels_must_match() -> None:
    scene, labels = noise_scene((20, 30)), label_raster(np.ones((20, 30), np.uint8))
    arguments: dict[str, Any] = {"bands": BANDS, "tile_size": 5, "stride": 5}
    with pytest.raises(SceneError, match="each with its labels, got 2 scenes and 1 label rasters"):
        extract_tiles([scene, scene], [labels], **arguments)
    with pytest.raises(SceneError, match="got 0 scenes"):
        extract_tiles([], [], **arguments)
    with pytest.raises(SceneError, match="must have one dtype, got uint16, uint8"):
        extract_tiles([scene, scene.astype(np.uint16)], [labels, labels], **arguments)
    for wrong in (labels[:-1], labels.T, labels.astype(np.int32)):
        with pytest.raises(LabelError, match=r"of their scene, \(20, 30\), got .* for scene 1"):
            extract_tiles([scene, scene], [labels, wrong], **arguments)
    with pytest.raises(SceneError, match="nir"):
        extract_tiles([scene], [labels], bands=(*BANDS, "nir"), tile_size=5, stride=5)


def coloured_tiles(n: int = 20, *, size: int = 16, seed: int = 0) -> LabelledTiles:
    """Make noisy tiles of three brightnesses in three scenes; class 3 has few."""
    random = np.random.default_rng(seed)
    codes = np.repeat([1, 2, 3], [n, n, n // 4]).astype(np.uint8)
    level = np.array([0, 60, 120, 200])[codes][:, None, None, None]
    values = np.clip(level + random.normal(0, 15, (len(codes), size, size, 3)), 0, 255)
    return LabelledTiles(values.astype(np.uint8), codes, np.arange(len(codes)) % 3)


FIT: dict[str, Any] = {"bands": BANDS, "scale": 255.0, "legend": LEGEND, "batch_size": 16}


def test_fit_learns_and_says_how() -> None:
    steps: list[tuple[int, int]] = []
    network, report = fit_tile_network(
        coloured_tiles(), epochs=20, validation_scenes=[1], seed=4, brightness=0.1,
        learning_rate=3e-3, progress=lambda done, most: steps.append((done, most)), **FIT,
    )  # fmt: skip
    assert report.validation_accuracy is not None
    assert report.validation_accuracy > 0.9
    assert [epoch.loss for epoch in report.epochs][-1] < report.epochs[0].loss
    assert report.epochs[-1].accuracy > report.epochs[0].accuracy
    assert {code: n + report.validation_tiles[code] for code, n in report.tiles.items()} == {
        1: 20, 2: 20, 3: 5,
    }  # fmt: skip
    right = sum(report.validation_recall[c] * n for c, n in report.validation_tiles.items())
    assert right / sum(report.validation_tiles.values()) == pytest.approx(
        report.validation_accuracy
    )
    assert steps == [(done, 40) for done in range(1, 41)]  # 30 tiles are two batches of 16
    card = network.card
    assert (card.kind, card.size, card.scale, card.bands) == ("tile", 16, 255.0, BANDS)
    assert card.codes == (0, 1, 2, 3)
    expected = {"scenes": 2, "validation_scenes": 1, "epochs": 20, "seed": 4}
    assert expected.items() <= card.provenance.items()
    assert card.provenance["tiles"] == {str(code): n for code, n in report.tiles.items()}
    assert card.provenance["validation_accuracy"] == report.validation_accuracy


def test_seed_decides_and_validation_tiles_are_not_learned_from() -> None:
    """Other values in the validation scene change what is measured, not the weights."""
    tiles = coloured_tiles(8)
    changed = tiles.values.copy()
    changed[tiles.scenes == 2] = 255 - changed[tiles.scenes == 2]
    other = LabelledTiles(changed, tiles.codes, tiles.scenes)
    one, again, third = (
        fit_tile_network(given, epochs=1, validation_scenes=[2], seed=seed, brightness=0.1, **FIT)[
            0
        ].model.get_weights()
        for given, seed in ((tiles, 1), (other, 1), (tiles, 2))
    )
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[0], third[0])


def test_stops_at_the_target_and_leaves_unseen_classes_out() -> None:
    tiles = coloured_tiles()
    two = tiles.codes < 3
    tiles = LabelledTiles(tiles.values[two], tiles.codes[two], tiles.scenes[two])
    network, report = fit_tile_network(
        tiles, epochs=30, validation_scenes=[0], target_accuracy=0.5, **FIT
    )
    assert len(report.epochs) < 30
    assert network.card.provenance["epochs"] == len(report.epochs)
    assert network.card.codes == (0, 1, 2, 0)
    assert report.validation_accuracy is not None
    assert report.validation_accuracy >= 0.5
    before = [epoch.validation_accuracy for epoch in report.epochs[:-1]]
    assert all(accuracy is not None and accuracy < 0.5 for accuracy in before)


def test_batches_are_balanced_turned_and_flipped() -> None:
    from csc_xr.training.tiles import _Batches

    values = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 1)[[0] * 30 + [1] * 2]
    codes = np.array([1] * 30 + [2] * 2, np.uint8)
    tiles = LabelledTiles(values, codes, np.zeros(32, np.int64))
    batches = _Batches(tiles, np.arange(32), 16, 1.0, 0.0, np.random.default_rng(0))
    assert batches.steps == 2
    drawn = [batches.draw(step) for step in (0, 1, 0, 1, 0, 1, 0, 1)]
    assert all(len(values) == len(codes) == 16 for values, codes in drawn)
    found = np.concatenate([codes for _, codes in drawn])
    assert (found == 2).sum() == (found == 1).sum()
    views = {view.tobytes() for values, codes in drawn for view in values[codes == 1]}
    first = values[0].astype(np.float32)
    expected = {
        np.rot90(side, turn).tobytes() for side in (first, first[::-1]) for turn in range(4)
    }
    assert views == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"validation_scenes": [7]}, r"validation_scenes must be some, not all, .* got \[7\]"),
        ({"validation_scenes": [0, 1, 2]}, r"some, not all, of the scenes with tiles, \[0, 1, 2\]"),
        ({"target_accuracy": 0.9}, "needs validation_scenes to be measured on, got 0.9"),
        ({"target_accuracy": 1.2, "validation_scenes": [0]}, "above 0 and up to 1, .* got 1.2"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"brightness": 1.0}, "brightness must be 0 or more and below 1, got 1.0"),
        ({"bands": ("red",)}, "bands must name the 3 bands of the tiles, got red"),
    ],
)
def test_fit_settings_out_of_range(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        fit_tile_network(coloured_tiles(8), **({"epochs": 1} | FIT | changed))


def test_codes_must_be_in_the_legend() -> None:
    tiles = coloured_tiles(8)
    strange = LabelledTiles(tiles.values, tiles.codes + np.uint8(3), tiles.scenes)
    with pytest.raises(LabelError, match="codes of legend 'test', 1, 2, 3, got 4, 5, 6"):
        fit_tile_network(strange, epochs=1, **FIT)
