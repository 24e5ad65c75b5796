"""A cost model: what a season of scenes costs on 1 to 1000 workers.

    python benchmarks/scaling.py [--write] [--record run.json --pixels 120560400 --cores 2]

Two inputs are measured: the seconds of each stage of one scene (``stage_costs.json``, which
``--record`` fills from the run record of ``csc-xr classify``) and what a task costs the
distributed scheduler (``scheduler_costs.json``, which ``scheduling.py --write`` fills). The rest is
arithmetic: nothing here has run on more workers than this machine has cores.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from measure import COLOURS, DOCS, markdown_table, replace_section
from scheduling import SchedulerCosts, read_costs

Mode = Literal["scenes", "chunks"]

STAGE_COSTS = Path(__file__).with_name("stage_costs.json")
BY_PIXEL = ("tiles", "samples", "pixels", "export")
"""Stages whose seconds grow with the scene; a fit takes the same number of steps for any."""
ON_ALL_CORES = ("tiles", "samples", "pixels")
"""Stages that keep all cores of the measured run busy; the others use one."""
WORKERS = (1, 10, 100, 1000)
TITLES: dict[Mode, str] = {"scenes": "a scene a task", "chunks": "chunks as tasks"}


@dataclass(frozen=True)
class StageCosts:
    """Seconds of the stages of one measured run.

    Attributes
    ----------
    scene_pixels : int
        Pixels of the scene that was classified.
    cores : int
        Cores of the run.
    seconds : mapping of str to float
        Wall-clock seconds of ``tiles``, ``samples``, ``fit``, ``pixels``, ``export``.
    source : str
        Which run that was.
    """

    scene_pixels: int
    cores: int
    seconds: Mapping[str, float]
    source: str

    def core_seconds(self, pixels: int) -> dict[str, float]:
        """Give the seconds each stage keeps one core busy for a scene of another size.

        Stages on all cores count as busy on all of them for all their time: an upper bound.
        """
        return {
            stage: took
            * (self.cores if stage in ON_ALL_CORES else 1)
            * (pixels / self.scene_pixels if stage in BY_PIXEL else 1)
            for stage, took in self.seconds.items()
        }


@dataclass(frozen=True)
class Season:
    """What is to be classified, and where it lies.

    Attributes
    ----------
    scenes : int
        Number of scenes.
    scene_pixels : int
        Pixels of each.
    scene_bytes : float
        Bytes read to have a scene once.
    passes : int
        Times a scene is read when no worker keeps it: phase one, the places of the samples
        (nodata is looked up), their patches, phase two.
    read_rate : float
        Bytes a second that the shared file system gives to all workers together: assumed.
    start_seconds : float
        Until a new worker has loaded TensorFlow and the network.
    """

    scenes: int = 2000
    scene_pixels: int = 10_980**2
    scene_bytes: float = 1e9
    passes: int = 4
    read_rate: float = 1e9
    start_seconds: float = 10.0


@dataclass(frozen=True)
class Bill:
    """What a season costs on some workers. The three times overlap: the longest decides.

    Attributes
    ----------
    workers : int
        Workers of one core each.
    compute_seconds : float
        Until the last worker is done, if nothing else held it up.
    scheduler_seconds : float
        The scheduler's work, one core's.
    reading_seconds : float
        The file system's work.
    """

    workers: int
    compute_seconds: float
    scheduler_seconds: float
    reading_seconds: float

    @property
    def wall_seconds(self) -> float:
        """Seconds from start to end, at least."""
        return max(self.compute_seconds, self.scheduler_seconds, self.reading_seconds)

    @property
    def limit(self) -> str:
        """What decides."""
        times = {
            "computing": self.compute_seconds,
            "the scheduler": self.scheduler_seconds,
            "reading": self.reading_seconds,
        }
        return max(times, key=times.__getitem__)


def bill(
    mode: Mode, workers: int, stages: StageCosts, scheduler: SchedulerCosts, season: Season
) -> Bill:
    """Give the cost of a season on some workers.

    Scenes as tasks: a worker classifies one scene after the other, each read once and kept, and
    the scheduler passes one task a scene. The season ends with the worker that has most scenes.

    Chunks as tasks: any worker takes any chunk, so none waits for the last scene; every task of
    every chunk passes the scheduler, which also makes each scene's graph, costs the worker time of
    its own, and every pass reads its chunks again.
    """
    scene = sum(stages.core_seconds(season.scene_pixels).values())
    read = season.scenes * season.scene_bytes / season.read_rate
    if mode == "scenes":
        compute = math.ceil(season.scenes / workers) * scene
        passed = season.scenes * scheduler.scheduler_task_seconds
        return Bill(workers, season.start_seconds + compute, passed, read)
    scene += scheduler.scene_tasks * scheduler.worker_task_seconds
    passed = scheduler.scene_tasks * scheduler.scheduler_task_seconds
    passed += scheduler.scene_graph_seconds
    compute = season.start_seconds + season.scenes * scene / workers
    return Bill(workers, compute, season.scenes * passed, read * season.passes)


def useful_workers(
    mode: Mode, stages: StageCosts, scheduler: SchedulerCosts, season: Season
) -> int:
    """Give the number of workers from which another limit than computing decides.

    Never more than there are scenes, where a scene is a task.
    """
    most = season.scenes if mode == "scenes" else 10**6
    for workers in _steps(most):
        if bill(mode, workers, stages, scheduler, season).limit != "computing":
            return workers
    return most


def _steps(most: int) -> list[int]:
    """Whole numbers up to another, in steps of one per cent."""
    found, last = [], 0.0
    while last < most:
        last = max(last + 1, last * 1.01)
        found.append(min(round(last), most))
    return found


def read_stages(path: Path = STAGE_COSTS) -> dict[int, StageCosts]:
    """Read the measured stages, by patch size."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {int(patch_size): StageCosts(**costs) for patch_size, costs in content.items()}


