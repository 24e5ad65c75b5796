"""First weights from elsewhere: a published application's, or those of an earlier network.

Files are data here: h5py reads arrays whose names and shapes must be those of the network's layers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from csc_xr.errors import NetworkError, ParameterError
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.networks.builders import TileArchitecture
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import band_names
from csc_xr.networks.runtime import keras
from csc_xr.networks.safety import check_hdf5

Arrays = list[NDArray[np.float32]]


@dataclass(frozen=True)
class _Preprocessing:
    """What an application does to colours of 0 to 1: times ``gain``, less ``offset``."""

    bands: tuple[str, str, str]
    gain: tuple[float, float, float]
    offset: tuple[float, float, float]


# Means and standard deviations of ImageNet, as in keras.applications.imagenet_utils.
_IN_BYTES = _Preprocessing(("blue", "green", "red"), (255.0,) * 3, (103.939, 116.779, 123.68))
_STANDARDISED = _Preprocessing(
    ("red", "green", "blue"),
    (1 / 0.229, 1 / 0.224, 1 / 0.225),
    (0.485 / 0.229, 0.456 / 0.224, 0.406 / 0.225),
)


class _Entrance(NamedTuple):
    """Where an application's preprocessing goes: a convolution, and what takes the constant."""

    preprocessing: _Preprocessing
    convolution: str
    constant: tuple[str, int]  # layer, position among its weights
    sign: int  # -1 where the layer subtracts that weight


_ENTRANCES: dict[str, _Entrance] = {
    "vgg16": _Entrance(_IN_BYTES, "block1_conv1", ("block1_conv1", 1), 1),
    "resnet50": _Entrance(_IN_BYTES, "conv1_conv", ("conv1_conv", 1), 1),
    # No bias: the moving mean (after gamma and beta) of what follows is subtracted instead.
    "densenet121": _Entrance(_STANDARDISED, "conv1_conv", ("conv1_bn", 2), -1),
}
# Names of Keras 3 weights files: class and number. No other layers of these networks have weights.
_CLASSES = {"conv2d": "Conv2D", "batch_normalization": "BatchNormalization"}


def load_application_weights(
    model: keras.Model,
    path: str | Path,
    *,
    architecture: TileArchitecture,
    bands: Iterable[str],
) -> tuple[str, ...]:
    """Give a tile network the weights of a published application, all but its head.

    The applications learnt from photographs: red, green and blue as 0 to 255 less the mean of
    ImageNet (VGG16, ResNet50), or 0 to 1 standardised (DenseNet121). Their first convolution is
    changed so that it takes our bands of about 0 to 1 instead. Its filters for red, green and
    blue go to the bands of these names; any other band gets their mean. With n bands all
    are multiplied by 3 / n, so that the sums stay of one size. With these three bands alone the
    features are those of the application, to rounding, but for what the border of the tile
    reaches: there the application sees the mean colour of ImageNet, our network black.

    Parameters
    ----------
    model : keras.Model
        From :func:`csc_xr.networks.builders.build_tile_network`; its weights are changed, all
        or none.
    path : str or Path
        Weights of the application without its top: a legacy ``.h5`` file (``..._notop.h5``), or
        a ``.weights.h5`` file of Keras 3.
    architecture : {"vgg16", "densenet121", "resnet50"}
        What both are.
    bands : iterable of str
        Names of the model's bands, in order.

    Returns
    -------
    tuple of str
        Layers that were given weights, in order.

    Raises
    ------
    ParameterError
        When the architecture is no published application.
    NetworkError
        When the model is another network or takes other bands, or the file cannot be read, is
        not safe to read, or holds other layers.
    """
    if architecture not in _ENTRANCES:
        raise ParameterError(
            f"Published weights fit the architectures {', '.join(_ENTRANCES)}, "
            f"got {architecture!r}."
        )
    if model.name != architecture:
        raise NetworkError(
            f"The weights of {architecture} need a network that build_tile_network made with "
            f"this architecture, got {model.name!r}."
        )
    names = band_names(bands)
    if model.input_shape[-1] != len(names):
        raise NetworkError(
            f"The network takes {model.input_shape[-1]} bands, got names for {len(names)}: "
            f"{', '.join(names)}. Pass a name for each."
        )
    body = [layer for layer in _body(model) if layer.weights]
    arrays = _read_weights(Path(path), body, _ENTRANCES[architecture])
    _change_entrance(arrays, _ENTRANCES[architecture], names)
    for layer in body:
        layer.set_weights(arrays[layer.name])
    return tuple(layer.name for layer in body)


