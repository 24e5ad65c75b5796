"""Networks of both phases, untrained; their first weights depend on the seed alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from csc_xr.errors import ParameterError
from csc_xr.networks.applications import SMALLEST_TILE, apply_application
from csc_xr.networks.runtime import keras

layers = keras.layers

TileArchitecture = Literal["vgg16", "densenet121", "resnet50", "compact"]

MAX_PATCH_SIZE = 15
LEARNING_RATES: Mapping[str, float] = MappingProxyType(
    {"vgg16": 1e-4, "densenet121": 1e-5, "resnet50": 1e-5, "compact": 1e-3}
)
"""Learning rate that each tile network is trained with unless another is asked for."""

_MAX_CONVOLUTIONS = 6
_L2 = 0.001
_COMPACT_STAGES = (24, 48, 96, 160)
_SMALLEST_TILE = dict.fromkeys(LEARNING_RATES, SMALLEST_TILE) | {
    "compact": 2 ** len(_COMPACT_STAGES)  # every pooling halves the tile and must leave a pixel
}


def build_patch_network(
    *,
    patch_size: int,
    n_bands: int,
    n_outputs: int,
    activation: Literal["linear", "relu"] = "linear",
    filters: int = 32,
    momentum: float = 0.99,
    seed: int,
) -> keras.Model:
    """Build the phase-two network: patches in, class probabilities of their centre pixel out.

    Up to six 3 x 3 convolutions without padding, then Dense ReLU with an L2 penalty of 0.001
    (512, 64, 32; 64, 32, 16 for patch sizes 1 and 3) and batch normalisation after the first,
    then softmax. Patch size 1 has no convolution: a multilayer perceptron.

    Parameters
    ----------
    patch_size : int
        Odd, 1 to 15 pixels.
    n_bands : int
        Bands of the scene.
    n_outputs : int
        Outputs, 2 or more; usually the highest class code plus one.
    activation : {"linear", "relu"}
        Of the convolutions; the published networks are linear.
    filters : int
        Filters of each convolution.
    momentum : float
        Of the running statistics of batch normalisation; a fit of few steps needs less than
        the published 0.99, or it ends before they have settled.
    seed : int
        Decides the first weights, 0 or more.

    Returns
    -------
    keras.Model
        Input (n, patch_size, patch_size, n_bands), output (n, n_outputs) float32.

    Raises
    ------
    ParameterError
        When a setting has a value that cannot be used.

    Notes
    -----
    Carbonneau et al. 2020, Remote Sensing of Environment 251:112107; Marochov et al. 2021, The
    Cryosphere 15:5041-5059.
    """
    _check_at_least("patch_size", patch_size, 1)
    if patch_size % 2 == 0 or patch_size > MAX_PATCH_SIZE:
        raise ParameterError(
            f"patch_size must be odd and at most {MAX_PATCH_SIZE}, got {patch_size}."
        )
    if activation not in ("linear", "relu"):
        raise ParameterError(f"activation must be 'linear' or 'relu', got {activation!r}.")
    _check_common(n_bands, n_outputs, seed)
    _check_at_least("filters", filters, 1)
    if not 0 <= momentum < 1:
        raise ParameterError(f"momentum must lie in 0 to 1, 1 left out, got {momentum}.")

    seeds = _layer_seeds(seed)
    inputs = x = keras.Input((patch_size, patch_size, n_bands), name="patch")
    for index in range(min(patch_size // 2, _MAX_CONVOLUTIONS)):
        x = _convolution(f"conv{index + 1}", filters, "valid", activation, seeds)(x)
    x = layers.Flatten(name="flatten")(x)
    units = (64, 32, 16) if patch_size <= 3 else (512, 64, 32)
    x = _dense("dense1", units[0], seeds)(x)
    x = layers.BatchNormalization(momentum=momentum, epsilon=0.001, name="batch_norm")(x)
    x = _dense("dense2", units[1], seeds)(x)
    x = _dense("dense3", units[2], seeds)(x)
    return keras.Model(inputs, _softmax(n_outputs, seeds)(x), name="patch_network")


def build_tile_network(
    architecture: TileArchitecture,
    *,
    tile_size: int,
    n_bands: int,
    n_outputs: int,
    seed: int,
) -> keras.Model:
    """Build a phase-one network: tiles in, class probabilities out.

    Parameters
    ----------
    architecture : {"vgg16", "densenet121", "resnet50", "compact"}
        ``"vgg16"`` is the published one: the 13 convolutions of VGG16, Dense 512 and 256 with
        an L2 penalty of 0.001, dropout 0.5 between them; 15 million weights at 50 px.
        ``"densenet121"`` (7 million) and ``"resnet50"`` (24 million) end in Dense 64 with batch
        normalisation, 32 and 16. ``"compact"``, four convolutions with batch normalisation
        and global average pooling, has 200 000 weights and trains without a graphics card.
    tile_size : int
        Tile size in pixels, at least 16 for the compact network and 32 for the others.
    n_bands : int
        Bands of the scenes, 1 or more.
    n_outputs : int
        Outputs, 2 or more; usually the highest class code plus one.
    seed : int
        Decides the first weights, 0 or more.

    Returns
    -------
    keras.Model
        Input (n, tile_size, tile_size, n_bands), output (n, n_outputs) float32.

    Raises
    ------
    ParameterError
        When a setting has a value that cannot be used.

    Notes
    -----
    VGG16: Simonyan and Zisserman 2015, arXiv:1409.1556, configuration D. DenseNet: Huang et al.
    2017, arXiv:1608.06993. ResNet: He et al. 2016, arXiv:1512.03385. Their layers come from
    keras.applications and have the names they have there.
    """
    if architecture not in _SMALLEST_TILE:
        raise ParameterError(
            f"architecture must be one of {', '.join(_SMALLEST_TILE)}, got {architecture!r}."
        )
    _check_at_least("tile_size", tile_size, 1)
    if tile_size < _SMALLEST_TILE[architecture]:
        raise ParameterError(
            f"{architecture} needs tiles of at least {_SMALLEST_TILE[architecture]} px, "
            f"got tile_size {tile_size}."
        )
    _check_common(n_bands, n_outputs, seed)

    seeds = _layer_seeds(seed)
    inputs = keras.Input((tile_size, tile_size, n_bands), name="tile")
    output = _softmax(n_outputs, seeds)  # takes the first seed; seeds keep their weights this way
    if architecture == "compact":
        features = _compact(inputs, seeds)
    else:
        features = layers.Flatten(name="flatten")(apply_application(architecture, inputs, seeds))
        head = _published_head if architecture == "vgg16" else _small_head
        features = head(features, seeds)
    return keras.Model(inputs, output(features), name=architecture)


def _published_head(x: Any, seeds: Iterator[int]) -> Any:
    x = _dense("dense1", 512, seeds)(x)
    x = layers.Dropout(0.5, seed=next(seeds), name="dropout")(x)
    return _dense("dense2", 256, seeds)(x)


def _small_head(x: Any, seeds: Iterator[int]) -> Any:
    x = _dense("dense1", 64, seeds, penalty=None)(x)
    x = layers.BatchNormalization(momentum=0.99, epsilon=0.001, name="batch_norm")(x)
    x = _dense("dense2", 32, seeds, penalty=None)(x)
    return _dense("dense3", 16, seeds, penalty=None)(x)


def _compact(x: Any, seeds: Iterator[int]) -> Any:
    for stage, filters in enumerate(_COMPACT_STAGES, start=1):
        x = _convolution(f"conv{stage}", filters, "same", "linear", seeds)(x)
        # Short training on a laptop takes few steps: averages must follow within tens of them.
        x = layers.BatchNormalization(momentum=0.9, epsilon=0.001, name=f"batch_norm{stage}")(x)
        x = layers.ReLU(name=f"relu{stage}")(x)
        x = layers.MaxPooling2D(name=f"pool{stage}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return _dense("dense1", 64, seeds)(x)


def _convolution(
    name: str, filters: int, padding: str, activation: str, seeds: Iterator[int]
) -> keras.layers.Layer:
    return layers.Conv2D(
        filters,
        3,
        padding=padding,
        activation=activation,
        kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
        name=name,
    )


def _dense(
    name: str, units: int, seeds: Iterator[int], *, penalty: float | None = _L2
) -> keras.layers.Layer:
    return layers.Dense(
        units,
        activation="relu",
        kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
        kernel_regularizer=None if penalty is None else keras.regularizers.L2(penalty),
        name=name,
    )


def _softmax(n_outputs: int, seeds: Iterator[int]) -> keras.layers.Layer:
    return layers.Dense(
        n_outputs,
        activation="softmax",
        kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
        # Probabilities stay single precision when the rest is trained in mixed precision.
        dtype="float32",
        name="output",
    )


def _layer_seeds(seed: int) -> Iterator[int]:
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def _check_common(n_bands: int, n_outputs: int, seed: int) -> None:
    _check_at_least("n_bands", n_bands, 1)
    _check_at_least("n_outputs", n_outputs, 2)
    _check_at_least("seed", seed, 0)


def _check_at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ParameterError(f"{name} must be an integer of at least {least}, got {value!r}.")
