"""Validation points: pixels drawn at random in each class of a map, for somebody to label."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError

from csc_xr.accuracy.confusion import count_classes
from csc_xr.draws import draw_positions
from csc_xr.errors import LabelError, ParameterError
from csc_xr.grid import scene_transform
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.priorities import check_seed, pixel_priority

POINT_FILES = (".csv", ".gpkg", ".geojson", ".json", ".shp", ".fgb")
"""Endings of files that hold points."""

# Other numbers than 0, with which phase two draws what it learns from: points must not be those.
_DRAWN, _ORDER = 1, 2


def draw_validation_points(
    classes: xr.DataArray,
    *,
    legend: ClassLegend,
    per_class: int | None = None,
    total: int | None = None,
    least: int = 50,
    seed: int = 0,
) -> geopandas.GeoDataFrame:
    """Draw pixels at random in each class of a map, for somebody to label.

    Every pixel of a class has the same chance, so the labels are a probability sample, stratified
    by map class, and :func:`csc_xr.accuracy.areas.estimate_areas` gives areas and accuracies
    with intervals that hold. Label every point, without looking at its map class.

    Computes: reads the map twice, chunk by chunk. Place and seed alone decide which pixels are
    drawn, not the chunks; drawing more of a class with the same seed keeps those drawn before.

    Parameters
    ----------
    classes : xarray.DataArray
        The map, dims (y, x), any integer dtype; 0 is never drawn.
    legend : ClassLegend
        Has every code of the map.
    per_class : int, optional
        Points in each class, or all pixels of a class that has fewer. Give either this or `total`.
    total : int, optional
        Points in all: `least` in each class, and the others in proportion to the classes' pixels.
    least : int
        See `total`.
    seed : int
        Another seed draws other pixels.

    Returns
    -------
    geopandas.GeoDataFrame
        A row for each point, in random order, with its pixel's ``row`` and ``column``, ``x`` and
        ``y`` of the pixel's centre, ``map_code`` and ``map_class``, an empty text ``label`` to
        fill, and the centre as ``geometry``; in the map's CRS, where it has one.

    Raises
    ------
    ParameterError
        When not one of `per_class` and `total` is given, numbers are too small, or the map has no
        class, is not two-dimensional, or holds codes that the legend does not have.
    """
    pixels = count_classes(classes, legend=legend).sel(code=[c.code for c in legend.classes])
    counts = {int(code): int(n) for code, n in zip(pixels["code"], pixels.values, strict=True) if n}
    if not counts:
        raise ParameterError(
            "Points are drawn in the classes of a map, got a map without any. Check the raster."
        )
    sizes = _allocate(counts, per_class=per_class, total=total, least=least)
    drawn = draw_positions(
        (classes if classes.chunks is not None else classes.chunk()).transpose("y", "x"),
        per_class=max(sizes.values()),
        seed=check_seed(seed),
        stream=_DRAWN,
    )
    drawn = np.concatenate([drawn[drawn["code"] == code][:n] for code, n in sizes.items()])
    drawn = drawn[np.argsort(pixel_priority(drawn["row"], drawn["column"], seed, _ORDER))]
    return _table(drawn, classes, legend)


def classes_at_points(points: pd.DataFrame, classes: xr.DataArray) -> NDArray[np.integer]:
    """Look up the class of a map at points.

    Computes: the chunks that points lie in.

    Parameters
    ----------
    points : pandas.DataFrame or geopandas.GeoDataFrame
        Points as geometry, or as the columns ``x`` and ``y`` in the map's CRS, or as ``row`` and
        ``column``; the first of these that there is.
    classes : xarray.DataArray
        The map, dims (y, x).

    Returns
    -------
    numpy.ndarray
        The class of each point, (point,), in the map's dtype.

    Raises
    ------
    LabelError
        When there are no places, not all of them are points or numbers, they lie outside the map,
        or only one of points and map has a CRS.
    """
    rows, columns = _pixels(points, classes)
    outside = (rows < 0) | (rows >= classes.sizes["y"])
    outside |= (columns < 0) | (columns >= classes.sizes["x"])
    if outside.any():
        raise LabelError(
            f"Points must lie on the class raster, {classes.sizes['y']} rows and "
            f"{classes.sizes['x']} columns, but {outside.sum()} of {len(points)} do not, the first "
            f"in row {rows[outside][0]}, column {columns[outside][0]}. Pass the points of this "
            "map, in a CRS they are named with."
        )
    places = {"y": xr.DataArray(rows, dims="point"), "x": xr.DataArray(columns, dims="point")}
    return np.asarray(classes.isel(places).values)


def drawn_from(points: pd.DataFrame, classes: xr.DataArray) -> bool:
    """Tell whether points can have been drawn within the classes of a map.

    Computes: the chunks that points lie in.

    Parameters
    ----------
    points : pandas.DataFrame or geopandas.GeoDataFrame
        As :func:`classes_at_points` takes them.
    classes : xarray.DataArray
        The map, dims (y, x).

    Returns
    -------
    bool
        False when the column ``map_code`` says otherwise than the map at any point. True without
        such a column, as of points that were drawn from no map.

    Raises
    ------
    LabelError
        As :func:`classes_at_points` does.
    """
    if "map_code" not in points:
        return True
    return bool((classes_at_points(points, classes) == points["map_code"].to_numpy()).all())


def point_labels(
    points: pd.DataFrame, *, legend: ClassLegend, column: str = "label"
) -> NDArray[np.uint8]:
    """Read the labels that somebody gave to points.

    Parameters
    ----------
    points : pandas.DataFrame
        A row for each point.
    legend : ClassLegend
        The classes.
    column : str
        Column of the labels: codes, or names of classes, whatever their case. An empty cell or 0
        is no label.

    Returns
    -------
    numpy.ndarray
        Codes, (point,), uint8; 0 where there is no label.

    Raises
    ------
    LabelError
        When there is no such column, or it holds anything but classes that a map can have.
    """
    if column not in points:
        raise LabelError(
            f"Points need a column {column!r} of labels, got {', '.join(map(str, points))}. "
            "Name the column that holds them."
        )
    known = {name.casefold(): code for name, code in zip(legend.names, legend.codes, strict=True)}
    known |= {str(code): code for code in (NODATA_CODE, *legend.codes)}
    known[""] = NODATA_CODE
    found = [known.get(_plain(value)) for value in points[column]]
    foreign = [str(v) for v, code in zip(points[column], found, strict=True) if code is None]
    if foreign:
        classes = [f"{c} {name}" for c, name in zip(legend.codes, legend.names, strict=True)]
        raise LabelError(
            f"Labels of points must be codes or names of classes, {', '.join(classes)}, got "
            f"{', '.join(map(repr, dict.fromkeys(foreign)))[:80]}. Correct them in the "
            f"column {column!r}."
        )
    return np.array(found, dtype=np.uint8)


def open_points(path: str | Path) -> pd.DataFrame:
    """Open a file of points.

    Parameters
    ----------
    path : str or Path
        A CSV with commas or semicolons, or a GeoPackage, GeoJSON, shapefile or FlatGeobuf with one
        layer of points.

    Returns
    -------
    pandas.DataFrame or geopandas.GeoDataFrame
        A row for each point, with all columns of the file.

    Raises
    ------
    LabelError
        When the file cannot be read, or has no points or several layers.
    """
    source = Path(path)
    try:
        found = _open_csv(source) if source.suffix.lower() == ".csv" else _open_vector(source)
    except LabelError:
        raise
    except (OSError, ValueError, DataSourceError, DataLayerError) as error:
        raise LabelError(
            f"Points must be a readable file, but {source} is not: {error}. Check the path."
        ) from error
    if found.empty:
        raise LabelError(f"Points to score by must be one at least, got none in {source}.")
    return found


def _allocate(
    counts: dict[int, int], *, per_class: int | None, total: int | None, least: int
) -> dict[int, int]:
    """Points of each class."""
    if (per_class is None) == (total is None):
        raise ParameterError(
            f"Give either per_class or total, got per_class={per_class} and total={total}."
        )
    every = least if per_class is None else per_class
    if every < 1:
        name = "least" if per_class is None else "per_class"
        raise ParameterError(f"{name} must be 1 or more, got {every}.")
    pixels = np.array(list(counts.values()))
    sizes = np.minimum(pixels, every)
    if total is not None:
        if not sizes.sum() <= total <= pixels.sum():
            raise ParameterError(
                f"total must lie between {sizes.sum()} ({least} in each of {len(counts)} classes, "
                f"or all its pixels) and {pixels.sum()} (all pixels), got {total}. Choose another "
                "total, or lower least."
            )
        sizes = sizes + _shared(total - int(sizes.sum()), pixels - sizes)
    return dict(zip(counts, sizes.tolist(), strict=True))


def _shared(number: int, free: NDArray[np.int64]) -> NDArray[np.int64]:
    """Share a number out in proportion; what is left of rounding goes to the largest remainders."""
    exact = number * free / max(int(free.sum()), 1)
    shares = np.floor(exact).astype(np.int64)
    order = np.argsort(shares - exact, kind="stable")
    shares[order[: number - int(shares.sum())]] += 1
    return shares


def _table(
    drawn: NDArray[np.void], classes: xr.DataArray, legend: ClassLegend
) -> geopandas.GeoDataFrame:
    x, y = _moved(scene_transform(classes), drawn["column"] + 0.5, drawn["row"] + 0.5)
    columns = {
        "row": drawn["row"],
        "column": drawn["column"],
        "x": x,
        "y": y,
        "map_code": drawn["code"].astype(np.int64),
        "map_class": [legend.class_name(int(code)) for code in drawn["code"]],
        "label": "",
    }
    where = geopandas.points_from_xy(x, y)
    return geopandas.GeoDataFrame(columns, geometry=where, crs=classes.rio.crs)


def _pixels(
    points: pd.DataFrame, classes: xr.DataArray
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of points."""
    if isinstance(points, geopandas.GeoDataFrame):
        x, y = _coordinates(points.geometry, classes)
    elif {"x", "y"} <= set(points):
        x, y = _numbers(points, "x"), _numbers(points, "y")
    elif {"row", "column"} <= set(points):
        return _numbers(points, "row").astype(np.int64), _numbers(points, "column").astype(np.int64)
    else:
        raise LabelError(
            "Points need geometry, or the columns x and y, or row and column, got "
            f"{', '.join(map(str, points))}. Name the columns so."
        )
    column, row = _moved(~scene_transform(classes), x, y)
    return np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)


