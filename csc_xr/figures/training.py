"""The course of a training: loss and accuracy against epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from csc_xr.errors import ParameterError
from csc_xr.figures.style import (
    CAPTION_SIZE,
    DPI,
    EDGE_COLOUR,
    LABEL_SIZE,
    TICK_SIZE,
    add_title,
    save_png,
)

_TRAINING_COLOUR = "#03719c"
_VALIDATION_COLOUR = "#d1581c"
_COLUMNS = ("epoch", "loss", "accuracy", "validation_loss", "validation_accuracy")
_RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 8,
    "markeredgewidth": 2,
    "markerfacecolor": "white",
}
_FEW_EPOCHS = 40
_LOG_RATIO = 100
"""Losses that span more than this are drawn on a logarithmic axis."""


def history_figure(
    history: pd.DataFrame,
    *,
    title: str,
    target_accuracy: float | None = None,
    kept_epoch: int | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Draw loss and accuracy against epochs, of training and validation.

    Parameters
    ----------
    history : pandas.DataFrame
        A row per epoch with the columns epoch (1, 2, ...), loss, accuracy (0 to 1),
        validation_loss and validation_accuracy; further columns are not looked at. Where
        validation is NaN throughout, only the training is drawn; values that are not finite,
        as of a training that diverged, are passed over.
    title : str
        Title of the figure.
    target_accuracy : float, optional
        Accuracy, 0 to 1, that the training was to reach: a dashed line.
    kept_epoch : int, optional
        Epoch whose weights were kept: marked in both panels, with its values in their captions.
    path : str or Path, optional
        Where to write the figure as PNG, whole or not at all.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; no window is opened and no global state touched.

    Raises
    ------
    ParameterError
        When the history has no row or lacks a column, the target is no accuracy, or the kept
        epoch is not in the history.
    OutputError
        When the file cannot be written.
    """
    _check(history, target_accuracy, kept_epoch)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=0.04)
    figure = Figure(figsize=(11.5, 5.0), layout=layout, dpi=DPI)
    loss, accuracy = figure.subplots(1, 2)
    _draw_curves(loss, history, "loss", kept_epoch)
    handles = _draw_curves(accuracy, history, "accuracy", kept_epoch)
    if target_accuracy is not None:
        percent = 100 * target_accuracy
        line = accuracy.axhline(percent, color=EDGE_COLOUR, linestyle="--", linewidth=1.2)
        line.set_label(f"Target {percent:.4g} %")
        handles.append(line)
    if kept_epoch is not None:
        handles.append(_kept_line(loss, kept_epoch))
        _kept_line(accuracy, kept_epoch)
    _limit(loss, accuracy, history)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        fontsize=LABEL_SIZE,
        frameon=False,
    )
    add_title(figure, title)
    if path is not None:
        save_png(figure, path)
    return figure


def _check(history: pd.DataFrame, target_accuracy: float | None, kept_epoch: int | None) -> None:
    missing = [name for name in _COLUMNS if name not in history]
    if missing:
        raise ParameterError(
            f"A history must have the columns {', '.join(_COLUMNS)}, got one without "
            f"{', '.join(missing)}. Fill those of validation with NaN where there was none."
        )
    if history.empty:
        raise ParameterError(
            "A history must have a row for each epoch, got none. Train for at least one epoch."
        )
    if target_accuracy is not None and not 0 < target_accuracy <= 1:
        raise ParameterError(
            f"target_accuracy must lie above 0 and at most at 1, got {target_accuracy}. "
            "Give it as a share, not in percent."
        )
    if kept_epoch is not None and kept_epoch not in history["epoch"].to_numpy():
        raise ParameterError(
            f"kept_epoch must be an epoch of the history, {history['epoch'].min()} to "
            f"{history['epoch'].max()}, got {kept_epoch}. Pass the number of one of them."
        )


def _draw_curves(
    axis: Axes, history: pd.DataFrame, quantity: str, kept_epoch: int | None
) -> list[Line2D]:
    epochs = history["epoch"].to_numpy()
    percent = quantity == "accuracy"
    caption = quantity.capitalize()
    lines = []
    for name, column, colour in (
        ("Training", quantity, _TRAINING_COLOUR),
        ("Validation", f"validation_{quantity}", _VALIDATION_COLOUR),
    ):
        values = (100 if percent else 1) * history[column].to_numpy(dtype=np.float64)
        known = np.isfinite(values)
        if not known.any():
            continue
        # A curve of few epochs needs its points; of one epoch it has nothing else.
        marker = "o" if known.sum() <= _FEW_EPOCHS else None
        lines += axis.plot(
            epochs[known], values[known], color=colour, marker=marker, markersize=3.5, label=name
        )
        kept = known & (epochs == kept_epoch)
        axis.plot(epochs[kept], values[kept], color=colour, **_RING)
        for value in values[kept].tolist():
            shown = f"{value:.1f} %" if percent else f"{value:.3g}"
            caption = f"{quantity.capitalize()} ({name.lower()} {shown} at epoch {kept_epoch})"
    axis.set_title(caption, fontsize=CAPTION_SIZE)
    axis.set_xlabel("Epoch", fontsize=LABEL_SIZE)
    axis.set_ylabel("Accuracy (%)" if percent else "Loss", fontsize=LABEL_SIZE)
    axis.tick_params(labelsize=TICK_SIZE)
    axis.grid(color="#e4e4e4", linewidth=0.8)
    axis.set_axisbelow(True)
    return lines


def _kept_line(axis: Axes, epoch: int) -> Line2D:
    axis.axvline(epoch, color=EDGE_COLOUR, linestyle=":", linewidth=1.2, zorder=1.5)
    return Line2D([], [], color=EDGE_COLOUR, linestyle=":", label=f"Kept: epoch {epoch}", **_RING)


def _limit(loss: Axes, accuracy: Axes, history: pd.DataFrame) -> None:
    first, last = history["epoch"].min(), history["epoch"].max()
    margin = max(0.5, 0.03 * (last - first))
    for axis in (loss, accuracy):
        axis.set_xlim(first - margin, last + margin)
        axis.xaxis.set_major_locator(
            MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        )
    losses = history[["loss", "validation_loss"]].to_numpy(dtype=np.float64)
    losses = losses[np.isfinite(losses)]
    if losses.size and losses.min() > 0 and losses.max() > _LOG_RATIO * losses.min():
        loss.set_yscale("log")
        loss.yaxis.set_major_formatter("{x:g}")
    else:
        loss.set_ylim(bottom=0)
    low, high = accuracy.get_ylim()
    # Points at 100 % are not cut, but no tick beyond suggests that there is more.
    accuracy.set_ylim(top=min(high, 100 + 0.03 * (100 - low)))
