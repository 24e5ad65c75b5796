"""Chunks, schedulers and workers do not matter: the same samples and classes, to the bit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import dask
import distributed
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import (
    brightness_network,
    noise_scene,
    patch_network,
    striped_scene,
    tile_network,
)

from csc_xr.inference import classify_pixels, expand_tiles, mode_filter, predict_tiles
from csc_xr.training.phase_two.fitting import FitSettings
from csc_xr.training.phase_two.sampling import draw_samples
from csc_xr.workflow import ClassifySettings, classify_scene

PATCHES = {size: patch_network(size, seed=size) for size in (1, 3, 5, 7, 15)}
TILES = {size: tile_network(size, seed=size) for size in (5, 8, 16)}


@st.composite
def cuts(draw: Any, length: int) -> tuple[int, ...]:
    """Any way to cut a side into chunks, single rows among them."""
    if draw(st.booleans()):
        step = draw(st.integers(4, length))
        whole, rest = divmod(length, step)
        return (step,) * whole + ((rest,) if rest else ())
    places = draw(st.sets(st.integers(1, length - 1), max_size=5))
    edges = [0, *sorted(places), length]
    return tuple(stop - start for start, stop in itertools.pairwise(edges))


@st.composite
def cut_scenes(draw: Any) -> tuple[xr.DataArray, xr.DataArray]:
    """Draw a scene in one chunk, and the same in others."""
    shape = draw(st.integers(16, 60)), draw(st.integers(16, 60))
    scene = noise_scene(shape, seed=draw(st.integers(0, 99)), holes=draw(st.sampled_from([0, 0.2])))
    return scene, scene.chunk(y=draw(cuts(shape[0])), x=draw(cuts(shape[1])))


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with cluster, distributed.Client(cluster, set_as_default=False) as connected:
        yield connected


def everything(scene: xr.DataArray, patch: int, tile: int, seed: int) -> dict[str, Any]:
    """Tile classes, samples drawn by them, and pixel classes, computed."""
    tiles = predict_tiles(scene, TILES[tile], despeckle=1)
    samples = draw_samples(
        scene,
        expand_tiles(tiles["tile_class"], scene, tile_size=tile),
        bands=TILES[tile].card.bands,
        patch_size=patch,
        per_class=40,
        seed=seed,
    )
    pixels = classify_pixels(scene, PATCHES[patch], outputs=("pixel_class", "probability"))
    classes = mode_filter(pixels["pixel_class"], radius=2)
    found = dask.compute(tiles["tile_class"], tiles["tile_probability"], classes, pixels)
    return {
        "tile_class": found[0].values,
        "tile_probability": found[1].values,
        "filtered": found[2].values,
        "pixel_class": found[3]["pixel_class"].values,
        "probability": found[3]["probability"].values,
        "codes": samples.codes,
        "rows": samples.rows,
        "columns": samples.columns,
        "patches": samples.patches,
    }


def check_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, values in one.items():
        assert values.dtype == other[name].dtype
        assert values.tobytes() == other[name].tobytes(), name


@settings(max_examples=25, deadline=None)
@given(
    scenes=cut_scenes(),
    patch=st.sampled_from(sorted(PATCHES)),
    tile=st.sampled_from(sorted(TILES)),
    seed=st.integers(0, 2**31),
    scheduler=st.sampled_from(["sync", "threads"]),
)
def test_chunks_do_not_matter(
    scenes: tuple[xr.DataArray, xr.DataArray], patch: int, tile: int, seed: int, scheduler: str
) -> None:
    with dask.config.set(scheduler="sync"):
        one = everything(scenes[0], patch, tile, seed)
    with dask.config.set(scheduler=scheduler, num_workers=3):
        check_same(one, everything(scenes[1], patch, tile, seed))


@settings(max_examples=3, deadline=None)
@given(
    scenes=cut_scenes(),
    patch=st.sampled_from([3, 15]),
    tile=st.sampled_from(sorted(TILES)),
    seed=st.integers(0, 2**31),
)
def test_worker_processes_do_not_matter(
    client: distributed.Client,
    scenes: tuple[xr.DataArray, xr.DataArray],
    patch: int,
    tile: int,
    seed: int,
) -> None:
    with dask.config.set(scheduler="sync"):
        one = everything(scenes[0], patch, tile, seed)
    with client.as_current(), dask.config.set(scheduler="distributed"):
        check_same(one, everything(scenes[1], patch, tile, seed))


def test_both_phases_travel_to_worker_processes(client: distributed.Client) -> None:
    """Networks and scenes travel to a cluster's workers and back."""
    scene = striped_scene((72, 96), chunks=(40, 40))
    fit = FitSettings(steps=120, batch_size=64, samples_per_class=200)
    chosen = ClassifySettings(patch_size=3, mode_radius=2, outputs=("probability",), fit=fit)
    network = brightness_network()
    here = classify_scene(scene, network, settings=chosen).compute()
    with client.as_current(), dask.config.set(scheduler="distributed"):
        there = classify_scene(scene, network, settings=chosen).compute()
    xr.testing.assert_identical(here, there)


@settings(max_examples=3, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), patch=st.sampled_from([1, 3, 7]))
def test_a_fit_in_between_does_not_matter(data: Any, seed: int, patch: int) -> None:
    """Both phases in one go: the network learnt on the way is the same, to the bit."""
    scene = striped_scene((48, 72), seed=seed)
    cut = scene.chunk(y=data.draw(cuts(48)), x=data.draw(cuts(72)))
    fit = FitSettings(steps=30, batch_size=32, samples_per_class=60)
    chosen = ClassifySettings(
        patch_size=patch, seed=seed, mode_radius=1, outputs=("probability",), fit=fit
    )
    with dask.config.set(scheduler="sync"):
        one = classify_scene(scene, brightness_network(), settings=chosen).compute()
    with dask.config.set(scheduler="threads", num_workers=3):
        other = classify_scene(cut, brightness_network(), settings=chosen).compute()
    xr.testing.assert_identical(one, other)
    assert len(np.unique(one["pixel_class"])) > 1
