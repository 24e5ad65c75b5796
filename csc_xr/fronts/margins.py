"""Valley margins: where rock begins, as lines."""

from __future__ import annotations

import math

import dask.array as da
import geopandas
import xarray as xr

from csc_xr.errors import ParameterError
from csc_xr.fronts.outlines import lines_on_map, trace
from csc_xr.fronts.settings import LAND, check_classes, class_codes
from csc_xr.legend import ClassLegend
from csc_xr.metres import to_metres


def extract_margins(
    pixel_class: xr.DataArray,
    legend: ClassLegend,
    *,
    land: tuple[str | int, ...] = LAND,
    min_length_m: float = 1000.0,
) -> geopandas.GeoSeries:
    """Trace the valley margins of a class raster. Computes.

    Parameters
    ----------
    pixel_class : xarray.DataArray
        Classes, dims (y, x), integers; with a CRS.
    legend : ClassLegend
        What the codes stand for.
    land : tuple of str or int
        Names or codes of the classes that are valley side, taken as one; "Snow on Rock" and
        "Bedrock" by default.
    min_length_m : float
        Shorter lines are left out: nunataks, patches of scree. In the published method 100
        vertices, at pixels of 10 m.

    Returns
    -------
    geopandas.GeoSeries
        LineStrings in the raster's CRS, the longest first, land on the left; closed around a region
        that does not reach the border of the image. Empty where there is none.

    Raises
    ------
    LegendError
        When the legend lacks the classes.
    LineError
        When the raster is not one of classes, or has no CRS.
    ParameterError
        When the length is negative.
    """
    if not (math.isfinite(min_length_m) and min_length_m >= 0):
        raise ParameterError(f"min_length_m must be 0 or more, got {min_length_m!r}.")
    codes = check_classes(pixel_class)
    mask = da.isin(codes, class_codes(legend, land, "land"))
    lines = lines_on_map(trace(mask), pixel_class)
    lengths = to_metres(lines).length.sort_values(ascending=False, kind="stable")
    return lines[lengths.index[lengths >= min_length_m]].reset_index(drop=True)
