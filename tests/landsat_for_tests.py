"""Generated Landsat products of Collection 2, laid out as they are delivered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from affine import Affine
from rasters_for_tests import write_raster

CORNER = (399900.0, 7500015.0)
CRS = "EPSG:32622"
SURFACE = {"MULT": 2.75e-05, "ADD": -0.2}
TOP = {"MULT": 2.0e-05, "ADD": -0.1}
FIRST_NUMBERS = {"L1": 5000, "L2": 7273}
"""Least numbers of a reflectance of 0 and above."""


def some_numbers(
    bands: tuple[str, ...] = ("B2", "B3", "B4", "B5"), side: int = 60, seed: int = 3
) -> dict[str, np.ndarray]:
    """Numbers of bands, all of them of reflectance above 0 in both levels."""
    rng = np.random.default_rng(seed)
    return {band: rng.integers(7400, 30000, (side, side)).astype("uint16") for band in bands}


def write_landsat(
    folder: Path,
    numbers: Mapping[str, np.ndarray],
    *,
    level: str = "L2SP",
    craft: int = 8,
    sensor: str = "OLI_TIRS",
    form: str = "txt",
    qa: np.ndarray | None = None,
    elevation: float = 30.0,
    day: str = "2021-07-15",
    clock: str = "14:37:52.1234560Z",
    corner: tuple[float, float] = CORNER,
    pixel: float = 30.0,
) -> Path:
    """Write bands, QA_PIXEL (21824, clear, by default) and the MTL file; give the folder.

    ``form`` is txt, json, or none for a folder without MTL file.
    """
    letter = {"OLI_TIRS": "C", "ETM": "E", "TM": "T", "MSS": "M"}[sensor]
    name = f"L{letter}{craft:02}_{level}_009011_{day.replace('-', '')}_20210721_02_T1"
    product = folder / name
    product.mkdir(parents=True)
    transform = Affine(pixel, 0, corner[0], 0, -pixel, corner[1])
    part = "_SR" if level.startswith("L2") else ""
    contents = {"PROCESSING_LEVEL": level, "LANDSAT_PRODUCT_ID": name}
    for band, pixels in numbers.items():
        contents[f"FILE_NAME_BAND_{band[1:]}"] = f"{name}{part}_{band}.TIF"
        write_raster(
            product / f"{name}{part}_{band}.TIF", pixels[None], crs=CRS, transform=transform,
            nodata=0,
        )  # fmt: skip
    shape = next(iter(numbers.values())).shape
    clear = np.full(shape, 21824, "uint16") if qa is None else qa
    contents["FILE_NAME_QUALITY_L1_PIXEL"] = f"{name}_QA_PIXEL.TIF"
    write_raster(product / f"{name}_QA_PIXEL.TIF", clear[None], crs=CRS, transform=transform)
    groups = {
        "PRODUCT_CONTENTS": contents,
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": f"LANDSAT_{craft}",
            "SENSOR_ID": sensor,
            "DATE_ACQUIRED": day,
            "SCENE_CENTER_TIME": clock,
            "SUN_ELEVATION": f"{elevation:.8f}",
        },
        # Products of level 2 have both groups, with the same keys.
        **({"LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": scaling(SURFACE)} if part else {}),
        "LEVEL1_RADIOMETRIC_RESCALING": scaling(TOP),
    }
    if form != "none":
        write = mtl_text if form == "txt" else mtl_json
        (product / f"{name}_MTL.{form}").write_text(write(groups))
    return product


def scaling(values: Mapping[str, float]) -> dict[str, str]:
    """The same gain and offset for all bands of reflectance."""
    return {
        f"REFLECTANCE_{what}_BAND_{number}": f"{values[what]:.4E}"
        for what in ("MULT", "ADD")
        for number in range(1, 10)
    }


def mtl_text(groups: Mapping[str, Mapping[str, str]]) -> str:
    """Metadata as ``MTL.txt`` has it."""
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for group, values in groups.items():
        lines.append(f"  GROUP = {group}")
        lines += [f"    {key} = {quoted(value)}" for key, value in values.items()]
        lines.append(f"  END_GROUP = {group}")
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])


def mtl_json(groups: Mapping[str, Mapping[str, str]]) -> str:
    """Metadata as ``MTL.json`` has it: all values are text."""
    return json.dumps({"LANDSAT_METADATA_FILE": groups}, indent=2)


def quoted(value: str) -> str:
    """Numbers and dates stand bare, text in quotes."""
    bare = value[:1].isdigit() or value[:1] == "-"
    return value if bare and ":" not in value else f'"{value}"'
