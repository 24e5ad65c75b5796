"""A stack on a cluster: undisturbed, with workers and clients killed, on a full disk, and how fast.

    python benchmarks/cluster.py [--write] [--kills 20] [--scenes 12] [--side 1400]

A stack of generated fjords is classified by ``csc-xr stack`` with threads on this machine: the
reference. Then a Dask scheduler and two workers are started as programs of their own, which talk
over TCP, and the same is done there: undisturbed; with a worker killed half-way; and with the
client killed at random instants, and started again each time until it ends. Clients are also
killed that use threads alone. All kills are SIGKILL. An instant is drawn evenly from the first
quarter of the time that is left of the reference's when the client begins to work; when all scenes
are finished before all kills were made, the next job begins in a new folder. Every process writes
down how many pixels its networks are done with: what that is more than in the reference was
computed again. A fit that was lost has no pixels and is not in it; fits are kept short here, so
that most kills meet networks at work.

The disk fills up while the cluster writes to it, where this user may mount a small one. Last, one
and two workers are timed, each on a core of its own and warm, from the submission of the stack to
its last scene. It takes some 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from measure import DOCS, ROOT, markdown_table, replace_section

from csc_xr.demo import NETWORK, open_demo_network
from csc_xr.export import open_result
from csc_xr.files import free_bytes, read_json
from csc_xr.record import RECORD_END
from csc_xr.runs.ledger import SCENES
from csc_xr.runs.stack import STORE, classify_stack
from csc_xr.stack import open_stack, write_stack
from csc_xr.synthetic import fjord
from csc_xr.training.phase_two.fitting import FitSettings
from csc_xr.workflow import ClassifySettings

sys.path.insert(0, str(ROOT / "tests"))

from clusters_for_tests import (
    Cluster,
    counted_pixels,
    kill,
    kill_when,
    run_command,
    running_cluster,
    start_command,
)

STEPS = 100
DISK_BYTES = 64 * 2**20
LEFT_BYTES = 40_000
BUSY = {"executing", "cancelled", "resumed"}
"""States of tasks that a worker is at; cancelled are those whose client is gone."""
BAR = 0.6
"""Two workers are to take at most this share of the time of one."""


@dataclass(frozen=True)
class Trial:
    """What came of one way to disturb a job.

    Attributes
    ----------
    what : str
        What was done to it.
    same : bool
        Whether it ended with the bits of the reference.
    kills : int
        How often something was killed.
    again : float
        Scenes of pixels that networks worked on more than once.
    left : int
        Files that the reference does not have.
    """

    what: str
    same: bool
    kills: int = 0
    again: float = 0.0
    left: int = 0


@dataclass(frozen=True)
class Bench:
    """The job, and what its reference was.

    Attributes
    ----------
    folder : Path
        Scratch.
    stack : Path
        Store of the scenes.
    scenes : int
        Their number.
    reference : Path
        Output folder of the undisturbed run on this machine.
    pixels : int
        That networks worked on in it.
    seconds : float
        From its beginning to work to its end.
    """

    folder: Path
    stack: Path
    scenes: int
    reference: Path
    pixels: int = 0
    seconds: float = 0.0

    def words(self, out: Path, scheduler: str) -> list[object]:
        """Words of the command."""
        how = ["--model", NETWORK, "--steps", STEPS]
        return ["stack", self.stack, *how, "--out", out, "--scheduler", scheduler]

    def trial(self, what: str, outs: Sequence[Path], *, kills: int, counted: int) -> Trial:
        """Compare output folders, and the pixels counted for all of them, with the reference."""
        again = counted - len(outs) * self.pixels
        left = sum(len(files_in(out) - files_in(self.reference)) for out in outs)
        same = all(same_results(out, self.reference) for out in outs)
        return Trial(what, same, kills, again / (self.pixels / self.scenes), left)


def write_scenes(path: Path, scenes: int, side: int) -> None:
    """Write a stack of images of one fjord at different dates."""
    images = [fjord((side, side), seed=3, date_seed=date)["scene"] for date in range(scenes)]
    stack = xr.concat(images, dim="scene", combine_attrs="override")
    write_stack(stack.assign_coords(scene=[f"fjord_{date}" for date in range(scenes)]), path)


def files_in(folder: Path) -> set[str]:
    """List every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def finished(out: Path) -> list[str]:
    """Names of the scenes whose record is written."""
    return sorted(p.name.removesuffix(RECORD_END) for p in (out / SCENES).glob(f"*{RECORD_END}"))


def same_scene(name: str, position: int, out: Path, reference: Path) -> bool:
    """Compare region, networks and identity of one scene."""
    one, other = (open_result(folder / STORE).isel(scene=position) for folder in (out, reference))
    records = [read_json(folder / SCENES / f"{name}{RECORD_END}") for folder in (out, reference)]
    return (
        one.identical(other)
        and records[0].get("identity") == records[1]["identity"]
        and records[0].get("networks") == records[1]["networks"]
    )


