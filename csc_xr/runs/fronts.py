"""The calving front of one class raster: its files, its deviation from what was digitised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import xarray as xr

from csc_xr.dates import date_in_name
from csc_xr.export import write_class_geotiff, write_table_csv
from csc_xr.figures.fronts import error_histogram
from csc_xr.fronts.deviation import Deviation, front_error, margin_error
from csc_xr.fronts.digitised import find_edge, find_margin, open_digitised
from csc_xr.fronts.extraction import Front, extract_front
from csc_xr.fronts.margins import extract_margins
from csc_xr.fronts.settings import LAND, FrontSettings, with_front_class
from csc_xr.legend import ClassLegend
from csc_xr.vectors import front_frame, write_layers

Digitised = Mapping[str, geopandas.GeoSeries]
"""Lines that a person drew: ``edge``, the calving front, and ``margin``, the valley margin."""

_REPORTS = {"front": "FRONT", "margin": "MARGIN"}


@dataclass(frozen=True)
class FrontFiles:
    """A front and what was written of it.

    Attributes
    ----------
    front : Front
        The front, or why there is none.
    deviations : dict of str to Deviation
        ``front`` and ``margin``, those that were digitised.
    outputs : dict of str to Path
        Files by role.
    """

    front: Front
    deviations: dict[str, Deviation]
    outputs: dict[str, Path]

    @property
    def median_m(self) -> float | None:
        """Median distance from the digitised front; None where there is none to measure."""
        known = self.deviations.get("front")
        return known.median_m if known is not None and known.count else None

    @property
    def findings(self) -> dict[str, Any]:
        """What a run record says of it, in plain values.

        Returns
        -------
        dict
            ``front`` with outcome, reason and measures, and the figures of each deviation.
        """
        front = self.front
        found: dict[str, Any] = {
            "front": {"outcome": front.outcome, "reason": front.reason, **front.measures}
        }
        found |= {f"{role}_error": known.to_dict() for role, known in self.deviations.items()}
        return found


def find_digitised(image: Path) -> dict[str, Path]:
    """Find what was digitised on an image, by its name.

    Parameters
    ----------
    image : Path
        The image.

    Returns
    -------
    dict of str to Path
        ``edge`` and ``margin``, those that lie beside it.
    """
    found = {"edge": find_edge(image), "margin": find_margin(image)}
    return {role: path for role, path in found.items() if path is not None}


def open_all_digitised(
    paths: Mapping[str, Path], *, like: xr.DataArray
) -> dict[str, geopandas.GeoSeries]:
    """Open what was digitised on an image. Computes.

    Parameters
    ----------
    paths : mapping of str to Path
        Files by role.
    like : xarray.DataArray
        The image.

    Returns
    -------
    dict of str to geopandas.GeoSeries
        Lines or points by role.

    Raises
    ------
    LabelError
        When a raster is empty, is no line, or lies on another grid.
    LineError
        When a vector file holds no lines.
    """
    return {role: open_digitised(path, like=like) for role, path in paths.items()}


def land_classes(settings: FrontSettings) -> tuple[str | int, ...]:
    """Give the classes whose outline is the valley margin.

    Parameters
    ----------
    settings : FrontSettings
        How fronts are looked for.

    Returns
    -------
    tuple of str or int
        Those of the settings; "Snow on Rock" and "Bedrock" where they name none.
    """
    return LAND if settings.land is None else settings.land


def write_front(
    classes: xr.DataArray,
    folder: Path,
    name: str,
    *,
    legend: ClassLegend,
    settings: FrontSettings,
    digitised: Digitised,
    raster: Path,
    suffix: str,
    date: Any = None,
    layers: Mapping[str, geopandas.GeoDataFrame] | None = None,
    within: geopandas.GeoSeries | None = None,
) -> FrontFiles:
    """Find a front and write it. Computes.

    Writes ``<name>_front.gpkg``, with a row also where no front was found; the classes with the
    front in them as GeoTIFF; and where something was digitised ``FRONT_<name>_<suffix>.csv`` or
    ``MARGIN_...``, the figures of the deviation, ``..._distances.csv``, a row for each digitised
    point, and ``..._errors.png``.

    Parameters
    ----------
    classes : xarray.DataArray
        Class raster, dims (y, x), uint8.
    folder : Path
        Where files go.
    name : str
        Of the scene.
    legend : ClassLegend
        The classes.
    settings : FrontSettings
        How to look for the front.
    digitised : mapping of str to geopandas.GeoSeries
        Lines to measure by, where there are any.
    raster : Path
        File for the classes with the front in them.
    suffix : str
        End of the names of the reports.
    date : datetime or numpy.datetime64, optional
        When the scene was taken; by default the date in its name.
    layers : mapping of str to geopandas.GeoDataFrame, optional
        More to put into the GeoPackage, by name of the layer.
    within : geopandas.GeoSeries, optional
        Polygons that the front lies in.

    Returns
    -------
    FrontFiles
        The front, its deviations and its files.

    Raises
    ------
    OutputError
        When a file cannot be written.
    LegendError
        When margins were digitised, and the legend lacks the classes of land.
    ParameterError
        When the raster holds codes that the legend does not have.
    """
    front = extract_front(classes, legend, settings=settings, within=within)
    outputs = {"front lines": folder / f"{name}_front.gpkg", "classes": raster}
    deviations = {}
    if "edge" in digitised:
        deviations["front"] = front_error(front.lines, digitised["edge"])
    if "margin" in digitised:
        margins = extract_margins(classes, legend, land=land_classes(settings))
        deviations["margin"] = margin_error(margins, digitised["margin"])
    write_class_geotiff(front.classes, raster, legend=with_front_class(legend)[0])
    dates = [date_in_name(name) if date is None else date]
    rows = front_frame([front], scenes=[name], dates=dates)
    write_layers({"fronts": rows, **(layers or {})}, outputs["front lines"])
    for role, deviation in deviations.items():
        report = f"{_REPORTS[role]}_{name}_{suffix}"
        written = {
            f"{role} report": folder / f"{report}.csv",
            f"{role} distances": folder / f"{report}_distances.csv",
            f"{role} figure": folder / f"{report}_errors.png",
        }
        table, distances, figure = written.values()
        write_table_csv(pd.DataFrame([deviation.to_dict()]), table)
        write_table_csv(pd.DataFrame({"distance_m": deviation.distances_m}), distances)
        figure.unlink(missing_ok=True)  # of an earlier run that found a front
        if deviation.count:
            error_histogram(deviation, title=f"{name}: {role} error", path=figure)
            outputs[f"{role} figure"] = figure
        outputs |= {role: path for role, path in written.items() if path != figure}
    return FrontFiles(front, deviations, outputs)
