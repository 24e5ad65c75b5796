"""The examples run, at small size, and the README says what is so."""

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

import csc_xr
from csc_xr.training.phase_two.fitting import FitSettings

ROOT = Path(__file__).resolve().parents[1]
FEW_TILES = pytest.mark.filterwarnings("ignore:Phase one found only a few tiles")
README = (ROOT / "README.md").read_text(encoding="utf-8")


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


def test_readme_names_what_there_is() -> None:
    for name in re.findall(r"csc_xr\.(\w+)\(", README):
        assert name in csc_xr.__all__, name
    for command in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert f"\n{command}:" in (ROOT / "Makefile").read_text(), command
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@FEW_TILES
@pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")  # rioxarray
@pytest.mark.usefixtures("quick_fits")
def test_readme_python_runs(tmp_path: Path) -> None:
    """The snippets of the README, on generated fjords in place of the user's files."""
    from csc_xr.demo import NETWORK
    from csc_xr.synthetic import fjord

    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    fjord((300, 400), seed=7)["scene"].rio.to_raster(tmp_path / "fjord.tif")
    (tmp_path / "scenes").mkdir()
    for day in ("15", "31"):
        dated = fjord((300, 400), seed=7, date_seed=int(day))["scene"]
        dated.rio.to_raster(tmp_path / "scenes" / f"fjord_202107{day}.tif")
    code = "".join(blocks).replace('"helheim.h5"', repr(str(NETWORK)))
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102  (our own README)
    finally:
        os.chdir(here)
    series = csc_xr.open_result(tmp_path / "helheim_2021" / "classified.zarr")
    assert series["pixel_class"].dims == ("time", "y", "x")
    result = csc_xr.open_result(tmp_path / "fjord_classified.zarr")
    assert set(result.data_vars) == {"tile_class", "pixel_class", "confidence"}
    assert (result["pixel_class"].values > 0).all()


def test_training_page_python_runs(tmp_path: Path) -> None:
    """The snippet of docs/training.md, on tiles of generated fjords."""
    from csc_xr.synthetic import fjord

    fjords = [fjord((200, 300), seed=seed) for seed in (3, 4)]
    tiles = csc_xr.extract_tiles(
        [dataset["scene"].rename(f"fjord {number}") for number, dataset in enumerate(fjords)],
        [dataset["labels"] for dataset in fjords],
        legend=csc_xr.GLACIER, tile_size=50, stride=25, purity=0.5, leave_out=(3, 5),
    )  # fmt: skip
    csc_xr.write_tiles(tiles, tmp_path / "tiles.zarr")
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        exec(compile(block, "training.md", "exec"), {})  # noqa: S102  (our own page)
    finally:
        os.chdir(here)
    assert csc_xr.open_network(tmp_path / "tiles.keras").card.size == 50


def test_pages_name_commands_that_there_are() -> None:
    from csc_xr import cli

    commands = cli.app.registered_commands
    known = {c.name or c.callback.__name__.replace("_", "-") for c in commands}
    known |= {group.name for group in cli.app.registered_groups}
    for page in (README, *(path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md"))):
        named = set(re.findall(r"csc-xr ([a-z-]+)", page))
        assert named <= known, named - known
