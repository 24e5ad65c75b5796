"""Tables of jobs as spreadsheets write them, and what may be changed in them: two cells."""

from __future__ import annotations

import csv
import io
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csc_xr.errors import CscWarning, OutputError, ParameterError
from csc_xr.runs import job_table
from csc_xr.runs.job_table import JobTable, column_key, read_job_table

HEADER = "Model,DataSource,OutFolder,ExpShortHand,PatchSize,Done"
ROWS = ("tiles,Nuuk é,out/n,N1,3,0", 'tiles,"images, old",out/o,O1,5,')
TEXT = "\n".join([HEADER, *ROWS, ""])


def write(folder: Path, content: str | bytes, name: str = "jobs.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cells_of(table: JobTable) -> list[dict[str, str]]:
    return [row.cells for row in table.rows]


READ = [
    {
        "model": "tiles", "datasource": "Nuuk é", "outfolder": "out/n", "expshorthand": "N1",
        "patchsize": "3", "done": "0",
    },
    {
        "model": "tiles", "datasource": "images, old", "outfolder": "out/o", "expshorthand": "O1",
        "patchsize": "5",
    },
]  # fmt: skip

WRITTEN = {
    "plain": TEXT.encode(),
    "Windows": TEXT.replace("\n", "\r\n").encode(),
    "old Mac": TEXT.replace("\n", "\r").encode(),
    "mixed line ends": TEXT.replace("\n", "\r\n", 1).encode(),
    "no end of the last line": TEXT.rstrip("\n").encode(),
    "byte-order mark": TEXT.encode("utf-8-sig"),
    "UTF-16, as Excel's Unicode text": b"\xff\xfe" + TEXT.encode("utf-16-le"),
    "UTF-16, the other way": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "cp1252, as Excel in western Europe": TEXT.encode("cp1252"),
    "semicolons": TEXT.replace(",", ";").replace("images; old", "images, old").encode(),
    "tabs": TEXT.replace(",", "\t").replace("images\t old", "images, old").encode(),
    "quotes everywhere": "\n".join(
        ",".join(f'"{cell}"' for cell in line)
        for line in csv.reader(io.StringIO(TEXT), strict=True)
    ).encode(),
    "blanks": TEXT.replace("tiles", "  tiles ").replace("N1", "\u00a0N1\t").encode(),
    "empty lines": TEXT.replace("\ntiles", "\n\n,,,,,\n \ntiles").encode(),
    "empty columns": TEXT.replace("\n", ",,\n").encode(),
    "missing cells": TEXT.replace("O1,5,", "O1,5").encode(),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_what_spreadsheets_write_is_read_and_only_two_cells_change(
    how: str, tmp_path: Path
) -> None:
    path = write(tmp_path, WRITTEN[how])
    table = read_job_table(path)
    assert cells_of(table) == READ
    assert table.header == tuple(HEADER.split(","))
    first, second = table.rows
    table.note(first, done=True)
    table.note(second, done=False, error="it,\nfails; so")
    told = {"error": "it, fails; so", "done": "0"}
    again = read_job_table(path)
    assert cells_of(again) == [{**READ[0], "done": "1"}, {**READ[1], **told}]
    assert again.header == (*HEADER.split(","), "Error")
    table.note(second, done=True)  # what was mended is no error any more
    assert cells_of(read_job_table(path))[1] == {**READ[1], "done": "1"}
    before, after = WRITTEN[how], path.read_bytes()
    assert after.count(b"\r") == before.count(b"\r")
    mark = before[: before.index(b"M")].rstrip(b'"')
    assert after.startswith(mark + b"M")


def test_numbers_of_lines_are_those_of_a_spreadsheet(tmp_path: Path) -> None:
    text = f'{HEADER}\n{ROWS[0]}\n\n"tiles","two\nlines",o,,3,\n{ROWS[1]}'
    table = read_job_table(write(tmp_path, text))
    assert [row.line for row in table.rows] == [2, 4, 5]
    assert table.rows[1].cells["datasource"] == "two\nlines"


@given(
    st.lists(
        st.lists(
            st.text("aé \t,;\"'\n\r|=1", max_size=5), min_size=3, max_size=3
        ),
        min_size=1, max_size=5,
    ),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    st.data(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_all_but_the_told_row_stays_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[list[str]], delimiter: str, end: str, quoting: int, encoding: str,
    data: st.DataObject,
) -> None:  # fmt: skip
    columns = ["Model", "Done", "Data Source", "Error", "Patch_Size"]
    rows = [[model, "0", source, "", size] for model, source, size in lines]
    rows = [[f"m{number}", *row[1:]] for number, row in enumerate(rows)]
    written = []
    for line in [columns, *rows]:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter, lineterminator="\r\n", quoting=quoting).writerow(line)
        written.append(text.getvalue().removesuffix("\r\n") + end)
    path = write(tmp_path_factory.mktemp("table"), "".join(written).encode(encoding))
    table = read_job_table(path)
    assert len(table.rows) == len(rows)
    chosen = data.draw(st.integers(0, len(rows) - 1))
    table.note(table.rows[chosen], done=True, error="so")
    after = path.read_bytes().decode(encoding)
    head, tail = "".join(written[: chosen + 1]), "".join(written[chosen + 2 :])
    assert after.startswith(head)
    assert after.endswith(end + tail)
    told = next(csv.reader([after[len(head) : len(after) - len(tail)]], delimiter=delimiter))
    assert told == [rows[chosen][0], "1", rows[chosen][2], "so", rows[chosen][4]]


def test_what_the_user_changed_meanwhile_stays(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT)
    table = read_job_table(path)
    first, second = table.rows
    edited = "\n".join([f"{HEADER},Seed", "tiles,new,out/x,X,3,0,4", ROWS[1], ROWS[0], ""])
    path.write_text(edited)
    table.note(second, done=True)
    table.note(first, done=True)
    found = cells_of(read_job_table(path))
    assert [row["outfolder"] for row in found] == ["out/x", "out/o", "out/n"]
    assert [row.get("done") for row in found] == ["0", "1", "1"]
    assert found[0]["seed"] == "4"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (TEXT.replace("N1,3", "N1,5"), "the line was changed meanwhile"),
        (TEXT.replace(ROWS[0], f"\n{ROWS[0]}\n{ROWS[0]}"), "the line was changed meanwhile"),
        ("", "got an empty file"),
        (None, "the file is gone"),
    ],
    ids=["changed", "there twice", "emptied", "gone"],
)
def test_a_table_that_cannot_say_so_does_not_stop_the_work(
    content: str | None, why: str, tmp_path: Path
) -> None:
    path = write(tmp_path, TEXT)
    table = read_job_table(path)
    path.unlink() if content is None else path.write_text(content)
    with pytest.warns(CscWarning, match=rf"Line 2 of .*jobs\.csv is done, but .*{why}.*Run the b"):
        table.note(table.rows[0], done=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["jobs.csv"] * (content is not None)
    if content is not None:
        assert path.read_text() == content


def test_a_table_open_in_a_spreadsheet_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise PermissionError(13, "The process cannot access the file")

    table = read_job_table(write(tmp_path, TEXT))
    with monkeypatch.context() as patched:
        patched.setattr("csc_xr.files._move", locked)
        with pytest.warns(CscWarning, match=r"Line 3 .* is not done.*cannot access the file"):
            table.note(table.rows[1], done=False, error="why")
    assert (tmp_path / "jobs.csv").read_text() == TEXT
    assert len(list(tmp_path.iterdir())) == 1


def test_mode_and_link_are_kept_and_nothing_is_written_in_vain(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = write(tmp_path / "real", TEXT, "sweep.csv")
    path.chmod(0o660)
    link = tmp_path / "jobs.csv"
    link.symlink_to(path)
    table = read_job_table(link)
    table.note(table.rows[0], done=True)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert path.read_text() != TEXT
    before = path.stat()
    table.note(table.rows[0], done=True)
    assert path.stat() == before
    assert len(list(tmp_path.rglob("*"))) == 3


def test_many_at_one_table(tmp_path: Path) -> None:
    """Two batches in two terminals: what one notes the other does not undo."""
    lines = [HEADER, *(f"tiles,images,out/{number},x,3,0" for number in range(12))]
    path = write(tmp_path, "\n".join(lines))
    tables = [read_job_table(path) for _ in range(4)]

    def work(start: int) -> None:
        for row in tables[start].rows[start::4]:
            tables[start].note(row, done=True)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row["done"] for row in cells_of(read_job_table(path))} == {"1"}


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "must be a table of jobs as CSV in UTF-8, got an empty file"),
    "only blanks": (" \r\n\r\n", "got an empty file"),
    "a workbook": (b"PK\x03\x04\x00\x00\xff", "got something else"),
    "a DOS encoding": (b"Model\nM\x81nchen", "got something else"),
    "UTF-16 cut short": (b"\xff\xfeM\x00o", "got something else"),
    "no jobs": (f"{HEADER}\n,,,\n", "must have a job in each line beneath its header, got none"),
    "a column twice": (
        TEXT.replace("ExpShortHand", "patch_size"),
        "must stand in it once, got PatchSize, patch_size",
    ),
    "a column without name": (
        TEXT.replace("ExpShortHand", " "), "must have a name in the header, but line 2 has 'N1'"
    ),
    "too many cells": (
        f"{TEXT}tiles,a, b,out,x,3,0\n", r"Line 4 .*must have 6 cells .*got 7\. Put cells .*quotes"
    ),
    "an open quote": (f'{TEXT}"tiles,a\n', "must be a table of jobs as CSV: unexpected end"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_table_of_jobs(what: str, tmp_path: Path) -> None:
    content, message = REFUSED[what]
    with pytest.raises(ParameterError, match=message):
        read_job_table(write(tmp_path, content))


def test_two_columns_without_name_and_content_are_nothing(tmp_path: Path) -> None:
    text = "Model,,PatchSize,,Done\ntiles,,3,,0\n"
    assert cells_of(read_job_table(write(tmp_path, text)))[0]["patchsize"] == "3"


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"must be a CSV file, but there is none at .*jobs"):
        read_job_table(tmp_path / "jobs.csv")
    with pytest.raises(ParameterError, match="there is none at"):
        read_job_table(tmp_path)


def test_a_read_only_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, TEXT)
    path.chmod(0o444)
    with pytest.raises(OutputError, match=r"must be writable, .*but it is read-only\. Change"):
        read_job_table(path)
    path.chmod(0o644)

    def refuse(folder: Path) -> None:
        raise OutputError(f"The output folder {folder} must be writable")

    monkeypatch.setattr(job_table, "check_output_folder", refuse)
    with pytest.raises(OutputError, match=f"{tmp_path} must be writable"):
        read_job_table(path)


@pytest.mark.parametrize(
    "name", ["Patch_Size ", "patch size", "PATCHSIZE", "Patch-Size", "PatchSize"]
)
def test_a_name_is_its_letters_and_digits(name: str) -> None:
    assert column_key(name) == "patchsize"
