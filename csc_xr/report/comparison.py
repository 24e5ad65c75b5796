"""Runs of a report beside each other: tables and figures over settings and scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from csc_xr.figures.fronts import error_histogram
from csc_xr.figures.run_names import axis_label, column_words, name_runs, telling_columns
from csc_xr.figures.score_marks import ALL, PHASES, POOLED
from csc_xr.figures.sweeps import (
    MOST_PANELS,
    MOST_ROWS,
    class_figure,
    f1_sweep_figure,
    scene_figure,
)
from csc_xr.fronts.deviation import Deviation
from csc_xr.report.pictures import Picture, picture_of_figure
from csc_xr.report.tables import NOTHING, Cell, Table, value_words
from csc_xr.results.collect import Results
from csc_xr.results.files import SWEPT, best_runs

_MEAN = " *"
_AVERAGES = {ALL: "All, weighted", "Macro": "Mean of classes"}


def comparison_tables(results: Results) -> list[Table]:
    """List the runs with their scores, and with the errors of fronts and margins.

    Parameters
    ----------
    results : Results
        From :func:`csc_xr.results.collect.collect_results`.

    Returns
    -------
    list of Table
        Those that have several runs to compare.
    """
    tables = []
    if results.f1["Run"].nunique() > 1:
        tables.append(_f1_table(results.f1))
    for what, errors in (("Front", results.front_errors), ("Margin", results.margin_errors)):
        if errors["Run"].nunique() > 1:
            tables.append(_error_table(errors, what))
    return tables


def comparison_pictures(results: Results) -> Iterator[Picture]:
    """Draw F1 against the settings that differ, by class and over scenes, and errors of fronts.

    Parameters
    ----------
    results : Results
        From :func:`csc_xr.results.collect.collect_results`.

    Yields
    ------
    Picture
        Those that have something to say.
    """
    f1 = results.f1
    best = best_runs(f1)
    scenes = f1[(f1["Scene"] != POOLED) & f1["F1"].notna()]
    for setting in SWEPT:
        if scenes[setting].nunique() > 1:
            title = f"F1 against {column_words(setting)}"
            figure = f1_sweep_figure(f1, by=setting, title=title)
            yield picture_of_figure(figure, title, f"{title}, both phases. The table has it too.")
    drawn = [("F1 by class", class_figure, MOST_PANELS)] if best else []
    if scenes["Scene"].nunique() > 1:
        drawn.append(("F1 over scenes", scene_figure, MOST_ROWS))
    for words, draw, most in drawn:
        few = "" if len(best) <= most else f", the {most} best of {len(best)} runs"
        figure = draw(f1[f1["Run"].isin(best[:most])], title=words)
        alt = f"{words}{few}, both phases. The tables have it too."
        yield picture_of_figure(figure, f"{words}{few}", alt)
    yield from _error_pictures(results)


def _error_pictures(results: Results) -> Iterator[Picture]:
    """Distances of the runs of smallest median; those of a single scene have a figure already."""
    tables = {"front": results.front_errors, "margin": results.margin_errors}
    several = {
        (run, role)
        for role, errors in tables.items()
        for run in errors.loc[(errors["Scene"] == POOLED) & (errors["Scenes"] > 1), "Run"]
    }
    found = {
        key: Deviation(metres, np.empty(0))
        for key, metres in results.distances.items()
        if key in several
    }
    names = name_runs(results.runs)
    ordered = sorted(found.items(), key=lambda pair: (pair[0][1], pair[1].median_m, pair[0][0]))
    for (run, role), deviation in ordered[:MOST_PANELS]:
        title = ", ".join(filter(None, (f"{role.capitalize()} error", names[run])))
        alt = (
            f"{title}: distances in bins of 10 m. Median {deviation.median_m:.1f} m, mean "
            f"{deviation.mean_m:.1f} m, {deviation.count} digitised points."
        )
        yield picture_of_figure(error_histogram(deviation, title=title), title, alt)


def _f1_table(f1: pd.DataFrame) -> Table:
    settings = telling_columns(f1)[0]
    phases = sorted(f1["CSC_Phase"].unique())
    scores = f1[f1["F1_Class"].isin(list(_AVERAGES))]
    pooled = scores[scores["Scene"] == POOLED]
    means = scores[scores["Scene"] != POOLED]
    keys = ["Run", "CSC_Phase", "F1_Class"]
    counted = pooled.groupby(keys)["F1"].first()
    found = counted.combine_first(means.groupby(keys)["F1"].mean())
    rows = []
    for run, part in f1.groupby("Run", sort=False):
        cells = [*_setting_cells(part, settings)]
        cells.append(Cell(str(part.loc[part["Scene"] != POOLED, "Scene"].nunique())))
        for key in ((run, phase, name) for phase in phases for name in _AVERAGES):
            score, mark = found.get(key, np.nan), "" if key in counted else _MEAN
            cells.append(Cell(NOTHING if np.isnan(score) else f"{score:.3f}{mark}"))
        rows.append(cells)
    columns = [*([axis_label(name) for name in settings] or ["Run"]), "Scenes"]
    others = "" if len(counted) == len(found) else f"; those with{_MEAN} are means over its scenes"
    return Table(
        f"F1 of each run, of the pixels of its scenes together{others}",
        [*columns, *list(_AVERAGES.values()) * len(phases)],
        rows,
        groups=[("", len(columns)), *((PHASES[phase], len(_AVERAGES)) for phase in phases)],
    )


def _error_table(errors: pd.DataFrame, what: str) -> Table:
    settings = telling_columns(errors)[0]
    kinds = list(dict.fromkeys(errors["Error_Type"]))
    rows = []
    for _, part in errors[errors["Scene"] == POOLED].groupby("Run", sort=False):
        first, metres = part.iloc[0], part.set_index("Error_Type")["Error"]
        counts = [Cell(value_words(first[name])) for name in ("Scenes", "Points")]
        figures = [Cell(value_words(float(metres[kind]))) for kind in kinds]
        rows.append([*_setting_cells(part, settings), *counts, *figures])
    columns = [axis_label(name) for name in settings] or ["Run"]
    caption = f"{what} error of each run in metres, all points of its scenes together"
    return Table(caption, [*columns, "Scenes", "Points", *kinds], rows)


def _setting_cells(part: pd.DataFrame, settings: Sequence[str]) -> list[Cell]:
    first = part.iloc[0]
    return [Cell(value_words(first[name])) for name in settings] or [Cell(str(first["Run"]))]
