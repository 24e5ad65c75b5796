"""Runs that were killed or refused: nothing is lost, nothing mixed, nothing done twice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import dask
import numpy as np
import pytest
import xarray as xr
from clusters_for_tests import Killed, changing
from networks_for_tests import striped_scene, tile_network
from runs_for_tests import QUICKEST, files_in, run_cli, write_image, write_labels, write_network
from sklearn.ensemble import RandomForestClassifier
from stacks_for_tests import (
    N_SCENES,
    NETWORK,
    QUICK,
    SHAPE,
    UNFILTERED,
    classify,
    finished,
    same,
    stripes,
    versions_with,
)

from csc_xr.errors import OutputError
from csc_xr.export import open_result, storable
from csc_xr.networks.bundle import save_network
from csc_xr.record import watching_pixels
from csc_xr.runs.folder import run_jobs
from csc_xr.runs.jobs import prepare_jobs
from csc_xr.runs.ledger import folder_status
from csc_xr.runs.spread import Failure
from csc_xr.runs.stack import StackResult, classify_stack
from csc_xr.runs.unfinished import find_work
from csc_xr.training.phase_two.fitting import FitSettings
from csc_xr.workflow import ClassifySettings


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classify the stack here, undisturbed."""
    out = tmp_path_factory.mktemp("reference")
    assert classify(out).failures == {}
    return out


def classify_image(image: Path, out: Path) -> None:
    """Classify an image in four chunks, without a network to fit."""
    settings = ClassifySettings(patch_size=1, mode_radius=0)
    forest = RandomForestClassifier(n_estimators=3, random_state=0)
    jobs = prepare_jobs(
        [image], NETWORK, out,
        settings=settings, classifier=forest, scene_options={"chunks": 32},
    )  # fmt: skip
    (outcome,) = run_jobs(jobs, NETWORK, out, settings=settings, classifier=forest)
    assert not isinstance(outcome, Failure), outcome


def content(out: Path) -> dict[str, bytes]:
    """Give every file; of those with times and paths in them only that they are there."""
    files = [path for path in out.rglob("*") if path.is_file() and "partial" not in str(path)]
    plain = (".json", ".png", ".xml", ".keras")
    return {
        str(path.relative_to(out)): b"" if path.suffix in plain else path.read_bytes()
        for path in files
    }


@pytest.mark.parametrize(("kind", "instants"), [("image", 12), ("stack", 9)])
def test_killed_at_a_change_of_a_file(kind: str, instants: int, tmp_path: Path) -> None:
    """A run that dies between any two changes of its files goes on from there."""
    image = write_image(tmp_path / "scene.tif", striped_scene((40, 48)).values)

    def run(out: Path) -> None:
        if kind == "image":
            classify_image(image, out)
        else:
            assert classify(out, 1).failures == {}

    with dask.config.set(scheduler="synchronous"):
        with changing(tmp_path / "reference") as changes:
            run(tmp_path / "reference")
        wanted = content(tmp_path / "reference")
        for last in np.linspace(2, changes.count, instants).astype(int).tolist():
            out = tmp_path / str(last)
            with pytest.raises(Killed), changing(out, last=last):
                run(out)
            run(out)
            assert content(out) == wanted, last


def test_a_store_that_grew_or_was_replaced(reference: Path, tmp_path: Path) -> None:
    """The process that wrote to a store before sees that it is another now."""
    out = tmp_path / "out"
    classify(out, 2)
    (out / "classified.zarr" / ".zattrs.07194e13.partial").touch()  # of a run that was killed
    assert [scene.kept for scene in classify(out).scenes.values()] == [True, True, False, False]
    assert same(out, reference)
    assert not list(out.rglob("*.partial"))
    other = classify_stack(stripes(2, (72, 90)), NETWORK, out, settings=QUICK, overwrite=True)
    assert other.failures == {}
    fresh = classify_stack(stripes(2, (72, 90)), NETWORK, tmp_path / "fresh", settings=QUICK)
    assert other.dataset.identical(fresh.dataset)


