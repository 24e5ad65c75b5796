"""Networks in legacy HDF5 files: written here by hand, computed here with NumPy."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from csc_xr.errors import NetworkError
from csc_xr.networks.bundle import open_network
from csc_xr.networks.legacy import read_legacy_model

Array = NDArray[np.float32]
Weights = dict[str, list[tuple[str, Array]]]


def layer(class_name: str, name: str, **config: Any) -> dict[str, Any]:
    """A layer as Keras 2 describes it."""
    return {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}


def node(
    entry: dict[str, Any], *origins: str | tuple[str, int], arguments: Any = None
) -> dict[str, Any]:
    """A layer of a functional model, called once with the outputs of `origins`."""
    ends = [(origin, 0) if isinstance(origin, str) else origin for origin in origins]
    calls = [[[name, call, 0, arguments or {}] for name, call in ends]] if ends else []
    return {**entry, "name": entry["config"]["name"], "inbound_nodes": calls}


def first(shape: Sequence[int], name: str = "first") -> dict[str, Any]:
    return layer("InputLayer", name, batch_input_shape=[None, *shape], dtype="float32")


def dense(name: str, units: int, activation: str = "linear", **config: Any) -> dict[str, Any]:
    penalty = {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.001}}
    zeros = {"class_name": "Zeros", "config": {}}
    settings = {"units": units, "activation": activation, "use_bias": True}
    return layer(
        "Dense",
        name,
        **{"kernel_regularizer": penalty, "bias_initializer": zeros, **settings, **config},
    )


def normalisation(name: str, **config: Any) -> dict[str, Any]:
    values = {"axis": [1], "momentum": 0.99, "epsilon": 0.001, "center": True, "scale": True}
    return layer("BatchNormalization", name, **{**values, **config})


def sequential(*entries: dict[str, Any], name: str = "model") -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": name, "layers": list(entries)}}


def functional(*entries: dict[str, Any], name: str = "model", **changes: Any) -> dict[str, Any]:
    ends = {
        "input_layers": [[entries[0]["name"], 0, 0]],
        "output_layers": [[entries[-1]["name"], 0, 0]],
    }
    config = {"name": name, "layers": list(entries), **ends, **changes}
    return {"class_name": "Functional", "config": config}


def write(path: Path, config: dict[str, Any], weights: Weights, *, version: str = "2.4.0") -> Path:
    """Write a file as Keras 2 laid it out."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights")
        for name, arrays in weights.items():
            inner = group.create_group(name)
            inner.attrs["weight_names"] = [weight.encode() for weight, _ in arrays]
            for weight, values in arrays:
                inner[weight] = values
    return path


def random_arrays(seed: int) -> Callable[..., Array]:
    generator = np.random.default_rng(seed)
    return lambda *shape: generator.uniform(0.2, 1.0, shape).astype(np.float32)


def dense_weights(name: str, kernel: Array, bias: Array) -> list[tuple[str, Array]]:
    return [(f"{name}/kernel:0", kernel), (f"{name}/bias:0", bias)]


def normalised(x: Array, gamma: Array, beta: Array, mean: Array, variance: Array) -> Array:
    return np.asarray(gamma * (x - mean) / np.sqrt(variance + 0.001) + beta)


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def assert_computes(model: keras.Model, windows: Array, expected: Array) -> None:
    outputs = np.asarray(model(windows, training=False))
    assert np.ptp(expected) > 1e-3, "the check needs outputs that differ"
    np.testing.assert_allclose(outputs, expected, rtol=2e-5, atol=1e-6)


def small() -> tuple[dict[str, Any], Weights]:
    """Flatten and Dense over 2 x 2 windows of 1 band: the smallest network."""
    array = random_arrays(0)
    config = sequential(
        layer("Flatten", "flatten", batch_input_shape=[None, 2, 2, 1]), dense("dense", 3)
    )
    return config, {"flatten": [], "dense": dense_weights("dense", array(4, 3), array(3))}


