"""Models are data: a file that would run code is refused before Keras sees it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from csc_xr.errors import NetworkError
from csc_xr.legend import RIVER
from csc_xr.networks.builders import build_patch_network
from csc_xr.networks.bundle import Network, open_network, save_network
from csc_xr.networks.card import NetworkCard
from csc_xr.networks.safety import check_architecture

layers = keras.layers


def network() -> Network:
    model = build_patch_network(patch_size=3, n_bands=3, n_outputs=6, seed=1)
    card = NetworkCard(kind="patch", bands=("red", "green", "blue"), size=3, legend=RIVER)
    return Network(card, model)


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
    path = tmp_path / "b.keras"
    with zipfile.ZipFile(tmp_path / "a.keras") as source, zipfile.ZipFile(path, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, content if name == "config.json" else source.read(name))
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
