"""The report: one page of HTML that needs nothing but itself."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from csc_xr.errors import CscError, ParameterError
from csc_xr.files import check_target, replacing
from csc_xr.notes import heard_warnings
from csc_xr.record import RECORD_END, StageTimer
from csc_xr.report.comparison import comparison_pictures, comparison_tables
from csc_xr.report.content import Group, make_groups
from csc_xr.report.pyramid import dropped_levels
from csc_xr.report.records import Run, find_runs, unfinished_scenes
from csc_xr.report.scenes import KnownInputs, ReportScene, open_report_scene
from csc_xr.report.viewer import Shown
from csc_xr.results.collect import Results, collect_results

MOST_SCENES = 50
"""Scenes that can be looked at in one page, unless told otherwise."""

Progress = Callable[[int, int], None]

_TEMPLATE = "page.html"
_LAST_SCRIPT = "viewer.js"
_FIRST_STYLE = "page.css"


def write_report(
    path: str | Path,
    out: str | Path | None = None,
    *,
    max_side: int | None = None,
    max_scenes: int = MOST_SCENES,
    timer: StageTimer | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a page of HTML that shows runs: scores, figures, records, and the scenes to look at.

    The page holds all it shows and opens without a network. Computes: reads the classes and the
    images of the scenes, a band of rows at a time, so that memory does not grow with them.

    Parameters
    ----------
    path : str or Path
        A run record (``<name>_run.json``), an output folder, or a folder of these.
    out : str or Path, optional
        The page; replaced when it exists. By default ``report.html`` in the folder, or
        ``<name>_report.html`` beside the record.
    max_side : int, optional
        Longest side in pixels of the finest picture of a scene; by default its full size.
    max_scenes : int
        So many scenes can be looked at in the page, those first in order. The others have their
        scores and records only.
    timer : StageTimer, optional
        Takes the times of the stages "tables" and "pictures".
    progress : callable, optional
        Called with pixels done and pixels at most.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ParameterError
        When there is no run, all results are gone, or a setting is out of range.
    OutputError
        When the page cannot be written.
    SceneError
        When an image cannot be read to its end.

    Warns
    -----
    CscWarning
        As :func:`csc_xr.results.collect.collect_results`.
    """
    source = Path(path)
    dropped_levels((1, 1), max_side)  # raises where it is out of range
    if max_scenes < 0:
        raise ParameterError(f"max_scenes must be 0 or more, got {max_scenes}.")
    target = Path(out) if out is not None else _default_target(source)
    check_target(target, folder=False, overwrite=True)
    runs = find_runs(source)
    timer = timer or StageTimer()
    with timer.stage("tables"):
        told: list[str] = []
        results = None
        if source.is_dir() and any(run.image is not None for run in runs):
            with heard_warnings() as told:
                results = collect_results(source)
        opener = _Opener(max_scenes, KnownInputs())
        groups = make_groups(runs, opener.open)
        page = _Page(source, groups, results, list(dict.fromkeys(told)), opener.left_out, max_side)
        content = page.content()
    with timer.stage("pictures"), replacing(target) as partial:
        tiles = page.shown.tiles(_counter(progress, page.shown.pixels))
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for piece in _template().generate(**content, tiles=tiles):
                file.write(piece)
    return target


@dataclass
class _Opener:
    """Opens scenes to look at, up to a number of them."""

    room: int
    known: KnownInputs
    left_out: int = 0

    def open(self, run: Run) -> tuple[ReportScene | None, list[str]]:
        if not run.store.is_dir():
            return None, [f"The result {run.store.name} is gone: nothing of it can be shown."]
        if not self.room:
            self.left_out += 1
            return None, []
        try:
            scene = open_report_scene(run, self.known)
        except (CscError, LookupError, ValueError, OSError) as error:
            return None, [f"The result {run.store.name} cannot be shown: {error}"]
        self.room -= 1
        return scene, scene.notes