def copy_weights(
    source: Network,
    model: keras.Model,
    *,
    bands: Iterable[str],
    legend: ClassLegend,
) -> tuple[str, ...]:
    """Give a model the weights of a trained network of the same architecture.

    Layers are compared in order, by what they compute: names, penalties, dropout and other
    settings of training may differ. Output i of the model stands for code i. Where the
    outputs stand for other classes, or are more or fewer, the last layer with weights keeps the
    weights it has.

    Parameters
    ----------
    source : Network
        The trained network.
    model : keras.Model
        Its weights are changed, all or none.
    bands : iterable of str
        Names of the model's bands, in order.
    legend : ClassLegend
        Classes of the model.

    Returns
    -------
    tuple of str
        Layers of the model that were given weights, in order; the last is missing where it
        keeps its own.

    Raises
    ------
    NetworkError
        When the bands or any other layer differ; names the first that does.
    """
    names = band_names(bands)
    if names != source.card.bands:
        raise NetworkError(
            "First weights come from a network of the same bands, in the same order: it has "
            f"{', '.join(source.card.bands)}, the new one {', '.join(names)}. Take the same bands, "
            "or begin without its weights."
        )
    ours, theirs = list(_leaves(model)), list(_leaves(source.model))
    last = max(index for index, layer in enumerate(ours) if layer.weights)
    _check_same(ours, theirs, output=last)
    same_outputs = _shapes(ours[last]) == _shapes(theirs[last])
    whole = same_outputs and same_classes(source, legend)
    taken = [i for i, layer in enumerate(ours) if layer.weights and (whole or i != last)]
    for index in taken:
        ours[index].set_weights(theirs[index].get_weights())
    return tuple(ours[index].name for index in taken)


def _body(model: keras.Model) -> list[Any]:
    return list(takewhile(lambda layer: layer.name != "flatten", model.layers))


def _read_weights(path: Path, body: Sequence[Any], entrance: _Entrance) -> dict[str, Arrays]:
    if not path.is_file():
        raise NetworkError(f"There is no weights file {path}. Check the path.")
    try:
        with h5py.File(path, "r") as file:
            check_hdf5(file, source=path.name)
            stored = _stored_weights(file, body, path.name)
            _check_stored(stored, body, entrance, path.name)
            return {
                name: [np.asarray(array[()], np.float32) for array in held]
                for name, held in stored.items()
            }
    except NetworkError:
        raise
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise NetworkError(
            f"{path.name} cannot be read as a Keras weights file; it may be incomplete: "
            f"{type(error).__name__}: {error}. Copy it again."
        ) from error


def _stored_weights(file: h5py.File, body: Sequence[Any], source: str) -> dict[str, list[Any]]:
    """Arrays of each layer that has some, not yet read."""
    legacy = file.get("model_weights", file)
    names = _text_list(legacy, "layer_names")
    if names:
        groups = {name.replace("/", "_"): legacy[name] for name in names}
        stored = {n: [g[w] for w in _text_list(g, "weight_names")] for n, g in groups.items()}
    elif "layers" in file:
        stored = dict(_numbered_groups(file["layers"], body))
    else:
        raise NetworkError(
            f"{source} holds no Keras weights. Pass a file that save_weights wrote, or the "
            "weights file of the application without its top."
        )
    return {name: arrays for name, arrays in stored.items() if arrays}


def _text_list(group: h5py.Group, name: str) -> list[str]:
    """Values of an attribute; Keras splits lists too long for one."""
    parts = [group.attrs[name]] if name in group.attrs else []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{name}{len(parts)}"])
    return [t.decode() if isinstance(t, bytes) else str(t) for part in parts for t in part]