def stages_of_record(record: Mapping[str, object], pixels: int, cores: int) -> StageCosts:
    """Take the stages out of a run record."""
    seconds = record["stage_seconds"]
    assert isinstance(seconds, Mapping)
    kept = {stage: float(seconds[stage]) for stage in (*BY_PIXEL, "fit")}
    return StageCosts(pixels, cores, kept, f"a run of {pixels / 1e6:.1f} Mpx on {cores} cores")


def keep_record(record_path: Path, pixels: int, cores: int, path: Path = STAGE_COSTS) -> None:
    """Put the stages of a run record into the input of the model."""
    record = json.loads(record_path.read_text(encoding="utf-8"))
    known = read_stages(path)
    known[int(record["parameters"]["patch_size"])] = stages_of_record(record, pixels, cores)
    content = {str(patch_size): asdict(costs) for patch_size, costs in sorted(known.items())}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def stage_table(stages: Mapping[int, StageCosts], season: Season) -> str:
    """Format what one scene costs, by stage."""
    names = ("tiles", "samples", "fit", "pixels", "export")
    rows: list[list[object]] = []
    for patch_size, costs in stages.items():
        scene = costs.core_seconds(season.scene_pixels)
        whole = sum(scene.values())
        each = [f"{scene[name]:.0f}" for name in names]
        rows.append([patch_size, *each, f"**{whole:.0f}**", f"{whole / 3600:.2f}", costs.source])
    return markdown_table(["k", *names, "core seconds a scene", "core hours", "measured in"], rows)


def season_table(
    stages: Mapping[int, StageCosts],
    scheduler: SchedulerCosts,
    season: Season,
    workers: Sequence[int] = WORKERS,
) -> str:
    """Format wall hours and core hours on some numbers of workers."""
    rows: list[list[object]] = []
    for patch_size, costs in stages.items():
        for count in workers:
            row: list[object] = [patch_size, count]
            for mode in TITLES:
                cost = bill(mode, count, costs, scheduler, season)
                hours = cost.wall_seconds / 3600
                row += [_hours(hours), _hours(hours * count), cost.limit]
            rows.append(row)
    header = [
        f"{title}: {what}"
        for title in TITLES.values()
        for what in ("wall hours", "core hours held", "decided by")
    ]
    return markdown_table(["k", "workers", *header], rows)


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours < 100 else f"{hours:,.0f}"


