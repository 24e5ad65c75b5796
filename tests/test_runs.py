"""Runs over files: checked first, written whole, recorded last, the same every time."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from networks_for_tests import LEGEND, brightness_network
from rasters_for_tests import NORTH_UP, some_pixels
from runs_for_tests import SHAPE, STRIPES, striped_pixels, write_image, write_labels
from sklearn.ensemble import RandomForestClassifier

from csc_xr.errors import (
    CscWarning,
    LabelError,
    NetworkError,
    OutputError,
    ParameterError,
    SceneError,
)
from csc_xr.export import open_classes, open_result
from csc_xr.inference import classify_pixels, mode_filter
from csc_xr.inputs import list_images
from csc_xr.networks.bundle import Network, open_network
from csc_xr.progress import stage_progress
from csc_xr.record import StageTimer, report_pixels, watching_pixels
from csc_xr.runs.jobs import Job, prepare_jobs
from csc_xr.runs.scene import RunResult, run_job
from csc_xr.runs.scores import count_confusions
from csc_xr.scene import open_scene
from csc_xr.training.phase_two.fitting import FitSettings
from csc_xr.workflow import ClassifySettings

NETWORK = brightness_network()
QUICK = ClassifySettings(
    patch_size=3, mode_radius=2, fit=FitSettings(steps=120, batch_size=64, samples_per_class=200)
)
FOREST = ClassifySettings(patch_size=1, mode_radius=0)


def job_of(image: Path, out: Path, settings: ClassifySettings = QUICK, **options: Any) -> Job:
    (job,) = prepare_jobs([image], NETWORK, out, settings=settings, **options)
    return job


def forest_run(job: Job, out: Path, **options: Any) -> RunResult:
    """Run without fitting a network, which takes most of a small run's time."""
    forest = RandomForestClassifier(n_estimators=5, random_state=0)
    return run_job(job, NETWORK, out, settings=FOREST, classifier=forest, **options)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[RunResult]:
    """Run twice with one seed, once in one chunk and once in many."""
    folder = tmp_path_factory.mktemp("twice")
    pixels = striped_pixels()
    pixels[:, np.random.default_rng(3).random(SHAPE) < 0.03] = 255  # speckle to filter
    image = write_image(folder / "scene.tif", pixels)
    write_labels(folder / "SCLS_scene.tif")
    results = []
    for name, options in (("one", {}), ("other", {"chunks": 17})):
        out = folder / name
        job = job_of(image, out, scene_options=options)
        results.append(run_job(job, NETWORK, out, settings=QUICK, experiment=name))
    return results


def test_two_runs_give_the_same_pixels_and_fingerprints(twice: list[RunResult]) -> None:
    one, other = (open_result(run.outputs["result"]) for run in twice)
    for name in ("tile_class", "pixel_class"):
        assert one[name].values.tobytes() == other[name].values.tobytes()
    assert twice[0].record.networks == twice[1].record.networks
    assert twice[0].record.inputs == twice[1].record.inputs
    assert (one["pixel_class"].values == STRIPES).mean() > 0.95


def test_another_seed_gives_another_network(twice: list[RunResult], tmp_path: Path) -> None:
    settings = ClassifySettings(
        patch_size=3, seed=1, fit=FitSettings(steps=2, samples_per_class=20)
    )
    image = Path(twice[0].record.inputs[0].path)
    other = run_job(job_of(image, tmp_path), NETWORK, tmp_path, settings=settings)
    assert other.record.networks["tiles"] == twice[0].record.networks["tiles"]
    assert other.record.networks["patches"] != twice[0].record.networks["patches"]
    assert other.record.seed == 1


def test_written_network_classifies_the_scene_again(twice: list[RunResult]) -> None:
    run = twice[0]
    network = open_network(run.outputs["network"])
    scene = open_scene(run.record.inputs[0].path)
    again = classify_pixels(scene, network)["pixel_class"]
    stored = open_result(run.outputs["result"])["pixel_class"].values
    assert (again.values != stored).any()  # the mode filter has something to do
    np.testing.assert_array_equal(mode_filter(again, radius=2), stored)


def test_reports_carry_the_name_of_the_experiment(twice: list[RunResult]) -> None:
    assert twice[1].outputs["CNN report"].name == "CNN_scene_other.csv"
    assert twice[1].outputs["CSC report"].name == "CSC_scene_other.csv"
    assert list(twice[1].scores) == ["tile_class", "pixel_class"]


def test_result_tells_its_origin(twice: list[RunResult]) -> None:
    attributes = xr.open_zarr(twice[0].outputs["result"], consolidated=False).attrs
    assert attributes["networks"] == twice[0].record.networks
    assert attributes["seed"] == 0
    assert attributes["inputs"][0]["sha256"] == twice[0].record.inputs[0].sha256


