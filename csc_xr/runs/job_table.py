"""Tables of jobs: CSV as spreadsheets write it, read with care and written back as it was."""

from __future__ import annotations

import codecs
import csv
import io
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from csc_xr.errors import CscError, CscWarning, OutputError, ParameterError
from csc_xr.files import check_output_folder, replacing
from csc_xr.runs.locks import one_at_a_time

DONE, ERROR = "Done", "Error"

_MARKS = {
    codecs.BOM_UTF8: ("utf-8",),
    codecs.BOM_UTF16_LE: ("utf-16-le",),
    codecs.BOM_UTF16_BE: ("utf-16-be",),
    b"": ("utf-8", "cp1252"),  # the latter is what Excel writes on Windows unless told otherwise
}
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
    """The text of a table and how it is written, the header being its first line."""

    mark: bytes
    encoding: str
    delimiter: str
    lines: list[list[str]]  # cells
    written: list[str]  # the same, each as it stands in the file with its end

    @property
    def header(self) -> list[str]:
        """Names of the columns, without empty cells behind them."""
        filled = [place for place, name in enumerate(self.lines[0], 1) if name.strip()]
        return self.lines[0][: max(filled, default=0)]

    def put(self, place: int, cells: list[str]) -> None:
        """Write a line anew."""
        text, before = io.StringIO(newline=""), self.written[place]
        csv.writer(text, delimiter=self.delimiter, lineterminator="\r\n").writerow(cells)
        self.lines[place] = cells
        self.written[place] = text.getvalue()[:-2] + before[len(before.rstrip("\r\n")) :]


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

        The file is read again before, so that what was changed in it meanwhile stays. Nothing
        else in it changes.

        Parameters
        ----------
        row : JobRow
            The job, as it was read.
        done : bool
            Whether all of it is finished.
        error : str
            Why not.

        Warns
        -----
        CscWarning
            When the row is not there any more, or the file cannot be read or written: results do
            not depend on it, and the next run notes what this one could not.
        """
        target = self.path.resolve()
        told = {DONE: "1" if done else "0", ERROR: " ".join(error.split())}
        try:
            if not target.is_file():  # its folder may be gone too, and is not to be made anew
                raise ParameterError("the file is gone.")
            with one_at_a_time(target.with_name(f".{target.name}.lock"), str(self.path)):
                _tell(target, row, told)
        except (CscError, OSError) as problem:
            warnings.warn(
                f"Line {row.line} of {self.path} is {'done' if done else 'not done'}, but the "
                f"table does not say so: {problem} Run the batch again to have it noted.",
                CscWarning,
                stacklevel=2,
            )


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
    header = sheet.header
    keys = [column_key(name) for name in header]
    twice = sorted({name for name in header if name.strip() and keys.count(column_key(name)) > 1})
    if twice:
        raise ParameterError(
            f"Each column of {file} must stand in it once, got {', '.join(twice)}. Columns are "
            "told apart by letters and digits alone."
        )
    rows = []
    for line, cells in enumerate(sheet.lines[1:], 2):
        if any(cell.strip() for cell in cells[len(keys) :]):
            raise ParameterError(
                f"Line {line} of {file} must have {len(keys)} cells like the header, got "
                f"{len(cells)}. Put cells that hold {sheet.delimiter!r} in double quotes."
            )
        filled = _filled(keys, cells)
        if "" in filled:
            raise ParameterError(
                f"Each column of {file} must have a name in the header, but line {line} has "
                f"{filled['']!r} in one without. Name the column, or empty it."
            )
        if filled:
            rows.append(JobRow(line, filled))
    if not rows:
        raise ParameterError(f"{file} must have a job in each line beneath its header, got none.")
    _check_writable(file)
    return JobTable(file, tuple(header), tuple(rows))


def _read_sheet(path: Path) -> _Sheet:
    content = path.read_bytes()
    mark = next(mark for mark in _MARKS if content.startswith(mark))
    encoding, text = _decode(content[len(mark) :], _MARKS[mark])
    if text is None or "\0" in text or not text.strip():
        what = "something else" if content.strip() else "an empty file"
        raise ParameterError(f"{path} must be a table of jobs as CSV in UTF-8, got {what}.")
    delimiter = max(_DELIMITERS, key=text.splitlines()[0].count)
    sheet = _Sheet(mark, encoding, delimiter, [], [])
    read: list[str] = []

    def physical_lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            read.append(line)
            yield line

    try:
        for cells in csv.reader(physical_lines(), delimiter=delimiter, strict=True):
            sheet.lines.append(cells)
            sheet.written.append("".join(read))  # a cell in quotes may hold several lines
            read.clear()
    except csv.Error as error:
        raise ParameterError(f"{path} must be a table of jobs as CSV: {error}.") from error
    return sheet


def _decode(content: bytes, encodings: Sequence[str]) -> tuple[str, str | None]:
    """Give the first encoding that fits, and the text."""
    for encoding in encodings:
        try:
            return encoding, content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return "", None


def _tell(path: Path, row: JobRow, told: dict[str, str]) -> None:
    sheet = _read_sheet(path)
    header = sheet.header
    keys = [column_key(name) for name in header]
    place = _find(sheet, keys, row)
    if place is None:
        raise ParameterError("the line was changed meanwhile.")
    header += [name for name in told if column_key(name) not in keys]
    keys = [column_key(name) for name in header]
    cells = [*sheet.lines[place], *[""] * (len(keys) - len(sheet.lines[place]))]
    for name, value in told.items():
        cells[keys.index(column_key(name))] = value
    if cells[: len(keys)] == sheet.lines[place][: len(keys)]:
        return
    sheet.put(place, cells)
    if len(header) > len(sheet.header):
        sheet.put(0, header)
    text = "".join(sheet.written)
    with replacing(path) as partial:
        partial.write_bytes(sheet.mark + text.encode(sheet.encoding, errors="replace"))
        partial.chmod(stat.S_IMODE(path.stat().st_mode))


def _filled(keys: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    return {key: cell.strip() for key, cell in zip(keys, cells, strict=False) if cell.strip()}


def _find(sheet: _Sheet, keys: Sequence[str], row: JobRow) -> int | None:
    """Find the line of a row: where it was, or else the only one that says the same."""
    told = {column_key(DONE), column_key(ERROR)}

    def asked(cells: dict[str, str]) -> dict[str, str]:
        return {key: cell for key, cell in cells.items() if key not in told}

    same = [
        place
        for place, cells in enumerate(sheet.lines)
        if place and asked(_filled(keys, cells)) == asked(row.cells)
    ]
    if row.line - 1 in same:
        return row.line - 1
    return same[0] if len(same) == 1 else None


def _check_writable(path: Path) -> None:
    target = path.resolve()
    if not target.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise OutputError(
            f"{path} must be writable, because what is done is noted in it, but it is read-only. "
            "Change its permissions, or copy it."
        )
    check_output_folder(target.parent)
