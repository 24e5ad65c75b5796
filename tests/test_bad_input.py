"""Bad input: a clear error before long work, exit code 2, and nothing left half-written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from affine import Affine
from networks_for_tests import patch_network
from rasters_for_tests import NORTH_UP
from runs_for_tests import (
    QUICK,
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

from csc_xr.networks.bundle import save_network


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("network"))


@pytest.fixture(autouse=True)
def never_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test fail in which the work begins, unless it puts it back."""

    def begun(*_: Any, **__: Any) -> None:
        pytest.fail("work began before the input was checked")

    monkeypatch.setattr("csc_xr.runs.scene.find_tiles", begun)


def refused(folder: Path, *words: object) -> Ended:
    """Classify into a folder of its own; the run must end with code 2 and leave no file."""
    out = folder / "out"
    ended = run_cli("classify", *words, "--out", out)
    assert ended.code == 2, ended.err
    assert files_in(out) == []
    assert "Traceback" not in ended.err
    return ended


def said(ended: Ended, *parts: str) -> None:
    """Check that requirement, received and remedy are in the message."""
    text = " ".join(ended.err.split())
    for part in parts:
        assert re.search(part, text), f"{part!r} is not in: {text}"


def missing(folder: Path) -> Path:
    return folder / "absent.tif"


def truncated(folder: Path) -> Path:
    path = write_image(folder / "short.tif")
    path.write_bytes(path.read_bytes()[:6000])
    return path


def text_file(folder: Path) -> Path:
    path = folder / "notes.tif"
    path.write_text("This is no image at all.\n" * 20)
    return path


def two_bands(folder: Path) -> Path:
    return write_image(folder / "pair.tif", striped_pixels()[:2])


def other_names(folder: Path) -> Path:
    def name(dataset: Any) -> None:
        dataset.descriptions = ("swir", "nir", "red")

    return write_image(folder / "named.tif", fill=name)


def tiny(folder: Path) -> Path:
    return write_image(folder / "tiny.tif", striped_pixels((7, 96)))


def blank(folder: Path) -> Path:
    return write_image(folder / "blank.tif", np.zeros((3, *SHAPE), "uint8"), nodata=0)


def nothing_in_it(folder: Path) -> Path:
    (folder / "empty").mkdir()
    (folder / "empty" / "readme.txt").write_text("no images")
    return folder / "empty"


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (missing, [r"absent\.tif must be an image", "there is no such file", "Check the path"]),
        (truncated, [r"short\.tif must be complete", "bytes long and needs", "again"]),
        (text_file, [r"notes\.tif must be an image GDAL can read", "cannot be opened", "Check"]),
        (
            two_bands,
            [r"pair\.tif", "needs bands red, green, blue", "got band_1", "--band-names LIST"],
        ),
        (other_names, [r"named\.tif", "needs bands red, green, blue", "got swir, nir, red"]),
        (tiny, [r"tiny\.tif", "at least one tile of 8 x 8", "of 7 x 96", "smaller tiles"]),
        (
            blank,
            [r"blank\.tif", "must have pixels with data", "all are nodata", "Check its"],
        ),
        (nothing_in_it, ["must hold images", "got none", "Check the path"]),
    ],
)
def test_image_is_refused(
    make: Callable[[Path], Path], parts: list[str], model: Path, tmp_path: Path
) -> None:
    image = make(tmp_path)
    said(refused(tmp_path, image, "--model", model, *QUICK), *parts)
    if make is not nothing_in_it:  # all images are checked before the first is classified
        good = write_image(tmp_path / "good.tif")
        said(refused(tmp_path, good, image, "--model", model, *QUICK), *parts)


