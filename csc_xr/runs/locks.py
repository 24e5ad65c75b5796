"""Work that only one process may do at a time, on this machine or on any that shares its files."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from csc_xr.errors import CscWarning
from csc_xr.files import write_error

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

_PAUSE = 0.1
_TOLD_AFTER = 2.0


@contextmanager
def one_at_a_time(path: Path, work: str | None) -> Iterator[None]:
    """Wait until no other process or thread is at some work, and keep others from it meanwhile.

    The lock belongs to an open file: the system takes it back when a process is killed, so none
    is ever left behind. Where the file system or the operating system has no locks, nothing is
    waited for.

    Parameters
    ----------
    path : Path
        File that stands for the work, in a folder that all share. It is made, and removed at the
        end, with its folder when nothing else is in it.
    work : str or None
        What others are told they wait for; None where that is nothing to tell of.

    Yields
    ------
    None
        Nothing; the block is the work.

    Raises
    ------
    OutputError
        When the file cannot be made.

    Warns
    -----
    CscWarning
        When another process has been at it for two seconds.
    """
    began, told = time.monotonic(), False
    while (held := _take(path)) is None:
        if work is not None and not told and time.monotonic() - began > _TOLD_AFTER:
            told = True
            warnings.warn(
                f"Another process is at {work}: waiting until it ends.", CscWarning, stacklevel=3
            )
        time.sleep(_PAUSE)
    with os.fdopen(held):  # closed last, which frees it
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # see _take
            with suppress(OSError):  # others may have work there
                path.parent.rmdir()


def _take(path: Path) -> int | None:
    """Open and lock a file; None while another process holds it or has just removed it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        gone = isinstance(error, FileNotFoundError | FileExistsError)
        if gone and not path.parent.is_file():  # the folder came or went in between
            return None
        raise write_error(path, error) from error
    if fcntl is None:
        return number
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    except OSError:  # a file system without locks
        return number
    if _is_at(path, number):
        return number
    os.close(number)  # its last holder removed it: whoever comes next makes another
    return None


def _is_at(path: Path, number: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(number))
    except FileNotFoundError:
        return False
