"""Results over many runs, from their records: tables of F1 and of errors, a row an observation."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from csc_xr.accuracy.confusion import subsample
from csc_xr.errors import CscWarning, ParameterError
from csc_xr.files import files_below
from csc_xr.fronts.deviation import Deviation
from csc_xr.legend import ClassLegend
from csc_xr.record import RECORD_END
from csc_xr.results.observations import ERRORS, PHASES, ImageRecord, read_image_record
from csc_xr.results.tables import (
    ERROR_COLUMNS,
    ERROR_TYPES,
    F1_COLUMNS,
    POOLED,
    make_table,
    matrix_rows,
    read_report,
    report_rows,
)

Row = dict[str, Any]
Metres = NDArray[np.float64]

_FEW = 5
"""Names in a message."""


@dataclass(frozen=True, eq=False)
class Results:
    """Tables over many runs; docs/results.md describes their columns.

    Attributes
    ----------
    f1 : pandas.DataFrame
        F1 (0 to 1) of each run, phase and class, for each scene and pooled over the run's scenes.
    front_errors, margin_errors : pandas.DataFrame
        Mode, median, mean and standard deviation in metres of the distances from digitised
        points to what was found, for each scene and pooled over the run's scenes.
    runs : pandas.DataFrame
        The runs read, a row each: settings, software, and what became of their scenes.
    confusions : dict of (str, int) to xarray.DataArray
        Pooled confusion matrix by run and phase.
    distances : dict of (str, str) to ndarray
        Pooled distances in metres, float64, by run and ``"front"`` or ``"margin"``.
    legends : dict of str to ClassLegend
        Classes by run, where they were counted.
    """

    f1: pd.DataFrame
    front_errors: pd.DataFrame
    margin_errors: pd.DataFrame
    runs: pd.DataFrame
    confusions: Mapping[tuple[str, int], xr.DataArray]
    distances: Mapping[tuple[str, str], Metres]
    legends: Mapping[str, ClassLegend]


@dataclass(frozen=True, eq=False)
class _Run:
    """Images of one run: those that count, and those left out since its network knows them."""

    images: tuple[ImageRecord, ...]
    left_out: tuple[ImageRecord, ...]

    @property
    def first(self) -> ImageRecord:
        return (*self.images, *self.left_out)[0]


def collect_results(folder: str | Path, *, sample: int | None = None, seed: int = 0) -> Results:
    """Read every run record under a folder, and make tables of what they say.

    A run is what was classified by one network with the same settings, tags and software: one
    job over several images. Names of folders say nothing, so a folder that was moved gives the
    same tables, and an image that lies there twice counts once. Images that a jointly trained
    network learned from are left out of its scores.

    Parameters
    ----------
    folder : str or Path
        Searched with all folders in it.
    sample : int, optional
        Pool so many pixels of each run and phase, drawn at random without replacement; by
        default all. Scores of single scenes are always of all pixels.
    seed : int
        Of that draw.

    Returns
    -------
    Results
        Tables; those of errors are empty where nothing was digitised.

    Raises
    ------
    ParameterError
        When there is no folder, no record of a classified image in it, or `sample` is below 1.

    Warns
    -----
    CscWarning
        Naming records that cannot be read, copies, images left out, scores that cannot be
        pooled, and outputs that are gone.
    """
    if sample is not None and sample < 1:
        raise ParameterError(f"sample must be 1 pixel or more, got {sample}. Leave it out for all.")
    top = Path(folder)
    runs = _group(_without_copies(_read(top), top), top)
    _note_images([image for run in runs for image in run.images], top)
    confusions = {
        (run.first.run, phase): matrix if sample is None else subsample(matrix, n=sample, seed=seed)
        for run in runs
        for phase, matrix in _pooled_confusions(run).items()
    }
    scores = [row for run in runs for row in _scores(run, confusions)]
    errors: dict[str, list[Row]] = {}
    distances: dict[tuple[str, str], Metres] = {}
    for role in ERRORS:
        errors[role] = []
        for run in runs:
            rows, pooled = _errors(run, role)
            errors[role] += rows
            if pooled is not None and pooled.count:
                distances[run.first.run, role] = pooled.distances_m
    return Results(
        f1=make_table(scores, F1_COLUMNS),
        front_errors=make_table(errors["front"], ERROR_COLUMNS),
        margin_errors=make_table(errors["margin"], ERROR_COLUMNS),
        runs=make_table([_describe(run, top) for run in runs], ("Run",)),
        confusions=confusions,
        distances=distances,
        legends={
            run.first.run: image.legend for run in runs for image in run.images if image.legend
        },
    )


def _read(top: Path) -> list[ImageRecord]:
    if not top.is_dir():
        raise ParameterError(
            f"Results are collected from a folder, but {top} is none. Check the path."
        )
    found: list[ImageRecord] = []
    damaged, others = 0, 0
    for path in files_below(top, RECORD_END):
        try:
            record = read_image_record(path)
        except ParameterError as error:
            damaged += 1
            warnings.warn(f"Passed over: {error}", CscWarning, stacklevel=3)
            continue
        if record is None:
            others += 1
        else:
            found.append(record)
    if not found:
        raise ParameterError(
            f"Results are collected from the records of classified images, files that end in "
            f"{RECORD_END}, but {top} and the folders in it hold none ({damaged} could not be "
            f"read, {others} are of trainings or of scenes of a stack). Pass the folder that "
            "classify or batch wrote into."
        )
    return found


def _without_copies(records: Sequence[ImageRecord], top: Path) -> list[ImageRecord]:
    """Keep the last record of each image of a run."""
    kept: dict[tuple[str, str, str], ImageRecord] = {}
    copies: list[ImageRecord] = []
    earlier: list[ImageRecord] = []
    for record in sorted(records, key=lambda record: (record.finished, record.path)):
        key = (record.run, record.scene, record.image)
        before = kept.get(key)
        if before is not None:
            (copies if before.inputs == record.inputs else earlier).append(before)
        kept[key] = record
    _note(copies, top, "of an image of the same run as another are counted once")
    _note(earlier, top, "of an image scored by other labels or lines later on are not counted")
    return list(kept.values())


def _group(records: Iterable[ImageRecord], top: Path) -> list[_Run]:
    """Gather records by run, in the order of settings; images are in that of their names."""
    by_run: dict[str, list[ImageRecord]] = {}
    for record in sorted(records, key=lambda record: (record.scene, record.image)):
        by_run.setdefault(record.run, []).append(record)
    runs: list[_Run] = []
    left_out: list[ImageRecord] = []
    for images in by_run.values():
        known = tuple(image for image in images if image.is_joint and image.learned)
        left_out += known
        runs.append(_Run(tuple(image for image in images if image not in known), known))
    _note(left_out, top, "are left out, since their jointly trained network learned from the image")
    return sorted(runs, key=lambda run: _order(run.first))


def _order(record: ImageRecord) -> list[tuple[bool, bool, float, str]]:
    keys = []
    for value in (*record.columns.values(), record.run):
        is_number = isinstance(value, int | float)
        text = "" if is_number else str(value)
        keys.append((value is None, not is_number, float(value) if is_number else 0.0, text))
    return keys


def _note_images(images: Sequence[ImageRecord], top: Path) -> None:
    _note(
        [image for image in images if image.is_joint and image.learned is None],
        top,
        "are all counted, since their jointly trained network does not say what it learned from",
    )
    _note(
        [image for image in images if image.learned and image.columns["Validation"] == "Unseen"],
        top,
        "are tagged as unseen, but their network learned from these very images",
    )
    _note([image for image in images if image.gone], top, "have lost outputs that were beside them")
    _note(
        [image for image in images if image.reports and not image.confusions],
        top,
        "hold no counts of pixels, as older ones, so their scores are not pooled",
    )


def _note(records: Sequence[ImageRecord], top: Path, what: str) -> None:
    if not records:
        return
    names = sorted(record.path.relative_to(top).as_posix() for record in records)
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    message = f"Run records {what}: {', '.join(names[:_FEW])}{more}."
    warnings.warn(message, CscWarning, stacklevel=4)


def _pooled_confusions(run: _Run) -> dict[int, xr.DataArray]:
    """Add up the images of a run by phase; of one network, all their matrices have one shape."""
    pooled = {}
    for phase in PHASES:
        matrices = [image.confusions[phase] for image in run.images if phase in image.confusions]
        if matrices:
            counts = np.sum([matrix.values for matrix in matrices], axis=0)
            pooled[phase] = matrices[0].copy(data=counts)
    return pooled


def _scores(run: _Run, pooled: Mapping[tuple[str, int], xr.DataArray]) -> Iterator[Row]:
    for phase in PHASES:
        scored = [image for image in run.images if phase in image.confusions]
        for image in run.images:
            facts = _facts([image], scene=image.scene) | {"CSC_Phase": phase}
            for row in _image_scores(image, phase):
                yield row | facts
        if scored:
            facts = _facts(scored, scene=POOLED) | {"CSC_Phase": phase}
            for row in matrix_rows(pooled[run.first.run, phase]):
                yield row | facts


def _image_scores(image: ImageRecord, phase: int) -> list[Row]:
    if phase in image.confusions:
        return matrix_rows(image.confusions[phase])
    if phase not in image.reports:
        return []
    try:
        return report_rows(read_report(image.reports[phase]))
    except ParameterError as error:
        warnings.warn(f"Passed over: {error}", CscWarning, stacklevel=3)
        return []


def _facts(images: Sequence[ImageRecord], *, scene: str) -> Row:
    """Give what the rows of one or several images have in common."""
    first = images[0]
    learned = None if first.learned is None else sum(bool(image.learned) for image in images)
    facts = {"Scene": scene, "Scenes": len(images), "Scenes_Learned": learned, "Run": first.run}
    facts |= first.columns
    if facts["Validation"] is None and learned == len(images):
        # Of images it did not learn from a network may still know the place.
        facts["Validation"] = "Seen"
    return facts


def _errors(run: _Run, role: str) -> tuple[list[Row], Deviation | None]:
    """Rows of each image and of all, and the distances of all."""
    measured = [image for image in run.images if role in image.errors]
    rows = []
    for image in measured:
        figures = image.errors[role]
        facts = _facts([image], scene=image.scene) | {"Scenes_Found": int(figures["count"] > 0)}
        if role == "front":
            facts |= {"Outcome": image.front.get("outcome"), "Reason": image.front.get("reason")}
        rows += _error_rows(figures, facts)
    known = {image: _distances(image, role) for image in measured}
    pooled = {image: values for image, values in known.items() if values is not None}
    if not pooled:
        return rows, None
    deviation = Deviation(np.concatenate(list(pooled.values())), np.empty(0))
    facts = _facts(list(pooled), scene=POOLED)
    facts["Scenes_Found"] = sum(len(values) > 0 for values in pooled.values())
    return rows + _error_rows(deviation.to_dict(), facts), deviation


def _error_rows(figures: Mapping[str, float], facts: Row) -> list[Row]:
    return [
        {
            "Error": figures[figure],
            "Error_Type": name,
            "Points": int(figures["count"]),
            "Share_Under_100_m": figures["share_under_100_m"],
            **facts,
        }
        for name, figure in ERROR_TYPES.items()
    ]


def _distances(image: ImageRecord, role: str) -> Metres | None:
    """Distances of an image, or None where their file is gone or is not the one written."""
    count = int(image.errors[role]["count"])
    if count == 0:
        return np.empty(0)
    path = image.distances.get(role)
    if path is None:
        return None  # and noted, since an output is gone
    try:
        # Python reads numbers to the last bit, whatever the version of pandas.
        found = pd.read_csv(path, dtype=str)["distance_m"].map(float).to_numpy(dtype=np.float64)
    except (OSError, ValueError, KeyError):
        found = np.empty(0)
    if len(found) == count and np.isfinite(found).all():
        return found
    warnings.warn(
        f"Passed over: {path} must hold {count} distances in the column distance_m, but does not. "
        "Classify the image again.",
        CscWarning,
        stacklevel=4,
    )
    return None


def _describe(run: _Run, top: Path) -> Row:
    images = run.images
    sought = [image.front["outcome"] for image in images if "outcome" in image.front]
    learned = [bool(image.learned) for image in images if image.learned is not None]
    folders = {image.path.parent.relative_to(top).as_posix() for image in (*images, *run.left_out)}
    return {
        "Run": run.first.run,
        **run.first.columns,
        "Scenes": len(images),
        "Scenes_Scored": sum(bool(image.confusions or image.reports) for image in images),
        "Scenes_Learned": sum(learned) if learned else None,
        "Left_Out": ", ".join(image.scene for image in run.left_out) or None,
        "Fronts_Sought": len(sought),
        "Fronts_Found": sought.count("found"),
        **{f"Software_{name}": version for name, version in run.first.software.items()},
        "Folder": ", ".join(sorted(folders)),
    }
