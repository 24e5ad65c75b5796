"""The pages of the documentation, and how the code of one runs."""

from __future__ import annotations

import ast
import os
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import docs_commands
import pytest
from docs_blocks import RUN, Block, differs, read_blocks
from docs_world import World, act_by_hand, close_clients, small_and_quick

from csc_xr.errors import CscWarning

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    + [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
)
NAMES = {path: path.relative_to(ROOT).as_posix() for path in PAGES}
TUTORIALS = [path for path in PAGES if path.parent.name == "tutorials"]


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


def check_page(page: Path, folder: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the code of a page in an empty folder, where what it names has been put."""
    blocks = read_blocks(page)
    if not any(block.language in RUN for block in blocks):
        return
    monkeypatch.chdir(folder)
    monkeypatch.setitem(os.environ, "COLUMNS", "100")
    with warnings.catch_warnings(), small_and_quick(page.name):
        for told in (CscWarning, DeprecationWarning, PendingDeprecationWarning, RuntimeWarning):
            warnings.simplefilter("ignore", told)
        world.furnish(folder, blocks)
        try:
            run_page(blocks, folder, world, page.name)
        finally:
            close_clients()
