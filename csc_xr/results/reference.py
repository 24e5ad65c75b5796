"""Results that the reference implementation left, as a table of F1."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from csc_xr.errors import CscWarning, ParameterError
from csc_xr.legend import ClassLegend
from csc_xr.results.tables import F1_COLUMNS, make_table, read_report, report_rows

_PHASES = {"CNN": 1, "CSC": 2}
_REPORT = re.compile(r"(CNN|CSC)_(.+)\.csv", re.IGNORECASE)
_PATCH = re.compile(r"_patch(\d+)$", re.IGNORECASE)
_CLASSIFIED = "_classified"
_FEW = 5


class _Report(NamedTuple):
    path: Path
    phase: int
    scene: str
    experiment: str | None


def collect_reference_results(
    folder: str | Path, *, experiment: str | None = None, legend: ClassLegend | None = None
) -> pd.DataFrame:
    """Read the scores that the reference wrote, every CNN_*.csv and CSC_*.csv under a folder.

    These files hold scores by scene and no counts of errors, so nothing can be pooled over scenes:
    there are rows of single scenes alone. Nor do they name their settings: the patch size comes
    from the folder's name, ``<OutFolder>_patch<k>``, and everything else is unknown, unless the
    table is completed by hand.

    Parameters
    ----------
    folder : str or Path
        Searched with all folders in it.
    experiment : str, optional
        Short name of the experiment, at the end of the names of the files. By default it is what
        follows the name of the scene where ``<name>_classified`` lies beside, or else what follows
        the last ``_``.
    legend : ClassLegend, optional
        Gives names to classes that the files know by code.

    Returns
    -------
    pandas.DataFrame
        Like ``f1`` of :func:`csc_xr.results.collect.collect_results`, with missing values for what
        is not known. A run is a folder and an experiment; its name is the folder's path from
        `folder` on.

    Raises
    ------
    ParameterError
        When there is no folder, or no file in it that can be read as scores.

    Warns
    -----
    CscWarning
        Naming files of such names that cannot be read, and saying that nothing is pooled.
    """
    top = Path(folder)
    if not top.is_dir():
        raise ParameterError(f"Old results are read from a folder, but {top} is none.")
    rows, damaged = [], []
    for report in _reports(top, experiment):
        try:
            scores = report_rows(_named(read_report(report.path), legend))
        except ParameterError as error:
            damaged.append(str(error))
            continue
        rows += [row | _facts(report, top) for row in scores]
    for message in damaged[:_FEW]:
        warnings.warn(f"Passed over: {message}", CscWarning, stacklevel=2)
    if len(damaged) > _FEW:
        more = f"{len(damaged) - _FEW} more files are no scores and were passed over."
        warnings.warn(more, CscWarning, stacklevel=2)
    if not rows:
        raise ParameterError(
            "Old results are files CNN_<name>_<experiment>.csv and CSC_<name>_<experiment>.csv "
            f"with the columns Class, Precision, Recall, F1_score and Support, but {top} and the "
            f"folders in it hold none ({len(damaged)} could not be read). Pass the folder that "
            "holds the output folders."
        )
    warnings.warn(
        "Old results hold scores of single scenes without counts of errors, so none is pooled.",
        CscWarning,
        stacklevel=2,
    )
    order = ["Patch_Size", "Run", "Scene", "CSC_Phase"]
    return make_table(rows, F1_COLUMNS).sort_values(order, kind="stable", ignore_index=True)


def _reports(top: Path, experiment: str | None) -> Iterator[_Report]:
    for parent, folders, files in os.walk(top):
        stems = [Path(name).stem for name in (*files, *folders)]
        scenes = [stem.removesuffix(_CLASSIFIED) for stem in stems if stem.endswith(_CLASSIFIED)]
        folders[:] = sorted(name for name in folders if not name.endswith(".zarr"))
        for name in sorted(files):
            found = _REPORT.fullmatch(name)
            if found:
                scene, short = _split(found[2], scenes, experiment)
                yield _Report(Path(parent, name), _PHASES[found[1].upper()], scene, short)


def _split(stem: str, scenes: Sequence[str], experiment: str | None) -> tuple[str, str | None]:
    """Part the name of a scene from that of an experiment; both may hold underscores."""
    if experiment is not None:
        scene = stem.removesuffix(f"_{experiment}")
        return scene, experiment if scene != stem else None
    known = [scene for scene in scenes if stem.startswith(f"{scene}_")]
    if known:
        scene = max(known, key=len)
        return scene, stem[len(scene) + 1 :]
    scene, _, short = stem.rpartition("_")
    return (scene, short) if scene else (stem, None)


def _named(report: pd.DataFrame, legend: ClassLegend | None) -> pd.DataFrame:
    """Replace codes by the names of their classes."""
    if legend is None:
        return report
    names = {str(entry.code): entry.name for entry in legend.classes}
    codes = report["Class"].str.replace(r"\.0$", "", regex=True)
    return report.assign(Class=codes.map(names).fillna(report["Class"]))


def _facts(report: _Report, top: Path) -> dict[str, Any]:
    within = report.path.parent.relative_to(top)
    # The folder itself may be the output folder of a job.
    parts = [*reversed(within.parts), top.absolute().name]
    patches = [found[1] for found in map(_PATCH.search, parts) if found]
    folder = "" if within == Path() else within.as_posix()
    return {
        "Patch_Size": int(patches[0]) if patches else None,
        "CSC_Phase": report.phase,
        "Scene": report.scene,
        "Scenes": 1,
        "Run": f"{folder} {report.experiment or ''}".strip() or "results",
        "Experiment": report.experiment,
    }
