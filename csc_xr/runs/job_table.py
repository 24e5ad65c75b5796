"""Tables of jobs: CSV as spreadsheets write it, read with care and written back as it was."""

from __future__ import annotations

import csv
import io
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csc_xr.errors import CscWarning, OutputError, ParameterError
from csc_xr.files import check_output_folder, replacing

DONE, ERROR = "Done", "Error"

_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_DELIMITERS = (",", ";", "\t")


def column_key(name: str) -> str:
    """Give what is the same for all spellings of a column's name.

    Parameters
    ----------
    name : str
        Such as ``PatchSize``, ``patch_size`` or ``Patch size``.

    Returns
    -------
    str
        Lower-case letters and digits.

    Examples
    --------
    >>> column_key("Patch_Size "), column_key("PatchSize")
    ('patchsize', 'patchsize')
    """
    return "".join(letter for letter in name.lower() if letter.isalnum())


@dataclass(frozen=True)
class JobRow:
    """A row of the table.

    Attributes
    ----------
    line : int
        Its number as a spreadsheet shows it; that of the header is 1.
    cells : dict of str to str
        Text by :func:`column_key`, without blanks around it; only cells that hold something.
    """

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class _Sheet:
    """The text of a table and how it is written."""

    encoding: str
    delimiter: str
    line_end: str
    header: list[str]
    lines: list[list[str]]  # cells, one list for each line beneath the header


@dataclass(frozen=True)
class JobTable:
    """A table of jobs in a file.

    Attributes
    ----------
    path : Path
        The file.
    header : tuple of str
        Names of the columns as they are written.
    rows : tuple of JobRow
        Rows that hold something.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[JobRow, ...]

    def note(self, row: JobRow, *, done: bool, error: str = "") -> None:
        """Write what became of a job into its row, whole or not at all.

        The file is read again before, so that what was changed in it meanwhile stays.

        Parameters
        ----------
        row : JobRow
            The job, as it was read.
        done : bool
            Whether all of it is finished.
        error : str
            Why not.

        Raises
        ------
        OutputError
            When the file cannot be written.

        Warns
        -----
        CscWarning
            When the row is not there any more.
        """
        sheet = _read_sheet(self.path)
        keys = [column_key(name) for name in sheet.header]
        place = _find(sheet, keys, row)
        if place is None:
            warnings.warn(
                f"Line {row.line} of {self.path} was changed while its job ran: "
                f"{'it is done' if done else error}, but the table does not say so.",
                CscWarning,
                stacklevel=2,
            )
            return
        for name, value in ((DONE, "1" if done else "0"), (ERROR, " ".join(error.split()))):
            key = column_key(name)
            if key not in keys:
                keys.append(key)
                sheet.header.append(name)
            cells = sheet.lines[place]
            cells += [""] * (len(keys) - len(cells))
            cells[keys.index(key)] = value
        _write_sheet(sheet, self.path)


def read_job_table(path: str | Path) -> JobTable:
    """Read a table of jobs.

    Parameters
    ----------
    path : str or Path
        CSV with a header; cells parted by commas, semicolons or tabs, in UTF-8 with or without
        byte-order mark, UTF-16, or the Windows encoding of western Europe, lines ended in any
        way.

    Returns
    -------
    JobTable
        All rows that are not empty.

    Raises
    ------
    ParameterError
        When there is no such file, it is no table, a column stands in it twice, a row has more
        cells than the header, or there is no job.
    OutputError
        When the file is read-only, so that it could not be told what is done.
    """
    file = Path(path)
    if not file.is_file():
        raise ParameterError(f"A table of jobs must be a CSV file, but there is none at {file}.")
    sheet = _read_sheet(file)
    keys = [column_key(name) for name in sheet.header]
    twice = sorted({name for name in sheet.header if keys.count(column_key(name)) > 1})
    if twice:
        raise ParameterError(
            f"Each column of {file} must stand in it once, got {', '.join(twice)}. Columns are "
            "told apart by letters and digits alone."
        )
    rows = []
    for line, cells in enumerate(sheet.lines, 2):
        if any(cell.strip() for cell in cells[len(keys) :]):
            raise ParameterError(
                f"Line {line} of {file} must have {len(keys)} cells like the header, got "
                f"{len(cells)}. Put cells that hold {sheet.delimiter!r} in double quotes."
            )
        filled = {key: cell.strip() for key, cell in zip(keys, cells, strict=False) if cell.strip()}
        if filled:
            rows.append(JobRow(line, filled))
    if not rows:
        raise ParameterError(f"{file} must have a job in each line beneath its header, got none.")
    _check_writable(file)
    return JobTable(file, tuple(sheet.header), tuple(rows))


def _read_sheet(path: Path) -> _Sheet:
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        encoding = "cp1252"  # what Excel writes on Windows unless told otherwise
        text = content.decode(encoding, errors="replace")
    if "\0" in text or not text.strip():
        what = "an empty file" if not text.strip() else "something else"
        raise ParameterError(f"{path} must be a table of jobs as CSV, got {what}.")
    first = text.splitlines()[0]
    delimiter = max(_DELIMITERS, key=first.count)
    line_end = "\r\n" if "\r\n" in text else "\r" if "\n" not in text and "\r" in text else "\n"
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ParameterError(f"{path} must be a table of jobs as CSV: {error}.") from error
    header = lines[0]
    while header and not header[-1].strip():
        header.pop()
    return _Sheet(encoding, delimiter, line_end, header, lines[1:])


def _write_sheet(sheet: _Sheet, path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=sheet.delimiter, lineterminator=sheet.line_end)
    writer.writerow(sheet.header)
    writer.writerows(sheet.lines)
    with replacing(path.resolve()) as partial:
        partial.write_bytes(text.getvalue().encode(sheet.encoding, errors="replace"))
        partial.chmod(stat.S_IMODE(path.stat().st_mode))


def _find(sheet: _Sheet, keys: Sequence[str], row: JobRow) -> int | None:
    """Find the line of a row: where it was, or else the only one that says the same."""
    told = {column_key(DONE), column_key(ERROR)}
    wanted = {key: cell for key, cell in row.cells.items() if key not in told}

    def says(cells: Sequence[str]) -> dict[str, str]:
        pairs = zip(keys, cells, strict=False)
        return {key: cell.strip() for key, cell in pairs if cell.strip() and key not in told}

    same = [place for place, cells in enumerate(sheet.lines) if says(cells) == wanted]
    if row.line - 2 in same:
        return row.line - 2
    return same[0] if len(same) == 1 else None


def _check_writable(path: Path) -> None:
    target = path.resolve()
    if not target.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise OutputError(
            f"{path} must be writable, because what is done is noted in it, but it is read-only. "
            "Change its permissions, or copy it."
        )
    check_output_folder(target.parent)
