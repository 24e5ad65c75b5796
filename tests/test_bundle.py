"""Networks with their cards: checked, told apart by content, shipped and kept whole."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from dask.base import tokenize

from csc_xr.errors import LegendError, NetworkError, OutputError, ParameterError
from csc_xr.legend import GLACIER, RIVER
from csc_xr.networks.builders import build_patch_network, build_tile_network
from csc_xr.networks.bundle import Network, open_network, save_network
from csc_xr.networks.card import NetworkCard

layers = keras.layers


def card(**changes: Any) -> NetworkCard:
    settings: dict[str, Any] = {
        "kind": "patch",
        "bands": ("red", "green", "blue"),
        "size": 3,
        "legend": RIVER,
        **changes,
    }
    return NetworkCard(**settings)


def network(*, seed: int = 1, **changes: Any) -> Network:
    model = build_patch_network(patch_size=3, n_bands=3, n_outputs=6, seed=seed)
    return Network(card(**changes), model)


def any_size_model() -> keras.Model:
    inputs = keras.Input((None, None, 5))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, layers.Dense(3)(x))


def own_loss(truth: Any, outputs: Any) -> Any:
    return keras.ops.mean((truth - outputs) ** 2)


def compact_model() -> keras.Model:
    return build_tile_network("compact", tile_size=16, n_bands=4, n_outputs=8, seed=3)


def nested_model() -> keras.Model:
    """A model inside a model, as published networks are built."""
    inputs = keras.Input((16, 16, 4))
    x = layers.Conv2D(3, 3, padding="same")(inputs)
    x = layers.Add()([x, layers.BatchNormalization()(x)])
    head = [layers.Flatten(), layers.Dropout(0.5), layers.Dense(8, "softmax")]
    return keras.Sequential([keras.Input((16, 16, 4)), keras.Model(inputs, x), *head])


def outputs_of(model: keras.Model) -> Any:
    windows = np.random.default_rng(0).random((4, *model.input_shape[1:]), np.float32)
    return np.asarray(model(windows, training=False))


def rewrite(path: Path, target: Path, **members: bytes | None) -> Path:
    """Copy an archive with other content in some members; None leaves a member out."""
    replaced = {name.replace("__", "."): content for name, content in members.items()}
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = replaced.pop(name, source.read(name))
            if content is not None:
                copy.writestr(name, content)
        for name, content in replaced.items():
            copy.writestr(name, content or b"")
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bands": ("red", "nir")},
            "network takes 3 bands, its card names 2: red, nir. Pass bands",
        ),
        ({"size": 5}, "network takes windows of 3 px, its card says 5 px"),
        ({"codes": (1, 2)}, "codes for 2 outputs .* the network has 6"),
    ],
)
def test_network_must_fit_its_card(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        network(**changes)


def test_network_takes_windows_and_gives_classes() -> None:
    flat, wide = keras.Input((3,)), keras.Input((3, 5, 3))
    window = keras.Input((3, 3, 3))
    image = layers.Conv2D(6, 1)(window)
    odd = [
        keras.Model(flat, layers.Dense(6)(flat)),
        keras.Model(wide, layers.Dense(6)(layers.Flatten()(wide))),
        keras.Model(window, image),
        keras.Model([window, wide], layers.Dense(6)(layers.Flatten()(wide))),
        keras.Sequential([layers.Flatten(), layers.Dense(6)]),
    ]
    for model in odd:
        with pytest.raises(NetworkError, match=r"one input \(n, rows, columns, bands\) of square"):
            Network(card(), model)


def test_only_patch_networks_slide() -> None:
    with pytest.raises(NetworkError, match=r"patch network, got a tile network. Pass kind='patch'"):
        network(kind="tile").convolutional_form()


def test_fingerprint_is_that_of_the_content() -> None:
    one = network()
    keras.layers.Dense(3)
    assert network() == one
    assert hash(network()) == hash(one)
    assert tokenize(network()) == tokenize(one)
    assert one != "network"
    others = [network(seed=2), network(scale=255), network(provenance={"run": 1})]
    for part in range(len(one.model.weights)):
        other = network()
        values = other.model.get_weights()
        values[part] = np.nextafter(values[part], np.float32(9))
        other.model.set_weights(values)
        others.append(other)
    assert len({entry.fingerprint for entry in [one, *others]}) == len(others) + 1


def test_fit_changes_the_fingerprint_and_compiling_does_not() -> None:
    one, two = network(), network()
    two.model.build((None, 3, 3, 3))
    two.model.compile("adam", "categorical_crossentropy")
    assert two == one
    fitted = network()
    fitted.model.compile("adam", "categorical_crossentropy", run_eagerly=True)
    windows = np.random.default_rng(0).random((6, 3, 3, 3), np.float32)
    fitted.model.train_on_batch(windows, np.eye(6))
    assert fitted != one


def test_network_travels_without_keras_own_pickling() -> None:
    one = network(provenance={"run": 1})
    one.model.compile("adam", "mse")
    two = pickle.loads(pickle.dumps(one))  # noqa: S301
    assert two == one
    assert two.card == one.card
    np.testing.assert_array_equal(outputs_of(two.model), outputs_of(one.model))
    assert not two.model.compiled


def test_threads_may_unpack_networks_side_by_side() -> None:
    one = network()
    packed = [pickle.dumps(one)] * 12
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(pickle.loads, packed)) == {one}


def test_bundle_loads_no_keras() -> None:
    code = "import sys, csc_xr.networks.bundle; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("model", [compact_model, nested_model])
def test_saved_network_opens_as_it_was(model: Callable[[], keras.Model], tmp_path: Path) -> None:
    settings = {"kind": "tile", "bands": ("nir", "red", "green", "blue"), "size": 16}
    provenance = {"run": 7}
    one = Network(card(**settings, scale=8192, legend=GLACIER, provenance=provenance), model())
    save_network(one, tmp_path / "new folder" / "a.keras")
    two = open_network(tmp_path / "new folder" / "a.keras")
    assert two == one
    assert two.card == one.card
    np.testing.assert_array_equal(outputs_of(two.model), outputs_of(one.model))
    opened = keras.saving.load_model(tmp_path / "new folder" / "a.keras")
    np.testing.assert_array_equal(outputs_of(opened), outputs_of(one.model))


def test_legacy_network_may_be_kept_as_keras(tmp_path: Path) -> None:
    network().model.save(tmp_path / "a.h5")
    one = open_network(tmp_path / "a.h5", kind="patch")
    assert one.card == card()
    save_network(one, tmp_path / "a.keras")
    assert open_network(tmp_path / "a.keras") == one


def test_optimizer_is_left_out(tmp_path: Path) -> None:
    save_network(network(), tmp_path / "plain.keras")
    one = network()
    one.model.compile(keras.optimizers.Adam(amsgrad=True), own_loss, run_eagerly=True)
    one.model.train_on_batch(np.zeros((4, 3, 3, 3)), np.zeros((4, 6)))
    save_network(one, tmp_path / "fitted.keras")
    sizes = [(tmp_path / f"{name}.keras").stat().st_size for name in ("plain", "fitted")]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)
    assert one.model.compiled
    assert open_network(tmp_path / "fitted.keras").fingerprint == one.fingerprint


def test_saving_replaces_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.keras"
    save_network(network(seed=1), path)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "writestr", fail)
        with pytest.raises(OSError, match="no space"):
            save_network(network(seed=2), path)
    assert open_network(path) == network(seed=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.keras"]
    save_network(network(seed=2), path)
    assert open_network(path) == network(seed=2)


def test_where_networks_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"in a file that ends in .keras, got .*a\.h5"):
        save_network(network(), tmp_path / "a.h5")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a.keras must be written, but"):
        save_network(network(), tmp_path / "file" / "a.keras")


def test_network_that_would_not_open_is_not_saved(tmp_path: Path) -> None:
    inputs = keras.Input((3, 3, 3))
    x = layers.Lambda(lambda y: y * 2, name="twice")(inputs)
    one = Network(card(), keras.Model(inputs, layers.Dense(6)(layers.Flatten()(x))))
    with pytest.raises(NetworkError, match=r"The network: .* got keras.layers.Lambda.*'twice'"):
        save_network(one, tmp_path / "a.keras")
    assert list(tmp_path.iterdir()) == []


def test_network_without_card(tmp_path: Path) -> None:
    path = tmp_path / "plain.keras"
    model = build_tile_network("compact", tile_size=20, n_bands=3, n_outputs=4, seed=1)
    model.compile("adam", own_loss)
    model.save(path)
    one = open_network(path)
    assert one.card == card(kind="tile", size=20, codes=(0, 1, 2, 3))
    other = open_network(path, bands=("nir", "red", "green"), scale=10000, codes=(0, 2, 4, 1))
    assert (other.card.bands, other.card.scale) == (("nir", "red", "green"), 10000)
    assert other.card.codes == (0, 2, 4, 1)
    np.testing.assert_array_equal(outputs_of(one.model), outputs_of(model))
    given = card(kind="tile", size=20, legend=GLACIER, codes=(0, 1, 2, 7))
    assert open_network(path, card=given).card == given


def test_normalisation_inside_a_network(tmp_path: Path) -> None:
    """Its weights are not all fractions."""
    scaled = layers.Normalization(name="scaled")
    scaled.adapt(np.random.default_rng(0).random((9, 3, 3, 3)))
    inputs = keras.Input((3, 3, 3))
    outputs = layers.Dense(6)(layers.Flatten()(layers.Rescaling(2.0)(scaled(inputs))))
    one = Network(card(), keras.Model(inputs, outputs))
    save_network(one, tmp_path / "a.keras")
    assert open_network(tmp_path / "a.keras") == one


def test_network_for_any_size(tmp_path: Path) -> None:
    path = tmp_path / "any.keras"
    any_size_model().save(path)
    settings: dict[str, Any] = {"bands": list("abcde"), "legend": "river", "codes": (0, 1, 2)}
    assert open_network(path, size=40, **settings).card.size == 40
    with pytest.raises(NetworkError, match=r"windows of any size. Pass size="):
        open_network(path, **settings)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"bands": ("a", "b", "c")}, NetworkError, "card in a.keras has bands .* Leave bands out"),
        ({"legend": "glacier"}, NetworkError, "card in a.keras has legend .* or pass card="),
        ({"kind": "tile"}, NetworkError, "has kind 'patch', got 'tile'"),
        ({"bands": "red"}, NetworkError, "one or more different names, got 'red'"),
        ({"legend": "sea"}, LegendError, "A legend is 'glacier'"),
        ({"card": card(), "size": 3}, ParameterError, "either a card or single settings, .*size"),
    ],
)
def test_settings_must_agree_with_the_card(
    settings: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    save_network(network(), tmp_path / "a.keras")
    same = {"kind": "patch", "bands": ["red", "green", "blue"], "size": 3, "legend": "river"}
    assert open_network(tmp_path / "a.keras", **same) == network()  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        open_network(tmp_path / "a.keras", **settings)


def test_files_that_are_no_networks(tmp_path: Path) -> None:
    save_network(network(), tmp_path / "a.keras")
    whole = (tmp_path / "a.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[:-2000])
    (tmp_path / "text.keras").write_text("text")
    (tmp_path / "text.h5").write_text("text")
    (tmp_path / "a.onnx").write_text("text")
    (tmp_path / "folder.keras").mkdir()
    for name, message in {
        "none.keras": "There is no network file .*none.keras. Check the path",
        "folder.keras": "There is no network file",
        "a.onnx": "ends in .keras, .h5 or .hdf5, got a.onnx",
        "cut.keras": "cut.keras cannot be read as a .keras network.*BadZipFile",
        "text.keras": "text.keras cannot be read as a .keras network.*BadZipFile",
        "text.h5": "text.h5 is no HDF5 file",
    }.items():
        with pytest.raises(NetworkError, match=message):
            open_network(tmp_path / name)


def test_archives_that_are_no_networks(tmp_path: Path) -> None:
    save_network(network(), tmp_path / "a.keras")
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["layers"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/layers")
    linked = (tmp_path / "linked.h5").read_bytes()
    cases: list[tuple[dict[str, bytes | None], str]] = [
        ({"config__json": None}, "cannot be read as a .keras network.*KeyError"),
        ({"config__json": b"{"}, "cannot be read as a .keras network.*JSONDecodeError"),
        ({"config__json": b"[" * 100_000}, "cannot be read as a .keras network.*RecursionError"),
        ({"config__json": b"[]"}, "b.keras holds no Keras model. Pass a file that model.save"),
        ({"model__weights__h5": None}, "cannot be read as a .keras network.*KeyError"),
        ({"model__weights__h5": b"text"}, "cannot be read as a .keras network.*OSError"),
        ({"model__weights__h5": linked}, "must lie in its own file, but 'layers' refers to"),
        ({"csc_xr_card__json": b"{}"}, "network card needs kind, bands"),
    ]
    for members, message in cases:
        path = rewrite(tmp_path / "a.keras", tmp_path / "b.keras", **members)
        with pytest.raises(NetworkError, match=message):
            open_network(path)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize("model", ["other", "fewer", "empty"])
def test_weights_of_another_network_are_refused(model: str, tmp_path: Path) -> None:
    """Layers that the file has no weights for must not stay as they were first drawn."""
    one = network()
    save_network(one, tmp_path / "a.keras")
    weights = tmp_path / "b.weights.h5"
    (any_size_model() if model == "other" else one.model).save_weights(weights)
    if model != "other":
        with h5py.File(weights, "a") as file:
            names = [name for name, entry in file["layers"].items() if "0" in entry["vars"]]
            for name in names if model == "empty" else names[-1:]:
                del file["layers"][name]
    path = rewrite(
        tmp_path / "a.keras", tmp_path / "b.keras", model__weights__h5=weights.read_bytes()
    )
    with pytest.raises(NetworkError, match=r"b.keras cannot be read as a .keras network"):
        open_network(path)


def test_archive_that_unpacks_to_too_much(tmp_path: Path) -> None:
    save_network(network(), tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "b.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(70 << 20))
    with pytest.raises(NetworkError, match=r"config.json would unpack to 73400320 bytes"):
        open_network(tmp_path / "b.keras")


def test_only_known_members_are_read(tmp_path: Path) -> None:
    save_network(network(), tmp_path / "a.keras")
    (tmp_path / "inside").mkdir()
    path = rewrite(tmp_path / "a.keras", tmp_path / "inside" / "b.keras", **{"../evil": b"evil"})
    assert open_network(path) == network()
    assert not list(tmp_path.rglob("evil"))
