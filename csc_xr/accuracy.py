"""Accuracy of class rasters and of tiles: confusion matrices and reports per class."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from csc_xr.errors import LabelError, ParameterError
from csc_xr.grid import same_grid
from csc_xr.legend import NODATA_CODE, ClassLegend

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
    labels: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], *, legend: ClassLegend
) -> xr.DataArray:
    """Count tiles by labelled and predicted class.

    Parameters
    ----------
    labels : numpy.ndarray
        Class of each tile, (tile,), any integer dtype; 0 is unlabelled and never counted.
    predicted : numpy.ndarray
        Predicted class of each tile, (tile,), any integer dtype; 0 is a tile left without a
        class, which counts against the recall of its class.
    legend : ClassLegend
        The classes of both.

    Returns
    -------
    xarray.DataArray
        As :func:`confusion_matrix` gives it, with the units "tiles".

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
            f"Predicted classes of tiles must have one dimension, got {predicted.ndim}. "
            "Pass one code for each tile."
        )
    if labels.shape != predicted.shape:
        raise LabelError(
            f"Labels must have one code for each of the {predicted.size} predicted tiles, "
            f"got the shape {labels.shape}. Pass the labels of the same tiles in the same order."
        )
    _check_integers(labels.dtype, predicted.dtype)
    return _matrix(_count_block(labels, predicted, legend), legend, units="tiles")


def classification_report(confusion: xr.DataArray) -> pd.DataFrame:
    """Compute precision, recall and F1 per class, accuracy and averages.

    Equals scikit-learn's ``classification_report`` over the labelled pixels or tiles, with
    ``labels`` the classes that occur in the labels and ``zero_division=0``. Classes that are
    only predicted have no row and no part in the averages; what was taken for them lowers the
    recall of the classes it belongs to.

    Parameters
    ----------
    confusion : xarray.DataArray
        From :func:`confusion_matrix` or :func:`count_codes`, or a sum of such matrices.

    Returns
    -------
    pandas.DataFrame
        Columns Class, Precision, Recall, F1_score (0 to 1) and Support (pixels or
        tiles); a row per class that occurs in the labels, then Accuracy (in the column F1_score
        alone), Macro_avg and Weighted_avg.

    Raises
    ------
    LabelError
        When nothing is labelled.

    Examples
    --------
    >>> from csc_xr.legend import RIVER
    >>> labels = xr.DataArray(np.array([[1, 1, 1, 1, 2, 0]]), dims=("y", "x"))
    >>> predicted = xr.DataArray(np.array([[1, 1, 1, 2, 2, 2]]), dims=("y", "x"))
    >>> report = classification_report(confusion_matrix(labels, predicted, legend=RIVER))
    >>> print(report.round(3).to_string(index=False, na_rep=""))
           Class  Precision  Recall  F1_score  Support
           Water       1.00   0.750     0.857        4
    Dry Sediment       0.50   1.000     0.667        1
        Accuracy                        0.800        5
       Macro_avg       0.75   0.875     0.762        5
    Weighted_avg       0.90   0.800     0.819        5
    """
    support = confusion.sum("predicted").values
    present = support > 0
    if not present.any():
        raise LabelError(
            f"Scores need labelled {confusion.attrs.get('units', 'pixels')}, got labels that are 0 "
            "everywhere. Check that the labels belong to what was classified and to this legend."
        )
    matrix = confusion.sel(predicted=confusion["label"].values).values
    hits = np.diagonal(matrix)[present].astype(np.float64)
    labelled = support[present]
    claimed = matrix.sum(axis=0)[present]
    scores = np.column_stack(
        [
            np.divide(hits, claimed, out=np.zeros_like(hits), where=claimed > 0),
            hits / labelled,
            2 * hits / (labelled + claimed),
        ]
    )
    total = labelled.sum()
    accuracy = [np.nan, np.nan, hits.sum() / total]
    rows = np.vstack([scores, accuracy, scores.mean(axis=0), labelled / total @ scores])
    report = pd.DataFrame(rows, columns=["Precision", "Recall", "F1_score"])
    names = [str(name) for name in confusion["label_name"].values[present]]
    report.insert(0, "Class", [*names, "Accuracy", "Macro_avg", "Weighted_avg"])
    report["Support"] = [*labelled.tolist(), *[int(total)] * 3]
    return report


def _check_pair(labels: xr.DataArray, predicted: xr.DataArray) -> None:
    if set(predicted.dims) != {"y", "x"}:
        raise ParameterError(
            f"A class raster must have the dims y and x, got {predicted.dims}. Select one raster."
        )
    if set(labels.dims) != {"y", "x"}:
        raise LabelError(f"Labels must have the dims y and x, got {labels.dims}. Select one band.")
    _check_integers(labels.dtype, predicted.dtype)
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


def _check_integers(labels: np.dtype[Any], predicted: np.dtype[Any]) -> None:
    if not np.issubdtype(predicted, np.integer):
        raise ParameterError(f"Class codes must be integers, got {predicted}.")
    if not np.issubdtype(labels, np.integer):
        raise LabelError(f"Labels must be integers, got {labels}. Convert them first.")


def _shape(raster: xr.DataArray) -> str:
    return f"{raster.sizes['y']} rows and {raster.sizes['x']} columns"


def _codes(legend: ClassLegend) -> npt.NDArray[np.integer]:
    return np.array([NODATA_CODE, *(entry.code for entry in legend.classes)])


def _matrix(counts: Counts, legend: ClassLegend, *, units: str) -> xr.DataArray:
    codes = _codes(legend)
    names = np.array([legend.class_name(int(code)) for code in codes])
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
    codes = _codes(legend)
    label_positions = _positions(labels, codes)
    found_positions = _positions(predicted, codes)
    for positions, values, what, error in (
        (label_positions, labels, "Labels", LabelError),
        (found_positions, predicted, "Predicted classes", ParameterError),
    ):
        if (positions < 0).any():
            foreign = np.unique(values[positions < 0])[:10].tolist()
            raise error(
                f"{what} must hold 0 or codes of the legend {legend.name!r}, "
                f"{codes[1:].tolist()}, got {foreign}. Pass the legend they were made with."
            )
    n = len(codes)
    flat = label_positions.ravel().astype(np.intp) * n + found_positions.ravel()
    return np.bincount(flat, minlength=n * n).reshape(n, n).astype(np.int64)


def _positions(
    values: npt.NDArray[np.integer], codes: npt.NDArray[np.integer]
) -> npt.NDArray[np.int16]:
    """Find the position of each value in ``codes``, -1 where it has none."""
    table = np.full(256, -1, dtype=np.int16)
    table[codes] = np.arange(len(codes))
    known = (values >= 0) & (values <= 255)
    return np.where(known, table[np.where(known, values, 0)], np.int16(-1))
