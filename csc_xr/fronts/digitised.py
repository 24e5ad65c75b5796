"""Digitised lines: fronts and margins that a person drew, as rasters or as vectors."""

from __future__ import annotations

from pathlib import Path

import dask
import dask.array as da
import geopandas
import numpy as np
import pyogrio
import pyogrio.errors
import shapely
import xarray as xr
from affine import Affine
from numpy.typing import NDArray

from csc_xr.errors import LabelError, LineError, SceneError
from csc_xr.grid import place, same_grid, scene_transform
from csc_xr.labels import find_beside
from csc_xr.scene import open_scene, valid_pixels, validate_scene

_RASTERS = (".tif", ".tiff")
_VECTORS = (".gpkg", ".geojson", ".json", ".shp", ".fgb")
_LINES = {"LineString", "LinearRing", "MultiLineString", "MultiPoint", "Point"}


def find_edge(image_path: str | Path) -> Path | None:
    """Find the digitised calving front that belongs to an image, by its name.

    Parameters
    ----------
    image_path : str or Path
        The image; it need not exist.

    Returns
    -------
    Path or None
        ``EDGE_<name>.tif`` in the same folder, or the same with the ending ``.tiff``, ``.gpkg``,
        ``.geojson``, ``.json``, ``.shp`` or ``.fgb``, in this order; else the same without the
        underscores of the name; None when there is no such file.
    """
    return find_beside(image_path, "EDGE", (*_RASTERS, *_VECTORS))


def find_margin(image_path: str | Path) -> Path | None:
    """Find the digitised valley margin that belongs to an image, by its name.

    Parameters
    ----------
    image_path : str or Path
        The image; it need not exist.

    Returns
    -------
    Path or None
        ``VM_<name>.tif`` in the same folder, else as for :func:`find_edge`.
    """
    return find_beside(image_path, "VM", (*_RASTERS, *_VECTORS))


def open_digitised(
    path: str | Path, *, like: xr.DataArray | None = None, layer: str | None = None
) -> geopandas.GeoSeries:
    """Open a line that a person digitised.

    Computes: reads the file. Of a raster it holds one chunk at a time, and the pixels of the line.

    Parameters
    ----------
    path : str or Path
        A raster file of one band, with one number on the line (by convention 1) and 0 or no data
        elsewhere; or a GeoPackage, GeoJSON, shapefile or FlatGeobuf of lines or points.
    like : xarray.DataArray, optional
        Raster with dims y and x, such as the image the line was drawn on. A raster file must lie
        on its grid; one without georeference takes its place. A vector file may lie anywhere.
    layer : str, optional
        Which layer of a vector file with several.

    Returns
    -------
    geopandas.GeoSeries
        For a raster, one Point at the centre of every pixel of the line, row by row; for a vector
        file, its geometries in two dimensions, the empty ones left out. ``crs`` is that of the
        file, or of `like`.

    Raises
    ------
    LabelError
        When a raster cannot be read, has no pixel on the line or more than a line's, has no CRS,
        or lies on another grid than `like`.
    LineError
        When a vector file cannot be read, has several layers, no CRS, no geometry, or others than
        lines and points.
    """
    source = Path(path)
    if source.suffix.lower() in _VECTORS:
        return _open_vector(source, layer)
    try:
        raster = open_scene(source)
        points = digitised_points(raster if like is None else _on_grid(raster, like, source))
    except SceneError as error:
        raise LabelError(f"A digitised line cannot be read. {error}") from error
    if points.empty:
        raise LabelError(
            f"A digitised line must have at least one pixel, got none in {source}. "
            "Draw it with 1 on the line, or leave the image out."
        )
    if points.crs is None:
        raise LabelError(
            f"A digitised line needs a place on the map, but {source} has no CRS. Pass like=, the "
            "image it was drawn on; to an image without a CRS, give a pixel size in metres first."
        )
    return points


def digitised_points(raster: xr.DataArray) -> geopandas.GeoSeries:
    """Give the pixels of a line as points.

    Computes: one chunk at a time, so memory grows with the pixels of the line only.

    Parameters
    ----------
    raster : xarray.DataArray
        Dims (y, x), or also band of length 1; any dtype, one number on the line and 0 elsewhere.
        Pixels without data are not on the line.

    Returns
    -------
    geopandas.GeoSeries
        A Point at the centre of every pixel of the line, row by row, with the raster's ``crs``,
        None if it has none. Empty when no pixel is on the line.

    Raises
    ------
    LabelError
        When there are several bands, more than one number beside 0, or most pixels are on the line.
    SceneError
        When the array cannot be a raster.
    """
    raster = validate_scene(raster if "band" in raster.dims else raster.expand_dims("band"))
    name = raster.attrs.get("source", "the raster")
    if raster.sizes["band"] != 1:
        raise LabelError(
            f"A digitised line must be one band, got {raster.sizes['band']} in {name}. "
            "Save the line alone, or take one band (open_scene with bands=, digitised_points)."
        )
    rows, columns, numbers = _line_pixels(raster)
    if len(numbers) > 1:
        raise LabelError(
            f"A digitised line must have one number on the line and 0 elsewhere, got "
            f"{', '.join(f'{number:g}' for number in numbers[:5])} in {name}. "
            "Set the line to 1 and all else to 0, without smoothing or lossy compression."
        )
    if len(rows) > raster.data[0].size / 2:
        raise LabelError(
            f"A digitised line must leave most pixels 0, but {len(rows)} of {raster.data[0].size} "
            f"are not in {name}. Set the line to 1 and all else to 0."
        )
    to_map = scene_transform(raster)
    across, down = columns + 0.5, rows + 0.5
    x = to_map.a * across + to_map.b * down + to_map.c
    y = to_map.d * across + to_map.e * down + to_map.f
    return geopandas.GeoSeries(shapely.points(x, y), crs=raster.rio.crs)