@pytest.mark.parametrize(
    ("option", "value", "parts"),
    [
        ("--patch-size", "4", ["must be odd", "got 4", "Use 3 or 5"]),
        ("--patch-size", "-3", ["positive odd number", "got -3"]),
        ("--patch-size", "0", ["positive odd number", "got 0"]),
        ("--patch-size", "17", ["at most 15", "got 17"]),
        ("--patch-size", "three", ["patch-size", "valid integer"]),
        (
            "--tile-size",
            "16",
            ["takes tiles of 8 x 8", "got --tile-size 16", "Leave tile_size out"],
        ),
        ("--seed", "-1", ["seed must be 0 or more", "got -1"]),
        ("--steps", "0", ["steps must be 1 or more", "got 0"]),
        ("--samples-per-class", "0", ["samples_per_class must be 1 or more", "got 0"]),
        ("--activation", "tanh", ["activation must be one of relu, linear", "got 'tanh'"]),
        ("--min-probability", "2", ["min_probability must be 0 or more and below 1", "got 2"]),
        ("--mode-radius", "-1", ["mode_radius must be 0 or more", "got -1"]),
        ("--despeckle", "-1", ["despeckle must be 0 or more", "got -1"]),
        ("--edge", "round", ["edge must be 'cover' or 'blank'", "got 'round'"]),
        ("--output", "magic", ["outputs may hold confidence", "got .*magic"]),
        ("--classifier", "svm", ["must be network or random-forest", "got 'svm'"]),
        ("--classifier", "random-forest", ["single pixels", "got patch size 3", "--patch-size 1"]),
        ("--band-names", "a,b", ["must name each of the 3", "got 2"]),
        ("--band-names", "nir,green,blue", ["needs bands red", "got nir, green, blue"]),
        ("--nodata", "-9999", ["can have", "got -9999"]),
        (
            "--scale",
            "0",
            ["scale of a scene must be a positive number", "got 0", "Pass --scale 255"],
        ),
        ("--mask", "absent.tif", ["absent.tif must be a mask", "no such file"]),
        ("--labels", "absent.tif", ["Labels cannot be read", "absent.tif", "no such file"]),
        ("--legend", "moon", ["'glacier', 'river' or a JSON", "got 'moon'", "Check the path"]),
        ("--legend", "glacier", ["has legend", "got .*glacier", "Leave legend out"]),
        ("--colour", "red", ["[Nn]o such option", "colour"]),
    ],
)
def test_option_is_refused(
    option: str, value: str, parts: list[str], model: Path, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "scene.tif")
    said(refused(tmp_path, image, "--model", model, *QUICK, option, value), *parts)


def test_patch_larger_than_the_scene(model: Path, tmp_path: Path) -> None:
    image = write_image(tmp_path / "low.tif", striped_pixels((9, 96)))
    ended = refused(tmp_path, image, "--model", model, "--patch-size", "11")
    said(ended, r"low\.tif", "patch must fit in the scene", "11 x 11", "9 x 96", "Use a smaller")


def test_options_that_are_needed(tmp_path: Path) -> None:
    assert run_cli("classify", tmp_path).code == 2
    assert "--model" in run_cli("classify", tmp_path, "--out", tmp_path).err
    assert run_cli("classify").code == 2
    assert run_cli("paint").code == 2