def _moved(
    affine: Affine, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def _coordinates(
    places: geopandas.GeoSeries, classes: xr.DataArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kinds = sorted(set(places.geom_type.fillna("nothing").where(~places.is_empty, "nothing")))
    if kinds != ["Point"]:
        raise LabelError(
            f"Points must be single points, got {', '.join(kinds)}. Remove empty rows, and split "
            "what has several parts."
        )
    if (places.crs is None) != (classes.rio.crs is None):
        lacking = "the class raster has none" if places.crs is not None else "they have none"
        raise LabelError(
            f"Points and class raster must both have a CRS or none, but {lacking}. Give the points "
            "as row and column in a CSV, or georeference what lacks it."
        )
    on_map = places if places.crs is None else places.to_crs(classes.rio.crs)
    return on_map.x.to_numpy(), on_map.y.to_numpy()


def _numbers(points: pd.DataFrame, name: str) -> NDArray[np.float64]:
    found = pd.to_numeric(points[name], errors="coerce").to_numpy(np.float64)
    if not np.isfinite(found).all():
        first = points[name][~np.isfinite(found)].iloc[0]
        raise LabelError(
            f"The column {name!r} of points must hold a number in every row, got {first!r}. "
            "Fill or remove such rows."
        )
    return found


def _plain(value: object) -> str:
    """Give a label as text, whole numbers without a point, whatever type the column has."""
    if value is None or value is pd.NA or value != value:
        return ""
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return text.casefold()
    return str(int(number)) if number.is_integer() else text


def _open_csv(source: Path) -> pd.DataFrame:
    with source.open(encoding="utf-8-sig") as stream:
        header = stream.readline()
    separator = ";" if header.count(";") > header.count(",") else ","
    return pd.read_csv(source, sep=separator, encoding="utf-8-sig")


def _open_vector(source: Path) -> geopandas.GeoDataFrame:
    layers = [name for name, kind in pyogrio.list_layers(source) if kind is not None]
    if len(layers) != 1:
        raise LabelError(
            "A file of points must have one layer with geometry, got "
            f"{', '.join(layers) or 'none'} in {source}. Save the points alone."
        )
    return pyogrio.read_dataframe(source, layer=layers[0])
