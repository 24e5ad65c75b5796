"""Tables of jobs before the first is begun: every column reaches its setting, errors are told."""

from __future__ import annotations

import inspect
import os
import re
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from batches_for_tests import FOREST_WORDS, job, make_place, run_well, write_jobs
from networks_for_tests import LEGEND
from runs_for_tests import SHAPE, files_in, run_cli, write_image, write_labels

from csc_xr.cli.classify import classify
from csc_xr.errors import CscWarning, ParameterError
from csc_xr.networks.bundle import open_network
from csc_xr.runs import jobs as jobs_module
from csc_xr.runs.batch import plan_batch
from csc_xr.runs.job_table import column_key


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what the tests of this module read, and none changes but for the table."""
    folder = make_place(tmp_path_factory.mktemp("place") / "place", "a")
    write_labels(folder / "mask.tif", np.ones(SHAPE, "uint8"))
    write_labels(folder / "truth.tif")
    rows = [f"{entry.code},{entry.name},{entry.colour}" for entry in LEGEND.classes]
    (folder / "classes.csv").write_text("\n".join(["code,name,colour", *rows]))
    open_network(folder / "tiles.keras").model.save(folder / "bare.keras")
    write_image(folder / "small.tif", np.full((3, 6, 6), 9, "uint8"))
    (folder / "torn.keras").write_bytes((folder / "tiles.keras").read_bytes()[:2000])
    (folder / "nothing").mkdir()
    write_labels(folder / "nothing" / "SCLS_a.tif")
    (folder / "models").mkdir()
    shutil.copy(folder / "tiles.keras", folder / "models" / "other.keras")
    return folder


def refused(folder: Path, *jobs: dict[str, str], **options: Any) -> str:
    """Give why a table is refused; nothing may have been written or removed."""
    table = write_jobs(folder, *jobs)
    before = {name: (folder / name).stat().st_mtime_ns for name in files_in(folder)}
    with pytest.raises(ParameterError) as error:
        plan_batch(table, **options)
    assert {name: (folder / name).stat().st_mtime_ns for name in files_in(folder)} == before
    return str(error.value)


# Of each column what its cell may hold, and the same words of `csc-xr classify`.
COLUMNS: dict[str, tuple[str, tuple[object, ...]]] = {
    "PatchSize": ("3", ("--patch-size", 3)),
    "TileSize": ("8.0", ("--tile-size", 8)),
    "Seed": ("4", ("--seed", 4)),
    "MinProbability": ("0,25", ("--min-probability", 0.25)),
    "Despeckle": ("1", ("--despeckle", 1)),
    "ModeRadius": ("0", ("--mode-radius", 0)),
    "Edge": ("blank", ("--edge", "blank")),
    "Output": ("confidence | entropy", ("--output", "confidence", "--output", "entropy")),
    "Activation": ("linear", ("--activation", "linear")),
    "samples per class": ("77", ("--samples-per-class", 77)),
    "Steps": ("9", ("--steps", 9)),
    "Classifier": ("network", ("--classifier", "network")),
    "ExpShortHand": ("N1", ("--experiment", "N1")),
    "Band_Names": ("red,green,blue", ("--band-names", "red,green,blue")),
    "Scale": ("300", ("--scale", 300)),
    "Nodata": ("7", ("--nodata", 7)),
    "Mask": (".\\mask.tif", ("--mask", "mask.tif")),
    "Labels": ("truth.tif", ("--labels", "truth.tif")),
    "Front": ("yes", ("--front",)),
    "FrontSetting": (
        "glacier=Ice; ocean=Water,3|closing_m=90",
        ("--front-setting", "closing_m=90"),
    ),
    "Model": ("bare", ("--model", "bare.keras")),
    "Legend": ("classes.csv", ("--legend", "classes.csv")),
    "EportShortHand": ("N1", ("--experiment", "N1")),  # another spelling, in a table of its own
    "Experiment": ("N1", ("--experiment", "N1")),
}
CLASSES = ("--front-setting", "glacier=Ice", "--front-setting", "ocean=Water,3")
ALSO: dict[str, tuple[dict[str, str], tuple[object, ...]]] = {
    "PatchSize": ({"Classifier": "network"}, ("--classifier", "network")),
    "Front": ({"FrontSetting": "glacier=Ice|ocean=Water,3"}, CLASSES),
    "FrontSetting": ({}, CLASSES),
    "Legend": ({"Model": "bare"}, ("--model", "bare.keras")),
}


def as_classify(*words: object) -> dict[str, Any]:
    """Describe what `csc-xr classify` would do, without doing it."""
    run = mock.Mock(return_value=iter(()))
    with mock.patch("csc_xr.runs.folder.run_jobs", run):
        ended = run_cli("classify", "images", "--model", "tiles.keras", "--out", "out", *words)
    assert ended.code == 0, ended.err
    (jobs, network, _), options = run.call_args
    chosen = {name: options[name] for name in ("settings", "experiment", "classifier")}
    return described(jobs[0], network, options["network_path"], **chosen)


def as_batch(table: Path) -> list[dict[str, Any]]:
    """Describe what `csc-xr batch` would do."""
    found = []
    for planned in plan_batch(table).jobs:
        spec, (image,) = planned.spec, planned.images
        options = {"settings": spec.settings, "experiment": spec.options.get("experiment")}
        options["classifier"] = planned.classifier
        found.append(described(image, planned.network, planned.network_path, **options))
    return found


def described(image: Any, network: Any, path: Path, **options: Any) -> dict[str, Any]:
    settings = options.pop("settings")
    return {
        "identity": image.identity(network, settings, **options),
        "inputs": {role: file.resolve() for role, file in image.inputs.items()},
        "network": path.name,
    }


@pytest.fixture(scope="module")
def by_column(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Describe the job of every column, planned from another folder than that of the table."""
    tables = [list(COLUMNS)[:-2], *([name] for name in list(COLUMNS)[-2:])]
    found = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("elsewhere"))
        for names in tables:
            cells = [{**ALSO.get(name, ({}, ()))[0], name: COLUMNS[name][0]} for name in names]
            jobs = [job(OutFolder=f"columns/{k}", **some) for k, some in enumerate(cells)]
            planned = as_batch(Path(os.path.relpath(write_jobs(place, *jobs))))
            found |= dict(zip(names, planned, strict=True))
    shutil.rmtree(place / "columns")
    return found