def test_images_of_one_name(model: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    images = write_image(tmp_path / "a.tif"), write_image(tmp_path / "b" / "a.tif")
    ended = refused(tmp_path, *images, "--model", model)
    said(ended, "each must have its own name", "several called a", "different folders")


def test_one_label_raster_for_several_images(model: Path, tmp_path: Path) -> None:
    images = write_image(tmp_path / "a.tif"), write_image(tmp_path / "b.tif")
    labels = write_labels(tmp_path / "labels.tif")
    ended = refused(tmp_path, *images, "--model", model, "--labels", labels)
    said(ended, "goes with one image", "got 2 images", "SCLS_")


@pytest.mark.parametrize("beside", [True, False], ids=["beside the image", "as an option"])
@pytest.mark.parametrize(
    ("codes", "profile", "parts"),
    [
        (STRIPES, {"transform": Affine.translation(9000, 0) @ NORTH_UP}, ["cover the extent"]),
        (STRIPES, {"crs": "EPSG:3413"}, ["must cover the extent", "EPSG:3413", "Pass the labels"]),
        (STRIPES + 7, {}, ["codes of legend 'test', 1, 2, 3", "got 8, 9, 10", "recode"]),
        (STRIPES.astype("float32") / 2, {}, ["whole numbers", "got 0.5", "nearest neighbour"]),
    ],
    ids=["elsewhere", "other CRS", "unknown codes", "fractions"],
)
def test_labels_are_refused(
    codes: np.ndarray,
    profile: dict[str, Any],
    parts: list[str],
    beside: bool,
    model: Path,
    tmp_path: Path,
) -> None:
    image = write_image(tmp_path / "scene.tif")
    path = tmp_path / ("SCLS_scene.tif" if beside else "drawn.tif")
    write_labels(path, np.tile(codes, (SHAPE[0], 1)), **profile)
    option = () if beside else ("--labels", path)
    said(refused(tmp_path, image, "--model", model, *QUICK, *option), path.name, *parts)


def test_legend_with_double_codes(model: Path, tmp_path: Path) -> None:
    image = write_image(tmp_path / "scene.tif")
    table = tmp_path / "legend.csv"
    table.write_text("code,name,colour\n1,Water,blue\n1,Ice,white\n")
    ended = refused(tmp_path, image, "--model", model, "--legend", table)
    said(ended, "give each code to one class only", r"got \[1\] more than once", "Remove or rename")


def small_model(outputs: int = 4, *, lambda_layer: bool = False) -> Any:
    layers = [keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()]
    if lambda_layer:
        layers.append(keras.layers.Lambda(lambda x: x * 2, name="secret"))
    return keras.Sequential([*layers, keras.layers.Dense(outputs, activation="softmax")])


def no_network(folder: Path) -> Path:
    path = folder / "table.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(5)
    return path


def text_h5(folder: Path) -> Path:
    path = folder / "text.h5"
    path.write_text("no HDF5 file")
    return path


def lambda_keras(folder: Path) -> Path:
    small_model(lambda_layer=True).save(folder / "lambda.keras")
    return folder / "lambda.keras"


def lambda_h5(folder: Path) -> Path:
    """Write what Keras 2 would have: the Lambda carries marshalled bytecode."""
    path = folder / "lambda.h5"
    small_model().save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        entry = {
            "class_name": "Lambda",
            "config": {"name": "secret", "function": ["4wEAAAA=", None, None]},
        }
        config["config"]["layers"].insert(2, entry)
        file.attrs["model_config"] = json.dumps(config)
    return path


def five_outputs(folder: Path) -> Path:
    small_model(5).save(folder / "five.keras")
    return folder / "five.keras"


def of_phase_two(folder: Path) -> Path:
    save_network(patch_network(3), folder / "patch.keras")
    return folder / "patch.keras"


@pytest.mark.parametrize(
    ("make", "options", "parts"),
    [
        (lambda folder: folder / "absent.keras", [], ["no network file", "absent", "Check"]),
        (no_network, [], [r"table\.h5 holds no whole network", "missing", "model.save"]),
        (text_h5, [], [r"text\.h5 is no HDF5 file", "again"]),
        (text_file, [], ["ends in .keras, .h5 or .hdf5", "got notes.tif"]),
        (lambda_keras, [], [r"lambda\.keras", "Lambda", "'secret'", "without it"]),
        (lambda_h5, [], [r"lambda\.h5", "Lambda", "'secret'", "without it"]),
        (five_outputs, [], ["4, 6, 8", "this one has 5", "Pass --legend"]),
        (five_outputs, ["--legend", "glacier"], ["'glacier' has 8 outputs", "has 5", "Pass the"]),
        (of_phase_two, [], ["needs a tile network", "got a patch network", "phase one"]),
    ],
)
def test_network_is_refused(
    make: Callable[[Path], Path], options: list[str], parts: list[str], tmp_path: Path
) -> None:
    network = make(tmp_path)
    image = write_image(tmp_path / "scene.tif")
    said(refused(tmp_path, image, "--model", network, *QUICK, *options), *parts)
    if make is not of_phase_two:
        target = tmp_path / "out" / "new.keras"
        for words in (("info", network), ("convert", network, target)):
            ended = run_cli("model", *words, *options)
            assert ended.code == 2
            said(ended, *parts)
        assert not target.exists()


def test_output_folder_is_a_file(model: Path, tmp_path: Path) -> None:
    image = write_image(tmp_path / "scene.tif")
    (tmp_path / "taken").write_text("x")
    for out in (tmp_path / "taken", tmp_path / "taken" / "below"):
        ended = run_cli("classify", image, "--model", model, "--out", out, *QUICK)
        assert ended.code == 2
        said(ended, "output folder .*taken", "Choose another")
    assert (tmp_path / "taken").read_text() == "x"


def test_output_folder_is_not_writable(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image(tmp_path / "scene.tif")

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    # Permission bits do not stop the superuser, whom many containers run tests as.
    monkeypatch.setattr(Path, "write_bytes", forbidden)
    ended = refused(tmp_path, image, "--model", model, *QUICK)
    said(ended, "must be writable", "Permission denied", "Choose another folder")


def test_too_little_space_is_noticed_before_the_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image(tmp_path / "scene.tif")
    needed = SHAPE[0] * SHAPE[1] * (4 + 8 * 4)
    monkeypatch.setattr("csc_xr.files.free_bytes", lambda _: needed - 1)
    wanted = ("--output", "probability", "--output", "confidence")
    ended = refused(tmp_path, image, "--model", model, *QUICK, *wanted)
    said(ended, f"room for about {needed} bytes", f"{needed - 1} bytes are free", "Make room")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Lend a file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system needs a superuser who may")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_disk_fills_up_on_the_way(
    model: Path, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    image = write_image(tmp_path / "scene.tif")
    filler = small_disk / "filler"
    out = small_disk / "out"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 40_000))
    ended = run_cli("classify", image, "--model", model, "--out", out, *QUICK)
    assert ended.code == 2
    said(ended, "must be written, but", "the disk is full", "Make room")
    left = files_in(out)
    assert not [name for name in left if "partial" in name]
    assert not [name for name in left if name.endswith("_run.json")]


