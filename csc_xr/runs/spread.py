"""Scenes one after another here, or side by side on the workers of a cluster."""

from __future__ import annotations

import errno
import time
import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import dask

from csc_xr.contexts import SharedContext
from csc_xr.errors import CscError, CscWarning, OutputError, ResumeError
from csc_xr.files import write_json
from csc_xr.notes import heard_warnings
from csc_xr.record import StageTimer
from csc_xr.runs.jobs import Job
from csc_xr.runs.locks import one_at_a_time
from csc_xr.runs.unfinished import failure_file, lock_file

Progress = Callable[[int, int], None]

ATTEMPTS = 3
"""How often a scene is tried when another process may be at work on it too."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class SceneTask(ABC):
    """The work on one scene; it travels to workers.

    Attributes
    ----------
    job : Job
        The scene.
    files : Path
        Folder that its files go to.
    """

    job: Job
    files: Path

    @property
    def name(self) -> str:
        """Name of the scene."""
        return self.job.name

    @property
    def title(self) -> str:
        """What the scene is called where its progress is shown."""
        return self.name

    @property
    @abstractmethod
    def key(self) -> str:
        """Name of the task on a scheduler: the same for the same work."""

    @abstractmethod
    def run(self, timer: StageTimer, fit_progress: Progress | None) -> Any:
        """Do the work, or find it done.

        Parameters
        ----------
        timer : StageTimer
            Takes the time of each stage.
        fit_progress : callable or None
            Called with steps done and steps at most.

        Returns
        -------
        object
            What came of it.
        """


Task = TypeVar("Task", bound=SceneTask)


class Watch(Protocol):
    """Shows how far a scene is: lends what tells of stages and steps, by its title and pixels."""

    def __call__(
        self, name: str, pixels: int
    ) -> AbstractContextManager[tuple[StageTimer, Progress | None]]:
        """Watch one scene."""


@dataclass(frozen=True)
class Failure:
    """A scene that could not be classified.

    Attributes
    ----------
    name : str
        Name of the scene.
    message : str
        Why.
    fatal : bool
        True when the next scene would fail the same way, as on a full disk.
    """

    name: str
    message: str
    fatal: bool = False


def run_here(task: SceneTask, timer: StageTimer, fit_progress: Progress | None = None) -> Any:
    """Do the work on one scene in this process, once no other process is at it.

    Parameters
    ----------
    task : SceneTask
        The work.
    timer : StageTimer
        Takes the time of each stage.
    fit_progress : callable, optional
        Called with steps done and steps at most.

    Returns
    -------
    object or Failure
        What came of it.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            with one_at_a_time(lock_file(task.files, task.name), task.name):
                return task.run(timer, fit_progress)
        except ResumeError as error:
            return Failure(task.name, str(error))
        except OSError as error:
            # Where files cannot be locked, another process at the same scene may have finished
            # it and tidied up meanwhile: it is then found finished.
            if attempt == ATTEMPTS or error.errno in _FULL:
                return Failure(task.name, str(error), fatal=isinstance(error, OutputError))
            time.sleep(0.2)
        except CscError as error:
            return Failure(task.name, str(error))
        except Exception as error:  # whatever it is, it must not stop the other scenes
            told = traceback.format_exc()
            if "KeyboardInterrupt" in told:  # Ctrl-C inside a call that wraps what it meets
                raise KeyboardInterrupt from error
            return Failure(task.name, told)


def outcomes(
    tasks: Sequence[Task], client: Any = None, watch: Watch | None = None
) -> Iterator[tuple[Task, Any]]:
    """Do the work on many scenes: here one after another, or spread over a cluster.

    Parameters
    ----------
    tasks : sequence of SceneTask
        The work.
    client : distributed.Client, optional
        Connected to a cluster. Several scenes are then spread over the workers, each as one task;
        of a single scene the chunks are.
    watch : callable, optional
        Shows how far a scene is that is done here.

    Yields
    ------
    task : SceneTask
        Each, as it ends.
    outcome : object or Failure
        What it gives. A fatal failure is the last.
    """
    if client is not None and len(tasks) > 1:
        threads = threads_per_scene(client, len(tasks))
        yield from run_on_cluster(tasks, client, threads=threads)
        return
    for task in tasks:
        if watch is None:
            outcome = run_here(task, StageTimer())
        else:
            sizes = task.job.scene.sizes
            with watch(task.title, sizes["y"] * sizes["x"]) as (timer, fit_progress):
                outcome = run_here(task, timer, fit_progress)
        yield task, outcome
        if isinstance(outcome, Failure) and outcome.fatal:
            return


def run_on_cluster(
    tasks: Sequence[Task], client: Any, *, threads: int
) -> Iterator[tuple[Task, Any]]:
    """Do the work on many scenes, each a task of its own on a worker.

    A worker that dies loses no more than the chunks it was computing: its scenes go on elsewhere.
    After a failure that the others would share, the rest is cancelled. Workers do not show what
    they warn of: it is told here.

    Parameters
    ----------
    tasks : sequence of SceneTask
        The work.
    client : distributed.Client
        Connected to the cluster.
    threads : int
        Threads of a worker that one scene may use.

    Yields
    ------
    task : SceneTask
        Each, in the order they end.
    outcome : object or Failure
        What it gives.

    Warns
    -----
    CscWarning
        With each warning of a worker.
    """
    from distributed import as_completed

    futures = {
        client.submit(_run_on_worker, task, threads, key=task.key, pure=False): task
        for task in tasks
    }
    for future in as_completed(futures, loop=client.loop):
        task = futures.pop(future)
        error = future.exception()
        if error is None:
            outcome, heard = future.result()
            for message in heard:
                warnings.warn(message, CscWarning, stacklevel=2)
        else:  # the worker itself was lost, several times
            outcome = Failure(task.name, f"{type(error).__name__}: {error}")
        future.release()
        yield task, outcome
        if isinstance(outcome, Failure) and outcome.fatal:
            client.cancel(list(futures))
            return


def note_failure(out: Path, failure: Failure) -> None:
    """Write down why a scene failed, for who asks later.

    Parameters
    ----------
    out : Path
        The output folder.
    failure : Failure
        What happened.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    content = {"name": failure.name, "error": failure.message}
    write_json(content, failure_file(out, failure.name))


def threads_per_scene(client: Any, n_scenes: int) -> int:
    """Divide the threads of a cluster among scenes.

    Parameters
    ----------
    client : distributed.Client
        Connected to the cluster.
    n_scenes : int
        Scenes to do.

    Returns
    -------
    int
        At least 1; more where there are fewer scenes than threads.
    """
    threads: list[int] = list(client.nthreads().values())
    return max(1, min(max(threads, default=1), sum(threads) // max(n_scenes, 1)))


_local_dask: dict[int, SharedContext] = {}


def _run_on_worker(task: SceneTask, threads: int) -> tuple[Any, list[str]]:
    # Inside a task Dask would send chunks back to the cluster; a scene stays with its worker.
    local = _local_dask.setdefault(
        threads, SharedContext(lambda: dask.config.set(scheduler="threads", num_workers=threads))
    )
    with local.held(), heard_warnings(shown=False) as heard:
        return run_here(task, StageTimer()), heard
