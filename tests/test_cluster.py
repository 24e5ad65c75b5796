"""Runs that are killed, resumed, refused or spread over a cluster: the same bits, nothing twice."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import dask
import distributed
import numpy as np
import pytest
import xarray as xr
from clusters_for_tests import (
    Cluster,
    Killed,
    changing,
    kill,
    kill_when,
    run_command,
    running_cluster,
    start_command,
)
from networks_for_tests import brightness_network, striped_scene, tile_network
from runs_for_tests import QUICKEST, files_in, run_cli, write_image, write_labels, write_network
from sklearn.ensemble import RandomForestClassifier

from csc_xr import record
from csc_xr.errors import ClusterError, OutputError
from csc_xr.export import open_result
from csc_xr.files import read_json
from csc_xr.networks.bundle import save_network
from csc_xr.record import watching_pixels
from csc_xr.runs import cluster as cluster_module
from csc_xr.runs.cluster import check_cluster, watching_cluster, worker_limits
from csc_xr.runs.folder import run_jobs
from csc_xr.runs.jobs import prepare_jobs
from csc_xr.runs.ledger import folder_status
from csc_xr.runs.spread import Failure
from csc_xr.runs.stack import StackResult, classify_stack
from csc_xr.runs.unfinished import find_work
from csc_xr.stack import write_stack
from csc_xr.training.fitting import FitSettings
from csc_xr.workflow import ClassifySettings

NETWORK = brightness_network()
SHAPE = (64, 96)
N_SCENES = 4
QUICK = ClassifySettings(
    patch_size=3, mode_radius=1, fit=FitSettings(steps=20, samples_per_class=100)
)
UNFILTERED = replace(QUICK, mode_radius=0)  # a chunk needs no neighbours but their pixels
WORDS = ("--patch-size", "3", "--mode-radius", "1", "--steps", "20", "--samples-per-class", "100")


def stripes(count: int, shape: tuple[int, int] = SHAPE) -> xr.DataArray:
    """Make a stack of striped scenes, each with its own noise, in chunks of 32 x 48 pixels."""
    scenes = [striped_scene(shape, chunks=(32, 48), seed=seed) for seed in range(count)]
    stack = xr.concat(scenes, dim="scene", combine_attrs="override")
    return stack.assign_coords(scene=[f"stripes_{seed}" for seed in range(count)])


def classify(out: Path, count: int = N_SCENES, **options: Any) -> StackResult:
    return classify_stack(stripes(count), NETWORK, out, **{"settings": QUICK, **options})


def same(out: Path, reference: Path) -> bool:
    """Compare all that was classified, and from which networks, to the bit."""
    one, other = (open_result(folder / "classified.zarr").load() for folder in (out, reference))
    names = one.coords["scene"].values
    records = [
        [read_json(folder / "scenes" / f"{name}_run.json")["networks"] for name in names]
        for folder in (out, reference)
    ]
    return bool(one.identical(other)) and records[0] == records[1]


def finished(out: Path) -> dict[str, int]:
    """Give the scenes whose record is written, and when that was."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "scenes").glob("*_run.json")}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classify the stack here, undisturbed."""
    out = tmp_path_factory.mktemp("reference")
    assert classify(out).failures == {}
    return out


class Stored(NamedTuple):
    """The stack and the network as files, for programs of their own."""

    stack: Path
    model: Path


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("stored")
    write_stack(stripes(N_SCENES), folder / "stack.zarr")
    save_network(NETWORK, folder / "tiles.keras")
    return Stored(folder / "stack.zarr", folder / "tiles.keras")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("programs") / "cluster") as cluster:
        yield cluster


@pytest.fixture
def client(programs: Cluster) -> Iterator[distributed.Client]:
    with distributed.Client(programs.address, set_as_default=False) as connected:
        yield connected


def test_cluster_gives_the_same_and_tells_of_pixels(
    client: distributed.Client, reference: Path, tmp_path: Path
) -> None:
    told: list[int] = []
    with watching_cluster(client, lambda _: None):
        pass  # an earlier client does not make workers tell all twice
    with watching_cluster(client, told.append):
        result = classify(tmp_path / "out", client=client)
        again = classify(tmp_path / "out", client=client)
    assert list(result.scenes) != []
    assert same(tmp_path / "out", reference)
    assert files_in(tmp_path / "out") == files_in(reference)
    assert not any(scene.kept for scene in result.scenes.values())
    assert all(scene.kept for scene in again.scenes.values())
    assert sum(told) <= 2 * N_SCENES * SHAPE[0] * SHAPE[1]


