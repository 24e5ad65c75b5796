"""The report: one page that holds all it shows, of one run or many."""

from __future__ import annotations

import dataclasses
import json
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image
from reports_for_tests import SHAPE, Page, river_classes, write_run
from results_for_tests import write_record
from runs_for_tests import run_cli

from csc_xr.errors import CscWarning, OutputError, ParameterError
from csc_xr.export import open_result
from csc_xr.files import write_json
from csc_xr.legend import RIVER
from csc_xr.report import comparison, content
from csc_xr.report.content import bytes_words
from csc_xr.report.page import write_report
from csc_xr.report.records import find_runs
from csc_xr.report.scenes import KnownInputs, open_report_scene
from csc_xr.report.viewer import Shown
from csc_xr.runs.checksums import pixel_checksum
from csc_xr.runs.ledger import write_ledger
from csc_xr.runs.stack_store import make_store
from csc_xr.runs.unfinished import failure_file
from csc_xr.stack import open_stack, stack_scene

CLASS_LAYERS = ["labels", "tile_class", "pixel_class"]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run over one scene."""
    folder = tmp_path_factory.mktemp("one") / "results"
    write_run(folder, confidence=True)
    return folder


@pytest.fixture(scope="module")
def page(one: Path) -> Page:
    return Page(write_report(one))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patch sizes over the same two scenes."""
    top = tmp_path_factory.mktemp("sweep")
    for size in (3, 5):
        for seed, name in enumerate(("a", "b")):
            write_run(top / f"k{size}", name, seed=seed, settings={"patch_size": size})
    return top


@pytest.fixture(scope="module")
def compared(sweep: Path) -> Page:
    return Page(write_report(sweep))


