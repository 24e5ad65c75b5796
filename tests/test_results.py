"""Tables of F1 and of errors over many runs, from their records."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from results_for_tests import confusion_of, some_classes, write_record
from runs_for_tests import QUICKEST, run_cli, write_image, write_labels, write_network
from sklearn.metrics import accuracy_score, classification_report

from csc_xr.accuracy.scores import classification_report as our_report
from csc_xr.errors import CscWarning, ParameterError
from csc_xr.legend import RIVER
from csc_xr.results.collect import Results, collect_results
from csc_xr.results.tables import ERROR_COLUMNS, F1_COLUMNS


def tables(results: Results) -> list[pd.DataFrame]:
    return [results.f1, results.front_errors, results.margin_errors, results.runs]


def assert_same(results: Results, others: Results) -> None:
    for table, other in zip(tables(results), tables(others), strict=True):
        pd.testing.assert_frame_equal(table, other)


def scores(results: Results, scene: str, phase: int, **at: Any) -> pd.DataFrame:
    f1 = results.f1
    for name, value in {"Scene": scene, "CSC_Phase": phase, **at}.items():
        f1 = f1[f1[name] == value]
    return f1.set_index("F1_Class")


def assert_equals_sklearn(
    found: pd.DataFrame, labels: Sequence[np.ndarray], predicted: Sequence[np.ndarray]
) -> None:
    """The oracle: scikit-learn over all labelled pixels of the images in a row."""
    truth = np.concatenate([array.ravel() for array in labels])
    guess = np.concatenate([array.ravel() for array in predicted])[truth > 0]
    truth = truth[truth > 0]
    codes = np.unique(truth).tolist()
    report = classification_report(
        truth, guess, labels=codes, target_names=[RIVER.class_name(code) for code in codes],
        output_dict=True, zero_division=0,
    )  # fmt: skip
    rows = {RIVER.class_name(code): report[RIVER.class_name(code)] for code in codes}
    rows |= {"All": report["weighted avg"], "Macro": report["macro avg"]}
    assert set(found.index) == {*rows, "Accuracy"}
    for name, expected in rows.items():
        row = found.loc[name, ["Precision", "Recall", "F1", "Support"]].astype(float)
        np.testing.assert_allclose(row, list(expected.values()))
    assert found.loc["Accuracy", "F1"] == pytest.approx(accuracy_score(truth, guess))


def test_scores_of_scenes_and_of_all_pixels_are_those_of_scikit_learn(tmp_path: Path) -> None:
    images = {"a": some_classes(1), "b": some_classes(2, 900), "c": some_classes(3, 50)}
    images["c"][0][images["c"][0] == 3] = 0  # a class that one image lacks
    for name, classes in images.items():
        write_record(tmp_path / "somewhere", name, classes=classes)
    write_record(tmp_path, "unlabelled")
    results = collect_results(tmp_path)
    for phase in (1, 2):
        for name, classes in images.items():
            found = scores(results, name, phase)
            assert_equals_sklearn(found, [classes[0]], [classes[phase]])
            assert set(found["Scenes"]) == {1}
        pooled = scores(results, "pooled", phase)
        truth = [classes[0] for classes in images.values()]
        assert_equals_sklearn(pooled, truth, [classes[phase] for classes in images.values()])
        assert set(pooled["Scenes"]) == {3}
        assert pooled.loc["Dry Sediment", "Class_Code"] == 2
    assert results.runs[["Scenes", "Scenes_Scored"]].to_numpy().tolist() == [[4, 3]]


def test_pooled_pixels_are_drawn_by_seed(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        write_record(tmp_path, name, classes=some_classes(number))
    whole, drawn = collect_results(tmp_path), collect_results(tmp_path, sample=100, seed=3)
    assert_same(drawn, collect_results(tmp_path, sample=100, seed=3))
    assert_same(whole, collect_results(tmp_path, sample=10**6))
    pooled, other = (
        scores(results, "pooled", 2)["F1"]
        for results in (drawn, collect_results(tmp_path, sample=100, seed=4))
    )
    assert scores(drawn, "pooled", 2).loc["All", "Support"] == 100
    assert pooled["All"] != other["All"]
    (run,) = whole.runs["Run"]
    assert (drawn.confusions[run, 2] <= whole.confusions[run, 2]).all()
    pd.testing.assert_frame_equal(scores(drawn, "a", 2), scores(whole, "a", 2))


def test_every_setting_is_a_column_named_by_one_rule(tmp_path: Path) -> None:
    front = {"closing_m": 300.0, "min_ocean_m2": 1e6, "glacier": ["Glacier Ice"], "land": None}
    write_record(
        tmp_path, classes=some_classes(1), errors={"front": [1.0]},
        tags={"Glacier": "Store", "x y": "z"},
        settings={
            "tile_size": 75, "fit": {"steps": 300}, "outputs": ["confidence", "margin"],
            "front": front,
        },
        network={"bands": ["red", "green", "blue", "nir"]},
    )  # fmt: skip
    write_record(tmp_path / "b", classes=some_classes(1), network={"bands": ["B02", "B8A"]})
    results = collect_results(tmp_path)
    assert tuple(results.f1.columns[: len(F1_COLUMNS)]) == F1_COLUMNS
    assert tuple(results.front_errors.columns[: len(ERROR_COLUMNS)]) == ERROR_COLUMNS
    first, second = (results.runs.iloc[number] for number in (1, 0))
    expected = {
        "Patch_Size": 7, "Tile_Size": 75, "Bands": "NIR_RGB", "CNN_Training": "Single",
        "Glacier": "Store", "Experiment": "exp", "Seed": 0, "Mode_Radius": 4,
        "Outputs": "confidence,margin", "Fit_Steps": 300, "Front_Closing_m": 300.0,
        "Front_Min_Ocean_m2": 1e6, "Front_Glacier": "Glacier Ice", "Tag_x y": "z",
        "Network_Name": "tiles_50", "Network_Architecture": "compact", "Software_csc_xr": "0.2.0",
    }  # fmt: skip
    assert {name: first[name] for name in expected} == expected
    assert {"Scene_Bands"} == {name for name in results.f1 if name.startswith("Scene_")}
    assert (second["Tile_Size"], second["Bands"]) == (50, "B02_B8A")
    assert second[["Fit_Steps", "Front_Closing_m", "Glacier", "Outputs"]].isna().all()
    types = results.f1.dtypes.astype(str)
    assert set(types[["Patch_Size", "Tile_Size", "CSC_Phase", "Fit_Steps", "Support"]]) == {"Int64"}
    assert set(types[["F1", "Min_Probability", "Front_Closing_m"]]) == {"float64"}


def test_runs_differ_by_settings_tags_network_and_software_not_by_folder(tmp_path: Path) -> None:
    classes = some_classes(1)
    write_record(tmp_path / "one", "a", classes=classes)
    write_record(tmp_path / "two/three_patch15", "b", classes=classes)
    assert collect_results(tmp_path).runs["Scenes"].tolist() == [2]
    write_record(tmp_path / "c", "a", classes=classes, settings={"patch_size": 3})
    write_record(tmp_path / "d", "a", classes=classes, tags={"glacier": "Store"})
    write_record(tmp_path / "e", "a", classes=classes, network={"name": "other"})
    content = write_record(tmp_path / "f", "a", classes=classes)
    content["identity"]["software"]["csc_xr"] = "0.3.0"
    (tmp_path / "f/a_run.json").write_text(json.dumps(content))
    runs = collect_results(tmp_path).runs
    assert sorted(runs["Scenes"]) == [1, 1, 1, 1, 2]
    assert runs["Patch_Size"].tolist() == [3, 7, 7, 7, 7]
    assert runs["Run"].is_unique


def test_a_moved_folder_gives_the_same_tables(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        folder = tmp_path / "first" / name
        write_record(
            folder, name, classes=some_classes(number), errors={"front": [3.0, 9.0, 40.0 * number]},
            settings={"patch_size": 3 + 4 * (number > 1)},
        )  # fmt: skip
    before = collect_results(tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "second")
    assert_same(before, collect_results(tmp_path / "second"))


def test_copies_count_once(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        write_record(
            tmp_path / "out", name, classes=some_classes(number), errors={"front": [3.0, 9.0]}
        )
    before = collect_results(tmp_path)
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    with pytest.warns(CscWarning, match=r"as another are counted once: .*/a_run.json, .*/b_run"):
        after = collect_results(tmp_path)
    assert_same(before, Results(**{**vars(after), "runs": after.runs.assign(Folder="out")}))


def test_of_an_image_labelled_anew_the_last_scores_count(tmp_path: Path) -> None:
    write_record(tmp_path / "b", classes=some_classes(1), image="i", labels="old", finished="2025")
    write_record(tmp_path / "a", classes=some_classes(2), image="i", labels="new", finished="2026")
    with pytest.warns(CscWarning, match="scored by other labels .* not counted: b/scene_run.json"):
        results = collect_results(tmp_path)
    labels, _, pixels = some_classes(2)
    assert_equals_sklearn(scores(results, "pooled", 2), [labels], [pixels])


def test_images_that_a_joint_network_learned_from_are_left_out(tmp_path: Path) -> None:
    joint = {"joint": True, "learned_scenes": ["b"], "first_learned_scenes": ["a"]}
    images = {name: some_classes(number) for number, name in enumerate("abcd")}
    for name, classes in images.items():
        write_record(
            tmp_path, name, classes=classes, network=joint, errors={"front": [ord(name)] * 3}
        )
    with pytest.warns(CscWarning, match="left out.* learned from the image: a_run.json, b_run"):
        results = collect_results(tmp_path)
    assert set(results.f1["Scene"]) == {"c", "d", "pooled"}
    assert set(results.f1["CNN_Training"]) == {"Joint"}
    truth, found = ([images[name][part] for name in "cd"] for part in (0, 2))
    assert_equals_sklearn(scores(results, "pooled", 2), truth, found)
    pooled = results.front_errors.query("Scene == 'pooled' and Error_Type == 'Mean'")
    assert pooled["Error"].tolist() == [(ord("c") + ord("d")) / 2]
    assert results.runs.loc[0, ["Scenes", "Left_Out"]].tolist() == [2, "a, b"]


def test_a_run_of_nothing_but_learned_images_has_no_scores(tmp_path: Path) -> None:
    joint = {"joint": True, "learned_scenes": ["a"]}
    write_record(tmp_path, "a", classes=some_classes(1), network=joint, errors={"front": [1.0]})
    with pytest.warns(CscWarning, match="left out"):
        results = collect_results(tmp_path)
    assert results.f1.empty
    assert results.front_errors.empty
    assert results.runs["Left_Out"].tolist() == ["a"]


def test_a_joint_network_of_unknown_origin_is_told(tmp_path: Path) -> None:
    unknown = {"learned_scenes": [], "joint": False}
    write_record(tmp_path, classes=some_classes(1), network=unknown, tags={"CNN_Training": "joint"})
    with pytest.warns(CscWarning, match="all counted, since .* does not say what it learned from"):
        assert set(collect_results(tmp_path).f1["CNN_Training"]) == {"Joint"}


def test_seen_is_told_by_tag_or_by_what_the_network_learned_from(tmp_path: Path) -> None:
    network = {"learned_scenes": ["a"]}
    for number, name in enumerate("ab"):
        write_record(tmp_path / "none", name, classes=some_classes(number), network=network)
    write_record(tmp_path / "tag", "b", classes=some_classes(2), tags={"validation": "unseen"})
    f1 = collect_results(tmp_path).f1
    f1 = f1[(f1["F1_Class"] == "All") & (f1["CSC_Phase"] == 2)]
    untagged = f1[f1["Validation"] != "Unseen"].set_index("Scene")
    assert untagged["Validation"].fillna("").to_dict() == {"a": "Seen", "b": "", "pooled": ""}
    assert untagged["Scenes_Learned"].to_dict() == {"a": 1, "b": 0, "pooled": 1}
    assert (f1["Validation"] == "Unseen").sum() == 2
    write_record(
        tmp_path / "c", "a", classes=some_classes(0), network=network, tags={"validation": "Unseen"}
    )
    with pytest.warns(CscWarning, match="tagged as unseen, but .* these very images: c/a_run.json"):
        collect_results(tmp_path)


def make_old(path: Path, content: dict[str, Any]) -> None:
    """Take away all that older records do not have."""
    for name in ("name", "network", "tags", "experiment", "front"):
        del content["parameters"][name]
    del content["findings"]
    content["inputs"] = [{"path": "/x.tif", "size": 1, "modified": "", "sha256": "1" * 64}]
    content["identity"] = {}
    path.write_text(json.dumps(content))


def test_old_records_are_read_with_missing_values(tmp_path: Path) -> None:
    labels, _, pixels = some_classes(1)
    content = write_record(tmp_path, "old_one")
    report = our_report(confusion_of(labels, pixels))
    report.to_csv(tmp_path / "CSC_old_one_k7.csv", index=False)
    content["outputs"]["CSC report"] = "elsewhere/CSC_old_one_k7.csv"
    make_old(tmp_path / "old_one_run.json", content)
    with pytest.warns(CscWarning, match="hold no counts of pixels, .* not pooled: old_one_run"):
        results = collect_results(tmp_path)
    assert set(results.f1["Scene"]) == {"old_one"}
    assert_equals_sklearn(scores(results, "old_one", 2), [labels], [pixels])
    row = results.f1.iloc[0]
    assert row["Patch_Size"] == 7
    unknown = ["Tile_Size", "Bands", "CNN_Training", "Glacier", "Validation", "Class_Code"]
    assert row[unknown].isna().all()
    (tmp_path / "CSC_old_one_k7.csv").write_text("no,report\n1,2\n")
    with pytest.warns(CscWarning) as told:
        assert collect_results(tmp_path).f1.empty
    assert any("CSC_old_one_k7.csv must have the columns" in str(w.message) for w in told)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "7", '{"outputs": {"result": 1}}', '{"outputs": {"result": "a"}}', '{"a": 1}'],
)
def test_damaged_records_are_named_and_passed_over(tmp_path: Path, text: str) -> None:
    write_record(tmp_path, "good", classes=some_classes(1))
    (tmp_path / "bad_run.json").write_text(text)
    with pytest.warns(CscWarning, match=r"Passed over: .*bad_run.json must be a run record, but"):
        results = collect_results(tmp_path)
    assert results.runs["Scenes"].tolist() == [1]


def test_other_records_and_stores_are_passed_over(tmp_path: Path) -> None:
    write_record(tmp_path, "good", classes=some_classes(1))
    training = {"outputs": {"network": "n.keras"}, "parameters": {}}
    (tmp_path / "net_run.json").write_text(json.dumps(training))
    (tmp_path / "good_classified.zarr/x_run.json").write_text("not looked at")
    assert collect_results(tmp_path).runs["Scenes"].tolist() == [1]


def test_outputs_that_are_gone_are_told_of(tmp_path: Path) -> None:
    write_record(tmp_path, "a", classes=some_classes(1), errors={"front": [1.0, 5.0]})
    write_record(tmp_path, "b", classes=some_classes(2), errors={"front": [3.0]})
    (tmp_path / "FRONT_a_exp_distances.csv").unlink()
    shutil.rmtree(tmp_path / "b_classified.zarr")
    with pytest.warns(CscWarning, match="lost outputs .* beside them: a_run.json, b_run.json"):
        results = collect_results(tmp_path)
    medians = results.front_errors.query("Error_Type == 'Median'").set_index("Scene")
    assert medians["Error"].to_dict() == {"a": 3.0, "b": 3.0, "pooled": 3.0}
    assert medians["Scenes"].to_dict() == {"a": 1, "b": 1, "pooled": 1}


@pytest.mark.parametrize("content", ["distance_m\n1.0\n", "metres\n1\n2\n", "distance_m\n1\nx\n"])
def test_distances_that_are_not_those_measured_are_not_pooled(tmp_path: Path, content: str) -> None:
    write_record(tmp_path, "a", errors={"front": [1.0, 5.0]})
    (tmp_path / "FRONT_a_exp_distances.csv").write_text(content)
    with pytest.warns(CscWarning, match="must hold 2 distances in the column distance_m"):
        results = collect_results(tmp_path)
    assert set(results.front_errors["Scene"]) == {"a"}
    assert results.distances == {}


def test_errors_of_scenes_and_of_all_distances(tmp_path: Path) -> None:
    distances = {"a": [0.0, 4.0, 12.0, 13.0], "b": [11.0, 250.0], "c": []}
    for name, metres in distances.items():
        write_record(tmp_path, name, errors={"front": metres, "margin": metres[:1]})
    write_record(tmp_path, "undigitised")
    results = collect_results(tmp_path)
    table = results.front_errors.pivot_table(  # a column each type
        index="Scene", columns="Error_Type", values="Error", dropna=False
    )
    for name, metres in {**distances, "pooled": [*distances["a"], *distances["b"]]}.items():
        row = table.loc[name]
        if not metres:
            assert row.isna().all()
            continue
        assert row["Mean"] == pytest.approx(np.mean(metres))
        assert row["Median"] == pytest.approx(np.median(metres))
        assert row["St.Dev."] == pytest.approx(np.std(metres))
    assert table["Mode"].to_dict() == pytest.approx(
        {"a": 0, "b": 10, "c": np.nan, "pooled": 10}, nan_ok=True
    )
    facts = results.front_errors.drop_duplicates("Scene").set_index("Scene")
    assert facts["Outcome"].fillna("").to_dict() == {
        "a": "found",
        "b": "found",
        "c": "no ocean",
        "pooled": "",
    }
    assert facts.loc["pooled", ["Scenes", "Scenes_Found", "Points"]].tolist() == [3, 2, 6]
    assert facts.loc["pooled", "Share_Under_100_m"] == pytest.approx(5 / 6)
    assert results.runs.loc[0, ["Scenes", "Fronts_Sought", "Fronts_Found"]].tolist() == [4, 3, 2]
    (run,) = results.runs["Run"]
    np.testing.assert_array_equal(results.distances[run, "front"], [0, 4, 12, 13, 11, 250])
    margins = results.margin_errors.query("Scene == 'pooled' and Error_Type == 'Mean'")
    assert margins["Error"].tolist() == [5.5]


def test_bad_input_is_told(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"from a folder, but .*nowhere is none"):
        collect_results(tmp_path / "nowhere")
    (tmp_path / "x_run.json").write_text("{")
    (tmp_path / "net_run.json").write_text('{"outputs": {}}')
    with (
        pytest.warns(CscWarning, match="Passed over"),
        pytest.raises(
            ParameterError, match=r"end in _run.json, .* \(1 could not be read, 1 are of trainings"
        ),
    ):
        collect_results(tmp_path)
    with pytest.raises(ParameterError, match="sample must be 1 pixel or more, got 0"):
        collect_results(tmp_path, sample=0)


def test_results_of_a_classification(tmp_path: Path) -> None:
    image, network = write_image(tmp_path / "a.tif"), write_network(tmp_path)
    write_labels(tmp_path / "SCLS_a.tif")
    ended = run_cli("classify", image, "--model", network, "--out", tmp_path / "out", *QUICKEST)
    assert ended.code == 0, ended.err
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = collect_results(tmp_path / "out")
    for phase, name in ((1, "CNN"), (2, "CSC")):
        report = pd.read_csv(tmp_path / f"out/{name}_a_k1.csv").set_index("Class")["F1_score"]
        for scene in ("a", "pooled"):
            own = scores(results, scene, phase)["F1"]
            assert own["All"] == report["Weighted_avg"]
            assert own["Water"] == report["Water"]
    first = results.f1.iloc[0]
    assert first[["Patch_Size", "Tile_Size", "Bands"]].tolist() == [1, 8, "RGB"]
    assert first["Classifier"].startswith("RandomForestClassifier")
