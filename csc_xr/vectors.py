"""Lines and polygons for GIS software: GeoPackage and GeoJSON, whole or not at all."""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS

from csc_xr.errors import LineError, ParameterError
from csc_xr.files import plain_values, replacing, scratch_folder, write_error
from csc_xr.fronts.extraction import Front
from csc_xr.legend import LegendClass
from csc_xr.record import software_versions
from csc_xr.vector_styles import (
    LayerStyle,
    box_style,
    class_style,
    front_style,
    line_style,
)

_DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}
_STYLES = "layer_styles"
_GEOMETRY = "geom"
# What software of 2022 reads without complaint (GDAL 3.6, QGIS 3.22).
_GEOPACKAGE_VERSION = "1.3"
_ALWAYS_MEASURED = ("length_m", "glacier_area_m2")
_LINEAR = {"LineString", "MultiLineString", "LinearRing"}
_POLYGONAL = {"Polygon", "MultiPolygon"}


def write_lines(
    lines: geopandas.GeoDataFrame,
    path: str | Path,
    *,
    layer: str = "fronts",
    style: LayerStyle | None = None,
    overwrite: bool = True,
) -> None:
    """Write lines, or polygons, with their attributes and a style as a GeoPackage or GeoJSON.

    Parameters
    ----------
    lines : geopandas.GeoDataFrame
        At least one row, in any CRS; a row without geometry stays a row. Text, whole numbers,
        floating point (NaN is written as empty), bool and dates (to the millisecond) keep their
        type; in a GeoJSON, text that is JSON becomes JSON.
    path : str or Path
        Ends in ``.gpkg`` or ``.geojson``. A GeoPackage holds its style; that of a GeoJSON is
        the file beside it that ends in ``.qml``. QGIS uses either on its own.
    layer : str
        Name of the layer.
    style : LayerStyle, optional
        How QGIS shows it. By default :func:`csc_xr.vector_styles.front_style` where
        there is an attribute ``outcome``, the colours of the classes where there are ``code``,
        ``name`` and ``colour``, and else plain lines or outlines.
    overwrite : bool
        False refuses a file that exists.

    Raises
    ------
    LineError
        When there is no row, no CRS, one that GeoJSON cannot name, or lines are mixed with
        polygons or points.
    OutputError
        When the file exists and may not be replaced, or cannot be written.
    ParameterError
        When the path ends in something else.

    Notes
    -----
    Coordinates are written in the CRS of the lines, in both formats. RFC 7946 (2016) knows
    longitude and latitude on WGS 84 only; the ``crs`` member that the GeoJSON has for any other
    CRS is that of GeoJSON 2008, by which GDAL, QGIS and geopandas place the lines. Web maps that
    hold to the RFC need ``lines.to_crs("OGC:CRS84")``.

    In a GeoPackage the styles are a table, ``layer_styles``, that GDAL counts as a layer: name
    the layer when reading it, ``geopandas.read_file(path, layer="fronts")``.
    """
    write_layers(
        {layer: lines}, path, styles={layer: style} if style else None, overwrite=overwrite
    )


def write_layers(
    layers: Mapping[str, geopandas.GeoDataFrame],
    path: str | Path,
    *,
    styles: Mapping[str, LayerStyle] | None = None,
    overwrite: bool = True,
) -> None:
    """Write several layers as one GeoPackage, or one as a GeoJSON.

    What was written is opened again, and the number of rows and the CRS are compared.

    Parameters
    ----------
    layers : mapping of str to geopandas.GeoDataFrame
        What :func:`write_lines` takes, by the name of the layer.
    path : str or Path
        Ends in ``.gpkg``, or in ``.geojson`` for a single layer.
    styles : mapping of str to LayerStyle, optional
        Styles by the name of the layer, in place of those :func:`write_lines` chooses.
    overwrite : bool
        False refuses a file that exists.

    Raises
    ------
    LineError
        When a layer has no row, no CRS, one that GeoJSON cannot name, or lines are mixed
        with polygons or points.
    OutputError
        When the file exists and may not be replaced, or cannot be written.
    ParameterError
        When the path ends in something else, there is no layer or more than a GeoJSON
        holds, or names are not usable.
    """
    target = Path(path)
    driver = _driver(target, layers)
    _check_names(layers, styles or {})
    for name, frame in layers.items():
        _check_frame(name, frame)
    chosen = {name: _own_style(name, frame) for name, frame in layers.items()} | dict(styles or {})
    with ExitStack() as stack:
        partial = stack.enter_context(replacing(target, overwrite=overwrite))
        if driver == "GeoJSON":
            beside = stack.enter_context(replacing(target.with_suffix(".qml")))
            beside.write_text(next(iter(chosen.values())).qml, encoding="utf-8")
        # GDAL wants a name that ends in .gpkg, and keeps a journal beside it.
        # pyogrio takes what follows ; in a name for something else.
        file = stack.enter_context(scratch_folder(target)) / f"lines{target.suffix}"
        stack.enter_context(_pyogrio_writing(target))
        for name, frame in layers.items():
            _write_layer(frame, file, name, driver)
        if driver == "GPKG":
            _write_styles(chosen, file)
        for name, frame in layers.items():
            _check_written(frame, file, name, target=target)
        file.replace(partial)


