"""Bodies of known large networks, from keras.applications, for any bands and tile size."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Literal

from csc_xr.networks.runtime import keras

Application = Literal["vgg16", "densenet121", "resnet50"]

SMALLEST_TILE = 32
"""Smallest tile in pixels: what the applications themselves ask for."""

_MAKERS = {
    "vgg16": keras.applications.VGG16,
    "densenet121": keras.applications.DenseNet121,
    "resnet50": keras.applications.ResNet50,
}
# DenseNet leaves these to Keras, which counts such layers over the whole process; ResNet's names.
_PADDINGS = ("conv1_pad", "pool1_pad")


def apply_application(architecture: Application, tiles: Any, seeds: Iterator[int]) -> Any:
    """Put the layers of an application, without its top, behind an input.

    The layers have their own names (``block1_conv1``, ``conv1_conv``) and start from the
    initialisers of the application, each with a seed.

    Parameters
    ----------
    architecture : {"vgg16", "densenet121", "resnet50"}
        Which one.
    tiles : KerasTensor
        What ``keras.Input`` gives: (n, row, column, band), any number of bands.
    seeds : iterator of int
        Gives a seed for each layer that draws its first weights.

    Returns
    -------
    KerasTensor
        Features (n, row, column, feature), a 32nd of the tile high and wide, in whole pixels.
    """
    # Its own input, so that nothing of the application stays with the network.
    own_input = keras.Input(tiles.shape[1:])
    # Its own first weights, thrown away here, would take numbers from Python's generator.
    state = random.getstate()
    try:
        found = _MAKERS[architecture](include_top=False, weights=None, input_tensor=own_input)
    finally:
        random.setstate(state)
    paddings = iter(_PADDINGS)
    anew = {layer.name: _seeded(layer, seeds, paddings) for layer in found.layers[1:]}
    body = keras.models.clone_model(
        found, input_tensors=[tiles], clone_function=lambda layer: anew[layer.name]
    )
    return body.outputs[0]


def _seeded(layer: Any, seeds: Iterator[int], paddings: Iterator[str]) -> Any:
    config = layer.get_config()
    if isinstance(layer, keras.layers.ZeroPadding2D):
        config["name"] = next(paddings)
    if "kernel_initializer" in config:
        config["kernel_initializer"]["config"]["seed"] = next(seeds)
    return type(layer).from_config(config)
