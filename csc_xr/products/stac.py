"""STAC items as scenes and stacks, and a search for them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import xarray as xr

from csc_xr.errors import SceneError
from csc_xr.products.landsat import CLOUDS, qa_bits
from csc_xr.products.layers import BandFile, MaskFile, assemble
from csc_xr.products.mtl import COMMON_BANDS
from csc_xr.products.safe import BANDS
from csc_xr.products.sentinel2 import masked_classes
from csc_xr.products.series import join_scenes
from csc_xr.products.stac_items import (
    Sign,
    StacProduct,
    find_band,
    number_of,
    read_items,
    scaling_of,
)
from csc_xr.products.target import Box, native_grid, settle_grid
from csc_xr.raster import Chunks

if TYPE_CHECKING:
    import pystac

Dates = str | Sequence[str | date]


def open_stac(
    items: Any,
    bands: Sequence[str] = ("red", "green", "blue", "nir"),
    *,
    resolution: float | None = None,
    crs: Any = None,
    box: Box | None = None,
    box_crs: Any = None,
    like: xr.DataArray | None = None,
    resampling: str = "bilinear",
    mask: Sequence[int | str] | None = None,
    offset: float | None = None,
    scale: float | None = None,
    chunks: Chunks | None = None,
    sign: Sign | None = None,
) -> xr.DataArray:
    """Open STAC items as a scene, or several as a stack, of reflectance x 10000.

    Whether an offset is still to be applied is read from each item, never from its date: its own
    ``boa_offset_applied``, then scale and offset of the asset, then a processing baseline before
    04.00. Pixels stay where they are until they are computed; what is read here is headers.

    Parameters
    ----------
    items : pystac.Item, mapping, str, Path, or several of these
        Items of Sentinel-2 or Landsat, as objects, JSON, or paths of that, and collections of
        items as a search saves them. Assets on other machines are read by GDAL (``https``,
        ``s3``, ``gs``).
    bands : sequence of str
        By common name (``red``) or as the product has them (``B04``).
    resolution, crs, box, box_crs, like, resampling : optional
        As for :func:`csc_xr.open_sentinel2`; all items come onto the grid of the first.
    mask : sequence of int or str, optional
        What is masked, where the items have a classification: of Sentinel-2 codes of its classes,
        cloud and shadow by default; of Landsat as for :func:`csc_xr.open_landsat`. ``()`` masks
        nothing.
    offset : float, optional
        Of the numbers of all items, in place of what they say: 0 or -1000.
    scale : float, optional
        What networks divide pixels by, 8192 by default.
    chunks : int, tuple of int or mapping, optional
        Rows and columns of a chunk, -1 for all; near 1024 by default.
    sign : callable, optional
        Takes the address of an asset, gives one that may be read, for catalogues that ask for
        it: ``planetary_computer.sign``.

    Returns
    -------
    xarray.DataArray
        Of one item a scene, as :func:`csc_xr.open_sentinel2` gives it; of several a stack, dims
        (time, band, y, x), sorted by time.

    Raises
    ------
    SceneError
        When items cannot be read, lack a band, do not say how numbers become reflectance, or are
        of one time.
    """
    products = read_items(items)
    if not products:
        raise SceneError("There must be at least one item, got none. Widen the search.")
    if not bands:
        raise SceneError("There must be at least one band, got none. Pass bands=.")
    scenes: list[xr.DataArray] = []
    for product in products:
        files = [_band_file(product, band, offset, sign) for band in _names(product, bands)]
        natives = [(file.name, native_grid(file.path)) for file in files]
        if scenes:
            grid = settle_grid(natives, like=scenes[0])
        else:
            grid = settle_grid(
                natives, crs=crs, resolution=resolution, box=box, box_crs=box_crs, like=like
            )
        scene = assemble(
            files,
            grid=grid,
            mask=_mask_file(product, mask, sign),
            time=product.time,
            source=product.name,
            resampling=resampling,
            chunks=chunks,
            scale=scale,
        )
        scenes.append(scene.rename(product.name))
    return scenes[0] if len(scenes) == 1 else join_scenes(scenes)


def search_stac(
    url: str,
    *,
    collections: str | Sequence[str],
    box: Sequence[float] | None = None,
    dates: Dates | None = None,
    max_cloud: float | None = None,
    most: int | None = None,
) -> list[pystac.Item]:
    """Search a STAC catalogue (API) for items.

    Asks the catalogue over the network, page by page. Needs ``pip install csc_xr[stac]``.

    Parameters
    ----------
    url : str
        Of the API, such as ``https://earth-search.aws.element84.com/v1``.
    collections : str or sequence of str
        Such as ``sentinel-2-l2a``.
    box : sequence of float, optional
        West, south, east and north in degrees that items must touch.
    dates : str or sequence of str or datetime.date, optional
        A day, a month, two of them (the first and last), or as ``2021-06-01/2021-08-31``.
    max_cloud : float, optional
        Most clouds in percent (``eo:cloud_cover``); items that do not say are left out then.
    most : int, optional
        Most items to take, in the order of the catalogue; all by default.

    Returns
    -------
    list of pystac.Item
        Sorted by time, for :func:`open_stac`.

    Raises
    ------
    SceneError
        When pystac-client is not installed, or the catalogue cannot be reached or refuses.
    """
    try:
        import pystac_client
        import requests
        from pystac_client.exceptions import APIError
    except ImportError as error:
        raise SceneError(
            "A search in a STAC catalogue needs pystac-client, which is not installed: "
            "pip install csc_xr[stac]. Items in files open without it."
        ) from error
    found: list[pystac.Item] = []
    try:
        search = pystac_client.Client.open(url).search(
            collections=[collections] if isinstance(collections, str) else list(collections),
            bbox=None if box is None else list(box),
            datetime=dates if isinstance(dates, str) or dates is None else [*map(str, dates)],
        )
        for item in search.items():
            if max_cloud is not None and not _cloud_cover(item) <= max_cloud:
                continue
            found.append(item)
            if len(found) == most:
                break
    except (APIError, requests.RequestException) as error:
        raise SceneError(
            f"The catalogue {url} must answer the search, but does not: {error}. Check the "
            "address, collections and box (degrees, west first)."
        ) from error
    return sorted(found, key=lambda item: str(read_items(item)[0].time))


def _cloud_cover(item: pystac.Item) -> float:
    cover = item.properties.get("eo:cloud_cover")
    return float("nan") if cover is None else float(cover)


def _names(product: StacProduct, bands: Sequence[str]) -> list[tuple[str, ...]]:
    """Names of each band: what the scene calls it, then what the item may."""
    common = _common_bands(product)
    codes = {code.lower(): name for name, code in common.items()}
    names = []
    for band in map(str, [bands] if isinstance(bands, str) else bands):
        name = codes.get(band.lower(), band)
        # Catalogues call the near infrared of Landsat 8 nir08, as it is narrow.
        narrow = ["nir08"] if name == "nir" and "landsat" in product.platform else []
        names.append((name, *([common[name]] if name in common else []), name, *narrow))
    if len({first for first, *_ in names}) < len(names):
        raise SceneError(f"Each band can be there once, got {', '.join(bands)}. Correct bands=.")
    return names


def _common_bands(product: StacProduct) -> dict[str, str]:
    """Names of the product's bands by common name; none of sensors that are not known."""
    if "sentinel-2" in product.platform:
        return {name: band for band, name in BANDS.items()}
    landsat = re.search(r"landsat-(\d)", product.platform)
    if landsat is None:
        return {}
    return COMMON_BANDS["OLI" if int(landsat[1]) >= 8 else "TM"]


