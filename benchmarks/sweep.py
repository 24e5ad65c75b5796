"""A sweep on real imagery from one table: as it runs alone, and killed at ten random instants.

    python benchmarks/sweep.py [--work FOLDER] [--images FOLDER] [--write] [--patch-sizes 1 3 ...]

Trains two compact networks, of tiles of 32 and 50 pixels, on the ten training images of the River
Ste-Marguerite, and writes a table of jobs: both networks, five patch sizes, over the folder of the
four validation images. ``csc-xr batch`` does the jobs twice: undisturbed; and in another folder,
where it is killed with all its threads and processes at ten instants drawn at random and started
again each time. What both leave must be the same. Networks, results and times are kept in the
work folder, so that the figures can be drawn again. Needs the development imagery
(``CSC_XR_SHARED``).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from measure import DOCS, SHARED, markdown_table, replace_section

from csc_xr.errors import CscWarning
from csc_xr.export import open_result
from csc_xr.record import RECORD_END
from csc_xr.results.collect import Results, collect_results
from csc_xr.results.tables import POOLED
from csc_xr.runs.unfinished import FOLDER, find_work

IMAGERY = SHARED / "data" / "st_marguerite"
TILE_SIZES = (32, 50)
KILLS = 10
AT_START = 4.0
"""Seconds in which a process starts and has not begun an image; one kill falls among them."""

BEGUN = re.compile(rb"\(\d+ of \d+\)")
"""What the command prints as it begins an image, or finds it done."""

COMMAND = Path(sys.executable).with_name("csc-xr")
TABLES = ("f1", "front_errors", "margin_errors", "runs")
COLUMNS = (
    "Model", "DataSource", "OutFolder", "ExpShortHand", "Dims", "PatchSize", "TileSize",
    "WholeImage", "Patience", "Done",
)  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """One start of the command.

    Attributes
    ----------
    seconds : float
        How long it ran.
    killed : bool
        Whether it was killed, or ended by itself.
    stage : str
        What it was doing when it was killed.
    done : int
        Jobs that the table calls done, afterwards.
    """

    seconds: float
    killed: bool
    stage: str
    done: int


def train(models: Path) -> None:
    """Train a network for each tile size, unless it is there."""
    models.mkdir(parents=True, exist_ok=True)
    for size in TILE_SIZES:
        tiles, network = models / f"tiles_{size}.zarr", models / f"river_{size}.keras"
        words: tuple[object, ...] = (COMMAND, "tiles", IMAGERY / "train", "--legend", "river")
        if not tiles.exists():
            subprocess.run([*map(str, words), "--size", str(size), "--out", tiles], check=True)
        words = (COMMAND, "train", tiles, "--out", network, "--epochs", 4, "--validation", "none")
        subprocess.run([*map(str, words)], check=True)  # keeps one that is finished


def write_table(folder: Path, images: Path, patch_sizes: Sequence[int]) -> Path:
    """Write the table of jobs, as the research scripts have it, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    table = folder / "jobs.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(
            [f"river_{size}", images, f"river_{size}", "StMarg", 3, k, size, 0, 20, 0]
            for size in TILE_SIZES
            for k in patch_sizes
        )
    return table


