"""Follow the calving front of a generated glacier through a year of retreat.

python examples/04_fronts_through_time.py [--dates 6] [--size 600 800] [--out fjord_fronts]

Each date is classified, its front found and measured by the box method and along a centreline,
and compared with the front that was generated. ``series/fronts.gpkg`` opens in QGIS with the
dates in colours; ``series/change.png`` and ``series/fronts.png`` show the same.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from pyproj import CRS
from shapely import LineString

from csc_xr import (
    GLACIER,
    ClassifySettings,
    FitSettings,
    FrontSettings,
    classify_stack,
    front_series,
    open_class_rasters,
    open_network,
    open_stack,
    write_scene,
    write_series,
)
from csc_xr.synthetic import fjord


@dataclass
class TrueFront:
    """A front that is known exactly, in the form a series takes."""

    line: LineString
    crs: CRS
    outcome: str = "found"
    reason: str = ""


def main() -> None:
    """Generate, classify, find the fronts, and compare them with the true ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dates", type=int, default=6)
    parser.add_argument(
        "--size", type=int, nargs=2, default=(600, 800), metavar=("ROWS", "COLUMNS")
    )
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps of a fit")
    parser.add_argument("--out", type=Path, default=Path("fjord_fronts"))
    arguments = parser.parse_args()

    # A front that retreats by a hundredth of the scene from month to month.
    images, true_fronts = [], []
    for month in range(arguments.dates):
        dated = fjord(
            tuple(arguments.size), seed=7, date_seed=month, front_position=0.6 - 0.01 * month
        )
        images.append(arguments.out / "images" / f"fjord_2021{month + 1:02}15.zarr")
        if not images[-1].exists():
            write_scene(dated["scene"], images[-1])
        line = LineString(np.column_stack([dated["front_x"], dated["front_y"]]))
        true_fronts.append(TrueFront(line, CRS(dated.rio.crs)))

    network = open_network(str(files("csc_xr") / "data" / "fjord_tiles.keras"))
    settings = ClassifySettings(patch_size=5, fit=FitSettings(steps=arguments.steps))
    done = classify_stack(open_stack(images), network, arguments.out / "classes", settings=settings)

    how = FrontSettings(min_ocean_m2=5e5)  # the scene is small
    rasters = open_class_rasters([done.store], legend=GLACIER, settings=how)
    series, _ = write_series(
        rasters, arguments.out / "series", legend=GLACIER, settings=how, overwrite=True
    )
    truth = front_series(true_fronts, box=series.box, centreline=series.centreline)

    print("            outcome   box (m)  true    centreline (m)  true")
    for found, true in zip(series.table.itertuples(), truth.table.itertuples(), strict=True):
        print(
            f"{found.time:%Y-%m-%d}  {found.outcome:8}"
            f"{found.box_change_m:9.0f}{true.box_change_m:6.0f}"
            f"{found.centreline_change_m:18.0f}{true.centreline_change_m:6.0f}"
        )


if __name__ == "__main__":
    main()
