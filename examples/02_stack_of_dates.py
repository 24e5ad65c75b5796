"""Classify one generated fjord on several dates into one store, and see the glacier retreat.

python examples/02_stack_of_dates.py [--dates 4] [--size 600 800] [--out fjord_series]

Run it again and it has nothing to do; kill it and run it again, and it goes on. A Dask cluster
takes one line: ``client = distributed.Client("tcp://...")``, handed to ``classify_stack``.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

from csc_xr import (
    ClassifySettings,
    FitSettings,
    classify_stack,
    folder_status,
    open_network,
    open_stack,
    write_scene,
)
from csc_xr.synthetic import fjord


def main() -> None:
    """Generate, stack, classify, and count the pixels of glacier ice on every date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dates", type=int, default=4)
    parser.add_argument(
        "--size", type=int, nargs=2, default=(600, 800), metavar=("ROWS", "COLUMNS")
    )
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps of a fit")
    parser.add_argument("--out", type=Path, default=Path("fjord_series"))
    arguments = parser.parse_args()

    # A front that retreats by a twentieth of the scene from month to month.
    images = []
    for month in range(arguments.dates):
        path = arguments.out / "images" / f"fjord_2021{month + 1:02}15.zarr"
        if not path.exists():
            front = 0.6 - 0.05 * month
            dated = fjord(tuple(arguments.size), seed=7, date_seed=month, front_position=front)
            write_scene(dated["scene"], path)
        images.append(path)

    stack = open_stack(images)  # lazy; the dates come from the names
    network = open_network(str(files("csc_xr") / "data" / "fjord_tiles.keras"))
    settings = ClassifySettings(patch_size=5, fit=FitSettings(steps=arguments.steps))
    done = classify_stack(stack, network, arguments.out / "classes", settings=settings)

    for scene in folder_status(done.store):
        print(f"{scene.name}: {scene.state}")
    classes = done.dataset["pixel_class"]
    ice = (classes == 4).sum(dim=("y", "x")).compute()
    for moment, count in zip(ice["time"].values, ice.values, strict=True):
        print(f"{str(moment)[:10]}  {count / classes[0].size:6.1%} glacier ice")


if __name__ == "__main__":
    main()
