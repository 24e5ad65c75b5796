"""A patch network for each scene, one that goes on from scene to scene, or one for all.

    python benchmarks/stack_networks.py [--write] [--scenes 6] [--sides 900 1200]

Generated fjords of one place on several dates, whose classes are known, classified as a stack in
each of the three ways, with the seconds of the fits and of the whole, and F1 over all scenes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import xarray as xr
from measure import DOCS, markdown_table, replace_section

from csc_xr.accuracy.confusion import confusion_matrix
from csc_xr.accuracy.scores import classification_report
from csc_xr.demo import open_demo_network
from csc_xr.legend import GLACIER
from csc_xr.runs.stack import classify_stack
from csc_xr.scene import write_scene
from csc_xr.stack import open_stack
from csc_xr.synthetic import fjord
from csc_xr.workflow import ClassifySettings

WAYS = ("each", "warm_start", "shared")


def write_scenes(folder: Path, count: int, sides: tuple[int, int]) -> tuple[list[Path], list]:
    """Write scenes of one place, and give their true classes."""
    paths, truths = [], []
    for number in range(count):
        scene = fjord(sides, seed=3, date_seed=number, front_position=0.6 - 0.02 * number)
        path = folder / f"fjord_2021{number + 4:02}15.zarr"
        write_scene(scene["scene"], path)
        paths.append(path)
        truths.append(scene["labels"])
    return paths, truths


def row(networks: str, stack: xr.DataArray, truths: list, folder: Path) -> list[object]:
    """Classify the stack in one way; give a row of the table."""
    out = folder / networks
    start = time.perf_counter()
    result = classify_stack(
        stack, open_demo_network(), out, settings=ClassifySettings(), networks=networks
    )
    wall = time.perf_counter() - start
    fits = sum(one.record.stage_seconds.get("fit", 0.0) for one in result.scenes.values())
    fit_seconds = "one fit" if networks == "shared" else f"{fits:.1f}"
    counts: dict[str, xr.DataArray] = {}
    for phase in ("tile_class", "pixel_class"):
        parts = [
            confusion_matrix(truth, result.dataset[phase][number], legend=GLACIER)
            for number, truth in enumerate(truths)
        ]
        counts[phase] = sum(parts[1:], parts[0])
    scores = {phase: classification_report(matrix) for phase, matrix in counts.items()}
    tiles, pixels = (scores[phase]["F1_score"].iloc[-1] for phase in ("tile_class", "pixel_class"))
    mean = scores["pixel_class"]["F1_score"].iloc[-2]  # the row Macro_avg
    return [
        f"`{networks}`", f"{wall:.0f}", fit_seconds, f"{tiles:.3f}", f"**{pixels:.3f}**",
        f"**{mean:.3f}**",
    ]  # fmt: skip


def main() -> None:
    """Measure, print, and with ``--write`` put the table into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--sides", type=int, nargs=2, default=[900, 1200])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, truths = write_scenes(folder, arguments.scenes, tuple(arguments.sides))
        stack = open_stack(paths)
        rows = [row(networks, stack, truths, folder) for networks in WAYS]
    header = ["networks", "whole, s", "fits, s", "tiles: weighted F1", "pixels: weighted F1",
              "pixels: mean F1"]  # fmt: skip
    table = markdown_table(header, rows)
    print(table)
    if arguments.write:
        replace_section(DOCS / "benchmarks.md", "stack_networks", table)


if __name__ == "__main__":
    main()
