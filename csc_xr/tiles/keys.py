"""Class keys: the local classes of a network over several rivers or regions, and what they are.

Gravel of one river may look like none of another. A network then learns a class for each river
and class, and what it finds is put together again: Carbonneau et al. 2020, Remote Sensing of
Environment 251:112107.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import xarray as xr

from csc_xr.errors import LegendError
from csc_xr.legend import ClassLegend, LegendClass

COLUMNS = ("LocalClass", "HierarchClass")
"""Columns of a class-key file: local code, common code."""

_CODES = range(1, 256)


@dataclass(frozen=True)
class ClassKey:
    """Which common class each local class is.

    Attributes
    ----------
    common : dict of int to int
        Common code by local code.

    Raises
    ------
    LegendError
        When it is empty or holds codes that no class can have.

    Examples
    --------
    >>> key = ClassKey({1: 1, 2: 2, 3: 1, 4: 2})
    >>> key.common[3]
    1
    """

    common: dict[int, int]

    def __post_init__(self) -> None:
        wrong = [code for pair in self.common.items() for code in pair if code not in _CODES]
        if wrong or not self.common:
            raise LegendError(
                "A class key maps local codes to common codes, both 1 to 255, got "
                f"{', '.join(map(str, wrong)) or 'nothing'}."
            )

    def local_legend(self, legend: ClassLegend) -> ClassLegend:
        """Make the legend of the local classes.

        Parameters
        ----------
        legend : ClassLegend
            The common classes.

        Returns
        -------
        ClassLegend
            A class for each local code, in the colour of its common class.

        Raises
        ------
        LegendError
            When a common code is not in the legend.
        """
        classes = {entry.code: entry for entry in legend.predicted}
        unknown = sorted(set(self.common.values()) - set(classes))
        if unknown:
            raise LegendError(
                f"The common classes of a class key must be in legend {legend.name!r}, "
                f"{', '.join(map(str, classes))}, got {', '.join(map(str, unknown))}. "
                "Pass the legend of the common classes."
            )
        local = [
            LegendClass(
                code=code,
                name=f"{classes[common].name}, local class {code}",
                colour=classes[common].colour,
            )
            for code, common in sorted(self.common.items())
        ]
        return ClassLegend(f"{legend.name}, local classes", local)


def open_class_key(path: str | Path) -> ClassKey:
    """Read a class key.

    Parameters
    ----------
    path : str or Path
        CSV file with the columns ``LocalClass`` and ``HierarchClass`` (the common class); other
        columns are not looked at.

    Returns
    -------
    ClassKey
        The key.

    Raises
    ------
    LegendError
        When the file cannot be read as one, or gives a local class twice.
    """
    try:
        table = pd.read_csv(path, skipinitialspace=True, encoding="utf-8-sig")
        pairs = [[_whole(code) for code in row] for row in table[list(COLUMNS)].values.tolist()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LegendError(
            f"{path} must be a CSV file with whole numbers in the columns {' and '.join(COLUMNS)}, "
            f"but cannot be read as one: {error}."
        ) from error
    twice = [local for local, count in Counter(local for local, _ in pairs).items() if count > 1]
    if twice:
        raise LegendError(
            f"A class key gives each local class once, got {twice[0]} twice in {path}."
        )
    return ClassKey({row[0]: row[1] for row in pairs})


def with_class_key(tiles: xr.Dataset, key: ClassKey, legend: ClassLegend) -> xr.Dataset:
    """Note in labelled tiles what their local classes are.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles of the key's local legend.
    key : ClassKey
        The key.
    legend : ClassLegend
        The common classes.

    Returns
    -------
    xarray.Dataset
        The same tiles with the attribute ``class_key``: a network fitted to them gives common
        classes.
    """
    codes = {str(local): common for local, common in sorted(key.common.items())}
    return tiles.assign_attrs(class_key={"codes": codes, "legend": legend.to_dict()})


def class_key_of(tiles: xr.Dataset) -> tuple[ClassKey, ClassLegend] | None:
    """Read what :func:`with_class_key` noted.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.

    Returns
    -------
    tuple or None
        The key and the legend of the common classes; None where classes are no local ones.
    """
    noted = tiles.attrs.get("class_key")
    if noted is None:
        return None
    codes = {int(local): int(common) for local, common in noted["codes"].items()}
    return ClassKey(codes), ClassLegend.from_dict(noted["legend"])


def _whole(code: object) -> int:
    number = float(str(code))
    if number % 1 != 0:  # NaN too
        raise LegendError(f"{code} is no whole number")
    return int(number)
