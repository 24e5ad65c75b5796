"""The columns of a table of jobs: those of the research scripts, and every way to classify."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from csc_xr.errors import CscError, CscWarning, ParameterError
from csc_xr.fronts.settings import FrontSettings, read_front_settings
from csc_xr.runs.job_table import JobRow, JobTable, column_key
from csc_xr.training.phase_two.fitting import FitSettings
from csc_xr.workflow import ClassifySettings


@dataclass(frozen=True)
class JobSpec:
    """What a row asks for.

    Attributes
    ----------
    row : JobRow
        The row.
    model : str
        Name or path of the tile network.
    source : Path
        Folder of images, or one image.
    out : Path
        Where outputs go.
    title : str
        The same as the table has it, without what comes before.
    settings : ClassifySettings
        How to classify.
    options : mapping
        Values of the other columns that were given: ``dims``, ``experiment``, ``legend``,
        ``labels``, ``classifier``.
    scene_options : mapping
        How to open the images.
    tags : mapping of str to str
        What else is known of the images.
    done : bool
        Whether the table says that it is done.
    """

    row: JobRow
    model: str
    source: Path
    out: Path
    title: str
    settings: ClassifySettings
    options: Mapping[str, Any] = field(default_factory=dict)
    scene_options: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    done: bool = False


def read_specs(table: JobTable) -> tuple[list[JobSpec], list[str]]:
    """Read what the rows of a table ask for.

    Parameters
    ----------
    table : JobTable
        From :func:`csc_xr.runs.job_table.read_job_table`.

    Returns
    -------
    specs : list of JobSpec
        Of the rows that can be read.
    errors : list of str
        What is wrong with the others, a sentence each, with the number of the line.

    Raises
    ------
    ParameterError
        When columns are missing or unknown.

    Warns
    -----
    CscWarning
        When there are columns that need no longer be.
    """
    given = {column_key(name): name for name in table.header if name.strip()}
    unknown = [name for key, name in given.items() if key not in _COLUMNS]
    if unknown:
        raise ParameterError(
            f"{table.path} has columns that csc_xr does not know: {', '.join(unknown)}. Known "
            f"are {', '.join(column.name for column in _COLUMNS.values())}."
        )
    missing = [name for name in _REQUIRED if column_key(name) not in given]
    if missing:
        raise ParameterError(
            f"{table.path} must have the columns {', '.join(_REQUIRED)}, but lacks "
            f"{', '.join(missing)}. It has {', '.join(table.header)}."
        )
    if len({"expshorthand", "eportshorthand", "experiment"} & given.keys()) > 1:
        raise ParameterError(
            f"{table.path} must name the short names of its jobs once, got several of "
            "ExpShortHand, EportShortHand and Experiment. Keep one."
        )
    for key, reason in _NEEDLESS.items():
        if key in given:
            warnings.warn(f"{given[key]} is not needed: {reason}", CscWarning, stacklevel=2)
    specs, errors = [], []
    for row in table.rows:
        try:
            specs.append(_read_row(row, table.path.parent))
        except CscError as error:
            errors.append(f"line {row.line}: {error}")
    return specs, errors


def _read_row(row: JobRow, base: Path) -> JobSpec:
    parts: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
    for name in _REQUIRED:
        if column_key(name) not in row.cells:
            raise ParameterError(f"{name} must be given, but the cell is empty.")
    for key, text in row.cells.items():
        column = _COLUMNS[key]
        try:
            value = column.read(text)
        except CscError:
            raise
        except (ValueError, KeyError, OverflowError) as error:
            raise ParameterError(f"{column.name} must be {column.kind}, got {text!r}.") from error
        parts[column.part][column.target] = value
    job, settings = parts["job"], parts["settings"]
    if job.get("front") or (job.get("front_setting") and "front" not in job):
        settings["front"] = job.get("front_setting", FrontSettings())
    made = ClassifySettings(**settings, fit=FitSettings(**parts["fit"]))
    scene_options = dict.fromkeys(("band_names", "scale", "nodata", "mask"))
    if "mask" in parts["scene"]:
        parts["scene"]["mask"] = _path(base, parts["scene"]["mask"])
    if "labels" in job:
        job["labels"] = _path(base, job["labels"])
    if "legend" in job and _path(base, job["legend"]).is_file():  # else one csc_xr knows by name
        job["legend"] = _path(base, job["legend"])
    out = f"{job['out'].rstrip(_SLASHES)}_patch{made.patch_size}"
    return JobSpec(
        row=row,
        model=job["model"],
        source=_path(base, job["source"]),
        out=_path(base, out),
        title=out,
        settings=made,
        options={
            name: job[name]
            for name in ("dims", "experiment", "legend", "classifier", "labels")
            if name in job
        },
        scene_options={**scene_options, **parts["scene"]},
        tags={**job.get("tags", {}), **parts["tags"]},
        done=bool(job.get("done")),
    )


def _path(base: Path, text: str) -> Path:
    """Give a path relative to the table; a Windows path works elsewhere too."""
    path = base / text
    return path if path.exists() or "\\" not in text else base / text.replace("\\", "/")


def _whole(text: str) -> int:
    number = _decimal(text)  # spreadsheets may write 7.0
    return int(number) if number == int(number) else int(text)


def _decimal(text: str) -> float:
    return float(text.replace(",", "."))  # tables with semicolons have decimal commas


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.replace("|", ",").split(",") if word.strip())


def _yes(text: str) -> bool:
    return _ANSWERS[text.lower()]


def _tags(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.replace("|", ";").split(";") if part.strip()]
    if not all(sign and name.strip() and value.strip() for name, sign, value in pairs):
        raise ParameterError(f"Tags must be NAME=VALUE; ..., got {text!r}.")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _front_settings(text: str) -> FrontSettings:
    return read_front_settings([part for part in text.replace("|", ";").split(";") if part.strip()])


_ANSWERS = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("0", "0.0", "false", "no"), False),
}
_SLASHES = "/\\"
_PARTS = ("job", "settings", "fit", "scene", "tags")


@dataclass(frozen=True)
class _Column:
    """A column: what it is called, what its cells hold, and what becomes of them."""

    name: str
    part: str
    target: str
    read: Callable[[str], Any] = str
    kind: str = "text"


_WHOLE: tuple[Callable[[str], Any], str] = (_whole, "a whole number")
_NUMBER: tuple[Callable[[str], Any], str] = (_decimal, "a number")
_LIST: tuple[Callable[[str], Any], str] = (_words, "words with commas or | between them")
_FLAG: tuple[Callable[[str], Any], str] = (_yes, "1 or 0")

_COLUMNS = {
    column_key(column.name): column
    for column in (
        # of the research scripts
        _Column("Model", "job", "model"),
        _Column("DataSource", "job", "source"),
        _Column("OutFolder", "job", "out"),
        _Column("ExpShortHand", "job", "experiment"),
        _Column("EportShortHand", "job", "experiment"),
        _Column("Dims", "job", "dims", *_WHOLE),
        _Column("PatchSize", "settings", "patch_size", *_WHOLE),
        _Column("TileSize", "settings", "tile_size", *_WHOLE),
        _Column("WholeImage", "job", "whole_image", *_FLAG),
        _Column("Patience", "job", "patience", *_WHOLE),
        _Column("Done", "job", "done", *_FLAG),
        _Column("Error", "job", "error"),
        # the other options of classify
        _Column("Experiment", "job", "experiment"),
        _Column("Seed", "settings", "seed", *_WHOLE),
        _Column("MinProbability", "settings", "min_probability", *_NUMBER),
        _Column("Despeckle", "settings", "despeckle", *_WHOLE),
        _Column("ModeRadius", "settings", "mode_radius", *_WHOLE),
        _Column("Edge", "settings", "edge"),
        _Column("Output", "settings", "outputs", *_LIST),
        _Column("Activation", "fit", "activation"),
        _Column("SamplesPerClass", "fit", "samples_per_class", *_WHOLE),
        _Column("Steps", "fit", "steps", *_WHOLE),
        _Column("Classifier", "job", "classifier"),
        _Column("Legend", "job", "legend"),
        _Column("Labels", "job", "labels"),
        _Column("BandNames", "scene", "band_names", *_LIST),
        _Column("Scale", "scene", "scale", *_NUMBER),
        _Column("Nodata", "scene", "nodata", *_NUMBER),
        _Column("Mask", "scene", "mask"),
        _Column("Front", "job", "front", *_FLAG),
        _Column("FrontSetting", "job", "front_setting", _front_settings, "NAME=VALUE; ..."),
        # for the tables over many runs
        _Column("Glacier", "tags", "glacier"),
        _Column("Validation", "tags", "validation"),
        _Column("Tags", "job", "tags", _tags, "NAME=VALUE; ..."),
    )
}
_REQUIRED = ("Model", "DataSource", "OutFolder", "PatchSize")
_NEEDLESS = {
    "wholeimage": "scenes of any size are classified whole, chunk by chunk, in bounded memory.",
    "patience": "it counts epochs of the research scripts' fit. Here a fit takes a fixed number "
    "of steps, which the column Steps sets.",
}
