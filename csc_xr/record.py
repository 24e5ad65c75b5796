"""Run records: what was computed from what, with which software, and what it cost."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from csc_xr.errors import SceneError
from csc_xr.files import plain_values

RECORD_END = "_run.json"
"""What the name of a run record ends in."""

_PACKAGES = (
    "csc_xr",
    "tensorflow",
    "keras",
    "numpy",
    "xarray",
    "rioxarray",
    "dask",
    "distributed",
    "zarr",
    "rasterio",
    "geopandas",
    "shapely",
    "pyproj",
    "scikit-image",
    "scikit-learn",
)

_listeners: list[Callable[[int], None]] = []


@dataclass(frozen=True)
class InputFile:
    """What identifies a file, or a folder such as a Zarr store, that a run has read.

    Attributes
    ----------
    path : str
        Absolute path.
    size : int
        Bytes; of a folder, those of all its files.
    modified : str
        Last modification, UTC, ISO 8601; of a folder, that of its newest file.
    sha256 : str
        Of the content; of a folder, over the names and contents of its files.
    """

    path: str
    size: int
    modified: str
    sha256: str


@dataclass(frozen=True)
class RunRecord:
    """Everything needed to repeat a run and to judge it.

    Attributes
    ----------
    parameters : mapping
        Settings of the run.
    seed : int
        Where all randomness of the run came from.
    inputs : tuple of InputFile
        What was read.
    networks : mapping
        Fingerprint of each network by its role.
    software : mapping
        Version by package, with Python and GDAL.
    platform : mapping
        System, machine and number of processors.
    started, finished : str
        UTC, ISO 8601; ``finished`` is empty while the run lasts.
    identity : mapping
        All that decides the results; a later run with another is not mixed with this one.
    stage_seconds : mapping
        Wall-clock seconds by stage.
    peak_memory_bytes : int
        Highest resident memory of this process (not of Dask workers in other processes).
    warnings : tuple of str
        What the user was told on the way.
    outputs : mapping
        Path of each output by its role.
    findings : mapping
        What was measured in the result, besides the scores: the front and its deviation.
    """

    parameters: Mapping[str, Any]
    seed: int
    inputs: tuple[InputFile, ...]
    networks: Mapping[str, str]
    software: Mapping[str, str]
    platform: Mapping[str, str | int]
    started: str
    finished: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    warnings: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    findings: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give the record as plain values, for :func:`csc_xr.files.write_json`.

        Returns
        -------
        dict
            A key for each attribute.
        """
        content: dict[str, Any] = plain_values(self)
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunRecord:
        """Read what :meth:`to_dict` gave.

        Parameters
        ----------
        content : mapping
            Plain values.

        Returns
        -------
        RunRecord
            The record.
        """
        inputs = tuple(InputFile(**entry) for entry in content["inputs"])
        told = tuple(content["warnings"])
        return cls(**{**content, "inputs": inputs, "warnings": told})

    def finish(
        self,
        *,
        stage_seconds: Mapping[str, float],
        outputs: Mapping[str, str | Path],
        warnings: Iterable[str] = (),
        findings: Mapping[str, Any] | None = None,
    ) -> RunRecord:
        """Complete the record at the end of a run.

        Parameters
        ----------
        stage_seconds : mapping
            Seconds by stage, as :attr:`StageTimer.seconds` has them.
        outputs : mapping
            Path of each output by its role.
        warnings : iterable of str
            What the user was told on the way.
        findings : mapping, optional
            What was measured in the result.

        Returns
        -------
        RunRecord
            A copy with the time of finishing and the peak memory so far.
        """
        return dataclasses.replace(
            self,
            finished=_now(),
            stage_seconds=dict(stage_seconds),
            peak_memory_bytes=peak_memory_bytes(),
            warnings=tuple(warnings),
            outputs={role: str(path) for role, path in outputs.items()},
            findings=dict(findings or {}),
        )


