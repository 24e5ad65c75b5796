"""Memory and time of phase two's prediction against patch size, for three ways to do it.

    python benchmarks/patch_memory.py [--write] [--sides 500 1500 3000] [--patch-sizes 1 3 5 7 15]

- ``tensor``: all patches of the image in one array, then ``model.predict``.
- ``rows``: for each row of the image its patches, then ``model.predict``, as the research scripts.
- ``chunks``: ``csc_xr.classify_pixels``, written to Zarr.

Every run is a process of its own that reads the same Zarr store. TensorFlow has all cores in the
first two; in the third, Dask's threads have them. Memory is the highest resident memory of the
process as the kernel counts it (VmHWM, set back once all is loaded and a small scene classified),
with Python, TensorFlow and the network; what the process held at that point is reported beside it.
A patch tensor that would exceed the limits of memory or time is predicted: seconds, and memory
above that start, grow with the number of pixels from the largest scene measured at the same patch
size. Rows are run for a while, and their seconds are predicted from the rows done.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from measure import (
    COLOURS,
    DOCS,
    THREADS,
    glacier_network,
    markdown_table,
    replace_section,
    write_fjord,
)
from numpy.typing import NDArray

from csc_xr.export import write_result_zarr
from csc_xr.inference import classify_pixels
from csc_xr.networks.bundle import Network
from csc_xr.record import peak_memory_bytes
from csc_xr.scene import open_scene

WAYS = ("tensor", "rows", "chunks")
TITLES = {"tensor": "patch tensor", "rows": "row by row", "chunks": "csc_xr"}
SIDES = (500, 1500, 3000)
PATCH_SIZES = (1, 3, 5, 7, 15)
MEMORY_LIMIT = 8e9
"""Bytes a process may take; one that takes more is ended, and predicted."""
BATCH = 4096
"""Patches in a batch of ``model.predict``; Keras' 32 would take several times as long."""
ROWS_SHARE = 0.25
"""Rows stop after this share of the time that a whole run may take."""
SMALL = 64


@dataclass(frozen=True)
class Cost:
    """What one way costs for one scene and patch size.

    Attributes
    ----------
    way : str
        One of ``WAYS``.
    side : int
        The scene has side x side pixels.
    patch_size : int
        Side of a patch in pixels.
    seconds : float
        From the store to the classes; with writing them for ``chunks``.
    peak_bytes, start_bytes : int
        Highest resident memory of the process, and its resident memory before.
    memory_predicted, seconds_predicted : bool
        Whether the number is arithmetic, not measured.
    """

    way: str
    side: int
    patch_size: int
    seconds: float
    peak_bytes: int
    start_bytes: int
    memory_predicted: bool = False
    seconds_predicted: bool = False


def predict_tensor(values: NDArray[np.float32], model: Any, patch_size: int) -> NDArray[np.uint8]:
    """Classify the pixels whose patch lies inside the image, all patches at once.

    ``values`` has the shape (rows, columns, bands), the result that of the image less its border.
    """
    patches = np.lib.stride_tricks.sliding_window_view(
        values, (patch_size, patch_size), axis=(0, 1)
    )
    rows, columns = patches.shape[:2]
    tensor = np.ascontiguousarray(patches.transpose(0, 1, 3, 4, 2))
    tensor = tensor.reshape(-1, patch_size, patch_size, values.shape[2])
    found = model.predict(tensor, batch_size=BATCH, verbose=0)
    return found.argmax(axis=1).astype(np.uint8).reshape(rows, columns)


def predict_rows(
    values: NDArray[np.float32], model: Any, patch_size: int, seconds: float = np.inf
) -> tuple[NDArray[np.uint8], int]:
    """Classify row by row until the time is up; give the classes and the number of rows done."""
    rows, columns = (length - patch_size + 1 for length in values.shape[:2])
    classes = np.zeros((rows, columns), np.uint8)
    start = time.perf_counter()
    for row in range(rows):
        classes[row] = predict_tensor(values[row : row + patch_size], model, patch_size)[0]
        if time.perf_counter() - start > seconds:
            return classes, row + 1
    return classes, rows


def predict_chunks(store: Path, network: Network, out: Path) -> None:
    """Classify with csc_xr, from store to store."""
    write_result_zarr(classify_pixels(open_scene(store), network), out, overwrite=True)


