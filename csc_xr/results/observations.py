"""What a run record says of a classified image, and of the run it belongs to.

Names of columns follow one rule: the path of a setting in the record, its words with capitals and
joined by ``_`` (``fit.steps`` is ``Fit_Steps``). The columns of the reference are named so too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from csc_xr.accuracy.confusion import confusion_from_dict
from csc_xr.errors import CscError, ParameterError
from csc_xr.legend import ClassLegend
from csc_xr.record import RECORD_END, fingerprint
from csc_xr.results.tables import ERROR_TYPES

PHASES = {1: ("tile_class", "CNN report"), 2: ("pixel_class", "CSC report")}
"""Variable and role of the report of each phase."""

ERRORS = ("front", "margin")
"""What deviations are measured of."""

_TAGS = {"glacier": "Glacier", "validation": "Validation", "cnn_training": "CNN_Training"}
_KNOWN_BANDS = {
    frozenset({"red", "green", "blue"}): "RGB",
    frozenset({"red", "green", "blue", "nir"}): "NIR_RGB",
}
_UNITS = {"m", "m2"}
_FIGURES = ("count", *ERROR_TYPES.values(), "share_under_100_m")


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """What a run record says of one classified image.

    Attributes
    ----------
    path : Path
        The record.
    scene : str
        Name of the image.
    run : str
        Identifies the run it belongs to: equal for images classified by the same network with the
        same settings, tags and software.
    columns : dict
        What is the same for all images of the run, by name of the column; None where unknown.
    software : dict of str to str
        Versions that decide results.
    inputs : dict of str to str
        Checksum by role: image (or pixels), labels, edge, margin.
    finished : str
        When it ended, ISO 8601.
    learned : bool or None
        Whether the tile network was trained on this image; None where it does not tell.
    confusions : dict of int to xarray.DataArray
        Confusion matrices by phase, 1 and 2, where there are labels.
    legend : ClassLegend or None
        Of those matrices.
    reports : dict of int to Path
        Files with the scores by phase, those that are there.
    errors : dict of str to dict
        Figures of the deviation of ``front`` and ``margin``, where they were digitised.
    distances : dict of str to Path
        Files with the distances of the same.
    front : dict
        Outcome and reason of the search for a front; empty where none was looked for.
    gone : tuple of str
        Names of outputs that are no longer beside the record.
    """

    path: Path
    scene: str
    run: str
    columns: Mapping[str, Any]
    software: Mapping[str, str]
    inputs: Mapping[str, str]
    finished: str
    learned: bool | None
    confusions: Mapping[int, xr.DataArray] = field(default_factory=dict)
    legend: ClassLegend | None = None
    reports: Mapping[int, Path] = field(default_factory=dict)
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    distances: Mapping[str, Path] = field(default_factory=dict)
    front: Mapping[str, Any] = field(default_factory=dict)
    gone: tuple[str, ...] = ()

    @property
    def image(self) -> str:
        """Checksum of the image, empty where there is none."""
        return self.inputs.get("image") or self.inputs.get("pixels") or ""

    @property
    def is_joint(self) -> bool:
        """Whether the tile network was trained jointly, on several places."""
        return bool(self.columns["CNN_Training"] == "Joint")


def read_image_record(path: Path) -> ImageRecord | None:
    """Read the run record of a classified image; an old one may lack what newer ones have.

    Parameters
    ----------
    path : Path
        A file that ends in ``_run.json``.

    Returns
    -------
    ImageRecord or None
        None for a record of something else: of a training, or of a scene of a stack, whose
        classes lie in the stack's store.

    Raises
    ------
    ParameterError
        When the file cannot be read, or is no run record.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "result" not in content["outputs"]:
            return None
        return _image_record(path, content)
    except (OSError, LookupError, TypeError, ValueError, AttributeError, CscError) as error:
        raise ParameterError(
            f"{path} must be a run record, but cannot be read as one: "
            f"{type(error).__name__}: {error}. Restore it, or classify the image again."
        ) from error


def column_name(*parts: str) -> str:
    """Name the column of a setting.

    Parameters
    ----------
    *parts : str
        Where it stands in the record.

    Returns
    -------
    str
        The words of all parts with capitals, but for units of length.

    Examples
    --------
    >>> column_name("mode_radius"), column_name("fit", "steps"), column_name("front", "closing_m")
    ('Mode_Radius', 'Fit_Steps', 'Front_Closing_m')
    """
    words = "_".join(parts).split("_")
    return "_".join(word if word in _UNITS else word[:1].upper() + word[1:] for word in words)