def check_lines(lines: geopandas.GeoSeries, name: str) -> geopandas.GeoSeries:
    """Make sure that geometries are lines or points.

    Parameters
    ----------
    lines : geopandas.GeoSeries
        Any geometries.
    name : str
        What to call them in a message.

    Returns
    -------
    geopandas.GeoSeries
        Those that are not empty.

    Raises
    ------
    LineError
        When there is another geometry, such as a polygon.
    """
    lines = lines[~(lines.is_empty | lines.isna())]
    others = sorted(set(lines.geom_type) - _LINES)
    if others:
        raise LineError(
            f"A line must be a LineString, a MultiLineString or points, got {', '.join(others)} in "
            f"{name}. Of a polygon take the boundary (.boundary), and of that the part meant."
        )
    return lines


def _open_vector(source: Path, layer: str | None) -> geopandas.GeoSeries:
    try:
        layers = [name for name, kind in pyogrio.list_layers(source) if kind is not None]
        if layer is None and len(layers) > 1:
            raise LineError(
                f"One layer must be chosen in {source}, which has {', '.join(layers)}. "
                "Name it with layer= (--layer), or save it alone."
            )
        if layer is not None and layer not in layers:
            raise LineError(
                f"{source} must have the layer {layer!r} of geometries, but has "
                f"{', '.join(layers) or 'none'}. Choose one of its layers."
            )
        table = pyogrio.read_dataframe(source, layer=layer or (layers or [None])[0], columns=[])
    except pyogrio.errors.DataSourceError as error:
        raise LineError(
            f"A vector file must be readable, but {source} is not: {error}. Check the path."
        ) from error
    lines = check_lines(geopandas.GeoSeries(table.get("geometry", [])), str(source))
    if lines.empty:
        raise LineError(
            f"A digitised line must have at least one geometry, got none in {source}. "
            "Check the file and its layer."
        )
    if lines.crs is None:
        raise LineError(
            f"A digitised line needs a place on the map, but {source} has no CRS. "
            "Save it with the CRS it was drawn in."
        )
    return lines.force_2d().reset_index(drop=True)


def _on_grid(raster: xr.DataArray, like: xr.DataArray, source: Path) -> xr.DataArray:
    """Give a raster without a CRS that of another, and make sure that both lie on one grid."""
    if (
        raster.rio.crs is None
        and raster.sizes["y"] == like.sizes["y"]
        and raster.sizes["x"] == like.sizes["x"]
    ):
        own = scene_transform(raster)
        known = own != Affine.identity()
        raster = place(raster, own if known else scene_transform(like), like.rio.crs)
    if not same_grid(raster, like):
        raise LabelError(
            f"A digitised raster must lie on the grid of its image, {_grid(like)}, but {source} is "
            f"{_grid(raster)}. Warp it there by nearest neighbour, or draw the line as a vector."
        )
    return raster


def _grid(raster: xr.DataArray) -> str:
    crs = raster.rio.crs
    return (
        f"{raster.sizes['y']} x {raster.sizes['x']} pixels with the transform "
        f"{tuple(scene_transform(raster))[:6]} {'without CRS' if crs is None else f'in {crs}'}"
    )


def _line_pixels(
    raster: xr.DataArray,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.generic]]:
    """Rows and columns of all pixels that are not 0, row by row, and the numbers they hold."""
    values = da.where(valid_pixels(raster).data, raster.data[0], raster.dtype.type(0))
    starts = [np.cumsum([0, *lengths[:-1]]) for lengths in values.chunks]
    tasks = [
        dask.delayed(_block_pixels)(block, starts[0][i], starts[1][j])
        for (i, j), block in np.ndenumerate(values.to_delayed())
    ]
    rows, columns, numbers = (
        np.concatenate(parts) for parts in zip(*dask.compute(*tasks), strict=True)
    )
    order = np.lexsort((columns, rows))
    return rows[order], columns[order], np.unique(numbers)


def _block_pixels(
    block: NDArray[np.generic], top: int, left: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.generic]]:
    rows, columns = np.nonzero(block)
    return rows + top, columns + left, np.unique(block[rows, columns])[:10]
