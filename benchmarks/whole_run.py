"""The whole of ``csc-xr classify`` on one real image, each run a process of its own.

    python benchmarks/whole_run.py [--write] [--patch-sizes 3 7 15]

Reports wall seconds, the seconds of each stage, and the highest resident memory of the process
as the system counts it. Needs the development imagery (``CSC_XR_SHARED``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import DOCS, SHARED, markdown_table, replace_section

STAGES = ("tiles", "samples", "fit", "pixels", "export", "scores", "figure")


def run(patch_size: int) -> list[object]:
    """Classify the image in a process of its own; give a row of the table."""
    image = SHARED / "data" / "st_marguerite" / "validate" / "StMarg_31198.jpg"
    model = SHARED / "models" / "st_marguerite_vgg16_50_rgb.h5"
    with tempfile.TemporaryDirectory() as out:
        command = [
            str(Path(sys.executable).with_name("csc-xr")), "classify", str(image),
            "--model", str(model), "--patch-size", str(patch_size), "--out", out,
        ]  # fmt: skip
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        if status:
            raise SystemExit(f"{' '.join(command)} failed with status {status}")
        record = json.loads((Path(out) / "StMarg_31198_run.json").read_text())
    stages = [f"{record['stage_seconds'].get(stage, 0):.1f}" for stage in STAGES]
    rest = wall - sum(record["stage_seconds"].values())
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return [patch_size, f"**{wall:.0f}**", *stages, f"{rest:.1f}", f"**{peak / 1e9:.2f} GB**"]


def main() -> None:
    """Measure, print, and with ``--write`` put the table into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    parser.add_argument("--patch-sizes", type=int, nargs="+", default=[3, 7, 15])
    arguments = parser.parse_args()
    rows = [run(patch_size) for patch_size in arguments.patch_sizes]
    table = markdown_table(["k", "whole run, s", *STAGES, "start-up", "peak memory"], rows)
    print(table)
    if arguments.write:
        replace_section(DOCS / "benchmarks.md", "whole_run", table)


if __name__ == "__main__":
    main()
