"""Fronts of class rasters that exist already: one by one, or as a series through time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pyogrio
import pyogrio.errors
import xarray as xr

from csc_xr.dates import date_in_name
from csc_xr.errors import CscWarning, LineError, ParameterError
from csc_xr.export import open_classes, write_table_csv
from csc_xr.figures.fronts import overlay_figure, series_figure
from csc_xr.files import check_output_folder, check_target, read_json
from csc_xr.fronts.extraction import Front, extract_front
from csc_xr.fronts.margins import extract_margins
from csc_xr.fronts.series import FrontSeries, front_series
from csc_xr.fronts.settings import FrontSettings, check_classes, class_codes, in_pixels
from csc_xr.grid import is_georeferenced, same_grid
from csc_xr.legend import ClassLegend
from csc_xr.metres import with_pixel_size
from csc_xr.polygons import class_polygons
from csc_xr.record import RECORD_END
from csc_xr.runs.fronts import (
    FrontFiles,
    find_digitised,
    land_classes,
    open_all_digitised,
    write_front,
)
from csc_xr.stores import is_store
from csc_xr.vector_styles import dated_style
from csc_xr.vectors import front_frame, write_layers

_RESULT = "_classified"


@dataclass(frozen=True)
class ClassRaster:
    """A class raster that exists already.

    Attributes
    ----------
    name : str
        Of its scene.
    source : Path
        File or store.
    classes : xarray.DataArray
        Dims (y, x), lazy.
    date : datetime or None
        When the scene was taken, from the store or the name.
    """

    name: str
    source: Path
    classes: xr.DataArray
    date: Any


def open_class_rasters(
    sources: Sequence[str | Path],
    *,
    legend: ClassLegend,
    settings: FrontSettings,
    pixel_size_m: float | None = None,
) -> list[ClassRaster]:
    """Open class rasters and check that a front can be looked for in each.

    ``<name>_classified.tif`` of a run that looked for a front has that front drawn over its
    classes: where the run's record and store lie beside it, the classes of the store are taken.
    In any other raster, a front drawn into it counts as glacier.

    Parameters
    ----------
    sources : sequence of str or Path
        Raster files, results of ``classify``, and stores of stacks, whose scenes count one by one.
    legend : ClassLegend
        The classes.
    settings : FrontSettings
        How a front will be looked for.
    pixel_size_m : float, optional
        Of rasters without a CRS, in metres.

    Returns
    -------
    list of ClassRaster
        In the order given, those of a stack in its own; lazy.

    Raises
    ------
    SceneError, ParameterError
        When there is no class raster.
    LegendError
        When the legend lacks glacier or ocean.
    LineError
        When a raster has no CRS and there is no pixel size, does not hold integers, or two have
        one name.

    Warns
    -----
    CscWarning
        When the classes of a store are taken in place of a file's.
    """
    rasters = [raster for source in sources for raster in _open(Path(source), pixel_size_m)]
    names = [raster.name for raster in rasters]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise LineError(
            f"Fronts are named after their rasters, so each must have a name of its own, got "
            f"several called {', '.join(doubles)}. Rename them, or take them one by one."
        )
    for raster in rasters:
        try:
            check_classes(raster.classes)
            in_pixels(settings, legend, raster.classes)
        except LineError as error:
            raise LineError(f"{raster.source}: {error}") from error
    return rasters


def write_fronts(
    rasters: Sequence[ClassRaster],
    out: str | Path,
    *,
    legend: ClassLegend,
    settings: FrontSettings,
    within: geopandas.GeoSeries | None = None,
    lines: str | Path | None = None,
    margins: bool = False,
    polygons: bool = False,
    overwrite: bool = False,
) -> Iterator[tuple[ClassRaster, FrontFiles]]:
    """Find the front of each class raster and write it. Computes, raster by raster.

    Parameters
    ----------
    rasters : sequence of ClassRaster
        From :func:`open_class_rasters`.
    out : str or Path
        Folder; created when absent.
    legend : ClassLegend
        The classes.
    settings : FrontSettings
        How to look for fronts.
    within : geopandas.GeoSeries, optional
        Polygons that the fronts lie in.
    lines : str or Path, optional
        Folder of the digitised ``EDGE_<name>`` and ``VM_<name>``; by default that of each raster.
    margins, polygons : bool
        Write valley margins, and the classes as polygons, as further layers of
        ``<name>_front.gpkg``.
    overwrite : bool
        Replace what is there.

    Yields
    ------
    tuple of ClassRaster and FrontFiles
        As each is written.

    Raises
    ------
    LabelError, LineError
        When something digitised is no line, or on another grid.
    LegendError
        When margins are wanted or were digitised, and the legend lacks the classes of land.
    OutputError
        When the folder cannot be written, or holds fronts that may not be replaced.
    """
    folder = check_output_folder(out)
    land = land_classes(settings)
    digitised = {}
    for raster in rasters:
        for end in ("_front.gpkg", "_front.tif"):
            check_target(folder / f"{raster.name}{end}", folder=False, overwrite=overwrite)
        beside = raster.source.parent if lines is None else Path(lines)
        found = find_digitised(beside / f"{raster.name}.tif")
        digitised[raster.name] = open_all_digitised(found, like=raster.classes)
        if margins or "margin" in found:
            class_codes(legend, land, "land")
    for raster in rasters:
        layers: dict[str, geopandas.GeoDataFrame] = {}
        if margins:
            traced = extract_margins(raster.classes, legend, land=land)
            layers["margins"] = geopandas.GeoDataFrame(geometry=traced)
        if polygons:
            layers["classes"] = class_polygons(raster.classes, legend)
        yield raster, write_front(
            raster.classes, folder, raster.name,
            legend=legend, settings=settings, digitised=digitised[raster.name],
            raster=folder / f"{raster.name}_front.tif", suffix="front", date=raster.date,
            layers={name: layer for name, layer in layers.items() if not layer.empty},
            within=within,
        )  # fmt: skip


def write_series(
    rasters: Sequence[ClassRaster],
    out: str | Path,
    *,
    legend: ClassLegend,
    settings: FrontSettings,
    within: geopandas.GeoSeries | None = None,
    centreline: geopandas.GeoSeries | None = None,
    box: geopandas.GeoSeries | None = None,
    background: xr.DataArray | None = None,
    overwrite: bool = False,
) -> tuple[FrontSeries, dict[str, Path]]:
    """Follow a front through class rasters of one place, and write how it moved. Computes.

    Writes ``fronts.gpkg`` with the layers fronts, box and centreline, ``fronts.csv`` with a row a
    date, ``change.png`` and ``fronts.png``.

    Parameters
    ----------
    rasters : sequence of ClassRaster
        From :func:`open_class_rasters`, each with a date, in any order.
    out : str or Path
        Folder; created when absent.
    legend : ClassLegend
        The classes.
    settings : FrontSettings
        How to look for fronts.
    within : geopandas.GeoSeries, optional
        Polygons that the fronts lie in.
    centreline, box : geopandas.GeoSeries, optional
        What to measure by; by default derived from the fronts.
    background : xarray.DataArray, optional
        Image under the fronts, dims (band, y, x); by default the classes of the last date.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    series : FrontSeries
        Table, lines, box and centreline.
    outputs : dict of str to Path
        Files by role.

    Raises
    ------
    ParameterError
        When a raster has no date, or the background does not show the fronts.
    LineError
        When centreline or box are not one line and one polygon of four corners.
    OutputError
        When the folder cannot be written, or holds a series that may not be replaced.
    """
    folder = check_output_folder(out)
    outputs = {
        "fronts": folder / "fronts.gpkg",
        "table": folder / "fronts.csv",
        "change": folder / "change.png",
        "map": folder / "fronts.png",
    }
    for path in outputs.values():
        check_target(path, folder=False, overwrite=overwrite)
    dated = _in_order(rasters)
    find = partial(extract_front, legend=legend, settings=settings, within=within)
    fronts = [find(raster.classes) for raster in dated]
    times = [raster.date for raster in dated]
    names = [raster.name for raster in dated]
    series = front_series(fronts, times=times, names=names, centreline=centreline, box=box)
    place = f"{names[0]} to {names[-1]}"
    if series.lines.empty:
        del outputs["map"]
    else:  # first, since it refuses a background that lies elsewhere
        under = dated[-1].classes if background is None else background
        overlay_figure(under, series, legend=legend, title=place, path=outputs["map"])
    series_figure(series, title=f"Front positions, {place}", path=outputs["change"])
    write_table_csv(series.table, outputs["table"])
    write_layers(
        _layers(series, fronts, dated), outputs["fronts"], styles={"fronts": dated_style(times)}
    )
    return series, outputs


def open_reference(path: str | Path, layer: str | None = None) -> geopandas.GeoSeries:
    """Open a vector file that holds a centreline, a box, or the region of a front.

    Parameters
    ----------
    path : str or Path
        GeoPackage, GeoJSON or shapefile; or the ``fronts.gpkg`` of a series.
    layer : str, optional
        Which to take of several layers: ``centreline`` or ``box``.

    Returns
    -------
    geopandas.GeoSeries
        Its geometries, with their CRS.

    Raises
    ------
    LineError
        When it cannot be read, has several layers but not this one, no geometry, or no CRS.
    """
    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        chosen = layers[0] if len(layers) == 1 else layer
        if chosen not in layers:
            named = "" if layer is None else f", or one called {layer!r}"
            raise LineError(
                f"{path} must have one layer of geometries{named}, got "
                f"{', '.join(layers) or 'none'}. Save what is meant alone."
            )
        shapes = geopandas.read_file(path, layer=chosen).geometry
    except pyogrio.errors.DataSourceError as error:
        raise LineError(f"A vector file must be readable, but {path} is not: {error}.") from error
    if shapes.crs is None:
        raise LineError(f"{path} must have a CRS, got none. Save it with the CRS it was drawn in.")
    return shapes


def _open(source: Path, pixel_size_m: float | None) -> Iterator[ClassRaster]:
    for name, date, classes in _class_rasters(source):
        if pixel_size_m is not None and not is_georeferenced(classes):
            classes = with_pixel_size(classes, pixel_size_m)
        yield ClassRaster(name, source, classes, date)


def _class_rasters(source: Path) -> Iterator[tuple[str, Any, xr.DataArray]]:
    """Names, dates and classes in a file or store."""
    stem = source.stem.removesuffix(_RESULT)
    classes = _undrawn(source, _classes(source))
    leads = [dim for dim in ("time", "scene") if dim in classes.dims]
    if not leads:
        yield stem, date_in_name(stem), classes
        return
    for position in range(classes.sizes[leads[0]]):
        one = classes.isel({leads[0]: position})
        name = str(one.coords["scene"].values) if "scene" in one.coords else f"{stem}_{position}"
        date = one.coords["time"].values if "time" in one.coords else date_in_name(name)
        yield name, date, one.drop_vars(["time", "scene"], errors="ignore")


def _classes(source: Path) -> xr.DataArray:
    found = open_classes(source)
    return found.get("pixel_class", next(iter(found.values())))


def _undrawn(source: Path, classes: xr.DataArray) -> xr.DataArray:
    """Give the classes that a run drew its front over, where they lie beside the file."""
    store = source.with_suffix(".zarr")
    record = source.with_name(f"{source.stem.removesuffix(_RESULT)}{RECORD_END}")
    if store == source or not source.stem.endswith(_RESULT) or not is_store(store):
        return classes
    if "front" not in read_json(record).get("findings", {}):
        return classes
    own = _classes(store)
    if not same_grid(own, classes):
        return classes
    warnings.warn(
        f"{source} has a front drawn over its classes; those in {store.name} are taken.",
        CscWarning,
        stacklevel=2,
    )
    return own


def _in_order(rasters: Sequence[ClassRaster]) -> list[ClassRaster]:
    without = [raster.name for raster in rasters if raster.date is None]
    if without:
        raise ParameterError(
            f"A series needs the date of each raster, but {', '.join(without[:5])} has none in its "
            "name. Name files like helheim_20170821.tif, or classify them as a stack with times."
        )
    return sorted(rasters, key=lambda raster: pd.Timestamp(raster.date))


def _layers(
    series: FrontSeries, fronts: Sequence[Front], rasters: Sequence[ClassRaster]
) -> dict[str, geopandas.GeoDataFrame]:
    names, dates = [raster.name for raster in rasters], [raster.date for raster in rasters]
    rows = front_frame(fronts, scenes=names, dates=dates)
    moved = series.table.drop(columns=["time", "name", "outcome", "reason", "length_m"])
    layers = {"fronts": rows.assign(**moved)}
    for name, shapes in {"box": series.box, "centreline": series.centreline}.items():
        if not shapes.empty:
            layers[name] = geopandas.GeoDataFrame({"name": [name]}, geometry=shapes)
    return layers
