"""A small stack of striped scenes, classified, and what came of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr
from networks_for_tests import brightness_network, striped_scene

from csc_xr import record
from csc_xr.export import open_result
from csc_xr.files import read_json
from csc_xr.runs.stack import StackResult, classify_stack
from csc_xr.training.phase_two.fitting import FitSettings
from csc_xr.workflow import ClassifySettings

NETWORK = brightness_network()
SHAPE = (64, 96)
N_SCENES = 4
QUICK = ClassifySettings(
    patch_size=3, mode_radius=1, fit=FitSettings(steps=20, samples_per_class=100)
)
UNFILTERED = replace(QUICK, mode_radius=0)  # a chunk needs no neighbours but their pixels
WORDS = ("--patch-size", "3", "--mode-radius", "1", "--steps", "20", "--samples-per-class", "100")


def stripes(count: int, shape: tuple[int, int] = SHAPE) -> xr.DataArray:
    """Make a stack of striped scenes, each with its own noise, in chunks of 32 x 48 pixels."""
    scenes = [striped_scene(shape, chunks=(32, 48), seed=seed) for seed in range(count)]
    stack = xr.concat(scenes, dim="scene", combine_attrs="override")
    return stack.assign_coords(scene=[f"stripes_{seed}" for seed in range(count)])


def classify(out: Path, count: int = N_SCENES, **options: Any) -> StackResult:
    return classify_stack(stripes(count), NETWORK, out, **{"settings": QUICK, **options})


def same(out: Path, reference: Path) -> bool:
    """Compare all that was classified, and from which networks, to the bit."""
    one, other = (open_result(folder / "classified.zarr").load() for folder in (out, reference))
    names = one.coords["scene"].values
    records = [
        [read_json(folder / "scenes" / f"{name}_run.json")["networks"] for name in names]
        for folder in (out, reference)
    ]
    return bool(one.identical(other)) and records[0] == records[1]


def finished(out: Path) -> dict[str, int]:
    """Give the scenes whose record is written, and when that was."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "scenes").glob("*_run.json")}


def versions_with(name: str, version: str) -> dict[str, str]:
    return {**record.software_versions(), name: version}
