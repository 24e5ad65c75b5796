"""Files and folders that appear whole or not at all, and plain values for JSON."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import json
import math
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import psutil

from csc_xr.errors import OutputError, ParameterError

PARTIAL_SUFFIX = ".partial"
"""Ending of what is still being written; no reader of csc_xr looks at such names."""

_ONLY_WRITING_FAILS_SO = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextmanager
def replacing(path: str | Path, *, folder: bool = False, overwrite: bool = True) -> Iterator[Path]:
    """Write a file or folder under a temporary name and move it into place when it is whole.

    The temporary sibling is created on entry, so a target that cannot be written fails
    before any work. It is flushed to disk and renamed when the block ends well, and removed
    when it does not. What a killed process of this machine left of the same target is removed
    on entry.

    Parameters
    ----------
    path : str or Path
        Where the file or folder will be. Missing parents are created.
    folder : bool
        True to write a folder (a Zarr store), which starts out empty.
    overwrite : bool
        False refuses a target that exists. A file is replaced in one step; a folder
        that is replaced is set aside only once the new one is whole, then removed.

    Yields
    ------
    Path
        The temporary sibling to write to.

    Raises
    ------
    OutputError
        When the target exists and may not be replaced, the folder cannot be written,
        or the disk is full. Other errors of the block pass through.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     target = Path(name) / "note.txt"
    ...     with replacing(target) as partial:
    ...         _ = partial.write_text("whole")
    ...         existed_early = target.exists()
    ...     existed_early, target.read_text()
    (False, 'whole')
    """
    target = Path(path)
    clear_leftovers(target)
    check_target(target, folder=folder, overwrite=overwrite)
    with _temporary(target, folder=folder) as partial:
        yield partial
        _flush(partial)
        _move(partial, target)


def put_in_place(source: Path, target: Path) -> None:
    """Move a whole folder to its final name, in place of one that is there.

    Parameters
    ----------
    source : Path
        A folder on the same file system, whole. Another process that makes the same may still
        be writing to it: what that one has begun is removed, and it cannot begin more.
    target : Path
        Its final name.

    Raises
    ------
    OutputError
        When it cannot be moved.
    """
    clear_leftovers(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _flush(source)
        _move(source, target)
    except OSError as error:
        raise write_error(target, error) from error
    for begun in target.rglob(f"*{PARTIAL_SUFFIX}"):
        _remove(begun)


@contextmanager
def scratch_folder(target: str | Path) -> Iterator[Path]:
    """Lend a folder beside a target for what is only needed while the target is made.

    Parameters
    ----------
    target : str or Path
        What is being made.

    Yields
    ------
    Path
        An empty folder, removed at the end of the block. What a killed process of this
        machine left goes when the same target is made again.

    Raises
    ------
    OutputError
        When the folder cannot be created, or the disk is full.
    """
    clear_leftovers(Path(target))
    with _temporary(Path(target), folder=True) as partial:
        yield partial


def write_error(path: Path, error: BaseException | str) -> OutputError:
    """Put a failure to write into words, with the space that is left.

    Parameters
    ----------
    path : Path
        What was being written.
    error : BaseException or str
        What went wrong.

    Returns
    -------
    OutputError
        To be raised by the caller; keeps the ``errno`` of an ``OSError``.
    """
    free = free_bytes(path.parent)
    number = getattr(error, "errno", None)
    reason = str(error)
    if number in {errno.ENOSPC, errno.EDQUOT}:
        reason = "the disk is full"
    elif free < _NEXT_TO_NOTHING:
        reason = f"the disk is full or nearly so: {error}"
    result = OutputError(
        f"{path} must be written, but {reason} ({free} bytes are free in {path.parent}). "
        "Make room or choose another output folder, then start again."
    )
    result.errno = number
    return result


def free_bytes(folder: Path) -> int:
    """Look up how much can still be written to a folder.

    Parameters
    ----------
    folder : Path
        A folder; where it does not exist yet, its nearest existing parent counts.

    Returns
    -------
    int
        Free bytes of its file system; 0 when they cannot be told.
    """
    for candidate in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(candidate).free
        except OSError:
            continue
    return 0


def check_output_folder(path: str | Path, needed_bytes: int = 0) -> Path:
    """Make sure that a folder takes files and has room for them, before long work.

    Creates the folder when it is absent, then creates and removes a small file, because
    permission bits say nothing about the superuser or a read-only file system.

    Parameters
    ----------
    path : str or Path
        The output folder.
    needed_bytes : int
        Estimate of what will be written.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        When it is a file, cannot be created or written, or has too little room.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            f"The output folder must be a folder, but {folder} is a file. Choose another name."
        )
    probe = folder / f".csc_xr-{secrets.token_hex(4)}{PARTIAL_SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"csc_xr")
    except OSError as error:
        raise OutputError(
            f"The output folder {folder} must be writable, but creating a file in it failed: "
            f"{error.strerror or error}. Choose another folder or change its permissions."
        ) from error
    finally:
        _remove(probe)
    free = free_bytes(folder)
    if free < needed_bytes:
        raise OutputError(
            f"The output folder {folder} must have room for about {needed_bytes} bytes, but "
            f"{free} bytes are free. Make room or choose another folder."
        )
    return folder


