"""What Dask's schedulers cost: seconds a task, and the graph of a very large scene.

    python benchmarks/scheduling.py [--write] [--tasks 100000] [--side 51200]

Seconds a task come from tasks that do nothing, on a cluster as it is by default, where the
scheduler holds back tasks without dependencies until a worker is nearly free, and with none held
back (``distributed.scheduler.worker-saturation: inf``), as tasks with dependencies never are.

The graph is that of ``classify_pixels`` (k = 15) and ``mode_filter`` over a lazy scene with nodata
in chunks of 512 pixels; none of its pixels is computed. ``--write`` also puts the numbers into
``scheduler_costs.json``, where ``scaling.py`` reads them.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import dask.array as da
import dask.threaded
import numpy as np
import xarray as xr
from distributed import Client, LocalCluster
from measure import BANDS, DOCS, THREADS, glacier_network, markdown_table, replace_section

from csc_xr.inference import classify_pixels, expand_tiles, mode_filter, predict_tiles
from csc_xr.legend import GLACIER
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard
from csc_xr.training.phase_two.sampling import draw_samples
from csc_xr.workflow import ClassifySettings, apply_learned

CHUNK = 512
TASKS = 100_000
GROUP = 1000
"""Tasks that one more task waits for, so that the results of all need not travel."""
SIDE = 51_200
SCENE_SIDE = 10_980
TILE = 50
COSTS = Path(__file__).with_name("scheduler_costs.json")


@dataclass(frozen=True)
class GraphCost:
    """What the graph of a scene costs before any pixel is computed.

    Attributes
    ----------
    chunks : int
        Chunks of the scene.
    build_seconds : float
        To make the lazy result.
    optimise_seconds : float
        To make the graph of tasks from it and optimise it, as every scheduler does first.
    tasks : int
        After optimisation.
    sent_bytes : int
        The pickled lazy result, as a client sends it to a distributed scheduler.
    task_bytes : int
        The pickled graph of tasks, network included.
    """

    chunks: int
    build_seconds: float
    optimise_seconds: float
    tasks: int
    sent_bytes: int
    task_bytes: int


@dataclass(frozen=True)
class ClusterTask:
    """What a task that does nothing costs on a distributed cluster.

    Attributes
    ----------
    wall_seconds : float
        From a client's call to its answer.
    scheduler_seconds : float
        CPU time of the process of scheduler and client: however many workers there are, tasks
        do not pass faster.
    worker_seconds : float
        CPU time of the worker that runs it.
    """

    wall_seconds: float
    scheduler_seconds: float
    worker_seconds: float


@dataclass(frozen=True)
class SchedulerCosts:
    """What the cost model needs to know of the distributed scheduler.

    Attributes
    ----------
    scheduler_task_seconds, worker_task_seconds : float
        As in :class:`ClusterTask`, with no task held back.
    scene_tasks : int
        Tasks of both phases of one scene of 10980 x 10980 pixels, when each chunk's pass the
        scheduler.
    scene_graph_seconds : float
        To build and optimise the graphs of phase two's prediction of such a scene.
    """

    scheduler_task_seconds: float
    worker_task_seconds: float
    scene_tasks: int
    scene_graph_seconds: float


def nothing(*waited_for: object) -> None:
    """Do nothing, once the arguments are there."""


def empty_graph(tasks: int) -> dict[Hashable, Any]:
    """Make a graph of tasks that do nothing; its key "all" waits for them."""
    graph: dict[Hashable, Any] = {("empty", i): (nothing,) for i in range(tasks)}
    groups = range(0, tasks, GROUP)
    for start in groups:
        keys = [("empty", i) for i in range(start, min(start + GROUP, tasks))]
        graph["group", start] = (nothing, keys)
    graph["all"] = (nothing, [("group", start) for start in groups])
    return graph


def threads_task_seconds(tasks: int) -> float:
    """Measure seconds a task under threads in this process."""
    graph = empty_graph(tasks)
    start = time.perf_counter()
    dask.threaded.get(graph, "all", num_workers=THREADS)
    return (time.perf_counter() - start) / len(graph)


def cluster_task_seconds(tasks: int, client: Client) -> ClusterTask:
    """Measure seconds a task on a local cluster, whose scheduler runs in this process."""
    client.get({"first": (nothing,)}, "first")  # the workers import what they need
    graph = empty_graph(tasks)
    worked = sum(client.run(time.process_time).values())
    start, busy = time.perf_counter(), time.process_time()
    client.get(graph, "all")
    wall, busy = time.perf_counter() - start, time.process_time() - busy
    worked = sum(client.run(time.process_time).values()) - worked
    return ClusterTask(wall / len(graph), busy / len(graph), worked / len(graph))


def local_cluster(workers: int) -> LocalCluster:
    """Start worker processes of one thread each on this machine."""
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0"
    )


def blank_scene(side: int) -> xr.DataArray:
    """Make a lazy scene of ones with nodata 0, in chunks of 512 pixels."""
    return xr.DataArray(
        da.ones((4, side, side), chunks=(4, CHUNK, CHUNK), dtype=np.uint16),
        dims=("band", "y", "x"),
        coords={"band": list(BANDS)},
        attrs={"scale": 8192.0, "_FillValue": np.uint16(0)},
    )


def lazy_result(scene: xr.DataArray, network: Network) -> xr.Dataset:
    """Build the lazy pixel classes of a scene, filtered."""
    result = classify_pixels(scene, network)
    result["pixel_class"] = mode_filter(result["pixel_class"], radius=4)
    return result


def task_graph(lazy: Any) -> dict[Hashable, Any]:
    """Give all tasks of a lazy collection after optimisation."""
    (optimised,) = dask.optimize(lazy)
    return dict(optimised.__dask_graph__())


def graph_cost(side: int, patch_size: int = 15) -> GraphCost:
    """Measure the graph of a scene of side x side pixels."""
    scene, network = blank_scene(side), glacier_network(patch_size)
    task_graph(lazy_result(blank_scene(CHUNK), network))  # what is done once in a process
    start = time.perf_counter()
    lazy = lazy_result(scene, network)
    build = time.perf_counter() - start
    sent = len(cloudpickle.dumps(lazy.__dask_graph__()))
    start = time.perf_counter()
    graph = task_graph(lazy)
    optimise = time.perf_counter() - start
    chunks = scene.data.npartitions
    return GraphCost(chunks, build, optimise, len(graph), sent, len(cloudpickle.dumps(graph)))


def graph_profile(side: int, patch_size: int = 15) -> list[tuple[str, float, str]]:
    """Profile building and optimising: module, share of the seconds, and its busiest function.

    A module's share is the time spent in its own code, what that calls left out, so that the
    shares of all modules add up to 1; Python's built-in functions count as one module.
    """
    scene, network = blank_scene(side), glacier_network(patch_size)
    profile = cProfile.Profile()
    profile.runcall(lambda: task_graph(lazy_result(scene, network)))
    own: dict[str, dict[str, float]] = {}
    for (file, _, name), timing in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        functions = own.setdefault(_module(file), {})
        functions[name] = functions.get(name, 0.0) + timing[2]
    total = sum(sum(functions.values()) for functions in own.values())
    found = [
        (module, sum(functions.values()) / total, max(functions, key=functions.__getitem__))
        for module, functions in own.items()
    ]
    return sorted(found, key=lambda entry: -entry[1])


def _module(file: str) -> str:
    """Name the module of a file as it is imported, near enough to find it."""
    parts = Path(file).with_suffix("").parts
    if "site-packages" in parts:
        return ".".join(parts[parts.index("site-packages") + 1 :])
    if "csc_xr" in parts:
        return ".".join(parts[len(parts) - 1 - parts[::-1].index("csc_xr") :])
    return "Python"


def scene_tasks(side: int, patch_size: int = 7, *, tile_size: int = TILE) -> int:
    """Count the tasks of both phases of one scene; pixels are read, no network runs."""
    from csc_xr.networks.builders import build_tile_network

    scene = blank_scene(side)
    card = NetworkCard(
        kind="tile", bands=BANDS, size=tile_size, legend=GLACIER, codes=tuple(range(8))
    )
    model = build_tile_network("compact", tile_size=tile_size, n_bands=4, n_outputs=8, seed=0)
    tiles = predict_tiles(scene, Network(card, model))
    counted = len(task_graph(tiles))
    known = tiles[["tile_class"]].copy(
        data={"tile_class": np.ones(tiles["tile_class"].shape, "u1")}
    )
    classes = expand_tiles(known["tile_class"], scene, tile_size=tile_size)
    counter = _CountingScheduler()
    with dask.config.set(scheduler=counter):
        draw_samples(scene, classes, bands=BANDS, patch_size=patch_size, per_class=100, seed=0)
    settings = ClassifySettings(patch_size=patch_size)
    result = apply_learned(scene, known, glacier_network(patch_size), settings=settings)
    written = sum(variable.data.npartitions for variable in result.data_vars.values())
    return counted + counter.tasks + len(task_graph(result)) + written


class _CountingScheduler:
    """Threads that count the tasks they are given."""

    def __init__(self) -> None:
        self.tasks = 0

    def __call__(self, graph: Any, keys: Any, num_workers: int = THREADS) -> Any:
        tasks = graph if isinstance(graph, Mapping) else graph.__dask_graph__()
        self.tasks += len(tasks)
        return dask.threaded.get(tasks, keys, num_workers=num_workers)


def read_costs(path: Path = COSTS) -> SchedulerCosts:
    """Read what was measured last."""
    return SchedulerCosts(**json.loads(path.read_text(encoding="utf-8")))


def task_table(threads: float, clusters: Mapping[str, ClusterTask]) -> str:
    """Format seconds a task, in microseconds."""
    rows = [[f"threads, {THREADS} in one process", _microseconds(threads), "", ""]]
    rows += [
        [
            name,
            _microseconds(task.wall_seconds),
            _microseconds(task.scheduler_seconds),
            _microseconds(task.worker_seconds),
        ]
        for name, task in clusters.items()
    ]
    return markdown_table(
        ["scheduler", "µs a task", "CPU of scheduler and client, µs", "CPU of the workers, µs"],
        rows,
    )


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}"


def graph_table(cost: GraphCost) -> str:
    """Format the cost of the graph per 10 000 chunks."""
    scale = 10_000 / cost.chunks
    rows = [
        ["build the lazy result", f"{cost.build_seconds * scale:.1f} s"],
        ["make and optimise the graph of tasks", f"{cost.optimise_seconds * scale:.1f} s"],
        ["sent to a distributed scheduler", f"{cost.sent_bytes * scale / 1e6:.1f} MB"],
        ["the optimised graph of tasks, pickled", f"{cost.task_bytes * scale / 1e6:.1f} MB"],
        ["tasks a chunk, optimised", f"{cost.tasks / cost.chunks:.1f}"],
    ]
    return markdown_table(["per 10 000 chunks", ""], rows)


def profile_table(profile: Sequence[tuple[str, float, str]], least: float = 0.02) -> str:
    """Format the profile, modules of little time as one row."""
    rows = [
        [f"`{module}`", f"{share:.0%}", f"`{name}`"]
        for module, share, name in profile
        if share >= least
    ]
    rest = sum(share for _, share, _ in profile if share < least)
    return markdown_table(
        ["module", "share of the seconds", "busiest function"],
        [*rows, ["others", f"{rest:.0%}", ""]],
    )


def report(
    *,
    write: bool,
    tasks: int = TASKS,
    side: int = SIDE,
    scene_side: int = SCENE_SIDE,
    workers: int = 2,
) -> None:
    """Measure, print, and where asked put tables and numbers where they belong."""
    threads = threads_task_seconds(tasks)
    clusters = {}
    for name, saturation in (("as it is", 1.1), ("no task held back", float("inf"))):
        with (
            dask.config.set({"distributed.scheduler.worker-saturation": saturation}),
            local_cluster(workers) as cluster,
            Client(cluster) as client,
        ):
            task = cluster_task_seconds(tasks, client)
            clusters[f"distributed, {workers} worker processes, {name}"] = task
    table = task_table(threads, clusters)
    print(table, flush=True)
    cost = graph_cost(side)
    print(graph_table(cost), flush=True)
    profile = profile_table(graph_profile(side))
    print(profile, flush=True)
    scene = graph_cost(scene_side, patch_size=7)
    costs = SchedulerCosts(
        task.scheduler_seconds,
        task.worker_seconds,
        scene_tasks(scene_side),
        scene.build_seconds + scene.optimise_seconds,
    )
    print(costs)
    if write:
        page = DOCS / "benchmarks.md"
        replace_section(page, "scheduler", table)
        replace_section(page, "graph", graph_table(cost) + "\n" + profile)
        COSTS.write_text(json.dumps(asdict(costs), indent=1) + "\n", encoding="utf-8")


def against_workers(
    run: Callable[[Client], object], counts: Sequence[int]
) -> list[tuple[int, float]]:
    """Time a run on local clusters of several sizes; give numbers of workers and seconds.

    ``run`` gets a client of the cluster and returns when all is done. Workers have one thread each;
    that they start is not timed.
    """
    found = []
    for count in counts:
        with local_cluster(count) as cluster, Client(cluster) as client:
            client.wait_for_workers(count)
            start = time.perf_counter()
            run(client)
            found.append((count, time.perf_counter() - start))
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    report(
        write=arguments.write,
        tasks=arguments.tasks,
        side=arguments.side,
        workers=arguments.workers,
    )


if __name__ == "__main__":
    main()
