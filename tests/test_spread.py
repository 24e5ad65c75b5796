"""What becomes of the work on a scene that goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from networks_for_tests import striped_scene

from csc_xr.record import StageTimer
from csc_xr.runs.jobs import Job
from csc_xr.runs.spread import Failure, SceneTask, run_here


@dataclass(frozen=True)
class Failing(SceneTask):
    """Raises what it is told to."""

    error: BaseException
    cause: BaseException | None = None

    @property
    def key(self) -> str:
        return "failing"

    def run(self, timer: StageTimer, fit_progress: Any) -> None:
        del timer, fit_progress
        raise self.error from self.cause


@pytest.fixture
def job() -> Job:
    return Job("striped", striped_scene((32, 32)))


def test_an_error_is_a_failure_of_the_scene(job: Job, tmp_path: Path) -> None:
    outcome = run_here(Failing(job, tmp_path, ZeroDivisionError("nought")), StageTimer())
    assert isinstance(outcome, Failure)
    assert outcome.message.startswith("Traceback")
    assert "ZeroDivisionError: nought" in outcome.message
    assert not outcome.fatal


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (KeyboardInterrupt(), None),
        (SystemError("returned a result with an exception set"), KeyboardInterrupt()),
        (RuntimeError("UnknownError: KeyboardInterrupt: in a callback"), None),
    ],
)
def test_an_interrupt_is_no_failure(
    error: BaseException, cause: BaseException | None, job: Job, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_here(Failing(job, tmp_path, error, cause), StageTimer())
