"""The command line as a user meets it: a folder in, results out, and what is said on the way."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from networks_for_tests import LEGEND, brightness_network
from rasters_for_tests import reading, write_raster
from runs_for_tests import (
    QUICK,
    QUICKEST,
    SHAPE,
    STRIPES,
    Ended,
    files_in,
    run_cli,
    striped_pixels,
    write_image,
    write_labels,
    write_network,
)

from csc_xr import cli
from csc_xr.errors import SceneError
from csc_xr.networks.bundle import open_network
from csc_xr.training.phase_two.fitting import FitSettings
from csc_xr.workflow import OUTPUTS, ClassifySettings

STAGES = ("tiles", "samples", "fit", "pixels", "export", "scores", "figure")


class Runs(NamedTuple):
    """A folder of images, what the command said about it, and where the results lie."""

    model: Path
    images: Path
    out: Path
    ended: Ended


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Classify a folder as users have them: labels, side files and folders lie about."""
    folder = tmp_path_factory.mktemp("runs")
    images, out = folder / "images", folder / "out"
    (images / "older").mkdir(parents=True)
    write_image(images / "Fjord_1.tif")
    write_labels(images / "SCLS_Fjord1.tif")
    write_labels(images / "VM_Fjord_1.tif")
    write_image(images / "older" / "Fjord_0.tif")
    (images / "Fjord_1.tif.aux.xml").write_text("<PAMDataset/>")
    (images / "notes.txt").write_text("two scenes")
    write_raster(images / "photo.png", striped_pixels(), driver="PNG")
    wanted = [word for name in OUTPUTS for word in ("--output", name)]
    model = write_network(folder)
    ended = run_cli("classify", images, "--model", model, "--out", out, *QUICK, *wanted)
    assert ended.code == 0, ended.err
    return Runs(model, images, out, ended)


def test_every_image_has_its_outputs_and_nothing_else(runs: Runs) -> None:
    found = {name for name in files_in(runs.out) if ".zarr" not in name}
    of_fjord = {f"Fjord_1_{name}.tif" for name in ("classified", *OUTPUTS)} | {
        *(f"Fjord_1_{name}.qml" for name in ("classified", *OUTPUTS)),
        "Fjord_1_classified.tif.aux.xml",
        "CNN_Fjord_1_k3.csv",
        "CSC_Fjord_1_k3.csv",
        "SCORES_Fjord_1_k3.csv",
        "Fjord_1_figure.png",
        "Fjord_1_network.keras",
        "Fjord_1_run.json",
    }
    of_photo = {
        "photo_classified.png",
        "photo_classified.png.aux.xml",
        "photo_classified.qml",
        "photo_figure.png",
        "photo_network.keras",
        "photo_run.json",
    }
    assert found == of_fjord | of_photo | {"csc_xr_job.json"}
    stores = {path.name for path in runs.out.glob("*.zarr")}
    assert stores == {"Fjord_1_classified.zarr", "photo_classified.zarr"}
    assert not list(runs.out.glob("*.partial")) + list(runs.out.glob(".*"))


def test_stages_are_told_with_their_seconds(runs: Runs) -> None:
    lines = runs.ended.err.splitlines()
    plan = r"plan: \d+ chunks of at most \d+ x \d+ px, \d+ at once; about .* GB of .* GB allowed"
    assert re.fullmatch(plan, lines[0])
    assert lines[1] == "Fjord_1 (1 of 2)"
    assert lines[len(STAGES) + 2] == "photo (2 of 2)"
    assert len(lines) == 3 + 2 * len(STAGES)
    for name, line in zip(STAGES, lines[2:], strict=False):
        assert re.fullmatch(rf"  {name} +\d+\.\d s", line)


def test_results_are_told(runs: Runs) -> None:
    said = runs.ended.out
    assert said.index("phase one, tiles") < said.index("phase two, pixels")
    assert said.count("Weighted_avg") == 2
    for name in ("Fjord_1_classified.tif", "CSC_Fjord_1_k3.csv", "photo_run.json"):
        assert str(runs.out / name) in said
    assert re.search(r"took +\d+\.\d s, at most \d+\.\d\d GB of memory", said)


