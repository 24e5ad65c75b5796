"""STAC items as scenes and stacks, and a search for them."""

from __future__ import annotations

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
from csc_xr.products.sentinel2 import CLOUD_AND_SHADOW, SCL_CLASSES
from csc_xr.products.series import join_scenes
from csc_xr.products.stac_items import Sign, StacProduct, find_band, read_item, scaling_of
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
    items : pystac.Item, mapping, str, Path, or a sequence of these
        Items of Sentinel-2 or Landsat, as objects, JSON, or paths of that. Assets on other
        machines are read by GDAL (``https``, ``s3``, ``gs``).
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
    several = isinstance(items, Sequence) and not isinstance(items, str)
    products = [read_item(item) for item in (items if several else [items])]
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
    return sorted(found, key=lambda item: str(read_item(item).time))


def _cloud_cover(item: pystac.Item) -> float:
    cover = item.properties.get("eo:cloud_cover")
    return float("nan") if cover is None else float(cover)


def _names(product: StacProduct, bands: Sequence[str]) -> list[tuple[str, ...]]:
    """Names of each band: what the scene calls it, then what the item may."""
    common = _common_bands(product)
    codes = {code.lower(): name for name, code in common.items()}
    names = []
    for band in [bands] if isinstance(bands, str) else bands:
        name = codes.get(band.lower(), band)
        # Catalogues call the near infrared of Landsat 8 nir08, as it is narrow.
        narrow = ["nir08"] if name == "nir" and "landsat" in product.platform else []
        names.append((name, *([common[name]] if name in common else []), name, *narrow))
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
    nodata = int(band.fields.get("nodata") or 0)
    return BandFile(names[0], band.path, band.number, gain, shift, nodata)


def _mask_file(
    product: StacProduct, mask: Sequence[int | str] | None, sign: Sign | None
) -> MaskFile | None:
    landsat = "landsat" in product.platform
    key = "qa_pixel" if landsat else "SCL"
    found = None if mask == () else find_band(product, (key,), sign=sign)
    if found is None and mask:
        raise SceneError(
            f"Item {product.name} must have an asset {key} to mask {', '.join(map(str, mask))}, "
            "but has none, and so no such classes. Pass mask=() to mask nothing."
        )
    if found is None:
        return None
    if landsat:
        return MaskFile(found.path, found.number, bits=qa_bits(CLOUDS if mask is None else mask))
    codes = tuple(SCL_CLASSES.get(str(entry), entry) for entry in mask or CLOUD_AND_SHADOW)
    unknown = [str(code) for code in codes if code not in SCL_CLASSES.values()]
    if unknown:
        raise SceneError(
            f"mask must hold classes of the scene classification, {', '.join(SCL_CLASSES)} or "
            f"their numbers, got {', '.join(unknown)}. Correct mask=."
        )
    return MaskFile(found.path, found.number, values=tuple(map(int, codes)))
