"""Class rasters as polygons."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dask
import geopandas
import numpy as np
import rasterio.features
import shapely
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS

from csc_xr.blockwise import map_stores
from csc_xr.errors import ParameterError
from csc_xr.files import scratch_folder
from csc_xr.grid import scene_transform
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.metres import to_metres

_POLYGONS_AT_ONCE = 20_000


def class_polygons(
    pixel_class: xr.DataArray,
    legend: ClassLegend,
    *,
    min_area_m2: float = 0.0,
    scratch: str | Path | None = None,
) -> geopandas.GeoDataFrame:
    """Turn a class raster into polygons: one for each piece of a class; computes it.

    Pixels that share a side are one piece. Memory goes with the pieces (those that are too small
    included), not with the raster, which is computed chunk by chunk into a scratch file.

    Parameters
    ----------
    pixel_class : xarray.DataArray
        Dims ("y", "x"), uint8, 0 where there is no class, which gives no polygon. Any
        transform; any projected or geographic CRS, or local coordinates in metres.
    legend : ClassLegend
        Has every code of the raster.
    min_area_m2 : float
        Smaller polygons are left out, and leave a gap.
    scratch : str or Path, optional
        Folder for the scratch file, a byte a pixel; by default that of the system. On a
        cluster, one that all its machines see.

    Returns
    -------
    geopandas.GeoDataFrame
        ``code``, ``name``, ``colour`` (``#rrggbb``), ``area_m2`` (true square metres, whatever
        the CRS) and ``geometry`` (Polygon along the sides of the pixels), in the CRS of the raster.

    Raises
    ------
    LineError
        When the raster has no CRS, or one without metres.
    OutputError
        When the scratch file cannot be written.
    ParameterError
        When the raster is not uint8 on (y, x), holds codes that the legend does not have, or
        the area is negative.

    Notes
    -----
    A raster of 10980 x 10980 pixels in 289 000 pieces, with 12 million corners between them, took
    1.3 GB at most.
    """
    _check(pixel_class, min_area_m2)
    transform, found = scene_transform(pixel_class), pixel_class.rio.crs
    crs = None if found is None else CRS.from_user_input(found)
    size = pixel_class.sizes
    corners = _placed([(0, 0), (size["x"], 0), (size["x"], size["y"]), (0, size["y"])], transform)
    scene = geopandas.GeoSeries([shapely.Polygon(corners)], crs=crs)
    to_metres(scene)  # refuses a raster without metres before long work
    codes, polygons, areas = [np.empty(0, np.uint8)], [np.empty(0, object)], [np.empty(0)]
    with _whole(pixel_class, scratch) as values:
        for some_codes, pieces in _pieces(values, transform):
            _check_codes(some_codes, legend)
            on_ground = to_metres(geopandas.GeoSeries(pieces, crs=crs), around=scene)
            area = on_ground.area.to_numpy()
            large = area >= min_area_m2
            codes.append(some_codes[large])
            polygons.append(pieces[large])
            areas.append(area[large])
    code = np.concatenate(codes)
    known = {entry.code: entry for entry in legend.classes}
    columns = {
        "code": code.astype(np.int32),
        "name": np.array([known[number].name for number in code.tolist()], dtype=object),
        "colour": np.array([known[number].colour for number in code.tolist()], dtype=object),
        "area_m2": np.concatenate(areas),
    }
    return geopandas.GeoDataFrame(columns, geometry=np.concatenate(polygons), crs=crs)


def _check(pixel_class: xr.DataArray, min_area_m2: float) -> None:
    if pixel_class.dims != ("y", "x") or pixel_class.dtype != np.uint8:
        raise ParameterError(
            "A class raster must be uint8 with the dims y and x, got "
            f"{pixel_class.dtype} with {pixel_class.dims}."
        )
    if not min_area_m2 >= 0:
        raise ParameterError(f"min_area_m2 must be 0 or more, got {min_area_m2!r}.")


@contextmanager
def _whole(pixel_class: xr.DataArray, scratch: str | Path | None) -> Iterator[NDArray[np.uint8]]:
    """Lend all pixels as one array, of a file where they are lazy, each chunk computed once."""
    if pixel_class.chunks is None:
        yield np.ascontiguousarray(pixel_class.values)
        return
    with scratch_folder(Path(scratch or tempfile.gettempdir()) / "class_polygons") as folder:
        file = folder / "codes"
        with file.open("wb") as stream:
            stream.truncate(pixel_class.size)
        argument = (file, pixel_class.sizes["x"])
        tasks = map_stores(_keep_rows, [pixel_class.data], argument=argument)
        dask.compute(*tasks.ravel())
        yield np.memmap(file, dtype=np.uint8, mode="r+", shape=pixel_class.shape)


def _keep_rows(
    blocks: Sequence[NDArray[np.uint8]], rows: slice, columns: slice, argument: tuple[Path, int]
) -> None:
    """Write a chunk to its place; not through a map of the file, which dies on a full disk."""
    file, width = argument
    with file.open("rb+", buffering=0) as stream:
        for row, values in zip(range(rows.start, rows.stop), blocks[0], strict=True):
            stream.seek(row * width + columns.start)
            stream.write(values.tobytes())


def _pieces(
    values: NDArray[np.uint8], transform: Affine
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.object_]]]:
    """Codes and polygons of the pieces, some thousands at a time."""
    shapes = rasterio.features.shapes(values, connectivity=4)
    found = ((shape["coordinates"], code) for shape, code in shapes if code != NODATA_CODE)
    while batch := list(itertools.islice(found, _POLYGONS_AT_ONCE)):
        polygons, codes = zip(*batch, strict=True)
        rings = list(itertools.chain.from_iterable(polygons))
        corners = _placed(list(itertools.chain.from_iterable(rings)), transform)
        offsets = (np.cumsum([0, *map(len, rings)]), np.cumsum([0, *map(len, polygons)]))
        kind = shapely.GeometryType.POLYGON
        yield np.array(codes, np.uint8), shapely.from_ragged_array(kind, corners, offsets)


def _placed(corners: Sequence[tuple[float, float]], transform: Affine) -> NDArray[np.float64]:
    """Bring corners of pixels (column, row) to the map."""
    a, b, c, d, e, f = transform[:6]
    column, row = np.array(corners, np.float64).T
    return np.column_stack([a * column + b * row + c, d * column + e * row + f])


def _check_codes(codes: NDArray[np.uint8], legend: ClassLegend) -> None:
    known = [entry.code for entry in legend.classes]
    foreign = sorted(set(codes.tolist()) - set(known))
    if foreign:
        raise ParameterError(
            f"A class raster must hold 0 or codes of the legend {legend.name!r}, {known}, got "
            f"{foreign} too. Pass the legend it was made with."
        )
