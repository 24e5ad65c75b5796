"""What a network gives: outputs put together, or new ones for other classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from csc_xr.errors import NetworkError
from csc_xr.legend import ClassLegend
from csc_xr.networks.bundle import Network
from csc_xr.networks.initial import same_classes
from csc_xr.networks.runtime import keras
from csc_xr.networks.safety import architecture_of, build_model

COMMON_LAYER = "common_classes"
"""Name of the layer that adds up the probabilities of local classes."""


def with_common_outputs(
    model: keras.Model, common: Mapping[int, int], n_outputs: int
) -> keras.Model:
    """Let a network of local classes give the common classes they are.

    Parameters
    ----------
    model : keras.Model
        Output i is the probability of local class i.
    common : mapping of int to int
        Common code by local code; outputs of other codes are left out.
    n_outputs : int
        Outputs to give, more than the highest common code.

    Returns
    -------
    keras.Model
        Shares the layers of the model; each output is the sum over its local classes, a fixed
        linear layer.
    """
    sums = common_sums(common, model.output_shape[-1], n_outputs)
    layer = keras.layers.Dense(
        n_outputs, use_bias=False, trainable=False, dtype="float32", name=COMMON_LAYER
    )
    joined = keras.Model(model.inputs, layer(model.outputs[0]), name=model.name)
    layer.set_weights([sums])
    return joined


def common_sums(common: Mapping[int, int], n_local: int, n_outputs: int) -> NDArray[np.float32]:
    """Give the matrix that adds up the probabilities of local classes.

    Parameters
    ----------
    common : mapping of int to int
        Common code by local code.
    n_local, n_outputs : int
        Outputs of the network of local classes, and of the sums.

    Returns
    -------
    ndarray of float32
        Shape (n_local, n_outputs), ones and zeros.
    """
    sums = np.zeros((n_local, n_outputs), np.float32)
    for local, code in common.items():
        sums[local, code] = 1
    return sums


def continued(
    network: Network,
    *,
    legend: ClassLegend,
    local_classes: Mapping[str, int] | None = None,
    seed: int,
) -> tuple[keras.Model, bool]:
    """Copy a trained network so that it can learn on, for the same or for other classes.

    Parameters
    ----------
    network : Network
        A trained network; left as it is.
    legend : ClassLegend
        Classes it will learn: output i is for code i.
    local_classes : mapping of str to int, optional
        Where the legend is one of local classes, common code by local code; a network that was
        trained on these gives its local outputs.
    seed : int
        Of the weights of a new output layer.

    Returns
    -------
    model : keras.Model
        Same architecture and weights; where the outputs stood for other classes, with a new
        output layer, which replaces the sums of local classes too.
    kept : bool
        Whether the output layer is the network's own.

    Raises
    ------
    NetworkError
        When other outputs are needed, and the last layer is not one that can be replaced.
    """
    model, kept = network.model, same_classes(network, legend)
    kept = kept and model.output_shape[-1] == legend.n_outputs
    if not kept and model.layers[-1].name == COMMON_LAYER:
        kept = local_classes is not None and (
            dict(local_classes) == dict(network.card.provenance.get("local_classes", {}))
        )
        model = keras.Model(model.inputs, model.layers[-1].input, name=model.name)
    if kept:
        copied = _rebuilt(model)
        copied.set_weights(model.get_weights())
        return copied, True
    copied = _rebuilt(model, n_outputs=legend.n_outputs, seed=seed)
    for ours, theirs in zip(copied.layers[:-1], model.layers[:-1], strict=True):
        ours.set_weights(theirs.get_weights())
    return copied, False


def _rebuilt(model: keras.Model, *, n_outputs: int | None = None, seed: int = 0) -> keras.Model:
    architecture = architecture_of(model)
    if n_outputs is not None:
        last = architecture["config"]["layers"][-1]
        if last["class_name"] != "Dense":
            raise NetworkError(
                "A network learns other classes by a new output layer in place of its last, "
                f"which must be a Dense layer, got {last['class_name']} {model.layers[-1].name!r}. "
                "Begin a new network."
            )
        first = keras.initializers.GlorotUniform(seed=seed)
        last["config"] |= {
            "units": n_outputs,
            "kernel_initializer": keras.saving.serialize_keras_object(first),
        }
    return build_model(architecture, source="The network")
