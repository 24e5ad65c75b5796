"""Scores of one scene against its labels, as tables."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
import xarray as xr

from csc_xr.accuracy import classification_report, confusion_matrix
from csc_xr.errors import CscWarning
from csc_xr.export import write_table_csv
from csc_xr.legend import ClassLegend
from csc_xr.runs.jobs import Job

REPORTS = {"tile_class": "CNN", "pixel_class": "CSC"}
"""What reports are called, by variable."""


def score_result(
    result: xr.Dataset, labels: xr.DataArray, legend: ClassLegend
) -> dict[str, pd.DataFrame]:
    """Score the classes of both phases against labels; computes.

    Parameters
    ----------
    result : xarray.Dataset
        Holds ``tile_class`` and ``pixel_class``.
    labels : xarray.DataArray
        Dims (y, x) on the same grid; 0 is not scored.
    legend : ClassLegend
        The classes.

    Returns
    -------
    dict of str to pandas.DataFrame
        Reports by name of the variable; empty when no pixel is labelled.

    Warns
    -----
    CscWarning
        When no pixel is labelled.
    """
    if not bool((labels > 0).any().compute()):
        warnings.warn("The labels hold no class, so nothing is scored.", CscWarning, stacklevel=2)
        return {}
    return {
        phase: classification_report(confusion_matrix(labels, result[phase], legend=legend))
        for phase in ("tile_class", "pixel_class")
    }


def write_scores(
    result: xr.Dataset, folder: Path, job: Job, legend: ClassLegend, suffix: str
) -> tuple[dict[str, pd.DataFrame], dict[str, Path]]:
    """Score a result, where there are labels, and write the reports. Computes.

    Parameters
    ----------
    result : xarray.Dataset
        Holds ``tile_class`` and ``pixel_class``.
    folder : Path
        Where reports go.
    job : Job
        Gives name and labels.
    legend : ClassLegend
        The classes.
    suffix : str
        End of the names of the reports.

    Returns
    -------
    scores : dict of str to pandas.DataFrame
        Reports by name of the variable.
    reports : dict of str to Path
        Files by role.
    """
    scores = {} if job.labels is None else score_result(result, job.labels, legend)
    reports = {}
    for phase, report in scores.items():
        role = REPORTS[phase]
        reports[f"{role} report"] = folder / f"{role}_{job.name}_{suffix}.csv"
        write_table_csv(report, reports[f"{role} report"])
    return scores, reports


def weighted_f1(scores: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Take the F1 of all pixels, each class weighted by its pixels, out of reports.

    Parameters
    ----------
    scores : dict of str to pandas.DataFrame
        Reports by name of the variable.

    Returns
    -------
    dict of str to float
        F1 by name of the variable.
    """
    return {
        phase: float(report["F1_score"].iloc[-1])  # the row Weighted_avg
        for phase, report in scores.items()
    }
