"""Progress on the terminal: a bar for each stage, with the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dask.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from csc_xr.record import StageTimer, watching_pixels

COUNTED_IN_PIXELS = frozenset({"tiles", "pixels"})
"""Stages in which networks run over the scene; the others are counted in Dask tasks."""


@contextmanager
def stage_progress(
    title: str, *, pixels: int | None = None
) -> Iterator[tuple[StageTimer, Callable[[int, int], None]]]:
    """Show the stages of a run as they pass, on standard error.

    On a terminal each stage gets a bar; elsewhere (a log file) a line with its seconds.

    Parameters
    ----------
    title : str
        What is being worked on.
    pixels : int, optional
        Rows times columns of the scene.

    Yields
    ------
    timer : StageTimer
        Hand it to the run.
    fit_progress : callable
        Takes steps done and steps at most.
    """
    console = Console(stderr=True, highlight=False)
    console.print(title, style="bold", markup=False)
    if not console.is_terminal:
        yield StageTimer(_print_seconds), _ignore_steps
        return
    bars = _bars(console)
    feed = _Feed(bars, pixels)
    with watching_pixels(feed.pixels_done), bars, feed:
        yield StageTimer(feed.stage), feed.steps


class ScenesBar:
    """One bar for many scenes, on the workers of a cluster.

    Parameters
    ----------
    console : rich.console.Console
        Where it is shown.
    scenes : int
        Number of scenes.
    pixels : int
        Pixels that networks have to do with in all of them.
    """

    def __init__(self, console: Console, scenes: int, pixels: int) -> None:
        self.bars = _bars(console)
        self._console, self._scenes, self._done = console, scenes, 0
        self._pixels, self._counted = pixels, 0
        self._bar = self.bars.add_task(self._words(), total=pixels)

    def pixels_done(self, count: int) -> None:
        """Count pixels; those of finished scenes may never have been told.

        Parameters
        ----------
        count : int
            Pixels.
        """
        self._counted += count
        self._show()

    def scene_done(self) -> None:
        """Count a scene."""
        self._done += 1
        if not self._console.is_terminal:
            self._console.print(self._words(), markup=False)
        self._show()

    def _show(self) -> None:
        least = self._pixels * self._done // self._scenes
        self.bars.update(
            self._bar,
            description=self._words(),
            completed=min(self._pixels, max(self._counted, least)),
        )

    def _words(self) -> str:
        return f"{self._done} of {self._scenes} scenes"


@contextmanager
def scenes_progress(scenes: int, pixels: int) -> Iterator[ScenesBar]:
    """Show how far many scenes are, on standard error: a bar, or a line a scene in a log file.

    Parameters
    ----------
    scenes : int
        Number of scenes.
    pixels : int
        Pixels that networks have to do with in all of them.

    Yields
    ------
    ScenesBar
        To be told of pixels and scenes.
    """
    console = Console(stderr=True, highlight=False)
    shown = ScenesBar(console, scenes, pixels)
    if not console.is_terminal:
        yield shown
        return
    with shown.bars:
        yield shown


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description:8}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        _Clock(),
        console=console,
    )


def _print_seconds(name: str, seconds: float | None) -> None:
    if seconds is not None:
        print(f"  {name:8} {seconds:7.1f} s", file=sys.stderr, flush=True)


def _ignore_steps(_done: int, _most: int) -> None:
    """Take steps that nobody looks at."""


class _Clock(ProgressColumn):
    """Seconds so far, and how many are left."""

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        words = f"{elapsed or 0:.0f} s"
        if not task.finished and task.time_remaining is not None:
            words += f", {task.time_remaining:.0f} s left"
        return Text(words)


class _Feed(Callback):  # type: ignore[misc]  # dask has no types
    """Turns stage changes, pixels and finished Dask tasks into movements of the current bar."""

    def __init__(self, bars: Progress, pixels: int | None) -> None:
        super().__init__()
        self.bars = bars
        self.pixels = pixels
        self.bar: TaskID | None = None
        self.counts_tasks = True

    def stage(self, name: str, seconds: float | None) -> None:
        if seconds is None:
            in_pixels = name in COUNTED_IN_PIXELS and self.pixels is not None
            self.counts_tasks = not in_pixels
            self.bar = self.bars.add_task(name, total=self.pixels if in_pixels else None)
        elif self.bar is not None:
            if sys.exc_info()[0] is None:  # the bar of a stage that fails stays where it is
                self.bars.update(self.bar, total=1, completed=1)
            self.bars.stop_task(self.bar)
            self.bar = None

    def steps(self, done: int, most: int) -> None:
        if self.bar is not None:
            self.counts_tasks = False
            self.bars.update(self.bar, total=most, completed=done)

    def pixels_done(self, count: int) -> None:
        if self.bar is not None and not self.counts_tasks:
            self.bars.advance(self.bar, count)

    def _start_state(self, _dsk: Any, state: Any) -> None:
        if self.bar is not None and self.counts_tasks:
            self.bars.reset(self.bar, total=sum(len(state[key]) for key in ("ready", "waiting")))

    def _posttask(self, *_: Any) -> None:
        if self.bar is not None and self.counts_tasks:
            self.bars.advance(self.bar)
