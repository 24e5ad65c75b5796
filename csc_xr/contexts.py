"""Settings of the whole process that several threads need at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any


class SharedContext:
    """A context manager that the first thread to enter sets up and the last to leave ends.

    ``warnings.catch_warnings`` and ``dask.config.set`` change the process and put back what they
    found; two threads that enter and leave such a context in turn would leave it wrong.

    Parameters
    ----------
    make : callable
        Gives the context manager.

    Examples
    --------
    >>> from contextlib import ExitStack
    >>> made = []
    >>> context = SharedContext(lambda: made.append("made") or ExitStack())
    >>> with context.held(), context.held():
    ...     pass
    >>> made
    ['made']
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._holders = 0
        self._context: AbstractContextManager[Any] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the context for the length of a block.

        Yields
        ------
        None
            Nothing; the context is in force inside the block.
        """
        with self._lock:
            if self._holders == 0:
                context = self._make()
                context.__enter__()
                self._context = context
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0 and self._context is not None:
                    self._context.__exit__(None, None, None)
                    self._context = None
