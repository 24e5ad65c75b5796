"""Tables of jobs over small images, and what became of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from networks_for_tests import striped_scene
from runs_for_tests import SHAPE, write_image, write_labels, write_network

from csc_xr.files import read_json
from csc_xr.runs.batch import plan_batch, run_batch
from csc_xr.runs.scene import RunResult
from csc_xr.runs.spread import Failure

# Without a network to fit and to compile.
FOREST = {"PatchSize": "1", "Classifier": "random-forest", "ModeRadius": "1"}
FOREST_WORDS = ("--patch-size", "1", "--classifier", "random-forest", "--mode-radius", "1")


def job(**cells: object) -> dict[str, str]:
    """Give the cells of a job, quick unless others are given."""
    known = {"Model": "tiles", "DataSource": "images", "OutFolder": "out/run", **FOREST}
    return {**known, **{name: str(cell) for name, cell in cells.items()}}


def write_jobs(folder: Path, *jobs: dict[str, str], name: str = "jobs.csv") -> Path:
    """Write a table with the columns of all its jobs."""
    columns = list(dict.fromkeys(column for cells in jobs for column in cells))
    with (folder / name).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(jobs)
    return folder / name


def make_place(folder: Path, images: str = "ab") -> Path:
    """Make a folder with a network, and images of which the first has labels."""
    (folder / "images").mkdir(parents=True)
    for seed, name in enumerate(images):
        write_image(folder / "images" / f"{name}.tif", striped_scene(SHAPE, seed=seed).values)
    write_labels(folder / "images" / "SCLS_a.tif")
    write_network(folder)
    return folder


def run_table(table: Path, **options: Any) -> Iterator[RunResult | Failure]:
    """Do the jobs of a table as they come."""
    client = options.pop("client", None)
    return run_batch(plan_batch(table, **options), client=client)


def run_well(table: Path, **options: Any) -> list[RunResult]:
    """Do the jobs of a table, none of which may fail."""
    found = []
    for outcome in run_table(table, **options):
        assert isinstance(outcome, RunResult), outcome
        found.append(outcome)
    return found


def column(table: Path, name: str) -> list[str]:
    """Read a column, empty where it is not there yet."""
    with table.open(newline="", encoding="utf-8") as stream:
        return [row.get(name, "") for row in csv.DictReader(stream)]


def record(folder: Path, scene: str) -> dict[str, Any]:
    """Read a run record."""
    return read_json(folder / f"{scene}_run.json")