def test_sequential_of_the_first_keras_2(tmp_path: Path) -> None:
    """Bare list of layers, batch shape in the first, softmax taken from TensorFlow."""
    array = random_arrays(1)
    kernel, bias = array(2, 2, 2, 3), array(3)
    statistics = (array(5), array(5), array(5), array(5))
    inner, end = (array(12, 5) - 0.6, array(5)), (array(5, 4) - 0.5, array(4))
    config = sequential(
        layer(
            "Conv2D", "conv", batch_input_shape=[None, 3, 3, 2], filters=3, kernel_size=[2, 2],
            strides=[1, 1], padding="valid", data_format="channels_last", dilation_rate=[1, 1],
            activation="relu", use_bias=True, dtype="float32",
        ),
        layer("Flatten", "flatten", data_format="channels_last"),
        dense("dense", 5, "relu"),
        normalisation("norm"),
        dense("end", 4, "softmax_v2"),
    )  # fmt: skip
    config["config"] = config["config"]["layers"]
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    weights: Weights = {
        "conv": dense_weights("conv", kernel, bias),
        "flatten": [],
        "dense": dense_weights("dense", *inner),
        "norm": [(f"norm/{n}:0", v) for n, v in zip(names, statistics, strict=True)],
        "end": dense_weights("end", *end),
    }
    model = read_legacy_model(write(tmp_path / "a.h5", config, weights, version="2.2.4-tf"))

    x = np.random.default_rng(2).normal(size=(7, 3, 3, 2)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(1, 2))
    y = np.maximum(np.einsum("nrcbij,ijbo->nrco", windows, kernel) + bias, 0).reshape(7, -1)
    y = normalised(np.maximum(y @ inner[0] + inner[1], 0), *statistics)
    assert_computes(model, x, softmax(y @ end[0] + end[1]))
    regularizer = model.get_layer("dense").kernel_regularizer
    assert float(regularizer.l2) == pytest.approx(0.001)


