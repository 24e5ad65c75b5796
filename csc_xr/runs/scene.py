"""One scene: classified, written, scored, drawn and recorded, or taken up where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from csc_xr.export import (
    open_result,
)
from csc_xr.figures.maps import four_part_figure
from csc_xr.files import put_in_place, read_json, write_json
from csc_xr.legend import ClassLegend
from csc_xr.networks.bundle import Network, save_network
from csc_xr.notes import heard_warnings
from csc_xr.record import (
    RECORD_END,
    RunRecord,
    StageTimer,
    describe_input,
    fingerprint,
    start_record,
)
from csc_xr.runs.checksums import known_inputs
from csc_xr.runs.description import describe_run, descriptive
from csc_xr.runs.fronts import write_front
from csc_xr.runs.identity import check_same_work, with_inputs
from csc_xr.runs.jobs import Job
from csc_xr.runs.rasters import write_item, write_rasters
from csc_xr.runs.scores import REPORTS, weighted_f1, write_scores
from csc_xr.runs.shared_tiles import SharedTiles
from csc_xr.runs.unfinished import Unfinished, begin_work, find_work, remove_work
from csc_xr.stores import is_store
from csc_xr.workflow import ClassifySettings, apply_learned, find_tiles, learn_scene

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RunResult:
    """What a run over one scene gave.

    Attributes
    ----------
    name : str
        Name of the scene.
    outputs : dict of str to Path
        Files written, by role.
    scores : dict of str to pandas.DataFrame
        Report of each phase (``tile_class``, ``pixel_class``), where there are labels.
    record : RunRecord
        Settings, inputs, software, timings.
    kept : bool
        True when an earlier run had finished all of it.
    """

    name: str
    outputs: dict[str, Path]
    scores: dict[str, pd.DataFrame]
    record: RunRecord
    kept: bool = False


@dataclass(frozen=True)
class Begun:
    """A scene whose work has begun.

    Attributes
    ----------
    job : Job
        The scene.
    work : Unfinished
        What is finished of it.
    record : RunRecord
        The record so far.
    """

    job: Job
    work: Unfinished
    record: RunRecord

    @property
    def origin(self) -> dict[str, Any]:
        """What a result must say of its own origin, in values Zarr attributes can hold."""
        record = self.record
        return {
            "software": f"csc_xr {record.software['csc_xr']}",
            "seed": record.seed,
            "networks": dict(record.networks),
            "parameters": dict(record.parameters),
            "inputs": [{"path": entry.path, "sha256": entry.sha256} for entry in record.inputs],
            "fingerprint": fingerprint(self.work.identity),
        }


def run_job(
    job: Job,
    network: Network,
    folder: str | Path,
    *,
    settings: ClassifySettings,
    experiment: str | None = None,
    classifier: Any = None,
    network_path: str | Path | None = None,
    shared: SharedTiles | None = None,
    timer: StageTimer | None = None,
    fit_progress: Progress | None = None,
) -> RunResult:
    """Classify one image and write everything a run leaves, or take up a run that was ended.

    Writes, each whole or not at all: ``<name>_classified.zarr`` with the classes of both phases
    and the outputs asked for; ``<name>_classified.tif`` (``.png`` for an image without
    georeference); a GeoTIFF for each other output of a georeferenced image;
    ``<name>_network.keras``, the patch network; ``CNN_<name>_<experiment>.csv`` and
    ``CSC_<name>_<experiment>.csv``, the scores of the two phases, and both as a tidy table,
    ``SCORES_<name>_<experiment>.csv``, where there are labels;
    ``<name>_figure.png``; what :func:`csc_xr.runs.fronts.write_front` writes, where a front is
    asked for; ``<name>_run.json``, the run record, last: where it stands, the outputs
    beside it are complete and its own. Until then, tile classes, patch network and pixel classes
    lie in ``unfinished/``, chunk by chunk; a run that is started again computes what is missing.

    Parameters
    ----------
    job : Job
        From :func:`csc_xr.runs.jobs.prepare_jobs`.
    network : Network
        The tile network of phase one.
    folder : str or Path
        Where outputs go.
    settings : ClassifySettings
        How to classify.
    experiment : str, optional
        Short name in the names of the reports; ``k`` and the patch size by default.
    classifier : sklearn classifier, optional
        Takes the place of the patch network. It is not kept: a run taken up fits it again.
    network_path : str or Path, optional
        File of the tile network, for the record.
    shared : SharedTiles, optional
        Tile classes of other runs, which this one may use and adds to.
    timer : StageTimer, optional
        Takes the time of each stage.
    fit_progress : callable, optional
        Called with steps done and steps at most.

    Returns
    -------
    RunResult
        Paths, scores and the record.

    Raises
    ------
    SceneError
        When the image cannot be read to its end, or no tile has a class.
    OutputError
        When an output cannot be written.
    """
    timer = timer or StageTimer()
    folder = Path(folder)
    begun = begin_scene(
        job, network, folder,
        settings=settings, experiment=experiment, classifier=classifier, network_path=network_path,
    )  # fmt: skip
    if isinstance(begun, RunResult):
        return begun
    target = folder / f"{job.name}_classified.zarr"
    placed = _is_placed(target, begun)
    record_path = folder / f"{job.name}{RECORD_END}"
    with heard_warnings() as heard:
        tiles, learned = learn_begun(
            begun, network,
            settings=settings, classifier=classifier, shared=shared,
            timer=timer, fit_progress=fit_progress,
        )  # fmt: skip
        begun = with_patches(begun, learned)
        with timer.stage("pixels"):
            if not placed:
                result = apply_learned(job.scene, tiles, learned, settings=settings)
                begun.work.keep("result", result.assign_attrs(begun.origin))
                # The record of an earlier run would no longer be true.
                record_path.unlink(missing_ok=True)
                put_in_place(begun.work.store("result"), target)
        outputs: dict[str, Path] = {"result": target}
        result = open_result(target)
        suffix = experiment or f"k{settings.patch_size}"
        with timer.stage("export"):
            outputs |= write_rasters(result, folder, job, legend=network.card.legend)
            if isinstance(learned, Network):
                outputs["network"] = folder / f"{job.name}_network.keras"
                save_network(learned, outputs["network"])
        with timer.stage("scores"):
            scores = write_scores(result, folder, job, network.card.legend, suffix)
            outputs |= scores.outputs
            findings = dict(scores.findings)
        found = None
        if settings.front is not None:
            with timer.stage("front"):
                found = write_front(
                    result["pixel_class"], folder, job.name,
                    legend=network.card.legend, settings=settings.front,
                    digitised=job.digitised, raster=outputs["classes"], suffix=suffix,
                )  # fmt: skip
                outputs |= found.outputs
                findings |= found.findings
        with timer.stage("figure"):
            outputs["figure"] = folder / f"{job.name}_figure.png"
            four_part_figure(
                job.scene, job.labels, result["tile_class"], result["pixel_class"],
                legend=network.card.legend, title=job.name,
                scores=weighted_f1(scores.reports), path=outputs["figure"],
                front=None if found is None else found.front.lines,
                front_error_m=None if found is None else found.median_m,
            )  # fmt: skip
    return finish_scene(
        begun, record_path, outputs, scores.reports,
        timer=timer, heard=heard, legend=network.card.legend, findings=findings,
    )  # fmt: skip


def begin_scene(
    job: Job,
    network: Network,
    folder: Path,
    *,
    settings: ClassifySettings,
    experiment: str | None = None,
    classifier: Any = None,
    network_path: str | Path | None = None,
    origin: str | None = None,
) -> Begun | RunResult:
    """Begin a scene, take it up where a run stopped, or find it finished; reads its inputs.

    Parameters
    ----------
    job : Job
        The scene.
    network : Network
        The tile network of phase one.
    folder : Path
        Where outputs go.
    settings : ClassifySettings
        How to classify.
    experiment : str, optional
        Short name in the names of the reports.
    classifier : sklearn classifier, optional
        Takes the place of the patch network.
    network_path : str or Path, optional
        File of the tile network, for the record.
    origin : str, optional
        Fingerprint of the patch network that this scene's is taken or goes on from.

    Returns
    -------
    Begun or RunResult
        Work to do, or the result of an earlier run that made the same.

    Raises
    ------
    SceneError
        When an input cannot be read.
    OutputError
        When the folder cannot be written.
    ResumeError
        When there is work on this scene that was made in another way.
    """
    record = read_json(folder / f"{job.name}{RECORD_END}")
    claims = [read_json(work.claim) for work in find_work(folder, job.name)]
    known = next((known_inputs(content) for content in (record, *claims) if content), None)
    inputs = job.describe_inputs(known)
    identity = job.identity(network, settings, classifier=classifier, experiment=experiment)
    identity = with_inputs(identity, {role: file.sha256 for role, file in inputs.items()})
    if origin is not None:
        identity["from"] = origin
    for content in filter(None, (record, *claims)):
        # Which network a scene goes on from may change: one that failed before may succeed.
        before = {**content.get("identity", {}), "from": origin}
        check_same_work(job.name, folder, before, {**identity, "from": origin})
    parameters = describe_run(
        job, network, settings,
        classifier=classifier, experiment=experiment, network_path=network_path,
    )  # fmt: skip
    kept = _kept_result(job.name, folder, record, parameters) if record else None
    if kept is not None:
        remove_work(folder, job.name)  # of a run that was killed before it had tidied up
        return kept
    files = [*inputs.values(), *([describe_input(network_path)] if network_path else [])]
    begun = start_record(
        parameters=parameters,
        seed=settings.seed,
        inputs=files,
        networks={"tiles": network.fingerprint},
        identity=identity,
    )
    return Begun(job, begin_work(job.name, folder, identity, inputs), begun)


def learn_begun(
    begun: Begun,
    network: Network,
    *,
    settings: ClassifySettings,
    classifier: Any = None,
    initial: Network | None = None,
    shared: SharedTiles | None = None,
    timer: StageTimer,
    fit_progress: Progress | None = None,
) -> tuple[xr.Dataset, Any]:
    """Phase one and the fit of phase two, unless they are finished. Computes.

    Parameters
    ----------
    begun : Begun
        The scene.
    network : Network
        The tile network.
    settings : ClassifySettings
        How to classify.
    classifier : sklearn classifier, optional
        Fitted in place of a patch network.
    initial : Network, optional
        Patch network to go on from.
    shared : SharedTiles, optional
        Tile classes of other runs.
    timer : StageTimer
        Takes the time of each stage.
    fit_progress : callable, optional
        Called with steps done and steps at most.

    Returns
    -------
    tiles : xarray.Dataset
        Tile classes, in memory.
    learned : Network or PixelClassifier
        Ready to classify pixels.
    """
    scene, work = begun.job.scene, begun.work
    keep = partial(work.keep, "tiles") if shared is None else partial(shared.keep, work)
    tiles = find_tiles(scene, network, settings=settings, timer=timer, keep=keep)
    learned: Any = work.network()
    if learned is None:
        learned = learn_scene(
            scene, tiles, network,
            settings=settings, classifier=classifier, initial=initial,
            timer=timer, progress=fit_progress,
        )  # fmt: skip
        if isinstance(learned, Network):
            work.keep_network(learned)
    return tiles, learned


def with_patches(begun: Begun, learned: Any) -> Begun:
    """Note the patch network in the record.

    Parameters
    ----------
    begun : Begun
        The scene.
    learned : Network or PixelClassifier
        What classifies its pixels.

    Returns
    -------
    Begun
        A copy.
    """
    if not isinstance(learned, Network):
        return begun
    networks = {**begun.record.networks, "patches": learned.fingerprint}
    return replace(begun, record=replace(begun.record, networks=networks))


def finish_scene(
    begun: Begun,
    record_path: Path,
    outputs: dict[str, Path],
    scores: dict[str, pd.DataFrame],
    *,
    timer: StageTimer,
    heard: list[str],
    legend: ClassLegend,
    findings: Mapping[str, Any] | None = None,
) -> RunResult:
    """Write the record, which makes the outputs count as finished, and tidy up.

    Parameters
    ----------
    begun : Begun
        The scene.
    record_path : Path
        Where the record goes.
    outputs : dict of str to Path
        Files written, by role.
    scores : dict of str to pandas.DataFrame
        Reports by name of the variable.
    timer : StageTimer
        Has the seconds of the stages.
    heard : list of str
        What the user was told on the way.
    legend : ClassLegend
        The classes.
    findings : mapping, optional
        What was measured in the result.

    Returns
    -------
    RunResult
        All of it.
    """
    outputs = {**outputs, "record": record_path}
    scored = {"scores": weighted_f1(scores)} if scores else {}
    if "classes" in outputs:
        outputs |= write_item(begun.job, outputs, begun.record, legend=legend, facts=scored)
    told = (*begun.job.warnings, *heard)
    record = begun.record.finish(
        stage_seconds=timer.seconds, outputs=outputs, warnings=told, findings=findings
    )
    write_json(record.to_dict(), record_path)
    remove_work(record_path.parent, begun.job.name)
    return RunResult(begun.job.name, outputs, scores, record)


def _is_placed(target: Path, begun: Begun) -> bool:
    """Whether an earlier run was ended after its result went to its place."""
    moved = begun.work.store("tiles").is_dir() and not begun.work.store("result").is_dir()
    if not (moved and is_store(target)):
        return False
    return bool(open_result(target).attrs.get("fingerprint") == begun.origin["fingerprint"])


def _kept_result(
    name: str, folder: Path, record: dict[str, Any], parameters: dict[str, Any]
) -> RunResult | None:
    """Give what an earlier run wrote, described as asked for now; None when some of it is gone."""
    outputs = {role: folder / Path(path).name for role, path in record["outputs"].items()}
    if not all(path.exists() for path in outputs.values()):
        return None
    scores = {
        phase: pd.read_csv(outputs[f"{role} report"])
        for phase, role in REPORTS.items()
        if f"{role} report" in outputs
    }
    if descriptive(record["parameters"]) != descriptive(parameters):
        record["parameters"] |= descriptive(parameters)
        write_json(record, outputs["record"])
    return RunResult(name, outputs, scores, RunRecord.from_dict(record), kept=True)
