"""Scikit-learn classifiers as networks of patch size 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csc_xr.networks.card import NetworkCard


@dataclass(frozen=True, eq=False)
class PixelClassifier:
    """A fitted scikit-learn classifier that takes one pixel at a time.

    Such a classifier lives as long as the run: it is not written to a file, because the only
    general way to do so would run code on reading.

    Attributes
    ----------
    card : NetworkCard
        Bands, scale, legend; size 1; one code for each of the estimator's classes.
    estimator : sklearn classifier
        Has ``predict_proba`` and ``classes_``.
    """

    card: NetworkCard
    estimator: Any

    patch_size = 1

    @property
    def n_outputs(self) -> int:
        """Number of classes the estimator was fitted to."""
        return len(self.card.codes)

    def predict_area(self, area: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give class probabilities for every pixel of an area.

        Parameters
        ----------
        area : ndarray of float32
            Shape (rows, columns, bands), scaled.

        Returns
        -------
        ndarray of float32
            Shape (rows, columns, classes).
        """
        rows, columns, bands = area.shape
        probability = self.estimator.predict_proba(area.reshape(-1, bands))
        return np.asarray(probability, np.float32).reshape(rows, columns, -1)
