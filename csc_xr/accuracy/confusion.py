"""Confusion matrices of class rasters and of tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import xarray as xr

from csc_xr.errors import CscError, LabelError, LegendError, ParameterError
from csc_xr.grid import same_grid
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.priorities import check_seed

Counts = npt.NDArray[np.int64]


def confusion_matrix(
    labels: xr.DataArray, predicted: xr.DataArray, *, legend: ClassLegend
) -> xr.DataArray:
    """Count pixels by digitised and predicted class.

    Computes: reads every pixel of both rasters once, chunk by chunk, so memory does not
    grow with their size. The matrices of several images may be added up.

    Parameters
    ----------
    labels : xarray.DataArray
        Digitised classes, (y, x), any integer dtype; 0 is unlabelled and never counted.
    predicted : xarray.DataArray
        Predicted classes on the same grid, (y, x), any integer dtype. A labelled pixel
        that is 0 here was left without a class and counts against the recall of its class.
    legend : ClassLegend
        The classes of both; display-only ones are counted like any other.

    Returns
    -------
    xarray.DataArray
        Dims ("label", "predicted"), int64, in memory. The coordinates ``label`` and
        ``predicted`` hold codes (``predicted`` starts with 0), ``label_name`` and
        ``predicted_name`` the names.

    Raises
    ------
    LabelError
        When the labels lie on another grid, are not integers or hold codes that the legend
        does not have.
    ParameterError
        When the predicted raster is not two-dimensional, holds other than integers or codes
        that the legend does not have.

    Examples
    --------
    >>> from csc_xr.legend import RIVER
    >>> labels = xr.DataArray(np.array([[1, 1, 2], [0, 3, 3]]), dims=("y", "x"))
    >>> predicted = xr.DataArray(np.array([[1, 2, 2], [1, 3, 0]]), dims=("y", "x"))
    >>> confusion_matrix(labels, predicted, legend=RIVER).sel(label=[1, 2, 3]).values
    array([[0, 1, 1, 0, 0, 0],
           [0, 0, 1, 0, 0, 0],
           [1, 0, 0, 1, 0, 0]])
    """
    _check_pair(labels, predicted)
    labels, predicted = labels.transpose("y", "x"), predicted.transpose("y", "x")
    if labels.chunks is None and predicted.chunks is None:
        counts = _count_block(labels.values, predicted.values, legend)
    else:
        chunks = predicted.chunksizes or labels.chunksizes
        blocks = zip(
            labels.chunk(chunks).data.to_delayed().ravel(),
            predicted.chunk(chunks).data.to_delayed().ravel(),
            strict=True,
        )
        count = dask.delayed(_count_block, pure=True)
        parts = [count(label, found, legend) for label, found in blocks]
        (counts,) = dask.compute(dask.delayed(sum)(parts))
    return _matrix(counts, legend, units="pixels")


def count_codes(
    labels: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    *,
    legend: ClassLegend,
    units: str = "tiles",
) -> xr.DataArray:
    """Count tiles or points by labelled and predicted class.

    Parameters
    ----------
    labels : numpy.ndarray
        Class of each tile, (tile,), any integer dtype; 0 is unlabelled and never counted.
    predicted : numpy.ndarray
        Predicted class of each tile, (tile,), any integer dtype; 0 is a tile left without a
        class, which counts against the recall of its class.
    legend : ClassLegend
        The classes of both.
    units : str
        What is counted: "tiles" or "points".

    Returns
    -------
    xarray.DataArray
        As :func:`confusion_matrix` gives it, with these units.

    Raises
    ------
    LabelError
        When the labels are not one-dimensional, not as many as the predictions, not integers or
        hold codes that the legend does not have.
    ParameterError
        When the predictions are not one-dimensional, hold other than integers or codes that the
        legend does not have.

    Examples
    --------
    >>> from csc_xr.legend import RIVER
    >>> counts = count_codes(np.array([1, 1, 2, 0]), np.array([1, 2, 2, 2]), legend=RIVER)
    >>> counts.sel(label=[1, 2], predicted=[1, 2]).values
    array([[1, 1],
           [0, 1]])
    """
    if predicted.ndim != 1:
        raise ParameterError(
            f"Predicted classes of {units} must have one dimension, got {predicted.ndim}. "
            "Pass one code for each."
        )
    if labels.shape != predicted.shape:
        raise LabelError(
            f"Labels must have one code for each of the {predicted.size} predicted {units}, "
            f"got the shape {labels.shape}. Pass the labels of the same {units} in the same order."
        )
    _check_codes(predicted.dtype)
    _check_integers(labels.dtype)
    return _matrix(_count_block(labels, predicted, legend), legend, units=units)


def count_classes(raster: xr.DataArray, *, legend: ClassLegend) -> xr.DataArray:
    """Count the pixels of each class.

    Computes: reads every pixel once, chunk by chunk, so memory does not grow with the raster.

    Parameters
    ----------
    raster : xarray.DataArray
        Classes, (y, x), any integer dtype; 0 is no class.
    legend : ClassLegend
        The classes.

    Returns
    -------
    xarray.DataArray
        Dims ("code",), int64, in memory: 0 and every code of the legend, with the coordinate
        ``class_name``.

    Raises
    ------
    ParameterError
        When the raster is not two-dimensional, holds other than integers or codes that the
        legend does not have.

    Examples
    --------
    >>> from csc_xr.legend import RIVER
    >>> raster = xr.DataArray(np.array([[1, 1, 2], [0, 3, 3]]), dims=("y", "x"))
    >>> count_classes(raster, legend=RIVER).values
    array([1, 2, 1, 2, 0, 0])
    """
    _check_raster(raster)
    blocks = [raster.values] if raster.chunks is None else raster.data.to_delayed().ravel()
    count = dask.delayed(_count_positions, pure=True)
    (counts,) = dask.compute(dask.delayed(sum)([count(block, legend) for block in blocks]))
    codes = _codes(legend)
    return xr.DataArray(
        counts,
        dims="code",
        coords={"code": codes, "class_name": ("code", _names(codes, legend))},
        name="pixels",
        attrs={"units": "pixels", "legend": legend.name},
    )


def subsample(confusion: xr.DataArray, *, n: int, seed: int) -> xr.DataArray:
    """Draw some of the pixels, tiles or points that were counted.

    Equals in law drawing them one by one without replacement and counting anew. The pixels
    themselves are not needed, and memory does not grow with their number.

    Parameters
    ----------
    confusion : xarray.DataArray
        From :func:`confusion_matrix` or :func:`count_codes`, or a sum of such matrices.
    n : int
        How many to draw. When there are no more, all are kept.
    seed : int
        The same seed draws the same; another seed draws others.

    Returns
    -------
    xarray.DataArray
        Like the matrix, with at most `n` counted.

    Raises
    ------
    ParameterError
        When ``n`` is not a whole number of 1 or more, or the seed not one of 0 or more.

    Notes
    -----
    Each pixel is kept with probability n / total, and the few too many or too few are drawn from
    those kept or left. Given their number, pixels kept independently are a random sample of that
    size, and so is what remains when a random part of it goes. NumPy's multivariate hypergeometric
    draw is limited to 1e9 pixels, which a dozen satellite scenes have.

    Examples
    --------
    >>> from csc_xr.legend import RIVER
    >>> counts = count_codes(np.repeat([1, 2], 500), np.repeat([1, 3], 500), legend=RIVER)
    >>> int(subsample(counts, n=100, seed=1).sum())
    100
    """
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
        raise ParameterError(f"n must be a whole number of 1 or more, got {n}.")
    rng = np.random.default_rng(check_seed(seed))
    counts = confusion.values.ravel()
    total = int(counts.sum())
    if n >= total:
        return confusion.copy()
    drawn = rng.binomial(counts, n / total)
    missing = n - int(drawn.sum())
    pool = counts - drawn if missing > 0 else drawn
    chosen = rng.choice(int(pool.sum()), abs(missing), replace=False, shuffle=False)
    cells = np.searchsorted(np.cumsum(pool), chosen, side="right")
    drawn = drawn + np.sign(missing) * np.bincount(cells, minlength=len(counts))
    return confusion.copy(data=drawn.reshape(confusion.shape))


def confusion_to_dict(confusion: xr.DataArray) -> dict[str, Any]:
    """Put a confusion matrix into plain values that JSON can hold.

    Parameters
    ----------
    confusion : xarray.DataArray
        From :func:`confusion_matrix` or :func:`count_codes`, or a sum of such matrices.

    Returns
    -------
    dict
        ``units``, ``label`` and ``predicted`` (lists of codes), and ``counts`` (a list for each
        label). :func:`confusion_from_dict` reads it back.
    """
    return {
        "units": str(confusion.attrs.get("units", "pixels")),
        "label": confusion["label"].values.tolist(),
        "predicted": confusion["predicted"].values.tolist(),
        "counts": confusion.values.tolist(),
    }


def confusion_from_dict(content: Mapping[str, Any], *, legend: ClassLegend) -> xr.DataArray:
    """Make a confusion matrix of plain values.

    Parameters
    ----------
    content : mapping
        As :func:`confusion_to_dict` gives it, with codes in any order.
    legend : ClassLegend
        Has every code, and may have more.

    Returns
    -------
    xarray.DataArray
        As :func:`confusion_matrix` gives it, for all classes of the legend.

    Raises
    ------
    LegendError
        When there is a code that the legend does not have.
    ParameterError
        When keys are missing, or the values are no matrix of counts.
    """
    try:
        given = np.array(content["counts"])
        labels, predicted = ([int(code) for code in content[key]] for key in ("label", "predicted"))
        units = str(content["units"])
    except (KeyError, TypeError, ValueError) as error:
        raise ParameterError(
            "A confusion matrix needs units, label, predicted and counts, got "
            f"{str(content)[:80]}. Pass what confusion_to_dict gave."
        ) from error
    shape = (len(labels), len(predicted))
    if given.shape != shape or given.dtype.kind not in "iu" or (given < 0).any():
        raise ParameterError(
            f"Counts must be whole numbers of 0 or more, {shape[0]} labels by {shape[1]} "
            f"predictions, got {given.dtype} of the shape {given.shape}. Pass what "
            "confusion_to_dict gave."
        )
    codes = _codes(legend).tolist()
    foreign = sorted((set(labels) - set(codes[1:])) | (set(predicted) - set(codes)))
    if foreign:
        raise LegendError(
            f"Legend {legend.name!r} must have every code of a confusion matrix, but lacks "
            f"{foreign}. Pass the legend it was counted with."
        )
    counts = np.zeros((len(codes), len(codes)), np.int64)
    counts[np.ix_([codes.index(a) for a in labels], [codes.index(b) for b in predicted])] = given
    return _matrix(counts, legend, units=units)


def _check_pair(labels: xr.DataArray, predicted: xr.DataArray) -> None:
    _check_raster(predicted)
    if set(labels.dims) != {"y", "x"}:
        raise LabelError(f"Labels must have the dims y and x, got {labels.dims}. Select one band.")
    _check_integers(labels.dtype)
    if dict(labels.sizes) != dict(predicted.sizes):
        raise LabelError(
            f"Labels must have the shape of the class raster, {_shape(predicted)}, "
            f"got {_shape(labels)}. Bring them onto the grid of the scene first."
        )
    if labels.rio.crs is None or predicted.rio.crs is None:
        return
    if not same_grid(labels, predicted):
        raise LabelError(
            "Labels must lie on the grid of the class raster, got another coordinate reference "
            "system or transform. Bring them onto the grid of the scene first."
        )


def _check_raster(raster: xr.DataArray) -> None:
    if set(raster.dims) != {"y", "x"}:
        raise ParameterError(
            f"A class raster must have the dims y and x, got {raster.dims}. Select one raster."
        )
    _check_codes(raster.dtype)


def _check_codes(dtype: np.dtype[Any]) -> None:
    if not np.issubdtype(dtype, np.integer):
        raise ParameterError(f"Class codes must be integers, got {dtype}.")


def _check_integers(dtype: np.dtype[Any]) -> None:
    if not np.issubdtype(dtype, np.integer):
        raise LabelError(f"Labels must be integers, got {dtype}. Convert them first.")


def _shape(raster: xr.DataArray) -> str:
    return f"{raster.sizes['y']} rows and {raster.sizes['x']} columns"


def _codes(legend: ClassLegend) -> npt.NDArray[np.integer]:
    return np.array([NODATA_CODE, *(entry.code for entry in legend.classes)])


def _names(codes: npt.NDArray[np.integer], legend: ClassLegend) -> npt.NDArray[np.str_]:
    return np.array([legend.class_name(int(code)) for code in codes])


def _matrix(counts: Counts, legend: ClassLegend, *, units: str) -> xr.DataArray:
    codes = _codes(legend)
    names = _names(codes, legend)
    return xr.DataArray(
        counts[1:],
        dims=("label", "predicted"),
        coords={
            "label": codes[1:],
            "predicted": codes,
            "label_name": ("label", names[1:]),
            "predicted_name": ("predicted", names),
        },
        name="confusion",
        attrs={"units": units, "legend": legend.name},
    )


def _count_block(
    labels: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], legend: ClassLegend
) -> Counts:
    """Count by the positions of both classes among 0 and the codes of the legend."""
    n = len(legend.classes) + 1
    rows = _positions(labels, legend, "Labels", LabelError)
    columns = _positions(predicted, legend, "Predicted classes", ParameterError)
    flat = rows.ravel().astype(np.intp) * n + columns.ravel()
    return np.bincount(flat, minlength=n * n).reshape(n, n).astype(np.int64)


def _count_positions(values: npt.NDArray[np.integer], legend: ClassLegend) -> Counts:
    positions = _positions(values, legend, "A class raster", ParameterError)
    return np.bincount(positions.ravel(), minlength=len(legend.classes) + 1).astype(np.int64)


def _positions(
    values: npt.NDArray[np.integer], legend: ClassLegend, what: str, error: type[CscError]
) -> npt.NDArray[np.int16]:
    """Find the position of each value among 0 and the codes of the legend."""
    codes = _codes(legend)
    table = np.full(256, -1, dtype=np.int16)
    table[codes] = np.arange(len(codes))
    known = (values >= 0) & (values <= 255)
    positions = np.where(known, table[np.where(known, values, 0)], np.int16(-1))
    if (positions < 0).any():
        foreign = np.unique(values[positions < 0])[:10].tolist()
        raise error(
            f"{what} must hold 0 or codes of the legend {legend.name!r}, "
            f"{codes[1:].tolist()}, got {foreign}. Pass the legend they were made with."
        )
    return positions
