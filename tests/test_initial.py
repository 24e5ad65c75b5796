"""First weights from files of published applications, and from earlier networks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from networks_for_tests import LEGEND, randomise

from csc_xr.errors import NetworkError, ParameterError
from csc_xr.legend import GLACIER, RIVER, ClassLegend, LegendClass
from csc_xr.networks.builders import build_tile_network
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard
from csc_xr.networks.initial import copy_weights, load_application_weights

RGB = ("red", "green", "blue")
SIDE = 64
# Maker, preprocessing, and an early layer with how much of its rim the border of a tile reaches.
KNOWN: dict[Any, tuple[Any, Any, str, int]] = {
    "vgg16": (keras.applications.VGG16, keras.applications.vgg16, "block2_conv2", 3),
    "resnet50": (keras.applications.ResNet50, keras.applications.resnet, "conv2_block1_out", 3),
    "densenet121": (
        *(keras.applications.DenseNet121, keras.applications.densenet),
        *("conv2_block1_concat", 3),
    ),
}


@cache
def application(architecture: str, *, n_bands: int = 3) -> keras.Model:
    """Build the application with weights of its own; no test changes it."""
    tensor = keras.Input((SIDE, SIDE, n_bands))
    model = KNOWN[architecture][0](include_top=False, weights=None, input_tensor=tensor)
    return randomise(model, 3)


def tile_network(architecture: Any, *, n_bands: int = 3) -> keras.Model:
    return build_tile_network(architecture, tile_size=SIDE, n_bands=n_bands, n_outputs=4, seed=0)


def write_legacy(model: keras.Model, path: Path, *, split: bool = False) -> Path:
    """Write weights as Keras 2 did: by layer, DenseNet's names with slashes."""
    names = [re.sub(r"^(conv1)_(?=conv|bn)", r"\1/", layer.name) for layer in model.layers]
    with h5py.File(path, "w") as file:
        if split:
            file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:9], names[9:]
        else:
            file.attrs["layer_names"] = [name.encode() for name in names]
        for name, layer in zip(names, model.layers, strict=True):
            group = file.create_group(name)
            kept = [(f"{name}/{weight.name}:0", weight.numpy()) for weight in layer.weights]
            group.attrs["weight_names"] = [stored.encode() for stored, _ in kept]
            for stored, values in kept:
                group[stored] = values
    return path


def write_keras3(model: keras.Model, path: Path) -> Path:
    model.save_weights(path)
    return path


def forget_names(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for group in file["layers"].values():
            group["vars"].attrs.pop("name")


def features(model: keras.Model, layer: str, tiles: Any) -> Any:
    return np.asarray(keras.Model(model.inputs[0], model.get_layer(layer).output)(tiles))


@pytest.mark.parametrize("form", ["legacy", "keras3"])
@pytest.mark.parametrize("architecture", KNOWN)
def test_features_are_those_of_the_application(
    architecture: Any, form: str, tmp_path: Path
) -> None:
    source = application(architecture)
    if form == "legacy":
        path = write_legacy(source, tmp_path / "notop.h5", split=architecture == "resnet50")
    else:
        path = write_keras3(source, tmp_path / "base.weights.h5")
    bands = ("green", "blue", "red")
    model = tile_network(architecture)
    head = model.get_layer("dense1").kernel.numpy()
    taken = load_application_weights(model, path, architecture=architecture, bands=bands)
    assert taken == tuple(layer.name for layer in source.layers if layer.weights)
    for name in taken[2:]:
        for one, two in zip(
            source.get_layer(name).get_weights(), model.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(model.get_layer("dense1").kernel.numpy(), head)

    image = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.float32)
    _, module, layer, rim = KNOWN[architecture]
    expected = features(source, layer, module.preprocess_input(image.copy()))
    found = features(model, layer, image[..., [RGB.index(band) for band in bands]] / 255)
    inside = np.s_[:, rim:-rim, rim:-rim]
    scale = np.abs(expected).max()
    assert scale > 0.1
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5 * scale, rtol=1e-4)


