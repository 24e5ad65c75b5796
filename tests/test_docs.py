"""Code in the README and the pages runs, and prints what the page shows; the tutorials' is tested
beside this file, so that two processes share the pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docs_commands
import pytest
from docs_blocks import FILES, RUN, SHOWN, differs, read_blocks
from docs_pages import NAMES, PAGES, TUTORIALS, check_page
from docs_world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("stock"))
    yield world
    world.close()


@pytest.mark.parametrize("page", sorted({*PAGES} - {*TUTORIALS}), ids=NAMES.get)
def test_code_runs(
    page: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_page(page, tmp_path, world, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_blocks_name_their_language(page: Path) -> None:
    known = RUN | FILES | SHOWN
    for block in read_blocks(page):
        fine = block.language in known or block.language.startswith("{")
        assert fine, f"{page.name}:{block.line} is a block of {block.language or 'no language'}"


def test_blocks_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n```sh\ncsc-xr one\n```\n\n```text\nsaid\n```\n\n`jobs.csv`:\n\n"
        "```csv\na,b\n```\n\nTo do so:\n\n    python benchmarks/speed.py\n"
    )
    command, output, table, indented = read_blocks(page)
    assert (command.language, command.text, command.line) == ("sh", "csc-xr one", 4)
    assert output.is_output
    assert not command.is_output
    assert (table.file, table.text) == ("jobs.csv", "a,b")
    assert (indented.language, indented.text) == ("sh", "python benchmarks/speed.py")


@pytest.mark.parametrize(
    ("expected", "printed", "agree"),
    [
        ("front 3455 m, 0.98", "front 210 m, 0.7", True),
        ("front 3455 m", "front found", False),
        ("a\n...\nz", "a\nb\nc\nz", True),
        ("a\n...\nz", "a\nz", True),
        ("a\nz", "a\nb\nz", False),
        ("wrote x (...)", "wrote   x (3 MB)", True),
        ("(7, ..., ...) True", "(7, 320, 420) True", True),
        ("(7, ..., ...) True", "(7, 320, 420) False", False),
        ("1,234,567", "12", True),
        ("fjord_20210715 done", "fjord_20210815 done", False),
    ],
)
def test_what_is_printed_is_compared_loosely(expected: str, printed: str, agree: bool) -> None:
    assert (differs(expected, printed) is None) is agree


def test_lines_become_commands(tmp_path: Path) -> None:
    text = "cd here && csc-xr a \\\n  'b c'  # why\n# nothing\n\nmake docs"
    assert list(docs_commands.commands_of(text)) == ["cd here", "csc-xr a 'b c'", "make docs"]
    for name in ("b.tif", "a.tif"):
        (tmp_path / name).touch()
    assert docs_commands.expanded(["x", "*.tif", "*.jp2"], tmp_path) == [
        "x", "a.tif", "b.tif", "*.jp2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("make nothing", "no target"),
        ("frobnicate x", "unknown command"),
        ("python benchmarks/nothing.py", "no script"),
        ("python benchmarks/speed.py --nothing", "not what the script takes"),
        ("pip install '.[nothing]'", "nothing"),
        ("csc-xr nothing", "No such command"),
    ],
)
def test_commands_that_are_wrong_are_noticed(command: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=said):
        docs_commands.run(command, folder=tmp_path, scheduler=lambda: "")
