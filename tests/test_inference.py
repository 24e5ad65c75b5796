"""Both phases' predictions over a scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import (
    brightness_network,
    noise_scene,
    patch_by_patch,
    patch_network,
    striped_scene,
    tile_network,
)

from csc_xr.errors import NetworkError, ParameterError, SceneError
from csc_xr.grid import place, scene_transform
from csc_xr.inference import classify_pixels, expand_tiles, mode_filter, predict_tiles
from csc_xr.windows import tile_starts

TILES = tile_network()
PATCHES = patch_network(5)


@pytest.fixture
def nothing_computes() -> Any:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something computed")

    with dask.config.set(scheduler=refuse):
        yield


def plain_tiles(scene: xr.DataArray, size: int) -> np.ndarray:
    """Predict every tile by itself; shape (tile rows, tile columns, outputs)."""
    values = scene.values / np.float32(255)
    rows, columns = (tile_starts(scene.sizes[dim], size) for dim in ("y", "x"))
    tiles = [
        values[:, r : r + size, c : c + size].transpose(1, 2, 0) for r in rows for c in columns
    ]
    found = TILES.model.predict(np.stack(tiles), verbose=0)
    return np.asarray(found.reshape(len(rows), len(columns), -1))


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(8, 50), st.integers(8, 50)),
    chunks=st.tuples(st.integers(4, 50), st.integers(4, 50)),
)
def test_tiles_equal_the_plain_loop_for_any_chunks(
    shape: tuple[int, int], chunks: tuple[int, int]
) -> None:
    scene = noise_scene(shape)
    found = predict_tiles(scene.chunk(y=chunks[0], x=chunks[1]), TILES).compute()
    expected = plain_tiles(scene, 8)[..., 1:]
    np.testing.assert_allclose(
        found["tile_probability"].values.transpose(1, 2, 0), expected, rtol=0, atol=1e-5
    )
    np.testing.assert_array_equal(
        found["tile_class"].values, found["tile_probability"].values.argmax(0) + 1
    )
    whole = predict_tiles(scene, TILES).compute()
    xr.testing.assert_identical(found, whole)


@pytest.mark.usefixtures("nothing_computes")
def test_prediction_is_lazy() -> None:
    scene = noise_scene((40, 60), chunks=(16, 16), holes=0.2)
    tiles = predict_tiles(scene, TILES, despeckle=1)
    expand_tiles(tiles["tile_class"], scene, tile_size=8)
    pixels = classify_pixels(scene, PATCHES, outputs=("pixel_class", "entropy"), edge="blank")
    mode_filter(pixels["pixel_class"], radius=2)


def test_tiles_know_where_they_are() -> None:
    transform = Affine(10, 0, 500000, 0, -10, 8000000)
    scene = place(noise_scene((20, 30)), transform, "EPSG:32624")
    tiles = predict_tiles(scene, TILES)
    assert tiles["tile_class"].shape == (3, 4)
    assert scene_transform(tiles) == transform @ Affine.scale(8)
    assert tiles.rio.crs == scene.rio.crs
    assert tiles["tile_class"].dtype == np.uint8
    assert tiles.attrs["tile_size"] == 8


def test_blank_edge_leaves_partial_tiles() -> None:
    scene = noise_scene((20, 30))
    tiles = predict_tiles(scene, TILES, edge="blank")
    covered = predict_tiles(scene, TILES)
    assert (tiles["tile_class"].values[:2, :3] == covered["tile_class"].values[:2, :3]).all()
    assert (tiles["tile_class"].values[2:] == 0).all()
    assert (tiles["tile_class"].values[:, 3:] == 0).all()
    assert (tiles["tile_probability"].values[:, 2:] == 0).all()
    assert tiles["tile_class"].dtype == np.uint8


def test_improbable_tiles_are_dropped() -> None:
    scene = noise_scene((40, 40))
    best = predict_tiles(scene, TILES)["tile_probability"].max("class").values
    limit = float(np.median(best))
    kept = predict_tiles(scene, TILES, min_probability=limit)["tile_class"].values
    np.testing.assert_array_equal(kept > 0, best >= np.float32(limit))
    assert 0 < (kept == 0).sum() < kept.size


def test_lone_tile_is_despeckled() -> None:
    scene = striped_scene((72, 72))
    scene = scene.copy()
    scene[:, 32:40, 8:16] = 225  # one bright tile in the dark stripe
    network = brightness_network()
    rough = predict_tiles(scene, network)["tile_class"].values
    smooth = predict_tiles(scene, network, despeckle=1)["tile_class"].values
    assert rough[4, 1] == 3
    assert smooth[4, 1] == 1
    assert (rough != smooth).sum() == 1


def test_tiles_without_valid_pixels_are_zero_and_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = noise_scene((16, 24), holes=1e-9).copy()
    scene[:, :, 8:16] = 0
    batches: list[int] = []
    _count_calls(monkeypatch, "tile_function", batches)
    tiles = predict_tiles(scene, TILES).compute(scheduler="sync")
    assert (tiles["tile_class"].values[:, 1] == 0).all()
    assert (tiles["tile_class"].values[:, [0, 2]] > 0).all()
    assert len(batches) == 1
    blank = scene.copy(data=scene.data * 0)
    assert (predict_tiles(blank, TILES)["tile_class"].values == 0).all()
    assert len(batches) == 1


def test_blocks_without_valid_pixels_are_zero_and_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("csc_xr.networks.runtime.BLOCK_SIDE", 8)
    scene = noise_scene((16, 24), holes=1e-9).copy()
    scene[:, :, 8:] = 0
    calls: list[int] = []
    _count_calls(monkeypatch, "sliding_function", calls)
    outputs = ("pixel_class", "confidence", "margin", "entropy", "probability")
    found = classify_pixels(scene, PATCHES, outputs=outputs).compute(scheduler="sync")
    assert len(calls) == 2
    for name in outputs:
        assert (found[name].values[..., 8:] == 0).all()
    assert (found["pixel_class"].values[:, :8] > 0).all()


def _count_calls(monkeypatch: pytest.MonkeyPatch, name: str, calls: list[int]) -> None:
    from csc_xr.networks import runtime

    original: Callable[..., Any] = getattr(runtime, name)

    def counting(*arguments: Any) -> Any:
        run = original(*arguments)

        def counted(batch: Any) -> Any:
            calls.append(len(batch))
            return run(batch)

        return counted

    monkeypatch.setattr(runtime, name, counting)


def test_invalid_pixels_look_black_to_their_neighbours() -> None:
    scene = noise_scene((30, 30), holes=0.15, seed=4)
    found = classify_pixels(scene, PATCHES, outputs=("probability",))["probability"].values
    expected = patch_by_patch(scene, PATCHES)  # the holes of the scene are zeros already
    valid = (scene.values != 0).all(0)
    np.testing.assert_allclose(
        found.transpose(1, 2, 0)[valid], expected[valid][:, 1:], rtol=0, atol=1e-5
    )
    assert (found[:, ~valid] == 0).all()


def test_certainties_follow_from_the_probabilities() -> None:
    scene = noise_scene((20, 20))
    outputs = ("confidence", "margin", "entropy", "probability")
    found = classify_pixels(scene, PATCHES, outputs=outputs).compute()
    probability = np.sort(found["probability"].values, axis=0)
    np.testing.assert_array_equal(found["confidence"].values, probability[-1])
    np.testing.assert_array_equal(found["margin"].values, probability[-1] - probability[-2])
    entropy = -(probability * np.log(probability + 1e-30)).sum(0)
    np.testing.assert_allclose(found["entropy"].values, entropy, atol=1e-5)
    assert {found[name].dtype for name in outputs} == {np.dtype(np.float32)}
    assert found["class"].values.tolist() == [1, 2, 3]


def test_blank_edge_leaves_the_border() -> None:
    scene = noise_scene((20, 20))
    blank = classify_pixels(scene, PATCHES, outputs=("pixel_class", "probability"), edge="blank")
    full = classify_pixels(scene, PATCHES)
    inner = (slice(2, -2), slice(2, -2))
    np.testing.assert_array_equal(
        blank["pixel_class"].values[inner], full["pixel_class"].values[inner]
    )
    assert np.count_nonzero(blank["pixel_class"].values) == 16 * 16
    assert np.count_nonzero(blank["probability"].values) == 3 * 16 * 16
    assert blank["pixel_class"].attrs["flag_values"] == [1, 2, 3]


def test_bands_are_taken_by_name() -> None:
    scene = noise_scene((20, 20))
    turned = scene.isel(band=[2, 0, 1])
    more = xr.concat([turned, turned[:1].assign_coords(band=["nir"])], "band").chunk(band=-1)
    expected = classify_pixels(scene, PATCHES)["pixel_class"].values
    for other in (turned, more):
        np.testing.assert_array_equal(classify_pixels(other, PATCHES)["pixel_class"], expected)


@settings(max_examples=15, deadline=None)
@given(
    chunks=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    radius=st.integers(0, 5),
    seed=st.integers(0, 5),
)
def test_mode_filter_counts_the_disk(chunks: tuple[int, int], radius: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 4, (23, 31), dtype=np.uint8)
    values[:6, :6] = 0
    raster = xr.DataArray(values, dims=("y", "x")).chunk(y=chunks[0], x=chunks[1])
    found = mode_filter(raster, radius=radius).values
    np.testing.assert_array_equal(found, _plain_mode(values, radius) if radius else values)


def _plain_mode(values: np.ndarray, radius: int) -> np.ndarray:
    found = np.zeros_like(values)
    rows, columns = np.indices(values.shape)
    for row, column in np.argwhere(values):
        near = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        votes = np.bincount(values[near], minlength=4)
        votes[0] = 0
        found[row, column] = votes.argmax()
    return found


def test_expanded_tiles_cover_the_scene() -> None:
    scene = noise_scene((20, 30), chunks=(7, 11), holes=0.1)
    tiles = predict_tiles(scene, TILES)["tile_class"]
    pixels = expand_tiles(tiles, scene, tile_size=8)
    rows, columns = np.indices((20, 30)) // 8
    valid = (scene.values != 0).all(0)
    np.testing.assert_array_equal(pixels.values, np.where(valid, tiles.values[rows, columns], 0))
    assert pixels.dtype == np.uint8


@pytest.mark.usefixtures("nothing_computes")
def test_errors_come_before_any_work() -> None:
    scene = noise_scene((20, 30))
    with pytest.raises(ParameterError, match="at least one tile of 8 x 8 pixels, got a scene"):
        predict_tiles(noise_scene((7, 30)), TILES)
    with pytest.raises(ParameterError, match=r"min_probability must lie in 0 to 1, got 1\.5"):
        predict_tiles(scene, TILES, min_probability=1.5)
    with pytest.raises(NetworkError, match="needs a tile network, got a patch network"):
        predict_tiles(scene, PATCHES)
    with pytest.raises(NetworkError, match="classified by a patch network, got a tile network"):
        classify_pixels(scene, TILES)
    with pytest.raises(NetworkError, match="takes tiles of 8 x 8 pixels, got tile_size=9"):
        predict_tiles(scene, TILES, tile_size=9)
    with pytest.raises(ParameterError, match=r"a patch of 5 x 5 pixels and a scene of 4 x 30"):
        classify_pixels(noise_scene((4, 30)), PATCHES)
    with pytest.raises(ParameterError, match=r"outputs may hold .* got \['colour'\]"):
        classify_pixels(scene, PATCHES, outputs=("colour",))
    with pytest.raises(ParameterError, match="radius of the mode filter must be 0 or more"):
        mode_filter(scene[0], radius=-1)
    with pytest.raises(SceneError, match="patch network needs bands red, green, blue, got red"):
        classify_pixels(scene.isel(band=[0]), PATCHES)
