"""Metres: lines and pixels measured in true metres, whatever CRS they are in."""

from __future__ import annotations

import geopandas
import numpy as np
import rasterio.crs
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer

from csc_xr.errors import LineError
from csc_xr.grid import place, scene_transform

_LOCAL = 'LOCAL_CS["Image in metres",UNIT["metre",1],AXIS["X",EAST],AXIS["Y",NORTH]]'
_LONGITUDE_LATITUDE = CRS("OGC:CRS84")


def to_metres(
    lines: geopandas.GeoSeries, *, around: geopandas.GeoSeries | None = None
) -> geopandas.GeoSeries:
    """Bring geometries to an azimuthal equidistant projection around them, in metres.

    Within 100 km of the middle a length is right to 0.004 %, within 500 km to 0.1 %, at any
    latitude. Only vertices are projected, so a straight piece stays straight: halfway between
    vertices 1 km apart, at 65 degrees north, it lies 0.005 m beside where EPSG:3413 has it and
    0.05 m beside where longitude and latitude have it. That grows with the square of the distance
    between vertices, to 0.5 and 5 m for 10 km.

    Parameters
    ----------
    lines : geopandas.GeoSeries
        Any geometries, in any projected or geographic CRS, or in local coordinates in metres.
    around : geopandas.GeoSeries, optional
        The projection is that around the middle of these; by default of `lines`. All that is
        compared must be brought to one projection, so pass the same for all.

    Returns
    -------
    geopandas.GeoSeries
        In that projection, on WGS 84, its ``crs`` set; x points east and y north in the
        middle. Local coordinates in metres (an engineering CRS) come back as they are.

    Raises
    ------
    LineError
        When there is no CRS, or one without metres; when only one of the two, or each in another
        way, is in local coordinates; when coordinates are no places on the Earth; or when there is
        nothing to lie around.
    """
    around = lines if around is None else around
    crs, other = (_measurable(series.crs, "Lines") for series in (lines, around))
    if crs.is_engineering or other.is_engineering:
        if crs != other:
            raise LineError(
                "Lines in local coordinates can be compared only with lines in the same ones, got "
                f"{crs.name!r} and {other.name!r}. Georeference the image, or draw both on it."
            )
        return lines
    if around.get_coordinates().empty and not lines.get_coordinates().empty:
        raise LineError(
            "The lines to measure around must have at least one vertex, got none. "
            "Measure around lines that are not empty."
        )
    longitude, latitude = _middle(around, other)
    middle = f"+proj=aeqd +lat_0={latitude:.6f} +lon_0={longitude:.6f} +datum=WGS84 +units=m"
    projected = lines.to_crs(CRS(f"{middle} +type=crs"))
    _check_places(np.isfinite(projected.get_coordinates().to_numpy()), crs)
    return projected


def pixel_size_m(raster: xr.DataArray) -> tuple[float, float]:
    """Measure the pixel in the middle of a raster.

    Parameters
    ----------
    raster : xarray.DataArray
        Raster with dims y and x, in any projected or geographic CRS, or in local coordinates in
        metres. Its pixels are not computed.

    Returns
    -------
    tuple of float
        True height and width in metres: how far it is from one row to the next, and from one
        column to the next, along the sides of the pixel.

    Raises
    ------
    LineError
        When the raster has no CRS, or one without metres, or its middle is no place on the Earth.
    """
    found = raster.rio.crs
    crs = _measurable(None if found is None else CRS.from_user_input(found), "Pixels")
    transform = scene_transform(raster)
    to_map = np.array(transform).reshape(3, 3)[:2]
    row, column = raster.sizes["y"] / 2, raster.sizes["x"] / 2
    rows = np.array([row - 0.5, row + 0.5, row, row])  # across the pixel, down and to the right
    columns = np.array([column, column, column - 0.5, column + 0.5])
    places = np.stack([columns, rows, np.ones(4)], axis=1) @ to_map.T
    if crs.is_engineering:
        height, width = np.hypot(*(places[1::2] - places[::2]).T)
    else:
        longitude, latitude = _longitude_latitude(places, crs).T
        starts, stops = slice(0, None, 2), slice(1, None, 2)
        _, _, (height, width) = Geod(ellps="WGS84").inv(
            longitude[starts], latitude[starts], longitude[stops], latitude[stops]
        )
    return float(height), float(width)