def _numbered_groups(group: h5py.Group, body: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Arrays of a Keras 3 file, whose early versions number the layers of a class, and no more."""
    for key, entry in group.items():
        held = entry["vars"]
        kind = key.rstrip("_0123456789")
        number = int(key[len(kind) + 1 :] or 0)
        alike = [layer.name for layer in body if type(layer).__name__ == _CLASSES.get(kind)]
        known = alike[number] if number < len(alike) else key
        yield str(held.attrs.get("name", known)), [held[str(i)] for i in range(len(held))]


def _check_stored(
    stored: dict[str, list[Any]], body: Sequence[Any], entrance: _Entrance, source: str
) -> None:
    needed = {layer.name: _shapes(layer) for layer in body}
    kernel, *others = needed[entrance.convolution]
    needed[entrance.convolution] = [(*kernel[:2], 3, kernel[3]), *others]
    for name in (*needed, *stored):
        found = [array.shape for array in stored.get(name, [])]
        if found != needed.get(name, []):
            raise NetworkError(
                f"{source} holds the weights of another network: layer {name!r} of this one has "
                f"weights of the shapes {needed.get(name, 'none')}, in the file "
                f"{found or 'none'}. Pass the weights of the same application, without its top."
            )


def _change_entrance(arrays: dict[str, Arrays], entrance: _Entrance, bands: Sequence[str]) -> None:
    before = entrance.preprocessing
    kernel = arrays[entrance.convolution][0].astype(np.float64)
    filters, gain, offset = [], [], []
    for band in bands:
        known = [before.bands.index(band)] if band in before.bands else [0, 1, 2]
        filters.append(kernel[:, :, known].mean(axis=2) * 3 / len(bands))
        gain.append(np.mean([before.gain[i] for i in known]))
        offset.append(np.mean([before.offset[i] for i in known]))
    spread = np.stack(filters, axis=2)
    layer, position = entrance.constant
    missing = np.einsum("hwbf,b->f", spread, offset)
    arrays[entrance.convolution][0] = (spread * np.reshape(gain, (-1, 1))).astype(np.float32)
    changed = arrays[layer][position] - entrance.sign * missing
    arrays[layer][position] = changed.astype(np.float32)


def _leaves(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


_TRAINING = re.compile(
    r"name|trainable|dtype|seed|rate|momentum|\w+_(initializer|regularizer|constraint)"
)


def _description(layer: Any | None, *, output: bool) -> dict[str, Any]:
    """Describe what a layer computes; of an output layer all but how many outputs it has."""
    if layer is None:
        return {"class": "none"}
    config = json.loads(json.dumps(layer.get_config(), default=str))
    kept = {key: value for key, value in config.items() if not _TRAINING.fullmatch(key)}
    shapes = _shapes(layer)
    if output:
        kept.pop("units", None)
        shapes = [shape[:-1] for shape in shapes]
    return {"class": type(layer).__name__, "weights": shapes, **kept}


def _check_same(ours: list[Any], theirs: list[Any], *, output: int) -> None:
    for index, (our, their) in enumerate(zip_longest(ours, theirs)):
        a, b = (_description(layer, output=index == output) for layer in (our, their))
        if a != b:
            key = next(key for key in {**a, **b} if a.get(key) != b.get(key))
            raise NetworkError(
                "Weights are taken from a network of the same architecture, but for its outputs: "
                f"layer {getattr(our, 'name', 'none')!r} has {key} {a.get(key)}, where "
                f"{getattr(their, 'name', 'none')!r} of the trained network has {b.get(key)}. "
                "Choose the architecture, tile size and bands it was trained with."
            )


def same_classes(source: Network, legend: ClassLegend) -> bool:
    """Tell whether the outputs of a network stand for classes of a legend.

    Parameters
    ----------
    source : Network
        The network.
    legend : ClassLegend
        The classes.

    Returns
    -------
    bool
        Whether output i stands for code i, and for a class of the same name in both; outputs
        that were never trained do not count.
    """
    known = source.card.legend
    return all(
        code == NODATA_CODE
        or (
            code == index
            and code in legend.codes
            and known.class_name(code) == legend.class_name(code)
        )
        for index, code in enumerate(source.card.codes)
    )
