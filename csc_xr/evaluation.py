"""Class rasters in files against labels in files: rasters, or points that somebody labelled."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from csc_xr.accuracy.areas import AreaEstimates, estimate_areas, pixel_area_m2
from csc_xr.accuracy.confusion import confusion_matrix, count_classes, count_codes
from csc_xr.accuracy.points import (
    POINT_FILES,
    classes_at_points,
    drawn_from,
    open_points,
    point_labels,
)
from csc_xr.errors import CscWarning, LabelError, ParameterError
from csc_xr.export import open_classes
from csc_xr.labels import open_labels
from csc_xr.legend import ClassLegend


def count_files(
    classes: str | Path, labels: str | Path, *, legend: ClassLegend, column: str = "label"
) -> dict[str, xr.DataArray]:
    """Count the pixels or points of files by label and predicted class.

    Computes: reads every pixel of both once, chunk by chunk; of points, the chunks they lie in.

    Parameters
    ----------
    classes : str or Path
        What :func:`csc_xr.export.open_classes` opens: a class raster, or a result.
    labels : str or Path
        Label raster of the same place, or a CSV or vector file of points with labels.
    legend : ClassLegend
        The classes of both.
    column : str
        Column of the labels of points.

    Returns
    -------
    dict of str to xarray.DataArray
        A confusion matrix for ``tile_class`` and ``pixel_class`` of a result, or ``classes``.

    Raises
    ------
    LabelError
        When the labels cannot be read, or do not fit raster or legend.
    ParameterError
        When there is no class raster, or it does not fit the legend.
    SceneError
        When the class raster cannot be read.

    Warns
    -----
    CscWarning
        When label rasters are resampled, when points have no label, and when they were drawn in
        the classes of a map, so that scores of them are not those of the map.
    """
    rasters = open_classes(classes)
    if not _holds_points(labels):
        digitised = {
            name: open_labels(labels, like=raster.expand_dims(band=["class"]), legend=legend)
            for name, raster in rasters.items()
        }
        return {
            name: confusion_matrix(digitised[name], raster, legend=legend)
            for name, raster in rasters.items()
        }
    points = open_points(labels)
    codes = point_labels(points, legend=legend, column=column)
    missing = np.count_nonzero(codes == 0)
    if missing:
        warnings.warn(
            f"{missing} of {len(codes)} points in {labels} have no label and do not count.",
            CscWarning,
            stacklevel=2,
        )
    if "map_code" in points:
        warnings.warn(
            "Scores count every point alike, whatever share of its class was drawn. Estimates of "
            "areas (--areas) weigh them as they should be.",
            CscWarning,
            stacklevel=2,
        )
    return {
        name: count_codes(codes, classes_at_points(points, raster), legend=legend, units="points")
        for name, raster in rasters.items()
    }


def pool_counts(counted: Sequence[Mapping[str, xr.DataArray]]) -> dict[str, xr.DataArray]:
    """Add up the confusion matrices of several files, phase by phase.

    Parameters
    ----------
    counted : sequence of mapping of str to xarray.DataArray
        One or more of what :func:`count_files` gives.

    Returns
    -------
    dict of str to xarray.DataArray
        As each of them.

    Raises
    ------
    ParameterError
        When they hold different phases.
    """
    phases = {tuple(counts) for counts in counted}
    if len(phases) > 1:
        kinds = " or ".join(sorted("+".join(names) for names in phases))
        raise ParameterError(
            f"Class rasters that are pooled must all hold the same, got {kinds}. Evaluate whole "
            "results apart from single rasters."
        )
    first, *others = counted
    return {phase: sum((c[phase] for c in others), start=first[phase]) for phase in first}


def estimate_file_areas(
    classes: str | Path,
    labels: str | Path,
    counted: Mapping[str, xr.DataArray],
    *,
    legend: ClassLegend,
) -> dict[str, AreaEstimates]:
    """Estimate the areas of the classes of a map in a file.

    Computes: reads every pixel of the map once, chunk by chunk.

    Parameters
    ----------
    classes : str or Path
        The map.
    labels : str or Path
        Labels that are a random sample, as :func:`count_files` takes them.
    counted : mapping of str to xarray.DataArray
        What that gave for both, or subsamples of it.
    legend : ClassLegend
        The classes.

    Returns
    -------
    dict of str to AreaEstimates
        Areas with 95 % intervals for each raster, in square metres ("m2"), or in pixels where it
        has no CRS. Of points that were drawn in the classes of a map, for that map alone.

    Raises
    ------
    LabelError
        When the points were drawn in other classes, or a class has too few labels.
    LineError
        When the CRS has no metres.

    Warns
    -----
    CscWarning
        When the labels are a raster, which may or may not be a random sample.
    """
    rasters = open_classes(classes)
    if _holds_points(labels):
        points = open_points(labels)
        rasters = {name: raster for name, raster in rasters.items() if drawn_from(points, raster)}
        if not rasters:
            raise LabelError(
                "Areas need the map that the points were drawn in, but the map_code of points in "
                f"{labels} is not the class that {classes} has there. Pass that map, or draw "
                "points in this one."
            )
    else:
        warnings.warn(
            "Intervals of areas hold where the labelled pixels are a random sample of the map, not "
            "where somebody chose what to digitise. sample-points draws points to label.",
            CscWarning,
            stacklevel=2,
        )
    return {
        name: estimate_areas(
            counted[name],
            count_classes(raster, legend=legend),
            pixel_area=1.0 if raster.rio.crs is None else pixel_area_m2(raster),
            unit="pixels" if raster.rio.crs is None else "m2",
        )
        for name, raster in rasters.items()
    }


def _holds_points(labels: str | Path) -> bool:
    return Path(labels).suffix.lower() in POINT_FILES