def test_files_of_early_keras_3_number_their_layers(tmp_path: Path) -> None:
    path = write_keras3(application("resnet50"), tmp_path / "base.weights.h5")
    named, numbered = (tile_network("resnet50") for _ in range(2))
    load_application_weights(named, path, architecture="resnet50", bands=RGB)
    forget_names(path)
    load_application_weights(numbered, path, architecture="resnet50", bands=RGB)
    for one, two in zip(named.get_weights(), numbered.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("bands", [("nir", *RGB), ("red", "nir"), tuple("abcdefg")])
def test_other_bands_get_the_mean_and_sums_stay(bands: tuple[str, ...], tmp_path: Path) -> None:
    source = application("vgg16")
    path = write_legacy(source, tmp_path / "notop.h5")
    model = tile_network("vgg16", n_bands=len(bands))
    load_application_weights(model, path, architecture="vgg16", bands=bands)
    kernel, bias = source.get_layer("block1_conv1").get_weights()
    by_name = {"blue": kernel[:, :, 0], "green": kernel[:, :, 1], "red": kernel[:, :, 2]}
    means = {"blue": 103.939, "green": 116.779, "red": 123.68}
    changed, constant = model.get_layer("block1_conv1").get_weights()
    for index, band in enumerate(bands):
        expected = by_name.get(band, kernel.mean(axis=2)) * 255 * 3 / len(bands)
        np.testing.assert_allclose(changed[:, :, index], expected, rtol=1e-5, atol=1e-4)
        mean = means.get(band, np.mean(list(means.values())))
        bias = bias - (expected / 255 * mean).sum(axis=(0, 1))
    np.testing.assert_allclose(constant, bias, rtol=1e-4)
    if "green" in bands or "red" not in bands:  # whole colours, or none
        total = changed.sum(axis=2)
        np.testing.assert_allclose(total, 255 * kernel.sum(axis=2), rtol=1e-4, atol=1e-2)


def load(model: keras.Model, path: Path, architecture: Any = "vgg16", bands: Any = RGB) -> None:
    before = model.get_weights()
    try:
        load_application_weights(model, path, architecture=architecture, bands=bands)
    finally:
        for one, two in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)


def test_arguments_are_checked(tmp_path: Path) -> None:
    model, path = tile_network("vgg16"), tmp_path / "notop.h5"
    with pytest.raises(ParameterError, match="vgg16, resnet50, densenet121, got 'compact'"):
        load(model, path, architecture="compact")
    with pytest.raises(NetworkError, match="made with this architecture, got 'vgg16'"):
        load(model, path, architecture="resnet50")
    with pytest.raises(NetworkError, match="takes 3 bands, got names for 2: red, nir"):
        load(model, path, bands=("red", "nir"))
    with pytest.raises(NetworkError, match=r"There is no weights file .*notop\.h5"):
        load(model, path)


def test_files_are_checked(tmp_path: Path) -> None:
    model, path = tile_network("vgg16"), tmp_path / "notop.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(NetworkError, match=r"notop\.h5 cannot be read as a Keras weights file"):
        load(model, path)
    with h5py.File(path, "w") as file:
        file["numbers"] = np.zeros(3)
    with pytest.raises(NetworkError, match=r"notop\.h5 holds no Keras weights"):
        load(model, path)
    write_legacy(application("vgg16"), path)
    with h5py.File(path, "r+") as file:
        del file["block5_conv3/block5_conv3/bias:0"]
        file["block5_conv3/block5_conv3/bias:0"] = h5py.ExternalLink("other.h5", "bias")
    with pytest.raises(NetworkError, match="must lie in its own file"):
        load(model, path)
    with h5py.File(path, "r+") as file:
        del file["block5_conv3/block5_conv3/bias:0"]
    with pytest.raises(NetworkError, match="cannot be read as a Keras weights file"):
        load(model, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("four bands", r"layer 'block1_conv1' of this one has .*\(3, 3, 3, 64\).*\(3, 3, 4, 64\)"),
        ("deeper", r"layer 'block._conv4' of this one has weights of the shapes none"),
        ("shallower", r"layer 'block5_conv3' of this one has .* in the file none"),
    ],
)
@pytest.mark.parametrize("form", ["legacy", "keras3", "numbered"])
def test_weights_of_another_network_are_refused(
    change: str, message: str, form: str, tmp_path: Path
) -> None:
    if change == "four bands":
        source = application("vgg16", n_bands=4)
    elif change == "deeper":
        source = keras.applications.VGG19(include_top=False, weights=None)
    else:
        whole = application("vgg16")
        source = keras.Model(whole.input, whole.get_layer("block5_conv2").output)
    write = write_legacy if form == "legacy" else write_keras3
    path = write(source, tmp_path / "base.weights.h5")
    if form == "numbered":
        message = message.replace(
            "block._conv4' of this one has weights of the shapes none", "block4_conv1' .*"
        )
        forget_names(path)
    with pytest.raises(NetworkError, match=message):
        load(tile_network("vgg16"), path)