@pytest.fixture(autouse=True)
def _quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn for the pages above only; each takes a third of a second."""
    for module, name in (
        (content, "confusion_figure"), (comparison, "class_figure"),
        (comparison, "f1_sweep_figure"), (comparison, "scene_figure"),
        (comparison, "error_histogram"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, lambda *_, **__: Figure(figsize=(1, 1)))


def test_the_page_needs_nothing_else(page: Page) -> None:
    text = page.path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    for _, attributes in page.tags:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
    assert "url(" not in text
    assert "@import" not in text
    policy = next(found["content"] for tag, found in page.tags if "http-equiv" in found)
    assert "default-src 'none'" in policy
    assert "img-src data: blob:" in policy


def test_the_page_is_sound(page: Page) -> None:
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids))
    targets = [found["href"][1:] for tag, found in page.tags if tag == "a"]
    targets += [found["aria-labelledby"] for _, found in page.tags if "aria-labelledby" in found]
    assert set(targets) <= set(ids)
    names = [tag for tag, _ in page.tags]
    assert [names.count(tag) for tag in ("h1", "main", "header", "title")] == [1, 1, 1, 1]
    assert all(found.get("alt") for tag, found in page.tags if tag == "img")
    heads = [found for tag, found in page.tags if tag == "th"]
    assert heads
    assert all(found.get("scope") for found in heads)
    assert names.count("table") == names.count("caption")


def test_classes_are_in_it_to_the_pixel(one: Path, page: Page) -> None:
    (scene,) = page.data["scenes"]
    result = open_result(one / "scene_classified.zarr")
    layers = {layer["id"]: layer for layer in scene["layers"]}
    assert list(layers) == ["image", *CLASS_LAYERS, "confidence", "disagreement"]
    labels, tiles, pixels = river_classes()
    for name, codes in zip(CLASS_LAYERS, (labels, tiles, pixels), strict=True):
        assert layers[name]["kind"] == "classes"
        np.testing.assert_array_equal(page.tiles(f"s0/{name}")["0/0/0"], codes)
    np.testing.assert_array_equal(page.tiles("s0/disagreement")["0/0/0"], tiles != pixels)
    found = page.tiles("s0/confidence")["0/0/0"]
    low, high = layers["confidence"]["low"], layers["confidence"]["high"]
    values = low + (found.astype(float) - 1) / 254 * (high - low)
    np.testing.assert_allclose(values, result["confidence"].values, atol=0.002)
    assert found.min() == 1


def test_the_image_is_stretched(page: Page) -> None:
    picture = page.tiles("s0/image")["0/0/0"]
    assert picture.shape == (*SHAPE, 3)
    assert picture.min() < 40
    assert picture.max() > 215


def test_the_scene_is_placed(page: Page) -> None:
    (scene,) = page.data["scenes"]
    assert [scene["height"], scene["width"], scene["levels"], scene["scale"]] == [*SHAPE, 1, 1]
    assert scene["crs"] == "EPSG:32633"
    assert scene["transform"] == [10.0, 0.0, 330000.0, 0.0, -10.0, 5822040.0]
    assert scene["pixel_m"] == pytest.approx(10, rel=0.01)
    assert scene["classes"][0] == {"code": 1, "name": "Water", "colour": "#add8e6"}


def test_the_scale_bar_goes_by_the_width_of_a_pixel(one: Path) -> None:
    scene = open_report_scene(find_runs(one)[0], KnownInputs())
    wide = dataclasses.replace(scene, pixel_m=(111.0, 45.0))  # degrees in the far north
    assert Shown([wide], [""]).data()["scenes"][0]["pixel_m"] == 45.0


def test_scores_record_and_areas_are_told(page: Page) -> None:
    for words in (
        "Phase one: tiles", "Precision", "Dry Sediment", "All, weighted", "km²", "patch_size",
        "fit.learning_rate", "Took", "4.0 s: tiles 1.5 s, pixels 2.5 s", "1.5 GB",
        "SHA-256", "dask",
    ):  # fmt: skip
        assert words in page.text, words
    assert '"learning_rate": 0.001' in page.text  # the record as it stands
    assert sum(tag == "img" for tag, _ in page.tags) == 3  # two matrices, F1 by class


def test_no_text_of_a_run_is_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><b>&\"'"
    record = write_run(tmp_path / "results")
    record["parameters"] |= {"name": evil, "experiment": evil}
    record["warnings"] = [evil]
    write_json(record, tmp_path / "results" / "scene_run.json")
    page = Page(write_report(tmp_path / "results"))
    assert page.data["scenes"][0]["name"] == evil
    assert evil in page.text
    plain = [found for tag, found in page.tags if tag == "script" and "type" not in found]
    assert len(plain) == 1
    assert "b" not in [tag for tag, _ in page.tags]


def test_a_record_alone_makes_a_page(one: Path) -> None:
    target = write_report(one / "scene_run.json")
    assert target == one / "scene_report.html"
    page = Page(target)
    assert "Confusion matrices" in page.text
    assert len(page.data["scenes"]) == 1
    target.unlink()


def test_runs_are_compared(compared: Page) -> None:
    assert "Runs compared" in compared.text
    for words in ("F1 against patch size", "F1 by class", "F1 over scenes"):
        assert words in compared.text
    assert sum(tag == "img" for tag, _ in compared.tags) == 3 + 2 * 2
    assert [scene["run"] for scene in compared.data["scenes"]] == [
        "patch size 3 px", "patch size 3 px", "patch size 5 px", "patch size 5 px"
    ]  # fmt: skip
    names = [found.get("id") for tag, found in compared.tags if tag == "details"]
    assert {"run-0", "run-1", "scene-0-0", "scene-1-1"} <= set(names)


def test_a_run_in_two_folders_is_pooled_folder_by_folder(tmp_path: Path) -> None:
    joint = {"joint": True, "learned_scenes": ["known"], "first_learned_scenes": ["far"]}
    places = (("x/r", "a"), ("x/r", "b"), ("x/r", "known"), ("y/r", "c"))
    for seed, (folder, name) in enumerate(places):
        images = tmp_path / "images"
        write_run(tmp_path / "runs" / folder, name, seed=seed, images=images, network=joint)
    with pytest.warns(CscWarning, match="are left out"):
        text = Page(write_report(tmp_path / "runs")).text
    assert "Scores of the pixels of 2 scenes together" in text
    labelled = sum(np.count_nonzero(river_classes(seed=seed)[0]) for seed in (0, 1))
    assert f"{labelled:,} Mean of classes".replace(",", " ") in text
    assert "Runs 1" in text
    assert "One run, of the same network, settings and software, in 2 folders." in text
    assert "x/r The 3 scenes" in text
    assert "y/r Scores of c" in text


def test_runs_over_one_image_share_it(compared: Page) -> None:
    first, _, third, _ = compared.data["scenes"]
    for layer in third["layers"][:2]:
        assert layer["tiles"] == f"s0/{layer['id']}"
    assert all("tiles" not in layer for layer in first["layers"])
    assert compared.tiles("s0/image")
    assert compared.tiles("s2/pixel_class")
    assert not compared.tiles("s2/image")


def test_a_page_holds_so_many_scenes(one: Path, sweep: Path) -> None:
    page = Page(write_report(sweep, sweep / "few.html", max_scenes=3))
    assert len(page.data["scenes"]) == 3
    assert "1 scene is not in the viewer" in page.text
    none = Page(write_report(one, one / "none.html", max_scenes=0))
    assert "csc-viewer-data" not in none.scripts
    assert "1 scene is not in the viewer" in none.text
    assert "Scores of scene" in none.text


def test_finest_pictures_can_be_left_out(one: Path, tmp_path: Path) -> None:
    page = Page(write_report(one, tmp_path / "page.html", max_side=30))
    (scene,) = page.data["scenes"]
    assert (scene["scale"], scene["levels"], scene["width"]) == (2, 1, SHAPE[1])
    assert page.tiles("s0/pixel_class")["0/0/0"].shape == (15, 22)
    assert "shown at most 30 pixels wide" in page.text


def test_inputs_that_are_gone_or_changed_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "results")
    (tmp_path / "images" / "scene.tif").unlink()
    with (tmp_path / "images" / "SCLS_scene.tif").open("ab") as file:
        file.write(b"more")
    page = Page(write_report(tmp_path / "results"))
    assert "The image cannot be shown: scene.tif is no longer at" in page.text
    assert "SCLS_scene.tif has changed since it was classified" in page.text
    assert [layer["id"] for layer in page.data["scenes"][0]["layers"]] == [
        "tile_class", "pixel_class", "disagreement"
    ]  # fmt: skip


def test_an_input_that_was_touched_is_shown(tmp_path: Path) -> None:
    write_run(tmp_path / "results")
    image = tmp_path / "images" / "scene.tif"
    copy = image.read_bytes()
    image.write_bytes(copy)
    page = Page(write_report(tmp_path / "results"))
    assert page.data["scenes"][0]["layers"][0]["id"] == "image"


def test_images_that_cannot_be_opened_as_they_were_are_named(tmp_path: Path) -> None:
    results = tmp_path / "results"
    record = write_run(results)
    record["parameters"]["scene"] = {"mask": str(tmp_path / "gone.tif"), "nodata": "NaN"}
    write_json(record, results / "scene_run.json")
    text = Page(write_report(results)).text
    assert "The image cannot be shown:" in text
    record["parameters"]["scene"] = {}
    record["identity"]["inputs"] = {}
    write_json(record, results / "scene_run.json")
    assert "the run record does not name it" in Page(write_report(results)).text


def test_a_folder_that_was_moved_is_read(tmp_path: Path) -> None:
    write_run(tmp_path / "before" / "results")
    shutil.move(tmp_path / "before" / "results", tmp_path / "after")
    page = Page(write_report(tmp_path / "after"))
    assert page.data["scenes"][0]["layers"][0]["id"] == "image"


def test_what_is_not_finished_is_listed(tmp_path: Path) -> None:
    write_run(tmp_path, images=tmp_path / "images")
    write_ledger(tmp_path, ["scene", "bad", "later"], kind="images", facts={})
    write_json({"error": "Traceback\nSceneError: <too> dark"}, failure_file(tmp_path, "bad"))
    text = Page(write_report(tmp_path)).text
    assert "2 scenes are not finished" in text
    assert "SceneError: <too> dark" in text
    assert "later missing" in text


def test_fronts_are_listed(tmp_path: Path) -> None:
    write_run(tmp_path / "results", errors={"front": [5.0, 15.0, 25.0]})
    write_run(tmp_path / "results", "other", errors={"front": []})
    page = Page(write_report(tmp_path / "results"))
    assert "Calving fronts" in page.text
    assert "no ocean" in page.text
    assert "15.0" in page.text


def test_scores_of_older_records_are_read_from_their_files(tmp_path: Path) -> None:
    record = write_run(tmp_path)
    del record["findings"]["confusion"]
    name = "CSC_scene_exp.csv"
    record["outputs"]["CSC report"] = name
    write_json(record, tmp_path / "scene_run.json")
    table = "Class,Precision,Recall,F1_score,Support\nWater,0.5,0.25,0.333,12\n"
    (tmp_path / name).write_text(f"{table}Weighted_avg,0.5,0.25,0.333,12\n", encoding="utf-8")
    with pytest.warns(CscWarning, match="hold no counts of pixels"):
        text = Page(write_report(tmp_path)).text
    assert "Water 0.500 0.250 0.333 12" in text
    assert "hold no counts of pixels" in text


def test_a_run_of_an_older_version_beside_a_new_one(tmp_path: Path) -> None:
    for folder in ("new", "old"):
        record = write_run(tmp_path / folder, images=tmp_path / "images")
    report = "CSC_scene_exp.csv"
    del record["findings"]["confusion"], record["parameters"]["network"]
    record["outputs"]["CSC report"] = report
    write_json(record, tmp_path / "old" / "scene_run.json")
    table = "Class,Precision,Recall,F1_score,Support\nWeighted_avg,0.5,0.25,0.333,12\n"
    (tmp_path / "old" / report).write_text(table, encoding="utf-8")
    with pytest.warns(CscWarning, match="hold no counts of pixels"):
        text = Page(write_report(tmp_path)).text
    assert "those with * are means over its scenes" in text
    assert "– 1 – – 0.333 * –" in text  # its tile size, scenes, and scores by phase
    ended = run_cli("results", tmp_path, "--out", tmp_path / "tables")
    assert ended.code == 0, ended.err
    assert "<NA>" not in ended.out


def test_a_run_without_labels_has_its_classes(tmp_path: Path) -> None:
    record = write_run(tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "scene_figure.png")
    record["outputs"]["figure"] = "scene_figure.png"
    record["findings"] = {}
    record["inputs"].pop()
    del record["identity"]["inputs"]["labels"]
    write_json(record, tmp_path / "scene_run.json")
    page = Page(write_report(tmp_path))
    assert "Classes of scene" in page.text
    assert "Precision" not in page.text
    assert "scene: image and the classes of both phases" in page.text
    assert page.data["scenes"][0]["classes"][1]["name"] == "Dry Sediment"  # of the store


def test_a_stack_is_shown_scene_by_scene(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed, name in enumerate(("a", "b")):
        write_run(tmp_path / "runs", name, seed=seed, images=tmp_path / "images")
    stack = open_stack([tmp_path / "images" / f"{name}.tif" for name in "ab"])
    make_store(stack, out / "classified.zarr", outputs=(), legend=RIVER)
    write_ledger(out, ["a", "b"], kind="stack", facts={})
    for position, name in enumerate("ab"):
        result = open_result(tmp_path / "runs" / f"{name}_classified.zarr").compute()
        codes = {key: (("scene", "y", "x"), result[key].values[None]) for key in result}
        place = {"scene": slice(position, position + 1)}
        xr.Dataset(codes).to_zarr(out / "classified.zarr", region=place, consolidated=False)
        record = json.loads((tmp_path / "runs" / f"{name}_run.json").read_text())
        source = tmp_path / "images" / f"{name}.tif"
        sha = pixel_checksum(stack_scene(stack, position)) if name == "a" else "another"
        pixels = {"path": str(source), "size": 1, "modified": "", "sha256": sha}
        record |= {"outputs": {}, "findings": {}, "inputs": [pixels]}
        record["identity"]["inputs"] = {"pixels": sha}
        write_json(record, out / "scenes" / f"{name}_run.json")
    page = Page(write_report(out))
    first, second = page.data["scenes"]
    assert [layer["id"] for layer in first["layers"]][:2] == ["image", "tile_class"]
    assert second["layers"][0]["id"] == "tile_class"
    assert "its pixels are not at hand as they were classified" in second["note"]
    np.testing.assert_array_equal(page.tiles("s1/pixel_class")["0/0/0"], river_classes(seed=1)[2])


def test_a_result_that_is_gone_is_named(tmp_path: Path) -> None:
    for name in ("here", "gone", "broken"):
        write_run(tmp_path / "results", name)
    shutil.rmtree(tmp_path / "results" / "gone_classified.zarr")
    (tmp_path / "results" / "broken_classified.zarr" / ".zgroup").unlink()
    with pytest.warns(CscWarning, match="have lost outputs"):
        page = Page(write_report(tmp_path / "results"))
    assert [scene["name"] for scene in page.data["scenes"]] == ["here"]
    assert "The result gone_classified.zarr is gone" in page.text
    assert "The result broken_classified.zarr cannot be shown" in page.text


def test_damaged_records_are_passed_over(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "other_run.json").write_text("{", encoding="utf-8")
    with pytest.warns(CscWarning, match="Passed over: .*other_run.json"):
        page = Page(write_report(tmp_path))
    assert "other_run.json must be a run record" in page.text
    with pytest.raises(ParameterError, match="must be a run record, but cannot be read as one"):
        write_report(tmp_path / "other_run.json")


def test_bad_input_is_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"a folder of results or a run record, but there is"):
        write_report(tmp_path / "nothing")
    with pytest.raises(ParameterError, match=r"but there is\s+none in .* Pass a folder"):
        write_report(tmp_path)
    (tmp_path / "note.txt").touch()
    with pytest.raises(ParameterError, match=r"got the file .*note.txt"):
        write_report(tmp_path / "note.txt")
    write_record(tmp_path)
    (tmp_path / "scene_classified.zarr").rmdir()
    with pytest.raises(ParameterError, match=r"scene_classified.zarr is gone. Put the result back"):
        write_report(tmp_path)
    with pytest.raises(ParameterError, match="max_side must be 1 pixel or more"):
        write_report(tmp_path, max_side=0)
    with pytest.raises(ParameterError, match="max_scenes must be 0 or more, got -1"):
        write_report(tmp_path, max_scenes=-1)


def test_a_page_that_cannot_be_written_is_refused(one: Path) -> None:
    with pytest.raises(OutputError, match="must be a file, but is a folder already"):
        write_report(one, one)


def test_the_command_tells_the_size(one: Path, tmp_path: Path) -> None:
    ended = run_cli("report", one, "--out", tmp_path / "page.html", "--max-side", "20")
    assert ended.code == 0, ended.err
    assert f"wrote {tmp_path / 'page.html'} (" in ended.out
    assert "kB)" in ended.out
    assert "pictures" in ended.err
    failed = run_cli("report", tmp_path / "nothing")
    assert failed.code == 2
    assert "a folder of results or a run record" in failed.err


def test_no_asset_ends_its_element() -> None:
    for item in resources.files("csc_xr.report").joinpath("assets").iterdir():
        text = item.read_text(encoding="utf-8").lower()
        if item.name.endswith((".js", ".css")):
            assert "</script" not in text
            assert "</style" not in text
            assert "<!--" not in text


def test_numbers_of_bytes() -> None:
    assert [bytes_words(count) for count in (0, 1500, 2.5e6, 1.25e9)] == [
        "0 B", "2 kB", "2.5 MB", "1.2 GB"
    ]  # fmt: skip
