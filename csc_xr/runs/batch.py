"""Many jobs from one table: parameter sweeps that can be killed, go on, and say what is done."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from csc_xr.errors import CscError, NetworkError, ParameterError, SceneError
from csc_xr.files import read_json
from csc_xr.inputs import list_images
from csc_xr.networks.bundle import Network, open_network
from csc_xr.record import RECORD_END
from csc_xr.runs.batch_columns import JobSpec, read_specs
from csc_xr.runs.cluster import check_cluster
from csc_xr.runs.folder import ImageTask, image_tasks
from csc_xr.runs.job_table import JobTable, read_job_table
from csc_xr.runs.jobs import Job, check_outputs, clear_work, open_jobs
from csc_xr.runs.ledger import LEDGER, folder_status
from csc_xr.runs.scene import RunResult
from csc_xr.runs.shared_tiles import SharedTiles
from csc_xr.runs.spread import Failure, Watch, note_failure, outcomes
from csc_xr.training.phase_two.fitting import pixel_estimator
from csc_xr.workflow import check_job

MODEL_ENDINGS = (".keras", ".h5", ".hdf5")
"""What a table may leave out of the name of a model."""

_MOST_ERRORS = 20
_MOST_REASONS = 5
_LONGEST_REASON = 1000


@dataclass(frozen=True)
class PlannedJob:
    """A row of a table, checked.

    Attributes
    ----------
    spec : JobSpec
        What it asks for.
    network : Network
        The tile network.
    network_path : Path
        Its file.
    images : list of Job
        The scenes, opened and checked.
    classifier : sklearn classifier or None
        Takes the place of the patch network.
    """

    spec: JobSpec
    network: Network
    network_path: Path
    images: list[Job]
    classifier: Any = None

    def title(self, name: str) -> str:
        """Name a scene so that it is told apart from the same scene of other jobs.

        Parameters
        ----------
        name : str
            The scene.

        Returns
        -------
        str
            With the output folder before it.
        """
        return f"{self.spec.title}/{name}"


@dataclass(frozen=True)
class Batch:
    """A table of jobs, checked whole.

    Attributes
    ----------
    table : JobTable
        The table.
    jobs : tuple of PlannedJob
        In its order, without those that are done and whose inputs are gone.
    overwrite : bool
        Whether every job begins anew.
    """

    table: JobTable
    jobs: tuple[PlannedJob, ...]
    overwrite: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """Pixels of each scene by its title.

        Returns
        -------
        dict of str to int
            In the order of the work.
        """
        return {
            job.title(image.name): image.scene.sizes["y"] * image.scene.sizes["x"]
            for job in self.jobs
            for image in job.images
        }


def plan_batch(
    path: str | Path, *, models: str | Path | None = None, overwrite: bool = False
) -> Batch:
    """Read a table of jobs and check all of it, before any work.

    Networks, images and labels are opened; images are read until a valid pixel is found, labels
    to know their codes. Folders in the table are relative to the table.

    Parameters
    ----------
    path : str or Path
        CSV with the columns of the research scripts (``Model``, ``DataSource``, ``OutFolder``,
        ``ExpShortHand`` or ``EportShortHand``, ``Dims``, ``PatchSize``, ``TileSize``,
        ``WholeImage``, ``Patience``, ``Done``), and columns for every option of ``classify``.
    models : str or Path, optional
        Folder of the networks; by default that of the table.
    overwrite : bool
        Begin every job anew.

    Returns
    -------
    Batch
        For :func:`run_batch`.

    Raises
    ------
    ParameterError
        When the table cannot be read, lacks columns or has unknown ones; or listing everything
        that is wrong with its jobs, by line.
    OutputError
        When the table is read-only.
    """
    table = read_job_table(path)
    specs, errors = read_specs(table)
    folder = table.path.parent if models is None else Path(models)
    if not folder.is_dir():
        raise ParameterError(f"models must be a folder of networks, but {folder} is none.")
    planner = _Planner(folder, overwrite)
    jobs = []
    for spec in specs:
        try:
            jobs += planner.plan(spec)
        except CscError as error:
            errors.append(f"line {spec.row.line}: {error}")
    errors += _doubles(jobs)
    if errors:
        errors.sort(key=lambda text: int(text.split(":")[0].removeprefix("line ")))
        more = f"\nand {len(errors) - _MOST_ERRORS} more" if len(errors) > _MOST_ERRORS else ""
        raise ParameterError(
            f"Nothing was begun, because jobs of {table.path} cannot be done:\n"
            + "\n".join(errors[:_MOST_ERRORS])
            + more
        )
    return Batch(table, tuple(jobs), overwrite)


def run_batch(
    batch: Batch, *, client: Any = None, watch: Watch | None = None
) -> Iterator[RunResult | Failure]:
    """Do the jobs of a table, and note in it what became of each as it ends.

    A job is done when all its images are; ``Done`` is then 1. Of a job with an image that
    failed, ``Error`` says why, and the others go on. Run again, what is done is kept, whatever
    the table says, and what is not goes on where it was. Tile classes are shared between jobs
    that differ in nothing phase one knows of.

    Parameters
    ----------
    batch : Batch
        From :func:`plan_batch`.
    client : distributed.Client, optional
        Connected to a cluster; the images of all jobs are spread over its workers.
    watch : callable, optional
        Shows how far a scene is that is done here.

    Yields
    ------
    RunResult or Failure
        As each image ends, named with its output folder. A fatal failure, such as a full disk,
        is the last.

    Raises
    ------
    ClusterError
        When the workers cannot do the work.
    OutputError
        When a folder cannot be written.

    Warns
    -----
    CscWarning
        When the table cannot be told what became of a job, being open in a spreadsheet, say.
    """
    table = batch.table.path.absolute()
    shared = SharedTiles(table.with_name(f"{table.stem}_tiles"))
    if client is not None:
        check_cluster(client, table.parent)
    with ExitStack() as lent:
        owners: dict[str, PlannedJob] = {}
        tasks: list[ImageTask] = []
        for job in batch.jobs:
            _begin(batch, job)
            found = lent.enter_context(_tasks_of(job, shared, client))
            titled = [replace(task, shown_as=job.title(task.name)) for task in found]
            owners |= {task.title: job for task in titled}
            tasks += titled
        left = {id(job): len(job.images) for job in batch.jobs}
        failed: dict[int, list[str]] = {id(job): [] for job in batch.jobs}
        for task, outcome in outcomes(tasks, client, watch):
            job = owners[task.title]
            reasons = failed[id(job)]
            left[id(job)] -= 1
            if isinstance(outcome, Failure):
                reasons.append(_reason(outcome))
            if left[id(job)] == 0 or isinstance(outcome, Failure):
                batch.table.note(job.spec.row, done=not reasons, error=_shortened(reasons))
            if isinstance(outcome, Failure):
                note_failure(task.files, outcome)
            yield replace(outcome, name=task.title)
    if not any(failed.values()) and not any(left.values()):
        shared.remove()


def _begin(batch: Batch, job: PlannedJob) -> None:
    """Drop what is to be made anew; what is not there any more is not done, says the table too."""
    out, names = job.spec.out, [image.name for image in job.images]
    if batch.overwrite:
        clear_work(out, names)
    if job.spec.done and not all(_is_kept(out, name) for name in names):
        batch.table.note(job.spec.row, done=False)


def _tasks_of(
    job: PlannedJob, shared: SharedTiles, client: Any
) -> AbstractContextManager[list[ImageTask]]:
    spec = job.spec
    return image_tasks(
        job.images, job.network, spec.out,
        settings=spec.settings, experiment=spec.options.get("experiment"),
        classifier=job.classifier, network_path=job.network_path, shared=shared, client=client,
    )  # fmt: skip


def _reason(failure: Failure) -> str:
    """Say which image failed and why; of a traceback its last line."""
    message = failure.message.strip()
    if message.startswith("Traceback"):
        message = message.splitlines()[-1]
    return message if failure.name in message else f"{failure.name}: {message}"


def _shortened(reasons: Sequence[str]) -> str:
    """Put reasons into a cell; spreadsheets take no longer ones."""
    told = [textwrap.shorten(reason, _LONGEST_REASON) for reason in reasons[:_MOST_REASONS]]
    more = len(reasons) - len(told)
    return "; ".join([*told, *([f"and {more} more"] if more else [])])


class _Planner:
    """Opens networks and images once for all the rows that use them."""

    def __init__(self, models: Path, overwrite: bool) -> None:
        self._models, self._overwrite = models, overwrite
        self._networks: dict[tuple[Path, str | Path | None], Network] = {}
        self._opened: dict[tuple[Any, ...], Sequence[Job]] = {}
        self._checked: set[tuple[Any, ...]] = set()

    def plan(self, spec: JobSpec) -> list[PlannedJob]:
        """Check a row whole; nothing comes of one that is done and whose inputs are gone."""
        needless = spec.done and not self._overwrite and _is_complete(spec.out)
        try:
            path = find_model(spec.model, self._models)
        except NetworkError:
            if needless:
                return []
            raise
        network = self._network(path, spec.options.get("legend"))
        bands, dims = len(network.card.bands), spec.options.get("dims")
        if dims not in (None, bands):
            raise ParameterError(
                f"Dims must be the number of bands of the model, {bands} "
                f"({', '.join(network.card.bands)}), got {dims}."
            )
        estimator = pixel_estimator(spec.options.get("classifier", "network"), spec.settings.seed)
        try:
            images = self._open(spec, network, estimator)
        except SceneError:
            if needless:
                return []
            raise
        check_outputs(
            images, network, spec.out,
            settings=spec.settings, classifier=estimator,
            experiment=spec.options.get("experiment"), overwrite=self._overwrite,
        )  # fmt: skip
        return [PlannedJob(spec, network, path, images, estimator)]

    def _network(self, path: Path, legend: str | Path | None) -> Network:
        key = (path.resolve(), legend)
        if key not in self._networks:
            self._networks[key] = open_network(path, legend=legend)
        return self._networks[key]

    def _open(self, spec: JobSpec, network: Network, estimator: Any) -> list[Job]:
        """Open the images of a row, or take those of a row that differs in other settings."""
        options = {name: str(value) for name, value in spec.scene_options.items()}
        key = (
            spec.source, spec.options.get("labels"), network.fingerprint, *options.values(),
            spec.settings.front,
        )  # fmt: skip
        if key not in self._opened:
            self._opened[key] = open_jobs(
                list_images([spec.source]), network,
                settings=spec.settings, classifier=estimator, scene_options=spec.scene_options,
                labels=spec.options.get("labels"),
            )  # fmt: skip
        # Of the settings no others are checked against a scene, and large tables repeat them.
        fits = (*key, spec.settings.patch_size, spec.settings.tile_size, estimator is None)
        if fits not in self._checked:
            for job in self._opened[key]:
                check_job(job.scene, network, settings=spec.settings, classifier=estimator)
            self._checked.add(fits)
        return [replace(job, tags=spec.tags) for job in self._opened[key]]


def find_model(name: str, folder: Path) -> Path:
    """Find a network by the name that a table gives it.

    Parameters
    ----------
    name : str
        Its path, from the folder, with or without its ending.
    folder : Path
        Where networks are.

    Returns
    -------
    Path
        A file.

    Raises
    ------
    NetworkError
        When there is none.
    """
    tried = [
        folder / f"{spelled}{ending}"
        for spelled in (name, name.replace("\\", "/"))
        for ending in ("", *MODEL_ENDINGS)
    ]
    found = [path for path in tried if path.is_file()]
    if not found:
        raise NetworkError(
            f"Model must name a network in {folder}, but there is no {name} with the ending "
            f"{', '.join(MODEL_ENDINGS)}. Check the name, or pass the folder (--models)."
        )
    return found[0]


def _is_complete(out: Path) -> bool:
    """Whether all that a folder is to hold is there."""
    if not (out / LEDGER).is_file():
        return False
    return all(scene.state == "done" and _is_kept(out, scene.name) for scene in folder_status(out))


def _is_kept(out: Path, name: str) -> bool:
    """Whether a scene has its record and what that lists."""
    outputs = read_json(out / f"{name}{RECORD_END}").get("outputs", {})
    return bool(outputs) and all((out / Path(path).name).exists() for path in outputs.values())


def _doubles(jobs: Sequence[PlannedJob]) -> list[str]:
    """Name the jobs that would write over the outputs of earlier ones."""
    lines: dict[tuple[Path, str], int] = {}
    errors = []
    for job in jobs:
        line, out = job.spec.row.line, job.spec.out
        places = [(out.resolve(), image.name) for image in job.images]
        taken = sorted({lines[place] for place in places if place in lines})
        if taken:
            errors.append(
                f"line {line}: OutFolder must be another for each job with the same images and "
                f"patch size, but line {taken[0]} writes to {out} too."
            )
        lines |= {place: line for place in places if place not in lines}
    return errors
