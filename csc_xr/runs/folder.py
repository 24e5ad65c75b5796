"""Many images into one folder: here one after another, or spread over a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csc_xr.networks.bundle import Network, save_network
from csc_xr.record import StageTimer, fingerprint
from csc_xr.runs.cluster import check_cluster
from csc_xr.runs.jobs import Job
from csc_xr.runs.ledger import write_ledger
from csc_xr.runs.scene import RunResult, run_job
from csc_xr.runs.shared_tiles import SharedTiles
from csc_xr.runs.spread import Failure, Progress, SceneTask, Watch, note_failure, outcomes
from csc_xr.runs.unfinished import FOLDER
from csc_xr.workflow import ClassifySettings


@dataclass(frozen=True)
class ImageTask(SceneTask):
    """The work on one image; see :func:`csc_xr.runs.scene.run_job`."""

    network: Network
    settings: ClassifySettings
    experiment: str | None
    classifier: Any
    network_path: Path | None
    shared: SharedTiles | None = None
    shown_as: str | None = None

    @property
    def title(self) -> str:
        """What the image is called where its progress is shown."""
        return self.shown_as or self.name

    @property
    def key(self) -> str:
        """Name of the task on a scheduler: the same for the same work."""
        identity = self.job.identity(
            self.network, self.settings, classifier=self.classifier, experiment=self.experiment
        )
        return f"csc_xr-{self.name}-{fingerprint(identity, self.files.absolute())[:16]}"

    def run(self, timer: StageTimer, fit_progress: Progress | None) -> RunResult:
        """Classify the image, or find it classified.

        Parameters
        ----------
        timer : StageTimer
            Takes the time of each stage.
        fit_progress : callable or None
            Called with steps done and steps at most.

        Returns
        -------
        RunResult
            Paths, scores and the record.
        """
        return run_job(
            self.job, self.network, self.files,
            settings=self.settings, experiment=self.experiment, classifier=self.classifier,
            network_path=self.network_path, shared=self.shared,
            timer=timer, fit_progress=fit_progress,
        )  # fmt: skip


@contextmanager
def image_tasks(
    jobs: Sequence[Job],
    network: Network,
    folder: str | Path,
    *,
    settings: ClassifySettings,
    experiment: str | None = None,
    classifier: Any = None,
    network_path: str | Path | None = None,
    shared: SharedTiles | None = None,
    client: Any = None,
) -> Iterator[list[ImageTask]]:
    """Lend the tasks of one folder, which lists its scenes from then on.

    Parameters
    ----------
    jobs : sequence of Job
        From :func:`csc_xr.runs.jobs.prepare_jobs`.
    network : Network
        The tile network of phase one.
    folder : str or Path
        Where outputs go; workers must share it.
    settings : ClassifySettings
        How to classify.
    experiment : str, optional
        Short name in the names of the reports.
    classifier : sklearn classifier, optional
        Takes the place of the patch network.
    network_path : str or Path, optional
        File of the tile network, for the records.
    shared : SharedTiles, optional
        Tile classes of other runs.
    client : distributed.Client, optional
        Connected to a cluster. Its workers read the network from a file in the folder, which is
        there as long as the tasks are lent.

    Yields
    ------
    list of ImageTask
        One for each job.

    Raises
    ------
    ClusterError
        When the workers cannot do the work.
    OutputError
        When the folder cannot be written.
    """
    out = Path(folder) if client is None else Path(folder).absolute()
    write_ledger(
        out, [job.name for job in jobs], kind="images", facts={"network": network.fingerprint}
    )
    kept = out / FOLDER / f"network-{network.fingerprint[:12]}.keras"
    if client is not None:
        check_cluster(client, out)
        save_network(network, kept)
        network = network.kept_at(kept)
    path = None if network_path is None else Path(network_path).absolute()
    yield [
        ImageTask(job, out, network, settings, experiment, classifier, path, shared) for job in jobs
    ]
    kept.unlink(missing_ok=True)
    with suppress(OSError):  # others may have work there
        kept.parent.rmdir()


def run_jobs(
    jobs: Sequence[Job],
    network: Network,
    folder: str | Path,
    *,
    settings: ClassifySettings,
    experiment: str | None = None,
    classifier: Any = None,
    network_path: str | Path | None = None,
    client: Any = None,
    watch: Watch | None = None,
) -> Iterator[RunResult | Failure]:
    """Classify images into a folder; an image that fails does not stop the others.

    Without a client the scheduler is Dask's own, and images follow each other. With one, several
    images are spread over the workers, each as one task; the chunks of a single image are.

    Parameters
    ----------
    jobs : sequence of Job
        From :func:`csc_xr.runs.jobs.prepare_jobs`.
    network : Network
        The tile network of phase one.
    folder : str or Path
        Where outputs go; workers must share it.
    settings : ClassifySettings
        How to classify.
    experiment : str, optional
        Short name in the names of the reports.
    classifier : sklearn classifier, optional
        Takes the place of the patch network.
    network_path : str or Path, optional
        File of the tile network, for the records.
    client : distributed.Client, optional
        Connected to a cluster.
    watch : callable, optional
        Shows how far a scene is.

    Yields
    ------
    RunResult or Failure
        As each image ends. A fatal failure, such as a full disk, is the last.

    Raises
    ------
    ClusterError
        When the workers cannot do the work.
    OutputError
        When the folder cannot be written.
    """
    with image_tasks(
        jobs, network, folder,
        settings=settings, experiment=experiment, classifier=classifier,
        network_path=network_path, client=client,
    ) as tasks:  # fmt: skip
        for task, outcome in outcomes(tasks, client, watch):
            if isinstance(outcome, Failure):
                note_failure(task.files, outcome)
            yield outcome
