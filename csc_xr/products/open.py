"""Products of any kind: which kind one is, and the products in a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from csc_xr.dates import date_in_name
from csc_xr.errors import SceneError
from csc_xr.grid import same_grid
from csc_xr.products.landsat import open_landsat
from csc_xr.products.mtl import find_landsat
from csc_xr.products.safe import BAND_FILE
from csc_xr.products.sentinel2 import open_sentinel2
from csc_xr.products.stac import open_stac
from csc_xr.products.target import Box, choose_grid, grid_of
from csc_xr.raster import Chunks
from csc_xr.scene import IMAGE_SUFFIXES, open_scene
from csc_xr.stores import is_store

Kind = Literal["sentinel-2", "landsat", "stac", "image"]

DEFAULT_BANDS = ("red", "green", "blue", "nir")

_MTL = re.compile(r"_MTL\.(txt|json)$")


def open_product(
    path: str | Path,
    bands: Sequence[str] | None = None,
    *,
    resolution: float | None = None,
    crs: Any = None,
    box: Box | None = None,
    box_crs: Any = None,
    like: xr.DataArray | None = None,
    resampling: str = "bilinear",
    mask: tuple[()] | None = None,
    offset: float | None = None,
    scale: float | None = None,
    chunks: Chunks | None = None,
) -> xr.DataArray:
    """Open a product of any kind as a scene, telling the kind by what is there.

    Parameters
    ----------
    path : str or Path
        A Sentinel-2 product (``.SAFE``, its zip, a folder of loose bands), a folder of Landsat
        bands or its MTL file, a STAC item (``.json``), or an image or Zarr store.
    bands : sequence of str, optional
        By common name or product name; red, green, blue and nir by default, of an image all.
    resolution, crs, box, box_crs, like, resampling : optional
        As for :func:`csc_xr.open_sentinel2`. An image is only cropped.
    mask : tuple, optional
        ``()`` masks no clouds; by default what the kind of product masks.
    offset : float, optional
        Of the numbers of Sentinel-2, in place of what the metadata say: 0 or -1000.
    scale, chunks : optional
        As for :func:`csc_xr.open_sentinel2`.

    Returns
    -------
    xarray.DataArray
        The scene: of products reflectance x 10000 in uint16; of an image its own numbers, with
        ``time`` where its name holds a date.

    Raises
    ------
    SceneError
        When it is no product or cannot be opened, or an option does not fit its kind.
    """
    source = Path(path)
    kind = kind_of(source)
    chosen = DEFAULT_BANDS if bands is None else tuple(bands)
    if kind == "image":
        if (crs, resolution, offset) != (None, None, None):
            raise SceneError(
                f"{source} is an image, not a product: it can be cropped, but has no offset and "
                "stays on its own grid. Leave crs, resolution and offset out, or warp it first."
            )
        return _cropped_image(source, bands, box, box_crs, like, scale, chunks)
    if kind == "landsat":
        if offset is not None:
            raise SceneError(
                f"{source} is a Landsat product, whose offset goes with a gain, got offset="
                f"{offset:g} alone. Leave it out, or use open_landsat(gain=, offset=)."
            )
        return open_landsat(
            source, chosen, resolution=resolution, crs=crs, box=box, box_crs=box_crs, like=like,
            resampling=resampling, mask=mask, scale=scale, chunks=chunks,
        )  # fmt: skip
    opener = open_stac if kind == "stac" else open_sentinel2
    scene = opener(
        source, chosen, resolution=resolution, crs=crs, box=box, box_crs=box_crs, like=like,
        resampling=resampling, mask=mask, offset=offset, scale=scale, chunks=chunks,
    )  # fmt: skip
    if scene.ndim > 3:
        raise SceneError(
            f"{source} must be one STAC item, but holds {len(scene)}. Save each in a file of its "
            "own, or use open_stac."
        )
    return scene


def kind_of(path: Path) -> Kind:
    """Tell what kind of product something is.

    Parameters
    ----------
    path : Path
        A file or folder.

    Returns
    -------
    {"sentinel-2", "landsat", "stac", "image"}
        By names only; nothing is opened but the MTL file of Landsat.

    Raises
    ------
    SceneError
        When it is none.
    """
    kind = _kind(path) if path.exists() else None
    if kind is None:
        raise SceneError(
            f"{path} must be a Sentinel-2 product (.SAFE, zip, folder of bands), a folder of "
            "Landsat bands, a STAC item (.json) or an image, but "
            f"{'holds no such thing' if path.exists() else 'there is no such file or folder'}. "
            "Check the path; archives other than zip must be unpacked."
        )
    return kind


def list_products(given: Sequence[str | Path]) -> list[Path]:
    """Spread folders of products into the products.

    Parameters
    ----------
    given : sequence of str or Path
        Products, and folders of them.

    Returns
    -------
    list of Path
        Each once, in the order given; those of a folder by name. Images in a folder are taken
        only where there is no product.

    Raises
    ------
    SceneError
        When something given is absent, or a folder has no products.
    """
    paths: list[Path] = []
    for path in map(Path, given):
        if not path.is_dir() or _kind(path) is not None:
            kind_of(path)
            paths.append(path)
            continue
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        kinds = {entry: _kind(entry) for entry in entries if not _is_record(entry)}
        found = [entry for entry, kind in kinds.items() if kind not in (None, "image")]
        found = found or [entry for entry, kind in kinds.items() if kind == "image"]
        if not found:
            raise SceneError(
                f"The folder {path} must hold satellite products, got no products. Check the "
                "path; only folders directly inside it are looked at."
            )
        paths.extend(found)
    return list(dict.fromkeys(paths))


def _is_record(path: Path) -> bool:
    """Whether a file is JSON of something else than a STAC item of a product."""
    if path.suffix.lower() != ".json" or _MTL.search(path.name):
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # to be told of when it is opened
    if not (isinstance(content, dict) and {"stac_version", "assets"} <= set(content)):
        return True
    return any(key.startswith("csc_xr:") for key in content.get("properties") or {})  # a result


def _kind(path: Path) -> Kind | None:
    if path.is_dir():
        return _kind_of_folder(path)
    if _MTL.search(path.name):
        return "landsat"
    kinds: dict[str, Kind] = {".json": "stac", ".zip": "sentinel-2"}
    kinds.update(dict.fromkeys(IMAGE_SUFFIXES, "image"))
    return kinds.get(path.suffix.lower())


def _kind_of_folder(path: Path) -> Kind | None:
    if is_store(path):
        return "image"
    if path.suffix == ".SAFE":
        return "sentinel-2"
    if find_landsat(path) is not None:  # bands of which are named like loose ones of Sentinel-2
        return "landsat"
    entries = list(path.iterdir())
    if any(entry.suffix == ".json" and not _is_record(entry) for entry in entries):
        return None  # of STAC items, whose bands lie beside them
    marks = (
        entry.name.startswith("MTD_MSI") or BAND_FILE.fullmatch(entry.name) for entry in entries
    )
    return "sentinel-2" if any(marks) else None


def _cropped_image(
    source: Path,
    bands: Sequence[str] | None,
    box: Box | None,
    box_crs: Any,
    like: xr.DataArray | None,
    scale: float | None,
    chunks: Chunks | None,
) -> xr.DataArray:
    """Open an image, or the part of it on the pixels a box touches or another scene has."""
    scene = open_scene(source, bands=bands, scale=scale, chunks=chunks)
    named = date_in_name(source.stem)
    if named is not None and "time" not in scene.coords:
        scene = scene.assign_coords(time=np.datetime64(named, "ns"))
    if box is None and like is None:
        return scene
    native = grid_of(scene)
    grid = choose_grid(native, box=box, box_crs=box_crs) if like is None else grid_of(like)
    x, y = ~native.transform @ (grid.transform.c, grid.transform.f)
    rows, columns = (
        slice(max(first, 0), first + length)
        for first, length in ((round(y), grid.height), (round(x), grid.width))
    )
    part = scene.isel(y=rows, x=columns)
    if like is not None and (0 in part.shape or not same_grid(part, like)):
        raise SceneError(
            f"{source} is an image, not a product: it is not resampled, and its pixels are not "
            f"those of {like.attrs.get('source', like.name)}. Warp it onto that grid first."
        )
    return part
