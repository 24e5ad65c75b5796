"""Every block of code in the README and the pages runs, and prints what the page shows."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import docs_commands
import pytest
from docs_blocks import FILES, RUN, SHOWN, Block, differs, read_blocks
from docs_world import World, act_by_hand, close_clients, small_and_quick

from csc_xr.errors import CscWarning

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    + [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("stock"))
    yield world
    world.close()


def run_python(code: str, namespace: dict[str, Any], name: str) -> str:
    """Run Python and give what it prints, and then what its last expression is."""
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    out = StringIO()
    with redirect_stdout(out):
        exec(compile(tree, name, "exec"), namespace)  # noqa: S102  (our own pages)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)  # noqa: S307
            if value is not None:
                print(repr(value))
    return out.getvalue()


def run_page(blocks: list[Block], folder: Path, world: World, name: str) -> None:
    namespace: dict[str, Any] = {"__name__": "page"}
    printed = ("", "")
    for block in blocks:
        where = f"{name}:{block.line}"
        act_by_hand(folder)
        try:
            if block.language == "sh":
                said = [
                    docs_commands.run(command, folder=folder, scheduler=world.scheduler)
                    for command in docs_commands.commands_of(block.text)
                ]
                printed = ("".join(all_ for all_, _ in said), "".join(out for _, out in said))
            elif block.language == "python":
                out = run_python(block.text, namespace, where)
                printed = (out, out)
        except Exception as error:
            error.add_note(f"in the block at {where}")
            raise
        if block.file:
            (folder / block.file).write_text(block.text + "\n", encoding="utf-8")
        if block.is_output:
            wrong = [differs(block.text, each) for each in printed]
            assert None in wrong, f"{where}: {wrong[0]}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_code_runs(
    page: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = read_blocks(page)
    if not any(block.language in RUN for block in blocks):
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "COLUMNS", "100")
    with warnings.catch_warnings(), small_and_quick(page.name):
        for told in (CscWarning, DeprecationWarning, PendingDeprecationWarning, RuntimeWarning):
            warnings.simplefilter("ignore", told)
        world.furnish(tmp_path, blocks)
        try:
            run_page(blocks, tmp_path, world, page.name)
        finally:
            close_clients()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
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
