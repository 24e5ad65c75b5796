"""What a training begins with, and networks whose outputs change: other classes, local classes."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import xarray as xr
from networks_for_tests import LEGEND, tile_network
from tiles_for_tests import coloured_tiles, fit_small, held, quick, small_model

from csc_xr.errors import CscWarning, NetworkError, ParameterError, TileError
from csc_xr.legend import ClassLegend, LegendClass
from csc_xr.networks.bundle import Network, open_network, save_network
from csc_xr.networks.outputs import COMMON_LAYER, continued
from csc_xr.tiles.keys import ClassKey, with_class_key
from csc_xr.training.phase_one.beginning import begin_network
from csc_xr.training.phase_one.fit import fit_tile_network

OTHER = ClassLegend("other", [LegendClass(1, "Sand", "yellow"), LegendClass(2, "Mud", "grey")])


def test_goes_on_from_a_network_with_the_same_classes() -> None:
    tiles = coloured_tiles()
    first, before = fit_tile_network(tiles, held(tiles), settings=quick(epochs=20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the scene validated on was held out before as well
        second, after = fit_tile_network(
            tiles, held(tiles), network=first, settings=quick(epochs=1)
        )
    assert second.card.provenance["learned_scenes"] == ["scene 0", "scene 2"]
    assert after.rows[0]["loss"] < before.rows[0]["loss"]
    assert second.card.provenance["first_weights"] == first.fingerprint
    assert second.card.provenance["output_layer"] == "kept"
    rate = after.rows[0]["learning_rate"]
    assert rate <= 1e-5
    still, _ = continued(first, legend=LEGEND, seed=0)
    for a, b in zip(still.get_weights(), first.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_classes_get_a_new_output_layer() -> None:
    first = tile_network(16)
    tiles = coloured_tiles().isel(tile=slice(0, 40)).assign_attrs(legend=OTHER.to_dict())
    with pytest.warns(
        CscWarning, match=r"other classes \(test\) than those of the tiles \(other\)"
    ):
        network, _ = fit_tile_network(tiles, held(tiles), network=first, settings=quick(epochs=1))
    assert network.card.provenance["output_layer"] == "new"
    assert network.card.legend == OTHER
    assert network.model.output_shape == (None, 3)
    model, kept = continued(first, legend=OTHER, seed=5)
    assert not kept
    for ours, theirs in zip(model.layers[:-1], first.model.layers[:-1], strict=True):
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    again, _ = continued(first, legend=OTHER, seed=5)
    np.testing.assert_array_equal(model.get_weights()[-2], again.get_weights()[-2])


def test_a_network_that_ends_otherwise_takes_no_other_classes() -> None:
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(4),
         keras.layers.Softmax()]
    )  # fmt: skip
    network = dataclasses.replace(tile_network(16), model=model)
    with pytest.raises(NetworkError, match=r"must be a Dense layer, got Softmax"):
        continued(network, legend=OTHER, seed=0)


def test_a_model_of_the_users_own() -> None:
    tiles = coloured_tiles()
    model = small_model()
    before = [weight.copy() for weight in model.get_weights()]
    network, report = fit_tile_network(tiles, held(tiles), network=model, settings=quick(epochs=12))
    assert report.rows[-1]["loss"] < report.rows[0]["loss"]
    assert network.card.provenance["first_weights"] == "the model's"
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_first_weights_from_a_bundle(tmp_path: Path) -> None:
    tiles = coloured_tiles()
    first, before = fit_tile_network(tiles, held(tiles), settings=quick(epochs=20))
    save_network(first, tmp_path / "first.keras")
    second, report = fit_tile_network(
        tiles, held(tiles), weights=tmp_path / "first.keras", settings=quick(epochs=1)
    )
    assert report.rows[0]["loss"] < before.rows[0]["loss"]
    assert second.card.provenance["first_weights"] == first.fingerprint


def test_scenes_that_were_learned_from_before_are_told(tmp_path: Path) -> None:
    """Of a network that is gone on with, of first weights, and of what came before both."""
    tiles, settings = coloured_tiles(8), quick(epochs=1)
    first, _ = fit_tile_network(tiles, held(tiles, 1), settings=settings)
    message = "has learned from scene {}, which this training validates on"
    with pytest.warns(CscWarning, match=message.format(2)):
        second, _ = fit_tile_network(tiles, held(tiles, 2), network=first, settings=settings)
    assert second.card.provenance["first_learned_scenes"] == ["scene 0", "scene 2"]
    save_network(second, tmp_path / "second.keras")
    with pytest.warns(CscWarning, match=message.format(2)):
        fit_tile_network(
            tiles, held(tiles, 2), weights=tmp_path / "second.keras", settings=settings
        )


def test_first_weights_of_another_scale_are_refused(tmp_path: Path) -> None:
    tiles = coloured_tiles(8)
    model = begin_network(tiles, "compact", weights=None, seed=0).model
    card = dataclasses.replace(tile_network(16).card, scale=8192.0)
    save_network(Network(card, model), tmp_path / "first.keras")
    with pytest.raises(TileError, match=r"its scale: 8192, that of the tiles: 255\. Cut tiles"):
        fit_tile_network(
            tiles, held(tiles), weights=tmp_path / "first.keras", settings=quick(epochs=1)
        )


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"network": "vgg9"}, ParameterError, "architecture must be one of vgg16, .* got 'vgg9'"),
        ({"weights": "a.h5"}, ParameterError, "Weights of a Keras application .* a.h5 for 'compa"),
        (
            {"weights": "a.h5", "network": tile_network(16)},
            ParameterError,
            "First weights are for an architecture, .* got a.h5. Leave one of them out",
        ),
        ({"network": tile_network(8)}, TileError, "its tile size: 8, that of the tiles: 16"),
        (
            {"network": dataclasses.replace(
                tile_network(16),
                card=dataclasses.replace(tile_network(16).card, bands=("red", "green", "nir")),
            )},
            TileError,
            "its band names: red, green, nir, that of the tiles: red, green, blue",
        ),
        (
            {"network": dataclasses.replace(
                tile_network(16), card=dataclasses.replace(tile_network(16).card, scale=8192.0)
            )},
            TileError,
            "its scale: 8192, that of the tiles: 255",
        ),
        (
            {"network": keras.Sequential(
                [keras.Input((9, 9, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]
            )},
            NetworkError,
            r"must take \(n, 16, 16, 3\) and give \(n, 4\), .* takes \(None, 9, 9, 3\)",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_begun_with(
    changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    tiles = coloured_tiles(8)
    with pytest.raises(error, match=message):
        fit_tile_network(tiles, held(tiles), settings=quick(), **changed)


def test_local_classes_are_put_together() -> None:
    key = ClassKey({1: 1, 2: 2, 3: 1})
    local = key.local_legend(LEGEND)
    tiles = with_class_key(coloured_tiles(legend=local), key, LEGEND)
    network, report = fit_tile_network(
        tiles, held(tiles), settings=quick(epochs=15, learning_rate=3e-3)
    )
    assert network.card.legend == LEGEND
    assert network.card.codes == (0, 1, 2, 0)
    assert network.card.provenance["local_classes"] == {"1": 1, "2": 2, "3": 1}
    assert report.scores is not None
    assert report.scores["Class"].tolist()[:2] == ["Water", "Ice"]
    values = tiles["pixels"].values.transpose(0, 2, 3, 1).astype(np.float32) / 255
    common = np.asarray(network.model.predict_on_batch(values))
    inner = keras.Model(network.model.inputs, network.model.get_layer(COMMON_LAYER).input)
    alone = np.asarray(inner.predict_on_batch(values))
    np.testing.assert_allclose(common[:, 1], alone[:, 1] + alone[:, 3], rtol=1e-5)
    np.testing.assert_allclose(common[:, 2], alone[:, 2], rtol=1e-5)
    assert not common[:, [0, 3]].any()
    for row in report.rows:
        assert 0 <= row["validation_accuracy"] <= 1
    accuracy = report.scores.set_index("Class")["F1_score"]["Accuracy"]
    assert report.validation_accuracy == pytest.approx(accuracy)
    again, kept = continued(network, legend=OTHER, seed=0)
    assert not kept
    assert COMMON_LAYER not in [layer.name for layer in again.layers]


def keyed(tiles: xr.Dataset, pairs: dict[int, int]) -> xr.Dataset:
    """Take the codes of tiles as local classes of a key."""
    key = ClassKey(pairs)
    return with_class_key(
        tiles.assign_attrs(legend=key.local_legend(LEGEND).to_dict()), key, LEGEND
    )


@pytest.mark.parametrize("seed", range(3))
def test_local_classes_are_measured_by_the_common_ones(seed: int) -> None:
    """Two local classes of one common class are one also in the history."""
    tiles = keyed(coloured_tiles(), {1: 1, 2: 1, 3: 2})
    split = held(tiles)
    settings = quick(epochs=1, learning_rate=1e-9)  # far from sure of the local ones
    network, report = fit_small(tiles, split, settings=settings, seed=seed)
    assert report.scores is not None
    accuracy = report.scores.set_index("Class")["F1_score"]["Accuracy"]
    assert report.rows[-1]["validation_accuracy"] == pytest.approx(accuracy)
    local = keras.Model(network.model.inputs, network.model.get_layer(COMMON_LAYER).input)
    values = tiles["pixels"].values[split.check].transpose(0, 2, 3, 1).astype(np.float32) / 255
    probabilities = np.asarray(network.model.predict_on_batch(values))
    common = np.array([0, 1, 1, 2])[tiles["code"].values[split.check]]
    loss = -np.log(probabilities[np.arange(len(common)), common]).mean()
    assert report.rows[-1]["validation_loss"] == pytest.approx(float(loss), rel=1e-4)
    best = np.asarray(local.predict_on_batch(values)).argmax(axis=1)
    assert (best == tiles["code"].values[split.check]).mean() != pytest.approx(accuracy)


def test_local_classes_go_on_with_their_outputs(tmp_path: Path) -> None:
    tiles = keyed(coloured_tiles(8), {1: 1, 2: 2, 3: 1})
    first, _ = fit_tile_network(
        tiles, held(tiles), network=tile_network(16).model, settings=quick()
    )
    save_network(first, tmp_path / "first.keras")
    still = quick(epochs=1, learning_rate=1e-12)
    values = tiles["pixels"].values.transpose(0, 2, 3, 1).astype(np.float32) / 255
    second, _ = fit_tile_network(
        tiles, held(tiles), network=open_network(tmp_path / "first.keras"), settings=still
    )
    assert second.card.provenance["output_layer"] == "kept"
    assert second.card.provenance["local_classes"] == {"1": 1, "2": 2, "3": 1}
    assert second.card.codes == first.card.codes == (0, 1, 2, 0)
    before, after = (np.asarray(each.model.predict_on_batch(values)) for each in (first, second))
    np.testing.assert_allclose(after, before, atol=1e-5)
    for others in ({1: 1, 2: 2, 3: 2}, {1: 1, 2: 2, 3: 1, 4: 2}):
        with pytest.warns(CscWarning, match="its output layer is replaced by a new one"):
            other, _ = fit_tile_network(
                keyed(tiles, others), held(tiles), network=first, settings=still
            )
        assert other.card.provenance["output_layer"] == "new"