def start(table: Path, models: Path) -> subprocess.Popen[bytes]:
    """Start the jobs of a table, in a group of processes of its own; add to its log."""
    with (table.parent / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [COMMAND, "batch", table, "--models", models],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def finish(table: Path, models: Path) -> float:
    """Do all jobs that are left; give the seconds."""
    begin = time.perf_counter()
    process = start(table, models)
    try:
        assert process.wait() == 0, f"csc-xr batch ended with {process.returncode}: see log.txt"
    finally:
        kill(process)  # where this benchmark itself is interrupted
    return time.perf_counter() - begin


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all that it started, unless it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_alone(table: Path, models: Path) -> list[float]:
    """Do all jobs; give the seconds from the start to the end of each image."""
    seconds = finish(table, models)
    ends = sorted(path.stat().st_mtime for path in table.parent.glob(f"*/*{RECORD_END}"))
    return [seconds + end - ends[-1] for end in ends]


def draw_instants(ends: Sequence[float], rng: np.random.Generator) -> list[tuple[int, float]]:
    """Draw when to kill: the number of an image, from 1 on, and seconds after it begins.

    They are evenly distributed over the time of the undisturbed run, so they do not depend on how
    fast the machine is meanwhile. One more is drawn from the time in which a process starts, with
    0 for the image.
    """
    instants = []
    for moment in np.sort(rng.uniform(0, ends[-1], KILLS - 1)):
        number = int(np.searchsorted(ends, moment))
        instants.append((number + 1, float(moment - (ends[number - 1] if number else 0))))
    instants.insert(int(rng.integers(1, KILLS)), (0, float(rng.uniform(0.2, AT_START))))
    return instants


def run_killed(
    table: Path, models: Path, instants: Sequence[tuple[int, float]], alone: Path
) -> list[Launch]:
    """Start the jobs, kill them at each instant, start them again, and let them end at last."""
    launches = []
    log = table.parent / "log.txt"
    for number, seconds in instants:
        told = log.stat().st_size if log.exists() else 0
        begin = time.perf_counter()
        process = start(table, models)
        try:
            while number and f"({number} of ".encode() not in log.read_bytes()[told:]:
                assert process.poll() is None, "ended before it was killed: see log.txt"
                time.sleep(0.02)
            time.sleep(seconds)
            assert process.poll() is None, "ended before it was killed: draw with another --seed"
        finally:
            kill(process)
        took = time.perf_counter() - begin
        begun = BEGUN.search(log.read_bytes()[told:])
        stage = find_stage(table.parent) if begun else "start"
        launches.append(Launch(took, True, stage, check_table(table, alone)))
        print(launches[-1], flush=True)
    took = finish(table, models)
    launches.append(Launch(took, False, "", check_table(table, alone)))
    return launches


def find_stage(folder: Path) -> str:
    """Tell from what is unfinished what was being done."""
    found = [work for out in sorted(folder.iterdir()) for work in find_work(out)]
    if not found:
        return "between two images"
    (work,) = found
    counts = work.counts()
    where = f"{work.folder.parents[1].name}, {work.name}"
    tiles, pixels = counts["tiles"], counts["result"]
    if tiles.found < tiles.total or not tiles.total:
        return f"tiles ({tiles.found} of {tiles.total} chunks), {where}"
    if not (work.folder / "network.keras").is_file():
        return f"samples and fit, {where}"
    if pixels.total:
        return f"pixels ({pixels.found} of {pixels.total} chunks), {where}"
    placed = (work.folder.parents[1] / f"{work.name}_classified.zarr").is_dir()
    return f"{'rasters, scores, figure' if placed else 'before the pixels'}, {where}"


def check_table(table: Path, alone: Path) -> int:
    """Check that every job which the table calls done is so, to the last file; count them."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    done = [row for row in rows if row["Done"] == "1"]
    for row in done:
        name = f"{row['OutFolder']}_patch{row['PatchSize']}"
        check_same(alone / name, table.parent / name)
    return len(done)


def check_same(alone: Path, other: Path) -> int:
    """Check that two folders hold the same complete results; count them."""
    records = sorted(path.name for path in alone.glob(f"*{RECORD_END}"))
    assert records, alone
    assert records == sorted(path.name for path in other.glob(f"*{RECORD_END}")), other
    for name in records:
        content = json.loads((other / name).read_text(encoding="utf-8"))
        missing = [path for path in content["outputs"].values() if not Path(path).exists()]
        assert not missing, missing
        result = name.replace(RECORD_END, "_classified.zarr")
        assert open_result(alone / result).identical(open_result(other / result)), other / result
    names = [{path.name for path in folder.iterdir()} for folder in (alone, other)]
    assert names[0] == names[1], names[0] ^ names[1]
    return len(records)


def compare(alone: Path, killed: Path) -> tuple[Results, str]:
    """Check that both runs left the same; give the results and say what was compared."""
    found = [collect_results(folder) for folder in (alone, killed)]
    rows = []
    for name in TABLES:
        one, other = (getattr(results, name) for results in found)
        pd.testing.assert_frame_equal(one, other, check_exact=True)
        if len(one):
            size = f"{len(one)} rows, {one.shape[1]} columns"
            rows.append([f"`{name}.csv`", size, "equal to the bit"])
    assert (alone / "jobs.csv").read_bytes() == (killed / "jobs.csv").read_bytes()
    n_jobs = len(pd.read_csv(alone / "jobs.csv"))
    rows.append(["`jobs.csv`", f"{n_jobs} jobs, all done, no error", "equal to the byte"])
    folders = [path for path in sorted(alone.iterdir()) if path.is_dir()]
    assert [path.name for path in folders] == [
        path.name for path in sorted(killed.iterdir()) if path.is_dir()
    ]
    count = sum(check_same(path, killed / path.name) for path in folders)
    rows.append(["classes of both phases", f"{count} images", "identical, attributes too"])
    left = [path for folder in (alone, killed) for path in folder.rglob("*") if is_left(path)]
    assert not left, left
    rows.append(["unfinished work, locks, shared tiles", "both folders", "none left"])
    return found[0], markdown_table(["", "how many", "undisturbed and killed"], rows)


def is_left(path: Path) -> bool:
    """Tell what ought to be gone at the end."""
    return path.name == FOLDER or path.name.endswith(("_tiles", ".lock", ".partial"))


def score_table(results: Results) -> str:
    """Scores of each job, pixels of all images pooled, and the lowest of single images."""
    rows = []
    for (size, k), job in results.f1.groupby(["Tile_Size", "Patch_Size"]):
        scores = [
            f"{value(job, phase, 'All'):.3f} / {value(job, phase, 'Macro'):.3f}" for phase in (1, 2)
        ]
        second = job[(job["CSC_Phase"] == 2) & (job["Scene"] != POOLED)]
        lowest = [second.loc[second["F1_Class"] == kind, "F1"].min() for kind in ("All", "Macro")]
        rows.append([size, k, *scores, f"{lowest[0]:.3f} / {lowest[1]:.3f}"])
    head = ["tile size", "patch size", "phase one", "phase two", "phase two, lowest image"]
    return markdown_table(head, rows)


def value(job: pd.DataFrame, phase: int, kind: str) -> float:
    """F1 of a job over all its images."""
    chosen = (job["CSC_Phase"] == phase) & (job["F1_Class"] == kind) & (job["Scene"] == POOLED)
    return float(job.loc[chosen, "F1"].item())


def kill_table(seconds: float, launches: Sequence[Launch]) -> str:
    """Tell what each kill hit, and what all of them cost."""
    rows: list[list[object]] = []
    for number, launch in enumerate(launches, 1):
        ran = f"{launch.seconds:.1f} s" if launch.killed else f"{launch.seconds:.0f} s, to its end"
        rows.append([number, ran, launch.stage, launch.done])
    total = sum(launch.seconds for launch in launches)
    rows.append(["all", f"{total:.0f} s; undisturbed: {seconds:.0f} s", "", ""])
    return markdown_table(["start", "ran for", "killed while at", "jobs done"], rows)


def draw(results: Results) -> None:
    """Draw what docs/sweeps.md shows."""
    from csc_xr.figures.sweeps import class_figure, f1_sweep_figure, scene_figure

    f1 = results.f1.sort_values(["Tile_Size", "Patch_Size"], kind="stable")
    images = DOCS / "images"
    f1_sweep_figure(
        f1, f1_class="Macro", title="F1 against patch size", path=images / "sweep_patch_size.png"
    )
    scene_figure(f1, title="F1 of each image", path=images / "sweep_scenes.png")
    sizes = sorted(f1["Patch_Size"].unique())
    some = f1[f1["Patch_Size"].isin([sizes[0], sizes[len(sizes) // 2], sizes[-1]])]
    class_figure(some, title="F1 of each class", path=images / "sweep_classes.png")


def main() -> None:
    """Run what has not been run, compare, print, and with ``--write`` update the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("sweep"), help="where results are kept")
    parser.add_argument("--images", type=Path, default=IMAGERY / "validate")
    parser.add_argument("--patch-sizes", type=int, nargs="+", default=[1, 3, 5, 7, 15])
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--write", action="store_true", help="update docs/sweeps.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", CscWarning)
    work, images = arguments.work.absolute(), arguments.images.absolute()
    models, alone, killed = work / "models", work / "alone", work / "killed"
    train(models)
    times = work / "alone.json"
    if not times.exists():
        ends = run_alone(write_table(alone, images, arguments.patch_sizes), models)
        times.write_text(json.dumps(ends), encoding="utf-8")
    ends = json.loads(times.read_text(encoding="utf-8"))
    kept = work / "killed.json"
    if not kept.exists():
        table = write_table(killed, images, arguments.patch_sizes)
        instants = draw_instants(ends, np.random.default_rng(arguments.seed))
        launches = run_killed(table, models, instants, alone)
        kept.write_text(json.dumps([asdict(launch) for launch in launches]), encoding="utf-8")
    launches = [Launch(**content) for content in json.loads(kept.read_text(encoding="utf-8"))]
    results, compared = compare(alone, killed)
    sections = {
        "sweep_scores": score_table(results),
        "sweep_kills": kill_table(ends[-1], launches),
        "sweep_compared": compared,
    }
    for name, text in sections.items():
        print(text)
        if arguments.write:
            replace_section(DOCS / "sweeps.md", name, text)
    if arguments.write:
        draw(results)


if __name__ == "__main__":
    main()
