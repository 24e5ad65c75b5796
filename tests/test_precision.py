"""Precisions of training: what a machine can do, and networks rebuilt for it and back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from networks_for_tests import LEGEND, randomise

from csc_xr.errors import NetworkError, ParameterError
from csc_xr.networks import precision, runtime
from csc_xr.networks.builders import build_patch_network, build_tile_network
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard
from csc_xr.networks.precision import choose_precision, with_precision


def machine(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    capability: tuple[int, int] | None = None,
    flags: str | None = None,
) -> None:
    info = folder / "cpuinfo"
    if flags is not None:
        info.write_text(f"processor\t: 0\nflags\t\t: fpu {flags} sse\n\nprocessor\t: 1\n")
    monkeypatch.setattr(precision, "_CPU_INFO", info)
    monkeypatch.setattr(precision, "gpu_capability", lambda: capability)


@pytest.mark.parametrize(
    ("capability", "flags", "chosen"),
    [
        ((9, 0), "avx2", "float16"),
        ((7, 0), "avx512_bf16", "float16"),
        ((6, 1), "avx512_bf16", "float32"),  # the card does the work
        (None, "avx512f avx512_bf16", "bfloat16"),
        (None, "amx_bf16", "bfloat16"),
        (None, "avx512f avx512_bf16x", "float32"),
        (None, None, "float32"),
    ],
)
def test_auto_takes_what_is_native(
    capability: Any, flags: Any, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, tmp_path, capability=capability, flags=flags)
    assert choose_precision("auto") == chosen
    assert choose_precision("float32") == "float32"
    if chosen != "float32":
        assert choose_precision(chosen) == chosen  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "capability", "flags", "message"),
    [
        ("float16", None, "avx512_bf16", "got no graphics card and a processor with bfloat16"),
        ("float16", (6, 1), None, "7.0 or more, got a graphics card of compute capability 6.1"),
        ("bfloat16", None, "avx2", "got no graphics card and no processor with bfloat16. Pass"),
        ("bfloat16", (7, 5), "avx512_bf16", "got a graphics card of compute capability 7.5"),
        ("double", None, None, "one of float32, bfloat16, float16, auto, got 'double'"),
    ],
)
def test_what_is_not_native_is_refused(
    wanted: Any,
    capability: Any,
    flags: Any,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(monkeypatch, tmp_path, capability=capability, flags=flags)
    with pytest.raises(ParameterError, match=message):
        choose_precision(wanted)


@pytest.mark.parametrize(
    ("cards", "least"),
    [
        ([], None),
        ([{"compute_capability": (9, 0)}, {"compute_capability": (7, 5)}], (7, 5)),
        ([{"device_name": "another maker's"}], (0, 0)),
    ],
)
def test_the_weakest_card_decides(
    cards: list[dict[str, Any]], least: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SimpleNamespace(
        get_visible_devices=lambda kind: cards if kind == "GPU" else None,
        experimental=SimpleNamespace(get_device_details=lambda card: card),
    )
    monkeypatch.setattr(runtime, "tf", SimpleNamespace(config=config))
    assert runtime.gpu_capability() == least


def own_model() -> keras.Model:
    """Build a network as a user might: one model inside another, precisions of its own."""
    inner = keras.Sequential(
        [
            keras.Input((6, 6, 5)),
            keras.layers.SeparableConv2D(4, 3, dtype="mixed_bfloat16"),
            keras.layers.BatchNormalization(),
        ]
    )
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3, activation="relu")(inputs)
    x = keras.layers.Concatenate()([inner(x), keras.layers.Cropping2D(1)(x)])
    x = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, keras.layers.Softmax()(x))


def ending_inside() -> keras.Model:
    """Build a Sequential whose last layer is another one."""
    head = keras.Sequential([keras.Input((3,)), keras.layers.Dense(6), keras.layers.Dense(4)])
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D(), head])


MODELS = {
    "compact": lambda: build_tile_network("compact", tile_size=16, n_bands=3, n_outputs=4, seed=0),
    "patch": lambda: build_patch_network(patch_size=7, n_bands=3, n_outputs=4, seed=0),
    "own": own_model,
    "ending inside": ending_inside,
}


def leaves(model: keras.Model) -> list[Any]:
    found = []
    for layer in model.layers:
        found += leaves(layer) if isinstance(layer, keras.Model) else [layer]
    return [layer for layer in found if not isinstance(layer, keras.layers.InputLayer)]


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", MODELS)
def test_networks_change_precision_and_back(kind: str, name: Any) -> None:
    model = randomise(MODELS[kind](), 1)
    changed = with_precision(model, name)
    *inner, last = leaves(changed)
    assert {layer.compute_dtype for layer in inner} == {name}
    assert last.compute_dtype == "float32"
    assert {weight.dtype for weight in changed.weights} == {"float32"}
    for one, two in zip(model.get_weights(), changed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)

    tiles = np.random.default_rng(0).random((16, *model.input_shape[1:]), np.float32)
    exact, rough = (np.asarray(m(tiles, training=False)) for m in (model, changed))
    assert rough.dtype == np.float32
    scale = np.ptp(exact)
    assert 0 < np.abs(rough - exact).max() < 0.1 * scale
    back = with_precision(changed, "float32")
    assert {layer.compute_dtype for layer in leaves(back)} == {"float32"}
    if kind != "own":  # which had another precision to begin with
        np.testing.assert_array_equal(np.asarray(back(tiles, training=False)), exact)
        assert network_of(back).fingerprint == network_of(model).fingerprint


def network_of(model: keras.Model) -> Network:
    size = model.input_shape[1]
    card = NetworkCard(kind="tile", bands=("red", "green", "blue"), size=size, legend=LEGEND)
    return Network(card, model)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_training_keeps_single_precision_weights(name: Any) -> None:
    model = with_precision(MODELS["compact"](), name)
    assert not model.compiled
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", run_eagerly=True)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (name == "float16"), "small gradients of float16 are lost without scaling"
    before = model.get_weights()
    tiles = np.random.default_rng(0).random((8, 16, 16, 3), np.float32)
    assert np.isfinite(model.train_on_batch(tiles, np.arange(8) % 4))
    assert {weight.dtype for weight in model.weights} == {"float32"}
    kernel = next(i for i, values in enumerate(before) if values.ndim == 4)
    assert (model.get_weights()[kernel] != before[kernel]).any()


def test_frozen_layers_stay_frozen() -> None:
    model = MODELS["compact"]()
    model.layers[1].trainable = False
    assert not with_precision(model, "bfloat16").layers[1].trainable


def test_models_and_precisions_are_checked() -> None:
    model = MODELS["patch"]()
    with pytest.raises(ParameterError, match="float32, bfloat16, float16, got precision 'auto'"):
        with_precision(model, "auto")  # type: ignore[arg-type]
    code = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x)])
    with pytest.raises(NetworkError, match="plain Keras layers only"):
        with_precision(code, "bfloat16")