def test_class_geotiff_is_what_a_gis_wants(runs: Runs) -> None:
    result = xr.open_zarr(runs.out / "Fjord_1_classified.zarr", consolidated=False)
    with rasterio.open(runs.out / "Fjord_1_classified.tif") as file:
        assert file.dtypes == ("uint8",)
        assert file.nodata == 0
        assert file.profile["tiled"]
        assert file.profile["compress"] == "deflate"
        assert file.colormap(1)[1] == (0, 0, 255, 255)
        np.testing.assert_array_equal(file.read(1), result["pixel_class"])
    names = (runs.out / "Fjord_1_classified.tif.aux.xml").read_text(encoding="utf-8")
    for entry in LEGEND.classes:
        assert entry.name in names
    assert (result["pixel_class"].values == STRIPES).mean() > 0.97


def test_png_stands_in_where_there_is_no_georeference(runs: Runs) -> None:
    result = xr.open_zarr(runs.out / "photo_classified.zarr", consolidated=False)
    with reading(runs.out / "photo_classified.png") as file:
        np.testing.assert_array_equal(file.read(1), result["pixel_class"])
        assert file.colormap(1)[3][:3] == (128, 128, 128)


@pytest.mark.parametrize("phase", ["CNN", "CSC"])
def test_reports_have_the_published_columns(phase: str, runs: Runs) -> None:
    report = pd.read_csv(runs.out / f"{phase}_Fjord_1_k3.csv")
    assert list(report) == ["Class", "Precision", "Recall", "F1_score", "Support"]
    rows = ["Water", "Ice", "Rock", "Accuracy", "Macro_avg", "Weighted_avg"]
    assert report["Class"].tolist() == rows
    assert report["Support"].iloc[-1] == SHAPE[1] * (SHAPE[0] - 5)  # 5 rows are not labelled
    assert report["F1_score"].iloc[-1] > 0.97


def test_figure_has_the_colours_of_the_legend(runs: Runs) -> None:
    for name in ("Fjord_1", "photo"):
        with reading(runs.out / f"{name}_figure.png") as file:
            red, green, blue = file.read([1, 2, 3])
        for entry in LEGEND.classes:
            r, g, b = entry.rgb
            count = int(((red == r) & (green == g) & (blue == b)).sum())
            assert count > 5000, f"{entry.name} is not in the figure"


def test_record_tells_how_to_repeat_the_run(runs: Runs) -> None:
    record = json.loads((runs.out / "Fjord_1_run.json").read_text(encoding="utf-8"))
    assert record["seed"] == 0
    assert record["parameters"]["patch_size"] == 3
    assert record["parameters"]["fit"]["steps"] == 150
    assert record["parameters"]["scene"]["band_names"] is None
    inputs = [Path(entry["path"]).name for entry in record["inputs"]]
    assert inputs == ["Fjord_1.tif", "SCLS_Fjord1.tif", "tiles.keras"]
    assert record["networks"]["tiles"] == open_network(runs.model).fingerprint
    written = open_network(runs.out / "Fjord_1_network.keras")
    assert record["networks"]["patches"] == written.fingerprint
    assert {"csc_xr", "tensorflow", "xarray", "gdal"} <= set(record["software"])
    assert tuple(record["stage_seconds"]) == STAGES
    assert record["started"] < record["finished"]
    assert record["warnings"] == []
    for role, path in record["outputs"].items():
        assert Path(path).exists(), role
    youngest = max(runs.out.glob("Fjord_1_*"), key=lambda path: path.stat().st_mtime_ns)
    assert youngest.name == "Fjord_1_run.json"


