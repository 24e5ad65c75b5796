"""Untrained networks: their shape, and first weights that depend on the seed alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest

from csc_xr.errors import ParameterError
from csc_xr.networks.builders import build_patch_network, build_tile_network


def patch_network(**changes: Any) -> keras.Model:
    settings = {"patch_size": 5, "n_bands": 3, "n_outputs": 4, "seed": 1, **changes}
    return build_patch_network(**settings)


def tile_network(architecture: Any = "compact", **changes: Any) -> keras.Model:
    settings = {"tile_size": 32, "n_bands": 3, "n_outputs": 4, "seed": 1, **changes}
    return build_tile_network(architecture, **settings)


def layers_of(model: keras.Model, kind: type) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, kind)]


@pytest.mark.parametrize("patch_size", range(1, 16, 2))
def test_patch_network_is_the_published_one(patch_size: int) -> None:
    model = patch_network(patch_size=patch_size)
    assert model.input_shape == (None, patch_size, patch_size, 3)
    assert model.output_shape == (None, 4)
    convolutions = layers_of(model, keras.layers.Conv2D)
    assert len(convolutions) == {1: 0, 3: 1, 5: 2, 7: 3, 9: 4, 11: 5, 13: 6, 15: 6}[patch_size]
    for layer in convolutions:
        assert (layer.filters, layer.kernel_size, layer.padding) == (32, (3, 3), "valid")
        assert layer.activation is keras.activations.linear
    left = {15: 3}.get(patch_size, 1) ** 2 * (32 if convolutions else 3)
    heads = (64, 32, 16) if patch_size <= 3 else (512, 64, 32)
    dense = layers_of(model, keras.layers.Dense)
    assert [layer.kernel.shape[0] for layer in dense] == [left, *heads]
    assert [layer.units for layer in dense] == [*heads, 4]
    for layer in dense[:-1]:
        assert layer.activation is keras.activations.relu
        assert float(layer.kernel_regularizer.l2) == pytest.approx(0.001)
    position = model.layers.index(dense[0])
    normalisation = model.layers[position + 1]
    assert isinstance(normalisation, keras.layers.BatchNormalization)
    assert (normalisation.momentum, normalisation.epsilon) == (0.99, 0.001)


@pytest.mark.parametrize("kind", ["patch", "compact", "vgg16"])
def test_outputs_are_probabilities(kind: str) -> None:
    model = patch_network() if kind == "patch" else tile_network(kind)
    windows = np.random.default_rng(0).random((6, *model.input_shape[1:]), np.float32)
    windows *= np.linspace(0, 1, 6, dtype=np.float32)[:, None, None, None]
    outputs = np.asarray(model(windows, training=False))
    assert outputs.dtype == np.float32
    assert outputs.min() >= 0
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-6)
    assert np.ptp(outputs, axis=0).max() > 1e-4, "outputs must depend on the input"


def test_convolutions_can_have_an_activation() -> None:
    model = patch_network(activation="relu", filters=8)
    for layer in layers_of(model, keras.layers.Conv2D):
        assert layer.activation is keras.activations.relu
        assert layer.filters == 8


def test_vgg16_has_the_weights_of_vgg16() -> None:
    model = tile_network("vgg16", tile_size=50)
    # 14 714 688 for the convolutions over 3 bands (Simonyan and Zisserman, configuration D).
    head = 512 * 512 + 512 + 512 * 256 + 256 + 256 * 4 + 4
    assert model.count_params() == 14_714_688 + head
    assert [layer.rate for layer in layers_of(model, keras.layers.Dropout)] == [0.5]
    assert len(layers_of(model, keras.layers.MaxPooling2D)) == 5


def test_compact_network_is_small_for_any_tile() -> None:
    sizes = {tile_network(tile_size=size).count_params() for size in (16, 50, 100)}
    assert len(sizes) == 1
    assert sizes.pop() < 250_000


@pytest.mark.parametrize("build", [patch_network, tile_network])
def test_first_weights_depend_on_the_seed_alone(build: Any) -> None:
    keras.utils.set_random_seed(0)
    first = build(seed=5)
    keras.utils.set_random_seed(99)
    keras.layers.Dense(3)  # moves the counters that Keras names layers by
    again, other = build(seed=5), build(seed=6)
    assert first.get_config() == again.get_config()
    for one, two in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    kernels = [layer.kernel.numpy() for layer in layers_of(first, keras.layers.Dense)]
    changed = [layer.kernel.numpy() for layer in layers_of(other, keras.layers.Dense)]
    assert all((one != two).any() for one, two in zip(kernels, changed, strict=True))


def test_layers_of_one_shape_start_differently() -> None:
    kernels = [layer.kernel.numpy() for layer in layers_of(patch_network(), keras.layers.Conv2D)]
    kernels = [kernel for kernel in kernels if kernel.shape[2] == 32]
    kernels += [
        layer.kernel.numpy()
        for layer in layers_of(patch_network(patch_size=9), keras.layers.Conv2D)[2:]
    ]
    assert len(kernels) == 3
    assert all((one != two).any() for one, two in pairwise(kernels))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 4}, "patch_size must be odd and at most 15, got 4"),
        ({"patch_size": 17}, "patch_size must be odd and at most 15, got 17"),
        ({"patch_size": -3}, "patch_size must be an integer of at least 1, got -3"),
        ({"patch_size": 5.0}, "patch_size must be an integer of at least 1, got 5.0"),
        ({"activation": "tanh"}, "activation must be 'linear' or 'relu', got 'tanh'"),
        ({"n_bands": 0}, "n_bands must be an integer of at least 1, got 0"),
        ({"n_outputs": 1}, "n_outputs must be an integer of at least 2, got 1"),
        ({"filters": 0}, "filters must be an integer of at least 1, got 0"),
        ({"momentum": 1.0}, "momentum must lie in 0 to 1, 1 left out, got 1.0"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"seed": None}, "seed must be an integer of at least 0, got None"),
    ],
)
def test_patch_settings_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        patch_network(**changes)


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        (
            "resnet",
            {},
            "architecture must be one of vgg16, densenet121, resnet50, compact, got 'resnet'",
        ),
        ("vgg16", {"tile_size": 31}, "vgg16 needs tiles of at least 32 px, got tile_size 31"),
        ("densenet121", {"tile_size": 31}, "densenet121 needs tiles of at least 32 px, got"),
        ("resnet50", {"tile_size": 31}, "resnet50 needs tiles of at least 32 px, got"),
        ("compact", {"tile_size": 15}, "compact needs tiles of at least 16 px, got tile_size 15"),
        ("compact", {"tile_size": "50"}, "tile_size must be an integer of at least 1, got '50'"),
        ("compact", {"n_bands": True}, "n_bands must be an integer of at least 1, got True"),
    ],
)
def test_tile_settings_are_checked(
    architecture: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        tile_network(architecture, **changes)
