"""Labels drawn as polygons, onto the grid of their scene."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args

import dask
import dask.array as da
import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pyogrio.errors
import shapely
import xarray as xr
from affine import Affine
from dask.array.core import slices_from_chunks
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from csc_xr.blockwise import map_places
from csc_xr.errors import CscWarning, LabelError, ParameterError
from csc_xr.grid import is_georeferenced, scene_transform
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.scanlines import Floats, Rings, Scanlines, to_pixels
from csc_xr.scene import scene_like, valid_pixels

Overlaps = Literal["later", "smaller", "refuse"]

# QGIS shows an image without georeference below the x axis, a pixel being one unit.
_PIXELS = Affine(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
_CURVE = 0.01  # of a pixel: how far a reprojected edge may lie from where it should
_MOST_PIECES = 1024  # of an edge, each time it is cut
_ROUNDS = 3
_SHOWN = 10  # rows or values in a message


def rasterize_labels(
    polygons: geopandas.GeoDataFrame | str | Path,
    *,
    like: xr.DataArray,
    attribute: str,
    legend: ClassLegend,
    overlaps: Overlaps = "later",
    layer: str | None = None,
) -> xr.DataArray:
    """Turn polygons into labels on the grid of a scene.

    A pixel gets the class of the polygon that its centre lies in. Reads, checks and reprojects the
    polygons; the labels are lazy. With ``overlaps="refuse"`` all pixels are gone through once,
    chunk by chunk, to look for overlaps.

    Parameters
    ----------
    polygons : geopandas.GeoDataFrame, str or Path
        Polygons and multipolygons, or a GeoPackage, shapefile or GeoJSON of them, in any CRS.
        Those outside the scene do not matter.
    like : xarray.DataArray
        The scene, or any raster of dims (y, x) on its grid, such as the classes of a result.
    attribute : str
        The column that holds the classes: codes of the legend, or names, capitals or not. 0 or
        ``Unclassified`` takes the class away from what lies below.
    legend : ClassLegend
        The classes. Codes that results only display count as unlabelled.
    overlaps : {"later", "smaller", "refuse"}
        Which polygon has a pixel that several claim: that of the later row; that of the smaller
        area (in the CRS of the polygons), and of equal ones the later; or none, which is an error
        where their classes differ.
    layer : str, optional
        Which layer of a file with several.

    Returns
    -------
    xarray.DataArray
        As :func:`csc_xr.labels.open_labels` gives them: dims (y, x), uint8, Dask-backed, on the
        scene's grid and chunks, 0 where unlabelled; attributes of the legend and ``source``.
        Equal to ``rasterio.features.rasterize`` of the whole grid, whatever the chunks.

    Raises
    ------
    LabelError
        When the file cannot be read or has several layers; when there is no such attribute, or it
        holds something else than classes; when there are lines or points, no CRS, or no polygon on
        the scene; or when polygons overlap and may not.
    ParameterError
        When there is no such rule for overlaps.
    SceneError
        When `like` cannot be a scene.

    Warns
    -----
    CscWarning
        When polygons are mended or left out, or the scene has no CRS and the polygons have.

    Notes
    -----
    An edge is straight in the CRS of the polygons. In that of the scene it may be curved, so it is
    cut into as many pieces as keep each within 0.01 pixels of the curve.

    Where the scene has no georeference, coordinates are pixels as QGIS shows them: x to the right
    and y upwards from the upper left corner, so that y is negative all over the image.
    """
    if overlaps not in get_args(Overlaps):
        raise ParameterError(
            f"overlaps must be one of {', '.join(get_args(Overlaps))}, got {overlaps!r}."
        )
    scene = scene_like(like)
    given = isinstance(polygons, geopandas.GeoDataFrame)
    name = "the polygons" if given else str(polygons)
    frame = polygons if given else _read(Path(polygons), layer)
    drawn = _whole_polygons(_drawn(frame, attribute, name), name)
    if overlaps == "smaller":
        drawn = drawn.iloc[np.argsort(-shapely.area(drawn.geometry.to_numpy()), kind="stable")]
    codes = _codes(drawn["class"].tolist(), attribute, legend, name)
    rings, on_scene, transform = _placed(drawn.geometry, scene, name)
    scanlines = Scanlines.of(rings, codes[on_scene], transform)
    empty = da.zeros(scene.shape[1:], np.uint8, chunks=scene.data.chunks[1:])
    if overlaps == "refuse":
        _refuse_conflicts(scanlines, empty, drawn.index[on_scene], name)
    painted = map_places(_paint, empty, dtype=np.uint8, argument=scanlines)
    labels = valid_pixels(scene).copy(data=painted).rename("labels")
    return labels.assign_attrs(legend.flag_attributes(), source=name)


def _read(path: Path, layer: str | None) -> geopandas.GeoDataFrame:
    """Read a vector file; rows go by the number that the file has for them."""
    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        if layer is None and len(layers) != 1:
            raise LabelError(
                f"One layer must be chosen in {path}, which has {', '.join(layers) or 'none'}. "
                "Name it with layer= (--layer)."
            )
        if layer is not None and layer not in layers:
            raise LabelError(
                f"{path} must have the layer {layer!r} of polygons, but has "
                f"{', '.join(layers) or 'none'}. Choose one of its layers."
            )
        return pyogrio.read_dataframe(path, layer=layer or layers[0], fid_as_index=True)
    except pyogrio.errors.DataSourceError as error:
        raise LabelError(
            f"Polygons must be in a vector file (GeoPackage, shapefile, GeoJSON), but {path} "
            f"cannot be read as one: {error}. Check the path."
        ) from error


def _drawn(frame: geopandas.GeoDataFrame, attribute: str, name: str) -> geopandas.GeoDataFrame:
    """Classes and geometries alone."""
    others = [str(column) for column in frame.columns if column != frame.geometry.name]
    if attribute not in others:
        raise LabelError(
            f"Labels need an attribute {attribute!r} that holds their classes, but {name} has "
            f"{', '.join(others) or 'none'}. Choose one with attribute= (--attribute)."
        )
    shapes = frame.geometry.force_2d()
    return geopandas.GeoDataFrame({"class": frame[attribute]}, geometry=shapes.array)


def _whole_polygons(drawn: geopandas.GeoDataFrame, name: str) -> geopandas.GeoDataFrame:
    """Keep rows of valid polygons; others are mended or left out, which is said."""
    shapes = drawn.geometry
    empty = (shapes.isna() | shapes.is_empty).to_numpy()
    others = sorted(set(shapes[~empty].geom_type) - {"Polygon", "MultiPolygon"})
    if others:
        raise LabelError(
            f"Labels must be polygons, got {', '.join(others)} in {name}. Close the lines, or "
            "choose the layer that holds polygons."
        )
    broken = ~empty & ~shapes.is_valid.to_numpy()
    if broken.any():
        whole = shapes.to_numpy().copy()
        whole[broken] = shapely.make_valid(whole[broken], method="structure", keep_collapsed=False)
        drawn = drawn.set_geometry(geopandas.GeoSeries(whole, index=drawn.index, crs=drawn.crs))
        _warn(f"Rows {_listed(drawn.index[broken])} of {name} cross themselves and are mended.")
    gone = empty | ~(shapely.area(drawn.geometry.to_numpy()) > 0)
    if gone.any():
        _warn(f"Rows {_listed(drawn.index[gone])} of {name} have no area and are left out.")
    if gone.all():
        raise LabelError(
            f"Labels must have one polygon at least, got none in {name}. Check the file."
        )
    return drawn[~gone]


def _codes(values: list[Any], attribute: str, legend: ClassLegend, name: str) -> NDArray[np.uint8]:
    """Class of each row; for classes that results only display, none."""
    names = {_plain(entry.name): entry.code for entry in legend.classes}
    names[_plain(legend.class_name(NODATA_CODE))] = NODATA_CODE
    found = [_code(value, names) for value in values]
    pairs = zip(values, found, strict=True)
    strange = dict.fromkeys(str(value) for value, code in pairs if code not in names.values())
    if strange:
        classes = ", ".join(f"{entry.code} {entry.name}" for entry in legend.classes)
        raise LabelError(
            f"Attribute {attribute!r} must hold codes or names of the legend {legend.name!r}, "
            f"{classes}, got {_listed(strange)} in {name}. Correct them, or pass the legend they "
            "were drawn with."
        )
    codes = np.array(found, np.uint8)
    return np.where(np.isin(codes, legend.codes), codes, np.uint8(NODATA_CODE))


def _code(value: object, names: dict[str, int]) -> int | None:
    if isinstance(value, str):
        text = value.strip()
        return names.get(_plain(text), int(text) if text.isdecimal() else None)
    if isinstance(value, Integral | float) and not isinstance(value, bool) and value % 1 == 0:
        return int(value)
    return None


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().casefold()


def _placed(
    shapes: geopandas.GeoSeries, scene: xr.DataArray, name: str
) -> tuple[Rings, NDArray[np.bool_], Affine]:
    """Bring polygons to the CRS of the scene; which of them may lie on it; its transform."""
    transform = scene_transform(scene) if is_georeferenced(scene) else _PIXELS
    change = _change(shapes.crs, scene, name)
    rings = Rings.of(shapes.to_numpy())
    bend = _bend(rings, change, transform)
    there = _projected(rings.places, change)
    finite = np.isfinite(there).all(axis=1) & np.isfinite(bend)
    strange = np.zeros(len(shapes), bool)
    strange[rings.owner_of_corner[~finite]] = True
    if strange.any():
        _warn(
            f"Rows {_listed(shapes.index[strange])} of {name} reach beyond what the CRS of the "
            "scene can show and are left out."
        )
    pixels = to_pixels(there, transform)
    spare = np.maximum(bend, np.roll(bend, 1))[:, None]
    starts = np.searchsorted(rings.owner_of_corner, np.arange(len(shapes)))
    least = np.minimum.reduceat(pixels - spare, starts)
    most = np.maximum.reduceat(pixels + spare, starts)
    on_scene = ((least < scene.shape[:0:-1]) & (most > 0)).all(axis=1) & ~strange
    if not on_scene.any():
        raise LabelError(
            f"Polygons must lie on the scene, {_extent(_corners(scene, transform))}, but none of "
            f"{name} does, {_extent(there[finite])}. Pass those of this scene, and check their CRS."
        )
    rings, bend = rings.only(on_scene), bend[on_scene[rings.owner_of_corner]]
    for _ in range(_ROUNDS):
        if not bend.max() > _CURVE:
            break
        rings = rings.cut(np.ceil(np.sqrt(bend / _CURVE)).clip(1, _MOST_PIECES).astype(int))
        bend = _bend(rings, change, transform)
    places = _projected(rings.places, change)
    return Rings(places, rings.starts, rings.owners), on_scene, transform


def _change(crs: CRS | None, scene: xr.DataArray, name: str) -> Transformer | None:
    """How to bring polygons to the CRS of the scene; None where they are in it."""
    own = None if scene.rio.crs is None else CRS.from_user_input(scene.rio.crs)
    if own is None or own.is_engineering:
        if crs is not None and not crs.is_engineering:
            what = "in the same system" if is_georeferenced(scene) else "pixels"
            _warn(
                f"The scene has no CRS, so the coordinates of {name} are taken to be {what}.",
                depth=5,
            )
        return None
    if crs is None:
        raise LabelError(
            f"Polygons need a place on the map, but {name} has no CRS. "
            "Save them with the CRS they were drawn in."
        )
    if own.equals(crs, ignore_axis_order=True):
        return None
    return Transformer.from_crs(crs, own, always_xy=True)


def _projected(places: Floats, change: Transformer | None) -> Floats:
    if change is None:
        return places
    found = np.column_stack(change.transform(*places.T))
    return np.where(np.isfinite(found), found, np.nan)  # infinity makes NumPy warn


def _bend(rings: Rings, change: Transformer | None, transform: Affine) -> Floats:
    """How far, in pixels, the edge after each corner would lie beside its curve if straight."""
    bend = np.zeros(len(rings.places))
    if change is None:
        return bend
    corners = to_pixels(_projected(rings.places, change), transform)
    starts = rings.edges
    for share in (0.25, 0.5, 0.75):
        between, straight = (
            places[starts] + share * (places[starts + 1] - places[starts])
            for places in (rings.places, corners)
        )
        curved = to_pixels(_projected(between, change), transform)
        bend[starts] = np.maximum(bend[starts], np.hypot(*(curved - straight).T))
    return bend


def _corners(scene: xr.DataArray, transform: Affine) -> Floats:
    height, width = scene.shape[1:]
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)], float)
    placed: Floats = corners @ np.array(transform).reshape(3, 3)[:2].T
    return placed


def _extent(places: Floats) -> str:
    if not len(places):
        return "nowhere"
    (left, low), (right, high) = places.min(axis=0), places.max(axis=0)
    return f"x {left:.10g} to {right:.10g}, y {low:.10g} to {high:.10g}"


def _paint(
    _: NDArray[np.uint8], rows: slice, columns: slice, scanlines: Scanlines
) -> NDArray[np.uint8]:
    return scanlines.paint(rows, columns)


def _refuse_conflicts(
    scanlines: Scanlines, empty: da.Array, rows: pd.Index[Any], name: str
) -> None:
    whole = dask.delayed(scanlines)
    tasks = [
        dask.delayed(Scanlines.conflicts)(whole, *part)
        for part in slices_from_chunks(empty.chunks)
        if len(scanlines.within(*part)) > 1
    ]
    pairs = sorted(set().union(*dask.compute(*tasks)))
    if pairs:
        found = _listed(f"{rows[one]} and {rows[other]}" for one, other in pairs)
        raise LabelError(
            "Polygons of different classes must not overlap (overlaps='refuse'), but rows "
            f"{found} of {name} do. Correct them, or pass overlaps='later' or 'smaller'."
        )


def _listed(things: Iterable[Any]) -> str:
    every = [str(thing) for thing in things]
    return ", ".join(every[:_SHOWN]) + ", ..." * (len(every) > _SHOWN)


def _warn(message: str, depth: int = 4) -> None:
    warnings.warn(message, CscWarning, stacklevel=depth)  # at the call of rasterize_labels
