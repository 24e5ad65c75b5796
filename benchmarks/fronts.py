"""Calving fronts of generated scenes against their exact truth, and what a full scene costs.

    python benchmarks/fronts.py [--write] [--parts perfect classified series full_size]
                                [--folder FOLDER] [--pictures FOLDER]

*perfect*: the front from the true classes of the scenes in ``tests/front_scenes_for_tests.py``.
*classified*: the same scenes, twice as large, classified by csc_xr with the demo network, which saw
none of them. *series*: 24 dates of one retreating glacier; the truth is what the same methods give
for the true fronts. *full_size*: a Sentinel-2 scene of generated classes in a Zarr store, in a
process of its own, whose highest resident memory is what the kernel counted (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import numpy as np
import psutil
import xarray as xr
from measure import DOCS, ROOT, THREADS, markdown_table, replace_section
from tile_store import write_labels

from csc_xr.demo import TRAINING_SEEDS, open_demo_network
from csc_xr.errors import CscWarning
from csc_xr.fronts.deviation import Deviation, front_error
from csc_xr.fronts.extraction import Front, extract_front
from csc_xr.fronts.series import front_series
from csc_xr.legend import GLACIER
from csc_xr.metres import pixel_size_m
from csc_xr.record import peak_memory_bytes
from csc_xr.scene import open_scene
from csc_xr.synthetic import fjord
from csc_xr.workflow import classify_scene

sys.path.insert(0, str(ROOT / "tests"))
from front_scenes_for_tests import front_cases, open_case, true_front

PARTS = ("perfect", "classified", "series", "full_size")
NOISES = (80.0, 240.0)
"""Of the classified scenes, in digital numbers; the demo network was trained with 80."""
TIMES_LARGER = 2
"""Of the classified scenes, so that a tile is small beside the glacier."""
DATES = 24
SERIES_SHAPE = (800, 1000)
SERIES_SEED = 470
SIDE = 10980
PART_SIDE = 2745
"""Side of the scene whose front is also looked for in one chunk."""


@dataclass(frozen=True)
class Found:
    """A front found in a generated scene, beside the true one."""

    name: str
    front: Front
    error: Deviation
    pixel_m: float
    right: float = 1.0
    """Share of pixels with the right class."""

    @property
    def cells(self) -> list[str]:
        """Outcome and figures in pixels, of a table."""
        error, pixel = self.error, self.pixel_m
        figures = (error.median_m, error.mean_m, error.p95_m, error.hausdorff_m)
        return [f"{pixel:.0f} m", self.front.outcome, *(f"{v / pixel:.2f}" for v in figures)]


def look(name: str, scene: xr.Dataset, classes: xr.DataArray) -> Found:
    """Extract the front of classes and measure it against the truth of the scene."""
    front = extract_front(classes, GLACIER)
    return Found(
        name,
        front,
        front_error(front.lines, true_front(scene)),
        pixel_size_m(classes)[0],
        float((classes == scene["labels"]).mean()),
    )


def perfect() -> list[Found]:
    """Fronts from the true classes of every case."""
    results = []
    for name, settings in front_cases():
        scene = open_case(settings).compute()
        results.append(look(name, scene, scene["labels"].chunk(256)))
        print(name, *results[-1].cells, sep="  ", flush=True)
    return results


def classified(noise: float) -> list[Found]:
    """Fronts from the classes that csc_xr makes of every case."""
    network, results = open_demo_network(), []
    for name, settings in front_cases():
        if settings["seed"] in TRAINING_SEEDS:
            raise SystemExit(f"The demo network was trained on seed {settings['seed']}.")
        larger = tuple(TIMES_LARGER * side for side in settings["shape"])
        scene = open_case({**settings, "shape": larger, "noise": noise}).compute()
        classes = classify_scene(scene["scene"], network)["pixel_class"].compute()
        results.append(look(name, scene, classes.chunk(256)))
        cells = results[-1].cells
        print(f"{name}, noise {noise:g}", *cells, f"{results[-1].right:.3f}", sep="  ", flush=True)
    return results


def perfect_table(results: Sequence[Found]) -> str:
    """Format the fronts of perfect classes, in pixels."""
    header = ["case", "pixel", "outcome", "median", "mean", "95 %", "Hausdorff"]
    worst = [max(r.error.median_m / r.pixel_m for r in results),
             max(r.error.mean_m / r.pixel_m for r in results)]  # fmt: skip
    last = ["**highest**", "", "", *(f"**{value:.2f}**" for value in worst), "", ""]
    return markdown_table(header, [*([r.name, *r.cells] for r in results), last])


def classified_table(results: dict[float, list[Found]]) -> str:
    """Format what is left of the fronts when classes are not perfect, in metres."""
    rows = []
    for noise, found in results.items():
        for size in (10, 30):
            here = [r for r in found if round(r.pixel_m / 10) == size // 10]
            lines = [r for r in here if r.front.line is not None]
            metres = np.concatenate([r.error.distances_m for r in lines])
            both = np.concatenate([metres, *(r.error.predicted_distances_m for r in lines)])
            rows.append(
                [
                    f"{noise:g}", f"{size} m", f"{np.mean([r.right for r in here]):.3f}",
                    f"{len(lines)} of {len(here)}", f"{1 - len(lines) / len(here):.0%}",
                    f"**{np.median(metres):.1f} m**", f"**{metres.mean():.1f} m**",
                    f"{(metres < 100).mean():.1%}", f"{both.mean():.1f} m",
                ]
            )  # fmt: skip
    header = [
        "noise", "pixel", "pixels right", "fronts", "failures", "median", "mean", "under 100 m",
        "mean of both directions",
    ]  # fmt: skip
    return markdown_table(header, rows)


def cases_table(results: dict[float, list[Found]]) -> str:
    """Format the classified fronts case by case: metres, or why there is none."""
    rows = []
    for same in zip(*results.values(), strict=True):
        row = [same[0].name, f"{same[0].pixel_m:.0f} m"]
        for result in same:
            error, front = result.error, result.front
            figures = f"{error.median_m:.0f} / {error.mean_m:.0f}"
            row.append(f"{result.right:.3f}")
            row.append(figures if front.line is not None else f"{front.outcome}: {front.reason}")
        rows.append(row)
    columns = [
        f"{what}, noise {n:g}" for n in results for what in ("pixels right", "median / mean")
    ]
    return markdown_table(["case", "pixel", *columns], rows)


def series_scenes() -> Iterable[xr.Dataset]:
    """One place on 24 dates: the front falls back in steps, faster in the middle."""
    share = np.linspace(0, 1, DATES)
    for number, position in enumerate(0.6 - 0.15 * share**2 * (3 - 2 * share)):
        yield fjord(
            SERIES_SHAPE, seed=SERIES_SEED, date_seed=1000 + number,
            front_position=float(position), front_shape="concave",
        ).compute()  # fmt: skip


def series() -> str:
    """Measure the retreat from true fronts, perfect classes and classified ones; give a table."""
    network = open_demo_network()
    fronts: dict[str, list[Any]] = {"true": [], "true classes": [], "classified": []}
    for number, scene in enumerate(series_scenes()):
        line = true_front(scene)
        fronts["true"].append(
            SimpleNamespace(outcome="found", reason="", line=line.iloc[0], crs=line.crs)
        )
        fronts["true classes"].append(extract_front(scene["labels"].chunk(256), GLACIER))
        classes = classify_scene(scene["scene"], network)["pixel_class"].compute()
        fronts["classified"].append(extract_front(classes.chunk(256), GLACIER))
        print(f"date {number}", *(f[-1].outcome for f in fronts.values()), sep="  ", flush=True)
    rows = []
    for name in ("true classes", "classified"):
        found = front_series(fronts[name])
        truth = front_series(fronts["true"], box=found.box, centreline=found.centreline)
        outcomes = found.table["outcome"]
        for method in ("box", "centreline"):
            change, known = (s.table[f"{method}_change_m"] for s in (found, truth))
            error = (change - known).dropna()
            rows.append(
                [
                    name, method, f"{(outcomes == 'found').sum()} of {DATES}", len(error),
                    f"{known.iloc[-1]:.0f} m", f"{change.iloc[-1]:.0f} m",
                    f"**{np.sqrt((error**2).mean()):.1f} m**", f"{error.abs().max():.1f} m",
                ]
            )  # fmt: skip
    header = [
        "fronts from", "method", "fronts", "positions", "true change", "measured", "rms error",
        "largest error",
    ]  # fmt: skip
    return markdown_table(header, rows)


@dataclass(frozen=True)
class Cost:
    """What one extraction took."""

    outcome: str
    length_m: float
    seconds: float
    start_bytes: int
    peak_bytes: int


def extract_stored(labels: Path) -> Cost:
    """Extract in this process, which should not have done anything else before."""
    codes = open_scene(labels)[0]
    start_bytes, start = psutil.Process().memory_info().rss, time.perf_counter()
    with dask.config.set(num_workers=THREADS):
        front = extract_front(codes, GLACIER)
    seconds = time.perf_counter() - start
    length = front.measures.get("length_m", float("nan"))
    return Cost(front.outcome, length, seconds, start_bytes, peak_memory_bytes())


def in_own_process(labels: Path) -> Cost:
    """Extract in a new process."""
    command = [sys.executable, __file__, "--job", str(labels)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{labels} failed:\n{ran.stderr}")
    return Cost(**json.loads(ran.stdout.splitlines()[-1]))


def full_size(folder: Path, side: int) -> str:
    """Measure a full scene, and compare a part of that size in chunks with one chunk."""
    cost = in_own_process(write_labels(folder, side))
    part = open_scene(write_labels(folder, min(PART_SIDE, side)))[0]
    small, whole = (
        extract_front(part.chunk(chunks), GLACIER) for chunks in ({"y": 700, "x": 500}, -1)
    )
    same = (
        small.line is not None
        and small.line.equals_exact(whole.line)
        and bool((small.raster == whole.raster).all())
    )
    header = [
        "scene", "outcome", "front", "time", "memory at the start", "peak memory",
        f"equal to one chunk at {part.shape[0]} x {part.shape[1]}",
    ]  # fmt: skip
    row = [
        f"{side} x {side}", cost.outcome, f"{cost.length_m / 1e3:.1f} km",
        f"**{cost.seconds:.0f} s**", f"{cost.start_bytes / 1e9:.2f} GB",
        f"**{cost.peak_bytes / 1e9:.2f} GB**", "yes" if same else "**no**",
    ]  # fmt: skip
    return markdown_table(header, [row])


def draw(results: Iterable[Found], folder: Path, times_larger: int, noise: float) -> None:
    """Draw the true front and the one found on the image of each case."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    cases = dict(front_cases())
    for result in results:
        settings = cases[result.name]
        shape = tuple(times_larger * side for side in settings["shape"])
        scene = open_case({**settings, "shape": shape, "noise": noise}).compute()
        image = scene["scene"].sel(band=["red", "green", "blue"]).transpose("y", "x", "band")
        half = result.pixel_m / 2
        x, y = scene["x"].to_numpy(), scene["y"].to_numpy()
        fig, axes = plt.subplots(figsize=(8, 7))
        axes.imshow(
            np.clip(image.to_numpy() / 9500, 0, 1) ** 0.7,
            extent=(x[0] - half, x[-1] + half, y[-1] - half, y[0] + half),
        )
        axes.plot(scene["front_x"], scene["front_y"], color="#009E73", label="true")
        if result.front.line is not None:
            axes.plot(*result.front.line.xy, color="#D55E00", linewidth=1, label="found")
        axes.set_title(f"{result.name}\n{'  '.join(result.cells)}", fontsize=9)
        axes.legend()
        name = "".join(c if c.isalnum() else "_" for c in result.name)
        fig.savefig(folder / f"{name}_{noise:g}.png", dpi=90)
        plt.close(fig)


