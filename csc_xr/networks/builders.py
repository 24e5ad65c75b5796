"""Networks of both phases, untrained; their first weights depend on the seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import keras
import numpy as np
from keras import layers

from csc_xr.errors import ParameterError

TileArchitecture = Literal["vgg16", "compact"]

MAX_PATCH_SIZE = 15
_MAX_CONVOLUTIONS = 6
_L2 = 0.001
_VGG16_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
_COMPACT_STAGES = (16, 32, 64, 96)
# Every pooling halves the tile and must leave a pixel.
_SMALLEST_TILE = {"vgg16": 2 ** len(_VGG16_BLOCKS), "compact": 2 ** len(_COMPACT_STAGES)}


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
    architecture : {"vgg16", "compact"}
        ``"vgg16"`` is the published one: the 13 convolutions of VGG16, Dense 512 and 256 with
        an L2 penalty of 0.001, dropout 0.5 between them; 15 million weights at 50 px.
        ``"compact"``, four convolutions with batch normalisation and global average pooling,
        has 86 000 weights and trains without a graphics card.
    tile_size : int
        Tile size in pixels, at least 32 for VGG16 and 16 for the compact network.
    n_bands : int
        Bands of the scenes.
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
    VGG16: Simonyan and Zisserman 2015, arXiv:1409.1556, configuration D.
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
    body = _vgg16 if architecture == "vgg16" else _compact
    outputs = _softmax(n_outputs, seeds)(body(inputs, seeds))
    return keras.Model(inputs, outputs, name=architecture)


def _vgg16(x: Any, seeds: Iterator[int]) -> Any:
    for block, (depth, filters) in enumerate(_VGG16_BLOCKS, start=1):
        for index in range(1, depth + 1):
            x = _convolution(f"block{block}_conv{index}", filters, "same", "relu", seeds)(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = _dense("dense1", 512, seeds)(x)
    x = layers.Dropout(0.5, seed=next(seeds), name="dropout")(x)
    return _dense("dense2", 256, seeds)(x)


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


def _dense(name: str, units: int, seeds: Iterator[int]) -> keras.layers.Layer:
    return layers.Dense(
        units,
        activation="relu",
        kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
        kernel_regularizer=keras.regularizers.L2(_L2),
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
