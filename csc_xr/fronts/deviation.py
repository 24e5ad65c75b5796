"""Deviation: how far a line found lies from the one a person digitised, in metres.

Points of one line, its pixels or samples along it, are measured to the nearest place of the
other: between vertices too where that is a line, so how densely it is drawn does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import geopandas
import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from csc_xr.errors import LineError, ParameterError
from csc_xr.fronts.digitised import check_lines, digitised_points
from csc_xr.metres import to_metres

Metres = NDArray[np.float64]

_SPACING_M = 10.0  # a pixel of Sentinel-2, which the published figures are of
_MODE_BIN_M = 10.0
_NEAR_M = 100.0
_BATCH = 50_000  # points measured at once, some 10 MB of geometries


@dataclass(frozen=True, eq=False)
class Deviation:
    """Distances between a line found and a line digitised, and figures of them.

    The figures of the reference method are those of `distances_m`. All are NaN when no line was
    found, since nothing then was measured.

    The mean distance error is that of the calving-front benchmark CaFFe [1]_ for one image: for
    digitised points Q and points found P, the sum over p of its distance to the nearest q, plus
    the sum over q of its distance to the nearest p, divided by the number of p and q together. For
    several images the benchmark pools them: the mean over all distances of all images.

    Attributes
    ----------
    distances_m : ndarray
        Shape (n,), float64: from every digitised point to the nearest place found.
    predicted_distances_m : ndarray
        Shape (m,), float64: from every point found to the nearest place digitised.

    References
    ----------
    .. [1] Gourmelon, N., Seehaus, T., Braun, M., Maier, A. and Christlein, V. (2022). Calving
       fronts and where to find them: a benchmark dataset and methodology for automatic glacier
       calving front extraction from synthetic aperture radar imagery. Earth System Science Data
       14, 4287-4313, https://doi.org/10.5194/essd-14-4287-2022.
    """

    distances_m: Metres
    predicted_distances_m: Metres

    @property
    def count(self) -> int:
        """Digitised points measured."""
        return len(self.distances_m)

    @property
    def mean_m(self) -> float:
        """Mean."""
        return _mean(self.distances_m)

    @property
    def median_m(self) -> float:
        """Median."""
        return _percentile(self.distances_m, 50)

    @property
    def mode_m(self) -> float:
        """The commonest distance, each rounded to 10 m; of several the smallest."""
        # Rounded, not cut: pixels lie whole multiples of 10 m apart but for the scale of the map.
        if not self.count:
            return math.nan
        whole = np.floor(self.distances_m / _MODE_BIN_M + 0.5).astype(np.int64)
        numbers, counts = np.unique(whole, return_counts=True)
        return float(numbers[counts.argmax()] * _MODE_BIN_M)

    @property
    def std_m(self) -> float:
        """Standard deviation of the distances themselves, not of a sample."""
        return float(np.std(self.distances_m)) if self.count else math.nan

    @property
    def share_under_100_m(self) -> float:
        """Share of digitised points nearer than 100 m, from 0 to 1."""
        return _mean(self.distances_m < _NEAR_M)

    @property
    def p95_m(self) -> float:
        """95th percentile, interpolated."""
        return _percentile(self.distances_m, 95)

    @property
    def hausdorff_m(self) -> float:
        """Largest distance of both directions."""
        return float(self._both().max()) if self.count else math.nan

    @property
    def mean_distance_error_m(self) -> float:
        """Mean of the distances of both directions together, as in the benchmark CaFFe."""
        return _mean(self._both())

    @property
    def predicted_to_digitised_mean_m(self) -> float:
        """Mean distance from the points found to the digitised line."""
        return _mean(self.predicted_distances_m)

    def histogram(self, *, bin_m: float = 10.0) -> tuple[NDArray[np.int64], Metres]:
        """Count digitised points by distance.

        Parameters
        ----------
        bin_m : float
            Width of a bin in metres.

        Returns
        -------
        counts : ndarray
            Shape (n,), int64; they sum to ``count``.
        edges : ndarray
            Shape (n + 1,), float64: 0, `bin_m`, 2 `bin_m` and so on, in metres. A distance on an
            edge is counted in the bin that begins there.

        Raises
        ------
        ParameterError
            When the width is not positive.
        """
        _check_positive(bin_m, "The width of a bin")
        counts = np.bincount(np.floor(self.distances_m / bin_m).astype(np.int64), minlength=1)
        return counts.astype(np.int64), np.arange(len(counts) + 1, dtype=np.float64) * bin_m

    def to_dict(self) -> dict[str, int | float]:
        """Give all figures as plain numbers.

        Returns
        -------
        dict
            By name, in the order of a table.
        """
        return {
            "count": self.count,
            "mean_m": self.mean_m,
            "median_m": self.median_m,
            "mode_m": self.mode_m,
            "std_m": self.std_m,
            "share_under_100_m": self.share_under_100_m,
            "p95_m": self.p95_m,
            "hausdorff_m": self.hausdorff_m,
            "mean_distance_error_m": self.mean_distance_error_m,
            "predicted_to_digitised_mean_m": self.predicted_to_digitised_mean_m,
        }

    def _both(self) -> Metres:
        return np.concatenate([self.distances_m, self.predicted_distances_m])


def front_error(
    predicted: geopandas.GeoSeries | xr.DataArray,
    digitised: geopandas.GeoSeries | xr.DataArray,
    *,
    spacing_m: float | None = None,
) -> Deviation:
    """Measure how far a calving front lies from the digitised one.

    Computes. Memory and time grow with the number of points of both, never with its square.

    Parameters
    ----------
    predicted : geopandas.GeoSeries or xarray.DataArray
        The front found, as lines or points in any CRS or local coordinates in metres, or as a
        raster (y, x) of one number on the front and 0 elsewhere. An empty one is no error.
    digitised : geopandas.GeoSeries or xarray.DataArray
        The front digitised, likewise. The two may be in different CRSs.
    spacing_m : float, optional
        Lines are measured from points along them that far apart or a little less, both ends among
        them. By default, where one of the two is points or a raster, the median distance from
        one of its points to the nearest other, so that both directions weigh alike in the
        symmetric figures; else 10 m.

    Returns
    -------
    Deviation
        Distances and figures in true metres, measured around the digitised front. Of lines, the
        Hausdorff distance may be short by half the spacing.

    Raises
    ------
    LineError
        When there is nothing digitised, a geometry is no line or point, or one has no CRS.
    LabelError
        When a raster holds more than a line.
    ParameterError
        When the spacing is not positive.
    """
    drawn = _geometries(digitised, "the line digitised")
    found = _geometries(predicted, "the line found")
    if drawn.empty:
        raise LineError(
            "A digitised line must have at least one geometry or pixel, got none. "
            "Digitise it, or leave the image out."
        )
    drawn_m = to_metres(drawn)
    if found.empty:
        return Deviation(np.empty(0), np.empty(0))
    found_m = to_metres(found, around=drawn)
    if spacing_m is None:
        spacing_m = _points_apart(drawn_m) or _points_apart(found_m) or _SPACING_M
    _check_positive(spacing_m, "The spacing of points along a line")
    return Deviation(
        _distances(_samples(drawn_m, spacing_m), found_m),
        _distances(_samples(found_m, spacing_m), drawn_m),
    )


def margin_error(
    predicted: geopandas.GeoSeries | xr.DataArray,
    digitised: geopandas.GeoSeries | xr.DataArray,
    *,
    spacing_m: float | None = None,
) -> Deviation:
    """Measure how far valley margins lie from digitised ones.

    Parameters
    ----------
    predicted : geopandas.GeoSeries or xarray.DataArray
        The margins found, as for :func:`front_error`.
    digitised : geopandas.GeoSeries or xarray.DataArray
        The margins digitised.
    spacing_m : float, optional
        As for :func:`front_error`.

    Returns
    -------
    Deviation
        As for :func:`front_error`. Margins found where none was digitised count in the symmetric
        figures, but not in those of the reference.

    Raises
    ------
    LineError
        When there is nothing digitised, a geometry is no line or point, or one has no CRS.
    LabelError
        When a raster holds more than a line.
    ParameterError
        When the spacing is not positive.
    """
    return front_error(predicted, digitised, spacing_m=spacing_m)


def _geometries(line: geopandas.GeoSeries | xr.DataArray, name: str) -> geopandas.GeoSeries:
    if isinstance(line, xr.DataArray):
        return digitised_points(line)
    if not isinstance(line, geopandas.GeoSeries):
        raise LineError(
            f"A line must be a geopandas.GeoSeries or a raster as xarray.DataArray, got "
            f"{type(line).__name__} for {name}. Open files with open_digitised."
        )
    return check_lines(line, name)


def _points_apart(series: geopandas.GeoSeries) -> float:
    """Median distance from a point to the nearest other; 0 where there are no two."""
    points, _ = _parts(series)
    if len(points) < 2:
        return 0.0
    places = shapely.get_coordinates(points)
    return float(np.median(cKDTree(places).query(places, k=2)[0][:, 1]))


def _samples(series: geopandas.GeoSeries, spacing_m: float) -> Metres:
    """Coordinates (n, 2) of points, and of places evenly along lines, both ends among them."""
    points, lines = _parts(series)
    vertices, line = shapely.get_coordinates(lines, return_index=True)
    if not len(vertices):
        return np.asarray(shapely.get_coordinates(points))
    steps = np.hypot(*np.diff(vertices, axis=0).T)
    steps[np.diff(line) > 0] = 1.0  # from one line to the next, where no sample falls
    along = np.concatenate([[0.0], np.cumsum(steps)])
    edges = np.flatnonzero(np.diff(line, prepend=-1, append=line[-1] + 1))
    starts, stops = along[edges[:-1]], along[edges[1:] - 1]
    pieces = np.ceil((stops - starts) / spacing_m - 1e-6).astype(np.int64)  # 0: a line of no length
    owner = np.repeat(np.arange(len(pieces)), pieces + 1)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces + 1) - (pieces + 1), pieces + 1)
    share = number / np.maximum(pieces, 1)[owner]
    places = np.minimum(starts[owner] + share * (stops - starts)[owner], stops[owner])
    sampled = [np.interp(places, along, vertices[:, axis]) for axis in (0, 1)]
    return np.concatenate([shapely.get_coordinates(points), np.stack(sampled, axis=1)])


def _distances(places: Metres, series: geopandas.GeoSeries) -> Metres:
    """Distances (n,) from places to the nearest point or piece of line, found in a tree of them."""
    points, lines = _parts(series)
    vertices, line = shapely.get_coordinates(lines, return_index=True)
    inside = np.diff(line) == 0
    ends = np.stack([vertices[:-1][inside], vertices[1:][inside]], axis=1)
    tree = shapely.STRtree(np.concatenate([points, shapely.linestrings(ends)]))
    found = np.empty(len(places))
    for start in range(0, len(places), _BATCH):
        batch = slice(start, start + _BATCH)
        _, found[batch] = tree.query_nearest(
            shapely.points(places[batch]), return_distance=True, all_matches=False
        )
    return found


def _parts(series: geopandas.GeoSeries) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Single points and single lines."""
    parts = shapely.get_parts(series.to_numpy())
    is_point = shapely.get_type_id(parts) == shapely.GeometryType.POINT
    return parts[is_point], parts[~is_point]


def _mean(values: Metres | NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _percentile(values: Metres, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else math.nan


def _check_positive(value: float, what: str) -> None:
    if not 0 < value < math.inf:
        raise ParameterError(f"{what} must be a positive number of metres, got {value}.")
