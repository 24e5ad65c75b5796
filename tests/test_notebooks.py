"""The notebooks of the site: they run, and what they show is kept in them."""

from __future__ import annotations

import ast
import base64
import io
import logging
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
SMALL = {
    "first_scene": "SHAPE = 240, 320\nSTEPS = 20",
    "labels_to_network": "SHAPE = 240, 320\nFJORDS = 2\nEPOCHS = 1\nSTEPS = 20",
}


@pytest.fixture
def quiet() -> Iterator[None]:
    """Give back the log level that a notebook sets; close its figures, and those of others."""
    plt.close("all")
    logger = logging.getLogger("tensorflow")
    level = logger.level
    yield
    logger.setLevel(level)
    plt.close("all")


def code_cells(name: str) -> list[Any]:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(source: str, namespace: dict[str, Any]) -> bool:
    """Run a cell as a notebook does, in this process; whether it shows anything."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "cell", "exec"), namespace)  # noqa: S102
        value = None
        if last is not None:
            expression = ast.Expression(last.value)
            value = eval(compile(expression, "cell", "eval"), namespace)  # noqa: S307
    drawn = bool(plt.get_fignums())
    plt.close("all")
    return bool(printed.getvalue()) or drawn or value is not None


def test_all_are_known() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMALL)


@pytest.mark.usefixtures("quiet")
@pytest.mark.filterwarnings("ignore::csc_xr.errors.CscWarning")  # small scenes have few tiles
@pytest.mark.parametrize("name", SMALL)
def test_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in code_cells(name):
        small = "parameters" in cell.metadata.get("tags", ())
        shows = run(SMALL[name] if small else cell.source, namespace)
        assert shows == bool(cell.outputs), cell.source


@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_kept(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < 400_000
    assert not [
        word for word in ("/home/", "site-packages", "Traceback") if word in path.read_text()
    ]
    cells = code_cells(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [cell.metadata for cell in cells if cell.metadata] == [{"tags": ["parameters"]}]
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type in ("stream", "display_data", "execute_result")
        assert output.get("name") != "stderr"
        figure = base64.b64decode(output.get("data", {}).get("image/png", ""))
        assert len(figure) < 150_000
