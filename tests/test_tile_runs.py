"""Trainings of phase one as runs: what makes two of them the same, and what is left alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from networks_for_tests import tile_network
from runs_for_tests import files_in
from tiles_for_tests import coloured_tiles, quick

from csc_xr.errors import CscError, NetworkError, ParameterError, ResumeError, TrainingError
from csc_xr.networks import precision
from csc_xr.runs.training import SplitSettings, TrainingResult, train_network
from csc_xr.tiles.store import write_tiles
from csc_xr.training.phase_one.checkpoints import Checkpoint, TrainingState

Train = Callable[..., TrainingResult]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model that trains in no time."""
    path = tmp_path_factory.mktemp("own") / "own.keras"
    tile_network(16).model.save(path)
    return path


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    """Write two stores of one file name."""
    paths = [tmp_path / place / "tiles.zarr" for place in ("east", "west")]
    for seed, path in enumerate(paths):
        write_tiles(coloured_tiles(8, seed=seed), path)
    return paths


@pytest.fixture
def train(own: Path, stores: list[Path], tmp_path: Path) -> Train:
    def train(changed: list[Path] | None = None, **others: Any) -> TrainingResult:
        settings = quick(**{"epochs": 1, **others.pop("settings", {})})
        given = {"network": own, "split": SplitSettings(by="scene"), **others}
        out = given.pop("out", tmp_path / "out" / "net.keras")
        return train_network(changed or stores, out, settings=settings, **given)

    return train


@pytest.fixture
def plain_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a machine that computes in float32 only."""
    monkeypatch.setattr(precision, "gpu_capability", lambda: None)
    monkeypatch.setattr(precision, "_cpu_flags", set)


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def test_stores_are_known_by_content_and_order(
    train: Train, stores: list[Path], tmp_path: Path
) -> None:
    assert not train().kept
    copies = [tmp_path / f"copy_{number}" for number in range(2)]
    for store, copy in zip(stores, copies, strict=True):
        shutil.copytree(store, copy)
    assert train(copies).kept
    with pytest.raises(ResumeError, match=r"made in another way: .*stores was"):
        train(stores[::-1])
    for number in range(2):  # the first as well as the last of one file name
        changed = list(stores)
        changed[number] = tmp_path / f"changed_{number}" / "tiles.zarr"
        write_tiles(coloured_tiles(8, seed=9), changed[number])
        with pytest.raises(ResumeError, match=r"made in another way: .*stores was"):
            train(changed)
    assert train().kept


@pytest.mark.usefixtures("plain_processor")
def test_settings_count_as_they_are_used(train: Train) -> None:
    """What "auto" and None stand for decides, and a limit that nothing comes near does not."""
    assert not train().kept
    assert train(settings={"precision": "auto"}).kept
    assert train(settings={"learning_rate": 1e-3}).kept  # that of models of the user's own
    assert train(settings={"memory_limit": 2**30}).kept
    with pytest.raises(ResumeError, match=r"settings\.memory_limit was None, now 9000"):
        train(settings={"memory_limit": 9000})
    with pytest.raises(ResumeError, match=r"settings\.tilt was 0, now 0\.1"):
        train(settings={"tilt": 0.1})
    with pytest.raises(ResumeError, match=r"cut\.per_class was None, now 3"):
        train(per_class=3)


@pytest.mark.usefixtures("plain_processor")
def test_what_fails_a_check_replaces_nothing(train: Train, tmp_path: Path) -> None:
    train()
    folder = tmp_path / "out"
    Checkpoint(folder / "net.checkpoint", {"task": "train"}).save(TrainingState())
    before = content(folder)
    none = SplitSettings(by="none")
    failing: list[tuple[type[CscError], str, dict[str, Any]]] = [
        (ParameterError, "'float16' needs a graphics card", {"settings": {"precision": "float16"}}),
        (ParameterError, "to be measured on", {"settings": {"patience": 2}, "split": none}),
        (ParameterError, "seed must be a whole", {"seed": -1}),
        (ParameterError, "Scenes to hold out", {"split": SplitSettings(by="none", scenes=["a"])}),
        (NetworkError, "absent.keras", {"network": "compact", "weights": "absent.keras"}),
        (NetworkError, "absent.keras", {"network": "absent.keras"}),
    ]
    for error, message, changed in failing:
        with pytest.raises(error, match=message):
            train(overwrite=True, **changed)
        assert content(folder) == before
    assert not train(overwrite=True).kept
    assert set(files_in(folder)) == set(before) - {"net.checkpoint"}


def test_a_finished_training_is_known_where_it_was_moved(train: Train, tmp_path: Path) -> None:
    first = train()
    (tmp_path / "out").rename(tmp_path / "moved")
    out = tmp_path / "moved" / "net.keras"
    again = train(out=out)
    assert again.kept
    assert set(again.outputs) == set(first.outputs)
    assert all(path.parent == out.parent and path.exists() for path in again.outputs.values())
    assert again.history is not None
    assert again.history["loss"].tolist() == pytest.approx(first.history["loss"].tolist())
    again.outputs["history_figure"].unlink()
    without_figure = train(out=out)
    assert without_figure.kept
    assert set(first.outputs) - set(without_figure.outputs) == {"history_figure"}
    again.outputs["history"].unlink()
    assert train(out=out).history is None
    shutil.copytree(tmp_path / "moved", tmp_path / "copied")
    assert train(out=tmp_path / "copied" / "net.keras").kept
    out.unlink()
    assert not train(out=out).kept


def test_a_training_that_diverges_writes_no_network(train: Train, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="must be a number, but is nan in epoch 1"):
        train(settings={"learning_rate": 1e20}, network="compact")
    assert not set(files_in(tmp_path / "out")) - {"net.checkpoint"}