def test_record_stands_only_beside_its_own_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    job = job_of(write_image(tmp_path / "scene.tif"), out, FOREST)
    forest_run(job, out)
    record = out / "scene_run.json"
    assert record.exists()

    def full_disk(*_: Any, **__: Any) -> None:
        raise OutputError("The disk is full.")

    monkeypatch.setattr("csc_xr.runs.scene.four_part_figure", full_disk)
    job = job_of(tmp_path / "scene.tif", out, FOREST, overwrite=True)
    with pytest.raises(OutputError, match="disk is full"):
        forest_run(job, out)
    assert not record.exists()
    monkeypatch.undo()
    forest_run(job, out)
    assert record.exists()
    assert not [path for path in out.rglob("*") if "partial" in path.name]


def test_any_classifier_takes_the_place_of_the_network(tmp_path: Path) -> None:
    out = tmp_path / "out"
    counts: list[int] = []
    with watching_pixels(counts.append):
        ended = forest_run(job_of(write_image(tmp_path / "scene.tif"), out, FOREST), out)
    assert sum(counts) == 2 * SHAPE[0] * SHAPE[1]  # each phase once over the scene
    assert "network" not in ended.outputs
    assert list(ended.record.networks) == ["tiles"]
    assert "RandomForestClassifier" in ended.record.parameters["classifier"]
    assert not list(out.glob("*.keras"))
    found = open_result(ended.outputs["result"])["pixel_class"].values
    assert (found == STRIPES).mean() > 0.97


