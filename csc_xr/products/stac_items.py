"""What a STAC item says of a product: where its bands are, and how numbers become reflectance."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlparse

import numpy as np
import pandas as pd

from csc_xr.errors import SceneError

Sign = Callable[[str], str]

_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_BASELINES = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
_NO_IMAGERY = {"thumbnail", "overview", "visual", "metadata"}
_VIRTUAL = {"http": "/vsicurl/http", "https": "/vsicurl/https", "s3": "/vsis3/", "gs": "/vsigs/"}


@dataclass(frozen=True)
class StacProduct:
    """A STAC item.

    Attributes
    ----------
    name : str
        Its id.
    properties : mapping
        As the item has them.
    assets : mapping
        Assets by key.
    base : str
        Path or address of the item itself, which relative references start from.
    """

    name: str
    properties: Mapping[str, Any]
    assets: Mapping[str, Mapping[str, Any]]
    base: str

    @property
    def platform(self) -> str:
        """Platform or constellation in small letters, as ``sentinel-2b`` or ``landsat-8``."""
        found = [self.properties.get(key) for key in ("platform", "constellation")]
        return " ".join(str(text).lower().replace("_", "-") for text in found if text)

    @property
    def time(self) -> np.datetime64 | None:
        """Sensing time in UTC."""
        text = self.properties.get("datetime") or self.properties.get("start_datetime")
        if text is None:
            return None
        try:
            moment = pd.Timestamp(text)
        except ValueError as error:
            raise SceneError(
                f"The datetime of item {self.name} must be as 2021-07-15T14:37:52Z, got {text!r}. "
                "Correct the item."
            ) from error
        moment = moment if moment.tzinfo is None else moment.tz_convert(None)
        return moment.as_unit("ns").to_datetime64()


@dataclass(frozen=True)
class BandAsset:
    """A band in an asset of an item.

    Attributes
    ----------
    key : str
        Key of the asset.
    number : int
        Number of the band in its file, from 1.
    path : str
        What GDAL opens.
    fields : mapping
        What item and asset say of the band, under the names of STAC 1.0 (``scale``, ``offset``,
        ``nodata``).
    """

    key: str
    number: int
    path: str
    fields: Mapping[str, Any]


def read_items(items: object) -> list[StacProduct]:
    """Read STAC items of any version from 1.0 on.

    Parameters
    ----------
    items : object
        Path of a JSON file, the JSON as a mapping, or a ``pystac.Item``: an item, or a collection
        of items as a search gives it; or several of these.

    Returns
    -------
    list of StacProduct
        What they say; nothing is looked up elsewhere.

    Raises
    ------
    SceneError
        When something is no STAC item.
    """
    one = isinstance(items, str | Path | Mapping) or hasattr(items, "to_dict")
    entries = [items] if one or not isinstance(items, Iterable) else items
    return [product for entry in entries for product in _read(entry)]


def _read(item: object) -> list[StacProduct]:
    base = ""
    if isinstance(item, str | Path):
        path = Path(item)
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SceneError(
                f"{path} must be a STAC item (JSON), but cannot be read: {error}. Check the path."
            ) from error
        base = str(path.absolute())
    elif isinstance(item, Mapping):
        content = item
    else:
        # Relative references stay as they are, and are made absolute below as for JSON.
        to_dict = getattr(item, "to_dict", None)
        content = to_dict(transform_hrefs=False) if to_dict else item
    if isinstance(content, Mapping) and isinstance(content.get("features"), list):
        return [_product(feature, base) for feature in content["features"]]
    return [_product(content, base)]


def _product(content: object, base: str) -> StacProduct:
    if not isinstance(content, Mapping) or not isinstance(content.get("assets"), Mapping):
        kind = content.get("type") if isinstance(content, Mapping) else type(content).__name__
        raise SceneError(
            "A STAC item must be a pystac.Item, its JSON, or the path of that, with assets, got "
            f"{kind or 'JSON of another kind'}. Take the items of a collection one by one."
        )
    links = [link for link in content.get("links") or [] if isinstance(link, Mapping)]
    own = [str(link.get("href", "")) for link in links if link.get("rel") == "self"]
    assets = content["assets"].items()
    return StacProduct(
        name=str(content.get("id", "item")),
        properties=content.get("properties") or {},
        assets={key: asset for key, asset in assets if isinstance(asset, Mapping)},
        base=base or (own[0] if own else ""),
    )


def find_band(item: StacProduct, names: Sequence[str], *, sign: Sign | None) -> BandAsset | None:
    """Look for a band: by the key of its asset, then by what assets say of their bands.

    Parameters
    ----------
    item : StacProduct
        The item.
    names : sequence of str
        Names of the band, the likeliest first: ``("B04", "red")``. Keys may also end in a pixel
        size (``B04_10m``); the smallest is taken.
    sign : callable, optional
        Makes an address one that can be read.

    Returns
    -------
    BandAsset or None
        None where the item has no such band.
    """
    wanted = {name.lower() for name in names}
    by_size = sorted(item.assets, key=_pixel_size)
    for name in names:
        for key in by_size:
            if re.sub(r"_\d+m$", "", key.lower()) == name.lower():
                return _band_asset(item, key, 0, sign)
    for key in by_size:
        if _NO_IMAGERY & set(item.assets[key].get("roles") or ()):
            continue
        for index, band in enumerate(_bands_of(item.assets[key])):
            if {str(band.get(field, "")).lower() for field in _NAMES} & wanted:
                return _band_asset(item, key, index, sign)
    return None


def scaling_of(item: StacProduct, band: BandAsset, offset: float | None) -> tuple[float, float]:
    """Settle how numbers of a band become reflectance, by what the item itself says.

    Parameters
    ----------
    item : StacProduct
        The item.
    band : BandAsset
        One of its bands.
    offset : float, optional
        In numbers of the product, as -1000; goes before what the item says.

    Returns
    -------
    gain : float
        Numbers are multiplied by it.
    offset : float
        Added then, which gives reflectance x 10000.

    Raises
    ------
    SceneError
        When the item does not say.

    Notes
    -----
    The catalogue of Element 84 has Sentinel-2 items whose ``raster:bands`` give an offset of -0.1
    that was applied already, or that no product of their baseline has. Its own property
    ``earthsearch:boa_offset_applied`` goes first, then baselines before 04.00.
    """
    sentinel = "sentinel-2" in item.platform
    scale = number_of(item, band, "scale", 0.0001 if sentinel else None)
    if scale is None:
        raise SceneError(
            f"Item {item.name} must say how numbers of {band.key} become reflectance "
            "(raster:bands or raster:scale), but does not. Open its files as an image, or as the "
            "product they are from."
        )
    if not 0 < scale < math.inf:
        raise SceneError(
            f"The scale of {band.key} in item {item.name} must be positive, got {scale:g}. Correct "
            "the item."
        )
    gain = _rounded(scale * 10000)
    if offset is not None:
        return gain, _rounded(gain * offset)
    stated = number_of(item, band, "offset", None)
    flags = [item.properties[key] for key in _APPLIED if key in item.properties]
    applied = any(str(flag).lower() == "true" for flag in flags)
    baseline = _baseline(item)
    early = baseline is not None and baseline < 4
    if applied or (flags and early) or (stated is None and (early or not sentinel)):
        stated = 0.0
    contradicts = stated == 0 and False in flags and baseline is not None and baseline >= 4
    if stated is None or contradicts:
        raise SceneError(
            f"Item {item.name} must say which offset numbers of {band.key} have (raster:bands, "
            "raster:offset, boa_offset_applied or a processing baseline before 04.00), but "
            f"{'says 0 and that it was not applied' if contradicts else 'does not'}. Pass "
            "offset=-1000 if the numbers are as ESA delivers them from baseline 04.00 on, offset=0 "
            "if the catalogue took the offset off."
        )
    return gain, _rounded(stated * 10000)


_NAMES = ("name", "common_name", "eo:common_name")


def number_of(
    item: StacProduct, band: BandAsset, field: str, default: float | None
) -> float | None:
    """Read a number that an item gives of a band.

    Parameters
    ----------
    item : StacProduct
        The item.
    band : BandAsset
        One of its bands.
    field : str
        ``scale``, ``offset`` or ``nodata``.
    default : float or None
        What is given where the item does not say.

    Returns
    -------
    float or None
        The number; may be NaN.

    Raises
    ------
    SceneError
        When it is something else.
    """
    value = band.fields.get(field, default)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise SceneError(
            f"The {field} of {band.key} in item {item.name} must be a number, got {value!r}. "
            "Correct the item."
        ) from error


def _baseline(item: StacProduct) -> float | None:
    """Read the processing baseline as a number, where it is known."""
    found = [item.properties[key] for key in _BASELINES if item.properties.get(key) is not None]
    number = re.match(r"0*(\d+(?:\.\d+)?)", str(found[0])) if found else None
    return None if number is None else float(number.group(1))


def _pixel_size(key: str) -> int:
    size = re.search(r"_(\d+)m$", key)
    return int(size.group(1)) if size else 0


def _bands_of(asset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Bands of an asset; ``eo:bands`` and ``raster:bands`` of STAC 1.0 become one list."""
    given = [asset.get(key) for key in ("bands", "eo:bands", "raster:bands")]
    lists = [bands if isinstance(bands, list) else [] for bands in given]
    count = max(map(len, lists))
    return [
        {key: value for band in lists for key, value in _entry(band, index)}
        for index in range(count)
    ]


