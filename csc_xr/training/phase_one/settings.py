"""How a tile network is fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from csc_xr.errors import ParameterError
from csc_xr.networks.precision import Precision

ClassWeights = Literal["none", "balanced"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How phase one's network is fitted to labelled tiles. The defaults: docs/training.md.

    Attributes
    ----------
    epochs : int
        Most passes over the tiles.
    batch_size : int
        Tiles in a step.
    learning_rate : float, optional
        Of the first step; left out, what suits the architecture
        (``csc_xr.networks.builders.LEARNING_RATES``), and 1e-5 when training goes on from a
        network.
    decay : {"cosine", "constant"}
        Whether the learning rate falls along half a cosine over all epochs, or stays.
    target_accuracy : float, optional
        Stop after the epoch whose validation accuracy reaches it.
    patience : int
        Stop when so many epochs brought no better validation accuracy, and go back to the best
        weights; 0 takes all epochs and keeps the last.
    class_power : float
        Tiles of a class are drawn in proportion to their number to this power: 0 draws every
        class equally often, 1 every tile once an epoch.
    class_weights : {"none", "balanced"}
        With "balanced", tiles weigh in inverse proportion to how often their class is drawn.
    turns, flips : bool
        Turn each tile by quarters, or mirror it, at random whenever it is drawn.
    brightness : float
        Multiply each tile by a random factor between 1 - brightness and 1 + brightness.
    tilt : float
        Tilt the spectrum of each tile, as haze and the height of the sun do: multiply its first
        band by exp(t), its last by exp(-t) and those between by what lies between, with a
        random t between -tilt and tilt.
    noise : float
        Add noise drawn evenly from [-noise, noise) to each number of a tile, in the scenes' own
        numbers; pixels without data stay 0.
    precision : {"float32", "auto", "float16", "bfloat16"}
        Of the computation; weights are float32 always. See :mod:`csc_xr.networks.precision`.
    memory_limit : int
        Bytes of tiles held in memory: three quarters for those learned from, one for those
        validated on. A larger set is read in parts of random chunks, each mixed.

    Raises
    ------
    ParameterError
        When a value cannot be used.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float | None = None
    decay: Literal["cosine", "constant"] = "cosine"
    target_accuracy: float | None = None
    patience: int = 0
    class_power: float = 0.5
    class_weights: ClassWeights = "none"
    turns: bool = True
    flips: bool = True
    brightness: float = 0.05
    tilt: float = 0.1
    noise: float = 0.0
    precision: Precision = "float32"
    memory_limit: int = 2**31

    def __post_init__(self) -> None:
        rate, target = self.learning_rate, self.target_accuracy
        rules = {
            "epochs": (_whole(self.epochs, 1), "be a whole number of 1 or more"),
            "batch_size": (_whole(self.batch_size, 1), "be a whole number of 1 or more"),
            "learning_rate": (rate is None or 0 < rate < math.inf, "be above 0, or None"),
            "decay": (self.decay in ("cosine", "constant"), "be cosine or constant"),
            "target_accuracy": (target is None or 0 < target <= 1, "lie above 0 and up to 1"),
            "patience": (_whole(self.patience, 0), "be a whole number of 0 or more epochs"),
            "class_power": (0 <= self.class_power <= 1, "lie in 0 to 1"),
            "class_weights": (self.class_weights in ("none", "balanced"), "be none or balanced"),
            "brightness": (0 <= self.brightness < 1, "be 0 or more and below 1"),
            "tilt": (0 <= self.tilt < math.inf, "be 0 or more"),
            "noise": (0 <= self.noise < math.inf, "be 0 or more"),
            "precision": (
                self.precision in get_args(Precision),
                f"be one of {', '.join(get_args(Precision))}",
            ),
            "memory_limit": (_whole(self.memory_limit, 1), "be 1 byte or more"),
        }
        for name, (usable, rule) in rules.items():
            if not usable:
                raise ParameterError(f"{name} must {rule}, got {getattr(self, name)}.")

    @property
    def measures(self) -> bool:
        """Whether the fit is steered by tiles it does not learn from."""
        return self.target_accuracy is not None or self.patience > 0


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
