"""Results that the reference implementation left, read as a table of F1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from results_for_tests import confusion_of, some_classes
from sklearn.metrics import classification_report

from csc_xr.accuracy.scores import classification_report as our_report
from csc_xr.errors import CscWarning, ParameterError
from csc_xr.legend import RIVER
from csc_xr.results.reference import collect_reference_results
from csc_xr.results.tables import F1_COLUMNS, read_report

PLAIN = """Class,Precision,Recall,F1_score,Support
Water,0.5,1.0,0.6666666666666666,100
Mélange,0.25,0.5,0.3333333333333333,300
Accuracy,,,0.625,400
Macro_avg,0.375,0.75,0.5,400
Weighted_avg,0.3125,0.625,0.4166666666666667,400
"""


def write(path: Path, text: str = PLAIN, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def collect(folder: Path, **options: object) -> pd.DataFrame:
    with pytest.warns(CscWarning, match="without counts of errors, so none is pooled"):
        return collect_reference_results(folder, **options)  # type: ignore[arg-type]


def test_patch_sizes_come_from_folders_and_scenes_from_files(tmp_path: Path) -> None:
    for patch in (7, 15):
        folder = tmp_path / f"Helheim_patch{patch}"
        for phase in ("CNN", "CSC"):
            for scene in ("Helheim_20170821", "Helheim_2018"):
                write(folder / f"{phase}_{scene}_H50.csv")
    f1 = collect(tmp_path)
    assert tuple(f1.columns) == F1_COLUMNS
    assert len(f1) == 2 * 2 * 2 * 5
    assert set(f1["Scene"]) == {"Helheim_20170821", "Helheim_2018"}
    assert set(f1["Experiment"]) == {"H50"}
    facts = f1.drop_duplicates(["Patch_Size", "Run"])[["Patch_Size", "Run"]].to_numpy().tolist()
    assert facts == [[7, "Helheim_patch7 H50"], [15, "Helheim_patch15 H50"]]
    unknown = ["Tile_Size", "Bands", "CNN_Training", "Glacier", "Validation", "Scenes_Learned"]
    assert f1[unknown].isna().all(axis=None)
    rows = f1[(f1["Patch_Size"] == 7) & (f1["CSC_Phase"] == 2) & (f1["Scene"] == "Helheim_2018")]
    by_class = rows.set_index("F1_Class")
    expected = {"All": 0.4166666666666667, "Macro": 0.5, "Accuracy": 0.625, "Water": 2 / 3}
    assert by_class["F1"].to_dict() == {**expected, "Mélange": 1 / 3}
    assert by_class["Support"].to_dict() == {
        "All": 400, "Macro": 400, "Accuracy": 400, "Water": 100, "Mélange": 300
    }  # fmt: skip


def test_the_folder_may_be_that_of_one_job(tmp_path: Path) -> None:
    write(tmp_path / "out_patch5" / "CSC_a_b.csv")
    f1 = collect(tmp_path / "out_patch5")
    assert f1.loc[0, ["Patch_Size", "Run", "Scene", "Experiment"]].tolist() == [5, "b", "a", "b"]
    write(tmp_path / "plain" / "CSC_alone.csv")
    row = collect(tmp_path / "plain").iloc[0]
    assert row[["Scene", "Run"]].tolist() == ["alone", "results"]
    assert row[["Patch_Size", "Experiment"]].isna().all()


@pytest.mark.parametrize(
    ("beside", "given", "scene", "experiment"),
    [
        ([], None, "gl_2017_A", "1"),
        (["gl_2017_classified.tif", "gl_classified.png"], None, "gl_2017", "A_1"),
        (["gl_2017_classified.zarr/x"], None, "gl_2017", "A_1"),
        ([], "A_1", "gl_2017", "A_1"),
        ([], "B", "gl_2017_A_1", None),
    ],
)
def test_names_of_scenes_and_experiments_are_told_apart(
    tmp_path: Path, beside: list[str], given: str | None, scene: str, experiment: str | None
) -> None:
    write(tmp_path / "CSC_gl_2017_A_1.csv")
    for name in beside:
        write(tmp_path / name, "")
    row = collect(tmp_path, experiment=given).iloc[0]
    assert row["Scene"] == scene
    assert row["Experiment"] == experiment or (experiment is None and pd.isna(row["Experiment"]))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (PLAIN, "utf-8-sig"),
        (PLAIN, "cp1252"),
        (PLAIN.replace("\n", "\r\n"), "utf-8"),
        (PLAIN.replace(",", ";"), "utf-8"),
        (PLAIN.replace(",", ";").replace(".", ","), "utf-8"),
        (PLAIN.replace(",", "\t"), "utf-8"),
        (PLAIN.replace(",", " , "), "utf-8"),
        (PLAIN.replace("F1_score", "f1-score").replace("Macro_avg", "macro avg"), "utf-8"),
        ("".join(f"{n},{line}\n" for n, line in enumerate(PLAIN.splitlines())), "utf-8"),
        (PLAIN + ",,,,\n", "utf-8"),
        (PLAIN.replace("Accuracy,,,0.625,400", "accuracy,0.625,0.625,0.625,0.625"), "utf-8"),
    ],
)
def test_forms_of_a_report(tmp_path: Path, text: str, encoding: str) -> None:
    report = read_report(write(tmp_path / "CSC_a_b.csv", text, encoding))
    pd.testing.assert_frame_equal(report, read_report(write(tmp_path / "plain.csv")))


def test_reports_of_scikit_learn_and_of_this_package(tmp_path: Path) -> None:
    labels, _, found = (array.ravel() for array in some_classes(1))
    used = labels > 0
    report = classification_report(
        labels[used], found[used], labels=[1, 2, 3], output_dict=True, zero_division=0
    )
    pd.DataFrame(report).T.to_csv(tmp_path / "CSC_a_sk.csv")
    ours = our_report(confusion_of(labels[None], found[None]))
    ours.to_csv(tmp_path / "CSC_a_own.csv", index=False)
    f1 = collect(tmp_path, legend=RIVER)
    one, other = (f1[f1["Experiment"] == name].set_index("F1_Class") for name in ("sk", "own"))
    both = sorted({*one.index} & {*other.index})
    assert {"All", "Macro", *RIVER.names[:3]} <= set(both)
    columns = ["F1", "Precision", "Recall", "Support"]
    np.testing.assert_allclose(
        one.loc[both, columns].astype(float), other.loc[both, columns].astype(float)
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must be a table of scores, but cannot be read as one"),
        ("epoch,loss\n1,2\n", "must have the columns Class, Precision, .*, got 'epoch,loss'"),
        (PLAIN.replace("0.625", "high"), "must be a table of scores, .* 'high'"),
        (
            PLAIN.replace("0.5,1.0,0.6666666666666666", "50,100,66.7"),
            "from 0 to 1, got one of 66.7",
        ),
        (PLAIN.splitlines()[0], "from 0 to 1, got no row"),
    ],
)
def test_files_that_are_no_reports_are_named(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path / "CSC_bad_file.csv", text)
    with pytest.raises(ParameterError, match=told):
        read_report(path)
    write(tmp_path / "CSC_good_file.csv")
    with pytest.warns(CscWarning) as heard:
        assert set(collect_reference_results(tmp_path)["Scene"]) == {"good"}
    assert any("Passed over: " in str(w.message) and path.name in str(w.message) for w in heard)


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"from a folder, but .* is none"):
        collect_reference_results(tmp_path / "nowhere")
    write(tmp_path / "results.csv")
    with pytest.raises(ParameterError, match=r"are files CNN_<name>_<experiment>.csv .* hold none"):
        collect_reference_results(tmp_path)
    for number in range(7):
        write(tmp_path / f"CNN_{number}_x.csv", "no")
    with (
        pytest.warns(CscWarning) as heard,
        pytest.raises(ParameterError, match=r"7 could not be read"),
    ):
        collect_reference_results(tmp_path)
    assert len(heard) == 6
    assert "2 more files are no scores" in str(heard[-1].message)
