"""What the user is told on the way, kept for the record."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from csc_xr.contexts import SharedContext
from csc_xr.errors import CscWarning

_told = threading.local()


@contextmanager
def heard_warnings(*, shown: bool = True) -> Iterator[list[str]]:
    """Write down the warnings of this thread, and by default still show them at once.

    Parameters
    ----------
    shown : bool
        False where another process shows them.

    Yields
    ------
    list of str
        Messages of every :class:`csc_xr.errors.CscWarning`, in order, as they come.

    Examples
    --------
    >>> with heard_warnings() as heard, warnings.catch_warnings():
    ...     warnings.showwarning("few tiles", CscWarning, "", 0)
    >>> heard
    ['few tiles']
    """
    outer, outer_shown = getattr(_told, "messages", None), getattr(_told, "shown", True)
    heard: list[str] = []
    _told.messages, _told.shown = heard, shown and outer_shown
    try:
        with _listening.held():
            yield heard
    finally:
        _told.messages, _told.shown = outer, outer_shown
        if outer is not None:
            outer.extend(heard)


class _Listening(warnings.catch_warnings):
    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("always", CscWarning)
        show = warnings.showwarning

        def write_down(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            heard = getattr(_told, "messages", None)
            if heard is not None and issubclass(category, CscWarning):
                heard.append(str(message))
                if not _told.shown:
                    return
            show(message, category, filename, lineno, file, line)

        warnings.showwarning = write_down
        return entered


_listening = SharedContext(_Listening)
