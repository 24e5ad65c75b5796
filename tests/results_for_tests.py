"""Run records as a classification leaves them, made without one."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from csc_xr.accuracy.confusion import confusion_matrix, confusion_to_dict
from csc_xr.files import write_json
from csc_xr.fronts.deviation import Deviation
from csc_xr.legend import RIVER

SETTINGS = {
    "patch_size": 7,
    "tile_size": None,
    "seed": 0,
    "min_probability": 0.0,
    "mode_radius": 4,
    "outputs": [],
    "fit": {"steps": None, "learning_rate": 0.001},
    "front": None,
    "scene": {"bands": None, "chunks": 512},
    "classifier": None,
    "experiment": "exp",
}
NETWORK = {
    "name": "tiles_50",
    "bands": ["red", "green", "blue"],
    "size": 50,
    "architecture": "compact",
    "learned_scenes": ["far"],
    "first_learned_scenes": [],
    "joint": False,
}

Classes = Sequence[np.ndarray]


def some_classes(seed: int, n: int = 400) -> list[np.ndarray]:
    """Labels with gaps, tile classes and better pixel classes, (1, n), river codes."""
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, 2, 3], size=(1, n), p=[0.1, 0.5, 0.3, 0.1])
    noise = generator.choice([0, 1, 2, 3, 4], size=(2, 1, n), p=[0.05, 0.35, 0.3, 0.2, 0.1])
    wrong = generator.random((2, 1, n)) < np.array([0.3, 0.1])[:, None, None]
    tiles, pixels = np.where(wrong, noise, np.maximum(labels, 1))
    return [array.astype(np.uint8) for array in (labels, tiles, pixels)]


def confusion_of(labels: np.ndarray, predicted: np.ndarray) -> xr.DataArray:
    arrays = (xr.DataArray(array, dims=("y", "x")) for array in (labels, predicted))
    return confusion_matrix(*arrays, legend=RIVER)


def write_record(
    folder: Path,
    scene: str = "scene",
    *,
    classes: Classes | None = None,
    settings: Mapping[str, Any] | None = None,
    network: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    errors: Mapping[str, Sequence[float]] | None = None,
    image: str | None = None,
    labels: str = "",
    finished: str = "2026-01-01T00:00:00.000+00:00",
) -> dict[str, Any]:
    """Write a record with the outputs beside it that tables are made of; give its content."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {**NETWORK, **(network or {})}
    fingerprint = hashlib.sha256(repr(sorted(known.items())).encode()).hexdigest()
    parameters = {
        **copy.deepcopy(SETTINGS), **(settings or {}),
        "name": scene, "network": known, "tags": dict(tags or {}),
    }  # fmt: skip
    findings: dict[str, Any] = {}
    outputs = {"result": f"/elsewhere/{scene}_classified.zarr"}
    (folder / f"{scene}_classified.zarr").mkdir(exist_ok=True)
    if classes is not None:
        truth, *found = classes
        matrices = [confusion_to_dict(confusion_of(truth, predicted)) for predicted in found]
        findings["confusion"] = {
            "legend": RIVER.to_dict(), "tile_class": matrices[0], "pixel_class": matrices[1]
        }  # fmt: skip
    for role, metres in (errors or {}).items():
        distances = np.asarray(metres, dtype=np.float64)
        findings[f"{role}_error"] = Deviation(distances, distances).to_dict()
        if role == "front":
            outcome = "found" if len(distances) else "no ocean"
            findings["front"] = {"outcome": outcome, "reason": f"There is {outcome}."}
        name = f"{role.upper()}_{scene}_exp_distances.csv"
        outputs[f"{role} distances"] = f"/elsewhere/{name}"
        pd.DataFrame({"distance_m": distances}).to_csv(folder / name, index=False)
    content = {
        "parameters": parameters,
        "seed": 0,
        "inputs": [],
        "networks": {"tiles": fingerprint},
        "software": {"csc_xr": "0.2.0", "dask": "1"},
        "platform": {},
        "started": "",
        "finished": finished,
        "identity": {
            "experiment": "exp",
            "software": {"csc_xr": "0.2.0"},
            "inputs": {"image": image or f"sha of {scene}", "labels": labels or f"l of {scene}"},
        },
        "warnings": [],
        "outputs": outputs,
        "findings": findings,
    }
    write_json(content, folder / f"{scene}_run.json")
    return content