def _band_file(
    product: StacProduct, names: tuple[str, ...], offset: float | None, sign: Sign | None
) -> BandFile:
    band = find_band(product, names[1:], sign=sign)
    if band is None:
        raise SceneError(
            f"Item {product.name} must have band(s) {names[0]}, but has "
            f"{', '.join(product.assets) or 'no assets'}. Choose among them with bands=."
        )
    gain, shift = scaling_of(product, band, offset)
    nodata = number_of(product, band, "nodata", 0) or 0
    none = int(nodata) if math.isfinite(nodata) else 0
    return BandFile(names[0], band.path, band.number, gain, shift, none)


def _mask_file(
    product: StacProduct, mask: Sequence[int | str] | None, sign: Sign | None
) -> MaskFile | None:
    landsat = "landsat" in product.platform
    key = "qa_pixel" if landsat else "SCL"
    bits = qa_bits(CLOUDS if mask is None else mask) if landsat else 0
    classes = () if landsat else masked_classes(mask)
    if not classes and (not landsat or mask in ((), [])):
        return None
    found = find_band(product, (key,), sign=sign)
    if found is not None:
        return MaskFile(found.path, found.number, values=classes, bits=bits)
    if mask is not None:
        raise SceneError(
            f"Item {product.name} must have an asset {key} to mask {mask}, but has none, and so no "
            "such classes. Pass mask=() to mask nothing."
        )
    return None