def limit_table(stages: Mapping[int, StageCosts], scheduler: SchedulerCosts, season: Season) -> str:
    """Format where more workers stop helping."""
    uncached = replace(season, scene_bytes=season.scene_bytes * season.passes)
    cases: list[tuple[str, Mode, Season]] = [
        (TITLES["scenes"], "scenes", season),
        (f"{TITLES['scenes']}, read in every pass", "scenes", uncached),
        (TITLES["chunks"], "chunks", season),
    ]
    rows: list[list[object]] = []
    for patch_size, costs in stages.items():
        for title, mode, case in cases:
            most = useful_workers(mode, costs, scheduler, case)
            cost = bill(mode, most, costs, scheduler, case)
            why = cost.limit if cost.limit != "computing" else "a scene each"
            rows.append([patch_size, title, f"{most:,}", _hours(cost.wall_seconds / 3600), why])
    return markdown_table(["k", "tasks", "workers at most", "wall hours then", "why"], rows)


def draw(
    stages: Mapping[int, StageCosts], scheduler: SchedulerCosts, season: Season, path: Path
) -> None:
    """Draw wall hours against workers, with the limits."""
    import matplotlib.pyplot as plt

    workers = _steps(5000)
    figure, axes = plt.subplots(
        1, len(stages), figsize=(5.2 * len(stages), 4.6), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, (patch_size, costs) in zip(axes[0], stages.items(), strict=True):
        for (mode, title), colour in zip(TITLES.items(), COLOURS[1::-1], strict=True):
            bills = [bill(mode, count, costs, scheduler, season) for count in workers]
            hours = [cost.wall_seconds / 3600 for cost in bills]
            axis.plot(workers, hours, color=colour, linewidth=2, label=title)
            at = [bill(mode, count, costs, scheduler, season) for count in WORKERS]
            axis.plot(WORKERS, [cost.wall_seconds / 3600 for cost in at], "o", color=colour)
        chunks = bill("chunks", 1, costs, scheduler, season)
        scenes = bill("scenes", 1, costs, scheduler, season)
        limits = {
            "scheduler, chunks as tasks": (chunks.scheduler_seconds, ":"),
            "reading in every pass": (chunks.reading_seconds, "--"),
            "reading once": (scenes.reading_seconds, "-."),
        }
        for name, (seconds, style) in limits.items():
            axis.axhline(seconds / 3600, color="0.35", linestyle=style, linewidth=1)
            axis.annotate(name, (1.1, seconds / 3600), xytext=(0, 3), textcoords="offset points",
                          fontsize=8, color="0.25")  # fmt: skip
        axis.axvline(season.scenes, color="0.35", linewidth=0.8)
        axis.annotate("a scene each", (season.scenes, 0.75), xycoords=("data", "axes fraction"),
                      xytext=(-3, -4), textcoords="offset points", rotation=90, ha="right",
                      va="top", fontsize=8, color="0.25")  # fmt: skip
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_title(f"k = {patch_size}")
        axis.set_xlabel("workers of one core")
        axis.grid(True, which="major", color="0.88")
    axes[0, 0].set_ylabel(f"wall hours, {season.scenes} scenes (model)")
    axes[0, 0].legend(loc="upper right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def report(*, write: bool, season: Season | None = None) -> None:
    """Print the model's tables, and where asked put them and the figure into the docs."""
    season = season or Season()
    stages, scheduler = read_stages(), read_costs()
    tables = {
        "stage_costs": stage_table(stages, season),
        "season": season_table(stages, scheduler, season),
        "limits": limit_table(stages, scheduler, season),
    }
    for name, table in tables.items():
        print(table)
        if write:
            replace_section(DOCS / "scaling.md", name, table)
    if write:
        draw(stages, scheduler, season, DOCS / "images" / "scaling.png")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/scaling.md")
    parser.add_argument("--record", type=Path, help="run record to take the stages from")
    parser.add_argument("--pixels", type=int, default=10_980**2, help="of the run's scene")
    parser.add_argument("--cores", type=int, default=2, help="of the run")
    arguments = parser.parse_args()
    if arguments.record:
        keep_record(arguments.record, arguments.pixels, arguments.cores)
    report(write=arguments.write)


if __name__ == "__main__":
    main()
