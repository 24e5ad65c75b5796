"""Results over many runs: F1 against a setting, by class, and from scene to scene."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from csc_xr.errors import ParameterError
from csc_xr.figures.run_names import (
    axis_label,
    check_columns,
    column_words,
    name_runs,
    name_values,
    telling_columns,
    value_words,
)
from csc_xr.figures.score_marks import (
    ALL,
    FEW_SCENES,
    PHASE_COLOURS,
    PHASE_EDGES,
    PHASES,
    POOLED,
    Floats,
    add_legend,
    check_runs,
    counted_scenes,
    dot_handle,
    dots,
    finish_scores,
    percent,
    phase_handles,
    scene_scores,
    score_label,
)
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

MOST_PANELS = 6
"""Runs that a figure of classes shows at most."""

MOST_ROWS = 24
"""Runs that a figure of scenes shows at most."""

_ACROSS = 3
_BAR_INCHES = 0.27
_CLASS_LETTERS, _RUN_LETTERS, _CAPTION_LETTERS = 24, 34, 44
_FIGURE_SIZE = 8
_BOX_FROM = 6
_MEAN: dict[str, Any] = {
    "linestyle": "none",
    "marker": "D",
    "markersize": 6,
    "markerfacecolor": "white",
}

# Told apart by any eyes, after Okabe and Ito; beyond seven lines by dashes too.
_COLOURS = ("#03719c", "#d1581c", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#404040")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--")
_MOST_LINES = 10
_REPEATS = "Seed"
_MOST_DOTS = 48
"""Dots at one value, of all lines together; where there are more, quartiles take their place."""
_ALWAYS_DOTS = 4
"""Scores that have no quartiles worth showing."""
_PANEL_INCHES = 4.0
_LEAST_GAP = 1 / 20
"""Share of an axis that two of its values must be apart."""


def f1_sweep_figure(
    f1: pd.DataFrame,
    *,
    by: str = "Patch_Size",
    f1_class: str = ALL,
    title: str,
    path: str | Path | None = None,
) -> Figure:
    """Draw F1 against a setting: the mean over scenes and how far scenes lie apart.

    A panel each phase; a line for each combination of the other settings that differ. Where there
    are so many that lines could not be told apart, some settings are averaged over, and the figure
    says which; over seeds always. Up to twelve scores are shown one by one beside their mean, more
    by their quartiles.

    Parameters
    ----------
    f1 : pandas.DataFrame
        The table ``f1`` of :func:`csc_xr.results.collect.collect_results`, or part of it. Rows that
        do not tell the setting are left out, and the figure says how many runs these are.
    by : str
        Column of the setting, such as Patch_Size, Tile_Size or Bands.
    f1_class : str
        Whose F1: a class, ``"All"`` weighted by their pixels, or ``"Macro"``.
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
        When the table lacks a column, or has no score of a scene to show.
    OutputError
        When the file cannot be written.
    """
    scenes = scene_scores(f1, f1_class, by)
    shown = scenes[scenes[by].notna()]
    if shown.empty:
        raise ParameterError(
            f"F1 against {by} needs runs that tell their {by}, got none. Name another column."
        )
    columns, averaged = _line_columns(shown, by)
    lines = _lines(shown, columns)
    values, places = _places(shown[by])
    step = min(np.diff(places), default=1.0)
    beside = min(0.08 * len(lines), 0.5)
    phases = sorted(shown["CSC_Phase"].unique())
    one_by_one = _shows_dots(shown, [by, "CSC_Phase", *columns], len(lines))
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=0.04)
    figure = Figure(figsize=(3.0 + _PANEL_INCHES * len(phases), 4.9), layout=layout, dpi=DPI)
    axes = figure.subplots(1, len(phases), sharey=True, squeeze=False)[0].tolist()
    for phase, axis in zip(phases, axes, strict=True):
        for number, line in enumerate(lines):
            own = line[line["CSC_Phase"] == phase]
            scores = [percent(own[own[by] == value]) for value in values]
            aside = step * beside * ((number + 0.5) / len(lines) - 0.5)
            _draw_line(axis, places + aside, scores, number, one_by_one=one_by_one)
        axis.set_title(PHASES.get(phase, f"Phase {phase}"), fontsize=CAPTION_SIZE)
        _label_values(axis, places, [value_words(value) for value in values])
        axis.set_xlim(places[0] - 0.6 * step, places[-1] + 0.6 * step)
        axis.set_xlabel(axis_label(by), fontsize=LABEL_SIZE)
    axes[0].set_ylabel(score_label(f1_class), fontsize=LABEL_SIZE)
    finish_scores(axes, "y")
    groups = shown.groupby([by, "CSC_Phase", *columns], dropna=False)["Scene"]
    has_spread = bool((groups.size() > 1).any())
    names = [name_values(line.iloc[0], columns) for line in lines]
    handles = _handles(names, nameless="Mean" if has_spread else "F1")
    if has_spread:
        repeated = bool((groups.size() > groups.nunique()).any())
        handles.append(_spread_handle(one_by_one, "score" if repeated else "scene"))
    n_unknown = scenes.loc[scenes[by].isna(), "Run"].nunique()
    add_legend(figure, handles, _note(shown, by, columns, averaged, n_unknown))
    add_title(figure, title)
    if path is not None:
        save_png(figure, path)
    return figure


def class_figure(f1: pd.DataFrame, *, title: str, path: str | Path | None = None) -> Figure:
    """Draw F1 by class, both phases beside each other, a panel each run.

    Bars are of the pixels of all scenes of a run together where these were counted, else means
    over its scenes; dots are single scenes, up to twelve of them.

    Parameters
    ----------
    f1 : pandas.DataFrame
        Rows of up to six runs of the table ``f1`` of
        :func:`csc_xr.results.collect.collect_results`.
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
        When the table lacks a column, has no score, or more than six runs.
    OutputError
        When the file cannot be written.
    """
    check_columns(f1, ["F1", "F1_Class", "CSC_Phase", "Scene", "Class_Code", "Run"], "F1 by class")
    scored = f1[f1["F1"].notna() & ~f1["F1_Class"].isin(["Macro", "Accuracy"])]
    check_runs(scored, MOST_PANELS, "F1 by class")
    names, classes = name_runs(scored), _classes(scored)
    phases = sorted(scored["CSC_Phase"].unique())
    labels = [
        "All, weighted" if name == ALL else _wrapped(name, _CLASS_LETTERS) for name in classes
    ]
    across = min(len(names), _ACROSS)
    down = -(-len(names) // across)
    size = (
        max(_widest(labels, LABEL_SIZE) + across * 3.9 + 0.7, 7.0),
        down * (_BAR_INCHES * len(phases) * len(classes) + 0.9) + 0.7,
    )
    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.08, wspace=0.04)
    figure = Figure(figsize=size, layout=layout, dpi=DPI)
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for (run, name), axis in zip(names.items(), axes, strict=False):
        _draw_bars(axis, scored[scored["Run"] == run], classes, phases)
        axis.set_title(_wrapped(name, _CAPTION_LETTERS), fontsize=LABEL_SIZE)
        axis.set_xlabel("F1 (%)", fontsize=LABEL_SIZE)
        axis.tick_params(labelbottom=True)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    axes[0].set_yticks(range(len(classes)), labels)
    axes[0].set(xlim=(0, 100), ylim=(len(classes) - 0.4, -0.6))
    finish_scores(axes, "x")
    singles = scored[scored["Scene"] != POOLED]
    counts = singles.groupby(["Run", "CSC_Phase", "F1_Class"]).size()
    dotted = [dot_handle()] if counts.between(2, FEW_SCENES).any() else []
    add_legend(figure, [*phase_handles(phases), *dotted], _bar_note(scored))
    add_title(figure, title)
    if path is not None:
        save_png(figure, path)
    return figure


def scene_figure(
    f1: pd.DataFrame, *, f1_class: str = ALL, title: str, path: str | Path | None = None
) -> Figure:
    """Draw how F1 differs from scene to scene: a row each run, with both phases.

    Six scenes and more have a box (quartiles and median, with whiskers to the last scene within
    1.5 times their distance) under their dots; fewer are dots alone.

    Parameters
    ----------
    f1 : pandas.DataFrame
        Rows of up to 24 runs of the table ``f1`` of
        :func:`csc_xr.results.collect.collect_results`.
    f1_class : str
        Whose F1: a class, ``"All"`` weighted by their pixels, or ``"Macro"``.
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
        When the table lacks a column, has no score of a scene to show, or more than 24 runs.
    OutputError
        When the file cannot be written.
    """
    scenes = scene_scores(f1, f1_class, "Run")
    check_runs(scenes, MOST_ROWS, "F1 over scenes")
    names = name_runs(scenes)
    phases = sorted(scenes["CSC_Phase"].unique())
    labels = [_wrapped(name, _RUN_LETTERS) for name in names.values()]
    heights = [max(0.62, 0.2 * (label.count("\n") + 1) + 0.1) for label in labels]
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    size = (_widest(labels, TICK_SIZE) + 7.4, len(names) * max(heights) + 1.6)
    figure = Figure(figsize=size, layout=layout, dpi=DPI)
    axis = figure.subplots()
    for row, run in enumerate(names):
        for number, phase in enumerate(phases):
            own = scenes[(scenes["Run"] == run) & (scenes["CSC_Phase"] == phase)]
            if not own.empty:
                place = row + 0.38 * (number - (len(phases) - 1) / 2)
                _draw_spread(axis, percent(own), place, phase)
    axis.set_yticks(range(len(names)), labels)
    axis.set_ylim(len(names) - 0.45, -0.55)
    axis.set_xlabel(score_label(f1_class), fontsize=LABEL_SIZE)
    finish_scores([axis], "x")
    counts = scenes.groupby(["Run", "CSC_Phase"]).size().tolist()
    marks: list[Artist] = [dot_handle()]
    if max(counts) > 1:
        marks.append(Line2D([], [], color=EDGE_COLOUR, label="Mean", **_MEAN))
    each = "" if len(names) == 1 else " each"
    add_legend(figure, [*phase_handles(phases), *marks], f"{counted_scenes(counts)}{each}")
    add_title(figure, title)
    if path is not None:
        save_png(figure, path)
    return figure


def _line_columns(shown: pd.DataFrame, by: str) -> tuple[list[str], list[str]]:
    """Choose the settings that make lines, and name those that are averaged over."""
    # Runs that differ by their seed alone are one experiment, done again.
    settings = shown if by == _REPEATS else shown.drop(columns=_REPEATS, errors="ignore")
    columns, averaged = telling_columns(settings, given=[by], most=_MOST_LINES)
    if _REPEATS in telling_columns(shown, given=[by, *columns, *averaged])[0]:
        averaged.append(_REPEATS)
    return columns, averaged


def _lines(table: pd.DataFrame, columns: Sequence[str]) -> list[pd.DataFrame]:
    """Parts of a table by the values of some columns, missing ones too, in the table's order."""
    if not columns:
        return [table]
    return [part for _, part in table.groupby(list(columns), sort=False, dropna=False)]


