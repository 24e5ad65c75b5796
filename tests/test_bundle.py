"""Networks with their cards: checked, told apart by content, shipped and kept whole."""

from __future__ import annotations

import json
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
from hypothesis import given
from hypothesis import strategies as st

from csc_xr.errors import LegendError, NetworkError, OutputError, ParameterError
from csc_xr.legend import GLACIER, RIVER, ClassLegend, LegendClass
from csc_xr.networks.builders import build_patch_network, build_tile_network
from csc_xr.networks.bundle import Network, open_network, save_network
from csc_xr.networks.card import NetworkCard, infer_card
from csc_xr.networks.safety import check_architecture

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

layers = keras.layers
GAPPY = ClassLegend("gappy", [LegendClass(1, "Ice", "white"), LegendClass(4, "Rock", "grey")])


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


# ---------------------------------------------------------------------------------------- cards


@given(
    bands=st.lists(st.sampled_from(["red", "green", "nir", "swir"]), min_size=1, unique=True),
    scale=st.none() | st.floats(1e-3, 1e6) | st.integers(1, 10000),
    half=st.integers(0, 7),
    codes=st.lists(st.integers(0, 5), min_size=1, unique=True).filter(lambda codes: codes != [0]),
    score=st.floats(0, 1),
)
def test_card_survives_json(
    bands: list[str], scale: float | None, half: int, codes: list[int], score: float
) -> None:
    one = card(
        bands=tuple(bands),
        scale=scale,
        size=2 * half + 1,
        codes=tuple(codes),
        provenance={"score": score, "scenes": ["a", "b"]},
    )
    two = NetworkCard.from_dict(json.loads(json.dumps(one.to_dict())))
    assert two == one
    assert hash(two) == hash(one)
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301


def test_card_does_not_share_its_provenance() -> None:
    provenance = {"scenes": ["a"]}
    one = card(provenance=provenance)
    provenance["scenes"].append("b")
    one.to_dict()["provenance"]["scenes"].append("c")
    assert one.provenance == {"scenes": ["a"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "pixel"}, "kind of a network is 'tile' or 'patch', got 'pixel'"),
        ({"bands": ()}, r"one or more different names, got \(\)"),
        ({"bands": "red"}, "one or more different names, got 'red'"),
        ({"bands": ("red", "red")}, "one or more different names"),
        ({"bands": ("red", " ")}, "one or more different names"),
        ({"scale": 0}, "scale of a network is a positive number, .* got 0"),
        ({"scale": float("inf")}, "scale of a network is a positive number, .* got inf"),
        ({"scale": "255"}, "scale of a network is a positive number, .* got '255'"),
        ({"size": 0}, "size of a network is a number of pixels, 1 or more, got 0"),
        ({"size": 3.0}, "size of a network is a number of pixels, 1 or more, got 3.0"),
        ({"size": 4}, "patch size is odd, .* got 4"),
        ({"legend": "river"}, "needs a ClassLegend as legend, got 'river'. open_legend"),
        ({"codes": (0, 9)}, r"another code of legend 'river' .* got codes \(0, 9\)"),
        ({"codes": (1, 1)}, r"got codes \(1, 1\)"),
        ({"codes": (0,)}, r"got codes \(0,\)"),
        ({"codes": (1, 2.0)}, r"codes of a network's outputs are integers, got \(1, 2.0\)"),
        ({"legend": GAPPY}, r"legend 'gappy' \(1, 4\) .* got codes \(0, 1, 2, 3, 4\)"),
        ({"provenance": {"when": object()}}, "provenance of a network is a mapping of JSON"),
        ({"provenance": {"loss": float("nan")}}, "provenance of a network is a mapping of JSON"),
    ],
)
def test_card_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        card(**changes)


