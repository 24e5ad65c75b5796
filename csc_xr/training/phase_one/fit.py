"""Phase one's fit: a tile network from labelled tiles."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from csc_xr.accuracy import count_codes
from csc_xr.errors import ParameterError
from csc_xr.legend import NODATA_CODE
from csc_xr.networks.builders import TileArchitecture
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard
from csc_xr.networks.outputs import with_common_outputs
from csc_xr.networks.precision import choose_precision, with_precision
from csc_xr.tiles.keys import class_key_of
from csc_xr.tiles.layout import band_names, tile_legend, tile_size, validate_tiles
from csc_xr.tiles.split import TileSplit
from csc_xr.training.phase_one.batches import Batch, TileBatches, TileShelf
from csc_xr.training.phase_one.beginning import begin_network
from csc_xr.training.phase_one.checkpoints import Arrays, Checkpoint, TrainingState
from csc_xr.training.phase_one.report import Ending, TrainingReport
from csc_xr.training.phase_one.settings import TrainSettings

Progress = Callable[[int, int], None]
EpochDone = Callable[[dict[str, Any]], None]

_PREDICTED = 256  # tiles predicted at once


def fit_tile_network(
    tiles: xr.Dataset,
    split: TileSplit,
    *,
    network: TileArchitecture | keras.Model | Network = "compact",
    weights: str | Path | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    epoch_done: EpochDone | None = None,
) -> tuple[Network, TrainingReport]:
    """Fit a phase-one network to labelled tiles.

    With the same tiles, settings and seed the result is the same to the bit on machines of one
    kind where TensorFlow has one number of threads, and so is that of a training that was
    killed and goes on from its checkpoint.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles, from a store or lazily cut.
    split : TileSplit
        Which of them are learned from and validated on.
    network : {"compact", "vgg16", "densenet121", "resnet50"}, keras.Model or Network
        An architecture to begin anew; a model of the user's own, with an output for each code
        from 0 on; or a trained tile network to go on from (of other classes, it gets a new
        output layer). What is given is left as it is.
    weights : str or Path, optional
        Keras application weights (without top) to begin from, for the architectures that are
        such applications.
    settings : TrainSettings, optional
        How to fit.
    seed : int
        Of the first weights, the order of the tiles and their augmentation.
    checkpoint : Checkpoint, optional
        Where the training is kept while it lasts; one that is there is gone on with.
    progress : callable, optional
        Called with steps done and steps at most.
    epoch_done : callable, optional
        Called with the row of the history after each epoch.

    Returns
    -------
    network : Network
        A tile network. Tiles of local classes (:mod:`csc_xr.tiles.keys`) give a network of the
        common ones: the probability of a common class is the sum over its local classes.
    report : TrainingReport
        How it went.

    Raises
    ------
    ParameterError
        When a setting cannot be used, or asks for validation tiles where there are none.
    TileError
        When the tiles are not laid out as they must be, or do not fit the network.
    NetworkError
        When a model or weights file does not fit the tiles.
    ResumeError
        When the checkpoint belongs to another training.
    """
    settings = settings or TrainSettings()
    tiles = validate_tiles(tiles)
    _check_measured(split, settings)
    beginning = begin_network(tiles, network, weights=weights, seed=seed)
    batches = TileBatches(tiles, split.learn, settings, seed)
    trainer = _Trainer(beginning.model, settings, beginning.learning_rate, batches.steps)
    validation = _Validation(tiles, split.check, settings)
    state = (checkpoint.load() if checkpoint else None) or TrainingState()
    if state.variables:
        trainer.restore(state.variables)
    while (ending := _ending(state.history, settings)) is None:
        _take_epoch(trainer, batches, validation, settings, state, checkpoint, progress)
        if epoch_done:
            epoch_done(state.history[-1])
    kept_epoch = len(state.history)
    if ending == "patience":
        kept_epoch = 1 + _best_epoch(state.history)
        trainer.set_weights(state.best)
    fitted = _as_network(trainer.model(), tiles, split, beginning.facts, settings, seed)
    report = TrainingReport(
        rows=state.history,
        ended_by=ending,
        kept_epoch=kept_epoch,
        tiles=_counts(tiles["code"].values[split.learn]),
        validation_tiles=_counts(tiles["code"].values[split.check]),
        confusion=_confusion(fitted, validation, tiles),
    )
    return _with_outcome(fitted, report), report


class _Trainer:
    """A model at school: a copy in the precision asked for, with its optimiser."""

    def __init__(
        self, model: keras.Model, settings: TrainSettings, learning_rate: float, steps: int
    ) -> None:
        self.pupil = with_precision(model, choose_precision(settings.precision))
        rate: Any = settings.learning_rate or learning_rate
        if settings.decay == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(rate, settings.epochs * steps, alpha=0.01)
        states = list(self.pupil.variables)  # before compile adds those of metrics
        self.pupil.compile(
            optimizer=keras.optimizers.Adam(rate, amsgrad=True),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        self.pupil.optimizer.build(self.pupil.trainable_variables)
        self._variables = [*states, *self.pupil.optimizer.variables]

    def learn(self, batch: Batch) -> tuple[float, float]:
        """Take a step; give its loss and the share of its tiles classed right."""
        self.pupil.reset_metrics()
        loss, right = self.pupil.train_on_batch(
            batch.tiles, batch.codes, sample_weight=batch.weights
        )
        return float(loss), float(right)

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self.pupil.predict_on_batch(values), np.float32)

    def penalty(self) -> float:
        return float(sum(map(float, self.pupil.losses)))

    def learning_rate(self) -> float:
        return float(self.pupil.optimizer.learning_rate)

    def variables(self) -> Arrays:
        return [np.asarray(variable) for variable in self._variables]

    def restore(self, values: Arrays) -> None:
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def weights(self) -> Arrays:
        values: Arrays = self.pupil.get_weights()
        return values

    def set_weights(self, values: Arrays) -> None:
        self.pupil.set_weights(values)

    def model(self) -> keras.Model:
        return with_precision(self.pupil, "float32")


class _Validation:
    """The tiles that only measure."""

    def __init__(self, tiles: xr.Dataset, chosen: NDArray[np.int64], settings: TrainSettings):
        self.shelf = TileShelf(tiles, chosen, settings.memory_limit)
        self.order = self.shelf.arrange(chosen, np.random.default_rng(0))
        self.codes = tiles["code"].values[self.order]
        self.scale = np.float32(tiles.attrs["scale"])

    def probabilities(
        self, predict: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Predict all tiles; shape (tiles, outputs), in the order of ``codes``."""
        found = []
        for start in range(0, len(self.order), _PREDICTED):
            values = self.shelf.take(self.order[start : start + _PREDICTED])
            found.append(predict(values.transpose(0, 2, 3, 1).astype(np.float32) / self.scale))
        return np.concatenate(found)