def plain_values(content: object) -> Any:
    """Turn settings and results into values that JSON can hold.

    Parameters
    ----------
    content : object
        Mappings, sequences, sets (sorted), dataclasses, NumPy numbers and arrays, paths,
        dates and plain values, nested at will.

    Returns
    -------
    dict, list, str, int, float, bool or None
        NaN and infinities become ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, which JSON
        has no numbers for; keys become text.

    Raises
    ------
    ParameterError
        When a value has no plain form.

    Examples
    --------
    >>> plain_values({"seed": np.int64(3), "patch": (1, 7), "nodata": float("nan")})
    {'seed': 3, 'patch': [1, 7], 'nodata': 'NaN'}
    """
    if isinstance(content, np.ndarray | np.generic):
        return plain_values(content.tolist())
    if content is None or isinstance(content, bool | int | str):
        return content
    if isinstance(content, float):
        return content if math.isfinite(content) else _NOT_FINITE[str(content)]
    if isinstance(content, Mapping):
        return {str(key): plain_values(value) for key, value in content.items()}
    if isinstance(content, set | frozenset):
        return sorted(plain_values(list(content)))
    if isinstance(content, list | tuple):
        return [plain_values(value) for value in content]
    if isinstance(content, PurePath):
        return str(content)
    if isinstance(content, datetime.date):
        return content.isoformat()
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        return plain_values(dataclasses.asdict(content))
    raise ParameterError(
        f"Records hold numbers, text, lists and mappings, got {type(content).__name__} "
        f"{str(content)[:60]!r}. Convert it first."
    )


def write_json(content: object, path: str | Path) -> None:
    """Write values as a JSON file, whole or not at all.

    Parameters
    ----------
    content : object
        What :func:`plain_values` takes.
    path : str or Path
        The file; replaced when it exists.

    Raises
    ------
    OutputError
        When the file cannot be written.
    ParameterError
        When a value has no JSON form.
    """
    text = json.dumps(plain_values(content), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that may be absent.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Empty when there is no file.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content


def files_below(folder: Path, end: str) -> Iterator[Path]:
    """Find files in a folder and all folders in it, but not in Zarr stores.

    Parameters
    ----------
    folder : Path
        Where to look.
    end : str
        What the names of the files end in.

    Yields
    ------
    Path
        In the order of the folders, then of the names.
    """
    for parent, folders, files in os.walk(folder):
        # Stores hold thousands of files, and none that is looked for.
        folders[:] = sorted(name for name in folders if not name.endswith(".zarr"))
        yield from (Path(parent, name) for name in sorted(files) if name.endswith(end))


_NEXT_TO_NOTHING = 2**20
_ASIDE_SUFFIX = f"-old{PARTIAL_SUFFIX}"
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def check_target(target: Path, *, folder: bool, overwrite: bool) -> None:
    """Make sure that something may be written under a name, before long work.

    Parameters
    ----------
    target : Path
        The name.
    folder : bool
        Whether a folder is to be written, or a file.
    overwrite : bool
        Whether what exists may be replaced.

    Raises
    ------
    OutputError
        When it exists and may not be replaced, or is of the other kind.
    """
    if not target.exists():
        return
    if not overwrite:
        raise OutputError(
            f"{target} must not exist yet, but it does. "
            "Choose another name, or pass overwrite=True to replace it."
        )
    if target.is_dir() != folder:
        wanted, found = ("folder", "file") if folder else ("file", "folder")
        raise OutputError(
            f"{target} must be a {wanted}, but is a {found} already. Choose another name."
        )


@contextmanager
def _temporary(target: Path, *, folder: bool) -> Iterator[Path]:
    partial = _create_partial(target, folder=folder)
    failed = True
    try:
        yield partial
        failed = False
    except OSError as error:
        if error.errno in _ONLY_WRITING_FAILS_SO and not isinstance(error, OutputError):
            raise write_error(target, error) from error
        raise
    finally:
        _remove(partial)
        # Threads of a failed block may add to its folder for a moment yet.
        for _ in range(6 if failed and folder else 0):
            time.sleep(0.05)
            _remove(partial)


def _create_partial(target: Path, *, folder: bool) -> Path:
    owner = f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
    partial = target.with_name(f".{target.name}.{owner}{PARTIAL_SUFFIX}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            partial.mkdir()
        else:
            partial.touch(exist_ok=False)
    except OSError as error:
        raise write_error(target, error) from error
    return partial


def _host() -> str:
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname())


def clear_leftovers(target: Path) -> None:
    """Remove what processes of this machine that no longer run left of one target.

    A folder set aside whose replacement never arrived goes back into its place.

    Parameters
    ----------
    target : Path
        What they were writing.
    """
    start = f".{target.name}.{_host()}-"
    try:
        siblings = [entry for entry in target.parent.iterdir() if entry.name.startswith(start)]
    except OSError:  # no folder yet, or one that _create_partial will complain about
        return
    for sibling in siblings:
        owner = sibling.name.removeprefix(start).split("-")[0]
        if not owner.isdigit() or psutil.pid_exists(int(owner)):
            continue
        if sibling.name.endswith(_ASIDE_SUFFIX) and not target.exists():
            sibling.replace(target)
        elif sibling.name.endswith(PARTIAL_SUFFIX):
            _remove(sibling)


def _flush(partial: Path) -> None:
    """Have the system write everything out: some file systems tell of a full disk only then."""
    files = [partial] if partial.is_file() else [p for p in partial.rglob("*") if p.is_file()]
    for file in files:
        # Of a process that makes the same: renamed between the listing and here.
        with suppress(FileNotFoundError), file.open("rb+") as stream:
            os.fsync(stream.fileno())


def _move(partial: Path, target: Path) -> None:
    if not (partial.is_dir() and target.exists()):
        partial.replace(target)
        return
    # A folder cannot be renamed over another one, so the old one steps aside first.
    aside = partial.with_name(partial.name.removesuffix(PARTIAL_SUFFIX) + _ASIDE_SUFFIX)
    target.replace(aside)
    try:
        partial.replace(target)
    except OSError:
        aside.replace(target)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
