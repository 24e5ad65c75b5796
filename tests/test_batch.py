"""Jobs of a table as they run, end, fail, are killed and go on; what they share."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import numpy as np
import pytest
from batches_for_tests import (
    column,
    job,
    make_place,
    record,
    run_table,
    run_well,
    write_jobs,
)
from clusters_for_tests import Killed, changing
from networks_for_tests import tile_network
from runs_for_tests import SHAPE, files_in, run_cli
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier

from csc_xr.errors import SceneError
from csc_xr.export import open_result
from csc_xr.files import read_json
from csc_xr.networks.bundle import save_network
from csc_xr.record import watching_pixels
from csc_xr.runs import folder as folder_module
from csc_xr.runs.batch import plan_batch, run_batch
from csc_xr.runs.identity import with_inputs
from csc_xr.runs.scene import RunResult
from csc_xr.runs.shared_tiles import SharedTiles, tiles_fingerprint
from csc_xr.runs.spread import Failure
from csc_xr.runs.unfinished import Unfinished

PIXELS = SHAPE[0] * SHAPE[1]
A, B = "images/a.tif", "images/b.tif"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no figures, and let forests be small."""
    forest = RandomForestClassifier(n_estimators=3, random_state=0)
    monkeypatch.setattr(
        "csc_xr.runs.scene.four_part_figure", lambda *_, path, **__: path.write_bytes(b"drawn")
    )

    def estimator(name: str, seed: int) -> Any:
        return None if name == "network" else clone(forest).set_params(random_state=seed)

    monkeypatch.setattr("csc_xr.runs.batch.pixel_estimator", estimator)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a network and two images."""
    return make_place(tmp_path_factory.mktemp("original") / "place")


@pytest.fixture
def place(original: Path, tmp_path: Path) -> Path:
    """Lend a copy that may be changed, as a folder of its own."""
    return shutil.copytree(original, tmp_path / "place")


def same_classes(out: Path, other: Path, scene: str) -> bool:
    one, two = (open_result(folder / f"{scene}_classified.zarr").load() for folder in (out, other))
    return bool(one.equals(two))


def counted(table: Path, **options: Any) -> int:
    """Do the jobs and count the pixels networks work on for them."""
    counts: list[int] = []
    with watching_pixels(counts.append):
        run_well(table, **options)
    return sum(counts)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Lend the names of scenes, with their folder, that fail as they run."""
    names: set[str] = set()
    run_job = folder_module.run_job

    def run(image: Any, network: Any, folder: Path, **options: Any) -> RunResult:
        if f"{folder.name}/{image.name}" in names:
            raise SceneError(f"{image.name} is damaged,\n at its end.")
        return run_job(image, network, folder, **options)

    monkeypatch.setattr(folder_module, "run_job", run)
    return names


