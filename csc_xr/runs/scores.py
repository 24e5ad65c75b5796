"""Scores of one scene against its labels, as tables."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from csc_xr.accuracy.confusion import confusion_matrix, confusion_to_dict
from csc_xr.accuracy.scores import classification_report, tidy_scores
from csc_xr.errors import CscWarning
from csc_xr.export import write_table_csv
from csc_xr.legend import ClassLegend
from csc_xr.runs.jobs import Job

REPORTS = {"tile_class": "CNN", "pixel_class": "CSC"}
"""What reports are called, by variable."""


@dataclass(frozen=True)
class SceneScores:
    """How well a scene was classified, and what was written of it.

    Attributes
    ----------
    reports : dict of str to pandas.DataFrame
        By name of the variable; empty where nothing is labelled.
    outputs : dict of str to Path
        Files by role.
    findings : dict
        For the run record: legend and confusion matrices, in plain values.
    """

    reports: dict[str, pd.DataFrame]
    outputs: dict[str, Path]
    findings: dict[str, Any]


def count_confusions(
    result: xr.Dataset, labels: xr.DataArray, legend: ClassLegend
) -> dict[str, xr.DataArray]:
    """Count the pixels of both phases by digitised and predicted class; computes.

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
    dict of str to xarray.DataArray
        Confusion matrices by name of the variable; empty when no pixel is labelled.

    Warns
    -----
    CscWarning
        When no pixel is labelled.
    """
    if not bool((labels > 0).any().compute()):
        warnings.warn("The labels hold no class, so nothing is scored.", CscWarning, stacklevel=2)
        return {}
    return {phase: confusion_matrix(labels, result[phase], legend=legend) for phase in REPORTS}


def write_scores(
    result: xr.Dataset, folder: Path, job: Job, legend: ClassLegend, suffix: str
) -> SceneScores:
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
    SceneScores
        Reports, files and findings; all empty without labels.
    """
    counted = {} if job.labels is None else count_confusions(result, job.labels, legend)
    if not counted:
        return SceneScores({}, {}, {})
    reports = {phase: classification_report(confusion) for phase, confusion in counted.items()}
    outputs = {}
    for phase, report in reports.items():
        role = REPORTS[phase]
        outputs[f"{role} report"] = folder / f"{role}_{job.name}_{suffix}.csv"
        write_table_csv(report, outputs[f"{role} report"])
    outputs["scores"] = folder / f"SCORES_{job.name}_{suffix}.csv"
    write_table_csv(tidy_scores(counted), outputs["scores"])
    matrices = {phase: confusion_to_dict(confusion) for phase, confusion in counted.items()}
    return SceneScores(reports, outputs, {"confusion": {"legend": legend.to_dict(), **matrices}})


def weighted_f1(reports: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Take the F1 of all pixels, each class weighted by its pixels, out of reports.

    Parameters
    ----------
    reports : dict of str to pandas.DataFrame
        Reports by name of the variable.

    Returns
    -------
    dict of str to float
        F1 by name of the variable.
    """
    return {
        phase: float(report["F1_score"].iloc[-1])  # the row Weighted_avg
        for phase, report in reports.items()
    }