def same_results(out: Path, reference: Path) -> bool:
    """Compare all scenes with those of the reference; files of the reference must be there."""
    names = open_result(reference / STORE).coords["scene"].values.tolist()
    return files_in(reference) <= files_in(out) and all(
        same_scene(name, position, out, reference) for position, name in enumerate(names)
    )


def begun(log: Path) -> bool:
    """Whether a command has told its plan, which it does just before it begins to work."""
    return log.is_file() and b"\nplan" in b"\n" + log.read_bytes()


def run_reference(folder: Path, scenes: int, side: int) -> Bench:
    """Classify the stack with threads on this machine."""
    bench = Bench(folder, folder / "stack.zarr", scenes, folder / "reference")
    write_scenes(bench.stack, scenes, side)
    counts, log = new_folder(folder, "counts"), folder / "reference.txt"
    running = start_command(*bench.words(bench.reference, "threads"), log=log, counts=counts)
    try:
        while not begun(log) and running.poll() is None:
            time.sleep(0.01)
        start = time.perf_counter()
        assert running.wait(3600) == 0, log.read_text()
    finally:
        kill(running)
    seconds = time.perf_counter() - start
    return Bench(folder, bench.stack, scenes, bench.reference, counted_pixels(counts), seconds)


def new_folder(folder: Path, name: str) -> Path:
    """Make a folder that is not there yet."""
    made = Path(tempfile.mkdtemp(prefix=f"{name}_", dir=folder))
    made.chmod(0o755)
    return made


def run_undisturbed(bench: Bench, cluster: Cluster, counts: Path) -> Trial:
    """Classify on the cluster."""
    out, before = new_folder(bench.folder, "undisturbed"), counted_pixels(counts)
    log = bench.folder / f"{out.name}.txt"
    assert run_command(*bench.words(out, cluster.address), log=log) == 0, log.read_text()
    return bench.trial("nothing", [out], kills=0, counted=counted_pixels(counts) - before)


def kill_worker(bench: Bench, cluster: Cluster, counts: Path) -> Trial:
    """Kill one of two workers when half of the scenes are finished; start another afterwards."""
    out, before = new_folder(bench.folder, "worker"), counted_pixels(counts)
    log = bench.folder / f"{out.name}.txt"
    running = start_command(*bench.words(out, cluster.address), log=log)
    try:
        while len(finished(out)) < bench.scenes // 2 and running.poll() is None:
            time.sleep(0.05)
        time.sleep(1)  # into the middle of a scene
        kill(cluster.workers[-1])
        assert running.wait(3600) == 0, log.read_text()
    finally:
        kill(running)
    cluster.start_worker()
    counted = counted_pixels(counts) - before
    return bench.trial("a worker killed half-way", [out], kills=1, counted=counted)


def kill_clients(bench: Bench, what: str, scheduler: str, kills: int, counts: Path) -> Trial:
    """Kill the client at random instants and start it again each time, until all kills are made."""
    random = np.random.default_rng(len(what))
    before, done, outs = counted_pixels(counts), 0, []
    while done < kills:
        out = new_folder(bench.folder, "client")
        outs.append(out)
        ended = False
        while not ended and done < kills:
            log = bench.folder / f"{out.name}_{done}.txt"
            running = start_command(*bench.words(out, scheduler), log=log, counts=counts)
            left = 1 - len(finished(out)) / bench.scenes
            instant = random.uniform(0, left * bench.seconds / 4)
            killed = kill_when(running, lambda log=log: begun(log), instant)
            done += killed
            ended = not killed or len(finished(out)) == bench.scenes
            print(f"  killed {done} times, {len(finished(out))} scenes finished", flush=True)
        log = bench.folder / f"{out.name}_end.txt"
        code = run_command(*bench.words(out, scheduler), log=log, counts=counts)
        assert code == 0, log.read_text()
    wait_until_idle(scheduler)
    return bench.trial(what, outs, kills=done, counted=counted_pixels(counts) - before)