@pytest.mark.parametrize("name", [*COLUMNS, ""])
def test_a_column_is_an_option(
    name: str, place: Path, by_column: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*ALSO.get(name, ({}, ()))[1], *COLUMNS.get(name, ("", ()))[1])
    monkeypatch.chdir(place)
    wanted = as_classify(*FOREST_WORDS, *words)
    if name:
        assert by_column[name] == wanted
    else:  # each of them makes a difference
        assert wanted not in by_column.values()


def test_every_option_of_classify_has_a_column() -> None:
    options = {column_key(name) for name in inspect.signature(classify).parameters}
    elsewhere = {"images", "out", "overwrite", "scheduler", "workers", "memorylimit"}
    assert options - elsewhere <= {column_key(name) for name in COLUMNS}


def test_columns_of_the_table(place: Path) -> None:
    missing = job()
    del missing["Model"], missing["PatchSize"]
    text = refused(place, missing)
    assert "must have the columns Model, DataSource, OutFolder, PatchSize, but lacks" in text
    assert "lacks Model, PatchSize. It has DataSource, OutFolder, Classifier" in text
    text = refused(place, job(Glazier="Nuuk", Momentum=2))
    assert "columns that csc_xr does not know: Glazier, Momentum. Known are Model, Data" in text
    text = refused(place, job(ExpShortHand="a", EportShortHand="a"))
    assert "must name the short names of its jobs once, got several of ExpShortHand" in text


