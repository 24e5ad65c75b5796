"""STAC items: what a run made of a scene, where and when, in the words of catalogues."""

from __future__ import annotations

import datetime
import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.warp
import shapely
import xarray as xr
from affine import Affine
from rasterio._err import CPLE_BaseError

from csc_xr.dates import date_in_name
from csc_xr.grid import scene_transform
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.raster import open_raster
from csc_xr.record import RunRecord

ITEM_END = "_item.json"
"""What the name of a STAC item ends in."""

STAC_VERSION = "1.1.0"

_EXTENSIONS = {
    "proj:": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "classification:": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "raster:": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "processing:": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
}
_MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".zarr": "application/vnd+zarr",
    ".png": "image/png",
    ".csv": "text/csv",
    ".json": "application/json",
    ".gpkg": "application/geopackage+sqlite3",
    ".qml": "text/xml",
    ".keras": "application/zip",
}
_POINTS_A_SIDE = 41
_TOLERANCE = 1e-6  # degrees: points that a straight line passes closer than 0.1 m are left out
_DIGITS = 7  # of a degree: a centimetre


def scene_item(
    name: str,
    scene: xr.DataArray,
    outputs: Mapping[str, Path],
    *,
    folder: Path,
    legend: ClassLegend,
    record: RunRecord,
    facts: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Describe the outputs of a run over one scene as a STAC item (version 1.1.0).

    Only headers of rasters are read.

    Parameters
    ----------
    name : str
        Name of the scene; becomes the id.
    scene : xarray.DataArray
        Dims end in (y, x): where the outputs lie. Its coordinate ``time`` says when; without
        it, the date in the name does.
    outputs : mapping of str to Path
        Files and stores by role.
    folder : Path
        Where the item will lie; links to the outputs are relative to it.
    legend : ClassLegend
        Of class rasters.
    record : RunRecord
        The run.
    facts : mapping
        More about the run, in plain values; each becomes a property ``csc_xr:<name>``.

    Returns
    -------
    dict or None
        In values that JSON can hold. None when no date is known: a STAC item must have one.
    """
    when = dates_of(name, scene)
    if when is None:
        return None
    where = footprint(scene)
    assets = {
        _key(role): _asset(role, path, folder=folder, legend=legend)
        for role, path in outputs.items()
    }
    properties = {
        **when,
        **_projection(scene),
        "processing:software": dict(record.software),
        "csc_xr:seed": record.seed,
        "csc_xr:networks": dict(record.networks),
        **{f"csc_xr:{key}": value for key, value in facts.items()},
    }
    used = " ".join((*properties, *(key for asset in assets.values() for key in asset)))
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [url for prefix, url in _EXTENSIONS.items() if prefix in used],
        "id": name,
        **({"geometry": None} if where is None else where),
        "properties": properties,
        "links": [],
        "assets": assets,
    }


def dates_of(name: str, scene: xr.DataArray) -> dict[str, Any] | None:
    """Say when a scene was taken, as STAC properties.

    Parameters
    ----------
    name : str
        Name of the scene.
    scene : xarray.DataArray
        Its scalar coordinate ``time``, if there is one, counts more than the name.

    Returns
    -------
    dict or None
        ``datetime`` in UTC; where the name has a day and no time, ``datetime`` None and the
        first and last second of that day, as STAC has it. None when nothing is known.
    """
    time = scene.coords.get("time")
    if time is not None and time.ndim == 0 and not np.isnat(time.values):
        return {"datetime": f"{time.values.astype('datetime64[us]')}Z"}
    found = date_in_name(name)
    if found is None:
        return None
    if found.time() != datetime.time.min:
        return {"datetime": f"{found.isoformat()}Z"}
    day = found.date().isoformat()
    return {
        "datetime": None,
        "start_datetime": f"{day}T00:00:00Z",
        "end_datetime": f"{day}T23:59:59Z",
    }


def footprint(raster: xr.DataArray) -> dict[str, Any] | None:
    """Outline a raster in longitude and latitude, as GeoJSON has it.

    The sides are followed by 41 points each, since straight lines of a map are bent in degrees.
    An outline across the antimeridian is cut there, and its box runs from west to east across it
    (RFC 7946, 3.1.9 and 5.2); one around a pole reaches to the pole along the antimeridian.

    Parameters
    ----------
    raster : xarray.DataArray
        Dims end in (y, x).

    Returns
    -------
    dict or None
        ``geometry`` and ``bbox``; None where there is no CRS or no place on the globe.
    """
    crs = raster.rio.crs
    if crs is None:
        return None
    height, width = raster.shape[-2:]
    columns, rows = _ring(height, width)
    transform = scene_transform(raster)
    x = transform.a * columns + transform.b * rows + transform.c
    y = transform.d * columns + transform.e * rows + transform.f
    try:
        longitude, latitude = map(np.asarray, rasterio.warp.transform(crs, "EPSG:4326", x, y))
    except CPLE_BaseError:  # a local CRS
        return None
    if not (np.isfinite(longitude).all() and np.isfinite(latitude).all()):
        return None
    unrolled = np.unwrap(longitude, period=360.0)
    unrolled = unrolled - 360.0 * np.floor((unrolled.min() + 180.0) / 360.0)
    shape = _shape(unrolled, latitude)
    inside = shapely.intersection(shape, shapely.box(-180.0, -90.0, 180.0, 90.0))
    beyond = shapely.intersection(shape, shapely.box(180.0, -90.0, 540.0, 90.0))
    turned = shapely.transform(beyond, lambda xy: xy - (360.0, 0.0))
    around = shape.bounds[2] - shape.bounds[0] > 360.0 + _TOLERANCE
    parts = shapely.get_parts([inside] if around else [inside, turned])
    areas = [
        shapely.geometry.polygon.orient(shapely.simplify(part, _TOLERANCE))
        for part in parts
        if part.area > 0
    ]
    if not areas:
        return None
    whole = areas[0] if len(areas) == 1 else shapely.MultiPolygon(areas)
    west, south, east, north = whole.bounds
    if len(areas) > 1 and not around:
        west, east = shape.bounds[0], shape.bounds[2] - 360.0
    geometry = _rounded(shapely.geometry.mapping(whole))
    return {"geometry": geometry, "bbox": _rounded([west, south, east, north])}


def _shape(longitude: Any, latitude: Any) -> Any:
    """Make a polygon of an edge whose longitudes run on beyond 180 degrees."""
    turn = float(np.round((longitude[-1] - longitude[0]) / 360.0)) * 360.0
    if not turn:
        return shapely.Polygon(np.stack([longitude, latitude], axis=1))
    # A pole lies within: a strip from the edge to the pole, a turn longer on both sides.
    strip = np.concatenate([longitude[:-1] - turn, longitude[:-1], longitude + turn])
    pole = 90.0 if latitude.mean() > 0 else -90.0
    edge = np.stack([strip, np.concatenate([latitude[:-1], latitude[:-1], latitude])], axis=1)
    return shapely.Polygon([*edge, (strip[-1], pole), (strip[0], pole)])


def _ring(height: int, width: int) -> tuple[Any, Any]:
    """Columns and rows of points along the edge of a raster, back to the first."""
    share = np.linspace(0.0, 1.0, _POINTS_A_SIDE)[:-1]
    none, all_of = np.zeros_like(share), np.ones_like(share)
    columns = np.concatenate([share, all_of, 1 - share, none, [0.0]]) * width
    rows = np.concatenate([none, share, all_of, 1 - share, [0.0]]) * height
    return columns, rows


def _rounded(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_rounded(value) for value in values]
    return round(float(values), _DIGITS) if isinstance(values, float) else values


def _projection(scene: xr.DataArray) -> dict[str, Any]:
    crs, transform = scene.rio.crs, scene_transform(scene)
    found: dict[str, Any] = {"proj:shape": list(scene.shape[-2:])}
    if crs is not None:
        code = crs.to_epsg()
        found["proj:code"] = None if code is None else f"EPSG:{code}"
        if code is None:
            found["proj:wkt2"] = crs.to_wkt(version="WKT2_2019")
    if crs is not None or transform != Affine.identity():
        found["proj:transform"] = list(transform)[:6]
    return found


def _key(role: str) -> str:
    return role.replace(" ", "_")


def _asset(role: str, path: Path, *, folder: Path, legend: ClassLegend) -> dict[str, Any]:
    href = os.path.relpath(path, folder).replace(os.sep, "/")
    asset: dict[str, Any] = {
        "href": href if href.startswith("..") else f"./{href}",
        "title": role,
        "roles": [_role(role, path)],
    }
    if path.suffix in _MEDIA_TYPES:
        asset["type"] = _MEDIA_TYPES[path.suffix]
    if path.suffix == ".tif":
        asset |= _numbers(path)
    if role == "classes":
        asset["classification:classes"] = _classes(legend)
    return asset


def _role(role: str, path: Path) -> str:
    if path.suffix in (".tif", ".zarr", ".gpkg") or role == "classes":
        return "data"
    return "overview" if path.suffix == ".png" else "metadata"


def _numbers(path: Path) -> dict[str, Any]:
    """Read what the numbers of a GeoTIFF mean, as its header says."""
    with open_raster(path) as file:
        found: dict[str, Any] = {"data_type": file.dtypes[0]}
        if file.nodata is not None:
            found["nodata"] = "nan" if np.isnan(file.nodata) else file.nodata
        if file.scales[0] != 1.0:
            found |= {"raster:scale": file.scales[0], "raster:offset": file.offsets[0]}
            found["unit"] = file.units[0]
        names = [text or f"b{number}" for number, text in enumerate(file.descriptions, start=1)]
    return found | {"bands": [{"name": name} for name in names]}


def _classes(legend: ClassLegend) -> list[dict[str, Any]]:
    """Classes as the classification extension has them: names in plain letters, and titles."""
    none = {"value": NODATA_CODE, "name": "unclassified", "nodata": True}
    return [none] + [
        {
            "value": entry.code,
            "name": _plain_name(entry.name) or f"class_{entry.code}",
            "title": entry.name,
            "color_hint": entry.colour.lstrip("#").upper(),
        }
        for entry in legend.classes
    ]


def _plain_name(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^0-9A-Za-z]+", "_", letters).strip("_").lower()