def open_values(store: Path) -> NDArray[np.float32]:
    """Read a scene into memory as the two older ways take it: (rows, columns, bands), scaled."""
    scene = open_scene(store)
    values = scene.values.transpose(1, 2, 0).astype(np.float32)
    values /= np.float32(scene.attrs["scale"])
    return values


def run_way(way: str, store: Path, patch_size: int, seconds: float = np.inf) -> Cost:
    """Measure one way in this process, which should not have done anything else before."""
    network = glacier_network(patch_size)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "classes.zarr"
        small = write_fjord(store.parent, SMALL)
        if way == "chunks":
            predict_chunks(small, network, out)
        else:
            predict_rows(open_values(small), network.model, patch_size, 0)
        _forget_peak()
        start_bytes = psutil.Process().memory_info().rss
        start = time.perf_counter()
        done = total = 1
        if way == "tensor":
            predict_tensor(open_values(store), network.model, patch_size)
        elif way == "rows":
            limit = seconds * ROWS_SHARE
            classes, done = predict_rows(open_values(store), network.model, patch_size, limit)
            total = len(classes)
        else:
            predict_chunks(store, network, out)
        took = (time.perf_counter() - start) * total / done
    side = open_scene(store).sizes["y"]
    peak = peak_memory_bytes()
    return Cost(way, side, patch_size, took, peak, start_bytes, seconds_predicted=done < total)


