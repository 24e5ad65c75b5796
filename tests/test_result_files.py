"""Tables and figures of results over many runs as files, and the command that makes them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from results_for_tests import some_classes, write_record
from runs_for_tests import run_cli

from csc_xr.errors import OutputError, ParameterError
from csc_xr.results import files
from csc_xr.results.collect import collect_results
from csc_xr.results.files import best_runs, summarise_runs, write_results
from csc_xr.results.tables import F1_COLUMNS, make_table

TABLES = {"f1.csv", "front_errors.csv", "margin_errors.csv", "runs.csv"}
CONFUSIONS = {"confusion_phase1.png", "confusion_phase2.png"}


def test_tables_and_figures_of_a_sweep(tmp_path: Path) -> None:
    for patch in (3, 7):
        write_record(
            tmp_path / f"in/{patch}", "a", classes=some_classes(patch),
            settings={"patch_size": patch}, errors={"front": [3.0, 40.0 / patch], "margin": []},
        )  # fmt: skip
    ended = run_cli("results", tmp_path / "in", "--out", tmp_path / "out")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].split("  ")[-1].strip() == "Front error, median (m)"
    assert "Patch size (px)" in lines[0]
    assert len(lines) == 1 + 2 + 1 + len(list((tmp_path / "out").iterdir()))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *TABLES, *CONFUSIONS, "f1_patch_size.png", "f1_classes.png",
        "f1_scenes.png", "front_errors.png",
    }  # fmt: skip
    results = collect_results(tmp_path / "in")
    read = pd.read_csv(tmp_path / "out/f1.csv")
    pd.testing.assert_series_equal(read["F1"], results.f1["F1"])
    assert read["Patch_Size"].tolist() == results.f1["Patch_Size"].tolist()


def test_figures_of_an_earlier_call_do_not_stay(tmp_path: Path) -> None:
    write_record(tmp_path / "in", errors={"front": [3.0]})
    (tmp_path / "out").mkdir()
    for name in ("f1_bands.png", "confusion_phase1.png", "margin_errors.png", "mine.png"):
        (tmp_path / "out" / name).touch()
    ended = run_cli("results", tmp_path / "in", "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {*TABLES, "front_errors.png", "mine.png"}
    assert pd.read_csv(tmp_path / "out/f1.csv").columns.tolist() == list(F1_COLUMNS)


def test_of_many_runs_the_best_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, tuple[int, str]] = {}

    def note(f1: pd.DataFrame, *, title: str, path: Path, by: str = "") -> None:
        drawn[path.name] = (f1["Run"].nunique(), title)
        assert not by or path.name == f"f1_{by.lower()}.png"

    for name in ("f1_sweep_figure", "class_figure", "scene_figure"):
        monkeypatch.setattr(files, name, note)
    for seed in range(26):
        write_record(tmp_path / f"{seed}", classes=some_classes(seed, 30), settings={"seed": seed})
    files.write_f1(collect_results(tmp_path).f1, tmp_path / "out", by=["Seed"])
    assert drawn == {
        "f1_seed.png": (26, "F1 against seed"),
        "f1_classes.png": (6, "F1 by class: the 6 best of 26 runs"),
        "f1_scenes.png": (24, "F1 over scenes: the 24 best of 26 runs"),
    }


def test_runs_are_ranked_by_pooled_pixels_or_else_by_scenes() -> None:
    rows = [
        {"Run": run, "Scene": scene, "CSC_Phase": phase, "F1": f1, "F1_Class": "All"}
        for run, scene, phase, f1 in [
            ("a", "pooled", 1, 0.99), ("a", "pooled", 2, 0.5), ("a", "x", 2, 1.0),
            ("b", "x", 2, 0.6), ("b", "y", 2, 0.8), ("c", "x", 1, 0.6), ("d", "x", 2, None),
        ]
    ]  # fmt: skip
    assert best_runs(make_table(rows, F1_COLUMNS)) == ["b", "c", "a"]
    assert best_runs(make_table([], F1_COLUMNS)) == []


def test_runs_without_scores_are_summarised_too(tmp_path: Path) -> None:
    write_record(tmp_path / "a", classes=some_classes(1), settings={"seed": 1})
    write_record(tmp_path / "b", settings={"seed": 0})
    table = summarise_runs(collect_results(tmp_path))
    assert table["Seed"].tolist() == [1, 0]
    assert table["F1 pixels (%)"].isna().tolist() == [False, True]


def test_results_of_the_reference(tmp_path: Path) -> None:
    head = "Class,Precision,Recall,F1_score,Support\n"
    for patch in (3, 7):
        folder = tmp_path / f"in/out_patch{patch}"
        folder.mkdir(parents=True)
        for phase in ("CNN", "CSC"):
            text = f"{head}Water,0.5,1,0.{patch},10\nWeighted_avg,0.5,1,0.{patch},10\n"
            (folder / f"{phase}_a_b_exp_1.csv").write_text(text)
    words = ("results", tmp_path / "in", "--out", tmp_path / "out")
    ended = run_cli(*words, "--reference", "--experiment", "exp_1")
    assert ended.code == 0, ended.err
    assert "note: Old results hold scores of single scenes" in ended.err
    assert ended.out.startswith("2 runs, 1 scenes")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "f1.csv", "f1_patch_size.png", "f1_classes.png", "f1_scenes.png"
    }  # fmt: skip
    ended = run_cli(*words, "--reference", "--sample", 10)
    assert (ended.code, ended.err.count("--sample draws from counts of pixels")) == (2, 1)
    ended = run_cli(*words, "--experiment", "exp_1")
    assert (ended.code, ended.err.count("--experiment goes with --reference")) == (2, 1)
    ended = run_cli(*words)
    assert (ended.code, ended.err.count("hold none (0 could not be read")) == (2, 1)


def test_what_cannot_be_drawn_or_written_is_told(tmp_path: Path) -> None:
    write_record(tmp_path / "in", classes=some_classes(1))
    results = collect_results(tmp_path / "in")
    with pytest.raises(ParameterError, match="got a table without Nonsense"):
        write_results(results, tmp_path / "out", by=["Nonsense"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match=r"must be a folder, but .* is a file"):
        write_results(results, tmp_path / "in/scene_run.json")
