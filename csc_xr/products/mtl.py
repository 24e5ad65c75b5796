"""What the MTL file of a Landsat product says: files, scaling, sensing time."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csc_xr.errors import SceneError

Groups = Mapping[str, Mapping[str, str]]

COMMON_BANDS: dict[str, dict[str, str]] = {
    "TM": {
        "blue": "B1",
        "green": "B2",
        "red": "B3",
        "nir": "B4",
        "swir16": "B5",
        "swir22": "B7",
        "pan": "B8",
    },
    "OLI": {
        "coastal": "B1",
        "blue": "B2",
        "green": "B3",
        "red": "B4",
        "nir": "B5",
        "swir16": "B6",
        "swir22": "B7",
        "pan": "B8",
        "cirrus": "B9",
    },
}
"""Bands of reflectance by common name: of Landsat 4 to 7 (TM, ETM+), and of 8 and 9 (OLI)."""

_MISSION = re.compile(r"^L[COTEM](\d\d)_")
_DATE = re.compile(r"^L[COTEM]\d\d_\w{4}_\d{6}_(\d{4})(\d\d)(\d\d)_")
_ENDS = ("_MTL.txt", "_MTL.json")
_IMAGES = ("TIF", "tif")


@dataclass(frozen=True)
class LandsatProduct:
    """A folder of Landsat bands, and what its MTL file says about them.

    Attributes
    ----------
    folder : Path
        Where the bands are.
    name : str
        What the names of its files begin with.
    groups : mapping
        Values by group and key as the MTL file has them; empty where there is no such file.
    """

    folder: Path
    name: str
    groups: Groups

    @property
    def bands(self) -> dict[str, str]:
        """Bands of reflectance of the sensor, by common name."""
        sensor = self._value("IMAGE_ATTRIBUTES", "SENSOR_ID")
        craft = self._value("IMAGE_ATTRIBUTES", "SPACECRAFT_ID") or self.name[:4]
        number = int("0" + "".join(letter for letter in craft if letter.isdigit()))
        if sensor == "MSS" or self.name.startswith("LM") or not 4 <= number <= 9:
            raise SceneError(
                "Landsat bands are known of the sensors TM, ETM+ and OLI (Landsat 4 to 9), but "
                f"{self.folder / self.name} is of {craft} {sensor}. Stack its bands and open them "
                "as an image."
            )
        return COMMON_BANDS["OLI" if number >= 8 else "TM"]

    @property
    def time(self) -> np.datetime64 | None:
        """Sensing time of the centre, without MTL file the day of the name, in UTC."""
        day = self._value("IMAGE_ATTRIBUTES", "DATE_ACQUIRED")
        if not day:
            named = _DATE.match(self.name)
            return np.datetime64("-".join(named.groups()), "ns") if named else None
        clock = self._value("IMAGE_ATTRIBUTES", "SCENE_CENTER_TIME").strip("Z") or "00:00:00"
        try:
            return np.datetime64(f"{day}T{clock}", "ns")
        except ValueError as error:
            raise SceneError(
                f"The MTL file of {self.name} must give the sensing time as DATE_ACQUIRED and "
                f"SCENE_CENTER_TIME, got {day!r} and {clock!r}. Get the file again."
            ) from error

    def file_of(self, band: str) -> Path | None:
        """Look up the file of a band, or of QA_PIXEL.

        Parameters
        ----------
        band : str
            ``B4``, or ``QA_PIXEL``.

        Returns
        -------
        Path or None
            None where the product has none.
        """
        key = "QUALITY_L1_PIXEL" if band == "QA_PIXEL" else f"BAND_{band[1:]}"
        named = self._value("PRODUCT_CONTENTS", f"FILE_NAME_{key}")
        names = [named] if named else []
        names += [f"{self.name}{part}_{band}.{end}" for part in ("", "_SR") for end in _IMAGES]
        found = [self.folder / name for name in names if (self.folder / name).is_file()]
        return found[0] if found else None

    def scaling_of(self, band: str) -> tuple[float, float]:
        """Look up how numbers of a band become reflectance.

        Parameters
        ----------
        band : str
            ``B4``.

        Returns
        -------
        gain : float
            Numbers are multiplied by it.
        offset : float
            Added then, which gives reflectance: at the surface in level 2, and in level 1 at
            the top of the atmosphere, for the height of the sun.

        Raises
        ------
        SceneError
            When the MTL file says nothing of it, or the sun is down.
        """
        level = self._value("PRODUCT_CONTENTS", "PROCESSING_LEVEL")[:2]
        group = _SCALING.get(level, "")
        keys = [(group, f"REFLECTANCE_{what}_BAND_{band[1:]}") for what in ("MULT", "ADD")]
        keys += [("IMAGE_ATTRIBUTES", "SUN_ELEVATION")] if level == "L1" else []
        try:
            gain, offset, *heights = (float(self._value(*key)) for key in keys)
        except ValueError as error:
            lacks = [key for within, key in keys if not self._value(within, key)]
            raise SceneError(
                f"Band {band} of {self.name} must have a scaling to reflectance, but the MTL file "
                f"(level {level or 'not given'}) has no {' and '.join(lacks) or error}. Bands of "
                "temperature have none; for others pass gain= and offset=."
            ) from error
        height = heights[0] if heights else 90.0
        if height <= 0:
            raise SceneError(
                f"Reflectance needs daylight, but in {self.name} the sun stands at {height:g} "
                "degrees. Use another scene."
            )
        sine = math.sin(math.radians(height))
        return gain / sine, offset / sine

    def _value(self, group: str, key: str) -> str:
        return str(self.groups.get(group, {}).get(key, ""))


_SCALING = {"L1": "LEVEL1_RADIOMETRIC_RESCALING", "L2": "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"}


def find_landsat(path: Path) -> LandsatProduct | None:
    """Look for a Landsat product.

    Parameters
    ----------
    path : Path
        The folder, or its MTL file.

    Returns
    -------
    LandsatProduct or None
        None where there is neither an MTL file nor bands named as Landsat's are.

    Raises
    ------
    SceneError
        When there are several products, or the MTL file cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    names = [name for name in names if not name.startswith("._")]  # attributes that a Mac adds
    files = [name for name in names if name.endswith(_ENDS)]
    if path.name.endswith(_ENDS):
        files = [path.name]
    products = {name.rpartition("_MTL")[0] for name in files}
    if not products:
        bands = [re.match(r"(L\w+?)(?:_SR)?_B\d+\.(?:TIF|tif)$", name) for name in names]
        products = {match.group(1) for match in bands if match and _MISSION.match(match.group(1))}
    if len(products) > 1:
        raise SceneError(
            f"A Landsat product must have a folder of its own, but {folder} holds "
            f"{', '.join(sorted(products)[:3])}. Move each into its own, or pass one MTL file."
        )
    if not products:
        return None
    # Both forms say the same; the text is older and always there.
    chosen = sorted(files, reverse=True)[:1]
    groups = read_mtl(folder / chosen[0]) if chosen else {}
    return LandsatProduct(folder, products.pop(), groups)