def test_a_store_of_format_3_grows(reference: Path, tmp_path: Path) -> None:
    """As earlier versions made them; it stays in its format, without a chunk of the other."""
    out = tmp_path / "out"
    made = classify(out, 1).dataset.load()
    store = out / "classified.zarr"
    shutil.rmtree(store)
    chunks = {"pixel_class": {"chunks": (1, *SHAPE)}, "tile_class": {"chunks": (1, *SHAPE)}}
    storable(made).to_zarr(store, zarr_format=3, consolidated=False, encoding=chunks)
    grown = classify(out, 2)
    assert [scene.kept for scene in grown.scenes.values()] == [True, False]
    wanted = open_result(reference / "classified.zarr").isel(scene=slice(2))
    assert grown.dataset.identical(wanted)
    assert not list(store.rglob(".z*"))


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classify two scenes up to where the second goes from its folder into the store."""
    from csc_xr.runs import stack as stack_module

    out, writing = tmp_path_factory.mktemp("halfway") / "out", stack_module.write_region

    def stop(dataset: xr.Dataset, path: Path, position: int, **options: Any) -> None:
        if position == 1:
            raise KeyboardInterrupt
        writing(dataset, path, position, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stack_module, "write_region", stop)
        with pytest.raises(KeyboardInterrupt):
            classify(out, 3, settings=UNFILTERED)
    return out


@pytest.fixture
def stopped(halfway: Path, tmp_path: Path) -> Path:
    return shutil.copytree(halfway, tmp_path / "out")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> StackResult:
    """Classify the same without a stop."""
    return classify(tmp_path_factory.mktemp("fresh"), 3, settings=UNFILTERED)


def resumed(out: Path) -> tuple[StackResult, int]:
    """Go on with what was stopped, and count the pixels networks work on for it."""
    counts: list[int] = []
    with watching_pixels(counts.append):
        result = classify(out, 3, settings=UNFILTERED)
    return result, sum(counts)


def test_status_of_what_was_stopped(stopped: Path) -> None:
    states = [(scene.name, scene.state, scene.detail) for scene in folder_status(stopped)]
    assert [state[:2] for state in states] == [
        ("stripes_0", "done"),
        ("stripes_1", "unfinished"),
        ("stripes_2", "missing"),
    ]
    assert states[1][2] == "chunks: tiles 2/2, result 8/8"
    told = run_cli("status", stopped / "classified.zarr")
    assert told.code == 0
    assert "3 scenes: 1 done, 1 missing, 1 unfinished" in told.out


@pytest.mark.parametrize("damage", ["none", "removed", "flipped", "empty", "not ended"])
def test_only_what_is_missing_is_computed(stopped: Path, fresh: StackResult, damage: str) -> None:
    (work,) = find_work(stopped / "scenes")
    chunk = work.store("result") / "pixel_class" / "0.1"
    content = bytearray(chunk.read_bytes())
    if damage == "removed":
        chunk.unlink()
    elif damage == "flipped":
        content[-1] ^= 1  # of the checksum
        chunk.write_bytes(content)
    elif damage != "none":
        chunk.write_bytes(content[: len(content) // 2 * (damage == "not ended")])
    done = finished(stopped)
    result, counted = resumed(stopped)
    pixels, in_chunk = SHAPE[0] * SHAPE[1], 32 * 48
    assert counted == 2 * pixels + in_chunk * (damage != "none")  # of the third scene all
    assert [scene.kept for scene in result.scenes.values()] == [True, False, False]
    assert finished(stopped)["stripes_0_run.json"] == done["stripes_0_run.json"]
    assert result.dataset.identical(fresh.dataset)
    assert files_in(stopped) == files_in(fresh.store.parent)


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "network": ({"network": tile_network(seed=1)}, r"network was \w{12}\.\.\., now \w{12}"),
    "patch size": ({"settings": replace(QUICK, patch_size=5)}, "patch_size was 3, now 5"),
    "seed": ({"settings": replace(QUICK, seed=4)}, "seed was 0, now 4"),
    "fit": ({"settings": replace(QUICK, fit=FitSettings(steps=9))}, "fit.steps was 20, now 9"),
    "networks": ({"networks": "shared"}, "networks was each, now shared"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_stack_made_in_another_way_is_refused(reference: Path, what: str) -> None:
    options, named = CHANGED[what]
    before = {name: (reference / name).read_bytes() for name in files_in(reference)}
    chosen = {"network": NETWORK, "settings": QUICK, **options}
    with pytest.raises(
        OutputError, match=rf"holds results of .* in another way: .*{named}.*Choose"
    ):
        classify_stack(stripes(N_SCENES), chosen.pop("network"), reference, **chosen)
    assert {name: (reference / name).read_bytes() for name in files_in(reference)} == before


def test_a_stack_of_other_software_is_refused(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = versions_with("keras", "99")
    monkeypatch.setattr("csc_xr.runs.identity.software_versions", lambda: newer)
    with pytest.raises(OutputError, match=r"another way: software\.keras was .*, now 99\. Choose"):
        classify(reference)


def test_a_scene_of_a_stack_that_changed_is_named(reference: Path, tmp_path: Path) -> None:
    out = shutil.copytree(reference, tmp_path / "out")
    other = stripes(N_SCENES).copy()
    other[2, 0, 0, 0] = other[2, 0, 0, 0] ^ 1
    result = classify_stack(other, NETWORK, out, settings=QUICK)
    assert list(result.failures) == ["stripes_2"]
    assert "another way: inputs.pixels was" in result.failures["stripes_2"]
    assert all(scene.kept for scene in result.scenes.values())
    assert same(out, reference)


class Classified(NamedTuple):
    """An image classified without a network to fit, and the words that did it."""

    image: Path
    model: Path
    out: Path

    def words(self, *more: object) -> list[object]:
        return ["classify", self.image, "--model", self.model, "--out", self.out, *QUICKEST, *more]


@pytest.fixture
def classified(tmp_path: Path) -> Classified:
    done = Classified(
        write_image(tmp_path / "scene.tif"), write_network(tmp_path), tmp_path / "out"
    )
    assert run_cli(*done.words()).code == 0
    return done


def refused(classified: Classified, *named: str, more: tuple[object, ...] = ()) -> None:
    """Check that the command is refused with these differences, and leaves all as it was."""
    before = {name: (classified.out / name).read_bytes() for name in files_in(classified.out)}
    ended = run_cli(*classified.words(*more))
    text = " ".join(ended.err.split())
    assert ended.code == 2, text
    assert "holds results of scene that were made in another way:" in text
    assert "replace them with --overwrite" in text
    for part in named:
        assert part in text
    assert {n: (classified.out / n).read_bytes() for n in files_in(classified.out)} == before


def test_images_made_in_another_way_are_refused(
    classified: Classified, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(classified, "seed was 0, now 3", more=("--seed", 3))
    refused(classified, "mode_radius was 2, now 1", more=("--mode-radius", 1))
    refused(
        classified, "patch_size was 1, now 3", more=("--patch-size", 3, "--classifier", "network")
    )
    with monkeypatch.context() as patched:
        newer = versions_with("tensorflow", "99")
        patched.setattr("csc_xr.runs.identity.software_versions", lambda: newer)
        refused(classified, "software.tensorflow was", "now 99")
    other = classified._replace(model=classified.model.with_name("other.keras"))
    save_network(tile_network(seed=1), other.model)
    refused(other, "network was")
    assert "is done already" in run_cli(*classified.words()).out
    labels = write_labels(classified.image.with_name("SCLS_scene.tif"))
    refused(classified, "inputs.labels was None, now")
    labels.unlink()
    pixels = striped_scene((40, 96), seed=5).values
    write_image(classified.image, pixels)
    refused(classified, "inputs.image was")
    assert run_cli(*classified.words("--overwrite")).code == 0
    assert "is done already" in run_cli(*classified.words()).out


def test_unfinished_work_of_another_kind_is_refused(
    classified: Classified, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("csc_xr.runs.scene.put_in_place", full_disk)
        assert run_cli(*classified.words("--overwrite")).code == 2
    assert [scene.state for scene in folder_status(classified.out)] == ["failed"]
    refused(classified, "seed was 0, now 3", more=("--seed", 3))
    assert run_cli(*classified.words()).code == 0
    assert [scene.state for scene in folder_status(classified.out)] == ["done"]


def full_disk(*_: Any, **__: Any) -> None:
    raise OutputError("The disk is full.")
