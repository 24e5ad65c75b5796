"""TensorFlow starts without a word, unless the user wants to hear it; no other module starts it."""

from __future__ import annotations

import ast
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from csc_xr.networks.quiet import LOG_LEVEL, quiet_start

PACKAGE = Path(__file__).resolve().parents[1] / "csc_xr"
RETRACING = "5 out of the last 5 calls to <function> triggered tf.function retracing."


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tensorflow")
    before = list(logger.filters)
    yield logger
    logger.filters[:] = before


def test_a_start_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(LOG_LEVEL, raising=False)
    with quiet_start():
        level = os.environ[LOG_LEVEL]
        os.write(2, b"oneDNN custom operations are on\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"
    assert level == "2"
    assert LOG_LEVEL not in os.environ  # workers started from here are quiet by themselves


def test_an_error_passes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(LOG_LEVEL, raising=False)
    with pytest.raises(ImportError, match="no TensorFlow"), quiet_start():
        raise ImportError("no TensorFlow")
    os.write(2, b"told")
    assert capfd.readouterr().err == "told"
    assert LOG_LEVEL not in os.environ


def test_who_sets_the_level_hears_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], logger: logging.Logger
) -> None:
    monkeypatch.setenv(LOG_LEVEL, "0")
    logger.filters[:] = []
    with quiet_start():
        os.write(2, b"oneDNN")
    assert capfd.readouterr().err == "oneDNN"
    assert os.environ[LOG_LEVEL] == "0"
    assert not logger.filters


def test_a_process_without_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: int) -> int:
        raise OSError("Bad file descriptor")

    monkeypatch.delenv(LOG_LEVEL, raising=False)
    monkeypatch.setattr(os, "dup", closed)
    monkeypatch.setattr("sys.stderr", None)
    with quiet_start():
        pass


def test_retracing_is_not_told_and_the_rest_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, logger: logging.Logger
) -> None:
    monkeypatch.delenv(LOG_LEVEL, raising=False)
    monkeypatch.setattr(logger, "propagate", True)
    level = logger.level
    with quiet_start():
        pass
    logger.warning(RETRACING)
    logger.warning("Gradients are lost")
    assert caplog.messages == ["Gradients are lost"]
    assert logger.level == level


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_only_runtime_starts_tensorflow(path: Path) -> None:
    """Whoever imports Keras first starts TensorFlow, which the runtime does quietly."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        started = {name.split(".")[0] for name in names} & {"keras", "tensorflow"}
        if started and id(node) not in for_types:
            found.append(node.lineno)
    assert not found or path == PACKAGE / "networks" / "runtime.py", f"{path.name}: lines {found}"