def read_mtl(path: Path) -> Groups:
    """Read an MTL file.

    Parameters
    ----------
    path : Path
        ``*_MTL.txt`` or ``*_MTL.json`` of Collection 2.

    Returns
    -------
    mapping
        Values as text by group and key.

    Raises
    ------
    SceneError
        When it is none, or of another collection.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        groups = _groups_of_json(text) if path.suffix == ".json" else _groups_of_text(text)
    except (ValueError, AttributeError) as error:
        raise SceneError(
            f"{path} must be the metadata of a Landsat product, but cannot be read: {error}. "
            "Get the file again."
        ) from error
    if "PRODUCT_CONTENTS" not in groups:
        raise SceneError(
            f"{path} must be the metadata of a Landsat product of Collection 2, with the group "
            f"PRODUCT_CONTENTS, got {', '.join(groups) or 'no group'}. Products of Collection 1 "
            "were replaced: get the scene again, or open its bands with gain= and offset= from a "
            "folder without the MTL file."
        )
    return groups


def _groups_of_json(text: str) -> Groups:
    inside = json.loads(text)["LANDSAT_METADATA_FILE"] if "LANDSAT_METADATA_FILE" in text else {}
    return {name: dict(values.items()) for name, values in inside.items()}


def _groups_of_text(text: str) -> Groups:
    groups: dict[str, dict[str, str]] = {}
    inside: list[str] = []
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            inside.append(value)
        elif key == "END_GROUP":
            inside = inside[:-1]
        elif value and inside:
            groups.setdefault(inside[-1], {})[key] = value.strip('"')
    return groups