def _take_epoch(
    trainer: _Trainer,
    batches: TileBatches,
    validation: _Validation,
    settings: TrainSettings,
    state: TrainingState,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
) -> None:
    began = time.perf_counter() - state.seconds
    for batch in batches.epoch(state.epoch, state.step):
        loss, right = trainer.learn(batch)
        state.step, state.loss, state.right = state.step + 1, state.loss + loss, state.right + right
        if progress:
            done = state.epoch * batches.steps + state.step
            progress(done, settings.epochs * batches.steps)
        if checkpoint and checkpoint.is_due():
            state.seconds = time.perf_counter() - began
            state.variables = trainer.variables()
            checkpoint.save(state)
    row = {
        "epoch": state.epoch + 1,
        "loss": state.loss / batches.steps,
        "accuracy": state.right / batches.steps,
        "validation_loss": None,
        "validation_accuracy": None,
        "learning_rate": trainer.learning_rate(),
    }
    if len(validation.order):
        probabilities = validation.probabilities(trainer.predict)
        row |= _measured(probabilities, validation.codes, trainer.penalty())
    state.history.append({**row, "seconds": time.perf_counter() - began})
    if settings.patience and _best_epoch(state.history) == state.epoch:
        state.best = trainer.weights()
    state.epoch, state.step, state.loss, state.right, state.seconds = (
        state.epoch + 1,
        0,
        0.0,
        0.0,
        0.0,
    )