def wait_until_idle(scheduler: str) -> None:
    """Wait for what workers still do for clients that are gone, so that it is counted too."""
    if scheduler == "threads":
        return
    from distributed import Client

    with Client(scheduler, set_as_default=False) as client:
        busy = True
        while busy:
            time.sleep(3)  # workers tell what they do every second or so
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            busy = any(BUSY & set(worker["metrics"]["task_counts"]) for worker in workers)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Lend a small file system; None where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def fill_disk(bench: Bench, cluster: Cluster) -> str:
    """Fill the disk under a job half-way, look at what is there, make room and go on."""
    with small_disk(bench.folder / "disk") as disk:
        if disk is None:
            return "not tried: this user may not mount a file system"
        out, filler, log = disk / "out", disk / "filler", bench.folder / "disk.txt"
        running = start_command(*bench.words(out, cluster.address), log=log)
        try:
            while len(finished(out)) < bench.scenes // 2 and running.poll() is None:
                time.sleep(0.05)
            with suppress(OSError):  # workers may take the last bytes first
                filler.write_bytes(bytes(max(0, free_bytes(disk) - LEFT_BYTES)))
            code = running.wait(3600)
        finally:
            kill(running)
        wait_until_idle(cluster.address)
        told = "the disk is full" in " ".join(log.read_text().split())
        names = open_result(bench.reference / STORE).coords["scene"].values.tolist()
        done = finished(out)
        whole = [same_scene(name, names.index(name), out, bench.reference) for name in done]
        filler.unlink()
        again = run_command(*bench.words(out, cluster.address), log=bench.folder / "room.txt")
        same = again == 0 and same_results(out, bench.reference)
    return (
        f"exit code {code}, {'a' if told else 'NO'} message that the disk is full; "
        f"{sum(whole)} of {len(done)} finished scenes as in the reference; after room was made "
        f"{'the same to the bit' if same else 'NOT THE SAME'}"
    )


def time_workers(bench: Bench, cores: Sequence[int]) -> float:
    """Time the stack on warm workers, one on each of some cores."""
    from distributed import Client

    stack, network = open_stack(bench.stack), open_demo_network()
    settings = ClassifySettings(fit=FitSettings(steps=STEPS))
    few = stack.isel(scene=slice(2 * len(cores)), y=slice(150), x=slice(150))
    folder = new_folder(bench.folder, f"workers_{len(cores)}")
    with (
        running_cluster(folder / "cluster", cores=cores) as cluster,
        Client(cluster.address, set_as_default=False) as client,
    ):
        classify_stack(few, network, folder / "warm", settings=settings, client=client)
        start = time.perf_counter()
        result = classify_stack(stack, network, folder / "out", settings=settings, client=client)
        seconds = time.perf_counter() - start
    assert not result.failures, result.failures
    assert same_results(folder / "out", bench.reference)
    return seconds


def trial_table(trials: Sequence[Trial]) -> str:
    """Format the trials."""
    rows = [
        [
            trial.what,
            "yes" if trial.same else "**no**",
            trial.kills,
            f"{trial.again:.2f}",
            f"{trial.again / trial.kills:.2f}" if trial.kills else "",
            trial.left,
        ]
        for trial in trials
    ]
    header = ["what was done", "same to the bit", "kills", "scenes computed again", "a kill"]
    return markdown_table([*header, "files left over"], rows)


def speed_table(bench: Bench, seconds: Sequence[float]) -> str:
    """Format the seconds of one worker, two workers, ..."""
    rows = [
        [count, f"{took:.1f}", f"{took / bench.scenes:.1f}", f"{took / seconds[0]:.2f}"]
        for count, took in enumerate(seconds, 1)
    ]
    return markdown_table(["workers", "s", "s a scene", "share of one worker's time"], rows)


def report(*, write: bool, kills: int = 20, scenes: int = 12, side: int = 1400) -> None:
    """Do all of it, print, and where asked put the tables into the docs."""
    with tempfile.TemporaryDirectory() as name:
        bench = run_reference(Path(name), scenes, side)
        print(f"reference: {bench.seconds:.1f} s, {bench.pixels} pixels", flush=True)
        trials, counts = [], new_folder(bench.folder, "counts")
        with running_cluster(bench.folder / "cluster", counts=counts) as cluster:
            trials.append(run_undisturbed(bench, cluster, counts))
            print(trials[-1], flush=True)
            trials.append(kill_worker(bench, cluster, counts))
            print(trials[-1], flush=True)
            what = "the client of a cluster killed"
            trials.append(kill_clients(bench, what, cluster.address, kills, counts))
            print(trials[-1], flush=True)
            disk = fill_disk(bench, cluster)
            print(disk, flush=True)
        what = "a client with threads alone killed"
        counts = new_folder(bench.folder, "counts")
        trials.append(kill_clients(bench, what, "threads", kills, counts))
        print(trials[-1], flush=True)
        cores = sorted(os.sched_getaffinity(0))[:2]
        seconds = [time_workers(bench, cores[:count]) for count in range(1, len(cores) + 1)]
        speed = speed_table(bench, seconds)
    text = f"{trial_table(trials)}\nA disk that fills up: {disk}.\n\n{speed}"
    print(text)
    if len(seconds) == 2:
        print(f"two workers take {seconds[1] / seconds[0]:.2f} of the time of one (bar: {BAR})")
    if write:
        replace_section(DOCS / "scaling.md", "cluster", text)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/scaling.md")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--side", type=int, default=1400)
    arguments = parser.parse_args()
    report(
        write=arguments.write,
        kills=arguments.kills,
        scenes=arguments.scenes,
        side=arguments.side,
    )


if __name__ == "__main__":
    main()