def test_card_counts_outputs() -> None:
    card().check_outputs(6)
    with pytest.raises(
        NetworkError, match=r"codes for 6 outputs .* the network has 5. Pass codes="
    ):
        card().check_outputs(5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "tile"}, "needs kind, bands, scale, size, legend and codes, got .*KeyError"),
        ([], "needs kind, bands, .*TypeError"),
        ({**card().to_dict(), "legend": {"classes": []}}, "legend of a network card cannot be"),
        ({**card().to_dict(), "codes": None}, "needs kind, bands, .*TypeError"),
    ],
)
def test_content_of_a_card_is_checked(content: Any, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        NetworkCard.from_dict(content)


@pytest.mark.parametrize(
    ("n_outputs", "legend", "codes"),
    [(8, GLACIER, range(8)), (6, RIVER, range(6)), (4, RIVER, range(4))],
)
def test_legend_follows_from_outputs(n_outputs: int, legend: ClassLegend, codes: range) -> None:
    found = infer_card(kind="tile", size=50, n_bands=4, n_outputs=n_outputs)
    assert (found.legend, found.codes) == (legend, tuple(codes))
    assert (found.bands, found.scale) == (("red", "green", "blue", "nir"), None)


def test_codes_make_any_legend_fit() -> None:
    settings = {"kind": "patch", "size": 5, "n_bands": 4, "n_outputs": 3}
    found = infer_card(**settings, legend=RIVER, codes=[1, 3, 2])
    assert found.codes == (1, 3, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_bands": 5}, "networks of 3 or 4 bands, this one takes 5. Pass bands="),
        ({"n_outputs": 3}, r"networks of \[4, 6, 8\] outputs, this one has 3. Pass legend="),
        ({"legend": RIVER}, "legend 'river' has 6 outputs, this one has 4. Pass the legend"),
        ({"legend": RIVER, "codes": (1, 2)}, "codes for 2 outputs .* the network has 4"),
    ],
)
def test_what_cannot_be_inferred_is_asked_for(changes: dict[str, Any], message: str) -> None:
    settings = {"kind": "tile", "size": 50, "n_bands": 3, "n_outputs": 4, **changes}
    with pytest.raises(NetworkError, match=message):
        infer_card(**settings)


# ------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bands": ("red", "nir")},
            "network takes 3 bands, its card names 2: red, nir. Pass bands",
        ),
        ({"size": 5}, "network takes patchs? of 3 px, its card says 5 px"),
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


# ---------------------------------------------------------------------------------------- files


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


# --------------------------------------------------------------------------------------- safety


def plain_config() -> dict[str, Any]:
    config: dict[str, Any] = keras.saving.serialize_keras_object(network().model)
    return config


def head_of(config: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = config["config"]["layers"][-1]
    return entry


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "lambda layer": (
        lambda entry: entry.update(class_name="Lambda"),
        "got keras.layers.Lambda in layer 'output'. Rebuild",
    ),
    "other module": (
        lambda entry: entry.update(module="os", class_name="system"),
        "got os.system in layer 'output'",
    ),
    "private module": (
        lambda entry: entry.update(module="keras.src.layers.core.dense"),
        "got keras.src.layers.core.dense.Dense",
    ),
    "no module": (lambda entry: entry.pop("module"), "got None.Dense in layer 'output'"),
    "registered class": (
        lambda entry: entry.update(registered_name="mine>Dense"),
        "got keras.layers.Dense in layer 'output'",
    ),
    "pickled function": (
        lambda entry: entry["config"].update(
            activation={"class_name": "__lambda__", "config": {"value": "AAAA"}}
        ),
        "got None.__lambda__ in layer 'output'",
    ),
    "function": (
        lambda entry: entry["config"].update(
            activation={
                "class_name": "function",
                "module": "builtins",
                "config": "eval",
                "registered_name": "eval",
            }
        ),
        "got builtins.function in layer 'output'",
    ),
    "initializer": (
        lambda entry: entry["config"]["kernel_initializer"].update(class_name="deserialize"),
        "got keras.initializers.deserialize in layer 'output'",
    ),
    "typespec": (
        lambda entry: entry["config"].update(units={"class_name": "__typespec__", "config": []}),
        "got None.__typespec__",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_code_in_a_file_is_refused(case: str, tmp_path: Path) -> None:
    change, message = HOSTILE[case]
    config = plain_config()
    change(head_of(config))
    with pytest.raises(NetworkError, match=message):
        check_architecture(config, source="a.keras")
    save_network(network(), tmp_path / "a.keras")
    content = json.dumps(config).encode()
    path = rewrite(tmp_path / "a.keras", tmp_path / "b.keras", config__json=content)
    with pytest.raises(NetworkError, match=message):
        open_network(path)


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Lambda as Keras itself saves it, which runs as soon as its graph is built."""
    trace = tmp_path / "trace"
    monkeypatch.setenv("TRACE", str(trace))
    inputs = keras.Input((3, 3, 3))
    x = layers.Lambda(lambda y: __import__("os").mkdir(__import__("os").environ["TRACE"]) or y)(
        inputs
    )
    model = keras.Model(inputs, layers.Dense(6)(layers.Flatten()(x)))
    trace.rmdir()
    for name in ("a.keras", "a.h5"):
        model.save(tmp_path / name)
        with pytest.raises(NetworkError, match=r"got keras.layers.Lambda in layer 'lambda"):
            open_network(tmp_path / name)
    assert not trace.exists()
    keras.saving.load_model(tmp_path / "a.keras", safe_mode=False)
    assert trace.exists(), "the file must be one that would run code"