def test_evaluate_refuses(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    labels = write_labels(tmp_path / "labels.tif")
    image = write_image(tmp_path / "colours.tif")
    fractions = write_labels(tmp_path / "halves.tif", np.ones(SHAPE, "float32") / 2)
    elsewhere = write_labels(tmp_path / "there.tif", crs="EPSG:3413")
    empty = write_labels(tmp_path / "empty.tif", np.zeros(SHAPE, "uint8"))
    foreign = write_labels(tmp_path / "foreign.tif", np.full(SHAPE, 9, "uint8"))
    table = tmp_path / "scores.csv"
    for words, parts in [
        ((tmp_path / "absent.tif", labels), ["must be an image", "no such file"]),
        ((tmp_path / "store", labels), ["A result is a Zarr", "Check the path"]),
        ((image, labels), ["must be one band of class codes", "got 3 bands", "not the colours"]),
        ((fractions, labels), ["must be integers", "got float32"]),
        ((foreign, labels), ["codes of the legend 'river'", r"got \[9\]", "Pass the legend"]),
        ((labels, elsewhere), ["must cover the extent", "EPSG:3413"]),
        ((labels, empty), ["need labelled pixels", "0 everywhere", "Check"]),
    ]:
        ended = run_cli("evaluate", *words, "--legend", "river", "--out", table)
        assert ended.code == 2
        said(ended, *parts)
        assert not table.exists()
    below_a_file = labels / "scores.csv"
    ended = run_cli("evaluate", labels, labels, "--legend", "river", "--out", below_a_file)
    assert ended.code == 2
    said(ended, "must be written", "Make room or choose another")


def test_convert_refuses(model: Path, tmp_path: Path) -> None:
    said(run_cli("model", "convert", model, tmp_path / "new.h5"), "ends in .keras", "got .*new.h5")
    for option, value, part in [
        ("--codes", "1,two", "--codes takes whole numbers with commas, got '1,two'"),
        ("--kind", "patch", "has kind 'tile', got 'patch'"),
        ("--bands", "a,b,c", r"has bands .* got \('a', 'b', 'c'\)"),
    ]:
        ended = run_cli("model", "convert", model, tmp_path / "new.keras", option, value)
        assert ended.code == 2
        said(ended, part)
    assert files_in(tmp_path) == []
