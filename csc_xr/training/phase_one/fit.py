"""Phase one's fit: a tile network from labelled tiles."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from csc_xr.accuracy.confusion import count_codes
from csc_xr.errors import CscWarning, ParameterError, TrainingError
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.networks.builders import TileArchitecture
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard
from csc_xr.networks.outputs import common_sums, with_common_outputs
from csc_xr.networks.precision import choose_precision, with_precision
from csc_xr.networks.runtime import keras
from csc_xr.priorities import check_seed
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
Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]

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
    kind where TensorFlow has one thread (``TF_NUM_INTRAOP_THREADS`` and
    ``TF_NUM_INTEROP_THREADS``, as ``csc-xr train`` sets them), and so is that of a training that
    was killed and goes on from its checkpoint.

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
        First weights for an architecture: the ``.keras`` file of a tile network of the same one,
        or the file of Keras application weights (without top).
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
    TrainingError
        When the loss is no number any more.

    Warns
    -----
    CscWarning
        When validation scenes were learned from before, or the output layer is replaced.
    """
    training = TileTraining(
        tiles, split, network=network, weights=weights, settings=settings or TrainSettings(),
        seed=seed,
    )  # fmt: skip
    return training.run(checkpoint, progress=progress, epoch_done=epoch_done)


class TileTraining:
    """A training that was checked and can begin; arguments as :func:`fit_tile_network` has them.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.
    split : TileSplit
        Which of them are learned from and validated on.
    network : str, keras.Model or Network
        What to begin with.
    weights : str or Path, optional
        First weights.
    settings : TrainSettings
        How to fit.
    seed : int
        Of all that is random.

    Attributes
    ----------
    settings : TrainSettings
        As given, but with the learning rate and precision that are used.
    """

    def __init__(
        self,
        tiles: xr.Dataset,
        split: TileSplit,
        *,
        network: TileArchitecture | keras.Model | Network,
        weights: str | Path | None,
        settings: TrainSettings,
        seed: int,
    ) -> None:
        self.tiles, self.split = validate_tiles(tiles), split
        self.seed = check_seed(seed)
        _check_measured(split, settings)
        precision = choose_precision(settings.precision)
        self.beginning = begin_network(self.tiles, network, weights=weights, seed=seed)
        self.settings = dataclasses.replace(
            settings,
            precision=precision,
            learning_rate=settings.learning_rate or self.beginning.learning_rate,
        )
        self._warn_of_scenes_known()

    def run(
        self,
        checkpoint: Checkpoint | None = None,
        *,
        progress: Progress | None = None,
        epoch_done: EpochDone | None = None,
    ) -> tuple[Network, TrainingReport]:
        """Train to the end, from the checkpoint if there is one.

        Parameters
        ----------
        checkpoint : Checkpoint, optional
            Where the training is kept while it lasts.
        progress : callable, optional
            Called with steps done and steps at most.
        epoch_done : callable, optional
            Called with the row of the history after each epoch.

        Returns
        -------
        network : Network
            A tile network.
        report : TrainingReport
            How it went.
        """
        settings = self.settings
        batches = TileBatches(self.tiles, self.split.learn, settings, self.seed)
        trainer = _Trainer(self.beginning.model, settings, batches.steps)
        outputs = np.array(self._outputs()[1], np.uint8)
        validation = _Validation(self.tiles, self.split.check, settings, outputs)
        state = (checkpoint.load() if checkpoint else None) or TrainingState()
        if state.variables:
            trainer.restore(state.variables)
        while (ending := _ending(state.history, settings)) is None:
            _take_epoch(trainer, batches, validation, settings, state, checkpoint, progress)
            if epoch_done:
                epoch_done(state.history[-1])
        kept_epoch = len(state.history)
        if settings.patience and ending != "target":
            kept_epoch = 1 + _best_epoch(state.history)
            trainer.set_weights(state.best)
        outcome = {"epochs": len(state.history), "kept_epoch": kept_epoch, "ended_by": ending}
        outcome["validation_accuracy"] = state.history[kept_epoch - 1]["validation_accuracy"]
        fitted = self._as_network(trainer.model(), outcome)
        codes = self.tiles["code"].values
        return fitted, TrainingReport(
            rows=state.history,
            ended_by=ending,
            kept_epoch=kept_epoch,
            tiles=_counts(codes[self.split.learn]),
            validation_tiles=_counts(codes[self.split.check]),
            confusion=_confusion(fitted, validation),
        )

    def _as_network(self, model: keras.Model, outcome: dict[str, Any]) -> Network:
        tiles, key = self.tiles, class_key_of(self.tiles)
        legend, codes = self._outputs()
        counts = _counts(tiles["code"].values[self.split.learn])
        if key is not None:
            model = with_common_outputs(model, key[0].common, legend.n_outputs)
        card = NetworkCard(
            kind="tile",
            bands=band_names(tiles),
            scale=tiles.attrs["scale"],
            size=tile_size(tiles),
            legend=legend,
            codes=codes,
            provenance={
                **self.beginning.facts,
                "seed": self.seed,
                "settings": dataclasses.asdict(self.settings),
                "split": self.split.description,
                "learned_scenes": self._scenes(self.split.learn),
                "tiles": {str(code): count for code, count in counts.items()},
                "cut": tiles.attrs.get("origin", {}),
                **({"local_classes": tiles.attrs["class_key"]["codes"]} if key else {}),
                **outcome,
            },
        )
        return Network(card, model)

    def _outputs(self) -> tuple[ClassLegend, tuple[int, ...]]:
        """Give the legend of the network, and the class of each output, 0 of untrained ones."""
        legend, key = tile_legend(self.tiles), class_key_of(self.tiles)
        learned = set(_counts(self.tiles["code"].values[self.split.learn]))
        if key is not None:
            local, legend = key
            learned = {local.common[code] for code in learned}
        return legend, tuple(code if code in learned else 0 for code in range(legend.n_outputs))

    def _scenes(self, chosen: NDArray[np.int64]) -> list[str]:
        numbers = np.unique(self.tiles["scene"].values[chosen]).tolist()
        return [self.tiles.attrs["scenes"][number]["name"] for number in numbers]

    def _warn_of_scenes_known(self) -> None:
        before = set(self.beginning.facts.get("first_learned_scenes", []))
        known = [name for name in self._scenes(self.split.check) if name in before]
        if known:
            warnings.warn(
                f"The network to begin with has learned from {', '.join(known)}, which this "
                "training validates on: the validation accuracy will be too good. Hold out scenes "
                "it has not seen (--validation-scenes), or those that were held out before.",
                CscWarning,
                stacklevel=4,
            )


