"""Clusters of programs of their own, commands that are killed, and counts of what networks did.

Given to a Dask worker with ``--preload`` the worker writes down the pixels its networks are done
with; run as a program, this is ``csc-xr`` that does.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

COUNTS = "CSC_XR_PIXEL_COUNTS"
"""Variable of the environment: folder where every program writes down its pixels."""

_kept: list[Any] = []


def start_counting() -> None:
    """Write down, as long as this process lives, every count of pixels as soon as it is told."""
    from csc_xr.record import watching_pixels

    if COUNTS not in os.environ:
        return
    file = Path(os.environ[COUNTS]) / f"{os.getpid()}-{secrets.token_hex(4)}.txt"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    watching = watching_pixels(lambda count: _write_line(descriptor, count))
    watching.__enter__()
    _kept.append(watching)  # it would end when nothing refers to it any more


def _write_line(descriptor: int, count: int) -> None:
    os.write(descriptor, f"{count}\n".encode())


def dask_setup(_worker: Any) -> None:
    """Count in a worker; Dask calls this after preloading."""
    start_counting()


def counted_pixels(folder: Path) -> int:
    """Add up what all programs have written down."""
    files = folder.glob("*.txt")
    return sum(int(line) for file in files for line in file.read_text().split())


def environment(counts: Path | None = None) -> dict[str, str]:
    """Give the environment of programs; with a folder, they count pixels."""
    quiet = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2", "MPLBACKEND": "Agg"}
    counted = {} if counts is None else {COUNTS: str(counts)}
    return {**os.environ, **quiet, **counted}


def start_command(*words: object, log: Path, counts: Path | None = None) -> subprocess.Popen[bytes]:
    """Start ``csc-xr`` as a program of its own, which says what it says into a file."""
    with log.open("ab") as said:
        return subprocess.Popen(
            [sys.executable, __file__, *map(str, words)],
            stdout=said, stderr=subprocess.STDOUT, env=environment(counts),
        )  # fmt: skip


def run_command(*words: object, log: Path, counts: Path | None = None, limit: float = 600) -> int:
    """Run ``csc-xr`` as a program of its own to its end; give its exit code."""
    running = start_command(*words, log=log, counts=counts)
    try:
        return running.wait(limit)
    finally:
        kill(running)


def kill_when(
    running: subprocess.Popen[bytes], begun: Callable[[], bool], after: float = 0.0
) -> bool:
    """Kill a program some seconds after something has come about; False when it ended before."""
    try:
        while not begun():
            if running.poll() is not None:
                return False
            time.sleep(0.01)
        try:
            running.wait(after)
        except subprocess.TimeoutExpired:
            return True
        return False
    finally:
        kill(running)


def kill(program: subprocess.Popen[bytes]) -> None:
    """End a program of ours as nothing can prevent, and wait until it is gone."""
    if program.poll() is None:
        program.send_signal(signal.SIGKILL)
    program.wait(60)


@dataclass
class Cluster:
    """A Dask scheduler and its workers, each a program of its own, over TCP.

    Attributes
    ----------
    folder : Path
        Where they write what they say, and work.
    address : str
        Of the scheduler.
    counts : Path or None
        Folder where workers write down pixels.
    workers : list of Popen
        Those alive or killed, in the order they were started.
    """

    folder: Path
    address: str
    counts: Path | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self, *, core: int | None = None) -> subprocess.Popen[bytes]:
        """Start a worker of one thread, on one core if it is named."""
        place = self.folder / f"worker_{len(self.workers)}"
        place.mkdir()
        pin = None if core is None else partial(os.sched_setaffinity, 0, {core})
        words = [self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        words += ["--memory-limit", "4GB", "--death-timeout", "60", "--preload", __file__]
        with (place / "log.txt").open("wb") as said:
            worker = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_worker", *words],
                stdout=said, stderr=subprocess.STDOUT, env=environment(self.counts),
                cwd=place, preexec_fn=pin,
            )  # fmt: skip
        self.workers.append(worker)
        return worker


@contextmanager
def running_cluster(
    folder: Path, *, cores: Sequence[int | None] = (None, None), counts: Path | None = None
) -> Iterator[Cluster]:
    """Start a scheduler and a worker for each core named; all are killed at the end."""
    from distributed import Client

    folder.mkdir(parents=True)
    file = folder / "scheduler.json"
    words = ["--port", "0", "--host", "127.0.0.1", "--dashboard-address", ":0"]
    words += ["--scheduler-file", str(file)]
    with ExitStack() as ends, (folder / "scheduler.txt").open("wb") as said:
        scheduler = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", *words],
            stdout=said, stderr=subprocess.STDOUT, env=environment(), cwd=folder,
        )  # fmt: skip
        ends.callback(kill, scheduler)
        cluster = Cluster(folder, _address(scheduler, file), counts)
        ends.callback(lambda: [kill(worker) for worker in cluster.workers])
        for core in cores:
            cluster.start_worker(core=core)
        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(len(cores), timeout=60)
        yield cluster


def _address(scheduler: subprocess.Popen[bytes], file: Path) -> str:
    for _ in range(600):
        with suppress(FileNotFoundError, json.JSONDecodeError):  # not there, or not whole yet
            return str(json.loads(file.read_text(encoding="utf-8"))["address"])
        if scheduler.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"No scheduler has started; see {file.with_suffix('.txt')}.")


class Killed(BaseException):
    """The process is dead: no handler of errors is to catch this."""


@dataclass
class Changes:
    """Changes to files below a folder, as they are about to be made.

    Attributes
    ----------
    folder : Path
        Where they count.
    last : int or None
        Number of the change that is not made any more, nor any after it, as if the process had been
        killed; by default none.
    count : int
        Changes so far.
    """

    folder: Path
    last: int | None = None
    count: int = 0

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count what Python tells of before it is done, or die of it."""
        if event == "open":
            changes = isinstance(arguments[2], int) and arguments[2] & _WRITING
        else:
            changes = event in _CHANGING
        if not changes or not isinstance(arguments[0], str | os.PathLike):
            return
        path = Path(arguments[0])  # relative where a whole folder is removed
        if not path.is_absolute() or path.is_relative_to(self.folder):
            self.count += 1
            if self.last is not None and self.count >= self.last:
                raise Killed


_CHANGING = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_heard: list[Changes] = []
_hooks: list[Callable[..., None]] = []


@contextmanager
def changing(folder: Path, *, last: int | None = None) -> Iterator[Changes]:
    """Count the changes a block makes to files below a folder, and let it die of one.

    Dask must compute in the block's own thread.
    """
    if not _hooks:  # a hook cannot be taken away again
        _hooks.append(lambda event, arguments: [each.hear(event, arguments) for each in _heard])
        sys.addaudithook(_hooks[0])
    changes = Changes(folder, last)
    _heard.append(changes)
    try:
        yield changes
    finally:
        _heard.remove(changes)


if __name__ == "__main__":
    from csc_xr.cli import main

    start_counting()
    main()