def test_what_was_told_on_opening_is_in_the_record(tmp_path: Path) -> None:
    image, out = write_image(tmp_path / "scene.tif"), tmp_path / "out"
    coarse = np.tile(STRIPES[::2], (SHAPE[0] // 2, 1))
    write_labels(tmp_path / "SCLS_scene.tif", coarse, transform=NORTH_UP @ Affine.scale(2))
    with pytest.warns(CscWarning, match="resampled by nearest neighbour"):
        job = job_of(image, out, FOREST)
    ended = forest_run(job, out)
    (told,) = ended.record.warnings
    assert "resampled by nearest neighbour" in told
    assert json.loads(ended.outputs["record"].read_text(encoding="utf-8"))["warnings"] == [told]


@pytest.mark.parametrize("when", ["learned_scenes", "first_learned_scenes"])
def test_scores_of_a_scene_that_was_learned_are_told(when: str, tmp_path: Path) -> None:
    image = write_image(tmp_path / "scene.tif")
    card = replace(NETWORK.card, provenance={when: ["other", "scene"]})
    knowing = Network(card, NETWORK.model)
    (job,) = prepare_jobs([image], knowing, tmp_path / "out", settings=FOREST)
    assert job.warnings == ()  # nothing is scored
    write_labels(tmp_path / "SCLS_scene.tif")
    with pytest.warns(CscWarning, match="learned from a scene called scene, so scores"):
        (job,) = prepare_jobs([image], knowing, tmp_path / "out", settings=FOREST)
    assert len(job.warnings) == 1


def test_labels_without_a_class_are_told_not_scored(tmp_path: Path) -> None:
    image, out = write_image(tmp_path / "scene.tif"), tmp_path / "out"
    write_labels(tmp_path / "SCLS_scene.tif", np.zeros(SHAPE, "uint8"))
    with pytest.warns(CscWarning, match="hold no class, so nothing is scored"):
        ended = forest_run(job_of(image, out, FOREST), out)
    assert ended.scores == {}
    assert not list(out.glob("C*.csv"))
    assert "nothing is scored" in ended.record.warnings[0]


def test_scores_of_nothing() -> None:
    labels = xr.DataArray(dask.array.zeros((2, 2), dtype="uint8"), dims=("y", "x"))
    with pytest.warns(CscWarning, match="nothing is scored"):
        assert count_confusions(xr.Dataset(), labels, LEGEND) == {}


def test_every_image_is_checked_before_the_folder_is_made(tmp_path: Path) -> None:
    good = write_image(tmp_path / "good.tif")
    bad = write_image(tmp_path / "bad.tif", some_pixels(2, *SHAPE))
    out = tmp_path / "out"
    with pytest.raises(SceneError, match=r"bad\.tif: The network needs bands red, green, blue"):
        prepare_jobs([good, bad], NETWORK, out, settings=QUICK)
    assert not out.exists()
    jobs = prepare_jobs([good], NETWORK, out, settings=QUICK)
    assert [job.name for job in jobs] == ["good"]
    assert list(out.iterdir()) == []


def test_settings_and_labels_that_do_not_fit(tmp_path: Path) -> None:
    image, out = write_image(tmp_path / "scene.tif"), tmp_path / "out"
    other = write_image(tmp_path / "other.tif")
    with pytest.raises(ParameterError, match="goes with one image, got 2 images"):
        prepare_jobs([image, other], NETWORK, out, settings=QUICK, labels=image)
    with pytest.raises(OutputError, match="each must have its own name, got several called scene"):
        prepare_jobs([image, image], NETWORK, out, settings=QUICK)
    with pytest.raises(LabelError, match="one band of class codes"):
        job_of(image, out, labels=other)
    with pytest.raises(NetworkError, match=r"scene\.tif: The network takes tiles of 8 x 8"):
        job_of(image, out, ClassifySettings(tile_size=9))


def test_only_invalid_pixels(tmp_path: Path) -> None:
    image = write_image(tmp_path / "scene.tif")
    blank = write_image(tmp_path / "blank.tif", np.full((3, *SHAPE), 7, "uint8"), nodata=7)
    with pytest.raises(SceneError, match="must have pixels with data, but all are nodata"):
        job_of(blank, tmp_path)
    mask = write_labels(tmp_path / "mask.tif", np.zeros(SHAPE, "uint8"))
    with pytest.raises(SceneError, match="Check its nodata value and mask"):
        job_of(image, tmp_path, scene_options={"mask": mask})
    corner = np.zeros(SHAPE, "uint8")
    corner[-1, -1] = 1
    write_labels(mask, corner)
    assert job_of(image, tmp_path, scene_options={"mask": mask, "chunks": 16}).name == "scene"


def test_mask_and_network_file_are_inputs_of_the_record(tmp_path: Path) -> None:
    image, out = write_image(tmp_path / "scene.tif"), tmp_path / "out"
    mask = write_labels(tmp_path / "mask.tif")  # 0 in five rows
    model = tmp_path / "model.keras"
    model.write_bytes(b"network")
    job = job_of(image, out, FOREST, scene_options={"mask": mask})
    ended = forest_run(job, out, network_path=model)
    names = [Path(entry.path).name for entry in ended.record.inputs]
    assert names == ["scene.tif", "mask.tif", "model.keras"]
    assert ended.record.parameters["scene"]["mask"] == str(mask)
    result = open_result(ended.outputs["result"])
    np.testing.assert_array_equal((result["pixel_class"] == 0).any("x"), np.arange(SHAPE[0]) < 5)


def test_images_are_listed_once_and_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    for name in ("b.tif", "a.JPG", "SCLS_b.tif", "b.tif.aux.xml", "inner/c.tif", "a_figure.png"):
        (folder / name).touch()
    (folder / "b_run.json").touch()
    for name in ("b_classified.tif", "b_figure.png", "b_confidence.tif", "b_network.keras"):
        (folder / name).touch()
    stores = folder / "s.zarr", folder / "b_classified.zarr", tmp_path / "bare"
    for store in stores:
        store.mkdir()
        (store / "zarr.json").touch()
    listed = list_images([tmp_path / "z.tif", folder, folder / "b.tif", stores[2], stores[0]])
    names = ["z.tif", "a.JPG", "a_figure.png", "b.tif", "s.zarr", "bare"]
    assert [path.name for path in listed] == names
    with pytest.raises(SceneError, match=r"must hold images .* got none"):
        list_images([tmp_path])


def test_class_rasters_are_opened_with_nodata_as_0(tmp_path: Path) -> None:
    codes = np.tile(STRIPES, (SHAPE[0], 1))
    codes[0] = 255
    path = write_labels(tmp_path / "classes.tif", codes, nodata=255)
    (raster,) = open_classes(path).values()
    assert raster.dtype == np.uint8
    assert (raster[0] == 0).all()
    np.testing.assert_array_equal(raster[1:], codes[1:])
    with pytest.raises(ParameterError, match="one band of class codes, got 3 bands"):
        open_classes(write_image(tmp_path / "scene.tif"))
    xr.Dataset({"other": ("y", [1])}).to_zarr(
        tmp_path / "other.zarr", zarr_format=3, consolidated=False
    )
    with pytest.raises(ParameterError, match="holds tile_class or pixel_class, got other"):
        open_classes(tmp_path / "other.zarr")


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> StringIO:
    stream = StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
    return stream


def test_progress_in_a_log_is_a_line_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown(monkeypatch, terminal=False)
    with stage_progress("scene [1]", pixels=100) as (timer, steps):
        with timer.stage("tiles"):
            report_pixels(100)
        with timer.stage("fit"):
            steps(1, 2)
    pattern = r"scene \[1\]\n  tiles +\d+\.\d s\n  fit +\d+\.\d s\n"
    assert re.fullmatch(pattern, stream.getvalue())


def test_bars_follow_pixels_steps_and_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown(monkeypatch, terminal=True)
    numbers = dask.array.ones(10, chunks=1)

    def tear(timer: StageTimer) -> None:
        with timer.stage("tiles"):
            report_pixels(100)
            numbers.sum().compute()  # tasks do not move a bar that counts pixels
            raise SceneError("The scene is torn.")

    with stage_progress("scene", pixels=400) as (timer, steps):
        with timer.stage("samples"):
            numbers.sum().compute()
        with timer.stage("fit"):
            steps(3, 4)
        with pytest.raises(SceneError, match="torn"):
            tear(timer)
    report_pixels(100)  # nobody listens any more
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    last = {line.split()[0]: line.rstrip() for line in plain.splitlines() if "%" in line}
    assert set(last) == {"samples", "fit", "tiles"}
    assert " 25 % " in last["tiles"]  # where it was torn
    for name in ("samples", "fit"):
        assert re.search(r"100 % \d+ s$", last[name]), last[name]
