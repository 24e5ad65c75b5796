"""The convolutional form is the patch network."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import dask.array as da
import keras
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import LEGEND, noise_scene, patch_by_patch, patch_network, randomise

from csc_xr.errors import NetworkError
from csc_xr.inference import classify_pixels
from csc_xr.networks.bundle import Network, open_network
from csc_xr.networks.convolution import Stage, convolutional_form

layers = keras.layers
SIZES = (1, 3, 5, 7, 9, 11, 13, 15)


@cache
def _network(patch_size: int, activation: str = "relu") -> Network:
    return patch_network(patch_size, activation=activation, seed=patch_size)


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("patch_size", SIZES)
@pytest.mark.parametrize(
    ("shape", "chunks"),
    [((19, 26), (19, 26)), ((33, 21), (17, 8)), ((31, 47), (11, 16)), ((16, 40), (40, 20))],
    ids=["whole", "2x3 chunks", "3x3 chunks", "1x2 chunks"],
)
def test_every_pixel_equals_patch_by_patch(
    patch_size: int, activation: str, shape: tuple[int, int], chunks: tuple[int, int]
) -> None:
    network = _network(patch_size, activation)
    scene = noise_scene(shape, chunks=chunks, seed=patch_size)
    found = classify_pixels(scene, network, outputs=("probability", "pixel_class"))
    expected = patch_by_patch(scene, network)
    probability = found["probability"].values.transpose(1, 2, 0)
    assert probability.shape == (*shape, 3)
    np.testing.assert_allclose(probability, expected[..., 1:], rtol=0, atol=1e-5)
    clear = np.ptp(np.sort(expected[..., 1:])[..., -2:], axis=-1) > 2e-5
    np.testing.assert_array_equal(
        found["pixel_class"].values[clear], expected[..., 1:].argmax(-1)[clear] + 1
    )


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(15, 60),
    columns=st.integers(15, 60),
    chunk_rows=st.integers(5, 60),
    chunk_columns=st.integers(5, 60),
    patch_size=st.sampled_from([1, 3, 7, 15]),
)
def test_chunks_do_not_matter_to_the_bit(
    rows: int, columns: int, chunk_rows: int, chunk_columns: int, patch_size: int
) -> None:
    network = _network(patch_size)
    whole = noise_scene((rows, columns), seed=rows, holes=0.1)
    cut = whole.chunk(y=chunk_rows, x=chunk_columns)
    outputs = ("pixel_class", "probability", "confidence", "margin", "entropy")
    one = classify_pixels(whole, network, outputs=outputs).compute()
    other = classify_pixels(cut, network, outputs=outputs).compute()
    for name in outputs:
        np.testing.assert_array_equal(one[name].values, other[name].values)


def test_somebody_elses_patch_network_slides(shared: Path) -> None:
    """A legacy file: 5 x 5 patches of blue, green, red and near infrared, three linear outputs."""
    names = ("blue", "green", "red", "nir")
    network = open_network(
        shared / "models" / "Capo_5_32_4bande.h5",
        kind="patch", bands=names, scale=10000.0, codes=(1, 3, 2), legend=LEGEND,
    )  # fmt: skip
    values = np.random.default_rng(0).integers(0, 10000, (4, 17, 23)).astype(np.uint16)
    scene = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": list(names)})
    found = classify_pixels(scene, network, outputs=("pixel_class", "probability"))
    expected = patch_by_patch(scene, network)[..., [0, 2, 1]]  # in order of the codes
    np.testing.assert_allclose(
        found["probability"].values.transpose(1, 2, 0), expected, rtol=0, atol=1e-5
    )
    np.testing.assert_array_equal(found["pixel_class"].values, expected.argmax(-1) + 1)
    turned = classify_pixels(scene[::-1], network)["pixel_class"]
    np.testing.assert_array_equal(turned, found["pixel_class"])


def test_composition_saves_multiplications_and_changes_nothing() -> None:
    model = patch_network(15, activation="linear").model
    plain = convolutional_form(model, patch_size=15, compose=False)
    composed = convolutional_form(model, patch_size=15)
    assert len(composed.stages) < len(plain.stages)
    assert sum(s.multiplications for s in composed.stages) < plain.layer_multiplications
    assert plain.layer_multiplications == sum(s.multiplications for s in plain.stages)
    area = np.random.default_rng(1).random((20, 22, 3)).astype(np.float32)
    np.testing.assert_allclose(_slide(plain, area), _slide(composed, area), rtol=0, atol=1e-6)


def test_other_chains_slide_too() -> None:
    """Batch normalisation in every place it can stand, and activations of their own."""
    model = keras.Sequential(
        [
            keras.Input((9, 9, 3)),
            layers.BatchNormalization(),
            layers.Conv2D(5, 5, use_bias=False),
            layers.BatchNormalization(scale=False),
            layers.Activation("tanh"),
            layers.BatchNormalization(center=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(6, 3, activation="elu"),
            layers.Dropout(0.5),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(7),
            layers.BatchNormalization(),
            layers.Dense(4),
            layers.Softmax(),
        ]
    )
    randomise(model, 3)
    form = convolutional_form(model, patch_size=9)
    area = np.random.default_rng(1).random((11, 12, 3)).astype(np.float32)
    patches = np.lib.stride_tricks.sliding_window_view(area, (9, 9), axis=(0, 1))
    batch = patches.transpose(0, 1, 3, 4, 2).reshape(-1, 9, 9, 3)
    expected = model.predict(batch, verbose=0).reshape(3, 4, 4)
    np.testing.assert_allclose(_slide(form, area), expected, rtol=0, atol=1e-5)


def test_normalised_output_slides() -> None:
    model = keras.Sequential(
        [keras.Input((3, 3, 2)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(),
         layers.BatchNormalization()]
    )  # fmt: skip
    randomise(model, 5)
    form = convolutional_form(model, patch_size=3)
    area = np.random.default_rng(2).random((3, 3, 2)).astype(np.float32)
    expected = model.predict(area[None], verbose=0)
    np.testing.assert_allclose(_slide(form, area)[0], expected, rtol=0, atol=1e-5)


def test_fingerprint_follows_content() -> None:
    forms = [
        convolutional_form(patch_network(5, seed=seed).model, patch_size=5) for seed in (0, 0, 1)
    ]
    assert forms[0].fingerprint == forms[1].fingerprint != forms[2].fingerprint
    assert da.core.tokenize(forms[0]) == da.core.tokenize(forms[1])


def _slide(form: object, area: np.ndarray) -> np.ndarray:
    """Run the stages in plain NumPy."""
    for stage in form.stages:  # type: ignore[attr-defined]
        area = _convolve(area, stage)
    return area


def _convolve(area: np.ndarray, stage: Stage) -> np.ndarray:
    side = stage.kernel.shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(area, (side, side), axis=(0, 1))
    out = np.einsum("rcihw,hwio->rco", windows.astype(np.float64), stage.kernel) + stage.bias
    functions = {
        "linear": lambda x: x,
        "relu": lambda x: np.maximum(x, 0),
        "tanh": np.tanh,
        "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
        "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    }
    return np.asarray(functions[stage.activation](out))


def _model(*chain: object) -> keras.Model:
    return keras.Sequential([keras.Input((5, 5, 3)), *chain])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_model(layers.MaxPooling2D(), layers.Flatten()), "is a MaxPooling2D, which cannot slide"),
        (_model(layers.Conv2D(2, 3, padding="same"), layers.Flatten()), "valid padding"),
        (_model(layers.Conv2D(2, 3, strides=2), layers.Flatten()), "stride 1"),
        (_model(layers.Conv2D(2, 3), layers.Flatten()), "reduce a patch of 5 x 5 pixels to one"),
        (
            _model(layers.Flatten(), layers.BatchNormalization(), layers.Dense(2)),
            "normalises each pixel of the patch",
        ),
        (_model(layers.Flatten(), layers.Dense(2, activation="gelu")), "got 'gelu'"),
        (_model(layers.Flatten(), layers.ReLU(max_value=1.0), layers.Dense(2)), "is a ReLU"),
        (_model(_model(layers.Flatten()), layers.Dense(2)), "branches off or holds a network"),
    ],
)
def test_what_cannot_slide_is_refused(model: keras.Model, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        convolutional_form(model, patch_size=5)