def _entry(bands: Sequence[Mapping[str, Any]], index: int) -> Iterator[tuple[str, Any]]:
    yield from (bands[index].items() if index < len(bands) else ())


def _band_asset(item: StacProduct, key: str, index: int, sign: Sign | None) -> BandAsset:
    asset = item.assets[key]
    bands = _bands_of(asset)
    fields: dict[str, Any] = {}
    for source in (asset, bands[index] if index < len(bands) else {}):
        for field in ("scale", "offset", "nodata"):
            value = source.get(f"raster:{field}", source.get(field))
            if value is not None:
                fields[field] = value
    if "href" not in asset:
        raise SceneError(
            f"Asset {key} of item {item.name} must say where its file is (href), but does not. "
            "Correct the item."
        )
    return BandAsset(key, index + 1, _gdal_path(item, str(asset["href"]), sign), fields)


def _gdal_path(item: StacProduct, href: str, sign: Sign | None) -> str:
    """Say what GDAL opens of a reference in an item."""
    if not href.startswith("/") and not urlparse(href).scheme:
        remote = urlparse(item.base).scheme in ("http", "https")
        href = urljoin(item.base, href) if remote else str(Path(item.base).parent / href)
    scheme = urlparse(href).scheme
    if scheme == "file":
        return unquote(urlparse(href).path)
    if scheme not in _VIRTUAL:
        return href
    address = sign(href) if sign else href
    scheme, _, rest = address.partition("://")
    return _VIRTUAL.get(scheme, f"{scheme}://") + (f"://{rest}" if scheme[:4] == "http" else rest)


def _rounded(number: float) -> float:
    """Without what binary fractions add: 0.0001 times 10000 is 1."""
    return float(f"{number:.12g}")
