"""Open a store of a thousand scenes and build the graph of one, in a process of its own.

    python benchmarks/thousand_scenes.py [--write]

The store holds 1000 scenes of 3000 x 3000 pixels and four bands of 16 bits, 72 GB if its chunks
were there. Measured are the seconds from opening it to the graphs of both predictions over one
scene, imports left out, and the highest resident memory of the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import DOCS, markdown_table, replace_section

SCENES, SIDE = 1000, 3000
MEASURED = """
import json, sys, time
from measure import glacier_network
from csc_xr.demo import open_demo_network
from csc_xr.inference import classify_pixels, mode_filter, predict_tiles
from csc_xr.record import peak_memory_bytes
from csc_xr.stack import open_stack, stack_scene
networks = open_demo_network(), glacier_network(15)
start = time.perf_counter()
stack = open_stack(sys.argv[1])
opened = time.perf_counter()
scene = stack_scene(stack, 500)
tiles = predict_tiles(scene, networks[0])
pixels = classify_pixels(scene, networks[1])
classes = mode_filter(pixels["pixel_class"], radius=4)
built = time.perf_counter()
tasks = len(tiles["tile_class"].__dask_graph__()) + len(classes.__dask_graph__())
print(json.dumps({
    "scenes": stack.shape[0], "open": opened - start, "build": built - opened,
    "tasks": tasks, "peak": peak_memory_bytes(),
}))
"""


def write_store(path: Path) -> None:
    """Write the store: its metadata, and no pixels."""
    import dask.array as da
    import numpy as np
    import xarray as xr

    shape = (SCENES, 4, SIDE, SIDE)
    stack = xr.Dataset(
        {"stack": (("scene", "band", "y", "x"), da.zeros(shape, dtype="uint16", chunks=-1))},
        coords={
            "scene": np.array([f"scene_{number:04}" for number in range(SCENES)], object),
            "band": np.array(["red", "green", "blue", "nir"], object),
            "y": 7_000_000 - 10.0 * np.arange(SIDE),
            "x": 500_000 + 10.0 * np.arange(SIDE),
        },
    )
    encoding = {"stack": {"chunks": (1, 4, 1024, 1024)}}
    stack.to_zarr(path, zarr_format=3, consolidated=False, compute=False, encoding=encoding)


def main() -> None:
    """Measure, print, and with ``--write`` put the table into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "stack.zarr"
        write_store(store)
        said = subprocess.run(
            [sys.executable, "-c", MEASURED, str(store)],
            check=True, capture_output=True, text=True, cwd=Path(__file__).parent,
        )  # fmt: skip
    found = json.loads(said.stdout.splitlines()[-1])
    table = markdown_table(
        ["scenes in the store", "open, s", "graph of one scene, s", "tasks", "peak memory"],
        [
            [
                found["scenes"], f"{found['open']:.2f}", f"{found['build']:.2f}",
                found["tasks"], f"{found['peak'] / 1e9:.2f} GB",
            ]
        ],
    )  # fmt: skip
    print(table)
    if arguments.write:
        replace_section(DOCS / "benchmarks.md", "thousand_scenes", table)


if __name__ == "__main__":
    main()
