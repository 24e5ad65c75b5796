"""Phase two's fit: a small network, or any classifier of pixels, from one scene's samples."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from csc_xr.errors import ParameterError
from csc_xr.legend import ClassLegend
from csc_xr.networks.builders import build_patch_network
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard
from csc_xr.networks.pixelwise import PixelClassifier
from csc_xr.networks.runtime import keras
from csc_xr.training.phase_two.sampling import Samples

Progress = Callable[[int, int], None]

WARM_SHARE = 3
"""A fit that goes on from another network takes one part in so many of the steps."""

_fitting = threading.Lock()


@dataclass(frozen=True)
class FitSettings:
    """How phase two samples and fits. The defaults are measured: docs/accuracy.md.

    Attributes
    ----------
    samples_per_class : int
        Pixels drawn of each class of the tile raster.
    activation : {"relu", "linear"}
        Of the convolutions; the published networks are linear.
    batch_size : int
        Samples in a step.
    steps : int, optional
        Most optimiser steps; the learning rate falls along half a cosine over them. Left out,
        100 for each class found, 300 at least.
    learning_rate : float
        Of the first step.
    class_weights : {"none", "balanced"}
        With "balanced", samples of a class weigh in inverse proportion to their number; it
        matters where a class has fewer pixels than ``samples_per_class``.
    frequency_power : float
        Samples hold each class equally, scenes do not: the fitted probabilities are multiplied
        by the share of each class in the tile raster to this power. 0 trusts the equal classes,
        1 the shares.
    patience : int
        Stop when ``patience`` steps brought no better validation accuracy (by 0.005), and go
        back to the best weights; 0 uses all steps. Never stops before a quarter of the steps.
    validation_share : float
        Share of the samples kept out of the fit, to measure it by.
    """

    samples_per_class: int = 5000
    activation: Literal["relu", "linear"] = "relu"
    batch_size: int = 256
    steps: int | None = None
    learning_rate: float = 1e-3
    class_weights: Literal["none", "balanced"] = "balanced"
    frequency_power: float = 0.15
    patience: int = 0
    validation_share: float = 0.2

    def __post_init__(self) -> None:
        for name in ("samples_per_class", "batch_size", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ParameterError(f"{name} must be 1 or more, got {value}.")
        if self.patience < 0:
            raise ParameterError(f"patience must be 0 or more steps, got {self.patience}.")
        if not 0 <= self.frequency_power <= 1:
            raise ParameterError(f"frequency_power must lie in 0 to 1, got {self.frequency_power}.")
        if not 0 < self.validation_share < 1:
            raise ParameterError(
                f"validation_share must lie between 0 and 1, got {self.validation_share}."
            )
        if not self.learning_rate > 0:
            raise ParameterError(f"learning_rate must be above 0, got {self.learning_rate}.")
        choices = {"activation": ("relu", "linear"), "class_weights": ("none", "balanced")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ParameterError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}."
                )

    def steps_for(self, n_classes: int) -> int:
        """Give the most steps of a fit.

        Parameters
        ----------
        n_classes : int
            Classes that have samples.

        Returns
        -------
        int
            ``steps``, or what takes its place when it is left out.
        """
        return self.steps or max(300, 100 * n_classes)


@dataclass(frozen=True)
class FitReport:
    """What a fit went through.

    Attributes
    ----------
    steps : int
        Optimiser steps taken.
    validation_accuracy : float or None
        Share of the samples kept out that the network classes as their tile; None where there
        were too few samples to keep any out.
    history : list of tuple
        Step and validation accuracy at every check; empty without patience.
    samples : dict of int to int
        Samples by class code.
    """

    steps: int
    validation_accuracy: float | None
    history: list[tuple[int, float]]
    samples: dict[int, int]


def fit_patch_network(
    samples: Samples,
    *,
    bands: tuple[str, ...],
    scale: float,
    legend: ClassLegend,
    class_shares: dict[int, float],
    seed: int,
    settings: FitSettings | None = None,
    initial: Network | None = None,
    progress: Progress | None = None,
) -> tuple[Network, FitReport]:
    """Fit a patch network to the samples of one scene.

    With the same samples, seed and settings the result is the same to the bit on any machine of
    one kind, since TensorFlow runs on one thread. Threads of a process take turns.

    Parameters
    ----------
    samples : Samples
        Patches of one size and their classes.
    bands : tuple of str
        Names of the patches' bands.
    scale : float
        Divisor of the patches' numbers.
    legend : ClassLegend
        Classes; the network has an output for each code up to the highest.
    class_shares : dict of int to float
        Share of each class in the scene's tile raster.
    seed : int
        Of the first weights, the validation split and the order of the samples.
    settings : FitSettings, optional
        How to fit.
    initial : Network, optional
        A patch network of the same bands, size and legend whose weights are the first ones; a
        third of the steps then do.
    progress : callable, optional
        Called with steps done and steps at most.

    Returns
    -------
    network : Network
        A patch network.
    report : FitReport
        How it went.

    Raises
    ------
    ParameterError
        When the initial network has another shape.
    """
    settings = settings or FitSettings()
    steps = settings.steps_for(len(samples.counts()))
    if initial is not None:
        steps = max(1, steps // WARM_SHARE)
    patch_size = samples.patches.shape[1]
    shape = _Shape(patch_size, len(bands), legend.n_outputs, settings.activation)
    model = shape.build(seed)
    if initial is not None:
        _check_initial(initial, model)
        model.set_weights(initial.model.get_weights())
    with _fitting:
        trainer = _trainer(shape, steps, settings.learning_rate)
        _begin_anew(trainer, model.get_weights())
        report = _run_steps(trainer, samples, scale, seed, settings, steps, progress)
        model.set_weights(trainer.get_weights())
    _shift_by_frequency(model, class_shares, settings.frequency_power)
    card = NetworkCard(
        kind="patch",
        bands=bands,
        scale=scale,
        size=patch_size,
        legend=legend,
        codes=tuple(code if code in report.samples else 0 for code in range(legend.n_outputs)),
        provenance={
            "samples": {str(code): count for code, count in report.samples.items()},
            "seed": seed,
            "steps": report.steps,
            "validation_accuracy": report.validation_accuracy,
        },
    )
    return Network(card, model), report


def pixel_estimator(name: str, seed: int) -> Any:
    """Make what is to classify pixels, by its name.

    Parameters
    ----------
    name : str
        ``network`` for the patch network, or ``random-forest``, for patch size 1.
    seed : int
        Of the forest.

    Returns
    -------
    sklearn classifier or None
        None for the patch network.

    Raises
    ------
    ParameterError
        When the name is another.
    """
    if name == "network":
        return None
    if name != "random-forest":
        raise ParameterError(f"classifier must be network or random-forest, got {name!r}.")
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=100, max_depth=16, random_state=seed)


def fit_pixel_classifier(
    samples: Samples,
    estimator: Any,
    *,
    bands: tuple[str, ...],
    scale: float,
    legend: ClassLegend,
) -> PixelClassifier:
    """Fit a scikit-learn classifier to single pixels.

    Parameters
    ----------
    samples : Samples
        Patches of size 1.
    estimator : sklearn classifier
        Has ``fit`` and ``predict_proba``; fitted in place.
    bands : tuple of str
        Names of the patches' bands.
    scale : float
        Divisor of the patches' numbers.
    legend : ClassLegend
        Classes.

    Returns
    -------
    PixelClassifier
        The fitted classifier with its card.

    Raises
    ------
    ParameterError
        When the patches are larger than one pixel, or the estimator gives no probabilities.
    """
    size = samples.patches.shape[1]
    if size != 1:
        raise ParameterError(
            f"A scikit-learn classifier takes single pixels, got patch size {size}. "
            "Use patch_size=1."
        )
    if not hasattr(estimator, "predict_proba"):
        raise ParameterError(
            f"The classifier must have predict_proba, which {type(estimator).__name__} has not. "
            "Use another, or switch its probabilities on."
        )
    pixels = samples.patches.reshape(len(samples.codes), -1).astype(np.float32) / scale
    estimator.fit(pixels, samples.codes)
    card = NetworkCard(
        kind="patch",
        bands=bands,
        scale=scale,
        size=1,
        legend=legend,
        codes=tuple(int(code) for code in estimator.classes_),
        provenance={"classifier": type(estimator).__name__},
    )
    return PixelClassifier(card, estimator)


def class_shares(classes: xr.DataArray) -> dict[int, float]:
    """Give the share of each class among the pixels that have one.

    Parameters
    ----------
    classes : xarray.DataArray
        Codes of any shape, uint8; computed.

    Returns
    -------
    dict of int to float
        Shares by code, 0 left out; they sum to 1.
    """
    counts = np.bincount(np.asarray(classes.data).ravel(), minlength=1)
    counts[0] = 0
    total = int(counts.sum())
    return {int(code): float(counts[code] / total) for code in np.flatnonzero(counts)}


class _Shape(NamedTuple):
    """What decides the graph of a patch network."""

    patch_size: int
    n_bands: int
    n_outputs: int
    activation: Literal["relu", "linear"]

    def build(self, seed: int) -> Any:
        return build_patch_network(**self._asdict(), momentum=0.95, seed=seed)


@lru_cache(maxsize=8)
def _trainer(shape: _Shape, steps: int, learning_rate: float) -> Any:
    """Compile a model that all fits of one shape and length use in turn.

    TensorFlow never gives back what a compiled training step takes, some 20 MB: a process that
    fits one scene after another must not compile one for each.
    """
    model = shape.build(0)
    decay = keras.optimizers.schedules.CosineDecay(learning_rate, steps, alpha=0.01)
    model.compile(
        optimizer=keras.optimizers.Adam(decay, amsgrad=True),
        loss="sparse_categorical_crossentropy",
        weighted_metrics=[],
    )
    return model


def _begin_anew(model: Any, weights: list[NDArray[np.float32]]) -> None:
    model.set_weights(weights)
    model.optimizer.build(model.trainable_variables)
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))


def _check_initial(initial: Network, model: Any) -> None:
    found = [values.shape for values in initial.model.get_weights()]
    needed = [values.shape for values in model.get_weights()]
    if found != needed:
        raise ParameterError(
            "A fit goes on from a patch network of the same bands, patch size and legend, got one "
            f"for bands {', '.join(initial.card.bands)}, patches of {initial.card.size} px and "
            f"legend {initial.card.legend.name!r}. Leave it out, or pass one of the same kind."
        )


def _run_steps(
    model: Any,
    samples: Samples,
    scale: float,
    seed: int,
    settings: FitSettings,
    steps: int,
    progress: Progress | None,
) -> FitReport:
    """Take optimiser steps; patience counts steps, so that few samples cannot end a fit early."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(samples.codes))
    kept_out = max(1, int(len(order) * settings.validation_share)) if len(order) > 1 else 0
    check, learn = order[:kept_out], order[kept_out:]
    weights = _sample_weights(samples.codes, settings.class_weights)
    check_every = max(1, steps // 12)
    earliest = steps // 4
    best, best_step, best_weights = -np.inf, 0, None
    history: list[tuple[int, float]] = []
    step = 0
    for chosen in _batches(learn, settings.batch_size, random):
        batch = samples.patches[chosen].astype(np.float32) / np.float32(scale)
        model.train_on_batch(batch, samples.codes[chosen], sample_weight=weights[chosen])
        step += 1
        if progress:
            progress(step, steps)
        if settings.patience and kept_out and step % check_every == 0:
            accuracy = _accuracy(model, samples, check, scale)
            history.append((step, accuracy))
            if accuracy > best + 0.005:
                best, best_step, best_weights = accuracy, step, model.get_weights()
            if step >= earliest and step - best_step >= settings.patience:
                break
        if step == steps:
            break
    if best_weights is not None:
        model.set_weights(best_weights)
    final = _accuracy(model, samples, check, scale) if kept_out else None
    return FitReport(step, final, history, samples.counts())


def _batches(indices: NDArray[np.int64], size: int, random: np.random.Generator) -> Any:
    """Yield full batches without end: each sample once, in a new order, before any again."""
    queue = np.empty(0, np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, random.permutation(indices)])
        yield queue[:size]
        queue = queue[size:]


def _sample_weights(codes: NDArray[np.uint8], rule: str) -> NDArray[np.float32]:
    if rule == "none":
        return np.ones(len(codes), np.float32)
    present, which, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return (len(codes) / (len(present) * counts)).astype(np.float32)[which]


def _accuracy(
    model: Any, samples: Samples, chosen: NDArray[np.int64], scale: float, batch: int = 2048
) -> float:
    right = 0
    for start in range(0, len(chosen), batch):
        part = chosen[start : start + batch]
        patches = samples.patches[part].astype(np.float32) / np.float32(scale)
        found = np.asarray(model.predict_on_batch(patches)).argmax(axis=-1)
        right += int((found == samples.codes[part]).sum())
    return right / len(chosen)


def _shift_by_frequency(model: Any, shares: dict[int, float], power: float) -> None:
    """Multiply the softmax outputs by shares to a power: a shift of the last biases, exactly."""
    last = model.layers[-1]
    kernel, bias = last.get_weights()
    for code, share in shares.items():
        bias[code] += power * np.log(share)
    last.set_weights([kernel, bias])
