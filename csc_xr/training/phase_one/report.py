"""What a training of phase one went through, and how well the network does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import xarray as xr

from csc_xr.accuracy.scores import classification_report

HISTORY = (
    "epoch",
    "loss",
    "accuracy",
    "validation_loss",
    "validation_accuracy",
    "learning_rate",
    "seconds",
)
"""Columns of a history."""

Ending = Literal["target", "patience", "epochs"]


@dataclass(frozen=True, eq=False)
class TrainingReport:
    """How a tile network was fitted.

    Attributes
    ----------
    rows : list of dict
        A row for each epoch, with the keys ``HISTORY``: loss and accuracy over the tiles drawn,
        while the weights changed, and right after it over the validation tiles (None without).
        Losses include the penalties on weights.
    ended_by : {"target", "patience", "epochs"}
        Why no further epoch was taken.
    kept_epoch : int
        The epoch, from 1, whose weights the network has.
    tiles, validation_tiles : dict of int to int
        Number of tiles learned from and validated on, by class code.
    confusion : xarray.DataArray or None
        Validation tiles by their class and by the class found, as
        :func:`csc_xr.accuracy.confusion.confusion_matrix` gives it; None without any.
    """

    rows: list[dict[str, Any]]
    ended_by: Ending
    kept_epoch: int
    tiles: dict[int, int]
    validation_tiles: dict[int, int]
    confusion: xr.DataArray | None

    @property
    def history(self) -> pd.DataFrame:
        """A row for each epoch, columns ``HISTORY``; NaN where nothing was validated."""
        measured = dict.fromkeys(("validation_loss", "validation_accuracy"), float)
        return pd.DataFrame(self.rows, columns=list(HISTORY)).astype(measured)

    @property
    def scores(self) -> pd.DataFrame | None:
        """Precision, recall, F1 and support of each class of the validation tiles."""
        return None if self.confusion is None else classification_report(self.confusion)

    @property
    def validation_accuracy(self) -> float | None:
        """Share of the validation tiles that the network classes right, if there are any."""
        value = self.rows[self.kept_epoch - 1]["validation_accuracy"]
        return None if value is None else float(value)
