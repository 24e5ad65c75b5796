"""What tells runs of a table apart, in words short enough for a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from csc_xr.errors import ParameterError

_OBSERVED = {
    "F1", "F1_Class", "CSC_Phase", "Scene", "Scenes", "Scenes_Found", "Scenes_Learned",
    "Precision", "Recall", "Support", "Class_Code", "Error", "Error_Type", "Points",
    "Share_Under_100_m", "Outcome", "Reason", "Run", "Scenes_Scored", "Left_Out", "Fronts_Sought",
    "Fronts_Found", "Folder",
}  # fmt: skip
_BEFORE_OTHERS = ("Tile_Size", "Patch_Size", "Bands", "CNN_Training", "Glacier")
_AFTER_OTHERS = (
    "Seed",
    "Experiment",
    "Network_Architecture",
    "Network_Name",
    "Network_Fingerprint",
)
_UNITS = {"Tile_Size": "px", "Patch_Size": "px"}
_UNKNOWN = "unknown"


def telling_columns(
    table: pd.DataFrame, *, given: Sequence[str] = (), most: int | None = None
) -> tuple[list[str], list[str]]:
    """Choose settings that tell the runs of a table apart, and leave out what follows from them.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of runs, as :func:`csc_xr.results.collect.collect_results` gives them; columns that are
        of observations, not of runs, are passed over.
    given : sequence of str
        Columns that tell runs apart already.
    most : int, optional
        Most combinations of values of the columns chosen.

    Returns
    -------
    chosen : list of str
        Columns in the order of their weight.
    left : list of str
        Those that would tell more runs apart, but make too many combinations.

    Examples
    --------
    >>> table = pd.DataFrame({"Patch_Size": [3, 3, 7], "Seed": [0, 1, 0], "Experiment": [*"abc"]})
    >>> telling_columns(table)
    (['Patch_Size', 'Seed'], [])
    >>> telling_columns(table, given=["Patch_Size"], most=1)
    ([], ['Seed'])
    """
    names = [str(name) for name in table.columns if name not in _OBSERVED and name not in given]
    middle = [name for name in names if name not in (*_BEFORE_OTHERS, *_AFTER_OTHERS)]
    candidates = [
        *(name for name in _BEFORE_OTHERS if name in names),
        *middle,
        *(name for name in _AFTER_OTHERS if name in names),
    ]
    codes = pd.DataFrame(
        {name: pd.factorize(table[name])[0] for name in (*given, *candidates)}, index=table.index
    ).drop_duplicates()
    chosen: list[str] = []
    left: list[str] = []
    apart = _combinations(codes, given)
    for name in candidates:
        now = _combinations(codes, (*given, *chosen, *left, name))
        if now == apart:
            continue
        apart = now
        if most is None or _combinations(codes, (*chosen, name)) <= most:
            chosen.append(name)
        else:
            left.append(name)
    return chosen, left


def name_runs(table: pd.DataFrame) -> dict[str, str]:
    """Name each run of a table by the settings that tell it from the others.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of runs, with the column Run.

    Returns
    -------
    dict of str to str
        Names by run, in the order of the table; empty for a single run. Runs that no setting
        tells apart have their identifier in their names.

    Examples
    --------
    >>> name_runs(pd.DataFrame({"Run": ["a1", "b2"], "Patch_Size": [3, 7]}))
    {'a1': 'patch size 3 px', 'b2': 'patch size 7 px'}
    """
    runs = table.drop_duplicates("Run")
    if "Validation" in table:  # may differ between the scenes of a run
        alike = table.groupby("Run")["Validation"].nunique(dropna=False) == 1
        runs = runs.assign(Validation=runs["Validation"].where(runs["Run"].map(alike)))
    if len(runs) == 1:
        return {str(runs["Run"].iloc[0]): ""}
    chosen, _ = telling_columns(runs)
    names = [name_values(row, chosen) for row in runs.to_dict("records")]
    return {
        str(run): name if names.count(name) == 1 else f"{name} ({run})".strip()
        for run, name in zip(runs["Run"], names, strict=True)
    }


def name_values(row: Any, columns: Sequence[str]) -> str:
    """Say some settings of a run.

    Parameters
    ----------
    row : mapping
        Value by column.
    columns : sequence of str
        Those to say.

    Returns
    -------
    str
        Such as ``"tile size 50 px, bands RGB"``; empty without columns.
    """
    return ", ".join(_setting(name, row[name]) for name in columns)


def column_words(name: str, *, capital: bool = False) -> str:
    """Say the name of a column.

    Parameters
    ----------
    name : str
        The column.
    capital : bool
        Whether it begins a sentence.

    Returns
    -------
    str
        Its words.

    Examples
    --------
    >>> column_words("Fit_Steps"), column_words("CNN_Training", capital=True)
    ('fit steps', 'CNN training')
    """
    words = " ".join(word if word.isupper() else word.lower() for word in name.split("_"))
    return words[:1].upper() + words[1:] if capital else words


def axis_label(name: str) -> str:
    """Label an axis with a setting and its unit.

    Parameters
    ----------
    name : str
        The column.

    Returns
    -------
    str
        Such as ``"Patch size (px)"``.
    """
    unit = f" ({_UNITS[name]})" if name in _UNITS else ""
    return f"{column_words(name, capital=True)}{unit}"


def value_words(value: Any) -> str:
    """Say the value of a setting.

    Parameters
    ----------
    value : object
        Number, text, or missing.

    Returns
    -------
    str
        ``"unknown"`` where it is missing.
    """
    if pd.isna(value):
        return _UNKNOWN
    return f"{value:g}" if isinstance(value, float) else str(value)


def check_columns(table: pd.DataFrame, needed: Sequence[str], what: str) -> None:
    """Check that a table can be drawn.

    Parameters
    ----------
    table : pandas.DataFrame
        The table.
    needed : sequence of str
        Columns it must have.
    what : str
        What is to be drawn.

    Raises
    ------
    ParameterError
        When a column is missing.
    """
    missing = [name for name in needed if name not in table]
    if missing:
        raise ParameterError(
            f"{what} needs the columns {', '.join(needed)}, got a table without "
            f"{', '.join(missing)}. Pass a table of collect_results, or name another column."
        )


def _combinations(codes: pd.DataFrame, columns: Sequence[str]) -> int:
    return len(codes[list(columns)].drop_duplicates()) if columns else 1


def _setting(name: str, value: Any) -> str:
    unit = f" {_UNITS[name]}" if name in _UNITS and not pd.isna(value) else ""
    return f"{column_words(name)} {value_words(value)}{unit}"
