"""Grids: where the pixels of a raster lie on the map."""

from __future__ import annotations

from typing import Any

import numpy as np
import rioxarray  # noqa: F401  (registers the rio accessor)
import xarray as xr
from affine import Affine
from numpy.typing import NDArray

from csc_xr.errors import SceneError

Raster = xr.DataArray | xr.Dataset


def scene_transform(raster: Raster) -> Affine:
    """Give the exact transform from pixel corners (column, row) to the map.

    This is the file's own transform to the bit, read from the ``GeoTransform`` of
    ``spatial_ref``, and follows the ``x`` and ``y`` coordinates of a raster that was cropped,
    flipped or thinned since. ``raster.rio.transform()`` recomputes the origin from the
    coordinates, which rounds, and knows no rotation by 90 degrees.

    Parameters
    ----------
    raster : xarray.DataArray or xarray.Dataset
        A scene, or anything with dims y and x on its grid.

    Returns
    -------
    affine.Affine
        The transform; the identity where there is no georeference.

    Raises
    ------
    SceneError
        When the coordinates are not evenly spaced, or the stored transform cannot be read.

    Examples
    --------
    >>> image = xr.DataArray(np.zeros((2, 3)), dims=("y", "x"))
    >>> image = image.assign_coords(y=[95.0, 85.0], x=[5.0, 15.0, 25.0])
    >>> tuple(scene_transform(image))[:6]
    (10.0, 0.0, 0.0, 0.0, -10.0, 100.0)
    """
    stored = _stored_transform(raster)
    base = Affine.identity() if stored is None else stored
    if not {"x", "y"} <= set(raster.coords):
        return base
    expected = pixel_centres(base, raster.sizes["y"], raster.sizes["x"])
    found = {dim: np.asarray(raster.coords[dim].values, np.float64) for dim in ("y", "x")}
    if all(np.array_equal(found[dim], expected[dim]) for dim in ("y", "x")):
        return base
    columns, rows = found["x"], found["y"]
    if not _is_rotated(base):
        columns, rows = (columns - base.c) / base.a, (rows - base.f) / base.e
    left, across = _first_edge(columns, "x", snap=stored is not None)
    top, down = _first_edge(rows, "y", snap=stored is not None)
    return Affine(
        base.a * across,
        base.b * down + 0.0,  # never -0.0
        base.a * left + base.b * top + base.c,
        base.d * across + 0.0,
        base.e * down,
        base.d * left + base.e * top + base.f,
    )


def same_grid(one: Raster, other: Raster) -> bool:
    """Tell whether two rasters cover the same pixels.

    Parameters
    ----------
    one, other : xarray.DataArray or xarray.Dataset
        Rasters with dims y and x.

    Returns
    -------
    bool
        True when the sizes and CRS are equal and the corners lie within 1 % of a pixel.
    """
    height, width = one.sizes["y"], one.sizes["x"]
    if (height, width) != (other.sizes["y"], other.sizes["x"]) or one.rio.crs != other.rio.crs:
        return False
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    moved = pixel_map(one, other)
    return all(
        abs(moved.a * column + moved.b * row + moved.c - column) < 0.01
        and abs(moved.d * column + moved.e * row + moved.f - row) < 0.01
        for column, row in corners
    )


def pixel_map(start: Raster, end: Raster) -> Affine:
    """Give the transform from pixel corners of one raster to those of another.

    Parameters
    ----------
    start, end : xarray.DataArray or xarray.Dataset
        Rasters with dims y and x, in one CRS.

    Returns
    -------
    affine.Affine
        From (column, row) in the first to (column, row) in the second.
    """
    there, back = scene_transform(start), ~scene_transform(end)
    return Affine(
        back.a * there.a + back.b * there.d,
        back.a * there.b + back.b * there.e,
        back.a * there.c + back.b * there.f + back.c,
        back.d * there.a + back.e * there.d,
        back.d * there.b + back.e * there.e,
        back.d * there.c + back.e * there.f + back.f,
    )


def is_georeferenced(raster: Raster) -> bool:
    """Tell whether a raster has a CRS or a transform.

    Parameters
    ----------
    raster : xarray.DataArray or xarray.Dataset
        Raster with dims y and x.

    Returns
    -------
    bool
        False when it has no CRS and its coordinates are pixel numbers.
    """
    return raster.rio.crs is not None or scene_transform(raster) != Affine.identity()


