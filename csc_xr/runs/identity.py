"""What decides whether earlier work may be used: network, settings, inputs and software."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xarray as xr

from csc_xr.errors import ResumeError
from csc_xr.files import plain_values
from csc_xr.networks.bundle import Network
from csc_xr.record import (
    InputFile,
    describe_input,
    looks_unchanged,
    software_versions,
)
from csc_xr.runs.checksums import pixel_checksum
from csc_xr.workflow import ClassifySettings

Identity = dict[str, Any]
"""Plain values, nested. Equal identities have equal results, to the bit, on one kind of CPU."""

_DECIDING_PACKAGES = (
    "csc_xr", "tensorflow", "keras", "numpy", "scikit-image", "scikit-learn", "gdal"
)  # fmt: skip


def identify(
    network: Network,
    settings: ClassifySettings,
    *,
    classifier: Any = None,
    options: Mapping[str, Any] | None = None,
) -> Identity:
    """Describe work by all that decides its result but the inputs.

    Parameters
    ----------
    network : Network
        The tile network of phase one.
    settings : ClassifySettings
        How to classify.
    classifier : sklearn classifier, optional
        Takes the place of the patch network.
    options : mapping, optional
        Further settings, such as how images were opened.

    Returns
    -------
    dict
        Plain values.
    """
    known = asdict(settings)
    if settings.front is None:
        del known["front"]  # so that what was begun before fronts were looked for goes on
    content: Identity = plain_values(
        {
            "network": network.fingerprint,
            **known,
            "classifier": None if classifier is None else str(classifier),
            **dict(options or {}),
            "software": deciding_versions(),
        }
    )
    return content


def deciding_versions() -> dict[str, str | None]:
    """Look up the versions of the software that decides results.

    Returns
    -------
    dict
        Version by name; None for what is not installed.
    """
    versions = software_versions()
    return {name: versions.get(name) for name in _DECIDING_PACKAGES}


def with_inputs(identity: Identity, checksums: Mapping[str, str]) -> Identity:
    """Add the checksums of the inputs.

    Parameters
    ----------
    identity : dict
        From :func:`identify`.
    checksums : mapping
        SHA-256 by role, such as ``image`` and ``labels``.

    Returns
    -------
    dict
        A copy with the key ``inputs``.
    """
    return {**identity, "inputs": dict(checksums)}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what differs between two identities.

    Parameters
    ----------
    before, now : mapping
        Identities.

    Returns
    -------
    list of str
        Such as ``"patch_size was 7, now 9"``; empty when they are equal.

    Examples
    --------
    >>> differences({"seed": 0, "fit": {"steps": 9}}, {"seed": 0, "fit": {"steps": 8}})
    ['fit.steps was 9, now 8']
    """
    old, new = _flat(before), _flat(now)
    return [
        f"{key} was {_short(old.get(key))}, now {_short(new.get(key))}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def check_same_work(
    name: str, folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Refuse to go on with, or to replace, what was made in another way.

    Parameters
    ----------
    name : str
        The scene.
    folder : Path
        Where its outputs are.
    before, now : mapping
        Identities of what is there and of what is asked for.

    Raises
    ------
    ResumeError
        When they differ; the message names all that does.
    """
    found = differences(before, now)
    if found:
        raise ResumeError(
            f"{folder} holds results of {name} that were made in another way: {'; '.join(found)}. "
            "Choose another output folder, or replace them with overwrite=True (--overwrite)."
        )


def input_files(
    scene: xr.DataArray, inputs: Mapping[str, Path], before: Mapping[str, Any] | None = None
) -> dict[str, InputFile]:
    """Describe the inputs of a scene, without reading files that look unchanged.

    Parameters
    ----------
    scene : xarray.DataArray
        Where there is no file, its pixels are read and identified.
    inputs : mapping
        Path by role.
    before : mapping, optional
        Earlier descriptions, as plain values, by role; a file of the same size and time of
        modification is taken to be the same.

    Returns
    -------
    dict of str to InputFile
        By role; the role of pixels is ``pixels``.

    Raises
    ------
    SceneError
        When an input does not exist or cannot be read.
    """
    if not inputs:
        source = str(scene.attrs.get("source", ""))
        if source and Path(source).exists():
            source = str(Path(source).absolute())  # a record is read from other folders, too
        pixels = InputFile(source, int(scene.nbytes), "", pixel_checksum(scene))
        return {"pixels": pixels}
    found = {}
    for role, path in inputs.items():
        known = (before or {}).get(role)
        if known and looks_unchanged(path, known["size"], known["modified"]):
            found[role] = InputFile(**known)
        else:
            found[role] = describe_input(path)
    return found


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text