def test_columns_that_are_not_needed_any_more(place: Path) -> None:
    table = write_jobs(place, job(WholeImage="0", Patience="15", Dims="3", Done="0"))
    with pytest.warns(CscWarning) as told:
        plan_batch(table)
    assert [str(warning.message).split(":")[0] for warning in told] == [
        "WholeImage is not needed",
        "Patience is not needed",
    ]


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "no cell": ({"OutFolder": ""}, "OutFolder must be given, but the cell is empty"),
    "a word": ({"PatchSize": "seven"}, "PatchSize must be a whole number, got 'seven'"),
    "half": ({"Seed": "1,5"}, "Seed must be a whole number, got '1,5'"),
    "endless": ({"Steps": "inf"}, "Steps must be a whole number, got 'inf'"),
    "no number": ({"Dims": "nan"}, "Dims must be a whole number, got 'nan'"),
    "even": ({"PatchSize": 4}, "[Pp]atch size must be .*odd.* got 4"),
    "flag": ({"Done": "x"}, "Done must be 1 or 0, got 'x'"),
    "edge": ({"Edge": "mirror"}, "edge must be 'cover' or 'blank', got 'mirror'"),
    "output": ({"Output": "certainty"}, r"outputs may hold .*, got \['certainty'\]"),
    "tags": ({"Tags": "Nuuk"}, "Tags must be NAME=VALUE; ..., got 'Nuuk'"),
    "front": ({"FrontSetting": "closing=9"}, "A front setting must be NAME=VALUE .*'closing=9'"),
    "classifier": ({"Classifier": "forest"}, "forest"),
    "short name": ({"Experiment": "a/b"}, r"short name of an experiment .*got 'a/b'\. Leave out"),
    "model": ({"Model": "VGG"}, r"Model must name a network in .*no VGG with the ending .keras"),
    "no network": ({"Model": "mask.tif"}, "mask.tif"),
    "torn": ({"Model": "torn"}, "torn.keras"),
    "dims": ({"Dims": 4}, r"bands of the model, 3 \(red, green, blue\), got 4"),
    "tile": ({"TileSize": 16}, "8.*16"),
    "source": ({"DataSource": "imagse"}, r"imagse must be an image, but there is no such file"),
    "no images": ({"DataSource": "nothing"}, "nothing must hold images .*got none"),
    "small": ({"DataSource": "small.tif"}, "small.tif.* 8"),
    "labels": ({"Labels": "no.tif"}, "no.tif"),
    "mask": ({"Mask": "no.tif"}, "no.tif must be a mask, but there is no such file"),
    "legend": ({"Legend": "no.csv"}, "got 'no.csv'"),
    "bands": ({"BandNames": "red"}, "red"),
    "patch": ({"PatchSize": 3}, r"classifier takes single pixels, got patch size 3"),
    "glacier": ({"Front": 1}, "must be in legend 'test'"),
}


def test_all_that_is_wrong_is_told_by_line_before_the_first_job(place: Path) -> None:
    """More than can be told at once is counted; Done excuses nothing that is wrong."""
    cases = list(WRONG.values())
    told = ""
    for start in range(0, len(cases), 18):
        some = [job(), *(job(**{"Done": 1, **cells}) for cells, _ in cases[start : start + 18])]
        told += refused(place, *some, overwrite=True) + "\n"
    lines = [line for line in told.splitlines() if line.startswith("line ")]
    assert len(lines) == len(cases)
    for number, ((_, message), line) in enumerate(zip(cases, lines, strict=True)):
        assert re.search(rf"^line {number % 18 + 3}: .*{message}", line)
    text = refused(place, *(job(PatchSize=2 * k) for k in range(1, 25)))
    assert "Nothing was begun, because jobs of" in text
    assert "line 21: " in text
    assert text.endswith("\nand 4 more")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"OutFolder": "./out/run/"}),
        ({}, {"OutFolder": "out\\run"}),
        ({"OutFolder": "out/../out/run"}, {"Seed": 3}),
        ({}, {"DataSource": "images/a.tif"}),
        ({}, {"DataSource": "images/../nothing/../images/a.tif", "Model": "bare"}),
    ],
    ids=["dot", "Windows", "parent", "folder and image", "other network"],
)
def test_two_jobs_into_the_same_files(
    one: dict[str, object], other: dict[str, object], place: Path
) -> None:
    text = refused(place, job(**one), job(OutFolder="free"), job(**other))
    assert re.search(r"\nline 4: OutFolder must be another .*, but line 2 writes to .*too\.", text)


