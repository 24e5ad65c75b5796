"""Whole networks in HDF5 files, as Keras 2 wrote them (and Keras 3 still can).

Keras 3 cannot read most of them: it takes the batch shape of a first layer for its input
shape, and fails on a Sequential that holds another model. Here the file is data: h5py reads
its JSON and its arrays, every layer is built anew in one flat Keras 3 graph, and nothing in
the file is run.

Format: the attribute ``model_config`` describes the layers; the group ``model_weights`` has a
group for each outermost layer, whose attribute ``weight_names`` lists its arrays: the
trainable ones of all layers in it, in order, then the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from csc_xr.errors import NetworkError
from csc_xr.networks.runtime import keras
from csc_xr.networks.safety import CONSTRAINTS, PLAIN_LAYERS, REGULARIZERS, check_hdf5, refusal

# Normalization keeps other weights in Keras 3.
_LAYERS = PLAIN_LAYERS - {"Normalization"}
# Hard sigmoid and leaky ReLU have other constants in Keras 3, so they are not among these.
_ACTIVATIONS = frozenset({
    "elu", "exponential", "gelu", "linear", "relu", "relu6", "selu", "sigmoid", "silu", "softmax",
    "softplus", "softsign", "swish", "tanh",
})  # fmt: skip
_RENAMED_ACTIVATIONS = {"softmax_v2": "softmax"}
_RENAMED_SETTINGS = {("LeakyReLU", "alpha"): "negative_slope"}
_NESTED_SETTINGS = {"regularizer": REGULARIZERS, "constraint": CONSTRAINTS}
# Shapes are given by the graph, first weights by the file; networks run in single precision.
_IGNORED_SETTINGS = frozenset({
    "batch_input_shape", "batch_shape", "dtype", "fused", "input_dim", "input_shape", "name",
    "virtual_batch_size",
})  # fmt: skip
_IGNORED_ARGUMENTS = frozenset({"mask", "training"})


def read_legacy_model(path: Path) -> keras.Model:
    """Read a whole network from a legacy HDF5 file.

    Parameters
    ----------
    path : Path
        A file that ``model.save`` of Keras 2 (or Keras 3) wrote with the ending ``.h5``.

    Returns
    -------
    keras.Model
        One flat functional model in float32, not compiled; models inside the network are
        dissolved into their layers.

    Raises
    ------
    NetworkError
        When the file is no such network, holds anything but plain layers, or its weights do
        not fit its layers.
    """
    source = path.name
    try:
        with h5py.File(path, "r") as file:
            check_hdf5(file, source=source)
            config = _read_config(file, source)
            graph = _Graph(source)
            model = graph.build(config)
            graph.load_weights(file["model_weights"], config)
    except NetworkError:
        raise
    except OSError as error:
        raise NetworkError(
            f"{source} is no HDF5 file, or an incomplete one: {error}. Copy it again."
        ) from error
    except (
        AttributeError,
        IndexError,
        KeyError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise NetworkError(
            f"{source} cannot be read as a legacy Keras network "
            f"({type(error).__name__}: {error}). Open it with the Keras that wrote it and save "
            "it as .keras."
        ) from error
    return model


def _read_config(file: h5py.File, source: str) -> dict[str, Any]:
    if "model_config" not in file.attrs or "model_weights" not in file:
        raise NetworkError(
            f"{source} holds no whole network: model_config or model_weights is missing. Save "
            "the network with model.save, not its weights alone."
        )
    version = _text(file.attrs.get("keras_version", ""))
    if version.startswith(("0.", "1.")):
        raise NetworkError(
            f"{source} was written by Keras {version}, versions from 2 on can be read. Save it "
            "again with Keras 2."
        )
    config: dict[str, Any] = json.loads(_text(file.attrs["model_config"]))
    return config


class _Graph:
    """The layers of a legacy network, by their path through the models that hold them."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.layers: dict[tuple[str, ...], keras.Layer] = {}
        self.names: set[str] = set()

    def build(self, config: dict[str, Any]) -> keras.Model:
        shape = _input_shape(config)
        if shape is None:
            raise NetworkError(
                f"{self.source}: the first layer has no input shape. Call the network once "
                "before saving it."
            )
        inputs = keras.Input(tuple(shape)[1:], name=self._new_name(("input",)), dtype="float32")
        outputs = self._apply_model(config, inputs, ())
        return keras.Model(inputs, outputs, name=_legal_name(_name(config)))

    def load_weights(self, group: h5py.Group, config: dict[str, Any]) -> None:
        for entry in _entries(config):
            layers = [(path[-1], self.layers[path]) for path in _leaves(entry, ())]
            expected = [(name, w) for name, layer in layers for w in layer.trainable_weights]
            expected += [(name, w) for name, layer in layers for w in layer.non_trainable_weights]
            if expected:
                self._load_group(group[_name(entry)], expected)

    def _apply_model(self, config: dict[str, Any], tensor: Any, path: tuple[str, ...]) -> Any:
        if config["class_name"] != "Sequential":
            return self._apply_functional(config["config"], tensor, path)
        for entry in _entries(config):
            if entry["class_name"] != "InputLayer":
                tensor = self._apply(entry, tensor, path)
        return tensor

    def _apply_functional(self, config: dict[str, Any], tensor: Any, path: tuple[str, ...]) -> Any:
        entries = {_name(entry): entry for entry in config["layers"]}
        output = self._only_end(config["output_layers"])
        done = {self._only_end(config["input_layers"]): tensor}
        waiting = [
            (name, call, list(self._origins(node, name)))
            for name, entry in entries.items()
            for call, node in enumerate(entry["inbound_nodes"])
        ]
        wanted = {output, *(origin for _, _, origins in waiting for origin in origins)}
        while waiting:
            left = []
            for name, call, origins in waiting:
                if all(origin in done for origin in origins):
                    given = [done[origin] for origin in origins]
                    made = self._apply(entries[name], given[0] if len(given) == 1 else given, path)
                    # Calls of a model inside count from 1 where its own making was call 0.
                    shift = (name, len(entries[name]["inbound_nodes"])) in wanted
                    done[name, call + shift] = made
                else:
                    left.append((name, call, origins))
            if len(left) == len(waiting):
                raise NetworkError(
                    f"{self.source}: no layer makes the input of layer {left[0][0]!r}. The file "
                    "is damaged; take another copy."
                )
            waiting = left
        return done[output]

    def _apply(self, entry: dict[str, Any], tensor: Any, path: tuple[str, ...]) -> Any:
        here = (*path, _name(entry))
        if _is_model(entry):
            return self._apply_model(entry, tensor, here)
        if here not in self.layers:
            self.layers[here] = self._make_layer(entry, here)
        return self.layers[here](tensor)

    def _make_layer(self, entry: dict[str, Any], path: tuple[str, ...]) -> keras.Layer:
        class_name = entry["class_name"]
        module = entry.get("module") or "keras.layers"
        registered = entry.get("registered_name") or class_name
        if class_name not in _LAYERS or module != "keras.layers" or registered != class_name:
            raise refusal(self.source, f"{module}.{registered}", path[-1])
        config = entry["config"]
        settings = {
            _RENAMED_SETTINGS.get((class_name, key), key): self._setting(key, value, path[-1])
            for key, value in config.items()
            if not _is_idle(key, value, config)
        }
        layer = getattr(keras.layers, class_name)
        return layer(name=self._new_name(path), dtype="float32", **settings)

    def _setting(self, key: str, value: Any, layer: str) -> Any:
        kind = key.rpartition("_")[2]
        if kind in _NESTED_SETTINGS:
            nested = any(isinstance(inner, dict) for inner in value["config"].values())
            if value["class_name"] not in _NESTED_SETTINGS[kind] or nested:
                raise refusal(self.source, f"{kind} {value['class_name']}", layer)
            return {
                "module": f"keras.{kind}s",
                "class_name": value["class_name"],
                "config": value["config"],
                "registered_name": None,
            }
        if key == "activation":
            value = _RENAMED_ACTIVATIONS.get(str(value), value)
            if str(value) not in _ACTIVATIONS:
                raise refusal(self.source, f"activation {value}", layer)
        elif isinstance(value, dict):
            raise refusal(self.source, f"setting {key} {value}", layer)
        if key == "data_format" and value != "channels_last":
            raise NetworkError(
                f"{self.source}: layer {layer!r} has its bands first ({value}), networks need "
                "them last. Train the network with channels_last."
            )
        if key == "axis" and isinstance(value, list) and len(value) == 1:
            return value[0]
        return value

    def _origins(self, node: Any, layer: str) -> Iterator[tuple[str, int]]:
        """Tensors a layer is called with, as (layer name, call number)."""
        if isinstance(node, dict):  # Keras 3
            arguments = node["args"][0] if isinstance(node["args"][0], list) else node["args"]
            origins = [(*tensor["config"]["keras_history"], {}) for tensor in arguments]
            origins[0] = (*origins[0][:3], node["kwargs"])
        else:
            origins = [(*origin, {})[:4] for origin in node]
        for name, call, output, arguments in origins:
            if output != 0 or not _IGNORED_ARGUMENTS.issuperset(arguments):
                raise refusal(self.source, f"a call with {arguments or 'several outputs'}", layer)
            yield name, call

    def _only_end(self, ends: list[Any]) -> tuple[str, int]:
        if ends and isinstance(ends[0], str):
            ends = [ends]
        if len(ends) != 1:
            raise NetworkError(
                f"{self.source}: a network has one input and one output, also each model inside "
                f"it, got {len(ends)}. Cut it down to one of each."
            )
        return ends[0][0], ends[0][1]

    def _new_name(self, path: tuple[str, ...]) -> str:
        name = _legal_name(path[-1])
        while name in self.names:
            name = f"{_legal_name('_'.join(path[:-1])) or 'network'}_{name}"
        self.names.add(name)
        return name

    def _load_group(self, group: h5py.Group, expected: list[tuple[str, Any]]) -> None:
        names = _weight_names(group)
        if len(names) != len(expected):
            raise NetworkError(
                f"{self.source}: the layers of {group.name} have {len(expected)} weights, the file "
                f"holds {len(names)}. The file is damaged; take another copy."
            )
        layer_names = {name for name, _ in expected}
        for stored, (layer, weight) in zip(names, expected, strict=True):
            dataset = group[stored]
            owner, _, variable = stored.rpartition("/")
            variable = re.sub(r"(_\d+)?(:\d+)?$", "", variable)
            moved = owner in layer_names and owner != layer
            fits = variable.endswith(weight.name) and dataset.shape == tuple(weight.shape)
            if moved or not fits:
                raise NetworkError(
                    f"{self.source}: layer {layer!r} needs {weight.name} of shape "
                    f"{tuple(weight.shape)}, the file gives {stored} of shape {dataset.shape}. "
                    "The file is damaged; take another copy."
                )
            weight.assign(np.asarray(dataset, dtype=np.float32))