def _forget_peak() -> None:
    """Set the process's peak of resident memory back to what it holds now, where Linux lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def in_own_process(way: str, store: Path, patch_size: int, seconds: float) -> Cost | None:
    """Measure one way in a new process; None when it took more memory than allowed."""
    job = json.dumps([way, str(store), patch_size, seconds])
    threads = "1" if way == "chunks" else str(THREADS)
    process = subprocess.Popen(
        [sys.executable, __file__, "--job", job],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": threads},
    )
    watched = psutil.Process(process.pid)
    while True:
        try:
            printed, _ = process.communicate(timeout=0.2)
            break
        except subprocess.TimeoutExpired:
            if watched.memory_info().rss > MEMORY_LIMIT:
                process.kill()
                process.communicate()
                return None
    if process.returncode:
        raise SystemExit(f"{job} failed with status {process.returncode}")
    return Cost(**json.loads(printed.splitlines()[-1]))


def predicted(known: Cost, side: int) -> Cost:
    """Predict the cost of a larger scene from that of a smaller one."""
    growth = (side / known.side) ** 2
    added = known.peak_bytes - known.start_bytes
    return replace(
        known,
        side=side,
        seconds=known.seconds * growth,
        peak_bytes=int(known.start_bytes + added * growth),
        memory_predicted=True,
        seconds_predicted=True,
    )


def measure_all(
    sides: Sequence[int],
    patch_sizes: Sequence[int],
    seconds: float,
    folder: Path,
    ways: Sequence[str] = WAYS,
) -> list[Cost]:
    """Measure every way, patch size and scene, small scenes first; predict what is too large.

    ``seconds`` is the most a run may be expected to take; the smallest scene is always measured.
    """
    costs: list[Cost] = []
    write_fjord(folder, SMALL)
    for side in sorted(sides):
        store = write_fjord(folder, side)
        for patch_size in patch_sizes:
            for way in ways:
                known = [c for c in costs if (c.way, c.patch_size) == (way, patch_size)]
                cost = _one(way, store, side, patch_size, seconds, known[-1] if known else None)
                costs.append(cost)
                print(_line(cost), flush=True)
    return costs


def _one(
    way: str, store: Path, side: int, patch_size: int, seconds: float, known: Cost | None
) -> Cost:
    if way == "tensor" and known is not None:
        ahead = predicted(known, side)
        if known.memory_predicted or ahead.peak_bytes > MEMORY_LIMIT or ahead.seconds > seconds:
            return ahead
    cost = in_own_process(way, store, patch_size, seconds)
    if cost is None and known is None:
        raise SystemExit(f"{way}, k = {patch_size}: even {side} x {side} pixels exceed the memory.")
    return cost or predicted(known, side)  # type: ignore[arg-type]


def _line(cost: Cost) -> str:
    note = ", predicted" if cost.memory_predicted else ""
    return (
        f"{cost.way}, {cost.side} px, k = {cost.patch_size}: {cost.seconds:.1f} s, "
        f"{cost.peak_bytes / 1e9:.2f} GB of which {cost.start_bytes / 1e9:.2f} at the start{note}"
    )


def memory_table(costs: Sequence[Cost]) -> str:
    """Format memory and time, a row for each scene and patch size."""
    by_case = {(c.side, c.patch_size, c.way): c for c in costs}
    rows: list[list[object]] = []
    for side, patch_size in dict.fromkeys((c.side, c.patch_size) for c in costs):
        case = [by_case[side, patch_size, way] for way in WAYS]
        memory = [_marked(f"{c.peak_bytes / 1e9:.2f}", c.memory_predicted) for c in case]
        times = [_marked(_rounded(c.seconds), c.seconds_predicted) for c in case]
        rows.append([f"{side} x {side}", patch_size, *memory, *times])
    header = [f"{TITLES[way]}, {unit}" for unit in ("GB", "s") for way in WAYS]
    return markdown_table(["scene", "k", *header], rows)


def _marked(text: str, is_predicted: bool) -> str:
    return f"*{text}* (predicted)" if is_predicted else text


def _rounded(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"


def draw(costs: Sequence[Cost], path: Path) -> None:
    """Draw memory and time against patch size; hollow marks are predicted."""
    import matplotlib.pyplot as plt

    sides = sorted({cost.side for cost in costs})
    figure, axes = plt.subplots(
        2, len(sides), figsize=(3.6 * len(sides) + 0.4, 6.4), sharex=True, sharey="row",
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for column, side in enumerate(sides):
        for way, colour, mark in zip(WAYS, COLOURS, "so^", strict=False):
            case = sorted(
                (c for c in costs if (c.side, c.way) == (side, way)), key=lambda c: c.patch_size
            )
            memory = [(c.patch_size, c.peak_bytes / 1e9, c.memory_predicted) for c in case]
            times = [(c.patch_size, c.seconds, c.seconds_predicted) for c in case]
            for axis, points in zip(axes[:, column], (memory, times), strict=True):
                x, y, guessed = zip(*points, strict=True)
                axis.plot(x, y, f"{mark}-", color=colour, label=TITLES[way], lw=2, ms=8)
                hollow = [
                    value if guess else np.nan for value, guess in zip(y, guessed, strict=True)
                ]
                axis.plot(x, hollow, mark, color=colour, markerfacecolor="white", ms=8)
        axes[0, column].set_title(f"{side} x {side} pixels")
        axes[1, column].set_xlabel("patch size k, pixels")
    for axis in axes.flat:
        axis.set_yscale("log")
        axis.set_xticks(sorted({cost.patch_size for cost in costs}))
        axis.grid(True, which="major", color="0.85")
    axes[0, 0].set_ylabel("peak memory, GB")
    axes[1, 0].set_ylabel("time, s")
    axes[0, 0].legend(title="hollow: predicted", loc="upper left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def report(
    *,
    write: bool,
    sides: Sequence[int] = SIDES,
    patch_sizes: Sequence[int] = PATCH_SIZES,
    seconds: float = 45.0,
) -> None:
    """Measure, print, and where asked put table and figure into the docs."""
    with tempfile.TemporaryDirectory() as folder:
        costs = measure_all(sides, patch_sizes, seconds, Path(folder))
    table = memory_table(costs)
    print(table)
    if write:
        starts = sorted(cost.start_bytes / 1e9 for cost in costs)
        note = f"\nMemory at the start: {starts[0]:.2f} to {starts[-1]:.2f} GB.\n"
        replace_section(DOCS / "benchmarks.md", "patch_memory", table + note)
        draw(costs, DOCS / "images" / "patch_memory.png")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--patch-sizes", type=int, nargs="+", default=PATCH_SIZES)
    parser.add_argument("--seconds", type=float, default=45.0, help="most a run should take")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        way, store, patch_size, seconds = json.loads(arguments.job)
        print(json.dumps(asdict(run_way(way, Path(store), patch_size, seconds))))
        return
    report(
        write=arguments.write,
        sides=arguments.sides,
        patch_sizes=arguments.patch_sizes,
        seconds=arguments.seconds,
    )


if __name__ == "__main__":
    main()
