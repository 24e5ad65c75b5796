"""What becomes of the work on a scene that goes wrong."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distributed
import pytest
from networks_for_tests import striped_scene

from csc_xr.errors import CscWarning
from csc_xr.notes import heard_warnings
from csc_xr.record import StageTimer
from csc_xr.runs.jobs import Job
from csc_xr.runs.spread import Failure, SceneTask, run_here, run_on_cluster


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


@dataclass(frozen=True)
class Telling(SceneTask):
    """Warns, as of a class with few tiles, and keeps it for the record."""

    @property
    def key(self) -> str:
        return "telling"

    def run(self, timer: StageTimer, fit_progress: Any) -> list[str]:
        del timer, fit_progress
        with heard_warnings() as heard:
            warnings.warn("few tiles", CscWarning, stacklevel=2)
            warnings.warn("not ours", UserWarning, stacklevel=2)
        return heard


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


def test_what_a_worker_is_told_reaches_the_user_once(
    job: Job, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster = distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0")
    with (
        cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        pytest.warns(UserWarning, match="few tiles|not ours") as told,
    ):
        ((_, heard),) = run_on_cluster([Telling(job, tmp_path)], client, threads=1)
    assert heard == ["few tiles"]
    assert sorted(str(warning.message) for warning in told) == ["few tiles", "not ours"]
    assert "few tiles" not in capfd.readouterr().err
