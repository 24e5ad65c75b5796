"""Sentinel-2 products, as they are delivered, as scenes."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from csc_xr.dates import date_in_name
from csc_xr.errors import CscWarning, SceneError
from csc_xr.products.layers import BandFile, MaskFile, assemble
from csc_xr.products.safe import BANDS, Image, Metadata, Product, find_product
from csc_xr.products.target import Box, TargetGrid, grid_of, native_grid, settle_grid
from csc_xr.products.warp import TOP
from csc_xr.raster import Chunks, open_raster

SCL_CLASSES = {
    "no_data": 0,
    "saturated_or_defective": 1,
    "dark_area": 2,
    "cloud_shadow": 3,
    "vegetation": 4,
    "not_vegetated": 5,
    "water": 6,
    "unclassified": 7,
    "cloud_medium_probability": 8,
    "cloud_high_probability": 9,
    "thin_cirrus": 10,
    "snow": 11,
}
"""Classes of the scene classification of L2A products."""

CLOUD_AND_SHADOW = (
    "cloud_shadow",
    "cloud_medium_probability",
    "cloud_high_probability",
    "thin_cirrus",
)
"""What is masked by default."""


def open_sentinel2(
    path: str | Path | Sequence[str | Path],
    bands: Sequence[str] = ("B04", "B03", "B02", "B08"),
    *,
    resolution: float | None = None,
    crs: Any = None,
    box: Box | None = None,
    box_crs: Any = None,
    like: xr.DataArray | None = None,
    resampling: str = "bilinear",
    mask: Sequence[str | int] | None = None,
    offset: float | None = None,
    scale: float | None = None,
    chunks: Chunks | None = None,
) -> xr.DataArray:
    """Open a Sentinel-2 product, level 1C or 2A, as a scene of reflectance x 10000.

    Pixels stay on disk until they are computed; what is read here is metadata and headers, and
    the places of the tiles of a JP2, to find files that were cut short. Offset and quantification
    come from the product's own metadata, so that products of any processing baseline give the same
    numbers for the same reflectance.

    Parameters
    ----------
    path : str, Path or sequence of them
        A ``.SAFE`` folder, its zip, a folder of loose bands (JP2 or GeoTIFF, with names that end
        in the band's, as ``_B04.jp2`` or ``_B04_10m.jp2``), or a list of such files. Metadata of
        loose bands are looked for in the folders above them; without any, 0 is no data, or what
        a GeoTIFF says itself.
    bands : sequence of str
        As ``B04``, or by common name: ``coastal``, ``blue``, ``green``, ``red``, ``rededge1``,
        ``rededge2``, ``rededge3``, ``nir``, ``nir08``, ``nir09``, ``cirrus``, ``swir16``,
        ``swir22``.
    resolution : float, optional
        Sides of a pixel in units of the scene's CRS. Needed where the bands have several and
        neither `crs` nor `like` is given.
    crs : optional
        Coordinate reference system of the scene, such as ``"EPSG:3413"``; the product's own by
        default.
    box : tuple of float, optional
        Lowest x and y, highest x and y. In the product's own CRS and resolution the scene is the
        pixels the box touches, as they are.
    box_crs : optional
        CRS of the box, that of the scene by default.
    like : xarray.DataArray, optional
        Scene whose grid is taken, in place of the four above.
    resampling : str
        ``nearest``, ``bilinear``, ``cubic``, ``average`` or ``lanczos``, for bands whose pixels are
        not those of the scene; the scene classification always takes the nearest.
    mask : sequence of str or int, optional
        Classes of the L2A scene classification to mask, by name (:data:`SCL_CLASSES`) or number.
        By default cloud shadow, clouds of medium and high probability and thin cirrus (3, 8, 9,
        10), where the product has the classification; ``()`` masks nothing. Over snow and ice it
        often takes one for the other.
    offset : float, optional
        Added to the numbers of the files, in place of what the metadata say: 0, or -1000 from
        baseline 04.00 on.
    scale : float, optional
        What networks divide pixels by, 8192 by default.
    chunks : int, tuple of int or mapping, optional
        Rows and columns of a chunk, -1 for all; near 1024 by default.

    Returns
    -------
    xarray.DataArray
        Dims (band, y, x), uint16, Dask-backed: 0 where there is no data, 1 where the number would
        be less, 65535 where saturated. Coordinates ``band`` with common names, ``x``, ``y``,
        ``spatial_ref``, ``time`` (of sensing) where known, and ``valid`` (y, x), bool, where
        something is masked.

    Raises
    ------
    SceneError
        When there is no product or several, a band is missing or its file incomplete, the metadata
        lack what is needed, or a setting cannot be used.

    Warns
    -----
    CscWarning
        When loose bands have no metadata and `offset` is not given, so that it is taken for 0.
    """
    names = _band_names(bands)
    classes = masked_classes(mask)
    product = find_product(path)
    choices = {name: _images_of(product, name) for name in names}
    known = {image.path: native_grid(image.path) for name in names for image in choices[name]}
    side = _target_side(like, crs, resolution, next(iter(known.values())))
    images = {name: _serving(choices[name], known, side) for name in names}
    grid = settle_grid(
        [(name, known[images[name].path]) for name in names],
        crs=crs, resolution=resolution, box=box, box_crs=box_crs, like=like,
    )  # fmt: skip
    metadata = product.metadata
    if metadata is None and offset is None:
        warnings.warn(
            f"{product.source} has no metadata, so the offset of its numbers is taken for 0. From "
            "processing baseline 04.00 on (January 2022) it is -1000: pass offset=-1000, or "
            "offset=0 if it is known to be 0.",
            CscWarning,
            stacklevel=2,
        )
        offset = 0.0
    scene = assemble(
        [_band_file(name, images[name], metadata, offset) for name in names],
        grid=grid,
        mask=_mask_file(product, classes, required=mask is not None, grid=grid),
        time=metadata.time if metadata else _time_in_name(images[names[0]]),
        source=product.source,
        resampling=resampling,
        chunks=chunks,
        scale=scale,
    )
    return scene.rename(Path(product.source).stem)


def _band_names(bands: Sequence[str]) -> list[str]:
    """Product names of bands given by either name."""
    given = [bands] if isinstance(bands, str) else list(bands)
    by_name = {common: name for name, common in BANDS.items()}
    names = []
    for band in given:
        text = str(band)
        padded = re.sub(r"^B(\d)$", r"B0\1", text.upper())
        name = padded if padded in BANDS else by_name.get(text.lower())
        if name is None:
            raise SceneError(
                f"Bands of Sentinel-2 are {', '.join(BANDS)} or {', '.join(by_name)}, got {text}. "
                "Correct bands=."
            )
        names.append(name)
    if not names or len(set(names)) < len(names):
        raise SceneError(
            f"bands must name at least one band, and each once, got {', '.join(given) or 'none'}. "
            "Correct bands=."
        )
    return names


def masked_classes(mask: Sequence[str | int] | str | int | None) -> tuple[int, ...]:
    """Give the numbers of the classes that are masked.

    Parameters
    ----------
    mask : sequence of str or int, optional
        Keys or values of :data:`SCL_CLASSES`; :data:`CLOUD_AND_SHADOW` by default.

    Returns
    -------
    tuple of int
        Ascending, each once.

    Raises
    ------
    SceneError
        When one is not known.
    """
    chosen = CLOUD_AND_SHADOW if mask is None else mask
    given: list[str | int] = [chosen] if isinstance(chosen, str | int) else list(chosen)
    known: dict[str | int, int] = {number: number for number in SCL_CLASSES.values()}
    known.update(SCL_CLASSES)
    unknown = [entry for entry in given if entry not in known]
    if unknown:
        raise SceneError(
            "mask must hold classes of the scene classification, "
            f"{', '.join(f'{name} ({number})' for name, number in SCL_CLASSES.items())}, got "
            f"{', '.join(map(str, unknown))}. Correct mask=."
        )
    return tuple(sorted({known[entry] for entry in given}))


def _images_of(product: Product, band: str) -> list[Image]:
    images = [image for image in product.images if image.band == band]
    if not images:
        there = sorted({image.band for image in product.images} - {"SCL"})
        level = product.metadata.level if product.metadata else None
        reason = " L2A products never have B10." if (band, level) == ("B10", "L2A") else ""
        raise SceneError(
            f"{product.source} must hold band {band} ({BANDS[band]}), but has only "
            f"{', '.join(there) or 'none'}.{reason} Get the product again, whole, or choose other "
            "bands."
        )
    return images


def _target_side(
    like: xr.DataArray | None, crs: Any, resolution: float | None, native: TargetGrid
) -> float | None:
    """Pixel size of the scene in the units of the product; None where it is not known."""
    if like is not None:
        grid = grid_of(like)
        return grid.pixel if grid.crs == native.crs else None
    return resolution if crs is None else None


def _serving(images: list[Image], grids: dict[str, TargetGrid], side: float | None) -> Image:
    """Choose the file with the largest pixels that are not larger than those of the scene."""
    by_size = sorted(images, key=lambda image: grids[image.path].pixel)
    if side is None:
        return by_size[0]
    fine = [image for image in by_size if grids[image.path].pixel <= side * (1 + 1e-9)]
    return fine[-1] if fine else by_size[0]


def _band_file(
    name: str, image: Image, metadata: Metadata | None, offset: float | None
) -> BandFile:
    if metadata is None:
        with open_raster(image.path) as dataset:
            stated = dataset.nodatavals[0]
        nodata = int(stated) if stated is not None and 0 < stated <= TOP else 0
        return BandFile(BANDS[name], image.path, offset=_checked_offset(offset), nodata=nodata)
    gain = 10000.0 / metadata.quantification
    shift = metadata.offset_of(name) if offset is None else _checked_offset(offset)
    return BandFile(
        BANDS[name],
        image.path,
        gain=gain,
        offset=gain * shift,
        nodata=metadata.nodata,
        saturated=metadata.saturated,
    )


def _checked_offset(offset: Any) -> float:
    if isinstance(offset, bool) or not isinstance(offset, int | float) or not math.isfinite(offset):
        raise SceneError(f"offset must be a number, such as 0 or -1000, got {offset!r}. Pass one.")
    return float(offset)


def _mask_file(
    product: Product, classes: tuple[int, ...], *, required: bool, grid: TargetGrid
) -> MaskFile | None:
    if not classes:
        return None
    images = [image for image in product.images if image.band == "SCL"]
    level = product.metadata.level if product.metadata else None
    if images:
        grids = {image.path: native_grid(image.path) for image in images}
        same = next(iter(grids.values())).crs == grid.crs
        return MaskFile(_serving(images, grids, grid.pixel if same else None).path, values=classes)
    if required or level == "L2A":
        raise SceneError(
            f"{product.source} must hold the scene classification (SCL) for a mask of clouds, but "
            f"does not{': only L2A products have one' if level == 'L1C' else ''}. Pass mask=() to "
            "mask nothing."
        )
    return None


def _time_in_name(image: Image) -> np.datetime64 | None:
    date = date_in_name(Path(image.path).stem)
    return None if date is None else np.datetime64(date, "ns")
