"""The examples run, at small size, and pages name commands that there are."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from csc_xr.training.phase_two.fitting import FitSettings

ROOT = Path(__file__).resolve().parents[1]
FEW_TILES = pytest.mark.filterwarnings("ignore:Phase one found only a few tiles")


@pytest.fixture
def quick_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fits whose steps are left out take few, as nothing looks at how well they went."""
    monkeypatch.setattr(FitSettings, "steps_for", lambda fit, _: fit.steps or 60)


def run_example(name: str, *arguments: str) -> str:
    """Run an example in this process, which has TensorFlow already, as the shell would."""
    said = io.StringIO()
    script = ROOT / "examples" / name
    with (
        mock.patch.object(sys, "argv", [str(script), *arguments]),
        contextlib.redirect_stdout(said),
    ):
        runpy.run_path(str(script), run_name="__main__")
    return said.getvalue()


def run_program(name: str, *arguments: str) -> str:
    """Run an example as a program of its own."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_first_scene() -> None:
    printed = run_program("01_first_scene.py", "--size", "250", "300", "--steps", "150")
    assert "50 px tiles of red, green, blue, nir" in printed
    assert "confidence" in printed
    scores = re.findall(r"Weighted_avg\s+(?:[\d.]+\s+){2}([\d.]+)", printed)
    assert len(scores) == 2
    assert all(float(score) > 0.5 for score in scores)


def test_stack_of_dates(tmp_path: Path) -> None:
    words = ("--size", "250", "300", "--steps", "60", "--dates", "2", "--out", str(tmp_path))
    first = run_example("02_stack_of_dates.py", *words)
    assert re.findall(r"^\S+: (\w+)$", first, flags=re.MULTILINE) == ["done", "done"]
    assert len(re.findall(r"^2021-0[12]-15 +\d+\.\d% glacier ice$", first, re.MULTILINE)) == 2
    assert run_example("02_stack_of_dates.py", *words) == first


@FEW_TILES
@pytest.mark.usefixtures("quick_fits")
def test_train_phase_one(tmp_path: Path) -> None:
    words = ("--size", "300", "400", "--fjords", "3", "--epochs", "1", "--out", str(tmp_path))
    printed = run_example("03_train_phase_one.py", *words)
    assert re.search(r"^fjord_2( +\d+){8}$", printed, re.MULTILINE)
    assert len(re.findall(r"^ *Weighted_avg", printed, re.MULTILINE)) == 2
    assert run_example("03_train_phase_one.py", *words) == printed


def test_fronts_through_time(tmp_path: Path) -> None:
    words = ("--size", "400", "500", "--steps", "80", "--dates", "2", "--out", str(tmp_path))
    printed = run_example("04_fronts_through_time.py", *words)
    rows = re.findall(
        r"^2021-0[12]-15 +found +(-?\d+) +(-?\d+) +(-?\d+) +(-?\d+)$", printed, re.MULTILINE
    )
    assert rows[0] == ("0", "0", "0", "0")
    box, true_box, along, true_along = map(int, rows[1])
    assert abs(box - true_box) < 60
    assert abs(along - true_along) < 100
    names = {"fronts.gpkg", "fronts.csv", "change.png", "fronts.png"}
    assert {path.name for path in (tmp_path / "series").iterdir()} == names


def test_pages_name_commands_that_there_are() -> None:
    from csc_xr import cli

    commands = cli.app.registered_commands
    known = {c.name or c.callback.__name__.replace("_", "-") for c in commands}
    known |= {group.name for group in cli.app.registered_groups}
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        named = set(
            re.findall(r"(?:^|`)csc-xr ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        )
        assert named <= known, f"{path.name}: {named - known}"