def test_a_worker_is_killed(
    programs: Cluster, client: distributed.Client, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    unfinished = out / "scenes" / "unfinished"

    def kill_one() -> None:
        while not list(unfinished.glob("*/tiles.zarr")):
            time.sleep(0.01)
        kill(programs.workers[-1])

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        result = classify(out, client=client)
    finally:
        killer.join()
        programs.start_worker()
        client.wait_for_workers(2, timeout=60)
    assert result.failures == {}
    assert same(out, reference)
    assert files_in(out) == files_in(reference)


def test_the_client_is_killed(
    programs: Cluster, reference: Path, stored: Stored, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["stack", stored.stack, "--model", stored.model, "--out", out, *WORDS]
    words += ["--scheduler", programs.address]
    before = finished(out)
    for number, wanted in enumerate((1, 2)):
        running = start_command(*words, log=tmp_path / f"{number}.txt")
        assert kill_when(running, lambda wanted=wanted: len(finished(out)) >= wanted)
        done = finished(out)
        assert len(done) >= wanted
        assert {name: done[name] for name in before} == before  # finished scenes stay as they are
        before = done
    states = {scene.name: scene.state for scene in folder_status(out)}
    assert set(states.values()) <= {"done", "unfinished", "missing"}
    assert run_command(*words, log=tmp_path / "end.txt") == 0, (tmp_path / "end.txt").read_text()
    assert same(out, reference)
    assert {name: finished(out)[name] for name in before} == before
    assert {scene.state for scene in folder_status(out)} == {"done"}


def test_two_processes_at_once(stored: Stored, tmp_path: Path) -> None:
    out, alone = tmp_path / "out", tmp_path / "alone"
    images = [write_image(tmp_path / f"image_{n}.tif", stripes(4)[n].values) for n in range(4)]
    words = ["classify", *images, "--model", stored.model, *QUICKEST]
    logs = [tmp_path / "one.txt", tmp_path / "other.txt"]
    both = [start_command(*words, "--out", out, log=log) for log in logs]
    try:
        assert run_cli(*words, "--out", alone).code == 0
        codes = [running.wait(300) for running in both]
    finally:
        for running in both:
            kill(running)
    assert codes == [0, 0], "\n".join(log.read_text() for log in logs)
    for image in images:
        one, other = (
            open_result(folder / f"{image.stem}_classified.zarr").load() for folder in (out, alone)
        )
        assert one.identical(other)
    assert files_in(out) == files_in(alone)
    assert {scene.state for scene in folder_status(out)} == {"done"}


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


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Classify two scenes up to where the second goes from its folder into the store."""
    from csc_xr.runs import stack as stack_module

    out, writing = tmp_path / "out", stack_module.write_region

    def stop(dataset: xr.Dataset, path: Path, position: int, **options: Any) -> None:
        if position == 1:
            raise KeyboardInterrupt
        writing(dataset, path, position, **options)

    with monkeypatch.context() as patched:
        patched.setattr(stack_module, "write_region", stop)
        with pytest.raises(KeyboardInterrupt):
            classify(out, 3, settings=UNFILTERED)
    return out


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
def test_only_what_is_missing_is_computed(stopped: Path, damage: str) -> None:
    (work,) = find_work(stopped / "scenes")
    chunk = work.store("result") / "pixel_class" / "c" / "0" / "1"
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
    fresh = classify(stopped.with_name("fresh"), 3, settings=UNFILTERED)
    assert result.dataset.identical(fresh.dataset)
    assert files_in(stopped) == files_in(fresh.store.parent)


def versions_with(name: str, version: str) -> dict[str, str]:
    return {**record.software_versions(), name: version}


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
    assert "replace them with overwrite=True (--overwrite)" in text
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


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_a_bad_scene_does_not_stop_the_others(
    where: str, request: pytest.FixtureRequest, reference: Path, tmp_path: Path
) -> None:
    client = None if where == "here" else request.getfixturevalue("client")
    stack = stripes(N_SCENES).copy().assign_attrs(_FillValue=np.uint8(0))
    stack[1] = 0
    out = tmp_path / "out"
    result = classify_stack(stack, NETWORK, out, settings=QUICK, client=client)
    assert list(result.failures) == ["stripes_1"]
    assert "Phase one needs a tile with valid pixels" in result.failures["stripes_1"]
    assert sorted(result.scenes) == ["stripes_0", "stripes_2", "stripes_3"]
    found, wanted = result.dataset.load(), open_result(reference / "classified.zarr").load()
    assert not found["pixel_class"][1].any()
    for position in (0, 2, 3):
        assert found.isel(scene=position).identical(wanted.isel(scene=position))
    states = [(scene.state, scene.detail) for scene in folder_status(out)]
    assert [state for state, _ in states] == ["done", "failed", "done", "done"]
    assert states[1][1] == result.failures["stripes_1"]


def test_a_scheduler_that_is_not_there(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, **_: real(address, timeout="0.3s"))
    words = ["stack", stored.stack, "--model", stored.model, "--out", tmp_path / "out"]
    for address in ("tcp://127.0.0.1:9", "nonsense://"):
        ended = run_cli(*words, "--scheduler", address)
        assert ended.code == 2
        text = " ".join(ended.err.split())
        assert f"A Dask scheduler must run at '{address}', but it cannot be reached" in text
        assert "Start one with `dask scheduler`" in text
    assert not (tmp_path / "out").exists()


def test_a_cluster_without_workers(tmp_path: Path) -> None:
    lonely = distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0")
    with lonely, distributed.Client(lonely, set_as_default=False) as client:
        for ask in (worker_limits, lambda client: check_cluster(client, tmp_path)):
            with pytest.raises(ClusterError, match=r"must have workers, got none\. Start some"):
                ask(client)


def test_workers_that_cannot_do_the_work(
    client: distributed.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_cluster(client, tmp_path)
    versions = record.software_versions()
    monkeypatch.setattr(cluster_module, "_look", lambda _: (False, versions))
    with pytest.raises(ClusterError, match=rf"tcp://\S+ does not see {tmp_path}\. Choose a folder"):
        classify(tmp_path, client=client)
    other = versions_with("keras", "99")
    monkeypatch.setattr(cluster_module, "_look", lambda _: (True, other))
    named = rf"has keras 99 instead of {versions['keras']}\. Start it in the same environment"
    with pytest.raises(ClusterError, match=named):
        check_cluster(client, tmp_path)
    assert not list(tmp_path.glob(".seen*"))