def bands_name(bands: list[str] | None) -> str | None:
    """Name a combination of bands as the reference does.

    Parameters
    ----------
    bands : list of str or None
        Names of the bands a network sees.

    Returns
    -------
    str or None
        ``"RGB"``, ``"NIR_RGB"``, or the names joined by ``_``.

    Examples
    --------
    >>> bands_name(["red", "green", "blue", "nir"]), bands_name(["B02", "B8A"])
    ('NIR_RGB', 'B02_B8A')
    """
    if not bands:
        return None
    return _KNOWN_BANDS.get(frozenset(bands), "_".join(bands))


def _image_record(path: Path, content: Mapping[str, Any]) -> ImageRecord:
    parameters, findings = content["parameters"], content.get("findings") or {}
    identity = content.get("identity") or {}
    network = parameters.get("network") or {}
    counted = findings.get("confusion") or {}
    legend = ClassLegend.from_dict(counted["legend"]) if counted else None
    scene = str(parameters.get("name") or path.name.removesuffix(RECORD_END))
    tiles = (content.get("networks") or {}).get("tiles")
    experiment = parameters.get("experiment") or identity.get("experiment")
    columns = _run_columns(parameters, experiment, tiles)
    software = dict(identity.get("software") or {})
    learned_from = [
        *(network.get("learned_scenes") or ()), *(network.get("first_learned_scenes") or ())
    ]  # fmt: skip
    beside = {role: path.with_name(Path(file).name) for role, file in content["outputs"].items()}
    there = {role: file for role, file in beside.items() if file.exists()}
    return ImageRecord(
        path=path,
        scene=scene,
        run=fingerprint(columns, tiles, software)[:10],
        columns=columns,
        software=software,
        inputs=dict(identity.get("inputs") or _first_input(content)),
        finished=str(content.get("finished", "")),
        learned=scene in learned_from if learned_from else None,
        confusions=_confusions(counted, legend),
        legend=legend,
        reports={phase: there[role] for phase, (_, role) in PHASES.items() if role in there},
        errors={
            role: {name: float(findings[f"{role}_error"][name]) for name in _FIGURES}
            for role in ERRORS
            if f"{role}_error" in findings
        },
        distances={
            role: there[f"{role} distances"] for role in ERRORS if f"{role} distances" in there
        },
        front=dict(findings.get("front") or {}),
        gone=tuple(file.name for role, file in beside.items() if role not in there),
    )


def _run_columns(
    parameters: Mapping[str, Any], experiment: str | None, tiles: str | None
) -> dict[str, Any]:
    """Flatten the settings of a run, without what belongs to the image alone."""
    network = parameters.get("network") or {}
    tags = {str(key): str(value) for key, value in (parameters.get("tags") or {}).items()}
    told = {
        _TAGS[key.lower()]: value.strip() for key, value in tags.items() if key.lower() in _TAGS
    }
    given = {
        name: told[name].capitalize() for name in ("Validation", "CNN_Training") if told.get(name)
    }
    training = None
    if network.get("joint"):
        training = "Joint"
    elif network.get("learned_scenes"):
        training = "Single"
    known = {"name", "tags", "network", "patch_size", "tile_size", "experiment"}
    others = {key: value for key, value in parameters.items() if key not in known}
    if isinstance(others.get("scene"), Mapping):
        # How an image is cut into chunks decides nothing, and its mask is an input.
        opening = others["scene"].items()
        others["scene"] = {key: value for key, value in opening if key not in ("chunks", "mask")}
    return {
        "Patch_Size": parameters.get("patch_size"),
        "Tile_Size": parameters.get("tile_size") or network.get("size"),
        "Bands": bands_name(network.get("bands")),
        "CNN_Training": given.get("CNN_Training", training),
        "Glacier": told.get("Glacier") or None,
        "Validation": given.get("Validation"),
        "Experiment": experiment,
        **dict(_flat(others)),
        **{f"Tag_{key}": value for key, value in tags.items() if key.lower() not in _TAGS},
        "Network_Architecture": network.get("architecture"),
        "Network_Name": network.get("name"),
        "Network_Fingerprint": None if tiles is None else tiles[:10],
    }


def _flat(content: Mapping[str, Any], *above: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, *above, key)
        elif isinstance(value, list):
            yield column_name(*above, key), ",".join(map(str, value)) or None
        elif value is not None or (*above, key) not in {("front",), ("scene",)}:
            yield column_name(*above, key), value


def _confusions(counted: Mapping[str, Any], legend: ClassLegend | None) -> dict[int, xr.DataArray]:
    if legend is None:
        return {}
    matrices = {
        phase: confusion_from_dict(counted[variable], legend=legend)
        for phase, (variable, _) in PHASES.items()
        if variable in counted
    }
    return {phase: matrix for phase, matrix in matrices.items() if matrix.values.any()}


def _first_input(content: Mapping[str, Any]) -> dict[str, str]:
    """Give the checksum of the image in records that name no roles: it comes first."""
    inputs = content.get("inputs") or []
    return {"image": inputs[0]["sha256"]} if inputs else {}
