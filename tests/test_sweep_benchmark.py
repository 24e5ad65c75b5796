"""The sweep that docs/sweeps.md reports: its arithmetic, and what the page says of the table."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from csc_xr.runs.batch_columns import _COLUMNS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

sweep = importlib.import_module("sweep")
PAGE = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")


def test_instants_are_all_over_the_time_and_one_is_at_the_start() -> None:
    instants = sweep.draw_instants([10.0, 30.0, 100.0], np.random.default_rng(0))
    assert len(instants) == sweep.KILLS
    (at_start,) = [seconds for number, seconds in instants if number == 0]
    assert at_start <= sweep.AT_START
    others = [instant for instant in instants if instant[0]]
    assert others == sorted(others)
    lasting = {1: 10.0, 2: 20.0, 3: 70.0}
    assert all(0 <= seconds <= lasting[number] for number, seconds in others)
    assert {number for number, _ in others} == {1, 2, 3}


def test_kills_are_told_with_what_they_cost() -> None:
    launches = [sweep.Launch(12.34, True, "start", 0), sweep.Launch(90.0, False, "", 10)]
    table = sweep.kill_table(95.0, launches)
    assert "| 1 | 12.3 s | start | 0 |" in table
    assert "| all | 102 s; undisturbed: 95 s |" in table


@pytest.mark.parametrize("column", [column.name for column in _COLUMNS.values()])
def test_page_explains_every_column(column: str) -> None:
    assert re.search(rf"^\|.*`{column}`.*\|.*\|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", ["sweep_scores", "sweep_kills", "sweep_compared"])
def test_page_has_the_sections_that_are_written(name: str) -> None:
    assert PAGE.index(f"<!-- {name} -->\n") < PAGE.index(f"<!-- /{name} -->")