def test_a_table_of_the_research_scripts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Excel writes it on Windows in Europe, from another folder, with two columns of ours."""
    header = "Model;DataSource;OutFolder;EportShortHand;Dims;PatchSize;TileSize;WholeImage;"
    header += "Patience;Done;Steps;SamplesPerClass;MinProbability;Glacier;Tags"
    row = "tiles;images;results\\S1;S\u00e9;3;1;8;1;10;0;20;100;0,25;Sermeq;season=summer|year=2019"
    table = place / "jobs.csv"
    table.write_bytes(f"{header}\r\n{row}\r\n".encode("cp1252"))
    monkeypatch.chdir(place.parent)
    ended = run_cli("batch", "place/jobs.csv")
    assert ended.code == 0, ended.err
    assert "note: WholeImage is not needed" in ended.err
    assert "results\\S1_patch1/b (2 of 2)" in ended.err
    written = table.read_bytes().decode("cp1252").split("\r\n")
    assert written == [f"{header};Error", f"{row.replace(';0;20', ';1;20')};", ""]
    out = place / "results" / "S1_patch1"
    assert {"CNN_a_S\u00e9.csv", "CSC_a_S\u00e9.csv", "a_run.json", "b_classified.tif"} <= {
        path.name for path in out.iterdir()
    }
    assert not (place / "jobs_tiles").exists()
    alone = run_cli(
        "classify", place / "images", "--model", place / "tiles.keras", "--out", "alone",
        "--patch-size", 1, "--tile-size", 8, "--steps", 20, "--samples-per-class", 100,
        "--min-probability", 0.25, "--experiment", "S\u00e9",
    )  # fmt: skip
    assert alone.code == 0, alone.err
    for name in "ab":
        assert same_classes(out, Path("alone"), name)
        kept, wanted = record(out, name), record(Path("alone"), name)
        assert kept["identity"] == wanted["identity"]
        assert kept["networks"] == wanted["networks"]
        assert kept["findings"] == wanted["findings"]
        tags = {"glacier": "Sermeq", "season": "summer", "year": "2019"}
        assert kept["parameters"] == {**wanted["parameters"], "tags": tags}
    known = record(out, "a")["parameters"]["network"]
    assert (known["name"], known["bands"], known["size"]) == ("tiles", ["red", "green", "blue"], 8)
    assert set(record(out, "a")["findings"]["confusion"]) >= {"tile_class", "pixel_class"}


def test_tags_that_change_reach_the_records(place: Path) -> None:
    run_well(write_jobs(place, job(Validation="Seen", DataSource=B)))
    done = (place / "out/run_patch1/b_classified.tif").stat().st_mtime_ns
    (outcome,) = run_well(write_jobs(place, job(Validation="Unseen", DataSource=B)))
    assert outcome.kept
    assert record(place / "out/run_patch1", "b")["parameters"]["tags"] == {"validation": "Unseen"}
    assert (place / "out/run_patch1/b_classified.tif").stat().st_mtime_ns == done


def content(folder: Path) -> dict[str, bytes]:
    """Give every file; of those with times and paths in them only that they are there."""
    plain = (".json", ".png", ".xml", ".keras", ".zattrs", ".zmetadata")
    return {
        name: b"" if name.endswith(plain) else (folder / name).read_bytes()
        for name in files_in(folder)
        if "partial" not in name
    }


def test_killed_between_any_two_changes_of_files(original: Path, tmp_path: Path) -> None:
    """What the table calls done is done, and the next start ends where an undisturbed one does."""

    def prepared(name: str) -> Path:
        folder = shutil.copytree(original, tmp_path / name)
        jobs = [job(OutFolder=out, Seed=k, Done=0, DataSource=A) for k, out in enumerate("xy")]
        return write_jobs(folder, *jobs)

    random = np.random.default_rng(6)
    with dask.config.set(scheduler="synchronous"):
        table = prepared("undisturbed")
        with changing(table.parent) as changes:
            run_well(table)
        wanted = content(table.parent)
        assert column(table, "Done") == ["1", "1"]
        for number, last in enumerate(random.integers(1, changes.count, 6).tolist()):
            table = prepared(str(number))
            with pytest.raises(Killed), changing(table.parent, last=last):
                run_well(table)
            for done, out in zip(column(table, "Done"), ("x", "y"), strict=True):
                assert done == "0" or record(table.parent / f"{out}_patch1", "a")["finished"]
            run_well(table)
            assert content(table.parent) == wanted, last


def test_done_is_what_is_there(place: Path) -> None:
    """Results that are gone are made again, and until then the table does not call them done."""
    jobs = [job(OutFolder="x", Done=1, DataSource=B), job(OutFolder="y", Seed=2, DataSource=B)]
    table = write_jobs(place, *jobs)
    running = run_table(table)
    next(running)
    assert column(table, "Done") == ["1", ""]
    assert [outcome.kept for outcome in run_well(table)] == [True, False]
    assert column(table, "Done") == ["1", "1"]
    for _ in range(2):  # gone, and gone again before a run came to it
        (place / "y_patch1" / "b_classified.tif").unlink(missing_ok=True)
        running = run_table(table)
        assert next(running).kept
        assert column(table, "Done") == ["1", "0"]
        running.close()
    running = run_table(table, overwrite=True)
    assert not next(running).kept
    assert column(table, "Done") == ["1", "0"]
    assert [outcome.kept for outcome in run_well(table)] == [True, False]
    assert column(table, "Done") == ["1", "1"]


def test_never_begun_is_not_done_whatever_was_written_there(place: Path) -> None:
    jobs = [job(OutFolder="x", DataSource=B), job(OutFolder="y", Done="TRUE", DataSource=B)]
    table = write_jobs(place, *jobs)
    next(run_table(table))
    assert column(table, "Done") == ["1", "0"]


@pytest.mark.parametrize("gone", ["images", "tiles.keras"])
def test_what_is_done_needs_no_inputs_any_more(gone: str, place: Path) -> None:
    jobs = [job(OutFolder="x", DataSource=B), job(OutFolder="y", Seed=2, DataSource=B)]
    table = write_jobs(place, *jobs)
    run_well(table)
    (place / gone).rename(place / "archive")
    before = {name: (place / name).stat().st_mtime_ns for name in files_in(place)}
    ended = run_cli("batch", table)
    assert ended.code == 0, ended.err
    assert ended.out == f"All jobs of {table} are done.\n"
    assert {name: (place / name).stat().st_mtime_ns for name in files_in(place)} == before
    refused = run_cli("batch", table, "--overwrite")
    assert "line 2: " in refused.err
    (place / "y_patch1" / "b_classified.tif").unlink()
    refused = run_cli("batch", table)
    assert refused.code == 2
    assert "line 2: " not in refused.err
    assert "line 3: " in refused.err
    table.write_text(table.read_text().replace(",1,", ",0,"))
    assert "line 2: " in run_cli("batch", table).err  # only what the table calls done


def test_a_failure_is_told_and_the_others_go_on(place: Path, failing: set[str]) -> None:
    """Jobs whose folders have one name in different places are told apart."""
    failing |= {"run_patch1/a"}
    jobs = [job(OutFolder=f"{where}/run", Seed=k) for k, where in enumerate("xyz")]
    jobs[1]["DataSource"] = B
    table = write_jobs(place, *jobs)
    ended = run_cli("batch", table)
    assert ended.code == 2
    assert ended.err.count("is damaged") == 2
    assert "csc-xr: x/run_patch1/a: a is damaged" in ended.err
    assert column(table, "Done") == ["0", "1", "0"]
    assert column(table, "Error") == ["a is damaged, at its end.", "", "a is damaged, at its end."]
    assert record(place / "x/run_patch1", "b")
    assert "failed" in run_cli("status", place / "x/run_patch1").out
    assert (place / "jobs_tiles").is_dir()  # for the next start
    failing.clear()
    again = run_cli("batch", table)
    assert again.code == 0, again.err
    assert column(table, "Done") == ["1", "1", "1"]
    assert column(table, "Error") == ["", "", ""]
    assert not (place / "jobs_tiles").exists()
    assert again.out.count("is done already") == 3


def test_many_failures_fit_into_a_cell(
    place: Path, failing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        shutil.copy(place / B, place / "images" / f"c{number}.tif")
    failing |= {f"run_patch1/c{number}" for number in range(8)}
    table = write_jobs(place, job())
    failures = [outcome for outcome in run_table(table) if isinstance(outcome, Failure)]
    assert len(failures) == 8
    (told,) = column(table, "Error")
    assert told.startswith("c0 is damaged, at its end.; c1 is damaged")
    assert told.endswith("c4 is damaged, at its end.; and 3 more")
    failing.clear()
    monkeypatch.setattr(folder_module, "run_job", mock.Mock(side_effect=MemoryError("so " * 9999)))
    list(run_table(table))
    (told,) = column(table, "Error")
    assert told.startswith("a: MemoryError: so so")
    assert 4000 < len(told) < 6000


def test_a_failure_of_the_image_itself(place: Path) -> None:
    """No tile is as certain as the job wants: the message says so in the table."""
    table = write_jobs(place, job(MinProbability="0.9999999999", DataSource=B), job(OutFolder="o"))
    assert run_cli("batch", table).code == 2
    assert column(table, "Done") == ["0", "1"]
    assert "no tile reaches min_probability=0.9999999999" in column(table, "Error")[0]


def test_the_table_is_edited_while_jobs_run(place: Path) -> None:
    """Sorted and saved by a spreadsheet with other line ends: every result finds its row."""
    jobs = [job(OutFolder=out, DataSource=B, Seed=k) for k, out in enumerate("xyz")]
    table = write_jobs(place, *jobs)
    running = run_table(table)
    next(running)
    lines = table.read_text().replace(",", ";").splitlines()
    table.write_bytes("\r\n".join([lines[0], lines[3], lines[2], lines[1], ""]).encode("utf-16"))
    list(running)
    lines = table.read_bytes().decode("utf-16").split("\r\n")
    assert [line.split(";")[-2:] for line in lines[1:4]] == [["1", ""]] * 3
    assert [line.split(";")[2] for line in lines[1:4]] == ["z", "y", "x"]


def test_tiles_are_shared_by_what_differs_in_patch_size_alone(place: Path) -> None:
    jobs = [job(OutFolder="k", ExpShortHand="k1"), job(OutFolder="k", PatchSize=3, Steps=20)]
    jobs[1] |= {"Classifier": "network", "SamplesPerClass": "100", "Seed": "5"}
    assert counted(write_jobs(place, *jobs)) == 2 * PIXELS + 2 * 2 * PIXELS
    words = ("--model", place / "tiles.keras", "--out", place / "alone", "--patch-size", 3)
    words += ("--steps", 20, "--samples-per-class", 100, "--mode-radius", 1, "--seed", 5)
    assert run_cli("classify", place / "images", *words).code == 0
    assert all(same_classes(place / "k_patch3", place / "alone", name) for name in "ab")
    networks = [record(place / out, "b")["networks"] for out in ("k_patch3", "alone")]
    assert networks[0] == networks[1]


DIFFERENT: dict[str, object] = {
    "TileSize": 8,
    "MinProbability": 0.5,
    "Despeckle": 1,
    "Edge": "blank",
    "Nodata": 3,
    "Scale": 250,
    "Mask": "images/SCLS_a.tif",
    "Model": "other",
    "DataSource": B,
}
SAME: dict[str, object] = {
    "Seed": 5,
    "ModeRadius": 3,
    "Output": "entropy",
    "Steps": 9,
    "ExpShortHand": "E",
    "Tags": "season=summer",
    "Labels": "images/SCLS_a.tif",
    "Classifier": "network",
    "DataSource": "images/../images/a.tif",
}


def test_tiles_are_not_shared_by_what_differs_for_phase_one(place: Path) -> None:
    save_network(tile_network(seed=2), place / "other.keras")
    jobs = [job(**{"DataSource": A, name: cell}) for name, cell in DIFFERENT.items()]
    jobs += [job(**{"DataSource": A, name: cell}) for name, cell in SAME.items()]
    jobs.append(job(DataSource=A, PatchSize=5, Classifier="network"))
    found = []
    for number, cells in enumerate(jobs):
        cells["OutFolder"] = str(number)
    for planned in plan_batch(write_jobs(place, *jobs)).jobs:
        (image,), settings = planned.images, planned.spec.settings
        identity = image.identity(planned.network, settings, classifier=planned.classifier)
        checksums = {role: file.sha256 for role, file in image.describe_inputs().items()}
        work = Unfinished(image.name, place, with_inputs(identity, checksums))
        found.append(tiles_fingerprint(work))
    plain = found[-1]
    assert len({plain, *found[: len(DIFFERENT)]}) == len(DIFFERENT) + 1
    assert set(found[len(DIFFERENT) :]) == {plain}


def test_only_tiles_of_batches_are_removed(place: Path) -> None:
    """A folder of that name may hold what somebody needs: training tiles of the same glacier."""
    mine = place / "jobs_tiles" / "fjord.zarr"
    mine.mkdir(parents=True)
    (mine / "zarr.json").write_text("{}")
    (place / "jobs_tiles" / f"{'0' * 64}.zarr").mkdir()
    (place / "jobs_tiles" / f"{'0' * 63}.zarr").mkdir()
    (place / "jobs_tiles" / f"{'1' * 64}.removed").mkdir()  # by a process that was killed
    run_well(write_jobs(place, job(DataSource=B)))
    assert sorted(path.name for path in (place / "jobs_tiles").iterdir()) == [
        f"{'0' * 63}.zarr",
        "fjord.zarr",
    ]
    assert (mine / "zarr.json").read_text() == "{}"


def test_shared_tiles_that_are_damaged_or_vanish(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They only save time: whatever becomes of them, results are the same."""
    jobs = [job(OutFolder=out, Seed=k, DataSource=B) for k, out in enumerate("xyz")]
    table = write_jobs(place, *jobs)
    running = run_table(table)
    next(running)
    (chunk,) = (place / "jobs_tiles").glob("*.zarr/tile_class/0.0")
    chunk.write_bytes(chunk.read_bytes()[:-3])
    assert isinstance(next(running), RunResult)
    copytree = shutil.copytree

    def vanishing(source: Path, target: Path, **options: Any) -> Any:
        if source.parent.name == "jobs_tiles":
            SharedTiles(source.parent).remove()  # as another batch does at its end
        if target.parent.name == "jobs_tiles":
            raise shutil.Error([("one file", "another", "No space left on device")])
        return copytree(source, target, **options)

    monkeypatch.setattr(shutil, "copytree", vanishing)
    assert isinstance(next(running), RunResult)
    assert list(running) == []
    monkeypatch.undo()
    fresh = write_jobs(place, *(one | {"OutFolder": f"fresh_{one['OutFolder']}"} for one in jobs))
    run_well(fresh)
    for out in "yz":
        assert same_classes(place / f"{out}_patch1", place / f"fresh_{out}_patch1", "b")


