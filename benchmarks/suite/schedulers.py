"""What Dask costs: seconds a task, the graph of a large scene, and the model of a season."""

from __future__ import annotations

from distributed import Client
from measure import glacier_network
from scaling import Season, bill, read_stages
from scheduling import (
    blank_scene,
    cluster_task_seconds,
    graph_cost,
    lazy_result,
    local_cluster,
    read_costs,
    task_graph,
    threads_task_seconds,
)


class Threads:
    """Tasks that do nothing, in one process."""

    params = ([100_000],)
    param_names = ("tasks",)
    tiny = ((200,),)

    def track_task_seconds(self, tasks: int) -> float:
        """Seconds a task."""
        return threads_task_seconds(tasks)

    track_task_seconds.unit = "s"  # type: ignore[attr-defined]


class Cluster:
    """Tasks that do nothing, on a local cluster of processes."""

    params = ([20_000], [2])
    param_names = ("tasks", "workers")
    tiny = ((50, 1),)
    timeout = 600

    def setup(self, tasks: int, workers: int) -> None:  # noqa: ARG002
        """Start the cluster."""
        self.cluster = local_cluster(workers)
        self.client = Client(self.cluster)

    def teardown(self, tasks: int, workers: int) -> None:  # noqa: ARG002
        """Stop the cluster."""
        self.client.close()
        self.cluster.close()

    def track_task_seconds(self, tasks: int, workers: int) -> float:  # noqa: ARG002
        """Seconds a task from the call to the answer."""
        return cluster_task_seconds(tasks, self.client).wall_seconds

    def track_scheduler_seconds(self, tasks: int, workers: int) -> float:  # noqa: ARG002
        """CPU seconds a task of scheduler and client."""
        return cluster_task_seconds(tasks, self.client).scheduler_seconds

    track_task_seconds.unit = track_scheduler_seconds.unit = "s"  # type: ignore[attr-defined]


class Graph:
    """The graph of phase two's prediction and the mode filter, pixels left alone."""

    params = ([5120, 20_480], [15])
    param_names = ("side", "patch_size")
    tiny = ((1024, 3),)
    timeout = 600

    def setup(self, side: int, patch_size: int) -> None:
        """Make the scene and the network."""
        self.scene, self.network = blank_scene(side), glacier_network(patch_size)

    def time_build_and_optimise(self, side: int, patch_size: int) -> None:  # noqa: ARG002
        """Build the lazy result and its graph of tasks."""
        task_graph(lazy_result(self.scene, self.network))

    def peakmem_build_and_optimise(self, side: int, patch_size: int) -> None:  # noqa: ARG002
        """Build the lazy result and its graph of tasks."""
        task_graph(lazy_result(self.scene, self.network))

    def track_tasks_a_chunk(self, side: int, patch_size: int) -> float:
        """Tasks a chunk after optimisation."""
        cost = graph_cost(side, patch_size)
        return cost.tasks / cost.chunks

    def track_sent_bytes(self, side: int, patch_size: int) -> int:
        """Bytes a client sends to a distributed scheduler."""
        return graph_cost(side, patch_size).sent_bytes

    track_tasks_a_chunk.unit = "tasks"  # type: ignore[attr-defined]
    track_sent_bytes.unit = "bytes"  # type: ignore[attr-defined]


class SeasonModel:
    """The cost model of a season, from the numbers measured last."""

    params = (["scenes", "chunks"], [1, 10, 100, 1000])
    param_names = ("mode", "workers")
    tiny = ("scenes", 10), ("chunks", 1000)

    def track_wall_hours(self, mode: str, workers: int) -> float:
        """Hours for 2000 scenes at k = 7."""
        cost = bill(mode, workers, read_stages()[7], read_costs(), Season())  # type: ignore[arg-type]
        return cost.wall_seconds / 3600

    track_wall_hours.unit = "hours"  # type: ignore[attr-defined]