def test_images_of_one_name(place: Path, tmp_path: Path) -> None:
    """From two folders into one: each would write over the other's results."""
    other = make_place(tmp_path / "other", "a")
    jobs = [job(), job(DataSource=other / "images")]
    assert "line 3: OutFolder must be another for each job" in refused(place, *jobs)
    jobs[1]["OutFolder"] = str(tmp_path / "out")  # an absolute path
    planned = plan_batch(write_jobs(place, *jobs)).jobs
    assert [one.spec.out.parent for one in planned] == [place / "out", tmp_path]
    shutil.copy(other / "images" / "a.tif", other / "images" / "b.tif")
    jobs = [job(), job(DataSource=other / "images" / "b.tif", Model="models\\other")]
    planned = plan_batch(write_jobs(place, *jobs)).jobs  # another image may go there
    assert [one.title(one.images[0].name) for one in planned] == [
        "out/run_patch1/a",
        "out/run_patch1/b",
    ]


def test_networks_lie_in_a_folder_of_their_own(place: Path, tmp_path: Path) -> None:
    table = write_jobs(place, job(Model="other"))
    (planned,) = plan_batch(table, models=place / "models").jobs
    assert planned.network_path == place / "models" / "other.keras"
    assert "line 2: Model must name a network in" in refused(place, job(Model="other"))
    with pytest.raises(ParameterError, match=r"models must be a folder of networks, but .*none"):
        plan_batch(table, models=tmp_path / "models")


def test_a_large_table_opens_each_image_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = mock.Mock(wraps=jobs_module.open_scene)
    monkeypatch.setattr(jobs_module, "open_scene", opened)
    checked = mock.Mock(wraps=jobs_module.check_job)
    monkeypatch.setattr("csc_xr.runs.batch.check_job", checked)
    jobs = [job(OutFolder=f"many/{k}", Seed=k, Glacier=k) for k in range(200)]
    planned = plan_batch(write_jobs(place, *jobs))
    assert opened.call_count == 1
    assert checked.call_count == 1
    assert [one.images[0].tags for one in planned.jobs[::199]] == [
        {"glacier": "0"},
        {"glacier": "199"},
    ]
    shutil.rmtree(place / "many")


def test_a_folder_that_holds_other_work(place: Path, tmp_path: Path) -> None:
    """What was made in another way is refused by line, and stays."""
    for name in ("images", "tiles.keras"):
        (tmp_path / name).symlink_to(place / name)
    run_well(write_jobs(tmp_path, job()))
    text = refused(tmp_path, job(Seed=3, Done=1), job(OutFolder="new", Steps="no"))
    assert "line 2: " in text
    assert "made in another way: classifier was" in text
    assert "seed was 0, now 3. Choose another output folder" in text
    assert "line 3: Steps must be a whole number" in text
    refused(tmp_path, job(Seed=3), job(OutFolder="new", Steps="no"), overwrite=True)
    assert plan_batch(write_jobs(tmp_path, job(Seed=3)), overwrite=True).overwrite


def test_the_command_refuses(place: Path) -> None:
    table = write_jobs(place, job(Dims=4))
    ended = run_cli("batch", table)
    assert ended.code == 2
    assert ended.err.startswith("csc-xr: Nothing was begun, because jobs of")
    assert "line 2: Dims must be the number of bands of the model, 3" in ended.err
    table.chmod(0o444)
    ended = run_cli("batch", table)
    table.chmod(0o644)
    assert ended.code == 2
    assert "must be writable, because what is done is noted in it" in ended.err
    ended = run_cli("batch", place / "none.csv")
    assert "A table of jobs must be a CSV file, but there is none at" in ended.err