class StageTimer:
    """Wall-clock seconds of the named stages of a run.

    Parameters
    ----------
    notify : callable, optional
        Called with the name of a stage and None when it starts, and with its name and
        seconds when it ends.

    Attributes
    ----------
    seconds : dict
        Seconds by stage, in order of their first start; a stage entered again adds up.

    Examples
    --------
    >>> timer = StageTimer()
    >>> with timer.stage("tiles"):
    ...     pass
    >>> list(timer.seconds)
    ['tiles']
    """

    def __init__(self, notify: Callable[[str, float | None], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._notify = notify

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, also one that fails.

        Parameters
        ----------
        name : str
            Name of the stage.

        Yields
        ------
        None
            Nothing; the stage is the block.
        """
        self.seconds.setdefault(name, 0.0)
        if self._notify:
            self._notify(name, None)
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[name] += elapsed
            if self._notify:
                self._notify(name, elapsed)


def report_pixels(count: int) -> None:
    """Tell who watches this process that a network is done with some pixels.

    Parameters
    ----------
    count : int
        Pixels, blank ones included.
    """
    for listener in tuple(_listeners):
        listener(count)


@contextmanager
def watching_pixels(listener: Callable[[int], None]) -> Iterator[None]:
    """Listen to :func:`report_pixels` inside a block; other processes are not heard.

    Parameters
    ----------
    listener : callable
        Takes a number of pixels; called from any thread.

    Yields
    ------
    None
        Nothing; networks run inside the block.

    Examples
    --------
    >>> counts = []
    >>> with watching_pixels(counts.append):
    ...     report_pixels(64)
    >>> counts
    [64]
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def start_record(
    *,
    parameters: Mapping[str, Any],
    seed: int,
    inputs: Iterable[InputFile] = (),
    networks: Mapping[str, str] | None = None,
    identity: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Open the record of a run.

    Parameters
    ----------
    parameters : mapping
        Settings of the run, in values that :func:`csc_xr.files.plain_values` takes.
    seed : int
        Seed of the run.
    inputs : iterable of InputFile
        What the run reads, from :func:`describe_input`.
    networks : mapping, optional
        Fingerprint of each network by its role.
    identity : mapping, optional
        All that decides the results.

    Returns
    -------
    RunRecord
        To be completed by :meth:`RunRecord.finish`.

    Raises
    ------
    ParameterError
        When a parameter has no plain form.
    """
    return RunRecord(
        parameters=plain_values(parameters),
        seed=seed,
        inputs=tuple(inputs),
        networks=dict(networks or {}),
        software=software_versions(),
        platform={
            "system": platform.platform(),
            "machine": platform.machine(),
            "processors": psutil.cpu_count() or 1,
        },
        started=_now(),
        identity=dict(identity or {}),
    )


def describe_input(path: str | Path) -> InputFile:
    """Take size, time and checksum of a file, or of a folder with all that is in it.

    Parameters
    ----------
    path : str or Path
        The input; read whole, a piece at a time.

    Returns
    -------
    InputFile
        Its description.

    Raises
    ------
    SceneError
        When it does not exist or cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "scene.bin"
    ...     _ = file.write_bytes(b"abc")
    ...     found = describe_input(file)
    >>> found.size, found.sha256[:16]
    (3, 'ba7816bf8f01cfea')
    """
    source = Path(path).absolute()
    try:
        if source.is_dir():
            files = sorted(entry for entry in source.rglob("*") if entry.is_file())
            digest = hashlib.sha256()
            for file in files:
                digest.update(f"{file.relative_to(source).as_posix()}\n".encode())
                digest.update(f"{_file_sha256(file)}\n".encode())
            checksum = digest.hexdigest()
        else:
            files = [source]
            checksum = _file_sha256(source)
        facts = [file.stat() for file in files]
    except OSError as error:
        raise SceneError(
            f"Input {source} must be a file or folder that can be read, got: "
            f"{error.strerror or error}. Check the path and its permissions."
        ) from error
    newest = max((fact.st_mtime for fact in facts), default=source.stat().st_mtime)
    return InputFile(
        path=str(source),
        size=sum(fact.st_size for fact in facts),
        modified=_moment(newest),
        sha256=checksum,
    )


def looks_unchanged(path: Path, size: int, modified: str) -> bool:
    """Tell whether a file still has the size and time it was described with.

    Parameters
    ----------
    path : Path
        The file.
    size : int
        Bytes.
    modified : str
        Last modification, as :class:`InputFile` has it.

    Returns
    -------
    bool
        False for folders: chunks in them may change while the folder does not.
    """
    if not path.is_file():
        return False
    state = path.stat()
    return state.st_size == size and _moment(state.st_mtime) == modified


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def fingerprint(*parts: object) -> str:
    """Identify values by their content: equal values, equal fingerprint, on any machine.

    Parameters
    ----------
    *parts : object
        Values that :func:`csc_xr.files.plain_values` takes; the order counts, that of
        keys in mappings does not.

    Returns
    -------
    str
        SHA-256 of their canonical JSON, 64 hexadecimal digits.

    Raises
    ------
    ParameterError
        When a value has no plain form.

    Examples
    --------
    >>> fingerprint({"patch": 7, "seed": 0}) == fingerprint({"seed": 0, "patch": 7})
    True
    >>> fingerprint("a", "b") == fingerprint("ab")
    False
    """
    text = json.dumps(plain_values(parts), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def software_versions() -> dict[str, str]:
    """Look up the versions that results depend on, without importing TensorFlow.

    Returns
    -------
    dict of str to str
        Version by name: Python, GDAL, and the packages that are installed.
    """
    return dict(_installed())


@cache
def _installed() -> dict[str, str]:
    # Imported here: reading versions is no reason to load GDAL whenever records are imported.
    import rasterio

    versions = {"python": platform.python_version(), "gdal": rasterio.__gdal_version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def peak_memory_bytes() -> int:
    """Look up the highest resident memory of this process so far.

    Returns
    -------
    int
        Bytes.
    """
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    # The kernel's own mark starts anew with each program; getrusage inherits that of the parent.
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux kibibytes.
    return peak if sys.platform == "darwin" else peak * 1024


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
