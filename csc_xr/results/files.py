"""Tables and figures of results over many runs, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from csc_xr.export import write_table_csv
from csc_xr.figures.confusion import confusion_figure
from csc_xr.figures.fronts import error_histogram
from csc_xr.figures.run_names import (
    axis_label,
    check_columns,
    column_words,
    name_runs,
    telling_columns,
)
from csc_xr.figures.score_marks import ALL, PHASES, POOLED
from csc_xr.figures.sweeps import (
    MOST_PANELS,
    MOST_ROWS,
    class_figure,
    f1_sweep_figure,
    scene_figure,
)
from csc_xr.files import check_output_folder
from csc_xr.fronts.deviation import Deviation
from csc_xr.results.collect import Results
from csc_xr.results.observations import ERRORS

SWEPT = ("Patch_Size", "Tile_Size", "Bands")
"""Settings that F1 is drawn against where they differ."""

_FIGURES = (
    *(f"f1_{name.lower()}" for name in SWEPT), "f1_classes", "f1_scenes",
    *(f"confusion_phase{phase}" for phase in PHASES), *(f"{role}_errors" for role in ERRORS),
)  # fmt: skip


def write_results(
    results: Results, folder: str | Path, *, by: Sequence[str] = ()
) -> dict[str, Path]:
    """Write the tables of results, and figures of them.

    Writes what :func:`write_f1` does, ``front_errors.csv``, ``margin_errors.csv`` and
    ``runs.csv``; the confusion matrices of the run of highest F1, ``confusion_phase1.png`` and
    ``confusion_phase2.png``; and the distances from what was digitised of the run of smallest
    median, ``front_errors.png`` and ``margin_errors.png``.

    Parameters
    ----------
    results : Results
        From :func:`csc_xr.results.collect.collect_results`.
    folder : str or Path
        Where files go; created when absent. Those of an earlier call are replaced or removed.
    by : sequence of str
        More columns to draw F1 against.

    Returns
    -------
    dict of str to Path
        Files by name.

    Raises
    ------
    ParameterError
        When the table of F1 lacks a column.
    OutputError
        When a file cannot be written.
    """
    outputs = write_f1(results.f1, folder, by=by)
    out = Path(folder)
    names = name_runs(results.runs)
    for name in ("front_errors", "margin_errors", "runs"):
        path = outputs[f"{name}.csv"] = out / f"{name}.csv"
        write_table_csv(getattr(results, name), path)
    for run, phase in ((run, phase) for run in best_runs(results.f1)[:1] for phase in PHASES):
        if (run, phase) in results.confusions:
            path = outputs[f"confusion_phase{phase}.png"] = out / f"confusion_phase{phase}.png"
            title = _titled(PHASES[phase], names[run])
            matrix, legend = results.confusions[run, phase], results.legends[run]
            confusion_figure(matrix, legend=legend, title=title, path=path)
    for role in ERRORS:
        found = {
            run: Deviation(metres, np.empty(0))
            for (run, kind), metres in results.distances.items()
            if kind == role
        }
        if found:
            run = min(found, key=lambda name: found[name].median_m)
            path = outputs[f"{role}_errors.png"] = out / f"{role}_errors.png"
            title = _titled(f"{role.capitalize()} error", names[run])
            error_histogram(found[run], title=title, path=path)
    return outputs


def write_f1(f1: pd.DataFrame, folder: str | Path, *, by: Sequence[str] = ()) -> dict[str, Path]:
    """Write a table of F1, and figures of it.

    Writes ``f1.csv``; F1 against patch size, tile size and bands, where these differ, and against
    other columns that are asked for, ``f1_patch_size.png`` and so on; by class,
    ``f1_classes.png``, and over scenes, ``f1_scenes.png``. Where there are more runs than these
    two can show, they show those of highest F1.

    Parameters
    ----------
    f1 : pandas.DataFrame
        From :func:`csc_xr.results.collect.collect_results` or
        :func:`csc_xr.results.reference.collect_reference_results`.
    folder : str or Path
        Where files go; created when absent. Those of an earlier call are replaced or removed.
    by : sequence of str
        More columns to draw F1 against.

    Returns
    -------
    dict of str to Path
        Files by name.

    Raises
    ------
    ParameterError
        When the table lacks a column.
    OutputError
        When a file cannot be written.
    """
    check_columns(f1, by, "F1 against settings")
    out = check_output_folder(folder)
    for name in _FIGURES:
        (out / f"{name}.png").unlink(missing_ok=True)
    outputs = {"f1.csv": out / "f1.csv"}
    write_table_csv(f1, outputs["f1.csv"])
    scenes = f1[(f1["F1_Class"] == ALL) & (f1["Scene"] != POOLED) & f1["F1"].notna()]
    if scenes.empty:
        return outputs
    differing = [name for name in SWEPT if scenes[name].nunique() > 1]
    for name in dict.fromkeys([*differing, *by]):
        path = outputs[f"f1_{name.lower()}.png"] = out / f"f1_{name.lower()}.png"
        f1_sweep_figure(f1, by=name, title=f"F1 against {column_words(name)}", path=path)
    best = best_runs(f1)
    for name, draw, most, what in (
        ("f1_classes.png", class_figure, MOST_PANELS, "F1 by class"),
        ("f1_scenes.png", scene_figure, MOST_ROWS, "F1 over scenes"),
    ):
        title = what if len(best) <= most else f"{what}: the {most} best of {len(best)} runs"
        outputs[name] = out / name
        draw(f1[f1["Run"].isin(best[:most])], title=title, path=outputs[name])
    return outputs


def best_runs(f1: pd.DataFrame) -> list[str]:
    """Order runs by their F1 in phase two, or else in phase one, the highest first.

    Parameters
    ----------
    f1 : pandas.DataFrame
        A table of F1.

    Returns
    -------
    list of str
        Runs that have a score.
    """
    scores = _run_scores(f1)
    if scores.empty:
        return []
    last = scores.ffill(axis="columns").iloc[:, -1]
    return [str(run) for run in last.sort_values(ascending=False, kind="stable").index]


def summarise_runs(results: Results) -> pd.DataFrame:
    """Give a row each run: what tells it from the others, F1 in percent, and the front error.

    Parameters
    ----------
    results : Results
        From :func:`csc_xr.results.collect.collect_results`.

    Returns
    -------
    pandas.DataFrame
        In the order of F1; with columns for what there is.
    """
    runs = results.runs.set_index("Run")
    chosen, _ = telling_columns(results.runs)
    table = runs[[*chosen, "Scenes"]].rename(columns=axis_label)
    scores = _run_scores(results.f1).rename(columns={1: "F1 tiles (%)", 2: "F1 pixels (%)"})
    table = table.join(100 * scores)
    fronts = results.front_errors
    fronts = fronts[(fronts["Scene"] == POOLED) & (fronts["Error_Type"] == "Median")]
    if len(fronts):
        table = table.join(fronts.set_index("Run")["Error"].rename("Front error, median (m)"))
    best = best_runs(results.f1)
    return table.loc[[*best, *(run for run in table.index if run not in best)]]


def _run_scores(f1: pd.DataFrame) -> pd.DataFrame:
    """Tabulate the weighted F1 of runs by phase: of pooled pixels, or else means over scenes."""
    scored = f1[(f1["F1_Class"] == ALL) & f1["F1"].notna()]
    by = [scored["Run"], scored["CSC_Phase"].astype(int)]
    is_pooled = scored["Scene"] == POOLED
    means = scored["F1"].where(~is_pooled).groupby(by, sort=False).mean()
    pooled = scored["F1"].where(is_pooled).groupby(by, sort=False).mean()
    return pooled.fillna(means).unstack()


def _titled(what: str, name: str) -> str:
    return f"{what}, best run: {name}" if name else what