def _entries(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Layers of a model; early Keras 2 gave those of a Sequential as a bare list."""
    inner = config["config"]
    entries: list[dict[str, Any]] = inner if isinstance(inner, list) else inner["layers"]
    return entries


def _name(entry: dict[str, Any]) -> str:
    if "name" in entry:
        return str(entry["name"])
    return "network" if isinstance(entry["config"], list) else str(entry["config"]["name"])


def _is_model(entry: dict[str, Any]) -> bool:
    return entry["class_name"] in ("Functional", "Model", "Sequential")


def _leaves(entry: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    here = (*path, _name(entry))
    if _is_model(entry):
        for inner in _entries(entry):
            yield from _leaves(inner, here)
    elif entry["class_name"] != "InputLayer":
        yield here


def _input_shape(config: dict[str, Any]) -> list[int | None] | None:
    """Batch shape of a model's input, from its first layer or the first layer in that."""
    settings = config["config"]
    if _is_model(config):
        built = None if isinstance(settings, list) else settings.get("build_input_shape")
        return _input_shape(_entries(config)[0]) or built
    shape: list[int | None] | None
    shape = settings.get("batch_input_shape") or settings.get("batch_shape")
    return shape


def _is_idle(key: str, value: Any, config: dict[str, Any]) -> bool:
    """Whether a setting is left at its default, or says nothing about a trained network."""
    return (
        value is None
        or key in _IGNORED_SETTINGS
        or key.endswith("_initializer")
        or (key == "groups" and value == 1)
        or (key.startswith("renorm") and not config.get("renorm"))
    )


def _weight_names(group: h5py.Group) -> list[str]:
    """Names of a group's arrays; Keras splits lists too long for one attribute."""
    if "weight_names" in group.attrs:
        parts = [group.attrs["weight_names"]]
    else:
        parts = []
        while f"weight_names{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"weight_names{len(parts)}"])
    return [_text(name) for part in parts for name in part]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _legal_name(name: str) -> str:
    # Keras 3 refuses slashes in names; DenseNet of Keras 2 is full of them.
    return name.replace("/", "_")
