"""What identifies the inputs of a run: their descriptions, and pixels where there is no file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from csc_xr.grid import scene_transform
from csc_xr.record import fingerprint


def known_inputs(content: Mapping[str, Any]) -> dict[str, Any]:
    """Give the descriptions of the inputs of earlier work by role.

    Parameters
    ----------
    content : mapping
        A run record or a claim, as plain values.

    Returns
    -------
    dict
        Descriptions as plain values.
    """
    if isinstance(content["inputs"], dict):
        return content["inputs"]
    by_checksum = {entry["sha256"]: entry for entry in content["inputs"]}
    roles = (content.get("identity") or {}).get("inputs", {})
    return {role: by_checksum[sha] for role, sha in roles.items() if sha in by_checksum}


def pixel_checksum(scene: xr.DataArray) -> str:
    """Identify the pixels of a scene and which of them are valid, whatever the chunks.

    Computes: reads the scene once, in windows of 512 x 512 pixels.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x).

    Returns
    -------
    str
        SHA-256 over bands, place, and the checksums of all windows.
    """
    windows = {"y": 512, "x": 512, "band": -1}
    layers = [scene.chunk(windows).data]
    if "valid" in scene.coords:
        valid = scene.coords["valid"].chunk({"y": 512, "x": 512}).data
        layers.append(valid[None])
    digest = dask.delayed(_digest, pure=True)
    tasks = [digest(block) for layer in layers for block in layer.to_delayed().ravel()]
    facts = {
        "shape": scene.shape,
        "dtype": scene.dtype.str,
        "bands": [str(band) for band in scene.coords["band"].values],
        "transform": tuple(scene_transform(scene))[:6],
        "crs": None if scene.rio.crs is None else scene.rio.crs.to_wkt(),
        "nodata": scene.attrs.get("_FillValue"),
        "scale": scene.attrs.get("scale"),
    }
    return fingerprint(facts, list(dask.compute(*tasks)))


def _digest(block: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(block).data).hexdigest()
