"""Landsat products of Collection 2, level 1 and 2, as scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from csc_xr.errors import SceneError
from csc_xr.products.layers import BandFile, MaskFile, assemble
from csc_xr.products.mtl import LandsatProduct, find_landsat
from csc_xr.products.target import Box, native_grid, settle_grid
from csc_xr.products.warp import TOP
from csc_xr.raster import Chunks, open_raster

QA_BITS = {
    "fill": 0,
    "dilated_cloud": 1,
    "cirrus": 2,
    "cloud": 3,
    "cloud_shadow": 4,
    "snow": 5,
    "water": 7,
}
"""Bits of QA_PIXEL by what they mark."""

CLOUDS = ("dilated_cloud", "cirrus", "cloud", "cloud_shadow")
"""What is masked by default."""


def open_landsat(
    path: str | Path,
    bands: Sequence[str] = ("red", "green", "blue", "nir"),
    *,
    resolution: float | None = None,
    crs: Any = None,
    box: Box | None = None,
    box_crs: Any = None,
    like: xr.DataArray | None = None,
    resampling: str = "bilinear",
    mask: Sequence[str] | None = None,
    gain: float | None = None,
    offset: float | None = None,
    scale: float | None = None,
    chunks: Chunks | None = None,
) -> xr.DataArray:
    """Open a Landsat product of Collection 2 as a scene of reflectance x 10000.

    Pixels stay on disk until they are computed; what is read here is the MTL file and headers.

    Parameters
    ----------
    path : str or Path
        A folder of band files, or its ``*_MTL.txt`` or ``*_MTL.json``. Level 1 gives reflectance
        at the top of the atmosphere, for the height of the sun at the centre of the scene;
        level 2 at the surface.
    bands : sequence of str
        By common name (``red``, ``nir``, ``swir16``, ``pan`` ...) or as ``B4``.
    resolution, crs, box, box_crs, like, resampling : optional
        As for :func:`csc_xr.open_sentinel2`.
    mask : sequence of str, optional
        What of QA_PIXEL is masked, besides fill: ``dilated_cloud``, ``cirrus``, ``cloud``,
        ``cloud_shadow`` (these four by default), ``snow``, ``water``. Clouds over ice are often
        mistaken for it, and the other way round; ``()`` masks nothing and needs no QA_PIXEL.
    gain, offset : float, optional
        Reflectance is gain times the number plus offset, for all bands: in place of what the MTL
        file says, as 2.75e-05 and -0.2.
    scale : float, optional
        What networks divide pixels by, 8192 by default.
    chunks : int, tuple of int or mapping, optional
        Rows and columns of a chunk, -1 for all; near 1024 by default.

    Returns
    -------
    xarray.DataArray
        As :func:`csc_xr.open_sentinel2` gives it: dims (band, y, x), uint16, 0 where there is no
        data; ``band`` with common names, ``time``, ``valid`` where something is masked.

    Raises
    ------
    SceneError
        When there is no product or several, a band or QA_PIXEL is missing, a band has no scaling
        to reflectance, or the grid cannot be made.
    """
    product = find_landsat(Path(path))
    if product is None:
        raise SceneError(
            f"{path} must be a folder of Landsat bands or an MTL file, but holds neither "
            "*_MTL.txt, *_MTL.json nor bands such as LC08_..._B4.TIF. Unpack the archive, and "
            "pass the folder."
        )
    files = _band_files(product, bands, gain=gain, offset=offset)
    grid = settle_grid(
        [(file.name, native_grid(file.path)) for file in files],
        crs=crs, resolution=resolution, box=box, box_crs=box_crs, like=like,
    )  # fmt: skip
    scene = assemble(
        files,
        grid=grid,
        mask=_mask_file(product, CLOUDS if mask is None else mask),
        time=product.time,
        source=str(path),
        resampling=resampling,
        chunks=chunks,
        scale=scale,
    )
    return scene.rename(product.name)


def qa_bits(mask: Sequence[object]) -> int:
    """Give the bits of QA_PIXEL that are masked.

    Parameters
    ----------
    mask : sequence of str
        Keys of :data:`QA_BITS`; fill always goes with them.

    Returns
    -------
    int
        All bits in one number.

    Raises
    ------
    SceneError
        When one is not known.
    """
    given = [mask] if isinstance(mask, str) else list(mask)
    unknown = [str(name) for name in given if name not in QA_BITS]
    if unknown:
        raise SceneError(
            f"Landsat masks are chosen among {', '.join(QA_BITS)}, got {', '.join(unknown)}. "
            "Correct mask=."
        )
    return sum({1 << bit for name, bit in QA_BITS.items() if name in {"fill", *given}})


def _band_files(
    product: LandsatProduct, bands: Sequence[str], *, gain: float | None, offset: float | None
) -> list[BandFile]:
    if (gain is None) != (offset is None):
        raise SceneError(
            f"gain= and offset= go together, got {gain} and {offset}. Pass both or neither."
        )
    if not product.groups and gain is None:
        raise SceneError(
            f"{product.folder} must say how numbers become reflectance, but holds no MTL file. Put "
            f"{product.name}_MTL.txt beside the bands, or pass gain= and offset=."
        )
    names = _common_names(product, bands)
    found = {name: product.file_of(band) for name, band in product.bands.items()}
    paths = {name: path for name, path in found.items() if path is not None}
    missing = [name for name in names if name not in paths]
    if missing:
        there = ", ".join(f"{name} ({product.bands[name]})" for name in paths)
        raise SceneError(
            f"{product.folder} must hold band(s) {', '.join(missing)}, but has only "
            f"{there or 'none'}. Get the others, or choose among these with bands=."
        )
    files = []
    for name in names:
        if gain is None or offset is None:
            files.append(_band_file(name, paths[name], *product.scaling_of(product.bands[name])))
        else:
            files.append(_band_file(name, paths[name], gain, offset))
    return files


def _common_names(product: LandsatProduct, bands: Sequence[str]) -> list[str]:
    known = product.bands
    given = [bands] if isinstance(bands, str) else list(bands)
    names = {name.lower(): name for name in known} | {known[name].lower(): name for name in known}
    given = [str(band) for band in given]
    unknown = [band for band in given if band.lower() not in names]
    chosen = [names[band.lower()] for band in given if band not in unknown]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        raise SceneError(
            f"bands of {product.name} must be among "
            f"{', '.join(f'{name} ({band})' for name, band in known.items())}, each once, got "
            f"{', '.join(unknown or given) or 'none'}. Bands of temperature have no reflectance."
        )
    return chosen


def _band_file(name: str, path: Path, gain: float, offset: float) -> BandFile:
    with open_raster(path) as dataset:
        wide = dataset.dtypes[0] == "uint16"
    return BandFile(
        name=name,
        path=str(path.absolute()),
        gain=float(f"{gain * 10000:.12g}"),  # without what binary fractions add
        offset=float(f"{offset * 10000:.12g}"),
        saturated=TOP if wide else None,
    )


def _mask_file(product: LandsatProduct, mask: Sequence[str]) -> MaskFile | None:
    bits = qa_bits(mask)
    if not mask:
        return None
    path = product.file_of("QA_PIXEL")
    if path is None:
        raise SceneError(
            f"{product.folder} must hold clouds to be masked, but there is no file QA_PIXEL. Get "
            "it, or pass mask=() (--no-mask) to mask nothing."
        )
    return MaskFile(str(path.absolute()), bits=bits)
