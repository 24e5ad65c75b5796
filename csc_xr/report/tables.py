"""Tables of a report, with every cell as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from csc_xr.figures.score_marks import PHASES
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.report.records import Run
from csc_xr.report.scenes import CLASSES, ReportScene

NOTHING = "–"
"""Stands in cells without a value."""

_AVERAGES = {
    "Accuracy": "Accuracy",
    "Macro_avg": "Mean of classes",
    "Weighted_avg": "All, weighted",
}
_THIN_SPACE = "\u202f"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes
    ----------
    text : str
        What it says.
    share : float or None
        0 to 1, shown as the strength of its colour.
    colour : str
        Of a class, shown before the text; empty for none.
    """

    text: str
    share: float | None = None
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    caption : str
        What it shows.
    columns : list of str
        Names over the columns.
    rows : list of list of Cell
        The first cell names the row.
    groups : list of tuple
        Names over several columns, and over how many; empty for none.
    totals : int
        So many of the last rows are about all others.
    wordy : bool
        Whether its cells hold words, not numbers.
    """

    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    groups: list[tuple[str, int]] = field(default_factory=list)
    totals: int = 0
    wordy: bool = False


def score_table(
    reports: Mapping[int, pd.DataFrame], caption: str, legend: ClassLegend | None = None
) -> Table:
    """Put the scores of both phases beside each other.

    Parameters
    ----------
    reports : mapping of int to pandas.DataFrame
        Reports by phase, with the columns Class, Precision, Recall, F1_score and Support.
    caption : str
        Of the table.
    legend : ClassLegend, optional
        Gives the classes their colours.

    Returns
    -------
    Table
        A row a class, then the averages.
    """
    figures = ["Precision", "Recall", "F1_score"]
    indexed = {phase: report.set_index("Class") for phase, report in reports.items()}
    names = list(dict.fromkeys(name for report in indexed.values() for name in report.index))
    classes = [name for name in names if name not in _AVERAGES]
    averages = [name for name in _AVERAGES if name in names]
    colours = _colours(legend)
    rows = []
    for name in [*classes, *averages]:
        cells = [Cell(_AVERAGES.get(name, name), colour=colours.get(name, ""))]
        support = np.nan
        for report in indexed.values():
            values = report[[*figures, "Support"]].reindex([name]).to_numpy(np.float64)[0]
            cells += [Cell(_share_words(value)) for value in values[:-1]]
            support = np.fmax(support, values[-1])
        rows.append([*cells, Cell(count_words(support))])
    return Table(
        caption,
        ["Class", *(["Precision", "Recall", "F1"] * len(indexed)), "Support (px)"],
        rows,
        groups=[("", 1), *((PHASES[phase], 3) for phase in indexed), ("", 1)],
        totals=len(averages),
    )


def confusion_table(confusion: xr.DataArray, caption: str, legend: ClassLegend) -> Table:
    """Show a confusion matrix: shares of the labelled class, with the counts.

    Parameters
    ----------
    confusion : xarray.DataArray
        Dims ("label", "predicted").
    caption : str
        Of the table.
    legend : ClassLegend
        Gives the classes their colours.

    Returns
    -------
    Table
        A row for each labelled class, a column for each class that was found.
    """
    labelled = confusion["label"].values[confusion.values.sum(axis=1) > 0].tolist()
    found = confusion["predicted"].values[confusion.values.sum(axis=0) > 0].tolist()
    columns = sorted({*labelled, *found}, key=lambda code: (code == NODATA_CODE, code))
    colours = _colours(legend)
    rows = []
    for code in labelled:
        counts = confusion.sel(label=code, predicted=columns).values
        name = legend.class_name(code)
        cells = [
            Cell(f"{100 * count / counts.sum():.1f} % ({count_words(count)})", count / counts.sum())
            if count
            else Cell("")
            for count in counts.tolist()
        ]
        rows.append([Cell(name, colour=colours[name]), *cells, Cell(count_words(counts.sum()))])
    names = [legend.class_name(code) for code in columns]
    return Table(
        caption,
        ["Labelled", *names, "Support (px)"],
        rows,
        groups=[("", 1), ("Predicted", len(names)), ("", 1)],
    )


def area_table(scenes: Sequence[ReportScene], caption: str) -> Table | None:
    """Count the pixels of each class in both phases. Computes, chunk by chunk.

    Parameters
    ----------
    scenes : sequence of ReportScene
        Of one legend; their pixels are added up.
    caption : str
        Of the table.

    Returns
    -------
    Table or None
        With square kilometres where all scenes have metres; None without scenes.
    """
    if not scenes:
        return None
    legend = scenes[0].legend
    phases = [name for name in CLASSES if all(name in scene.class_counts for scene in scenes)]
    in_metres = all(scene.pixel_m is not None for scene in scenes)
    codes = [NODATA_CODE, *(entry.code for entry in legend.classes)]
    pixels = {name: np.zeros(len(codes)) for name in phases}
    areas = {name: np.zeros(len(codes)) for name in phases}
    for scene in scenes:
        height, width = scene.pixel_m or (0.0, 0.0)
        for name in phases:
            counts = scene.class_counts[name]
            pixels[name] += counts
            areas[name] += counts * height * width / 1e6
    occurring = np.any([counts > 0 for counts in pixels.values()], axis=0)
    order = [place for place in [*range(1, len(codes)), 0] if occurring[place]]
    colours = _colours(legend)
    rows = []
    for place in order:
        name = legend.class_name(codes[place])
        cells = [Cell(name, colour=colours.get(name, ""))]
        for phase in phases:
            share = pixels[phase][place] / max(pixels[phase].sum(), 1)
            cells += [Cell(count_words(pixels[phase][place])), Cell(f"{100 * share:.1f}")]
            cells += [Cell(f"{areas[phase][place]:.4g}")] if in_metres else []
        rows.append(cells)
    measures = ["Pixels", "%", *(["km²"] if in_metres else [])]
    words = [PHASES[1 + list(CLASSES).index(name)] for name in phases]
    return Table(
        caption,
        ["Class", *measures * len(phases)],
        rows,
        groups=[("", 1), *((word, len(measures)) for word in words)],
    )


def front_table(runs: Sequence[Run], caption: str) -> Table | None:
    """List what became of fronts, and how far they lie from digitised ones.

    Parameters
    ----------
    runs : sequence of Run
        Any runs.
    caption : str
        Of the table.

    Returns
    -------
    Table or None
        A row for each run that looked for a front; None where none did.
    """
    rows = []
    for run in runs:
        findings = run.content.get("findings") or {}
        if "front" not in findings:
            continue
        front, error = findings["front"], findings.get("front_error") or {}
        margin = findings.get("margin_error") or {}
        cells = [Cell(run.name), Cell(str(front["outcome"])), Cell(_metres(front.get("length_m")))]
        for figures in (error, margin):
            cells += [Cell(_metres(figures.get(name))) for name in ("median_m", "mean_m")]
        rows.append([*cells, Cell(str(front.get("reason", "")))])
    if not rows:
        return None
    columns = ["Scene", "Outcome", "Length (m)", "Median", "Mean", "Median", "Mean", "Reason"]
    groups = [("", 3), ("Front error (m)", 2), ("Margin error (m)", 2), ("", 1)]
    return Table(caption, columns, rows, groups=groups, wordy=True)


def value_words(value: Any) -> str:
    """Put a value into a few words.

    Parameters
    ----------
    value : object
        A number, text, or nothing.

    Returns
    -------
    str
        Numbers with at most four digits after the point.

    Examples
    --------
    >>> value_words(0.98765), value_words(7), value_words(None), value_words(True)
    ('0.9877', '7', '–', 'yes')
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(value_words, value)) or NOTHING
    if pd.isna(value) or value == "":
        return NOTHING
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def count_words(count: Any) -> str:
    """Group the digits of a count.

    Parameters
    ----------
    count : number
        A whole number; NaN for none.

    Returns
    -------
    str
        With thin spaces.
    """
    if pd.isna(count):
        return NOTHING
    return f"{int(count):,}".replace(",", _THIN_SPACE)


def _share_words(value: float) -> str:
    return NOTHING if np.isnan(value) else f"{value:.3f}"


def _metres(value: Any) -> str:
    known = isinstance(value, int | float) and np.isfinite(value)
    return f"{value:.1f}" if known else NOTHING


def _colours(legend: ClassLegend | None) -> dict[str, str]:
    classes: Iterable[Any] = () if legend is None else legend.classes
    return {entry.name: entry.colour for entry in classes}