@settings(max_examples=15, deadline=None)
@given(
    frozen=st.lists(st.booleans(), min_size=1, max_size=4),
    in_sequential=st.booleans(),
    suffix=st.sampled_from(["", "_1"]),
    seed=st.integers(0, 1000),
)
def test_model_inside_a_model(
    frozen: list[bool],
    in_sequential: bool,
    suffix: str,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Its trainable weights come first, of all its layers, then the others."""
    array = random_arrays(seed)
    entries, trainable, others = [node(first((2, 2, 1), "inside"))], [], []
    x = np.random.default_rng(seed).normal(size=(5, 2, 2, 1)).astype(np.float32)
    expected: Array = x
    for index, is_frozen in enumerate(frozen):
        conv, norm = f"conv{index}", f"norm{index}"
        size = {"filters": 2, "kernel_size": [1, 1], "padding": "same", "trainable": not is_frozen}
        entries.append(node(layer("Conv2D", conv, **size), entries[-1]["name"]))
        entries.append(node(normalisation(norm, axis=[3], trainable=not is_frozen), conv))
        kernel, bias = array(1, 1, expected.shape[-1], 2), array(2)
        statistics = (array(2), array(2), array(2), array(2))
        named = [
            (f"{conv}{suffix}/kernel:0", kernel),
            (f"{conv}{suffix}/bias:0", bias),
            (f"{norm}{suffix}/gamma:0", statistics[0]),
            (f"{norm}{suffix}/beta:0", statistics[1]),
        ]
        fixed = [
            (f"{norm}{suffix}/moving_mean:0", statistics[2]),
            (f"{norm}{suffix}/moving_variance:0", statistics[3]),
        ]
        if is_frozen:
            others += named + fixed
        else:
            trainable += named
            others += fixed
        expected = normalised(expected @ kernel[0, 0] + bias, *statistics)
    base = functional(*entries, name="base")
    kernel, bias = array(8, 3), array(3)
    if in_sequential:
        config = sequential(base, layer("Flatten", "flatten"), dense("dense", 3))
    else:
        config = functional(
            node(first((2, 2, 1))),
            node(base, "first", arguments={"training": False}),
            node(layer("Flatten", "flatten"), ("base", 1)),  # call 0 is its own making
            node(dense("dense", 3), "flatten"),
        )
    weights = {"base": trainable + others, "dense": dense_weights("dense", kernel, bias)}
    path = tmp_path_factory.mktemp("legacy") / "a.h5"
    model = read_legacy_model(write(path, config, weights))
    assert_computes(model, x, expected.reshape(5, -1) @ kernel + bias)
    for index, is_frozen in enumerate(frozen):
        assert model.get_layer(f"conv{index}").trainable is not is_frozen


def test_branches_shared_layers_and_slashes(tmp_path: Path) -> None:
    """Layers out of order, one called twice, names that Keras 3 does not take."""
    array = random_arrays(3)
    one, two, end = (array(1, 1, 2, 2), array(2)), (array(1, 1, 2, 2), array(2)), array(2, 3)
    size = {"filters": 2, "kernel_size": [1, 1], "padding": "valid"}
    shared = node(layer("Conv2D", "stage1/conv", **size), "first")
    shared["inbound_nodes"].append([["stage1/conv", 0, 0, {}]])
    config = functional(
        node(first((4, 4, 2))),
        node(layer("Add", "add"), "branch", ("stage1/conv", 1), arguments={"mask": None}),
        node(layer("Conv2D", "branch", **size, dtype={"class_name": "Policy"}), "leaky"),
        shared,
        node(layer("LeakyReLU", "leaky", alpha=0.25), "stage1/conv"),
        node(layer("GlobalAveragePooling2D", "mean"), "add"),
        node(dense("end", 3, use_bias=False), "mean"),
    )
    weights: Weights = {
        "stage1/conv": dense_weights("stage1/conv", *one),
        "branch": dense_weights("branch", *two),
        "end": [("end/kernel:0", end)],
    }
    model = read_legacy_model(write(tmp_path / "a.hdf5", config, weights))
    x = np.random.default_rng(4).normal(size=(6, 4, 4, 2)).astype(np.float32) - 0.5
    once = x @ one[0][0, 0] + one[1]
    twice = once @ one[0][0, 0] + one[1]
    branch = np.where(once > 0, once, once / 4) @ two[0][0, 0] + two[1]
    assert (once < 0).any()
    assert_computes(model, x, (branch + twice).mean(axis=(1, 2)) @ end)
    assert model.get_layer("stage1_conv") is not None


def test_names_inside_may_repeat_those_outside(tmp_path: Path) -> None:
    array = random_arrays(5)
    inner, outer = (array(4, 2), array(2)), (array(2, 3), array(3))
    base = sequential(first((2, 2, 1)), layer("Flatten", "flatten"), dense("dense", 2), name="base")
    config = sequential(base, dense("dense", 3))
    weights = {"base": dense_weights("dense", *inner), "dense": dense_weights("dense", *outer)}
    model = read_legacy_model(write(tmp_path / "a.h5", config, weights))
    x = array(5, 2, 2, 1)
    assert_computes(model, x, (x.reshape(5, 4) @ inner[0] + inner[1]) @ outer[0] + outer[1])


def test_long_lists_of_names_are_split(tmp_path: Path) -> None:
    config, weights = small()
    path = write(tmp_path / "a.h5", config, weights)
    with h5py.File(path, "a") as file:
        attributes = file["model_weights/dense"].attrs
        for index, name in enumerate(attributes.pop("weight_names")):
            attributes[f"weight_names{index}"] = [name]
    kernel, bias = (values for _, values in weights["dense"])
    x = random_arrays(6)(5, 2, 2, 1)
    assert_computes(read_legacy_model(path), x, x.reshape(5, 4) @ kernel + bias)


def test_shape_may_be_that_of_the_last_build(tmp_path: Path) -> None:
    config, weights = small()
    del config["config"]["layers"][0]["config"]["batch_input_shape"]
    config["config"]["build_input_shape"] = [None, 2, 2, 1]
    model = read_legacy_model(write(tmp_path / "a.h5", config, weights))
    assert model.input_shape == (None, 2, 2, 1)


def test_file_of_keras_3(tmp_path: Path) -> None:
    layers = keras.layers
    base_input = keras.Input((6, 6, 2))
    x = layers.Conv2D(3, 3)(base_input)
    base = keras.Model(base_input, layers.Add()([x, layers.BatchNormalization()(x)]), name="base")
    base.trainable = False
    inputs = keras.Input((6, 6, 2))
    x = layers.Concatenate()([base(inputs, training=False), base(inputs)])
    outputs = layers.Dense(3, activation="softmax")(layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    model.set_weights([random_arrays(7)(*w.shape) - 0.1 for w in model.weights])
    model.save(tmp_path / "a.h5")
    windows = random_arrays(8)(5, 6, 6, 2)
    expected = np.asarray(model(windows, training=False))
    assert_computes(read_legacy_model(tmp_path / "a.h5"), windows, expected)


def test_file_of_tf_keras(tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    layers = tf_keras.layers
    base_input = tf_keras.Input((8, 8, 3))
    x = layers.SeparableConv2D(4, 3, activation="relu")(base_input)
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    y = layers.LeakyReLU()(layers.ZeroPadding2D(((1, 0), (0, 1)))(x))
    y = layers.AveragePooling2D(2, strides=1)(y)
    base = tf_keras.Model(base_input, layers.Concatenate()([x, y]))
    for entry in base.layers[:2]:
        entry.trainable = False
    head = [base, layers.Flatten(), layers.LayerNormalization(), layers.Dense(3, "softmax")]
    model = tf_keras.Sequential(head)
    model.set_weights([random_arrays(9)(*w.shape) - 0.1 for w in model.weights])
    with pytest.warns(UserWarning, match="HDF5"):
        model.save(tmp_path / "a.h5")
    windows = random_arrays(10)(5, 8, 8, 3)
    expected = np.asarray(model(windows, training=False))
    assert_computes(read_legacy_model(tmp_path / "a.h5"), windows, expected)


def changed(**settings: Any) -> dict[str, Any]:
    """The smallest network with other settings in its Dense layer."""
    config, _ = small()
    config["config"]["layers"][1]["config"].update(settings)
    return config


def replaced(**entries: Any) -> dict[str, Any]:
    """The smallest network with another layer in place of its Dense."""
    config, _ = small()
    config["config"]["layers"][1].update(entries)
    return config


def called(*origins: str, arguments: Any = None, **changes: Any) -> dict[str, Any]:
    """The smallest network as a graph, its Dense called with the outputs of `origins`."""
    end = node(dense("dense", 3), *origins, arguments=arguments)
    return functional(node(first((2, 2, 1))), end, **changes)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "lambda": (
        replaced(class_name="Lambda"),
        r"plain Keras layers only.*got keras.layers.Lambda in layer 'dense'. Rebuild",
    ),
    "module": (replaced(module="os"), "got os.Dense in layer 'dense'"),
    "registered": (replaced(registered_name="my>Dense"), "got keras.layers.my>Dense"),
    "activation": (changed(activation="hard_sigmoid"), "got activation hard_sigmoid"),
    "nested": (changed(activation={"class_name": "X"}), "got activation {'class_name'"),
    "setting": (changed(units={"class_name": "X"}), "got setting units {'class_name'"),
    "regularizer": (
        changed(kernel_regularizer={"class_name": "Mine", "config": {}}),
        "got regularizer Mine in layer 'dense'",
    ),
    "inside a regularizer": (
        changed(kernel_regularizer={"class_name": "L2", "config": {"l2": {"class_name": "X"}}}),
        "got regularizer L2 in layer 'dense'",
    ),
    "constraint": (
        changed(kernel_constraint={"class_name": "Mine", "config": {}}),
        "got constraint Mine in layer 'dense'",
    ),
    "bands first": (changed(data_format="channels_first"), "bands first.*need them last"),
    "unknown": (changed(colour="red"), "a.h5 cannot be read as a legacy Keras network"),
    "no layers": ({"class_name": "Functional", "config": {}}, "cannot be read as a legacy Keras"),
    "no shape": (
        sequential(layer("Flatten", "flatten")),
        "first layer has no input shape. Call the network once",
    ),
    "shape": (
        changed(units=7),
        r"layer 'dense' needs kernel of shape \(4, 7\).*dense/kernel:0 of shape \(4, 3\)",
    ),
    "fewer": (changed(use_bias=False), "have 1 weights, the file holds 2"),
    "arguments": (called("first", arguments={"f": 1}), "got a call with {'f': 1} in layer 'dense'"),
    "dangling": (called("nowhere"), "no layer makes the input of layer 'dense'"),
    "two outputs": (
        called("first", output_layers=[["dense", 0, 0], ["first", 0, 0]]),
        "one input and one output.*got 2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_plain_network_is_refused(case: str, tmp_path: Path) -> None:
    config, message = REFUSED[case]
    path = write(tmp_path / "a.h5", config, small()[1])
    with pytest.raises(NetworkError, match=message):
        read_legacy_model(path)


def test_weights_out_of_order_are_noticed(tmp_path: Path) -> None:
    """Two layers of one shape inside a model: only their names tell them apart."""
    array = random_arrays(11)
    arrays = dense_weights("a", array(4, 4), array(4)) + dense_weights("b", array(4, 4), array(4))
    base = sequential(
        first((2, 2, 1)), layer("Flatten", "flatten"), dense("a", 4), dense("b", 4), name="base"
    )
    config = sequential(base)
    read_legacy_model(write(tmp_path / "right.h5", config, {"base": arrays}))
    path = write(tmp_path / "wrong.h5", config, {"base": arrays[2:] + arrays[:2]})
    with pytest.raises(NetworkError, match=r"layer 'a' needs kernel.*file gives b/kernel:0"):
        read_legacy_model(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    config, weights = small()
    path = write(tmp_path / "a.h5", config, weights)
    content = path.read_bytes()
    (tmp_path / "text.h5").write_text("no HDF5")
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
    write(tmp_path / "old.h5", config, weights, version="1.2.2")
    for name, message in {
        "text.h5": "text.h5 is no HDF5 file, or an incomplete one",
        "cut.h5": "cut.h5 is no HDF5 file, or an incomplete one",
        "weights.h5": "holds no whole network.*Save the network with model.save",
        "old.h5": "written by Keras 1.2.2, versions from 2 on can be read",
    }.items():
        with pytest.raises(NetworkError, match=message):
            read_legacy_model(tmp_path / name)


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    config, weights = small()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(48))
    linked = write(tmp_path / "linked.h5", config, weights)
    with h5py.File(linked, "a") as file:
        del file["model_weights/dense/dense"]
        file["model_weights/dense/dense"] = h5py.ExternalLink("other.h5", "/dense")
    outside = write(tmp_path / "outside.h5", config, weights)
    with h5py.File(outside, "a") as file:
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense"].create_dataset(
            "dense/kernel:0", (4, 3), np.float32, external=[(str(secret), 0, 48)]
        )
    for path in (linked, outside):
        with pytest.raises(NetworkError, match="must lie in its own file, but 'model_weights"):
            read_legacy_model(path)


def windows_for(model: keras.Model) -> Array:
    """Four windows any program can make again: one pattern at several brightnesses."""
    shape = model.input_shape[1:]
    pattern = (np.arange(np.prod(shape)).reshape(shape) * 7919 % 256 / 255)[None]
    level, contrast = np.array([[0.1, 0.2, 0.3, 0.7], [0.3, 0.3, 0.3, 0.1]])[..., None, None, None]
    return np.asarray(level * (1 - contrast) + contrast * pattern, np.float32)


RECORDED = {
    "Capo_5_32_4bande.h5": [
        [-0.0143870, -0.0002893, 1.1508236],
        [-0.0074406, -0.0209840, 1.2489448],
        [-0.0005747, -0.0415257, 1.3474505],
        [-0.0286246, -0.0811184, 1.8713503],
    ],
    "st_marguerite_vgg16_50_rgb.h5": [
        [0.0000260, 0.0116046, 0.0004256, 0.9879439],
        [0.0005683, 0.0444966, 0.0042092, 0.9507259],
        [0.0000089, 0.8841432, 0.0084445, 0.1074035],
        [0.0008056, 0.3954676, 0.5833228, 0.0204040],
    ],
}


@pytest.mark.parametrize("name", ["Capo_5_32_4bande.h5", "st_marguerite_vgg16_50_rgb.h5"])
def test_published_networks(name: str, shared: Path) -> None:
    """Outputs as tf_keras 2.21 computed them from the same files."""
    model = read_legacy_model(shared / "models" / name)
    outputs = np.asarray(model(windows_for(model), training=False))
    np.testing.assert_allclose(outputs, RECORDED[name], atol=2e-6)


def test_patch_network_of_somebody_else(shared: Path) -> None:
    network = open_network(
        shared / "models" / "Capo_5_32_4bande.h5",
        kind="patch",
        bands=("blue", "green", "red", "nir"),
        scale=10000,
        legend="river",
        codes=(1, 3, 2),
    )
    assert network.card.size == 5
    assert network.convolutional_form().n_outputs == 3
    layers = [type(entry).__name__ for entry in network.model.layers]
    head = ["Dense", "BatchNormalization", "Dense", "Dense", "Dense"]
    assert layers == ["InputLayer", "Conv2D", "Flatten", *head]
