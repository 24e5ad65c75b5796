"""Training from the command line: tiles, train, tune, finetune; killed, kept, refused."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clusters_for_tests import kill, kill_when, start_command
from networks_for_tests import BANDS, LEGEND
from rasters_for_tests import write_raster
from runs_for_tests import PLACE, Ended, files_in, run_cli, write_network
from tiles_for_tests import coloured_tiles

from csc_xr.errors import OutputError, ResumeError
from csc_xr.files import write_json
from csc_xr.networks.bundle import open_network
from csc_xr.runs.training import SplitSettings, train_network
from csc_xr.tiles.keys import ClassKey, class_key_of
from csc_xr.tiles.store import open_tiles, write_tiles
from csc_xr.training.phase_one.checkpoints import Checkpoint, TrainingState
from csc_xr.training.phase_one.settings import TrainSettings

QUICK = ("--epochs", "2", "--batch-size", "16")
WRITTEN = {
    "net.keras",
    "net_history.csv",
    "net_history.png",
    "net_report.csv",
    "net_confusion.png",
    "net_run.json",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three labelled images of three classes side by side, and one without labels."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for number in range(3):
        codes = np.repeat(np.array([1, 2, 3], np.uint8), 48)[None].repeat(64, axis=0)
        level = np.array([0, 60, 120, 200])[codes]
        pixels = np.clip(level + random.normal(0, 9, (3, 64, 144)), 1, 255).astype(np.uint8)
        write_raster(folder / f"Fjord_{number}.tif", pixels, **PLACE)
        write_raster(folder / f"SCLS_Fjord{number}.tif", codes[None], **PLACE)
    write_raster(folder / "Fjord_9.tif", pixels, **PLACE)
    return folder


@pytest.fixture(scope="module")
def legend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("legend") / "test.json"
    write_json(LEGEND.to_dict(), path)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, images: Path, legend: Path) -> Path:
    path = tmp_path_factory.mktemp("store") / "tiles.zarr"
    words = ("--size", 16, "--stride", 16, "--legend", legend, "--out", path)
    ended = run_cli("tiles", images, *words)
    assert ended.code == 0, ended.err
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, store: Path) -> tuple[Path, Ended]:
    folder = tmp_path_factory.mktemp("trained")
    ended = run_cli("train", store, "--out", folder / "net.keras", *QUICK)
    assert ended.code == 0, ended.err
    return folder, ended


def test_tiles_of_a_folder(images: Path, legend: Path, store: Path, tmp_path: Path) -> None:
    tiles = open_tiles(store)
    assert tiles.sizes == {"tile": 108, "band": 3, "y": 16, "x": 16}
    again = tmp_path / "tiles.zarr"
    words = ("--size", 16, "--stride", 16, "--legend", legend, "--out", again)
    ended = run_cli("tiles", images, *words)
    assert "1 of 4 images have no label raster SCLS_<image>.tif and are left out: Fjord_9.tif" in (
        re.sub(r"\s+", " ", ended.err)
    )
    assert re.search(r"Fjord_1 +12 +12 +12 +36\n", ended.out)
    assert re.search(r"All +36 +36 +36 +108\n", ended.out)
    assert run_cli("tiles", images, *words).code == 2
    assert run_cli("tiles", images, *words, "--overwrite").code == 0
    xr_equal = open_tiles(again)["pixels"].values == tiles["pixels"].values
    assert xr_equal.all()


def test_tiles_with_options(images: Path, legend: Path, tmp_path: Path) -> None:
    words = ("--size", 16, "--stride", 8, "--legend", legend, "--per-class", 10, "--copies")
    ended = run_cli(
        "tiles", images / "Fjord_0.tif", *words, "--leave-out", "3", "--bands", "blue,red",
        "--noise", "4", "--out", tmp_path / "t.zarr",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    tiles = open_tiles(tmp_path / "t.zarr")
    assert tiles["band"].values.tolist() == ["blue", "red"]
    assert np.unique(tiles["code"].values).tolist() == [1, 2]
    assert np.bincount(tiles["variant"].values).tolist() == [20, 20, 20, 20]


def test_copies_that_are_mirrored(images: Path, legend: Path, tmp_path: Path) -> None:
    words = ("--size", 16, "--stride", 16, "--legend", legend, "--flips", "--noise", 0)
    ended = run_cli("tiles", images / "Fjord_0.tif", *words, "--out", tmp_path / "t.zarr")
    assert ended.code == 0, ended.err
    tiles = open_tiles(tmp_path / "t.zarr")
    assert np.bincount(tiles["variant"].values).tolist() == [36] * 8
    assert tiles.attrs["origin"]["copies"] == "turned and flipped"
    pixels = tiles["pixels"].values
    np.testing.assert_array_equal(pixels[4 * 36 : 5 * 36], pixels[:36, :, ::-1])


def test_what_a_training_leaves(trained: tuple[Path, Ended]) -> None:
    folder, ended = trained
    assert set(files_in(folder)) == WRITTEN
    history = pd.read_csv(folder / "net_history.csv")
    assert history["epoch"].tolist() == [1, 2]
    assert len(re.findall(r"^epoch +\d+  loss \d\.\d+  right", ended.out, re.MULTILINE)) == 2
    report = pd.read_csv(folder / "net_report.csv")
    assert report["Class"].tolist()[-3:] == ["Accuracy", "Macro_avg", "Weighted_avg"]
    assert int(report["Support"].iloc[-1]) == 36
    network = open_network(folder / "net.keras")
    assert network.card.bands == BANDS
    record = json.loads((folder / "net_run.json").read_text())
    assert record["networks"]["fitted"] == network.fingerprint
    assert record["identity"]["settings"]["epochs"] == 2
    assert set(record["outputs"]) == {
        "network", "history", "history_figure", "scores", "confusion_figure",
    }  # fmt: skip
    told = run_cli("model", "info", folder / "net.keras").out
    assert re.search(r"architecture +compact", told)


def test_the_network_classifies(trained: tuple[Path, Ended], images: Path, tmp_path: Path) -> None:
    words = ("--patch-size", "1", "--classifier", "random-forest", "--mode-radius", "2")
    ended = run_cli(
        "classify", images / "Fjord_0.tif", "--model", trained[0] / "net.keras",
        "--out", tmp_path / "out", *words,
    )  # fmt: skip
    assert ended.code == 0, ended.err


def test_a_finished_training_is_kept_and_another_refused(
    trained: tuple[Path, Ended], store: Path
) -> None:
    folder, _ = trained
    before = (folder / "net.keras").stat().st_mtime_ns
    again = run_cli("train", store, "--out", folder / "net.keras", *QUICK)
    assert again.code == 0
    assert again.out == f"done already: {folder / 'net_run.json'}\n"
    assert (folder / "net.keras").stat().st_mtime_ns == before
    other = run_cli("train", store, "--out", folder / "net.keras", *QUICK, "--seed", "1")
    assert other.code == 2
    assert "seed was 0, now 1" in other.err
    assert set(files_in(folder)) == WRITTEN


def test_tune_keeps_no_network(store: Path, tmp_path: Path) -> None:
    ended = run_cli("tune", store, "--out", tmp_path / "curve", *QUICK)
    assert ended.code == 0, ended.err
    assert set(files_in(tmp_path)) == {
        f"curve_tune_{end}" for end in ("history.csv", "history.png", "report.csv", "confusion.png",
                                   "run.json")
    }  # fmt: skip


def test_options_of_a_training(store: Path, tmp_path: Path) -> None:
    ended = run_cli(
        "train", store, "--out", tmp_path / "net.keras", *QUICK, "--no-turns", "--no-flips",
        "--memory-limit", "50kB", "--validation", "block", "--validation-block", 48,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    record = json.loads((tmp_path / "net_run.json").read_text())
    decided = record["identity"]["settings"]
    assert (decided["turns"], decided["flips"], decided["memory_limit"]) == (False, False, 50_000)
    assert record["identity"]["split"]["block_size"] == 48


def test_a_limit_of_memory_that_nothing_comes_near(store: Path, tmp_path: Path) -> None:
    words = ("train", store, "--out", tmp_path / "net.keras", "--epochs", 1)
    ended = run_cli(*words, "--memory-limit", "1MB")
    assert ended.code == 0, ended.err
    settings = open_network(tmp_path / "net.keras").card.provenance["settings"]
    assert settings["memory_limit"] == 10**6
    assert run_cli(*words, "--memory-limit", "1GB").out.startswith("done already")


def test_a_training_and_its_tuning_have_one_name(
    trained: tuple[Path, Ended], store: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained[0], tmp_path / "both")
    out = tmp_path / "both" / "net.keras"
    ended = run_cli("tune", store, "--out", out, *QUICK)
    assert ended.code == 0, ended.err
    assert set(files_in(out.parent)) == WRITTEN | {
        name.replace("net_", "net_tune_") for name in WRITTEN - {"net.keras"}
    }
    for task in ("tune", "train"):
        assert run_cli(task, store, "--out", out, *QUICK).out.startswith("done already")


@pytest.mark.parametrize(
    ("words", "threads"),
    [(("--threads", 3), "3"), ((), "7"), (("--network", "vgg16", "--threads", 2), "2")],
)
def test_threads_asked_for_are_those_of_tensorflow(
    words: tuple[Any, ...], threads: str, store: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "7")
    failing = ("--out", tmp_path / "net.keras", "--epochs", 0)
    assert run_cli("train", store, *words, *failing).code == 2
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == threads
    assert os.environ["TF_NUM_INTEROP_THREADS"] == "1"


def test_threads_are_one_for_compact(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")  # so that it is restored
    for network, threads in (("compact", "1"), ("vgg16", str(os.cpu_count()))):
        monkeypatch.delenv("TF_NUM_INTRAOP_THREADS")
        words = ("--network", network, "--out", tmp_path / "net.keras", "--epochs", 0)
        assert run_cli("train", store, *words).code == 2
        assert os.environ["TF_NUM_INTRAOP_THREADS"] == threads


def test_finetune_without_validation(
    trained: tuple[Path, Ended], store: Path, tmp_path: Path
) -> None:
    """The target accuracy it has by itself is left out."""
    first, out = trained[0] / "net.keras", tmp_path / "joint.keras"
    ended = run_cli("finetune", first, store, "--out", out, *QUICK, "--validation", "none")
    assert ended.code == 0, ended.err
    card = open_network(out).card
    assert card.provenance["settings"]["target_accuracy"] is None
    assert card.provenance["learned_scenes"] == ["Fjord_0", "Fjord_1", "Fjord_2"]
    assert set(files_in(tmp_path)) == {
        "joint.keras", "joint_history.csv", "joint_history.png", "joint_run.json",
    }  # fmt: skip
    told = run_cli("finetune", out, store, "--out", tmp_path / "on.keras", "--epochs", 1)
    assert told.code == 0, told.err
    known = re.search(r"has learned from (.*), which", re.sub(r"\s+", " ", told.err))
    assert known is not None
    held = open_network(tmp_path / "on.keras").card.provenance["split"]["scenes"]
    assert known[1].split(", ") == held


def test_finetune(trained: tuple[Path, Ended], store: Path, tmp_path: Path) -> None:
    first = trained[0] / "net.keras"
    out = tmp_path / "joint.keras"
    ended = run_cli(
        "finetune", first, store, store, "--out", out, *QUICK, "--target-accuracy", "0.1",
        "--per-class", "9", "--validation", "block", "--validation-share", "0.4",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    provenance = open_network(out).card.provenance
    assert provenance["first_weights"] == open_network(first).fingerprint
    assert provenance["ended_by"] == "target"
    assert provenance["split"]["by"] == "block"
    history = pd.read_csv(tmp_path / "joint_history.csv")
    assert history["learning_rate"].tolist() == pytest.approx([1e-5] * len(history))


def test_a_model_of_the_users_own_from_a_file(store: Path, tmp_path: Path) -> None:
    import keras

    model = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Flatten(),
         keras.layers.Dense(4, activation="softmax")]
    )  # fmt: skip
    model.save(tmp_path / "own.keras")
    ended = run_cli(
        "train", store, "--network", tmp_path / "own.keras", "--out", tmp_path / "net.keras",
        *QUICK, "--validation-scenes", "Fjord_2",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    card = open_network(tmp_path / "net.keras").card
    assert card.provenance["split"] == {"by": "scene", "scenes": ["Fjord_2"]}
    assert card.legend == LEGEND


def test_local_classes(images: Path, legend: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.csv"
    key.write_text("LocalClass,HierarchClass\n1,1\n2,2\n3,1\n")
    words = ("--size", 16, "--stride", 16, "--legend", legend, "--class-key", key)
    ended = run_cli("tiles", images, *words, "--out", tmp_path / "t.zarr")
    assert ended.code == 0, ended.err
    ended = run_cli("train", tmp_path / "t.zarr", "--out", tmp_path / "net.keras", *QUICK)
    assert ended.code == 0, ended.err
    card = open_network(tmp_path / "net.keras").card
    assert card.codes == (0, 1, 2, 0)
    report = pd.read_csv(tmp_path / "net_report.csv")
    assert report["Class"].tolist()[:-3] == ["Water", "Ice"]


def test_tiles_of_other_programs(store: Path, legend: Path, tmp_path: Path) -> None:
    facts = ("--legend", legend, "--bands", "red,green,blue", "--scale", 255)
    expected = open_tiles(store)
    ended = run_cli("export-tiles", store, "--out", tmp_path / "C", "--validation", "scene")
    assert ended.code == 0, ended.err
    assert {p.relative_to(tmp_path / "C").as_posix() for p in (tmp_path / "C").glob("*/*")} == {
        f"{part}/C{code}" for part in ("training", "validation") for code in (1, 2, 3)
    }
    ended = run_cli("import-tiles", tmp_path / "C", *facts, "--out", tmp_path / "again.zarr")
    assert ended.code == 0, ended.err
    again = open_tiles(tmp_path / "again.zarr")
    assert sorted(t.tobytes() for t in again["pixels"].values) == sorted(
        t.tobytes() for t in expected["pixels"].values
    )
    ended = run_cli("export-tiles", store, "--out", tmp_path / "all", "--form", "float16")
    assert ended.code == 0, ended.err
    arrays = tmp_path / "all_tiles.npy", tmp_path / "all_labels.npy"
    words = (arrays[0], "--labels", arrays[1], *facts, "--out", tmp_path / "halves.zarr")
    ended = run_cli("import-tiles", *words)
    assert ended.code == 0, ended.err
    halves = open_tiles(tmp_path / "halves.zarr")
    np.testing.assert_allclose(halves["pixels"].values, expected["pixels"].values, atol=0.07)
    key = tmp_path / "key.csv"
    key.write_text("LocalClass,HierarchClass\n1,1\n2,2\n3,1\n")
    words = (*facts, "--class-key", key, "--out", tmp_path / "keyed.zarr")
    ended = run_cli("import-tiles", tmp_path / "C", *words)
    assert ended.code == 0, ended.err
    assert class_key_of(open_tiles(tmp_path / "keyed.zarr")) == (
        ClassKey({1: 1, 2: 2, 3: 1}), LEGEND,
    )  # fmt: skip
    for words in (("--validation", "scene"), ("--validation-scenes", "Fjord_0")):
        ended = run_cli("export-tiles", store, "--out", tmp_path / "no", "--form", "uint8", *words)
        assert ended.code == 2
        assert "got --form uint8 with something held out" in ended.err
    assert not list(tmp_path.glob("no*"))
    ended = run_cli("import-tiles", arrays[0], *facts, "--out", tmp_path / "t.zarr")
    assert ended.code == 2
    assert "from an .npy file with --labels, got" in ended.err


def test_killed_at_random_instants_the_network_is_the_same(tmp_path: Path) -> None:
    """A program of its own, ended by SIGKILL as often as it takes to see checkpoints at work.

    Tiles and batches are so large that operations side by side would end in another order.
    """
    write_tiles(coloured_tiles(200, size=48), tmp_path / "tiles.zarr")
    words = ("train", tmp_path / "tiles.zarr", "--epochs", 6, "--batch-size", 256, "--threads", 1)
    log = tmp_path / "said.txt"
    outs = tmp_path / "alone" / "net.keras", tmp_path / "killed" / "net.keras"
    alone = start_command(*words, "--out", outs[0], log=log)
    checkpoint = outs[1].with_name("net.checkpoint")
    random = np.random.default_rng(1)
    kills = 0
    try:
        while True:
            stamp = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None

            def moved_on(before: int | None = stamp) -> bool:
                return checkpoint.exists() and checkpoint.stat().st_mtime_ns != before

            running = start_command(*words, "--out", outs[1], log=log)
            if kills == 2 or not kill_when(running, moved_on, float(random.uniform(0, 1))):
                break
            kills += 1
        assert running.wait(300) == alone.wait(300) == 0, log.read_text()
    finally:
        kill(running)
        kill(alone)
    assert kills == 2
    histories = [
        pd.read_csv(path.with_name("net_history.csv")).drop(columns="seconds") for path in outs
    ]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    assert open_network(outs[0]).fingerprint == open_network(outs[1]).fingerprint
    assert set(files_in(outs[1].parent)) == WRITTEN


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--network", "vgg9"), "network must be .* or the file of a network"),
        (("--threads", "0"), "--threads must be 1 or more, got 0"),
        (("--epochs", "0"), "epochs must be a whole number of 1 or more, got 0"),
        (("--validation", "none", "--patience", "2"), "need tiles to be measured on"),
        (("--validation", "chance"), "by must be auto, scene, block or none, got 'chance'"),
        (("--validation-scenes", "Fjord_7"), "scenes must name scenes the tiles were cut from"),
        (("--weights", "absent.keras"), "absent.keras"),
        (("--seed", "-1"), "seed must be a whole number of 0 or more, got -1"),
        (("--precision", "float8"), "precision must be one of float32, bfloat16, float16, auto"),
    ],
)
def test_bad_input(store: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    ended = run_cli("train", store, "--out", tmp_path / "net.keras", *words)
    assert ended.code == 2
    assert re.search(message, ended.err)
    assert not files_in(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--stride", "0"), "stride must be 1 or more whole pixels, got 0"),
        (("--purity", "1.5"), "purity must lie above 0 and up to 1, got 1.5"),
        (("--size", "60"), "with one class on 95% of each, but no window of 60 px in 3 scene"),
        (("--size", "400"), "must hold at least one tile of 400 x 400"),
        (("--labels", "a.tif"), "A label raster belongs to one image, got 4 images"),
        (("--seed", "-1"), "seed must be a whole number of 0 or more, got -1"),
        (("--leave-out", "x"), "--leave-out takes whole numbers with commas, got 'x'"),
        (("--bands", "red,nir"), "extract_tiles needs bands red, nir, got red, green, blue"),
    ],
)
def test_bad_input_to_tiles(
    images: Path, legend: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    chosen = ("--size", "16", "--stride", "16", *words)
    ended = run_cli("tiles", images, "--legend", legend, "--out", tmp_path / "t.zarr", *chosen)
    assert ended.code == 2
    assert re.search(message, ended.err)
    assert not files_in(tmp_path)


def test_no_image_has_labels(images: Path, legend: Path, tmp_path: Path) -> None:
    ended = run_cli("tiles", images / "Fjord_9.tif", "--legend", legend, "--out", tmp_path / "t")
    assert ended.code == 2
    assert "no label raster was found beside Fjord_9.tif" in ended.err


def test_labels_of_another_place(images: Path, legend: Path, tmp_path: Path) -> None:
    elsewhere = PLACE | {"transform": PLACE["transform"].translation(9e4, 0) @ PLACE["transform"]}  # type: ignore[attr-defined]
    labels = write_raster(tmp_path / "labels.tif", np.ones((1, 64, 144), np.uint8), **elsewhere)
    ended = run_cli(
        "tiles", images / "Fjord_9.tif", "--labels", labels, "--legend", legend,
        "--out", tmp_path / "t.zarr",
    )  # fmt: skip
    assert ended.code == 2
    assert "labels.tif" in ended.err


def test_a_store_that_does_not_fit_the_network(store: Path, tmp_path: Path) -> None:
    network = write_network(tmp_path)  # tiles of 8 px
    ended = run_cli("finetune", network, store, "--out", tmp_path / "net.keras")
    assert ended.code == 2
    assert "its tile size: 8, that of the tiles: 16" in ended.err


def test_what_lies_there_is_not_replaced(tmp_path: Path) -> None:
    write_tiles(coloured_tiles(8), tmp_path / "tiles.zarr")
    settings: Any = {"settings": TrainSettings(epochs=1), "split": SplitSettings(by="scene")}
    (tmp_path / "net.keras").write_bytes(b"a network of somebody")
    with pytest.raises(OutputError, match="must not exist yet, or be of this training"):
        train_network([tmp_path / "tiles.zarr"], tmp_path / "net.keras", **settings)
    assert (tmp_path / "net.keras").read_bytes() == b"a network of somebody"
    Checkpoint(tmp_path / "net.checkpoint", {"task": "train"}).save(TrainingState())
    with pytest.raises(ResumeError, match=r"made in another way: .*seed was None, now 0"):
        train_network([tmp_path / "tiles.zarr"], tmp_path / "net.keras", **settings)
    with pytest.raises(OutputError, match=r"a file that ends in .keras, got .*net.h5"):
        train_network([tmp_path / "tiles.zarr"], tmp_path / "net.h5", **settings)
    result = train_network(
        [tmp_path / "tiles.zarr"], tmp_path / "net.keras", overwrite=True, **settings
    )
    assert not result.kept
    (tmp_path / "net.keras").unlink()
    assert not train_network([tmp_path / "tiles.zarr"], tmp_path / "net.keras", **settings).kept