def _places(values: pd.Series[Any]) -> tuple[list[Any], Floats]:
    """Give values in order, and where they stand: true to scale where that leaves them room."""
    ordered = sorted(values.unique().tolist())
    evenly = np.arange(len(ordered), dtype=np.float64)
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return ordered, evenly
    places = np.array(ordered, dtype=np.float64)
    crowded = np.diff(places) < _LEAST_GAP * (places[-1] - places[0])
    return ordered, evenly if crowded.any() else places


def _label_values(axis: Axes, places: Floats, labels: Sequence[str]) -> None:
    axis.set_xticks(places, [literal(label) for label in labels])
    if sum(text_inches(label, TICK_SIZE) + 0.15 for label in labels) > _PANEL_INCHES:
        for label in axis.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")


def _shows_dots(shown: pd.DataFrame, columns: Sequence[str], n_lines: int) -> bool:
    most = int(shown.groupby(list(columns), dropna=False).size().max())
    return most <= _ALWAYS_DOTS or (most <= FEW_SCENES and most * n_lines <= _MOST_DOTS)


def _draw_line(
    axis: Axes, places: Floats, scores: Sequence[Floats], number: int, *, one_by_one: bool
) -> None:
    """Draw means joined by a line, with single scores or their quartiles at each."""
    style = _line_style(number)
    for place, some in zip(places, scores, strict=True):
        if len(some) > 1 and one_by_one:
            axis.plot(np.full(len(some), place), some, **dots(style["color"]))
        elif len(some) > 1:
            low, high = np.percentile(some, [25, 75])
            axis.plot([place, place], [low, high], **_quartiles(style["color"]))
    there = [position for position, some in enumerate(scores) if len(some)]
    means = [float(np.mean(scores[position])) for position in there]
    axis.plot(places[there], means, **style)