class _Trainer:
    """A model at school: a copy in the precision asked for, with its optimiser."""

    def __init__(self, model: keras.Model, settings: TrainSettings, steps: int) -> None:
        self.pupil = with_precision(model, choose_precision(settings.precision))
        rate: Any = settings.learning_rate
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
    """The tiles that only measure; those of local classes are measured by the common ones."""

    def __init__(
        self,
        tiles: xr.Dataset,
        chosen: NDArray[np.int64],
        settings: TrainSettings,
        outputs: NDArray[np.uint8],
    ) -> None:
        self.outputs = outputs
        self.shelf = TileShelf(tiles, chosen, max(1, settings.memory_limit // 4))
        self.order = self.shelf.arrange(chosen, np.random.default_rng(0))
        self.scale = np.float32(tiles.attrs["scale"])
        self.codes, self.sums = tiles["code"].values[self.order], None
        key = class_key_of(tiles)
        if key is not None:
            common = key[0].common
            self.codes = np.array([common[code] for code in self.codes.tolist()], np.uint8)
            self.sums = common_sums(common, tile_legend(tiles).n_outputs, key[1].n_outputs)

    def probabilities(self, predict: Predict) -> NDArray[np.float32]:
        """Predict all tiles; shape (tiles, outputs), in the order of ``codes``."""
        found = []
        for start in range(0, len(self.order), _PREDICTED):
            values = self.shelf.take(self.order[start : start + _PREDICTED])
            found.append(predict(values.transpose(0, 2, 3, 1).astype(np.float32) / self.scale))
        return np.concatenate(found)

    def found(self, probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Give the class of each tile; outputs that were never trained are no class."""
        trained = np.where(self.outputs == NODATA_CODE, np.float32(-1), probabilities)
        classes: NDArray[np.uint8] = self.outputs[trained.argmax(axis=1)]
        return classes

    def measure(self, predict: Predict, penalty: float) -> dict[str, float]:
        """Give loss and accuracy of a network that is being trained."""
        probabilities = self.probabilities(predict)
        if self.sums is not None:
            probabilities = probabilities @ self.sums
        chosen = probabilities[np.arange(len(self.codes)), self.codes].astype(np.float64)
        right = self.found(probabilities) == self.codes
        return {
            "validation_loss": float(-np.log(np.clip(chosen, 1e-7, 1)).mean() + penalty),
            "validation_accuracy": float(right.mean()),
        }


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
        _check_loss(loss, state)
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
        row |= validation.measure(trainer.predict, trainer.penalty())
        _check_loss(row["validation_loss"], state)  # the last step may have been the one
    state.next_epoch({**row, "seconds": time.perf_counter() - began})
    if settings.patience and _best_epoch(state.history) == state.epoch - 1:
        state.best = trainer.weights()


def _check_loss(loss: Any, state: TrainingState) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"The loss of a training must be a number, but is {loss} in epoch {state.epoch + 1}, "
            f"step {state.step}. Lower the learning rate, or train in float32, and begin anew."
        )


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


def _confusion(network: Network, validation: _Validation) -> xr.DataArray | None:
    if not len(validation.order):
        return None
    predicted = validation.probabilities(
        lambda values: np.asarray(network.model.predict_on_batch(values), np.float32)
    )
    return count_codes(validation.codes, validation.found(predicted), legend=network.card.legend)


def _counts(codes: NDArray[np.uint8]) -> dict[int, int]:
    present, counts = np.unique(codes, return_counts=True)
    return {int(code): int(count) for code, count in zip(present, counts, strict=True)}
