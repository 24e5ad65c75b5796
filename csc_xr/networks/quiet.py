"""A start of TensorFlow that says nothing, unless it goes wrong."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
"""Variable of the environment that sets what TensorFlow tells; who sets it is told all that."""

_ERRORS = "2"


@contextmanager
def quiet_start() -> Iterator[None]:
    """Hide what TensorFlow's libraries write while they start, which no setting of theirs does.

    Exceptions pass. The environment is afterwards as it was, so that processes started from this
    one are quiet by themselves.

    Yields
    ------
    None
        Nothing; TensorFlow is imported, and looks for devices, inside the block.
    """
    if LOG_LEVEL in os.environ:
        yield
        return
    logging.getLogger("tensorflow").addFilter(_is_no_retracing)
    os.environ[LOG_LEVEL] = _ERRORS
    try:
        with _hidden_errors():
            yield
    finally:
        os.environ.pop(LOG_LEVEL, None)


def _is_no_retracing(record: logging.LogRecord) -> bool:
    """Drop what a process that fits many networks is told of retracing, which is meant."""
    return "triggered tf.function retracing" not in record.getMessage()


@contextmanager
def _hidden_errors() -> Iterator[None]:
    """Send to nowhere what libraries write to standard error past Python."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error, as of a service
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