@dataclass(frozen=True, eq=False)
class _Page:
    source: Path
    groups: list[Group]
    results: Results | None
    told: list[str]
    left_out: int
    max_side: int | None

    @cached_property
    def shown(self) -> Shown:
        pairs = [
            (entry.scene, group.title)
            for group in self.groups
            for entry in group.scenes
            if entry.scene is not None
        ]
        return Shown(
            [scene for scene, _ in pairs], [title for _, title in pairs], max_side=self.max_side
        )

    def content(self) -> dict[str, Any]:
        """Gather what the template takes; figures are drawn when their turn comes."""
        results, shown = self.results, self.shown
        fronts = [table for group in self.groups if (table := group.fronts) is not None]
        return {
            "title": self._title(),
            "facts": self._facts(),
            "notes": [*self.told, *self._picture_notes()],
            "groups": self.groups,
            "run_count": self._run_count,
            "comparison": [] if results is None else comparison_tables(results),
            "comparison_pictures": iter(()) if results is None else comparison_pictures(results),
            "fronts": fronts,
            "unfinished": unfinished_scenes(self.source),
            "viewer": shown.data() if shown.scenes else None,
            "style": _assets(".css", first=_FIRST_STYLE),
            "script": _assets(".js", last=_LAST_SCRIPT),
        }

    def _title(self) -> str:
        runs = [entry.run for group in self.groups for entry in group.scenes]
        return runs[0].name if len(runs) == 1 else self.source.absolute().name

    @property
    def _run_count(self) -> int:
        """Runs, of which one may lie in several folders."""
        firsts = [(group.anchor, group.scenes[0].run.image) for group in self.groups]
        return len({anchor if image is None else image.run for anchor, image in firsts})

    def _facts(self) -> list[tuple[str, str]]:
        runs = [entry.run for group in self.groups for entry in group.scenes]
        dates = sorted(str(run.content.get("finished"))[:10] for run in runs)
        kinds = {str(run.content["software"].get("csc_xr")) for run in runs}
        sizes = sorted({int(run.content["parameters"]["patch_size"]) for run in runs})
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        count = len({run.name for run in runs})
        return [
            ("Scenes", str(count)),
            ("Runs", str(self._run_count)),
            ("Patch size", f"{', '.join(map(str, sizes))} px"),
            ("Classified", dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"),
            ("Made by", f"csc_xr {', '.join(sorted(kinds))}"),
            ("Page written", f"{now}, csc_xr {importlib.metadata.version('csc_xr')}"),
        ]

    def _picture_notes(self) -> Iterator[str]:
        if self.left_out:
            yield (
                f"{_scenes_are(self.left_out)} not in the viewer, which holds "
                f"{len(self.shown.scenes)} here; scores and records are below all the same. Make a "
                "report of one folder or record, or ask for more with --max-scenes."
            )
        dropped = [dropped_levels(scene.shape, self.max_side) for scene in self.shown.scenes]
        if any(dropped):
            yield (
                f"{_scenes_are(sum(map(bool, dropped)))} shown at most {self.max_side} pixels wide "
                "and high: the finest pictures were left out of the page."
            )


def _scenes_are(count: int) -> str:
    return "1 scene is" if count == 1 else f"{count} scenes are"


def _default_target(source: Path) -> Path:
    if source.is_dir():
        return source / "report.html"
    return source.with_name(f"{source.name.removesuffix(RECORD_END)}_report.html")


def _counter(progress: Progress | None, most: int) -> Callable[[int], None]:
    done = 0

    def count(pixels: int) -> None:
        nonlocal done
        done += pixels
        if progress:
            progress(done, most)

    return count


@cache
def _template() -> Any:
    environment = Environment(
        loader=FunctionLoader(_read_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE)


def _read_asset(name: str) -> str:
    return resources.files("csc_xr.report").joinpath("assets", name).read_text(encoding="utf-8")


def _assets(end: str, *, first: str = "", last: str = "") -> Markup:
    """Join all assets of a kind in the order of their names, which are part of the package."""
    folder = resources.files("csc_xr.report").joinpath("assets")
    names = sorted(
        (item.name for item in folder.iterdir() if item.name.endswith(end)),
        key=lambda name: (name != first, name == last, name),
    )
    return Markup("\n".join(map(_read_asset, names)))  # noqa: S704  # no input of the user's
