"""``csc-xr report`` on a generated scene of a whole Sentinel-2 tile, as a page in full size.

    python benchmarks/report_page.py [--write] [--folder FOLDER]

The scene is classified by the demo's network at patch size 3 with confidence, then the page is
written, whole and with its finest pictures left out. Each row is a run of the command from start to
end; resident memory is that of the process and all its children, sampled ten times a second.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from large_scene import watch
from measure import DOCS, markdown_table, replace_section, write_fjord

from csc_xr.demo import NETWORK

SIDES = (10980, 4000, 1500)
"""Longest side of the finest pictures; the first is that of the scene."""

COMMAND = str(Path(sys.executable).with_name("csc-xr"))


def classified(folder: Path, side: int) -> Path:
    """Classify the scene, unless it is; give its record."""
    out = folder / f"classified_{side}"
    subprocess.run(
        [
            COMMAND, "classify", write_fjord(folder, side), "--model", NETWORK,
            "--patch-size", "3", "--output", "confidence", "--out", out,
        ],
        check=True,
    )  # fmt: skip
    return out / f"fjord_{side}_run.json"


def measure_page(record: Path, max_side: int, page: Path) -> list[str]:
    """Write a page in a process of its own; give its row."""
    start = time.perf_counter()
    process = psutil.Popen(
        [COMMAND, "report", record, "--max-side", str(max_side), "--out", page],
        stdout=subprocess.DEVNULL,
    )
    peak = watch(process)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"csc-xr report ended with {process.returncode}")
    size = page.stat().st_size
    return [
        str(max_side),
        f"**{seconds:.0f} s**",
        f"**{peak / 1e9:.2f} GB**",
        f"{size / 1e6:.0f} MB",
    ]


def main() -> None:
    """Measure, print, and with ``--write`` put the table into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    parser.add_argument("--folder", type=Path, help="keeps the scene and its classes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        record = classified(folder, SIDES[0])
        rows = [measure_page(record, side, folder / f"{side}.html") for side in SIDES]
    header = ["longest side of the finest pictures, px", "whole command", "peak memory", "page"]
    table = markdown_table(header, rows)
    print(table)
    if arguments.write:
        replace_section(DOCS / "benchmarks.md", "report_page", table)


if __name__ == "__main__":
    main()
