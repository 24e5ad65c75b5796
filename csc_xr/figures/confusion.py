"""A confusion matrix as a figure: shares of the labelled classes, with their counts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Affine2DBase, ScaledTranslation

from csc_xr.accuracy.scores import classification_report
from csc_xr.errors import ParameterError
from csc_xr.figures.style import (
    CAPTION_SIZE,
    DPI,
    EDGE_COLOUR,
    LABEL_SIZE,
    TICK_SIZE,
    add_title,
    literal,
    save_png,
    text_inches,
)
from csc_xr.legend import NODATA_CODE, ClassLegend

_COUNT_SIZE = 8
_CELL_HEIGHT = 0.62
_LEAST_WIDTH = 6.0
_FEW_COLUMNS = 9
_ROW_LETTERS, _COLUMN_LETTERS = 16, 11
"""Class names longer than this take several lines."""
_WHITE_FROM = 0.71
"""Share of a row from which white text stands out better from the cell than black."""


def confusion_figure(
    confusion: xr.DataArray,
    *,
    legend: ClassLegend,
    title: str,
    path: str | Path | None = None,
) -> Figure:
    """Draw a confusion matrix: a row for each labelled class, with shares of the row.

    Each cell shows the share of its row in percent, as colour and as text, and beneath it the
    count; cells without a count stay empty. The number of labels of each class stands at the
    right, accuracy and mean F1 over the matrix.

    Parameters
    ----------
    confusion : xarray.DataArray
        From :func:`csc_xr.accuracy.confusion.confusion_matrix` or
        :func:`csc_xr.accuracy.confusion.count_codes`, dims ("label", "predicted"), int64; or a
        sum of such matrices. Only classes that occur are shown, the column of what was left
        without a class among them.
    legend : ClassLegend
        Names and colours of the classes.
    title : str
        Title of the figure.
    path : str or Path, optional
        Where to write the figure as PNG, whole or not at all.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; no window is opened and no global state touched.

    Raises
    ------
    ParameterError
        When the matrix does not have the dims label and predicted with their codes and names.
    LabelError
        When nothing is labelled.
    LegendError
        When a class that occurs is not in the legend.
    OutputError
        When the file cannot be written.
    """
    _check(confusion)
    confusion = confusion.transpose("label", "predicted")
    caption = _caption(confusion)
    shown = _occurring(confusion)
    counts = shown.values
    rows, columns = shown["label"].values.tolist(), shown["predicted"].values.tolist()
    row_names = [_in_lines(legend.class_name(code), _ROW_LETTERS) for code in rows]
    column_names, cell = _column_names([legend.class_name(code) for code in columns], counts)
    turned = _widest(column_names, LABEL_SIZE) > cell
    support = [_grouped(count) for count in counts.sum(axis=1).tolist()]
    beside = _widest(row_names, LABEL_SIZE) + _widest(support, TICK_SIZE) + 1.6
    lines = 1 + max(name.count("\n") for name in column_names)
    beneath = 0.75 * _widest(column_names, LABEL_SIZE) if turned else 0.2 * lines
    width = max(len(columns) * cell + beside, _LEAST_WIDTH)
    height = len(rows) * _CELL_HEIGHT + beneath + 1.9
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(width, height), layout=layout, dpi=DPI)
    axis = figure.subplots()
    _draw_cells(axis, counts)
    _name_rows(axis, row_names, support, shown.attrs.get("units"))
    _name_columns(axis, column_names, turned=turned)
    if columns[-1] == NODATA_CODE:
        axis.axvline(len(columns) - 1.5, color="white", linewidth=6)
    _draw_swatches(axis, rows, columns, legend, figure.dpi_scale_trans)
    axis.set_title(caption, fontsize=CAPTION_SIZE)
    add_title(figure, title)
    if path is not None:
        save_png(figure, path)
    return figure


def _check(confusion: xr.DataArray) -> None:
    dims = {"label", "predicted"}
    if set(confusion.dims) != dims or not dims | {"label_name"} <= set(confusion.coords):
        raise ParameterError(
            "A confusion matrix must have the dims label and predicted with their codes and names, "
            f"got the dims {confusion.dims} and the coordinates {list(confusion.coords)}. "
            "Make it with confusion_matrix or count_codes."
        )


def _caption(confusion: xr.DataArray) -> str:
    f1_scores = classification_report(confusion).set_index("Class")["F1_score"]
    accuracy, mean = 100 * f1_scores["Accuracy"], 100 * f1_scores["Macro_avg"]
    return f"Accuracy {accuracy:.1f} %, mean F1 {mean:.1f} %"


def _occurring(confusion: xr.DataArray) -> xr.DataArray:
    """Rows of labelled classes, columns of labelled or predicted ones, without class last."""
    labelled = confusion["label"].values[confusion.values.sum(axis=1) > 0]
    predicted = confusion["predicted"].values[confusion.values.sum(axis=0) > 0]
    columns = sorted(
        {*labelled.tolist(), *predicted.tolist()}, key=lambda code: (code == NODATA_CODE, code)
    )
    return confusion.sel(label=labelled, predicted=columns)


def _in_lines(name: str, letters: int) -> str:
    return literal("\n".join(textwrap.wrap(name, letters, break_long_words=False)))


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", "\u202f")


def _widest(texts: Sequence[str], size: float) -> float:
    return max(text_inches(line, size) for text in texts for line in text.splitlines())


def _column_names(names: Sequence[str], counts: npt.NDArray[np.int64]) -> tuple[list[str], float]:
    """Names in lines that fit over a cell, or else are to be turned, and the width of a cell."""
    least = max(text_inches(_grouped(counts.max()), _COUNT_SIZE) + 0.15, 0.85)
    most = max(1.2 if len(names) <= _FEW_COLUMNS else 0.9, least)
    for letters in (_ROW_LETTERS, _COLUMN_LETTERS):
        lines = [_in_lines(name, letters) for name in names]
        needed = _widest(lines, LABEL_SIZE) + 0.1
        if needed <= most:
            return lines, max(needed, least)
    return [_in_lines(name, _ROW_LETTERS) for name in names], least


def _draw_cells(axis: Axes, counts: npt.NDArray[np.int64]) -> None:
    shares = counts / counts.sum(axis=1, keepdims=True)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(counts > 0).tolist():
        share = shares[row, column]
        percent = "100" if share == 1 else f"{100 * share:.1f}"
        for text, shift, size in (
            (percent, -0.12, LABEL_SIZE),
            (_grouped(counts[row, column]), 0.25, _COUNT_SIZE),
        ):
            axis.text(
                column,
                row + shift,
                text,
                color="white" if share > _WHITE_FROM else "black",
                fontsize=size,
                ha="center",
                va="center",
            )
    for position in range(1, counts.shape[1]):
        axis.axvline(position - 0.5, color="white", linewidth=1.5)
    for position in range(1, counts.shape[0]):
        axis.axhline(position - 0.5, color="white", linewidth=1.5)


def _name_rows(axis: Axes, names: Sequence[str], support: list[str], units: str | None) -> None:
    axis.set_yticks(range(len(names)), names, fontsize=LABEL_SIZE)
    axis.tick_params(axis="y", length=0, pad=20)
    axis.set_ylabel("Labelled", fontsize=LABEL_SIZE)
    right = axis.secondary_yaxis("right")
    right.set_yticks(range(len(names)), support, fontsize=TICK_SIZE, ha="right")
    right.tick_params(length=0, pad=8 + 72 * _widest(support, TICK_SIZE))
    right.set_ylabel(f"Support ({units})" if units else "Support", fontsize=LABEL_SIZE, labelpad=8)
    right.spines[:].set_visible(False)


def _name_columns(axis: Axes, names: Sequence[str], *, turned: bool) -> None:
    axis.set_xticks(range(len(names)), names, fontsize=LABEL_SIZE)
    axis.tick_params(axis="x", length=0, pad=20)
    axis.set_xlabel("Predicted (% of the row, counts beneath)", fontsize=LABEL_SIZE, labelpad=8)
    if turned:
        for label in axis.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")


def _draw_swatches(
    axis: Axes,
    rows: Sequence[int],
    columns: Sequence[int],
    legend: ClassLegend,
    inches: Affine2DBase,
) -> None:
    """Put the colour of each class between its name and its cells."""
    colours = {entry.code: entry.colour for entry in legend.classes} | {NODATA_CODE: "#000000"}
    across, down = range(len(columns)), range(len(rows))
    for codes, x, y, right, up in (
        (rows, [-0.5 for _ in down], list(down), -0.15, 0.0),
        (columns, list(across), [len(rows) - 0.5 for _ in across], 0.0, -0.15),
    ):
        axis.scatter(
            x,
            y,
            c=[colours[code] for code in codes],
            s=80,
            marker="s",
            edgecolors=EDGE_COLOUR,
            linewidths=0.6,
            clip_on=False,
            transform=axis.transData + ScaledTranslation(right, up, inches),
        )
