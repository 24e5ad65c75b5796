"""What a network file may hold: networks are data, and reading one never runs code.

Keras can be told by a file to build any class it can import or that is registered, and to
run pickled functions. Here the architecture is compared with a list of plain layers before
Keras sees it, and the weights must lie in the file itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py

from csc_xr.errors import NetworkError

if TYPE_CHECKING:
    import keras

PLAIN_LAYERS = frozenset({
    "Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate",
    "Conv2D", "Cropping2D", "Dense", "DepthwiseConv2D", "Dropout", "ELU", "Flatten",
    "GaussianDropout", "GaussianNoise", "GlobalAveragePooling2D", "GlobalMaxPooling2D",
    "InputLayer", "LayerNormalization", "LeakyReLU", "MaxPooling2D", "Maximum", "Minimum",
    "Multiply", "Normalization", "PReLU", "Permute", "ReLU", "Rescaling", "Reshape",
    "SeparableConv2D", "Softmax", "SpatialDropout2D", "Subtract", "UpSampling2D", "ZeroPadding2D",
})  # fmt: skip
REGULARIZERS = frozenset({"L1", "L2", "L1L2"})
CONSTRAINTS = frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"})

_MODELS = frozenset({"Functional", "Model", "Sequential"})
_INITIALIZERS = frozenset({
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity", "LecunNormal",
    "LecunUniform", "Ones", "Orthogonal", "OrthogonalInitializer", "RandomNormal", "RandomUniform",
    "TruncatedNormal", "VarianceScaling", "Zeros",
})  # fmt: skip
_ALLOWED = {
    "keras": _MODELS | {"DTypePolicy"},
    "keras.models": _MODELS,
    "keras.src.models.functional": _MODELS,
    "keras.src.models.sequential": _MODELS,
    "keras.layers": PLAIN_LAYERS,
    "keras.initializers": _INITIALIZERS,
    "keras.regularizers": REGULARIZERS,
    "keras.constraints": CONSTRAINTS,
    "keras.dtype_policies": frozenset({"DTypePolicy"}),
}
# Nothing is built from these: they say which tensors a layer is called with.
_MARKERS = frozenset({"__keras_tensor__"})
_TRAINING_KEYS = frozenset({"build_config", "compile_config"})


def refusal(source: str, what: str, layer: object) -> NetworkError:
    """Make the error for something that is no plain part of a network.

    Parameters
    ----------
    source : str
        Name of the file.
    what : str
        What was found.
    layer : object
        Name of the layer it was found in.

    Returns
    -------
    NetworkError
        To be raised by the caller.
    """
    return NetworkError(
        f"{source}: networks are read from plain Keras layers only, because anything else may "
        f"carry code; got {what} in layer {layer!r}. Rebuild the network without it and save "
        "it again."
    )


def strip_training(architecture: Any) -> Any:
    """Copy an architecture without what only training and the last build left in it.

    Parameters
    ----------
    architecture : JSON value
        What ``keras.saving.serialize_keras_object`` gives for a model.

    Returns
    -------
    JSON value
        The copy; optimizers, losses and metrics of compiled models are gone.

    Examples
    --------
    >>> strip_training({"config": {"units": 3}, "compile_config": {"loss": "mse"}})
    {'config': {'units': 3}}
    """
    if isinstance(architecture, dict):
        return {
            key: strip_training(value)
            for key, value in architecture.items()
            if key not in _TRAINING_KEYS
        }
    if isinstance(architecture, (list, tuple)):
        return [strip_training(value) for value in architecture]
    return architecture


def architecture_of(model: keras.Model) -> Any:
    """Describe the architecture of a model by plain values.

    Parameters
    ----------
    model : keras.Model
        Any model.

    Returns
    -------
    JSON value
        Without what training left in it; of the caller's own, to be changed at will.
    """
    from csc_xr.networks.runtime import keras

    return strip_training(keras.saving.serialize_keras_object(model))


def build_model(architecture: Any, *, source: str) -> keras.Model:
    """Build a model, with weights yet to be set, once its architecture is known to be plain.

    Parameters
    ----------
    architecture : JSON value
        From :func:`architecture_of`, or the content of ``config.json``.
    source : str
        Name of the file, for messages.

    Returns
    -------
    keras.Model
        The model, not compiled.

    Raises
    ------
    NetworkError
        As :func:`check_architecture` does.
    """
    from csc_xr.networks.runtime import keras

    architecture = strip_training(architecture)
    check_architecture(architecture, source=source)
    return keras.saving.deserialize_keras_object(architecture, safe_mode=True)


def check_architecture(architecture: Any, *, source: str) -> None:
    """Check that every object of a Keras 3 architecture is a plain one of Keras' own.

    Parameters
    ----------
    architecture : JSON value
        The content of ``config.json``, after :func:`strip_training`.
    source : str
        Name of the file, for the message.

    Raises
    ------
    NetworkError
        When it holds a Lambda, a custom object, a function, or anything else that is not on
        the list of plain layers, initialisers, regularisers and constraints.
    """
    if not isinstance(architecture, dict) or architecture.get("class_name") not in _MODELS:
        raise NetworkError(f"{source} holds no Keras model. Pass a file that model.save wrote.")
    _check_objects(architecture, source, architecture["class_name"])


def _check_objects(value: Any, source: str, layer: object) -> None:
    if isinstance(value, (list, tuple)):
        for entry in value:
            _check_objects(entry, source, layer)
    if not isinstance(value, dict):
        return
    if "class_name" in value and value["class_name"] not in _MARKERS:
        config = value.get("config")
        if isinstance(config, dict) and "name" in config:
            layer = config["name"]
        _check_object(value, source, layer)
    for entry in value.values():
        _check_objects(entry, source, layer)


def _check_object(value: dict[str, Any], source: str, layer: object) -> None:
    class_name, module = value["class_name"], value.get("module")
    # A registered name has Keras look among objects of the running program first.
    own_name = value.get("registered_name") in (None, class_name)
    if not own_name or str(class_name) not in _ALLOWED.get(str(module), frozenset()):
        raise refusal(source, f"{module}.{class_name}", layer)


def check_hdf5(file: h5py.File, *, source: str) -> None:
    """Check that an HDF5 file refers to no other file.

    Parameters
    ----------
    file : h5py.File
        Open for reading.
    source : str
        Name of the file, for the message.

    Raises
    ------
    NetworkError
        When a link or a dataset takes its content from elsewhere.
    """

    # A visit ends with the first name returned; raising inside it would upset HDF5.
    def foreign_link(name: str, link: object) -> str | None:
        return name if isinstance(link, h5py.ExternalLink) else None

    def foreign_array(name: str, item: object) -> str | None:
        foreign = isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)
        return name if foreign else None

    found = file.visititems_links(foreign_link) or file.visititems(foreign_array)
    if found:
        raise NetworkError(
            f"{source}: a network's weights must lie in its own file, but {found!r} refers to "
            "another one. Save the network again with its weights."
        )