def front_frame(
    fronts: Sequence[Front],
    *,
    scenes: Sequence[str],
    dates: Sequence[np.datetime64 | datetime.date | str | None],
) -> geopandas.GeoDataFrame:
    """Put fronts into a table, a row each, also where none was found.

    Parameters
    ----------
    fronts : sequence of Front
        What :func:`csc_xr.fronts.extraction.extract_front` gave; all in one CRS.
    scenes : sequence of str
        Name of each scene.
    dates : sequence
        Date of each scene (ISO text will do), in UTC where it has no zone; None where unknown.

    Returns
    -------
    geopandas.GeoDataFrame
        ``scene``, ``date`` (datetime64, UTC), ``outcome``, ``reason``, ``length_m``,
        ``glacier_area_m2`` and what else the fronts measure (floating point, NaN where one does
        not), ``software`` and ``parameters`` (JSON text), and ``geometry`` (None where there
        is no line). Has the CRS of the fronts.

    Raises
    ------
    LineError
        When there is no front, or they are in more than one CRS.
    ParameterError
        When the lengths differ, or a date cannot be read.
    """
    if not fronts:
        raise LineError("A table of fronts needs one front at least, got none.")
    if not len(fronts) == len(scenes) == len(dates):
        raise ParameterError(
            "Each front needs a scene and a date (None where unknown), got "
            f"{len(fronts)} fronts, {len(scenes)} scenes and {len(dates)} dates."
        )
    crs = fronts[0].crs
    if any(front.crs != crs for front in fronts):
        raise LineError(
            "Fronts of one table must be in one CRS, got "
            f"{sorted({front.crs.name for front in fronts})}. Make a table for each."
        )
    measured = itertools.chain.from_iterable(front.measures for front in fronts)
    columns: dict[str, Any] = {
        "scene": [str(scene) for scene in scenes],
        "date": _moments(dates),
        "outcome": [front.outcome for front in fronts],
        "reason": [front.reason for front in fronts],
    }
    for name in dict.fromkeys([*_ALWAYS_MEASURED, *measured]):
        columns[name] = np.array([front.measures.get(name, np.nan) for front in fronts], float)
    columns["software"] = _json_text(software_versions())
    columns["parameters"] = [_json_text(front.settings) for front in fronts]
    lines = np.array([front.line for front in fronts], dtype=object)
    return geopandas.GeoDataFrame(columns, geometry=lines, crs=crs)


def _driver(target: Path, layers: Mapping[str, geopandas.GeoDataFrame]) -> str:
    driver = _DRIVERS.get(target.suffix.lower())
    if driver is None:
        raise ParameterError(
            f"Lines are written to a file that ends in {' or '.join(_DRIVERS)}, got "
            f"{target.name!r}. Choose one of these endings."
        )
    if "!" in str(target):
        raise ParameterError(
            f"Lines cannot be written to a path with '!', which means an archive to GDAL, got "
            f"{target}. Choose another name."
        )
    if not layers or (driver == "GeoJSON" and len(layers) > 1):
        raise ParameterError(
            f"{target.name} must get one layer{' or more' if driver == 'GPKG' else ''}, got "
            f"{len(layers)}. Write several layers to a .gpkg."
        )
    return driver


def _check_names(layers: Mapping[str, Any], styles: Mapping[str, LayerStyle]) -> None:
    # SQLite does not tell capitals from small letters.
    plain = [name.strip().lower() for name in layers]
    if len(set(plain)) < len(plain) or {"", _STYLES} & set(plain):
        raise ParameterError(
            "Layers need names of their own, capitals or not, other than "
            f"{_STYLES!r}, got {list(layers)}."
        )
    if not styles.keys() <= layers.keys():
        raise ParameterError(
            f"Styles must be for the layers {list(layers)}, got {list(styles)}. "
            "Name each style as its layer."
        )