def measured(
    parts: Sequence[str], folder: Path, side: int, pictures: Path | None
) -> Iterable[tuple[str, str]]:
    """Name and table of every section of the page, one after the other."""
    if "perfect" in parts:
        results = perfect()
        yield "perfect", perfect_table(results)
        if pictures:
            draw(results, pictures / "perfect", 1, NOISES[0])
    if "classified" in parts:
        by_noise = {noise: classified(noise) for noise in NOISES}
        yield "classified", classified_table(by_noise)
        yield "classified_cases", cases_table(by_noise)
        for noise, results in by_noise.items() if pictures else ():
            draw(results, pictures / "classified", TIMES_LARGER, noise)
    if "series" in parts:
        yield "series", series()
    if "full_size" in parts:
        yield "full_size", full_size(folder, side)


def main() -> None:
    """Measure, print, and with ``--write`` put the tables into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/fronts.md")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--folder", type=Path, help="keeps the stored classes")
    parser.add_argument("--pictures", type=Path, help="draws every case into a folder")
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(asdict(extract_stored(arguments.job))))
        return
    warnings.simplefilter("ignore", CscWarning)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for section, table in measured(arguments.parts, folder, arguments.side, arguments.pictures):
            print(table, flush=True)
            if arguments.write:
                replace_section(DOCS / "fronts.md", section, table)


if __name__ == "__main__":
    main()