def small_model(
    *, n_outputs: int = 4, n_bands: int = 3, filters: int = 4, stride: int = 1, extra: bool = False
) -> keras.Model:
    layers = [
        keras.Input((8, 8, n_bands)),
        keras.layers.Conv2D(filters, 3, strides=stride, activation="relu", name="edges"),
        keras.layers.BatchNormalization(),
        *([keras.layers.ReLU(name="again")] if extra else []),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(n_outputs, name="logits"),
        keras.layers.Softmax(),
    ]
    return keras.Sequential(layers)


def trained(
    model: keras.Model, *, legend: ClassLegend = LEGEND, codes: Sequence[int] = ()
) -> Network:
    card = NetworkCard(kind="tile", bands=RGB, size=8, legend=legend, codes=tuple(codes))
    return Network(card, randomise(model, 4))


def test_all_weights_are_copied() -> None:
    source, model = trained(small_model()), small_model()
    taken = copy_weights(source, model, bands=RGB, legend=LEGEND)
    assert taken == ("edges", model.layers[1].name, "logits")
    for one, two in zip(source.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_settings_of_training_may_differ() -> None:
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, name="inner")])
    source = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(6, kernel_regularizer="l2"),
            keras.layers.Dropout(0.5),
            inner,
            keras.layers.Dense(4),
        ]
    )
    tensor = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(tensor)
    x = keras.layers.Dropout(0.1, seed=3)(keras.layers.Dense(6, name="other")(x))
    x = keras.layers.Dense(4, dtype="mixed_bfloat16")(keras.layers.Dense(5, name="flat")(x))
    model = keras.Model(tensor, x)
    network = trained(source)
    assert copy_weights(network, model, bands=RGB, legend=LEGEND)[:2] == ("other", "flat")
    for one, two in zip(source.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


RENAMED = ClassLegend("renamed", [*LEGEND.classes[:2], LegendClass(3, "Snow", "white")])


@pytest.mark.parametrize(
    ("legend", "codes", "new", "whole"),
    [
        (LEGEND, (0, 1, 0, 3), LEGEND, True),  # never trained: what it is does not matter
        (LEGEND, (), RENAMED, False),
        (LEGEND, (0, 2, 1, 3), LEGEND, False),
        (RIVER, (0, 1, 2, 3), LEGEND, False),
        (LEGEND, (), GLACIER, False),
    ],
)
def test_outputs_of_another_legend_begin_anew(
    legend: ClassLegend, codes: tuple[int, ...], new: ClassLegend, whole: bool
) -> None:
    source = trained(small_model(), legend=legend, codes=codes)
    model = small_model(n_outputs=new.n_outputs)
    before = model.get_layer("logits").get_weights()
    taken = copy_weights(source, model, bands=RGB, legend=new)
    assert ("logits" in taken) == whole
    assert taken[:1] == ("edges",)
    np.testing.assert_array_equal(model.get_weights()[0], source.model.get_weights()[0])
    kept = (source.model if whole else model).get_layer("logits").get_weights()
    for one, two in zip(kept if whole else before, model.layers[-2].get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_bands": 4}, r"layer 'edges' has weights \[\(3, 3, 4, 4\), \(4,\)\], where 'edges'"),
        ({"filters": 5}, r"layer 'edges' has weights \[\(3, 3, 3, 5\), \(5,\)\], where 'edges'"),
        ({"stride": 2}, r"layer 'edges' has strides \[2, 2\], where 'edges' .* has \[1, 1\]"),
        ({"extra": True}, r"layer 'again' has class ReLU, where '.*' of the trained network has"),
    ],
)
def test_another_architecture_is_refused(changes: dict[str, Any], message: str) -> None:
    model = small_model(**changes)
    before = model.get_weights()
    with pytest.raises(NetworkError, match=message):
        copy_weights(trained(small_model()), model, bands=RGB, legend=LEGEND)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_other_bands_and_missing_layers_are_refused() -> None:
    source, model = trained(small_model()), small_model()
    with pytest.raises(NetworkError, match="it has red, green, blue, the new one nir, red, green"):
        copy_weights(source, model, bands=("nir", "red", "green"), legend=LEGEND)
    shorter = keras.Sequential([keras.Input((8, 8, 3)), *model.layers[:-1]])
    with pytest.raises(NetworkError, match="layer 'none' has class none, where 'softmax"):
        copy_weights(source, shorter, bands=RGB, legend=LEGEND)