def _check_frame(name: str, frame: geopandas.GeoDataFrame) -> None:
    if frame.empty:
        raise LineError(f"Layer {name!r} needs one row at least, got none. Leave it out.")
    if frame.crs is None:
        raise LineError(
            f"Layer {name!r} must have a CRS, got none. Set the one its coordinates are in with "
            "set_crs."
        )
    kinds = _kinds(frame)
    if not any(kinds <= family for family in ({"Point", "MultiPoint"}, _LINEAR, _POLYGONAL)):
        raise LineError(
            f"Layer {name!r} must be all lines or all polygons, got {', '.join(sorted(kinds))}. "
            "Write a layer of each."
        )


def _kinds(frame: geopandas.GeoDataFrame) -> set[str]:
    return set(frame.geom_type.dropna())


def _own_style(name: str, frame: geopandas.GeoDataFrame) -> LayerStyle:
    if _kinds(frame) & _POLYGONAL:
        if {"code", "name", "colour"} <= set(frame.columns):
            found = frame[["code", "name", "colour"]].drop_duplicates("code").sort_values("code")
            rows = found.itertuples(index=False)
            return class_style(LegendClass(int(row[0]), str(row[1]), str(row[2])) for row in rows)
        return box_style(name)
    return front_style() if "outcome" in frame else line_style(name)


@contextmanager
def _pyogrio_writing(target: Path) -> Iterator[None]:
    try:
        yield
    except (DataSourceError, DataLayerError) as error:
        raise write_error(target, error) from error


def _write_layer(frame: geopandas.GeoDataFrame, file: Path, name: str, driver: str) -> None:
    package = driver == "GPKG"
    pyogrio.write_dataframe(
        frame,
        file,
        layer=name,
        driver=driver,
        # Nothing but absent fronts: what kind of geometry is absent cannot be told from them.
        geometry_type=None if _kinds(frame) else "LineString",
        promote_to_multi=len(_kinds(frame)) > 1,
        dataset_options={"VERSION": _GEOPACKAGE_VERSION} if package else None,
        layer_options={"GEOMETRY_NAME": _GEOMETRY} if package else None,
    )


def _write_styles(styles: Mapping[str, LayerStyle], file: Path) -> None:
    """Fill the table in which QGIS looks for styles; it asks for empty text, not NULL."""
    table = pd.DataFrame(
        {
            "f_table_catalog": "",
            "f_table_schema": "",
            "f_table_name": list(styles),
            "f_geometry_column": _GEOMETRY,
            "styleName": [style.name for style in styles.values()],
            "styleQML": [style.qml for style in styles.values()],
            "styleSLD": "",
            "useAsDefault": True,
            "description": [style.description for style in styles.values()],
            "owner": "",
            "ui": "",
            "update_time": pd.Timestamp.now("UTC").tz_localize(None),
        }
    )
    pyogrio.write_dataframe(table, file, layer=_STYLES, driver="GPKG", layer_options={"FID": "id"})


def _check_written(frame: geopandas.GeoDataFrame, file: Path, name: str, *, target: Path) -> None:
    """Read the header back: GDAL leaves out a CRS that it has no way to write."""
    found = pyogrio.read_info(file, layer=name, force_feature_count=True)
    if found["features"] != len(frame):
        raise write_error(target, f"{found['features']} of {len(frame)} rows are read back")
    crs = found["crs"]
    if crs is None or CRS.from_user_input(crs) != CRS.from_user_input(frame.crs):
        raise LineError(
            f"Layer {name!r} must be in a CRS that the file can name, for GeoJSON one with an "
            f"EPSG code, got {frame.crs.name!r}. Write a .gpkg, or reproject with to_crs first."
        )


def _moments(dates: Sequence[Any]) -> pd.Series[Any]:
    """Dates as UTC without a zone."""
    try:
        found = [pd.NaT if date is None else pd.Timestamp(date) for date in dates]
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"A date must be a date, a time or ISO text such as 2017-08-21, got: {error}."
        ) from error
    return pd.to_datetime(pd.Series(found, dtype=object), utc=True).dt.tz_localize(None)


def _json_text(content: object) -> str:
    return json.dumps(plain_values(content), ensure_ascii=False)