def _measured(
    probabilities: NDArray[np.float32], codes: NDArray[np.uint8], penalty: float
) -> dict[str, float]:
    chosen = np.clip(probabilities[np.arange(len(codes)), codes].astype(np.float64), 1e-7, 1)
    right = probabilities.argmax(axis=1) == codes
    return {
        "validation_loss": float(-np.log(chosen).mean() + penalty),
        "validation_accuracy": float(right.mean()),
    }


def _ending(history: list[dict[str, Any]], settings: TrainSettings) -> Ending | None:
    """Say why a training with this history is over, if it is."""
    if not history:
        return None
    target, last = settings.target_accuracy, history[-1]["validation_accuracy"]
    if target is not None and last >= target:
        return "target"
    if settings.patience and len(history) - 1 - _best_epoch(history) >= settings.patience:
        return "patience"
    return "epochs" if len(history) >= settings.epochs else None


def _best_epoch(history: list[dict[str, Any]]) -> int:
    """Position of the best epoch; of equals the first."""
    return int(np.argmax([row["validation_accuracy"] for row in history]))


def _check_measured(split: TileSplit, settings: TrainSettings) -> None:
    if settings.measures and not len(split.check):
        raise ParameterError(
            "target_accuracy and patience need tiles to be measured on, but the split holds none "
            "out. Split by scene or by block, or leave both settings out."
        )


def _as_network(
    model: keras.Model,
    tiles: xr.Dataset,
    split: TileSplit,
    facts: dict[str, Any],
    settings: TrainSettings,
    seed: int,
) -> Network:
    legend, key = tile_legend(tiles), class_key_of(tiles)
    learned = set(np.unique(tiles["code"].values[split.learn]).tolist())
    if key is not None:
        local, legend = key
        model = with_common_outputs(model, local.common, legend.n_outputs)
        learned = {local.common[code] for code in learned}
    card = NetworkCard(
        kind="tile",
        bands=band_names(tiles),
        scale=tiles.attrs["scale"],
        size=tile_size(tiles),
        legend=legend,
        codes=tuple(code if code in learned else 0 for code in range(legend.n_outputs)),
        provenance={
            **facts,
            "seed": seed,
            "settings": vars(settings),
            "split": split.description,
            "tiles": {str(k): n for k, n in _counts(tiles["code"].values[split.learn]).items()},
            "scenes": [entry["name"] for entry in tiles.attrs["scenes"]],
            "cut": tiles.attrs.get("origin", {}),
            **({"local_classes": tiles.attrs["class_key"]["codes"]} if key else {}),
        },
    )
    return Network(card, model)


def _with_outcome(network: Network, report: TrainingReport) -> Network:
    outcome = {
        "epochs": len(report.rows),
        "kept_epoch": report.kept_epoch,
        "ended_by": report.ended_by,
        "validation_accuracy": report.validation_accuracy,
    }
    provenance = {**network.card.provenance, **outcome}
    return Network(dataclasses.replace(network.card, provenance=provenance), network.model)


def _confusion(network: Network, validation: _Validation, tiles: xr.Dataset) -> xr.DataArray | None:
    if not len(validation.order):
        return None
    predicted = validation.probabilities(
        lambda values: np.asarray(network.model.predict_on_batch(values), np.float32)
    )
    codes, key = validation.codes, class_key_of(tiles)
    if key is not None:
        codes = np.array([key[0].common[code] for code in codes.tolist()], np.uint8)
    outputs = np.array(network.card.codes, np.uint8)
    predicted[:, outputs == NODATA_CODE] = -1  # outputs that are never predicted
    return count_codes(codes, outputs[predicted.argmax(axis=1)], legend=network.card.legend)


def _counts(codes: NDArray[np.uint8]) -> dict[int, int]:
    present, counts = np.unique(codes, return_counts=True)
    return {int(code): int(count) for code, count in zip(present, counts, strict=True)}
