"""A stack of scenes into one store: each scene a task, a region, a record and a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import xarray as xr

from csc_xr.errors import OutputError, ParameterError, ResumeError
from csc_xr.export import open_result
from csc_xr.files import check_output_folder, plain_values, read_json
from csc_xr.networks.bundle import Network, open_network, save_network
from csc_xr.notes import heard_warnings
from csc_xr.record import RECORD_END, StageTimer, fingerprint
from csc_xr.runs.chunks import write_region
from csc_xr.runs.cluster import check_cluster
from csc_xr.runs.identity import Identity, check_same_work, identify
from csc_xr.runs.jobs import Job, check_earlier_work, clear_work, needed_bytes
from csc_xr.runs.ledger import LEDGER, SCENES, write_ledger
from csc_xr.runs.pooled import SHARED, learn_together
from csc_xr.runs.rasters import write_rasters
from csc_xr.runs.scene import (
    RunResult,
    begin_scene,
    finish_scene,
    learn_begun,
    with_patches,
)
from csc_xr.runs.spread import Failure, Progress, SceneTask, Watch, note_failure, outcomes
from csc_xr.runs.stack_store import extend_store, make_store
from csc_xr.stack import stack_names, stack_scene, validate_stack
from csc_xr.stores import is_store
from csc_xr.workflow import ClassifySettings, apply_learned, check_job, find_tiles

Networks = Literal["each", "warm_start", "shared"]

STORE = "classified.zarr"
"""Name of the store in the output folder."""

_NETWORK = "network.keras"
_SHARED = "shared_network.keras"


@dataclass(frozen=True)
class StackResult:
    """What the classification of a stack gave.

    Attributes
    ----------
    store : Path
        The store; open it with :func:`csc_xr.open_result`.
    scenes : dict of str to RunResult
        What was written, by name of the scene.
    failures : dict of str to str
        Why scenes failed, by name; in the store they are 0.
    """

    store: Path
    scenes: dict[str, RunResult]
    failures: dict[str, str]

    @property
    def dataset(self) -> xr.Dataset:
        """The store, opened lazily.

        Returns
        -------
        xarray.Dataset
            Dims (time or scene, y, x).
        """
        return open_result(self.store)


@dataclass(frozen=True)
class StackTask(SceneTask):
    """The work on one scene of a stack.

    Attributes
    ----------
    job : Job
        The scene.
    files : Path
        Folder of the files of single scenes.
    position : int
        Its place in the store.
    network : Network
        The tile network.
    out : Path
        The output folder.
    settings : ClassifySettings
        How to classify.
    rasters : bool
        Whether to write GeoTIFFs too.
    initial : Network or None
        Patch network to go on from.
    learned : Network or None
        Patch network to use as it is.
    """

    position: int
    network: Network
    out: Path
    settings: ClassifySettings
    rasters: bool
    initial: Network | None = None
    learned: Network | None = None

    @property
    def origin(self) -> str | None:
        """Tell where the patch network of this scene comes from.

        Returns
        -------
        str or None
            Fingerprint of the network it goes on from, or that all share one; None where the
            scene learns by itself.
        """
        if self.learned is not None:
            return SHARED
        return None if self.initial is None else self.initial.fingerprint

    @property
    def key(self) -> str:
        """Name of the task on a scheduler: the same for the same work."""
        identity = self.job.identity(self.network, self.settings)
        return f"csc_xr-{self.name}-{fingerprint(identity, self.origin, self.out.absolute())[:16]}"

    def run(self, timer: StageTimer, fit_progress: Progress | None) -> RunResult:
        """Classify the scene into its region, or find it classified.

        Parameters
        ----------
        timer : StageTimer
            Takes the time of each stage.
        fit_progress : callable or None
            Called with steps done and steps at most.

        Returns
        -------
        RunResult
            Files of the scene, and the record.
        """
        files = self.files
        begun = begin_scene(
            self.job, self.network, files, settings=self.settings, origin=self.origin
        )
        if isinstance(begun, RunResult):
            return begun
        with heard_warnings() as heard:
            if self.learned is None:
                tiles, learned = learn_begun(
                    begun, self.network,
                    settings=self.settings, initial=self.initial,
                    timer=timer, fit_progress=fit_progress,
                )  # fmt: skip
            else:
                keep, learned = partial(begun.work.keep, "tiles"), self.learned
                tiles = find_tiles(
                    self.job.scene, self.network, settings=self.settings, timer=timer, keep=keep
                )
            begun = with_patches(begun, learned)
            with timer.stage("pixels"):
                result = apply_learned(self.job.scene, tiles, learned, settings=self.settings)
                result = begun.work.keep("result", result.assign_attrs(begun.origin))
            outputs = {}
            with timer.stage("export"):
                complete = result
                if "class" in result.dims:  # a scene's network knows only the classes it has
                    codes = list(self.network.card.legend.codes)
                    complete = result.reindex({"class": codes}, fill_value=0)
                write_region(complete, self.out / STORE, self.position, claim=begun.work.claim)
                outputs["network"] = files / f"{self.name}_{_NETWORK}"
                save_network(learned, outputs["network"])
                if self.rasters:
                    legend = self.network.card.legend
                    outputs |= write_rasters(result, files, self.job, legend=legend)
        record_path = files / f"{self.name}{RECORD_END}"
        return finish_scene(
            begun, record_path, outputs, {},
            timer=timer, heard=heard, legend=self.network.card.legend,
        )  # fmt: skip


def classify_stack(
    stack: xr.DataArray,
    network: Network,
    folder: str | Path,
    *,
    settings: ClassifySettings | None = None,
    networks: Networks = "each",
    rasters: bool = False,
    overwrite: bool = False,
    client: Any = None,
    watch: Watch | None = None,
) -> StackResult:
    """Classify a stack of scenes into one store; a bad scene does not stop the rest.

    Writes into the folder: ``classified.zarr``, a region a scene; ``scenes/<name>_network.keras``,
    the patch network, and ``scenes/<name>_run.json``, the run record, which makes a scene count as
    done; and with ``rasters`` GeoTIFFs beside them. Run again, it keeps what is done and goes on
    with what is not; scenes that came after the others are added.

    Parameters
    ----------
    stack : xarray.DataArray
        Dims (time or scene, band, y, x), as :func:`csc_xr.open_stack` gives it.
    network : Network
        The tile network of phase one.
    folder : str or Path
        Where the store and the files of single scenes go; workers must share it.
    settings : ClassifySettings, optional
        How to classify.
    networks : {"each", "warm_start", "shared"}
        Each scene learns a patch network of its own; or goes on from that of the scene before, in
        a third of the steps, one scene after another; or all are classified by one network,
        learnt from samples of all.
    rasters : bool
        Whether to write GeoTIFFs too.
    overwrite : bool
        Begin anew, and replace what is in the folder.
    client : distributed.Client, optional
        Connected to a cluster; scenes are spread over its workers.
    watch : callable, optional
        Shows how far a scene is that is done here.

    Returns
    -------
    StackResult
        Store, results and failures by scene.

    Raises
    ------
    SceneError
        When the array is no stack, or lacks bands the network needs.
    OutputError
        When the folder cannot be written.
    ResumeError
        When it holds the results of other scenes, or of another network, other settings or
        software. A scene whose pixels changed since is a failure of its own.
    ClusterError
        When the workers cannot do the work.
    """
    out, done, failures = Path(folder), {}, {}
    for outcome in stack_outcomes(
        stack, network, out,
        settings=settings or ClassifySettings(), networks=networks, rasters=rasters,
        overwrite=overwrite, client=client, watch=watch,
    ):  # fmt: skip
        if isinstance(outcome, Failure):
            failures[outcome.name] = outcome.message
            if outcome.fatal:
                raise OutputError(outcome.message)
        else:
            done[outcome.name] = outcome
    return StackResult(out / STORE, done, failures)


def stack_outcomes(
    stack: xr.DataArray,
    network: Network,
    out: Path,
    *,
    settings: ClassifySettings,
    networks: Networks,
    rasters: bool = False,
    overwrite: bool = False,
    client: Any = None,
    watch: Watch | None = None,
) -> Iterator[RunResult | Failure]:
    """Classify a stack, and tell of each scene as it ends; see :func:`classify_stack`.

    Parameters
    ----------
    stack : xarray.DataArray
        Dims (time or scene, band, y, x).
    network : Network
        The tile network of phase one.
    out : Path
        The output folder.
    settings : ClassifySettings
        How to classify.
    networks : {"each", "warm_start", "shared"}
        Which scenes learn a patch network.
    rasters : bool
        Whether to write GeoTIFFs too.
    overwrite : bool
        Begin anew.
    client : distributed.Client, optional
        Connected to a cluster.
    watch : callable, optional
        Shows how far a scene is that is done here.

    Yields
    ------
    RunResult or Failure
        What came of each scene; a fatal failure is the last.
    """
    jobs = _prepare(stack, network, out, settings=settings, networks=networks, overwrite=overwrite)
    if client is not None:
        out = out.absolute()  # workers may run in other folders
        check_cluster(client, out)
    path = out / _NETWORK
    if not path.is_file() or open_network(path) != network:
        save_network(network, path)
    network = network.kept_at(path)
    tasks = [
        StackTask(job, out / SCENES, position, network, out, settings, rasters)
        for position, job in enumerate(jobs)
    ]
    if networks == "warm_start":
        found = _one_by_one(tasks, client, watch)
    elif networks == "shared":
        found = _with_one_network(tasks, client, watch)
    else:
        found = (outcome for _, outcome in outcomes(tasks, client, watch))
    for outcome in found:
        if isinstance(outcome, Failure):
            note_failure(out / SCENES, outcome)
        yield outcome


def _prepare(
    stack: xr.DataArray,
    network: Network,
    out: Path,
    *,
    settings: ClassifySettings,
    networks: Networks,
    overwrite: bool,
) -> list[Job]:
    """Check a stack and its output folder before any work, and make or extend the store."""
    if networks not in get_args(Networks):
        raise ParameterError(
            f"networks must be one of {', '.join(get_args(Networks))}, got {networks!r}."
        )
    if settings.front is not None:
        raise ParameterError(
            "A stack must be classified without front=; its fronts are found from its classes. "
            "Use front_series, or csc-xr front-series, on its store."
        )
    stack = validate_stack(stack)
    names = stack_names(stack)
    check_job(stack_scene(stack, 0), network, settings=settings)
    jobs = [Job(name, stack_scene(stack, position)) for position, name in enumerate(names)]
    check_output_folder(out, needed_bytes(jobs[0], network, settings) * (1 + len(jobs) // 8))
    identity = identify(network, settings, options={"networks": networks})
    outputs, legend = settings.outputs, network.card.legend
    made = is_store(out / STORE) and not overwrite
    known = read_json(out / LEDGER).get("scenes", []) if made else []
    if overwrite:
        clear_work(out / SCENES, names)
        (out / _SHARED).unlink(missing_ok=True)
    elif known:
        _check_ledger(out, identity, known, names, networks)
        own = {job.name: job.identity(network, settings) for job in jobs}
        check_earlier_work(jobs, out / SCENES, own)
    if not known:
        make_store(stack, out / STORE, outputs=outputs, legend=legend)
    elif len(names) > len(known):
        extend_store(stack, out / STORE, known=len(known), outputs=outputs, legend=legend)
    write_ledger(out, names, kind="stack", facts={"identity": identity})
    return jobs


def _check_ledger(
    out: Path, identity: Identity, known: Sequence[str], names: Sequence[str], networks: Networks
) -> None:
    before = read_json(out / LEDGER).get("identity", {})
    check_same_work("a stack", out, before, plain_values(identity))
    grown = len(names) > len(known)
    if list(names[: len(known)]) != list(known) or (grown and networks == "shared"):
        lacking = [name for name in known if name not in names][:5]
        limit = ", but not with one network for all" if networks == "shared" else ""
        raise ResumeError(
            f"{out} holds {len(known)} scenes, {known[0]} to {known[-1]}. Scenes can be added "
            f"after them{limit}; got {len(names)} scenes{', without ' if lacking else ''}"
            f"{', '.join(lacking)}. Choose another output folder, or replace them with "
            "overwrite=True (--overwrite)."
        )


def _one_by_one(
    tasks: Sequence[StackTask], client: Any, watch: Watch | None
) -> Iterator[RunResult | Failure]:
    """Every scene goes on from the patch network of the last one that succeeded."""
    before: Network | None = None
    for task in tasks:
        for _, outcome in outcomes([replace(task, initial=before)], client, watch):
            if isinstance(outcome, RunResult):
                before = open_network(outcome.outputs["network"])
            yield outcome
            if isinstance(outcome, Failure) and outcome.fatal:
                return


def _with_one_network(
    tasks: Sequence[StackTask], client: Any, watch: Watch | None
) -> Iterator[RunResult | Failure]:
    """Draw samples of all scenes, fit once, then classify the pixels of all."""
    first, jobs = tasks[0], [task.job for task in tasks]
    path = first.out / _SHARED
    lost: list[Failure] = []
    if not path.is_file():
        learned, lost = learn_together(
            jobs, first.network, first.out / SCENES,
            settings=first.settings, client=client, watch=watch,
        )  # fmt: skip
        save_network(learned, path)
    yield from lost
    learned = open_network(path).kept_at(path)
    bad = {failure.name for failure in lost}
    left = [replace(task, learned=learned) for task in tasks if task.name not in bad]
    for _, outcome in outcomes(left, client, watch):
        yield outcome
