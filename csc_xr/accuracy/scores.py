"""Scores per class from confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from csc_xr.errors import LabelError, ParameterError

METRICS = ("precision", "recall", "f1")
"""Columns of scores, in the order of their numbers."""


def classification_report(confusion: xr.DataArray) -> pd.DataFrame:
    """Compute precision, recall and F1 per class, accuracy and averages.

    Equals scikit-learn's ``classification_report`` over the labelled pixels or tiles, with
    ``labels`` the classes that occur in the labels and ``zero_division=0``. Classes that are
    only predicted have no row and no part in the averages; what was taken for them lowers the
    recall of the classes it belongs to.

    Parameters
    ----------
    confusion : xarray.DataArray
        From :func:`csc_xr.accuracy.confusion.confusion_matrix` or
        :func:`csc_xr.accuracy.confusion.count_codes`, or a sum of such matrices.

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
    >>> from csc_xr.accuracy.confusion import confusion_matrix
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
    found = _score(confusion)
    rows = np.vstack([found.scores, [np.nan, np.nan, found.accuracy], found.macro, found.weighted])
    report = pd.DataFrame(rows, columns=["Precision", "Recall", "F1_score"])
    report.insert(0, "Class", [*found.names, "Accuracy", "Macro_avg", "Weighted_avg"])
    report["Support"] = [*found.support, *[sum(found.support)] * 3]
    return report


def tidy_scores(confusions: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Put the scores of several confusion matrices into one table to filter and plot.

    Parameters
    ----------
    confusions : mapping of str to xarray.DataArray
        What :func:`classification_report` takes, by the name of the phase (such as
        ``tile_class`` and ``pixel_class``) or of anything else that is compared.

    Returns
    -------
    pandas.DataFrame
        For each matrix a row for each class that occurs in the labels, and one for each of
        overall accuracy, macro and weighted averages. Columns:

        - ``phase``: the name given.
        - ``kind``: "class", "overall", "macro" or "weighted".
        - ``code`` (Int64, missing but for classes) and ``class`` ("all" but for classes).
        - ``precision`` (user's accuracy): of what was predicted as the class, the share that is;
          0 where nothing was predicted as it.
        - ``recall`` (producer's accuracy): of what is labelled as the class, the share found.
        - ``f1``: the harmonic mean of both.
        - ``accuracy``: the share of all labelled that is right; of the kind "overall" alone, which
          has no precision, recall and F1.
        - ``support`` (int64): labelled pixels, tiles or points of the class, or of all classes.
        - ``predicted`` (int64): those among all labelled that were predicted as the class; over
          all classes, those that were predicted as any.

    Raises
    ------
    LabelError
        When nothing is labelled.
    ParameterError
        When there is no matrix.

    Examples
    --------
    >>> from csc_xr.accuracy.confusion import count_codes
    >>> from csc_xr.legend import RIVER
    >>> counts = count_codes(np.array([1, 1, 1, 1, 2]), np.array([1, 1, 1, 2, 2]), legend=RIVER)
    >>> scores = tidy_scores({"pixel_class": counts}).query("kind == 'class'")
    >>> scores[["class", "precision", "recall", "support", "predicted"]]
              class  precision  recall  support  predicted
    0         Water        1.0    0.75        4          3
    1  Dry Sediment        0.5    1.00        1          2
    """
    if not confusions:
        raise ParameterError("Scores need one confusion matrix at least, got none.")
    tables = [_tidy(phase, _score(confusion)) for phase, confusion in confusions.items()]
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True, eq=False)
class _Scores:
    """Scores of the classes that occur in the labels, in order of ``METRICS``."""

    codes: list[int]
    names: list[str]
    scores: NDArray[np.float64]
    support: list[int]
    claimed: list[int]
    classified: int

    @property
    def accuracy(self) -> float:
        return float(self.scores[:, 1] @ self._shares)

    @property
    def macro(self) -> NDArray[np.float64]:
        return np.asarray(self.scores.mean(axis=0))

    @property
    def weighted(self) -> NDArray[np.float64]:
        return np.asarray(self._shares @ self.scores)

    @property
    def _shares(self) -> NDArray[np.float64]:
        return np.array(self.support) / sum(self.support)


def _score(confusion: xr.DataArray) -> _Scores:
    support = confusion.sum("predicted").values
    present = support > 0
    if not present.any():
        raise LabelError(
            f"Scores need labelled {confusion.attrs.get('units', 'pixels')}, got labels that are 0 "
            "everywhere. Check that the labels belong to what was classified and to this legend."
        )
    matrix = confusion.sel(predicted=confusion["label"].values).values
    hits = np.diagonal(matrix)[present].astype(np.float64)
    labelled, claimed = support[present], matrix.sum(axis=0)[present]
    precision = np.divide(hits, claimed, out=np.zeros_like(hits), where=claimed > 0)
    return _Scores(
        codes=confusion["label"].values[present].tolist(),
        names=confusion["label_name"].values[present].tolist(),
        scores=np.column_stack([precision, hits / labelled, 2 * hits / (labelled + claimed)]),
        support=labelled.tolist(),
        claimed=claimed.tolist(),
        classified=int(matrix.sum()),
    )


def _tidy(phase: str, found: _Scores) -> pd.DataFrame:
    classes = len(found.codes)
    numbers = np.vstack([found.scores, np.full(3, np.nan), found.macro, found.weighted])
    table = pd.DataFrame(numbers, columns=list(METRICS))
    table.insert(0, "phase", phase)
    table.insert(1, "kind", ["class"] * classes + ["overall", "macro", "weighted"])
    table.insert(2, "code", pd.Series([*found.codes, None, None, None], dtype="Int64"))
    table.insert(3, "class", [*found.names, "all", "all", "all"])
    table["accuracy"] = [np.nan] * classes + [found.accuracy, np.nan, np.nan]
    table["support"] = [*found.support, *[sum(found.support)] * 3]
    table["predicted"] = [*found.claimed, *[found.classified] * 3]
    return table
