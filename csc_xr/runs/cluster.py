"""The Dask a user runs: threads, processes, workers started here or elsewhere."""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import dask.system

from csc_xr.errors import ClusterError
from csc_xr.files import replacing
from csc_xr.record import software_versions, watching_pixels

PIXEL_TOPIC = "csc_xr-pixels"
"""Events of workers that tell how many pixels networks are done with."""

_MUST_AGREE = ("python", "csc_xr", "tensorflow", "keras", "numpy", "dask", "distributed", "zarr")
_SECONDS_BETWEEN_EVENTS = 0.5
_reporting: list[Any] = []


@contextmanager
def using_scheduler(
    scheduler: str = "threads",
    *,
    workers: int | None = None,
    threads: int | None = None,
    memory_limit: int | None = None,
) -> Iterator[Any]:
    """Compute with a scheduler inside a block.

    Parameters
    ----------
    scheduler : str
        ``"threads"`` of this process, ``"processes"``, or the address of a Dask scheduler that
        runs elsewhere, such as ``"tcp://10.0.0.5:8786"``.
    workers : int, optional
        With ``"processes"``: worker processes to start on this machine, one thread each; by
        default one for each core.
    threads : int, optional
        With ``"threads"``: threads; by default one for each core.
    memory_limit : int, optional
        With ``"processes"``: bytes for all of them together.

    Yields
    ------
    distributed.Client or None
        The client, where there is a cluster.

    Raises
    ------
    ClusterError
        When there is no scheduler at the address, or it has no workers.
    """
    if scheduler == "threads":
        with dask.config.set(scheduler="threads", num_workers=threads):
            yield None
        return
    from distributed import Client, LocalCluster

    if scheduler == "processes":
        count = workers or dask.system.CPU_COUNT
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            memory_limit="auto" if memory_limit is None else memory_limit // count,
        )
        with cluster, Client(cluster, set_as_default=False) as client, client.as_current():
            _set_up_workers(client, "csc_xr-end", _end_at_once)
            yield client
        return
    try:  # one that cannot connect must not stay behind as the default, where all work would wait
        client = Client(scheduler, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"A Dask scheduler must run at {scheduler!r}, but it cannot be reached: {error}. "
            "Start one with `dask scheduler` and pass the address it prints, or use threads or "
            "processes."
        ) from error
    with client, client.as_current():
        yield client


def worker_limits(client: Any) -> tuple[int, int | None]:
    """Look up what the workers of a cluster have.

    Parameters
    ----------
    client : distributed.Client
        Connected to the cluster.

    Returns
    -------
    threads : int
        Most threads of a worker.
    memory : int or None
        Least bytes of a worker that limits its memory; None when none does.

    Raises
    ------
    ClusterError
        When there are no workers.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        raise ClusterError(
            f"The cluster at {client.scheduler.address} must have workers, got none. Start some "
            f"with `dask worker {client.scheduler.address}`."
        )
    limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
    return max(worker["nthreads"] for worker in workers), min(limits, default=None)


def check_cluster(client: Any, out: Path) -> None:
    """Make sure that workers can do the work, before it begins.

    Parameters
    ----------
    client : distributed.Client
        Connected to the cluster.
    out : Path
        The output folder, which all workers must share.

    Raises
    ------
    ClusterError
        When there are no workers, they have other software, or do not see the folder.
    """
    worker_limits(client)
    mark = out / f".seen-{secrets.token_hex(4)}"
    with replacing(mark) as partial:
        partial.write_text("seen")
    try:
        seen = client.run(_look, mark.absolute())
    finally:
        mark.unlink(missing_ok=True)
    here = software_versions()
    for address, (sees, there) in seen.items():
        if not sees:
            raise ClusterError(
                f"All workers must see the output folder, but {address} does not see "
                f"{out.absolute()}. Choose a folder on a file system they share."
            )
        other = [
            f"{name} {there.get(name)} instead of {here.get(name)}"
            for name in _MUST_AGREE
            if there.get(name) != here.get(name)
        ]
        if other:
            raise ClusterError(
                f"Workers must have the software of this process, but {address} has "
                f"{', '.join(other)}. Start it in the same environment."
            )


@contextmanager
def watching_cluster(client: Any, listener: Callable[[int], None]) -> Iterator[None]:
    """Hear from workers how many pixels networks are done with.

    Parameters
    ----------
    client : distributed.Client
        Connected to the cluster.
    listener : callable
        Takes a number of pixels.

    Yields
    ------
    None
        Nothing; work runs inside the block.
    """
    _set_up_workers(client, PIXEL_TOPIC, start_reporting)
    client.subscribe_topic(PIXEL_TOPIC, lambda event: listener(int(event[1])))
    try:
        yield
    finally:
        client.unsubscribe_topic(PIXEL_TOPIC)


def start_reporting(worker: Any) -> None:
    """Make a worker tell of pixels, at most twice a second.

    Parameters
    ----------
    worker : distributed.Worker
        The worker of this process.
    """
    lock = threading.Lock()
    state = {"pixels": 0, "told": time.monotonic()}

    def count(pixels: int) -> None:
        with lock:
            state["pixels"] += pixels
            if time.monotonic() - state["told"] < _SECONDS_BETWEEN_EVENTS:
                return
            told, state["pixels"], state["told"] = state["pixels"], 0, time.monotonic()
        worker.loop.add_callback(worker.log_event, PIXEL_TOPIC, told)

    while _reporting:  # for an earlier client: pixels would be told twice
        _reporting.pop().__exit__(None, None, None)
    watching = watching_pixels(count)
    watching.__enter__()
    _reporting.append(watching)  # for as long as the worker lives


def _set_up_workers(client: Any, name: str, setup: Callable[[Any], None]) -> None:
    """Call a function with each worker, also with those that come later."""
    from distributed import WorkerPlugin

    class SetUp(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
        """Stays with the worker."""

        def setup(self, worker: Any) -> None:
            setup(worker)

    client.register_plugin(SetUp(), name=name)


def _end_at_once(_: Any) -> None:
    """Spare a process the seconds that Python takes to clear TensorFlow away, when it is done.

    It would be killed meanwhile, with a warning.
    """
    atexit.register(os._exit, 0)


def _look(mark: Path) -> tuple[bool, dict[str, str]]:
    return mark.is_file(), software_versions()
