"""What figures of scores share: rows to draw, colours of phases, marks of scenes, legends."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from csc_xr.errors import ParameterError
from csc_xr.figures.run_names import check_columns
from csc_xr.figures.style import EDGE_COLOUR, LABEL_SIZE, TICK_SIZE, text_inches

Floats = npt.NDArray[np.float64]

ALL = "All"
"""Class of scores of all classes, weighted by their pixels."""

POOLED = "pooled"
"""Scene of scores of all scenes of a run."""

PHASES = {1: "Phase one: tiles", 2: "Phase two: pixels"}
PHASE_COLOURS = {1: "#9cc7de", 2: "#03719c"}
PHASE_EDGES = {1: "#4a88a8", 2: "#02425c"}

FEW_SCENES = 12
"""Up to so many are shown one by one."""

_GRID: dict[str, Any] = {"color": "#e4e4e4", "linewidth": 0.8}
_LETTERS_AN_INCH = 13
_LEGEND_LINE = 0.26
"""Inches."""


def scene_scores(f1: pd.DataFrame, f1_class: str, by: str) -> pd.DataFrame:
    """Take the scores of single scenes for one class.

    Parameters
    ----------
    f1 : pandas.DataFrame
        A table of F1.
    f1_class : str
        The class.
    by : str
        A column that is needed besides.

    Returns
    -------
    pandas.DataFrame
        Rows that hold a score, one at least.

    Raises
    ------
    ParameterError
        When the table lacks a column, or has no such row.
    """
    check_columns(f1, ["F1", "F1_Class", "CSC_Phase", "Scene", "Run", by], "F1 over scenes")
    rows = f1[(f1["F1_Class"] == f1_class) & (f1["Scene"] != POOLED) & f1["F1"].notna()]
    if rows.empty:
        raise ParameterError(
            f"F1 over scenes needs scores of {f1_class!r} for single scenes, got none. Pass the "
            f"whole table, or one of its classes: {', '.join(map(str, f1['F1_Class'].unique()))}."
        )
    return rows


def check_runs(scored: pd.DataFrame, most: int, what: str) -> None:
    """Check that a figure can show all runs of a table.

    Parameters
    ----------
    scored : pandas.DataFrame
        Rows to draw.
    most : int
        Most runs.
    what : str
        What is to be drawn.

    Raises
    ------
    ParameterError
        When there is none, or more.
    """
    n_runs = scored["Run"].nunique()
    if not 1 <= n_runs <= most:
        raise ParameterError(
            f"{what} shows 1 to {most} runs, got {n_runs}. Pass the rows of some runs, for example "
            "f1[f1['Run'].isin(best)]."
        )


def percent(rows: pd.DataFrame) -> Floats:
    """Give F1 in percent.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows with F1 from 0 to 1.

    Returns
    -------
    ndarray
        Shape (rows,), float64.
    """
    return 100 * rows["F1"].to_numpy(dtype=np.float64)


def score_label(f1_class: str) -> str:
    """Label an axis of scores.

    Parameters
    ----------
    f1_class : str
        Whose scores.

    Returns
    -------
    str
        With the unit.
    """
    known = {
        ALL: "F1, weighted over classes (%)", "Macro": "F1, mean of classes (%)",
        "Accuracy": "Accuracy (%)",
    }  # fmt: skip
    return known.get(f1_class, f"F1 of {f1_class} (%)")


def counted_scenes(sizes: Sequence[int]) -> str:
    """Say how many scenes there are.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of scenes, of which the least and the largest are said.

    Returns
    -------
    str
        Such as ``"4 scenes"`` or ``"3 to 8 scenes"``.

    Examples
    --------
    >>> counted_scenes([1, 1]), counted_scenes([3, 8, 5])
    ('1 scene', '3 to 8 scenes')
    """
    low, high = min(sizes), max(sizes)
    if low < high:
        return f"{low} to {high} scenes"
    return "1 scene" if high == 1 else f"{high} scenes"


def dots(colour: str) -> dict[str, Any]:
    """Give the style of single scenes.

    Parameters
    ----------
    colour : str
        Their colour.

    Returns
    -------
    dict
        Arguments of a line of matplotlib.
    """
    return {
        "linestyle": "none", "marker": "o", "markersize": 3.6, "color": colour, "alpha": 0.6,
        "markeredgewidth": 0,
    }  # fmt: skip


def phase_handles(phases: Sequence[int]) -> list[Artist]:
    """Make the entries of phases in a legend.

    Parameters
    ----------
    phases : sequence of int
        1 and 2.

    Returns
    -------
    list of matplotlib.artist.Artist
        One each.
    """
    return [
        Patch(facecolor=PHASE_COLOURS[phase], edgecolor=PHASE_EDGES[phase], label=PHASES[phase])
        for phase in phases
    ]


def dot_handle(label: str = "A scene") -> Line2D:
    """Make the entry of single scenes in a legend.

    Parameters
    ----------
    label : str
        What a dot is.

    Returns
    -------
    matplotlib.lines.Line2D
        The entry.
    """
    return Line2D([], [], label=label, **dots(EDGE_COLOUR))


def finish_scores(axes: Sequence[Axes], along: Literal["x", "y"]) -> None:
    """Draw grid and ticks of axes that share one of scores, which ends at 100 %.

    Parameters
    ----------
    axes : sequence of matplotlib.axes.Axes
        With all that is to be drawn.
    along : {"x", "y"}
        Which of their axes is that of scores.
    """
    for axis in axes:
        axis.tick_params(labelsize=TICK_SIZE)
        axis.grid(axis=along, **_GRID)
        axis.set_axisbelow(True)
    scores = axes[0].yaxis if along == "y" else axes[0].xaxis
    low, high = scores.get_view_interval()
    # Points at 100 % are not cut, but no tick beyond suggests that there is more.
    top = min(high, 100 + 0.03 * (100 - low))
    if along == "y":
        axes[0].set_ylim(top=top)
    else:
        axes[0].set_xlim(right=top)


def add_legend(figure: Figure, handles: Sequence[Artist], note: str) -> None:
    """Put a legend beneath a figure and make room for it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        As wide as it will be; it becomes higher.
    handles : sequence of matplotlib.artist.Artist
        Entries, in as many columns as fit.
    note : str
        What stands over them.
    """
    room = figure.get_figwidth() - 0.3
    widest = max(text_inches(str(entry.get_label()), LABEL_SIZE) for entry in handles) + 0.75
    columns = max(1, min(len(handles), int(room // widest)))
    lines = textwrap.wrap(note, int(room * _LETTERS_AN_INCH))
    rows = len(lines) + -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + rows * _LEGEND_LINE)
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        fontsize=LABEL_SIZE,
        title="\n".join(lines),
        title_fontsize=TICK_SIZE,
        frameon=False,
    )