def _line_style(number: int) -> dict[str, Any]:
    turn, position = divmod(number, len(_COLOURS))
    return {
        "color": _COLOURS[position],
        "marker": _MARKERS[position],
        "linestyle": _DASHES[turn],
        "linewidth": 1.6,
        "markersize": 7,
        "markeredgecolor": "white",
        "markeredgewidth": 0.7,
    }


def _quartiles(colour: str) -> dict[str, Any]:
    return {"color": colour, "linewidth": 4, "alpha": 0.35, "solid_capstyle": "butt"}


def _handles(names: Sequence[str], *, nameless: str) -> list[Artist]:
    return [
        Line2D([], [], label=literal(name) or nameless, **_line_style(number))
        for number, name in enumerate(names)
    ]


def _spread_handle(one_by_one: bool, what: str) -> Line2D:
    if one_by_one:
        return dot_handle(f"A {what}")
    return Line2D([], [], label=f"Middle half of the {what}s", **_quartiles(EDGE_COLOUR))


def _note(
    shown: pd.DataFrame, by: str, columns: Sequence[str], averaged: Sequence[str], n_unknown: int
) -> str:
    """Say what a mean is of, and what is not shown."""
    groups = shown.groupby([by, "CSC_Phase", *columns], dropna=False)["Scene"]
    counts = groups.nunique()
    note = f"Means over {counted_scenes(counts.tolist())}"
    if counts.max() == 1 and not averaged:
        note = "1 scene"
    if counts.min() < shown["Scene"].nunique():
        note += " (not the same everywhere)"
    if not averaged and (groups.size() > counts).any():
        note += " and several runs"
    if averaged:
        note += f" and all values of {', '.join(column_words(name) for name in averaged)}"
    if n_unknown:
        runs = "run" if n_unknown == 1 else "runs"
        note += f"; {n_unknown} {runs} of unknown {column_words(by)} not shown"
    return note