def with_pixel_size(raster: xr.DataArray, pixel_size_m: float) -> xr.DataArray:
    """Give an image without georeference local coordinates in metres.

    Parameters
    ----------
    raster : xarray.DataArray
        Raster with dims y and x and no CRS. A part cut out of an image keeps its place in it.
    pixel_size_m : float
        Side of a pixel in metres.

    Returns
    -------
    xarray.DataArray
        The same pixels; x counts metres to the right and y metres upwards from the upper left
        corner of the image, in an engineering CRS. Lazy.

    Raises
    ------
    LineError
        When the raster has a georeference already, or the size is not positive.
    """
    if not 0 < pixel_size_m < np.inf:
        raise LineError(f"The pixel size must be a positive number of metres, got {pixel_size_m}.")
    transform = scene_transform(raster)
    if raster.rio.crs is not None or transform != Affine.translation(transform.c, transform.f):
        has, remedy = "a CRS", "Leave the size out"
        if raster.rio.crs is None:
            has, remedy = "a transform", "Name the CRS it is in with .rio.write_crs"
        raise LineError(
            "A pixel size is given to an image without georeference only, but this one has "
            f"{has}. {remedy}."
        )
    left, top = pixel_size_m * transform.c, -pixel_size_m * transform.f + 0.0  # never -0.0
    local = Affine(pixel_size_m, 0.0, left, 0.0, -pixel_size_m, top)
    return place(raster, local, rasterio.crs.CRS.from_wkt(_LOCAL))


def _measurable(crs: CRS | None, what: str) -> CRS:
    """Give back a CRS that leads to metres."""
    if crs is None:
        raise LineError(
            f"{what} need a CRS to be measured in metres, got none. Name it (.rio.write_crs, "
            ".set_crs), or give an image its pixel size (with_pixel_size, --pixel-size)."
        )
    local = crs.is_engineering and all(axis.unit_conversion_factor == 1 for axis in crs.axis_info)
    if not (crs.is_projected or crs.is_geographic or local):
        raise LineError(
            f"{what} must be in a projected or geographic CRS, or in local coordinates in metres, "
            f"to be measured, got {crs.name!r}. Warp or reproject them first."
        )
    return crs


def _middle(series: geopandas.GeoSeries, crs: CRS) -> tuple[float, float]:
    """Longitude and latitude of the middle of the box around all vertices, in three dimensions.

    Unlike the middle of the bounds, it lies among them across the date line and at a pole too.
    """
    vertices = series.get_coordinates().to_numpy()
    if not len(vertices):
        return 0.0, 0.0
    longitude, latitude = np.radians(_longitude_latitude(vertices, crs)).T
    flat = np.cos(latitude)
    box = np.array([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)])
    x, y, z = (box.min(axis=1) + box.max(axis=1)) / 2
    return float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def _longitude_latitude(places: NDArray[np.float64], crs: CRS) -> NDArray[np.float64]:
    """Degrees on WGS 84; places and result have shape (n, 2), x or longitude first."""
    transformer = Transformer.from_crs(crs, _LONGITUDE_LATITUDE, always_xy=True)
    found = np.column_stack(transformer.transform(places[:, 0], places[:, 1]))
    # Degrees that are none pass through PROJ unchecked.
    _check_places(np.isfinite(found[:, 0]) & (np.abs(found[:, 1]) <= 90), crs)
    return found


def _check_places(good: NDArray[np.bool_], crs: CRS) -> None:
    if not good.all():
        raise LineError(
            f"Coordinates must be places on the Earth in {crs.name!r}, but some are not. "
            "Name the CRS they are in: a wrong one may have been set."
        )
