"""A whole Sentinel-2 product made into a scene: time and memory.

    python benchmarks/products.py [--write] [--folder FOLDER] [--side 10980]

A generated L2A product of baseline 05.11 with the four bands of 10 m as lossless JP2, as a folder
and as a zip. ``csc-xr compose`` runs in a process of its own each time, whose highest resident
memory is what the kernel counted (VmHWM). Beside it the least that any reading of the product
takes: decoding its bands once with rasterio, block by block, on as many threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import rasterio
from measure import DOCS, ROOT, THREADS, markdown_table, replace_section
from rasterio.windows import Window

from csc_xr.cli import app
from csc_xr.record import peak_memory_bytes
from csc_xr.synthetic import fjord

SIDE = 10980
BANDS = {"B04": "red", "B03": "green", "B02": "blue", "B08": "nir"}
BLOCK = 1024


def write_products(folder: Path, side: int) -> tuple[Path, Path]:
    """Write the product as a folder and as a zip, unless they are there."""
    sys.path.insert(0, str(ROOT / "tests"))
    from products_for_tests import write_safe

    found = [sorted(folder.glob(pattern)) for pattern in ("plain/*.SAFE", "zipped/*.zip")]
    if all(found):
        return found[0][0], found[1][0]
    scene = fjord((side, side), seed=1)["scene"]
    surface = {name: scene.sel(band=band).values / 1e4 for name, band in BANDS.items()}
    plain, zipped = (
        write_safe(folder / kind, surface, zipped=kind == "zipped") for kind in ("plain", "zipped")
    )
    return plain, zipped


def compose(arguments: list[str]) -> dict[str, float]:
    """Run ``csc-xr compose`` in this process, which should not have done anything else before."""
    start = time.perf_counter()
    app(["compose", *arguments], standalone_mode=False)
    return {"seconds": time.perf_counter() - start, "peak_bytes": peak_memory_bytes()}


def in_own_process(*arguments: str) -> dict[str, float]:
    """Compose in a new process."""
    command = [sys.executable, __file__, "--job", json.dumps(arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{arguments} failed:\n{ran.stderr}")
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def decode(product: Path, side: int) -> float:
    """Seconds to decode the bands once, block by block."""
    places = [
        (path, Window(left, top, min(BLOCK, side - left), min(BLOCK, side - top)))
        for path in sorted(product.rglob("*_10m.jp2"))
        for top in range(0, side, BLOCK)
        for left in range(0, side, BLOCK)
    ]

    def read(place: tuple[Path, Window]) -> None:
        with rasterio.open(place[0]) as dataset:
            dataset.read(1, window=place[1])

    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read, places))
    return time.perf_counter() - start


def measure(folder: Path, side: int) -> str:
    """Compose the product in several ways; gives a table."""
    plain, zipped = write_products(folder, side)
    cases = {
        "folder to Zarr": (str(plain), "scene.zarr"),
        "folder to GeoTIFF (COG)": (str(plain), "scene.tif"),
        "zip to Zarr": (str(zipped), "scene.zarr"),
        "folder to Zarr in EPSG:3413": (str(plain), "scene.zarr", "--crs", "EPSG:3413"),
    }
    seconds = decode(plain, side)
    rows = [["decoding the bands, nothing else", f"{seconds:.0f}", "1.0", ""]]
    for name, (product, out, *more) in cases.items():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            took = in_own_process(product, "--out", f"{scratch}/{out}", *more)
        ratio, peak = took["seconds"] / seconds, took["peak_bytes"] / 1e9
        rows.append([name, f"{took['seconds']:.0f}", f"{ratio:.1f}", f"**{peak:.2f} GB**"])
        print(rows[-1], flush=True)
    header = [f"{side} x {side}, four bands", "s", "times decoding", "peak memory"]
    return markdown_table(header, rows)


def main() -> None:
    """Measure, print, and with ``--write`` put the table into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    parser.add_argument("--folder", type=Path, help="keeps the product")
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(compose(json.loads(arguments.job))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        table = measure(folder, arguments.side)
        print(table)
    if arguments.write:
        replace_section(DOCS / "benchmarks.md", "products", table)


if __name__ == "__main__":
    main()
