"""Tables of results: their columns, and reports as rows of them."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from csc_xr.accuracy.scores import classification_report
from csc_xr.errors import ParameterError
from csc_xr.figures.score_marks import POOLED as POOLED

AVERAGES = {"Weighted_avg": "All", "Macro_avg": "Macro", "Accuracy": "Accuracy"}
"""Class in a table of what reports give besides classes; F1 of Accuracy is the accuracy itself."""

ERROR_TYPES = {"Mode": "mode_m", "Median": "median_m", "Mean": "mean_m", "St.Dev.": "std_m"}
"""Name in a table of each figure of a deviation."""

F1_COLUMNS = (
    "F1", "F1_Class", "Patch_Size", "Tile_Size", "Bands", "CNN_Training", "CSC_Phase", "Glacier",
    "Validation", "Scene", "Scenes", "Scenes_Learned", "Precision", "Recall", "Support",
    "Class_Code", "Run", "Experiment",
)  # fmt: skip
"""First columns of a table of F1, those of the reference before all others."""

ERROR_COLUMNS = (
    "Error", "Error_Type", "Patch_Size", "Tile_Size", "Bands", "CNN_Training", "Glacier",
    "Validation", "Scene", "Scenes", "Scenes_Found", "Scenes_Learned", "Points",
    "Share_Under_100_m", "Outcome", "Reason", "Run", "Experiment",
)  # fmt: skip
"""First columns of a table of errors, likewise."""

_REPORT = ("Class", "Precision", "Recall", "F1_score", "Support")
_HEADS = {
    "class": "Class", "class_name": "Class", "precision": "Precision", "recall": "Recall",
    "f1_score": "F1_score", "f1score": "F1_score", "f1": "F1_score", "support": "Support",
}  # fmt: skip
_AVERAGES_BY_SPELLING = {name.lower(): name for name in AVERAGES}
_NO_CLASSES = ("micro_avg", "samples_avg")


def make_table(rows: Iterable[Mapping[str, Any]], first: Sequence[str]) -> pd.DataFrame:
    """Make a table of rows that need not have all columns.

    Parameters
    ----------
    rows : iterable of mapping
        Value by column, None where it is not known.
    first : sequence of str
        Columns that the table has in any case, in this order; others follow as they come.

    Returns
    -------
    pandas.DataFrame
        Whole numbers stay whole beside missing ones.
    """
    content = [dict(row) for row in rows]
    names = dict.fromkeys([*first, *(name for row in content for name in row)])
    return pd.DataFrame({name: _column([row.get(name) for row in content]) for name in names})


def _column(values: Sequence[Any]) -> pd.Series[Any]:
    """Make a column whose type does not depend on what is missing in it."""
    known = [value for value in values if not pd.isna(value)]
    kinds = {type(value) for value in known}
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean")
    if kinds == {int}:
        return pd.Series(values, dtype="Int64")
    if kinds <= {int, float}:
        return pd.Series(values, dtype="float64")
    return pd.Series([None if pd.isna(value) else str(value) for value in values], dtype="str")


def matrix_rows(confusion: xr.DataArray) -> list[dict[str, Any]]:
    """Give the scores of a confusion matrix as rows of a table of F1.

    Parameters
    ----------
    confusion : xarray.DataArray
        Dims ("label", "predicted"), with something labelled.

    Returns
    -------
    list of dict
        As :func:`report_rows` gives them, with the codes of the classes.
    """
    occurring = confusion["label"].values[confusion.values.sum(axis=1) > 0]
    return report_rows(classification_report(confusion), codes=occurring.tolist())


def report_rows(report: pd.DataFrame, *, codes: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Give a report as rows of a table of F1.

    Parameters
    ----------
    report : pandas.DataFrame
        Columns Class, Precision, Recall, F1_score and Support.
    codes : sequence of int
        Of the classes, in the order of the first rows, where they are known.

    Returns
    -------
    list of dict
        Averages, then classes, with F1, F1_Class, Precision, Recall, Support and Class_Code.
    """
    averages, classes = {}, []
    for number, entry in enumerate(report.to_dict("records")):
        row = {
            "F1": entry["F1_score"],
            "F1_Class": AVERAGES.get(entry["Class"], entry["Class"]),
            "Precision": entry["Precision"],
            "Recall": entry["Recall"],
            "Support": None if pd.isna(entry["Support"]) else int(entry["Support"]),
            "Class_Code": codes[number] if number < len(codes) else None,
        }
        if entry["Class"] in AVERAGES:
            averages[entry["Class"]] = row
        else:
            classes.append(row)
    return [*(averages[name] for name in AVERAGES if name in averages), *classes]


def read_report(path: Path) -> pd.DataFrame:
    """Read a report of scores, in any of the forms that CSC and scikit-learn have left them in.

    Parameters
    ----------
    path : Path
        A CSV file with commas, semicolons (then decimal commas too) or tabulators, with or
        without a byte-order mark or an index column.

    Returns
    -------
    pandas.DataFrame
        Columns Class, Precision, Recall, F1_score (0 to 1) and Support; a row a class, and those
        of Accuracy, Macro_avg and Weighted_avg that are there.

    Raises
    ------
    ParameterError
        When the file cannot be read, lacks a column or holds something else than scores.
    """
    try:
        head, table = _read_text_table(path)
        known = [name for name in _REPORT if name in table]
        report = table[known].assign(**{name: table[name].map(_number) for name in known[1:]})
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"{path} must be a table of scores, but cannot be read as one: {error}."
        ) from error
    if len(known) < len(_REPORT):
        raise ParameterError(
            f"{path} must have the columns {', '.join(_REPORT)}, got {head.strip()!r}."
        )
    spelled = report["Class"].str.lower().str.replace(r"[ -]", "_", regex=True)
    report["Class"] = spelled.map(_AVERAGES_BY_SPELLING).fillna(report["Class"])
    report = report[(report["Class"] != "") & ~spelled.isin(_NO_CLASSES)]
    if report.empty or (report["F1_score"] > 1).any():
        most = "no row" if report.empty else f"one of {report['F1_score'].max():g}"
        raise ParameterError(
            f"{path} must hold F1 scores from 0 to 1, got {most}. Leave it out, or give scores as "
            "shares."
        )
    return _with_plain_accuracy(report.reset_index(drop=True))


def _read_text_table(path: Path) -> tuple[str, pd.DataFrame]:
    """Give the first line, and columns by their names in a report, all as text."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252")  # spreadsheets of the West
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    table = pd.read_csv(
        io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False
    )
    table = table.apply(lambda column: column.str.strip())
    names = {name: _HEADS.get(_plain(name), name) for name in table.columns}
    if "Class" not in names.values():  # scikit-learn's own table: classes are its index
        names[table.columns[0]] = "Class"
    return head, table.rename(columns=names)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _number(text: str) -> float:
    return float(text.replace(",", ".")) if text else math.nan


def _with_plain_accuracy(report: pd.DataFrame) -> pd.DataFrame:
    """Undo that scikit-learn repeats the accuracy in every column of its row."""
    row = report["Class"] == "Accuracy"
    report.loc[row, ["Precision", "Recall"]] = math.nan
    classes = report.loc[~report["Class"].isin(AVERAGES), "Support"]
    report.loc[row, "Support"] = classes.sum()
    return report
