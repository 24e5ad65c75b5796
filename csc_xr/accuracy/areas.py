"""Areas of classes with confidence intervals, from a map and a sample of labels.

Olofsson, Foody, Herold, Stehman, Woodcock and Wulder (2014), Good practices for estimating area
and assessing accuracy of land change, Remote Sensing of Environment 148:42-57,
doi:10.1016/j.rse.2014.02.015. Numbers of equations are theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from csc_xr.errors import LabelError, ParameterError
from csc_xr.grid import scene_transform
from csc_xr.legend import NODATA_CODE
from csc_xr.metres import pixel_size_m

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AreaEstimates:
    """Areas and accuracies of a map's classes with confidence intervals.

    Attributes
    ----------
    classes : pandas.DataFrame
        A row for each class that the map or the labels have. Columns ``code`` and ``class``;
        ``mapped_area`` (pixels of the map times their area) and ``estimated_area`` with its
        ``standard_error``, ``half_width``, ``lower`` and ``upper`` end of the interval, the ends
        never below 0 or above ``total_area``; ``users_accuracy``, ``producers_accuracy`` and
        the half widths of their intervals, ``users_half_width`` and ``producers_half_width``,
        missing where the map or the estimate has nothing of the class; ``samples`` (labelled in
        the class of the map) and ``labelled`` (as the class).
    proportions : xarray.DataArray
        Dims ("label", "predicted"): the estimated share of the whole area in each cell of the
        confusion matrix (Eq. 4), which sums to 1.
    overall_accuracy, overall_half_width : float
        Share of the area that is mapped right, and the half width of its interval.
    total_area : float
        Of all mapped classes.
    unmapped_area : float
        Of pixels without a class in the map, on which the estimates say nothing.
    unmapped_samples : int
        Labelled pixels without a class in the map, which are left out.
    unit : str
        Of all areas.
    level : float
        Share of such intervals that hold the true value.
    """

    classes: pd.DataFrame
    proportions: xr.DataArray
    overall_accuracy: float
    overall_half_width: float
    total_area: float
    unmapped_area: float
    unmapped_samples: int
    unit: str
    level: float

    def to_table(self) -> pd.DataFrame:
        """Give all of it but the proportions as one table, for a file.

        Returns
        -------
        pandas.DataFrame
            ``classes``, and in every row ``overall_accuracy``, ``overall_half_width``,
            ``unit`` and ``level``.
        """
        return self.classes.assign(
            overall_accuracy=self.overall_accuracy,
            overall_half_width=self.overall_half_width,
            unit=self.unit,
            level=self.level,
        )


def estimate_areas(
    confusion: xr.DataArray,
    mapped: xr.DataArray,
    *,
    pixel_area: float = 1.0,
    unit: str = "pixels",
    level: float = 0.95,
) -> AreaEstimates:
    """Estimate the area of each class from a map and a random sample of labels.

    A map's own areas are biased by its errors. Labels of a sample of pixels tell what share of
    each map class is truly what, and so correct them.

    The intervals hold for a **probability sample**: pixels drawn at random within each class of
    this map (:func:`csc_xr.accuracy.points.draw_validation_points`), or from the whole map at
    random or on a regular grid. They do not hold for polygons that somebody chose to digitise:
    neighbouring pixels tell the same, and places that are easy to digitise are easy to classify.

    Parameters
    ----------
    confusion : xarray.DataArray
        Counts of the sample by label and class of the map, from
        :func:`csc_xr.accuracy.confusion.count_codes` or
        :func:`csc_xr.accuracy.confusion.confusion_matrix`.
    mapped : xarray.DataArray
        Pixels of each class of the map, dims ("code",), with the coordinate ``code``, from
        :func:`csc_xr.accuracy.confusion.count_classes`. Those of code 0 are not part of the area.
    pixel_area : float
        Area of a pixel, such as :func:`pixel_area_m2` gives. By default areas are pixels.
    unit : str
        What that is measured in, to be named beside the areas.
    level : float
        Share of such intervals that hold the true value.

    Returns
    -------
    AreaEstimates
        Areas and accuracies with intervals.

    Raises
    ------
    LabelError
        When a mapped class has fewer than two labelled pixels: its errors, or how uncertain they
        are, cannot be known. Or when nothing is mapped.
    ParameterError
        When the pixel area is not positive or the level not between 0 and 1; when the mapped
        pixels have no codes, or others than the sample; or when the map has fewer pixels of a class
        than were labelled in it, so that it is another map.

    Notes
    -----
    Of n_i labelled pixels in map class i, n_ij are labelled j; the class has N_i of all N pixels
    and the weight W_i = N_i / N. With u_ij = n_ij / n_i and v_ij = u_ij (1 - u_ij) / (n_i - 1):

    - Eq. 4, share of the area in a cell: p_ij = W_i u_ij.
    - Eq. 1, overall accuracy: sum over i of p_ii. Eq. 5, its variance: sum of W_i^2 v_ii.
    - Eq. 2, user's accuracy: U_i = u_ii. Eq. 6, its variance: v_ii.
    - Eq. 9, share of a class: p_j = sum over i of p_ij. Eq. 10, its variance: sum over i of
      W_i^2 v_ij. Eq. 11, area and its standard error: those times the whole area.
    - Eq. 3, producer's accuracy: P_j = p_jj / p_j. Eq. 7, its variance:
      (W_j^2 (1 - P_j)^2 v_jj + P_j^2 (sum over the other i of W_i^2 v_ij)) / p_j^2.
    - Eq. 12, interval: z standard errors to either side; z = 1.96 for 95 %, as they have it, and
      the quantile of the normal distribution for any other level.

    Where all labels of a map class agree, its variance is estimated as 0, which is too little.
    Intervals are also too short for a class that is now and then missed in a large other class,
    while few such misses are in the sample: where 2 of 100 labels were to be expected, 88 % of the
    95 % intervals held the truth in a simulation, and 93 % where 6 of 300 were. Have 50 labels in
    each class, and more in large ones. That part of the map itself was labelled is not taken into
    account; it makes the intervals of small maps with many labels wider than need be.

    Examples
    --------
    Their worked example (Table 8), with the names of other classes:

    >>> from csc_xr.accuracy.confusion import confusion_from_dict
    >>> from csc_xr.legend import RIVER
    >>> by_map_class = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
    >>> codes = [1, 2, 3, 4]
    >>> confusion = confusion_from_dict(
    ...     {
    ...         "units": "points",
    ...         "label": codes,
    ...         "predicted": codes,
    ...         "counts": np.transpose(by_map_class).tolist(),
    ...     },
    ...     legend=RIVER,
    ... )
    >>> pixels = [200_000, 150_000, 3_200_000, 6_450_000]
    >>> found = estimate_areas(confusion, xr.DataArray(pixels, {"code": codes}))
    >>> found.classes[["class", "mapped_area", "estimated_area", "half_width"]].round(0)
                      class  mapped_area  estimated_area  half_width
    0                 Water     200000.0        235086.0     68418.0
    1          Dry Sediment     150000.0        129846.0     41731.0
    2      Green Vegetation    3200000.0       3175221.0    172332.0
    3  Senescent Vegetation    6450000.0       6459846.0    180907.0
    >>> round(found.overall_accuracy, 2), round(found.overall_half_width, 2)
    (0.95, 0.02)
    """
    _check_settings(pixel_area, level)
    _check_mapped(mapped, confusion)
    codes = confusion["label"].values
    sampled = confusion.sel(predicted=codes).values.T.astype(np.float64)  # rows: the map
    pixels = mapped.reindex(code=codes, fill_value=0).values.astype(np.float64)
    _check_sample(sampled.sum(axis=1), pixels, confusion)
    found = _stratified(sampled, pixels / pixels.sum())
    z, total = _quantile(level), float(pixels.sum() * pixel_area)
    table = _table(found, z=z, total=total)
    table.insert(0, "code", codes)
    table.insert(1, "class", confusion["label_name"].values)
    table.insert(2, "mapped_area", pixels * pixel_area)
    table["samples"] = sampled.sum(axis=1).astype(np.int64)
    table["labelled"] = sampled.sum(axis=0).astype(np.int64)
    known = (pixels > 0) | (table["labelled"] > 0)
    return AreaEstimates(
        classes=table[known].reset_index(drop=True),
        proportions=confusion.sel(predicted=codes)
        .copy(data=found.proportions.T)
        .rename("proportion")
        .assign_attrs(units="1"),
        overall_accuracy=found.overall,
        overall_half_width=z * found.overall_error,
        total_area=total,
        unmapped_area=float(mapped.reindex(code=[NODATA_CODE], fill_value=0).sum()) * pixel_area,
        unmapped_samples=int(confusion.sel(predicted=NODATA_CODE).sum()),
        unit=unit,
        level=level,
    )


def pixel_area_m2(raster: xr.DataArray) -> float:
    """Measure the area of the pixel in the middle of a raster.

    Parameters
    ----------
    raster : xarray.DataArray
        Raster with dims y and x, in any projected or geographic CRS, or in local coordinates in
        metres. Its pixels are not computed.

    Returns
    -------
    float
        True square metres. Other pixels of a scene in UTM differ from it by a thousandth at
        most; in longitude and latitude they shrink with the cosine of the latitude.

    Raises
    ------
    LineError
        When the raster has no CRS, or one without metres, or its middle is no place on the Earth.
    """
    height, width = pixel_size_m(raster)
    to_map = scene_transform(raster)
    sides = math.hypot(to_map.a, to_map.d) * math.hypot(to_map.b, to_map.e)
    return height * width * abs(to_map.determinant) / sides  # sheared pixels are no rectangles


@dataclass(frozen=True, eq=False)
class _Stratified:
    """Estimates and their standard errors; rows of matrices are map classes."""

    proportions: Floats
    share: Floats
    share_error: Floats
    users: Floats
    users_error: Floats
    producers: Floats
    producers_error: Floats
    overall: float
    overall_error: float


def _stratified(sampled: Floats, weights: Floats) -> _Stratified:
    samples = sampled.sum(axis=1)
    strata = weights > 0
    rates = np.divide(sampled, samples[:, None], out=np.zeros_like(sampled), where=strata[:, None])
    # of the mean of a stratum's labels, weighted as the stratum is
    variances = np.zeros_like(rates)
    variances[strata] = (
        weights[strata, None] ** 2 * (rates * (1 - rates))[strata] / (samples[strata, None] - 1)
    )
    proportions = weights[:, None] * rates
    share, own = proportions.sum(axis=0), np.diagonal(variances)
    users = np.where(strata, np.diagonal(rates), np.nan)
    known = share > 0
    producers = np.full_like(share, np.nan)
    producers[known] = np.diagonal(proportions)[known] / share[known]
    elsewhere = variances.sum(axis=0) - own
    spread = (1 - producers) ** 2 * own + producers**2 * elsewhere
    users_variance = np.full_like(share, np.nan)
    users_variance[strata] = own[strata] / weights[strata] ** 2
    return _Stratified(
        proportions=proportions,
        share=share,
        share_error=np.sqrt(variances.sum(axis=0)),
        users=users,
        users_error=np.sqrt(users_variance),
        producers=producers,
        producers_error=np.sqrt(spread) / np.where(known, share, np.nan),
        overall=float(np.trace(proportions)),
        overall_error=float(np.sqrt(own.sum())),
    )


def _table(found: _Stratified, *, z: float, total: float) -> pd.DataFrame:
    area, error = found.share * total, found.share_error * total
    return pd.DataFrame(
        {
            "estimated_area": area,
            "standard_error": error,
            "half_width": z * error,
            "lower": np.maximum(area - z * error, 0.0),
            "upper": np.minimum(area + z * error, total),
            "users_accuracy": found.users,
            "users_half_width": z * found.users_error,
            "producers_accuracy": found.producers,
            "producers_half_width": z * found.producers_error,
        }
    )


def _quantile(level: float) -> float:
    return 1.96 if level == 0.95 else NormalDist().inv_cdf(0.5 + level / 2)


def _check_settings(pixel_area: float, level: float) -> None:
    if not 0 < pixel_area < np.inf:
        raise ParameterError(f"pixel_area must be a positive number, got {pixel_area}.")
    if not 0 < level < 1:
        raise ParameterError(f"level must lie between 0 and 1, such as 0.95 for 95 %, got {level}.")


def _check_mapped(mapped: xr.DataArray, confusion: xr.DataArray) -> None:
    if mapped.dims != ("code",) or "code" not in mapped.coords:
        raise ParameterError(
            f"Mapped pixels must have the dims ('code',) and its coordinate, got {mapped.dims}. "
            "Pass what count_classes gave."
        )
    foreign = set(mapped["code"].values[mapped.values > 0].tolist())
    foreign -= set(confusion["predicted"].values.tolist())
    if foreign:
        raise ParameterError(
            "Map and labels must have been counted with one legend, but only the map has the codes "
            f"{sorted(foreign)}. Count both with the same."
        )


def _check_sample(samples: Floats, pixels: Floats, confusion: xr.DataArray) -> None:
    names, units = confusion["label_name"].values, confusion.attrs.get("units", "pixels")
    if not pixels.any():
        raise LabelError("Areas need a map with classes, got one without. Check the class raster.")
    few = (pixels > 0) & (samples < 2)
    if few.any():
        which = ", ".join(
            f"{name} ({n:.0f})" for name, n in zip(names[few], samples[few], strict=True)
        )
        raise LabelError(
            f"Areas need two labelled {units} at least in each class of the map, and should have "
            f"50, got {which}. Label more there, or join classes in the map."
        )
    lost = samples > pixels
    if lost.any():
        first = int(np.argmax(lost))
        raise ParameterError(
            f"The map must be the one whose classes were labelled, but has {pixels[first]:.0f} "
            f"pixels of {names[first]}, of which {samples[first]:.0f} {units} are labelled. Count "
            "the classes of the same raster (count_classes)."
        )
