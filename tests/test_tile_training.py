"""Phase one's fit: what is drawn, what is learned, when it ends, and that it can be killed."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks_for_tests import BANDS
from tiles_for_tests import coloured_tiles, fit_small, held, quick, small_model

from csc_xr.errors import OutputError, ParameterError, ResumeError, TrainingError
from csc_xr.networks.bundle import Network, open_network, save_network
from csc_xr.tiles.split import SplitRule, split_tiles
from csc_xr.training.phase_one.checkpoints import Checkpoint, TrainingState
from csc_xr.training.phase_one.fit import fit_tile_network
from csc_xr.training.phase_one.report import HISTORY, TrainingReport
from csc_xr.training.phase_one.settings import TrainSettings

BEST_BEFORE_LAST = 0
"""Seed of a training whose best epoch is not its last."""


def weights_equal(one: Network, other: Network) -> bool:
    pairs = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def without_seconds(report: TrainingReport) -> list[dict[str, Any]]:
    return [{key: row[key] for key in HISTORY if key != "seconds"} for row in report.rows]


def test_fit_learns_and_says_how() -> None:
    tiles, steps, rows = coloured_tiles(), [], []
    network, report = fit_tile_network(
        tiles,
        held(tiles),
        settings=quick(epochs=20, brightness=0.1, learning_rate=3e-3),
        seed=4,
        progress=lambda done, most: steps.append((done, most)),
        epoch_done=rows.append,
    )
    assert report.rows == rows
    history = report.history
    assert list(history.columns) == list(HISTORY)
    assert history["epoch"].tolist() == list(range(1, 21))
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["accuracy"].iloc[-1] > history["accuracy"].iloc[0]
    assert history["learning_rate"].is_monotonic_decreasing
    assert report.validation_accuracy == history["validation_accuracy"].iloc[-1] > 0.9
    assert (report.ended_by, report.kept_epoch) == ("epochs", 20)
    assert {code: n + report.validation_tiles[code] for code, n in report.tiles.items()} == {
        1: 20, 2: 20, 3: 5,
    }  # fmt: skip
    assert steps == [(done, 40) for done in range(1, 41)]  # 30 tiles are two batches of 16
    card = network.card
    assert (card.kind, card.size, card.scale, card.bands) == ("tile", 16, 255.0, BANDS)
    assert card.codes == (0, 1, 2, 3)
    expected = {"architecture": "compact", "seed": 4, "epochs": 20, "first_weights": "random"}
    assert expected.items() <= card.provenance.items()
    assert card.provenance["split"] == {"by": "scene", "scenes": ["scene 1"]}
    assert card.provenance["settings"]["brightness"] == 0.1


def test_scores_are_those_of_the_saved_network(tmp_path: Path) -> None:
    tiles = coloured_tiles()
    split = held(tiles)
    network, report = fit_small(tiles, split, settings=quick(epochs=5))
    save_network(network, tmp_path / "net.keras")
    again = open_network(tmp_path / "net.keras")
    values = tiles["pixels"].values[split.check].transpose(0, 2, 3, 1).astype(np.float32) / 255
    found = np.asarray(again.model.predict_on_batch(values)).argmax(axis=1)
    right = float((found == tiles["code"].values[split.check]).mean())
    assert report.validation_accuracy == pytest.approx(right)
    assert report.confusion is not None
    assert int(report.confusion.sum()) == len(split.check)
    scores = report.scores
    assert scores is not None
    accuracy = scores.set_index("Class")["F1_score"]["Accuracy"]
    assert accuracy == pytest.approx(right)


def test_validation_loss_is_that_of_keras() -> None:
    tiles = coloured_tiles()
    split = held(tiles)
    network, report = fit_tile_network(tiles, split, settings=quick(epochs=1))
    model = network.model
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    values = tiles["pixels"].values[split.check].transpose(0, 2, 3, 1).astype(np.float32) / 255
    loss, accuracy = model.test_on_batch(values, tiles["code"].values[split.check])
    assert report.rows[0]["validation_loss"] == pytest.approx(float(loss), rel=1e-4)
    assert report.rows[0]["validation_accuracy"] == pytest.approx(float(accuracy))


def test_seed_decides_and_validation_tiles_are_not_learned_from() -> None:
    """Other values in the validation scene change what is measured, not the weights."""
    tiles = coloured_tiles(8)
    changed = tiles.copy(deep=True)
    values = tiles["pixels"].values.copy()
    values[tiles["scene"].values == 2] = 255 - values[tiles["scene"].values == 2]
    changed["pixels"] = tiles["pixels"].copy(data=values)
    one, again, third = (
        fit_small(given, held(given, 2), settings=quick(epochs=1, noise=5), seed=seed)[0]
        for given, seed in ((tiles, 1), (changed, 1), (tiles, 2))
    )
    assert weights_equal(one, again)
    assert not weights_equal(one, third)


def test_chunks_of_the_store_do_not_matter() -> None:
    one, other = (
        fit_small(tiles, held(tiles), settings=quick())[0]
        for tiles in (coloured_tiles(chunk=3), coloured_tiles(chunk=45))
    )
    assert weights_equal(one, other)


def test_stops_at_the_target_and_leaves_unseen_classes_out() -> None:
    tiles = coloured_tiles()
    tiles = tiles.isel(tile=np.flatnonzero(tiles["code"].values < 3))
    network, report = fit_small(
        tiles, held(tiles, 0), settings=quick(epochs=30, target_accuracy=0.5)
    )
    assert report.ended_by == "target"
    assert len(report.rows) < 30
    assert network.card.provenance["epochs"] == len(report.rows)
    assert network.card.codes == (0, 1, 2, 0)
    measured = [row["validation_accuracy"] for row in report.rows]
    assert measured[-1] >= 0.5 > max(measured[:-1], default=0)


def test_patience_goes_back_to_the_best_epoch() -> None:
    tiles = coloured_tiles()
    settings = quick(epochs=40, patience=2, learning_rate=0.05, decay="constant")
    network, report = fit_small(tiles, held(tiles), settings=settings)
    measured = [row["validation_accuracy"] for row in report.rows]
    assert report.kept_epoch == 1 + int(np.argmax(measured))
    if report.ended_by == "patience":
        assert len(measured) == report.kept_epoch + 2
    again, _ = fit_small(
        tiles, held(tiles), settings=dataclasses.replace(settings, epochs=report.kept_epoch)
    )
    assert weights_equal(network, again)


def test_patience_keeps_the_best_epoch_where_all_were_taken() -> None:
    tiles = coloured_tiles()
    settings = quick(epochs=6, patience=6, learning_rate=0.05, decay="constant")
    network, report = fit_small(tiles, held(tiles), settings=settings, seed=BEST_BEFORE_LAST)
    measured = [row["validation_accuracy"] for row in report.rows]
    assert (report.ended_by, len(measured)) == ("epochs", 6)
    assert report.kept_epoch == 1 + int(np.argmax(measured)) < 6
    provenance = network.card.provenance
    assert (provenance["kept_epoch"], provenance["epochs"]) == (report.kept_epoch, 6)
    assert provenance["validation_accuracy"] == report.validation_accuracy == max(measured)
    shorter = dataclasses.replace(settings, epochs=report.kept_epoch, patience=0)
    again, _ = fit_small(tiles, held(tiles), settings=shorter, seed=BEST_BEFORE_LAST)
    assert weights_equal(network, again)


@pytest.mark.parametrize(("by", "batch", "step"), [("none", 16, 2), ("scene", 64, 1)])
def test_a_training_that_diverges_is_ended(by: SplitRule, batch: int, step: int) -> None:
    """In the middle of an epoch, and by its last step, which only validation tells."""
    tiles = coloured_tiles()
    settings = quick(epochs=1, learning_rate=1e20, batch_size=batch)
    message = rf"is nan in epoch 1, step {step}\. Lower the learning rate"
    with pytest.raises(TrainingError, match=message):
        fit_small(tiles, split_tiles(tiles, by=by), settings=settings)


def test_accuracies_are_those_of_the_classes_that_were_learned() -> None:
    """Outputs that were never trained may be the highest at first, but are no class."""
    tiles = coloured_tiles()
    split = held(tiles)
    network, report = fit_small(tiles, split, settings=quick(epochs=1, learning_rate=1e-9))
    values = tiles["pixels"].values[split.check].transpose(0, 2, 3, 1).astype(np.float32) / 255
    outputs = np.asarray(network.model.predict_on_batch(values))
    assert (outputs.argmax(axis=1) == 0).any()
    right = (1 + outputs[:, 1:].argmax(axis=1) == tiles["code"].values[split.check]).mean()
    assert report.validation_accuracy == pytest.approx(right)
    assert report.scores is not None
    assert report.scores.set_index("Class")["F1_score"]["Accuracy"] == pytest.approx(right)


def test_without_validation_nothing_is_measured() -> None:
    tiles = coloured_tiles(8)
    _, report = fit_small(tiles, split_tiles(tiles, by="none"), settings=quick(epochs=1))
    assert report.scores is None
    assert report.validation_accuracy is None
    assert report.history["validation_accuracy"].isna().all()


def test_weighting_by_class_reaches_the_loss() -> None:
    tiles = coloured_tiles(8)
    split = split_tiles(tiles, by="none")
    weighed, plain, equal, other = (
        fit_small(tiles, split, settings=quick(epochs=1, class_weights=weights, class_power=power))
        for power in (1, 0)
        for weights in ("balanced", "none")
    )
    assert not weights_equal(weighed[0], plain[0])
    assert weights_equal(equal[0], other[0])  # classes drawn equally weigh equally


# Killed and started again


class KilledError(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = coloured_tiles()
    split = held(tiles)
    settings = quick(epochs=6, patience=4, noise=3, precision="float32")
    arguments: dict[str, Any] = {"settings": settings, "seed": 3, "network": small_model()}
    alone, expected = fit_tile_network(tiles, split, **arguments)
    random = np.random.default_rng(5)
    monkeypatch.setattr(Checkpoint, "is_due", lambda _: bool(random.random() < 0.6))
    kills, done_before = 0, []

    def maybe_kill(done: int, _: int) -> None:
        done_before.append(done)
        if random.random() < 0.25:
            raise KilledError

    while True:
        checkpoint = Checkpoint(tmp_path / "net.checkpoint", {"seed": 3})
        try:
            network, report = fit_tile_network(
                tiles, split, checkpoint=checkpoint, progress=maybe_kill, **arguments
            )
            break
        except KilledError:
            kills += 1
    assert kills >= 2
    assert without_seconds(report) == without_seconds(expected)
    assert weights_equal(network, alone)
    assert (report.ended_by, report.kept_epoch) == (expected.ended_by, expected.kept_epoch)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    tiles = coloured_tiles(8)
    path = tmp_path / "net.checkpoint"
    checkpoint = Checkpoint(path, {"seed": 1})
    assert checkpoint.stored_identity() is None
    assert checkpoint.load() is None
    checkpoint.save(TrainingState(epoch=1, variables=[np.zeros(3)]))
    assert checkpoint.stored_identity() == {"seed": 1}
    with pytest.raises(ResumeError, match="holds one with other tiles, settings or first weights"):
        fit_tile_network(
            tiles, held(tiles), settings=quick(), checkpoint=Checkpoint(path, {"seed": 2})
        )
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(OutputError, match="must be the checkpoint of a training, but cannot be"):
        checkpoint.load()
    checkpoint.remove()
    assert not path.exists()


def test_a_checkpoint_never_unpickles(tmp_path: Path) -> None:
    path = tmp_path / "net.checkpoint"
    facts = json.dumps({"identity": {}, "state": {}, "counts": {"variables": 1, "best": 0}})
    with path.open("wb") as file:
        np.savez(file, facts=np.array(facts), variables_0=np.array([{}], dtype=object))
    with pytest.raises(OutputError, match="allow_pickle=False"):
        Checkpoint(path, {}).load()


# Settings


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of 1 or more, got 0"),
        ({"epochs": 2.5}, r"epochs must be a whole number of 1 or more, got 2\.5"),
        ({"epochs": True}, "epochs must be a whole number of 1 or more, got True"),
        ({"batch_size": 0}, "batch_size must be a whole number of 1 or more, got 0"),
        ({"batch_size": 1.5}, r"batch_size must be a whole number of 1 or more, got 1\.5"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, or None, got 0.0"),
        ({"decay": "steps"}, "decay must be cosine or constant, got steps"),
        ({"target_accuracy": 1.2}, "target_accuracy must lie above 0 and up to 1, got 1.2"),
        ({"patience": -1}, "patience must be a whole number of 0 or more epochs, got -1"),
        ({"class_power": 1.5}, "class_power must lie in 0 to 1, got 1.5"),
        ({"class_weights": "equal"}, "class_weights must be none or balanced, got equal"),
        ({"tilt": -0.1}, "tilt must be 0 or more, got -0.1"),
        ({"brightness": 1.0}, "brightness must be 0 or more and below 1, got 1.0"),
        ({"noise": -2}, "noise must be 0 or more, got -2"),
        ({"noise": math.inf}, "noise must be 0 or more, got inf"),
        ({"tilt": math.nan}, "tilt must be 0 or more, got nan"),
        ({"learning_rate": math.inf}, "learning_rate must be above 0, or None, got inf"),
        ({"precision": "x"}, "precision must be one of float32, bfloat16, float16, auto, got x"),
        ({"memory_limit": 0}, "memory_limit must be 1 byte or more, got 0"),
    ],
)
def test_settings_out_of_range(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        TrainSettings(**changed)


@pytest.mark.parametrize("changed", [{"target_accuracy": 0.9}, {"patience": 3}])
def test_what_is_steered_must_be_measured(changed: dict[str, Any]) -> None:
    tiles = coloured_tiles(8)
    with pytest.raises(ParameterError, match="need tiles to be measured on, but the split holds"):
        fit_tile_network(tiles, split_tiles(tiles, by="none"), settings=quick(**changed))


def test_seeds_are_not_negative() -> None:
    tiles = coloured_tiles(8)
    with pytest.raises(ParameterError, match="seed must be a whole number of 0 or more, got -1"):
        fit_small(tiles, held(tiles), settings=quick(), seed=-1)