def pixel_centres(transform: Affine, height: int, width: int) -> dict[str, NDArray[np.float64]]:
    """Compute the coordinates of the pixel centres along both axes.

    Parameters
    ----------
    transform : affine.Affine
        From pixel corners to the map.
    height, width : int
        Size of the raster.

    Returns
    -------
    dict
        ``y`` and ``x``, the same numbers rioxarray gives; 0.5, 1.5, ... where the raster is
        rotated, since no row then has one ``y``.

    Examples
    --------
    >>> pixel_centres(Affine(10, 0, 500, 0, -10, 90), 2, 3)
    {'y': array([85., 75.]), 'x': array([505., 515., 525.])}
    """
    rows, columns = np.arange(height, dtype=np.float64), np.arange(width, dtype=np.float64)
    if _is_rotated(transform):
        return {"y": rows + 0.5, "x": columns + 0.5}
    return {
        "y": rows * transform.e + (transform.e * 0.5 + transform.f),
        "x": columns * transform.a + (transform.a * 0.5 + transform.c),
    }


def place(raster: xr.DataArray, transform: Affine, crs: Any) -> xr.DataArray:
    """Give a raster coordinates and the ``spatial_ref`` that holds its exact place.

    Parameters
    ----------
    raster : xarray.DataArray
        Raster with dims y and x.
    transform : affine.Affine
        From pixel corners to the map.
    crs : rasterio.crs.CRS or None
        Coordinate reference system.

    Returns
    -------
    xarray.DataArray
        With ``x`` and ``y``; and with ``spatial_ref``, unless there is no CRS and the transform
        is the identity.

    Raises
    ------
    SceneError
        When the transform puts all pixels on a line or point.
    """
    _check_area(transform)
    raster = raster.assign_coords(pixel_centres(transform, raster.sizes["y"], raster.sizes["x"]))
    if crs is None and transform == Affine.identity():
        return raster
    holder = xr.DataArray(0) if crs is None else xr.DataArray(0).rio.write_crs(crs)
    holder = holder.rio.write_transform(transform)
    raster = raster.assign_coords(spatial_ref=holder.coords["spatial_ref"].variable)
    raster.encoding["grid_mapping"] = "spatial_ref"
    return raster


def _stored_transform(raster: Raster) -> Affine | None:
    name = raster.rio.grid_mapping
    if name not in raster.coords or "GeoTransform" not in raster.coords[name].attrs:
        return None
    text = str(raster.coords[name].attrs["GeoTransform"])
    try:
        transform = Affine.from_gdal(*(float(number) for number in text.split()))
    except (TypeError, ValueError) as error:
        raise SceneError(
            f"GeoTransform of {name} must be six numbers as GDAL orders them, got {text!r}. "
            "Set it with .rio.write_transform."
        ) from error
    _check_area(transform)
    return transform


def _check_area(transform: Affine) -> None:
    if transform.determinant == 0 or not np.isfinite(transform.determinant):
        raise SceneError(
            f"Pixels must have an area on the map, but the transform is {tuple(transform)[:6]}. "
            "Correct the georeference of the file."
        )


def _is_rotated(transform: Affine) -> bool:
    """Sheared or rotated by more than rounding: 1e-9 is 0.0001 pixels over 100 000."""
    aside, along = abs(transform.b) + abs(transform.d), abs(transform.a) + abs(transform.e)
    return aside > 1e-9 * along


def _first_edge(centres: NDArray[np.float64], dim: str, *, snap: bool) -> tuple[float, float]:
    """Edge before the first pixel, and step from pixel to pixel.

    With `snap`, in pixels of the stored grid: whole numbers hidden by rounding are restored.
    """
    count = len(centres)
    step = float(centres[-1] - centres[0]) / (count - 1) if count > 1 else 1.0
    even = centres[0] + step * np.arange(count)
    if not step or not np.abs(centres - even).max() <= 0.1 * abs(step):  # NaN is not either
        raise SceneError(
            f"Coordinate {dim} must rise or fall evenly from pixel to pixel, but does not. "
            "Resample the image to a regular grid, or drop the coordinate."
        )
    if snap and abs(step - round(step)) * count < 0.01:
        step = float(round(step))
    left = float(centres[0]) - step / 2
    if snap and abs(left - round(left)) < 1e-3:
        left = float(round(left))
    return left, step