def test_results_in_the_folder_of_the_images_are_not_taken_for_images(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def begin(job: Any, *_: Any, **__: Any) -> None:
        begun.append(job.name)
        raise SceneError(f"{job.name} is not wanted.")

    monkeypatch.setattr("csc_xr.runs.folder.run_job", begin)
    write_image(runs.out / "new.tif")
    ended = run_cli("classify", runs.out, "--model", runs.model, "--out", runs.out, *QUICK)
    (runs.out / "new.tif").unlink()
    assert begun == ["new"], ended.err


def test_one_image_that_fails_does_not_stop_the_others(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def begin(job: Any, *_: Any, **__: Any) -> None:
        begun.append(job.name)
        raise SceneError(f"{job.name} is damaged.")

    monkeypatch.setattr("csc_xr.runs.folder.run_job", begin)
    ended = run_cli("classify", runs.images, "--model", runs.model, "--out", tmp_path)
    assert ended.code == 2
    assert begun == ["Fjord_1", "photo"]
    assert ended.err.count("csc-xr: ") == 2
    assert "photo is damaged." in ended.err


def test_a_single_class_is_no_error(runs: Runs, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(225, 5, (3, *SHAPE))
    image = write_image(tmp_path / "plain.tif", noise.clip(1, 255).astype("uint8"))
    ended = run_cli("classify", image, "--model", runs.model, "--out", tmp_path / "out", *QUICK)
    assert ended.code == 0, ended.err
    told = "Phase one found a single class, Rock: all pixels get it."
    assert f"csc-xr: note: {told}" in ended.err
    record = json.loads((tmp_path / "out" / "plain_run.json").read_text(encoding="utf-8"))
    assert record["warnings"] == [told]
    with rasterio.open(tmp_path / "out" / "plain_classified.tif") as file:
        assert (file.read(1) == 3).all()


def test_nodata_value_that_does_not_occur_is_noted(runs: Runs, tmp_path: Path) -> None:
    """As in many chips cut from Sentinel-2: 65535 is declared, 0 is meant."""
    pixels = striped_pixels().astype("uint16")
    pixels[:, :, :16] = 0
    image = write_image(tmp_path / "chip.tif", pixels, nodata=65535)
    words = ("--model", runs.model, "--out", tmp_path / "out", *QUICKEST)
    told = "names 65535.* as nodata but does not seem to hold it"
    assert re.search(told, run_cli("classify", image, *words).err)
    refused = run_cli("classify", image, "--nodata", "0", *words)
    assert "opening.nodata was None, now 0.0" in refused.err
    ended = run_cli("classify", image, "--nodata", "0", *words, "--overwrite")
    assert not re.search(told, ended.err)
    with rasterio.open(tmp_path / "out" / "chip_classified.tif") as file:
        classes = file.read(1)
    np.testing.assert_array_equal(classes == 0, (pixels == 0).all(axis=0))


def test_a_class_of_a_handful_of_tiles_is_no_error(runs: Runs, tmp_path: Path) -> None:
    pixels = striped_pixels()
    pixels[:, :, :64] = np.random.default_rng(2).normal(30, 5, (3, SHAPE[0], 64))
    pixels[:, :16, :8] = 128
    image = write_image(tmp_path / "few.tif", pixels)
    ended = run_cli("classify", image, "--model", runs.model, "--out", tmp_path / "out", *QUICKEST)
    assert ended.code == 0, ended.err
    told = "Phase one found only a few tiles of Ice (2)"
    assert f"note: {told}" in ended.err
    record = json.loads((tmp_path / "out" / "few_run.json").read_text(encoding="utf-8"))
    assert record["warnings"][0].startswith(told)


@pytest.mark.parametrize(
    ("name", "phases"),
    [
        ("Fjord_1_classified.tif", {"classes": "CSC"}),
        ("Fjord_1_classified.zarr", {"phase one, tiles": "CNN", "phase two, pixels": "CSC"}),
        ("photo_classified.png", {"classes": None}),
    ],
)
def test_evaluate_scores_what_exists(
    name: str, phases: dict[str, str | None], runs: Runs, tmp_path: Path
) -> None:
    legend, table = tmp_path / "legend.json", tmp_path / "scores.csv"
    legend.write_text(json.dumps(LEGEND.to_dict()), encoding="utf-8")
    labels = runs.images / "SCLS_Fjord1.tif"
    ended = run_cli("evaluate", runs.out / name, labels, "--legend", legend, "--out", table)
    assert ended.code == 0, ended.err
    assert ("no georeference" in ended.err) == name.startswith("photo")
    found = pd.read_csv(table)
    assert ended.out.count("Weighted_avg") == len(phases)
    for number, (phase, report) in enumerate(phases.items()):
        assert phase in ended.out
        if report is not None:
            expected = pd.read_csv(runs.out / f"{report}_Fjord_1_k3.csv")
            rows = found.iloc[number * len(expected) : (number + 1) * len(expected)]
            pd.testing.assert_frame_equal(
                rows[list(expected)].reset_index(drop=True), expected, check_exact=True
            )
    assert ("Phase" in found) == (len(phases) == 2)
    alone = run_cli("evaluate", runs.out / name, labels, "--legend", legend)
    assert alone.out == ended.out  # writing a table changes nothing of what is printed


def test_model_is_converted_and_described(runs: Runs, tmp_path: Path) -> None:
    source, target = tmp_path / "old.h5", tmp_path / "new.keras"
    model = brightness_network().model
    keras.saving.save_model(model, source)
    legend = tmp_path / "legend.csv"
    rows = [f"{entry.code},{entry.name},{entry.colour}\n" for entry in LEGEND.classes]
    legend.write_text("code,name,colour\n" + "".join(rows))
    card = (
        "--legend",
        legend,
        "--scale",
        "255",
        "--bands",
        "red, green,blue",
        "--codes",
        "0,1,2,3",
    )
    ended = run_cli("model", "convert", source, target, *card)
    assert (ended.code, ended.out) == (0, f"wrote {target}\n"), ended.err
    network = open_network(target)
    assert network.card.bands == ("red", "green", "blue")
    assert network.card.scale == 255
    for old, new in zip(model.get_weights(), network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    ended = run_cli("model", "info", target)
    assert ended.code == 0
    for part in (
        "kind         tile",
        "bands        red, green, blue",
        "scale        255.0",
        "size         8 px",
        "classes      1 Water, 2 Ice, 3 Rock",
        f"fingerprint  {network.fingerprint}",
    ):
        assert part in ended.out
    patches = run_cli("model", "info", runs.out / "Fjord_1_network.keras").out
    assert "kind         patch" in patches
    assert "steps        150" in patches


def test_defaults_are_those_of_the_library() -> None:
    chosen = inspect.signature(cli.classify.classify).parameters
    for settings in (ClassifySettings(), FitSettings()):
        for name in (set(vars(settings)) & set(chosen)) - {"front"}:  # a flag, and settings
            assert chosen[name].default == getattr(settings, name), name
    assert chosen["front"].default is False
    assert ClassifySettings().front is None


def test_help_names_every_command_and_option() -> None:
    said = run_cli("--help")
    assert said.code == 0
    assert all(name in said.out for name in ("classify", "evaluate", "demo", "model"))
    said = run_cli("classify", "-h").out
    for name in inspect.signature(cli.classify.classify).parameters:
        if name != "images":
            assert f"--{name.replace('_', '-')}" in said


def test_bars_on_a_terminal(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    image = write_image(tmp_path / "plain.tif", np.full((3, *SHAPE), 30, "uint8"))
    ended = run_cli("classify", image, "--model", runs.model, "--out", tmp_path / "out", *QUICKEST)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ended.err)
    for name in STAGES:
        assert re.search(rf"  {name} +━+ 100 % \d+ s", plain), name
    assert "note: Phase one found a single class" in plain


def test_interrupt_in_the_process(runs: Runs, tmp_path: Path, monkeypatch: Any) -> None:
    codes = []

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("csc_xr.runs.jobs.prepare_jobs", interrupt)
    monkeypatch.setattr("csc_xr.cli.terminal._leave", codes.append)
    ended = run_cli("classify", runs.images, "--model", runs.model, "--out", tmp_path)
    assert codes == [130]
    assert ended.err == "csc-xr: interrupted; what was finished is kept.\n"


def command(*words: object) -> subprocess.Popen[str]:
    """Start the installed command, without what the tests put into the environment."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    # A shell's background jobs ignore Ctrl-C, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [Path(sys.executable).with_name("csc-xr"), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_a_run_and_leaves_what_is_finished(runs: Runs, tmp_path: Path) -> None:
    """Also shows that what TensorFlow writes at its start does not reach the user."""
    out = tmp_path / "out"
    image = runs.images / "Fjord_1.tif"
    words = ("--model", runs.model, "--out", out, *QUICK, "--steps", "1000000")
    with command("classify", image, *words) as process:
        assert process.stderr is not None
        watchdog = threading.Timer(300, process.kill)
        watchdog.start()
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("  samples"):
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        said.extend(process.stderr)
        watchdog.cancel()
    assert process.returncode == 130
    assert said[1] == "Fjord_1 (1 of 1)\n"
    assert [line.split()[0] for line in said[2:-1]] == ["tiles", "samples", "fit"]
    assert said[-1] == "csc-xr: interrupted; what was finished is kept.\n"
    (left,) = (out / "unfinished").iterdir()
    assert {path.name for path in left.iterdir()} == {"work.json", "tiles.zarr"}
    assert not [name for name in files_in(out) if "partial" in name]
    found = run_cli("status", out).out
    assert re.search(r"unfinished +Fjord_1 +chunks: tiles 2/2, result 0/0", found)


def test_bad_input_to_the_installed_command(tmp_path: Path) -> None:
    with command("evaluate", tmp_path / "a.tif", tmp_path / "b.tif", "--legend", "river") as ran:
        out, err = ran.communicate()
    assert ran.returncode == 2
    assert out == ""
    assert err.startswith(f"csc-xr: {tmp_path / 'a.tif'} must be an image")
    assert len(err.splitlines()) == 1
