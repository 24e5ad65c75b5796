"""Cutting the tiles of a whole Sentinel-2 scene into a store: speed and memory.

    python benchmarks/tile_store.py [--write] [--folder FOLDER] [--side 10980] [--stride 25]

A generated scene of four bands of 16 bits and its labels, in Zarr stores; tiles of 50 pixels with
the default purity. Cutting and writing run in a process of their own, whose highest resident
memory is what the kernel counted (VmHWM): Python, TensorFlow and all libraries are in it. Then the
test of purity alone, one thread, on the labels in memory, in blocks as the cutting sees them;
beside it one plain pass over the same blocks (``sum``, and comparing every pixel with one code),
and a Python loop that counts the codes of window after window on a part.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
from measure import DOCS, THREADS, markdown_table, replace_section, write_fjord
from numpy.typing import NDArray

from csc_xr.blockwise import CHUNK
from csc_xr.legend import GLACIER
from csc_xr.record import peak_memory_bytes
from csc_xr.scene import open_scene, write_scene
from csc_xr.synthetic import fjord
from csc_xr.tiles.cutting import extract_tiles
from csc_xr.tiles.purity import WindowRule, majority_codes
from csc_xr.tiles.store import write_tiles

SIDE = 10980
TILE = 50
STRIDE = 25
PURITY, MAX_UNLABELLED = 0.95, 0.10
REPEATS = 5
LOOP_SIDE = 1000
"""Side of the part of the labels that the Python loop looks at."""


@dataclass(frozen=True)
class Cutting:
    """What cutting and writing took: numbers of windows and tiles, seconds, bytes."""

    windows: int
    tiles: int
    find_seconds: float
    write_seconds: float
    pixel_bytes: int
    stored_bytes: int
    start_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Purity:
    """Seconds for all windows of the labels, and of plain passes over the same pixels."""

    windows: int
    pixels: int
    seconds: float
    sum_seconds: float
    compare_seconds: float
    loop_windows: int
    loop_seconds: float


def rule(stride: int) -> WindowRule:
    """Give the windows that are looked at."""
    return WindowRule(TILE, stride, PURITY, MAX_UNLABELLED)


def write_labels(folder: Path, side: int) -> Path:
    """Write the labels of the scene of :func:`measure.write_fjord` as a Zarr store of one band."""
    store = folder / f"labels_{side}.zarr"
    if not store.exists():
        write_scene(fjord((side, side), seed=1)["labels"].expand_dims(band=["class"]), store)
    return store


def cut(scene: Path, labels: Path, out: Path, stride: int) -> Cutting:
    """Cut and write tiles in this process, which should not have done anything else before."""
    image, codes = open_scene(scene), open_scene(labels)
    start_bytes = psutil.Process().memory_info().rss
    start = time.perf_counter()
    with dask.config.set(num_workers=THREADS):
        tiles = extract_tiles(
            [image], [codes[0]], legend=GLACIER, tile_size=TILE, stride=stride, purity=PURITY,
            max_unlabelled=MAX_UNLABELLED,
        )  # fmt: skip
        found = time.perf_counter()
        write_tiles(tiles, out)
    return Cutting(
        windows=int(np.prod([len(rule(stride).starts(length)) for length in image.shape[1:]])),
        tiles=tiles.sizes["tile"],
        find_seconds=found - start,
        write_seconds=time.perf_counter() - found,
        pixel_bytes=tiles["pixels"].nbytes,
        stored_bytes=sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
        start_bytes=start_bytes,
        peak_bytes=peak_memory_bytes(),
    )


def in_own_process(scene: Path, labels: Path, stride: int) -> Cutting:
    """Cut in a new process, into a folder that does not stay."""
    with tempfile.TemporaryDirectory(dir=scene.parent) as folder:
        job = json.dumps([str(scene), str(labels), f"{folder}/tiles.zarr", stride])
        command = [sys.executable, __file__, "--job", job]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{job} failed:\n{ran.stderr}")
    return Cutting(**json.loads(ran.stdout.splitlines()[-1]))


def blocks_of(codes: NDArray[np.uint8], stride: int) -> Iterator[tuple[NDArray[np.uint8], Any]]:
    """Give blocks as the cutting sees them, and the first rows and columns of their windows."""
    starts = [rule(stride).starts(length) for length in codes.shape]
    for top in range(0, codes.shape[0], CHUNK):
        for left in range(0, codes.shape[1], CHUNK):
            rows, columns = (
                first[(first >= begin) & (first < begin + CHUNK)] - begin
                for first, begin in zip(starts, (top, left), strict=True)
            )
            reach = CHUNK + TILE - 1
            yield codes[top : top + reach, left : left + reach], (rows, columns)


def time_purity(codes: NDArray[np.uint8], stride: int) -> Purity:
    """Measure the test of purity alone on labels in memory, best of several times."""
    blocks = list(blocks_of(codes, stride))
    counted = [starts for _, starts in blocks]
    part = codes[:LOOP_SIDE, :LOOP_SIDE]
    loop_windows, loop_seconds = _loop(part, stride)
    return Purity(
        windows=sum(len(rows) * len(columns) for rows, columns in counted),
        pixels=codes.size,
        seconds=_best(lambda: [majority_codes(*block, rule(stride)) for block in blocks]),
        sum_seconds=_best(lambda: [block.sum() for block, _ in blocks]),
        compare_seconds=_best(lambda: [block == 3 for block, _ in blocks]),
        loop_windows=loop_windows,
        loop_seconds=loop_seconds,
    )


def _best(run: Callable[[], object]) -> float:
    took = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return min(took)


def _loop(codes: NDArray[np.uint8], stride: int) -> tuple[int, float]:
    windows = rule(stride)
    rows, columns = (windows.starts(length) for length in codes.shape)
    found = np.zeros((len(rows), len(columns)), np.uint8)
    start = time.perf_counter()
    for i, row in enumerate(rows.tolist()):
        for j, column in enumerate(columns.tolist()):
            counts = np.bincount(codes[row : row + TILE, column : column + TILE].ravel())
            empty, counts[0] = counts[0], 0
            if counts.max() >= PURITY * TILE**2 and empty <= MAX_UNLABELLED * TILE**2:
                found[i, j] = counts.argmax()
    took = time.perf_counter() - start
    if not np.array_equal(found, majority_codes(codes, (rows, columns), windows)):
        raise SystemExit("The loop and the test of purity find different windows.")
    return found.size, took


def cutting_table(side: int, cutting: Cutting) -> str:
    """Format what cutting and writing took."""
    header = [
        "scene", "windows", "tiles", "find them, s", "windows a second", "write, s",
        "MB of pixels a second", "stored", "memory at the start", "peak memory",
    ]  # fmt: skip
    row = [
        f"{side} x {side}", f"{cutting.windows:,}", f"{cutting.tiles:,}",
        f"{cutting.find_seconds:.1f}", f"**{cutting.windows / cutting.find_seconds:,.0f}**",
        f"{cutting.write_seconds:.1f}",
        f"**{cutting.pixel_bytes / cutting.write_seconds / 1e6:.0f}**",
        f"{cutting.stored_bytes / 1e9:.2f} of {cutting.pixel_bytes / 1e9:.2f} GB",
        f"{cutting.start_bytes / 1e9:.2f} GB", f"**{cutting.peak_bytes / 1e9:.2f} GB**",
    ]  # fmt: skip
    return markdown_table(header, [row])


def purity_table(purity: Purity) -> str:
    """Format the test of purity beside plain passes and a loop."""
    passes = [
        ("test of purity", purity.windows, purity.seconds),
        ("a loop over windows, on a part", purity.loop_windows, purity.loop_seconds),
    ]
    rows = [
        [name, f"{windows:,}", f"{seconds:.3f}", f"{windows / seconds:,.0f}"]
        for name, windows, seconds in passes
    ]
    plain = [("sum of the codes", purity.sum_seconds), ("codes == 3", purity.compare_seconds)]
    rows += [
        [f"{name} ({purity.pixels / seconds / 1e9:.1f} GB/s)", "", f"{seconds:.3f}", ""]
        for name, seconds in plain
    ]
    return markdown_table(["one thread", "windows", "s", "windows a second"], rows)


def main() -> None:
    """Measure, print, and with ``--write`` put the tables into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/training.md")
    parser.add_argument("--folder", type=Path, help="keeps the scene and its labels")
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--stride", type=int, default=STRIDE)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        scene, labels, out, stride = json.loads(arguments.job)
        print(json.dumps(asdict(cut(Path(scene), Path(labels), Path(out), stride))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        scene, labels = write_fjord(folder, arguments.side), write_labels(folder, arguments.side)
        cutting = cutting_table(arguments.side, in_own_process(scene, labels, arguments.stride))
        print(cutting, flush=True)
        codes = open_scene(labels)[0].values
        purity = purity_table(time_purity(codes, arguments.stride))
        print(purity)
    if arguments.write:
        replace_section(DOCS / "training.md", "tile_store", f"{cutting}\n{purity}")


if __name__ == "__main__":
    main()