def _classes(scored: pd.DataFrame) -> list[str]:
    """Order classes by their codes, after all of them together; those without codes come last."""
    single = scored[scored["F1_Class"] != ALL].drop_duplicates("F1_Class")
    ordered = single.sort_values("Class_Code", kind="stable")["F1_Class"].tolist()
    return [*([ALL] if (scored["F1_Class"] == ALL).any() else []), *ordered]


def _wrapped(name: str, letters: int) -> str:
    return literal("\n".join(textwrap.wrap(name, letters)))


def _widest(labels: Sequence[str], size: float) -> float:
    lines = [line for label in labels for line in label.split("\n")]
    return max(text_inches(line, size) for line in lines)


def _draw_bars(
    axis: Axes, rows: pd.DataFrame, classes: Sequence[str], phases: Sequence[int]
) -> None:
    """Draw a bar each class and phase with its score, and scenes where they are few."""
    thick = 0.8 / len(phases)
    for (found, name), part in rows.groupby(["CSC_Phase", "F1_Class"]):
        phase = int(str(found))
        whole, scenes = part[part["Scene"] == POOLED], part[part["Scene"] != POOLED]
        score = float(np.mean(percent(whole if len(whole) else scenes)))
        aside = thick * (phases.index(phase) - (len(phases) - 1) / 2)
        place = classes.index(name) + aside
        fill, edge = PHASE_COLOURS[phase], PHASE_EDGES[phase]
        axis.barh(place, score, thick, color=fill, edgecolor=edge, linewidth=0.6)
        axis.annotate(
            f"{score:.1f}",
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=_FIGURE_SIZE,
            annotation_clip=False,
        )
        if 1 < len(scenes) <= FEW_SCENES:
            axis.plot(percent(scenes), np.full(len(scenes), place), **dots("black"))


def _bar_note(scored: pd.DataFrame) -> str:
    is_pooled = scored["Scene"] == POOLED
    pooled = scored[is_pooled].groupby("Run")["Scenes"].max()
    singly = scored[~scored["Run"].isin(pooled.index)].groupby("Run")["Scene"].nunique()
    parts = []
    if len(pooled):
        together = " together" if pooled.max() > 1 else ""
        parts.append(f"pixels of {counted_scenes(pooled.tolist())}{together}")
    if len(singly):
        parts.append(f"means over {counted_scenes(singly.tolist())}")
    return f"Bars: {', or else '.join(parts)}"


def _draw_spread(axis: Axes, scores: Floats, place: float, phase: int) -> None:
    fill, edge = PHASE_COLOURS[phase], PHASE_EDGES[phase]
    has_box = len(scores) >= _BOX_FROM
    if has_box:
        line = {"color": edge, "linewidth": 1.2}
        axis.boxplot(
            scores,
            orientation="horizontal",
            positions=[place],
            widths=0.3,
            showfliers=False,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": fill, "edgecolor": edge, "alpha": 0.55},
            medianprops=line | {"linewidth": 2.4},
            whiskerprops=line,
            capprops=line,
        )
    # Spread evenly and always alike, so that equal scores do not hide each other.
    aside = 0.2 * ((np.arange(len(scores)) * 0.618) % 1 - 0.5) if len(scores) > 1 else 0.0
    style = dots("black") if has_box else dots(edge) | {"markersize": 5.0, "alpha": 0.9}
    axis.plot(scores, np.full(len(scores), place) + aside, **style)
    if len(scores) > 1:
        axis.plot(np.mean(scores), place, **_MEAN, markeredgecolor=edge)
