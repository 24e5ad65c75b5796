"""Pixels a second of phase two's prediction against scene size, from Zarr to Zarr.

    python benchmarks/throughput.py [--write] [--sides 1000 2000 4000 10980] [--patch-sizes 7]

A generated scene of four bands of 16 bits is read from Zarr, classified by
``csc_xr.classify_pixels`` with a ReLU network, and its classes are written to Zarr. The yardstick
is that of ``speed.py``: the multiply-adds of the network's layers, times two, over the time taken,
over the rate of float32 matrix multiplication measured just before and after. Smaller scenes
are the first corner of the largest.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from measure import (
    DOCS,
    THREADS,
    best_ratio,
    glacier_network,
    markdown_table,
    replace_section,
    write_fjord,
)

from csc_xr.export import write_result_zarr
from csc_xr.inference import classify_pixels
from csc_xr.networks.bundle import Network
from csc_xr.scene import open_scene

SIDES = (1000, 2000, 4000, 10980)
PATCH_SIZES = (7,)
REPEATED_PIXELS = 20e6
"""Scenes of more pixels are timed once."""


@dataclass(frozen=True)
class Speed:
    """How fast one scene was classified.

    Attributes
    ----------
    side : int
        The scene has side x side pixels.
    patch_size : int
        Side of a patch in pixels.
    seconds : float
        Median over the repeats.
    share, best : float
        Median and highest share of the rate of matrix multiplication.
    """

    side: int
    patch_size: int
    seconds: float
    share: float
    best: float


def classification(scene: xr.DataArray, network: Network, out: Path) -> Callable[[], None]:
    """Give a function that classifies a scene and writes the classes."""

    def run() -> None:
        write_result_zarr(classify_pixels(scene, network), out, overwrite=True)

    return run


def corner(store: Path, side: int) -> xr.DataArray:
    """Open the first rows and columns of a stored scene."""
    return open_scene(store).isel(y=slice(side), x=slice(side))


def measure_speed(store: Path, side: int, patch_size: int, *, repeats: int = 3) -> Speed:
    """Measure the corner of a store; a small corner is classified before, to compile."""
    network = glacier_network(patch_size)
    operations = 2.0 * network.convolutional_form().layer_multiplications * side**2
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "classes.zarr"
        run = classification(corner(store, side), network, out)
        warm_up = classification(corner(store, min(side, 256)), network, out)
        repeats = repeats if side**2 <= REPEATED_PIXELS else 1
        return Speed(side, patch_size, *best_ratio(run, operations, repeats, warm_up))


def speed_table(speeds: Sequence[Speed]) -> str:
    """Format the speeds."""
    rows: list[list[object]] = []
    for speed in speeds:
        pixels = speed.side**2
        rows.append(
            [
                f"{speed.side} x {speed.side}",
                speed.patch_size,
                f"{speed.seconds:.1f}",
                f"{pixels / speed.seconds / 1e6:.2f}",
                f"{speed.seconds / pixels * 1e6:.3f}",
                f"{speed.share:.0%}",
                f"{speed.best:.0%}",
            ]
        )
    header = ["scene", "k", "s", "Mpx/s", "µs a pixel", "share of the rate (median)", "best"]
    return markdown_table(header, rows)


def report(
    *,
    write: bool,
    sides: Sequence[int] = SIDES,
    patch_sizes: Sequence[int] = PATCH_SIZES,
    repeats: int = 3,
) -> None:
    """Measure, print, and where asked put the table into the docs."""
    speeds = []
    with tempfile.TemporaryDirectory() as folder:
        store = write_fjord(Path(folder), max(sides))
        for patch_size in patch_sizes:
            for side in sides:
                speeds.append(measure_speed(store, side, patch_size, repeats=repeats))
                print(speeds[-1], flush=True)
    table = speed_table(speeds)
    print(f"{THREADS} threads\n\n{table}")
    if write:
        replace_section(DOCS / "benchmarks.md", "throughput", table)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--patch-sizes", type=int, nargs="+", default=PATCH_SIZES)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    report(
        write=arguments.write,
        sides=arguments.sides,
        patch_sizes=arguments.patch_sizes,
        repeats=arguments.repeats,
    )


if __name__ == "__main__":
    main()