def test_two_batches_at_one_table(place: Path) -> None:
    """In two terminals: no image is done twice, no row is lost."""
    jobs = [job(OutFolder=f"o{k}", Seed=k, DataSource=B) for k in range(4)]
    table = write_jobs(place, *jobs)
    plans = [plan_batch(table) for _ in range(2)]
    found: list[list[Any]] = [[], []]

    def run(number: int) -> None:
        found[number] = list(run_batch(plans[number]))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(outcomes) for outcomes in found] == [4, 4]
    assert not [o for outcomes in found for o in outcomes if isinstance(o, Failure)]
    assert sum(not outcome.kept for outcomes in found for outcome in outcomes) == 4
    assert column(table, "Done") == ["1"] * 4
    assert not (place / "jobs_tiles").exists()


def test_a_folder_of_two_jobs(place: Path) -> None:
    """Different images may go to one folder; each row is about its own."""
    jobs = [job(DataSource=f"images/{name}.tif") for name in "ab"]
    table = write_jobs(place, *jobs)
    run_well(table)
    ledger = read_json(place / "out/run_patch1/csc_xr_job.json")
    assert ledger["scenes"] == ["a", "b"]
    (place / "out/run_patch1/b_classified.tif").unlink()
    running = run_table(table)
    next(running)
    assert column(table, "Done") == ["1", "0"]
    list(running)
    assert column(table, "Done") == ["1", "1"]
