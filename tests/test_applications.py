"""Tile networks of every architecture: bands, heads, seeds, and a turn through a file."""

from __future__ import annotations

import gc
import random
import weakref
from functools import cache
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import pytest
from networks_for_tests import LEGEND

from csc_xr.networks import applications
from csc_xr.networks.applications import Application
from csc_xr.networks.builders import LEARNING_RATES, TileArchitecture, build_tile_network
from csc_xr.networks.bundle import Network, open_network, save_network
from csc_xr.networks.card import NetworkCard

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2", "thermal")
MAKERS = {
    "vgg16": keras.applications.VGG16,
    "densenet121": keras.applications.DenseNet121,
    "resnet50": keras.applications.ResNet50,
}


def build(architecture: Any, *, n_bands: int = 3, seed: int = 1) -> keras.Model:
    return build_tile_network(architecture, tile_size=32, n_bands=n_bands, n_outputs=4, seed=seed)


def body_and_head(model: keras.Model) -> tuple[list[Any], list[Any]]:
    names = [layer.name for layer in model.layers]
    end = names.index("flatten")
    return model.layers[1:end], model.layers[end:]


@cache
def built(architecture: Any) -> keras.Model:
    """Build a network that no test changes; the large ones take a second or two."""
    return build(architecture, seed=5)


@pytest.mark.parametrize("n_bands", [3, 4, 7])
@pytest.mark.parametrize("architecture", get_args(TileArchitecture))
def test_learns_and_predicts_the_same_from_a_file(
    architecture: TileArchitecture, n_bands: int, tmp_path: Path
) -> None:
    model = build(architecture, n_bands=n_bands)
    assert model.input_shape == (None, 32, 32, n_bands)
    tiles = np.random.default_rng(n_bands).random((4, 32, 32, n_bands), np.float32)
    before = model.get_weights()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", run_eagerly=True)
    loss = model.train_on_batch(tiles, np.array([1, 2, 3, 1]))
    assert np.isfinite(loss)
    moved = [(one != two).any() for one, two in zip(before, model.get_weights(), strict=True)]
    assert np.mean(moved) > 0.9
    card = NetworkCard(kind="tile", bands=BANDS[:n_bands], scale=255.0, size=32, legend=LEGEND)
    network = Network(card, model)
    save_network(network, tmp_path / "network.keras")
    opened = open_network(tmp_path / "network.keras")
    assert opened == network
    outputs = np.asarray(model(tiles, training=False))
    np.testing.assert_array_equal(np.asarray(opened.model(tiles, training=False)), outputs)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-6)
    assert np.ptp(outputs, axis=0).max() > 1e-4, "outputs must depend on the input"


@pytest.mark.parametrize("architecture", MAKERS)
def test_layers_are_those_of_the_application_and_a_head(architecture: Application) -> None:
    body, head = body_and_head(built(architecture))
    application = MAKERS[architecture](
        include_top=False, weights=None, input_tensor=keras.Input((32, 32, 3))
    )
    assert len(body) == len(application.layers) - 1
    for ours, theirs in zip(body, application.layers[1:], strict=True):
        config, known = ours.get_config(), theirs.get_config()
        if isinstance(ours, keras.layers.ZeroPadding2D):
            del config["name"], known["name"]
        if "kernel_initializer" in config:
            assert config["kernel_initializer"]["config"].pop("seed") is not None
            del known["kernel_initializer"]["config"]["seed"]
        assert config == known
    names = {layer.name for layer in body}
    assert names >= {"block1_conv1"} or names >= {"conv1_pad", "conv1_conv", "pool1_pad"}
    if architecture != "vgg16":
        check_small_head(head)


def check_small_head(head: list[Any]) -> None:
    assert [type(layer).__name__ for layer in head] == [
        *("Flatten", "Dense", "BatchNormalization", "Dense", "Dense", "Dense")
    ]
    dense = [layer for layer in head if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [64, 32, 16, 4]
    for layer in dense[:-1]:
        assert layer.activation is keras.activations.relu
        assert layer.kernel_regularizer is None
    assert dense[-1].activation is keras.activations.softmax
    assert dense[-1].dtype_policy.name == "float32"
    assert (head[2].momentum, head[2].epsilon) == (0.99, 0.001)


@pytest.mark.parametrize("architecture", MAKERS)
def test_seed_decides_and_random_numbers_of_the_program_go_on(architecture: Application) -> None:
    keras.utils.set_random_seed(7)
    expected = draw(), draw()
    keras.utils.set_random_seed(7)
    before = draw()
    first = build(architecture, seed=5)
    assert (before, draw()) == expected
    keras.layers.ZeroPadding2D()  # moves the counters that Keras names layers by
    again = built(architecture)
    assert first.get_config() == again.get_config()
    for one, two in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def draw() -> tuple[float, float, float]:
    return random.random(), np.random.random(), float(keras.random.uniform(()))  # noqa: NPY002, S311


def test_every_layer_and_seed_draws_its_own_weights() -> None:
    weights = [weight for seed in (5, 6) for weight in build("vgg16", seed=seed).weights]
    kernels = [weight.numpy().tobytes() for weight in weights if weight.ndim > 1]
    assert len(set(kernels)) == len(kernels) == 32


def test_nothing_of_the_application_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def make(**settings: Any) -> keras.Model:
        model = keras.applications.VGG16(**settings)
        made.extend(weakref.ref(layer) for layer in model.layers)
        return model

    monkeypatch.setitem(applications._MAKERS, "vgg16", make)
    model = build("vgg16")
    gc.collect()
    assert len(made) == 19
    assert all(layer() is None for layer in made)
    assert model.built


def test_every_architecture_has_a_learning_rate() -> None:
    assert set(LEARNING_RATES) == set(get_args(TileArchitecture))
    assert LEARNING_RATES["vgg16"] == 1e-4
    assert LEARNING_RATES["densenet121"] == LEARNING_RATES["resnet50"] == 1e-5
