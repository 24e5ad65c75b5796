"""Stacks on a cluster of programs, some of them killed: the same bits, nothing twice."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import distributed
import numpy as np
import pytest
from batches_for_tests import job, make_place, run_well, write_jobs
from clusters_for_tests import (
    Cluster,
    kill,
    kill_when,
    run_command,
    running_cluster,
    start_command,
)
from networks_for_tests import striped_scene
from runs_for_tests import QUICKEST, files_in, run_cli, write_image
from sklearn.ensemble import RandomForestClassifier
from stacks_for_tests import (
    N_SCENES,
    NETWORK,
    QUICK,
    SHAPE,
    WORDS,
    classify,
    finished,
    same,
    stripes,
    versions_with,
)

from csc_xr import record
from csc_xr.errors import ClusterError
from csc_xr.export import open_result
from csc_xr.files import read_json
from csc_xr.networks.bundle import save_network
from csc_xr.runs import cluster as cluster_module
from csc_xr.runs.cluster import check_cluster, using_scheduler, watching_cluster, worker_limits
from csc_xr.runs.folder import run_jobs
from csc_xr.runs.jobs import prepare_jobs
from csc_xr.runs.ledger import folder_status
from csc_xr.runs.spread import Failure
from csc_xr.runs.stack import classify_stack
from csc_xr.stack import write_stack
from csc_xr.workflow import ClassifySettings


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
    out, ended, doomed = tmp_path / "out", threading.Event(), programs.workers[-1]

    def kill_one() -> None:
        while not ended.wait(0.01):
            if list(out.glob("scenes/unfinished/*/tiles.zarr")):
                kill(doomed)
                return

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        result = classify(out, client=client)
    finally:
        ended.set()
        killer.join()
        programs.start_worker()
        client.wait_for_workers(2, timeout=60)
    assert doomed.poll() is not None
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


def test_paths_may_be_relative(
    client: distributed.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.tif", "b.tif"):
        write_image(Path(name), striped_scene(SHAPE).values)
    images = [Path("a.tif"), Path("b.tif")]
    settings = ClassifySettings(patch_size=1, mode_radius=0)
    forest = RandomForestClassifier(n_estimators=3, random_state=0)
    for count in (2, 1):  # a task a scene, and a task a chunk
        jobs = prepare_jobs(images[:count], NETWORK, "out", settings=settings, overwrite=True)
        run = run_jobs(jobs, NETWORK, "out", settings=settings, classifier=forest, client=client)
        assert not [outcome for outcome in run if isinstance(outcome, Failure)]
    assert {scene.state for scene in folder_status("out")} == {"done"}


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


def test_a_batch_on_a_cluster(
    client: distributed.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs side by side, from a table named by a relative path: the same table, the same bits."""
    jobs = [job(Steps=20, SamplesPerClass=99) for _ in range(2)]
    jobs[1] |= {"PatchSize": "3", "Classifier": "network"}
    write_jobs(make_place(tmp_path / "here"), *jobs)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    told = [
        run_well(Path(name, "jobs.csv"), client=connected)
        for name, connected in (("here", None), ("there", client))
    ]
    assert sorted(one.name for one in told[1]) == [one.name for one in told[0]]
    assert Path("here/jobs.csv").read_bytes() == Path("there/jobs.csv").read_bytes()
    assert files_in(Path("here")) == files_in(Path("there"))
    for path in Path("here").rglob("*_run.json"):
        one, other = (Path(name, *path.parts[1:]) for name in ("here", "there"))
        stores = [
            p.with_name(p.name.replace("_run.json", "_classified.zarr")) for p in (one, other)
        ]
        assert open_result(stores[0]).load().equals(open_result(stores[1]).load())
        records = [read_json(p) for p in (one, other)]
        for part in ("identity", "networks", "findings", "warnings", "parameters"):
            assert records[0][part] == records[1][part], part
    assert all(outcome.kept for outcome in run_well(Path("there", "jobs.csv"), client=client))


def test_a_scheduler_that_is_not_there(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = distributed.Client

    def impatient(address: str, **options: Any) -> distributed.Client:
        return real(address, **{**options, "timeout": "0.3s"})

    monkeypatch.setattr(distributed, "Client", impatient)
    words = ["stack", stored.stack, "--model", stored.model, "--out", tmp_path / "out"]
    for address in ("tcp://127.0.0.1:9", "nonsense://"):
        ended = run_cli(*words, "--scheduler", address)
        assert ended.code == 2
        text = " ".join(ended.err.split())
        assert f"A Dask scheduler must run at '{address}', but it cannot be reached" in text
        assert "Start one with `dask scheduler`" in text
        with pytest.raises(ClusterError) as refused, using_scheduler(address):
            pass
        with pytest.raises(ValueError, match="No global client"):
            distributed.get_client()  # what could not connect is nobody's default
        assert refused.value.__cause__ is not None  # whose traceback still refers to it
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
