"""Progress on the terminal: a bar for each stage, with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dask.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

from csc_xr.record import StageTimer


@contextmanager
def stage_progress(
    title: str,
) -> Iterator[tuple[StageTimer, Callable[[int, int], None]]]:
    """Show the stages of a run as they pass.

    Parameters
    ----------
    title : str
        What is being worked on.

    Yields
    ------
    timer : StageTimer
        Hand it to the run: its stages get a bar each, fed by the Dask tasks they compute.
    fit_progress : callable
        Takes steps done and steps at most.
    """
    console = Console(stderr=True)
    console.print(f"[bold]{title}")
    bars = Progress(
        TextColumn("  {task.description:8}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
        console=console,
    )
    feed = _Feed(bars)
    with bars, feed:
        yield StageTimer(feed.stage), feed.steps


class _Feed(Callback):  # type: ignore[misc]  # dask has no types
    """Turns stage changes and finished Dask tasks into movements of the current bar."""

    def __init__(self, bars: Progress) -> None:
        super().__init__()
        self.bars = bars
        self.bar: TaskID | None = None

    def stage(self, name: str, seconds: float | None) -> None:
        if seconds is None:
            self.bar = self.bars.add_task(name, total=None)
        elif self.bar is not None:
            self.bars.update(self.bar, total=1, completed=1)
            self.bars.stop_task(self.bar)
            self.bar = None

    def steps(self, done: int, most: int) -> None:
        if self.bar is not None:
            self.bars.update(self.bar, total=most, completed=done)

    def _start_state(self, dsk: Any, state: Any) -> None:
        if self.bar is not None:
            self.bars.reset(self.bar, total=sum(len(state[key]) for key in ("ready", "waiting")))

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        if self.bar is not None:
            self.bars.advance(self.bar)
