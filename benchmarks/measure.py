"""What the benchmarks share: the machine's own rate, paths, scenes, networks, tables."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import csc_xr.networks  # noqa: F401  (sets TensorFlow's threads before it starts)
from csc_xr.legend import GLACIER
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard
from csc_xr.scene import write_scene

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SHARED = Path(os.environ.get("CSC_XR_SHARED", ROOT.parent / "shared"))
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BANDS = ("red", "green", "blue", "nir")
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
"""Of lines in figures: Okabe and Ito's, told apart by colour-blind readers."""


def matmul_rate(seconds: float = 1.0) -> float:
    """Measure float32 matrix multiplication, one thread a core, in operations a second.

    Every core multiplies 2048 x 2048 matrices in TensorFlow for about the given time, as it does
    when Dask's threads call a network: the most this machine can give a network.
    """
    import tensorflow as tf

    side = 2048
    matrix = tf.random.normal((side, side))

    @tf.function  # type: ignore[untyped-decorator]
    def multiply(a: Any) -> Any:
        return tf.matmul(a, a)

    multiply(matrix)
    counts = [0] * THREADS
    start = time.perf_counter()

    def work(index: int) -> None:
        while time.perf_counter() - start < seconds:
            multiply(matrix).numpy()
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 2 * side**3 * sum(counts) / (time.perf_counter() - start)


def best_ratio(
    run: Callable[[], Any],
    operations: float,
    repeats: int = 5,
    warm_up: Callable[[], Any] | None = None,
) -> tuple[float, float, float]:
    """Time a run beside the machine's rate, several times, in turn.

    ``warm_up`` is called once before; left out, it is a run.

    Returns
    -------
    tuple of float
        Median seconds, median share of the rate, highest share.
    """
    (warm_up or run)()
    seconds, shares = [], []
    for _ in range(repeats):
        before = matmul_rate(0.5)
        start = time.perf_counter()
        run()
        took = time.perf_counter() - start
        rate = (before + matmul_rate(0.5)) / 2
        seconds.append(took)
        shares.append(operations / took / rate)
    middle = len(seconds) // 2
    return sorted(seconds)[middle], sorted(shares)[middle], max(shares)


def glacier_network(patch_size: int) -> Network:
    """Build a patch network of four bands and the glacier legend, as phase two fits it."""
    from csc_xr.networks.builders import build_patch_network

    card = NetworkCard(
        kind="patch", bands=BANDS, scale=8192.0, size=patch_size, legend=GLACIER,
        codes=tuple(range(8)),
    )  # fmt: skip
    model = build_patch_network(
        patch_size=patch_size, n_bands=4, n_outputs=8, activation="relu", seed=0
    )
    return Network(card, model)


def write_fjord(folder: Path, side: int) -> Path:
    """Write a generated scene of side x side pixels, four bands of 16 bits, as a Zarr store."""
    from csc_xr.synthetic import fjord

    store = folder / f"fjord_{side}.zarr"
    if not store.exists():
        write_scene(fjord((side, side), seed=1)["scene"], store)
    return store


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format rows as a Markdown table."""
    lines = [list(header), ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def replace_section(path: Path, name: str, text: str) -> None:
    """Put text between the markers ``<!-- name -->`` and ``<!-- /name -->`` of a page."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    page = path.read_text(encoding="utf-8")
    before, rest = page.split(start, 1)
    after = rest.split(end, 1)[1]
    path.write_text(f"{before}{start}{text}{end}{after}", encoding="utf-8")
