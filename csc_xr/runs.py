"""Runs over files: check everything first, then classify, write, score and draw each image."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import xarray as xr

from csc_xr.accuracy import classification_report, confusion_matrix
from csc_xr.errors import (
    CscWarning,
    LabelError,
    NetworkError,
    OutputError,
    ParameterError,
    SceneError,
)
from csc_xr.export import (
    open_result,
    write_class_geotiff,
    write_class_png,
    write_float_geotiff,
    write_result_zarr,
    write_table_csv,
)
from csc_xr.figures import four_part_figure
from csc_xr.files import check_output_folder, write_json
from csc_xr.grid import is_georeferenced
from csc_xr.inputs import RECORD_END, check_any_valid, note_wrong_nodata
from csc_xr.labels import find_labels, open_labels
from csc_xr.legend import ClassLegend
from csc_xr.networks.bundle import Network, save_network
from csc_xr.record import RunRecord, StageTimer, start_record
from csc_xr.scene import open_scene
from csc_xr.workflow import (
    OUTPUTS,
    ClassifySettings,
    apply_learned,
    check_job,
    find_tiles,
    learn_scene,
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """One image to classify, opened and checked.

    Attributes
    ----------
    name : str
        Stem of the image's file name; outputs are named after it.
    image : Path
        The image.
    scene : xarray.DataArray
        The image as a scene; lazy.
    labels : xarray.DataArray or None
        Digitised classes on the scene's grid, where there are any; lazy.
    label_path : Path or None
        Where they came from.
    scene_options : mapping
        How the image was opened.
    warnings : tuple of str
        What the user was told on opening.
    """

    name: str
    image: Path
    scene: xr.DataArray
    labels: xr.DataArray | None
    label_path: Path | None
    scene_options: Mapping[str, Any]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class RunResult:
    """What a run over one image gave.

    Attributes
    ----------
    name : str
        Name of the image.
    outputs : dict of str to Path
        Files written, by role.
    scores : dict of str to pandas.DataFrame
        Report of each phase (``tile_class``, ``pixel_class``), where there are labels.
    record : RunRecord
        Settings, inputs, software, timings.
    """

    name: str
    outputs: dict[str, Path]
    scores: dict[str, pd.DataFrame]
    record: RunRecord


def prepare_jobs(
    images: Sequence[str | Path],
    network: Network,
    folder: str | Path,
    *,
    settings: ClassifySettings,
    labels: str | Path | None = None,
    scene_options: Mapping[str, Any] | None = None,
    classifier: Any = None,
) -> list[Job]:
    """Open and check every image, its labels and the output folder, before any work.

    Label rasters are read once, to know their codes, and images until a valid pixel is found.

    Parameters
    ----------
    images : sequence of str or Path
        Files or Zarr stores.
    network : Network
        The tile network of phase one.
    folder : str or Path
        Where outputs will go; created when absent.
    settings : ClassifySettings
        How to classify.
    labels : str or Path, optional
        Label raster of a single image. By default the ``SCLS_`` file beside each image, if there
        is one.
    scene_options : mapping, optional
        Arguments of :func:`csc_xr.scene.open_scene`.
    classifier : sklearn classifier, optional
        Takes the place of the patch network.

    Returns
    -------
    list of Job
        In the order of the images.

    Raises
    ------
    SceneError
        When an image cannot be read, does not fit the network, or is all nodata.
    LabelError
        When labels do not fit their image or the legend.
    NetworkError
        When the network is not a tile network, or its tiles have another size.
    ParameterError
        When an image is smaller than a tile or a patch, or there are labels for several images.
    OutputError
        When images share a name, or the folder cannot take the outputs.
    """
    paths = [Path(image) for image in images]
    if labels is not None and len(paths) != 1:
        raise ParameterError(
            f"A label raster goes with one image, got {len(paths)} images. Put the labels of each "
            "image beside it as SCLS_<image>.tif, and leave labels out."
        )
    names = [path.stem for path in paths]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise OutputError(
            f"Outputs are named after the images, so each must have its own name, got several "
            f"called {', '.join(doubles)}. Classify them into different folders."
        )
    jobs = []
    for path in paths:
        with _named(path):
            label_path = Path(labels) if labels is not None else find_labels(path)
            jobs.append(
                _prepare(path, label_path, network, settings, dict(scene_options or {}), classifier)
            )
    needed = max((_needed_bytes(job, network, settings) for job in jobs), default=0)
    check_output_folder(folder, needed)
    return jobs


def run_job(
    job: Job,
    network: Network,
    folder: str | Path,
    *,
    settings: ClassifySettings,
    experiment: str | None = None,
    classifier: Any = None,
    network_path: str | Path | None = None,
    timer: StageTimer | None = None,
    fit_progress: Progress | None = None,
) -> RunResult:
    """Classify one image and write everything a run leaves.

    Writes, each whole or not at all: ``<name>_classified.zarr`` with the classes of both phases
    and the outputs asked for; ``<name>_classified.tif`` (``.png`` for an image without
    georeference); a GeoTIFF for each other output of a georeferenced image;
    ``<name>_network.keras``, the patch network; ``CNN_<name>_<experiment>.csv`` and
    ``CSC_<name>_<experiment>.csv``, the scores of the two phases, where there are labels;
    ``<name>_figure.png``; ``<name>_run.json``, the run record, last: where it stands, the outputs
    beside it are complete and its own.

    Parameters
    ----------
    job : Job
        From :func:`prepare_jobs`.
    network : Network
        The tile network of phase one.
    folder : str or Path
        Where outputs go.
    settings : ClassifySettings
        How to classify.
    experiment : str, optional
        Short name in the names of the reports; ``k`` and the patch size by default.
    classifier : sklearn classifier, optional
        Takes the place of the patch network.
    network_path : str or Path, optional
        File of the tile network, for the record.
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
    legend = network.card.legend
    outputs: dict[str, Path] = {}
    scores: dict[str, pd.DataFrame] = {}
    record = _begin_record(job, network, network_path, settings, classifier)
    with _heard_warnings() as heard:
        tiles = find_tiles(job.scene, network, settings=settings, timer=timer)
        learned = learn_scene(
            job.scene, tiles, network,
            settings=settings, classifier=classifier, timer=timer, progress=fit_progress,
        )  # fmt: skip
        if isinstance(learned, Network):
            record = replace(record, networks={**record.networks, "patches": learned.fingerprint})
        result = apply_learned(job.scene, tiles, learned, settings=settings)
        # From here on outputs are replaced: the record of an earlier run would no longer be true.
        (folder / f"{job.name}{RECORD_END}").unlink(missing_ok=True)
        outputs["result"] = folder / f"{job.name}_classified.zarr"
        with timer.stage("pixels"):
            described = result.assign_attrs(_essentials(record))
            write_result_zarr(described, outputs["result"], overwrite=True)
        result = open_result(outputs["result"])
        with timer.stage("export"):
            outputs |= _export(job, result, legend, folder)
            if isinstance(learned, Network):
                outputs["network"] = folder / f"{job.name}_network.keras"
                save_network(learned, outputs["network"])
        with timer.stage("scores"):
            if job.labels is not None:
                scores = score_result(result, job.labels, legend)
            for phase, report in scores.items():
                role = {"tile_class": "CNN", "pixel_class": "CSC"}[phase]
                name = f"{role}_{job.name}_{experiment or f'k{settings.patch_size}'}.csv"
                outputs[f"{role} report"] = folder / name
                write_table_csv(report, outputs[f"{role} report"])
        with timer.stage("figure"):
            outputs["figure"] = folder / f"{job.name}_figure.png"
            four_part_figure(
                job.scene, job.labels, result["tile_class"], result["pixel_class"],
                legend=legend, title=job.name, scores=_weighted_f1(scores), path=outputs["figure"],
            )  # fmt: skip
    outputs["record"] = folder / f"{job.name}{RECORD_END}"
    record = record.finish(
        stage_seconds=timer.seconds, outputs=outputs, warnings=(*job.warnings, *heard)
    )
    write_json(record.to_dict(), outputs["record"])
    return RunResult(job.name, outputs, scores, record)


def score_result(
    result: xr.Dataset, labels: xr.DataArray, legend: ClassLegend
) -> dict[str, pd.DataFrame]:
    """Score the classes of both phases against labels; computes.

    Parameters
    ----------
    result : xarray.Dataset
        Holds ``tile_class`` and ``pixel_class``.
    labels : xarray.DataArray
        Dims (y, x) on the same grid; 0 is not scored.
    legend : ClassLegend
        The classes.

    Returns
    -------
    dict of str to pandas.DataFrame
        Reports by name of the variable; empty when no pixel is labelled.

    Warns
    -----
    CscWarning
        When no pixel is labelled.
    """
    if not bool((labels > 0).any().compute()):
        warnings.warn("The labels hold no class, so nothing is scored.", CscWarning, stacklevel=2)
        return {}
    return {
        phase: classification_report(confusion_matrix(labels, result[phase], legend=legend))
        for phase in ("tile_class", "pixel_class")
    }


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let every error say which of many images it is about."""
    try:
        yield
    except (SceneError, LabelError, NetworkError, ParameterError) as error:
        if path.name in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


@contextmanager
def _heard_warnings() -> Iterator[list[str]]:
    """Write down what the user is told, and still tell it at once."""
    heard: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", CscWarning)
        show = warnings.showwarning

        def write_down(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, CscWarning):
                heard.append(str(message))
            show(message, category, filename, lineno, file, line)

        warnings.showwarning = write_down
        yield heard


def _prepare(
    path: Path,
    label_path: Path | None,
    network: Network,
    settings: ClassifySettings,
    scene_options: dict[str, Any],
    classifier: Any,
) -> Job:
    with _heard_warnings() as heard:
        scene = open_scene(path, **scene_options)
        scene = check_job(scene, network, settings=settings, classifier=classifier)
        check_any_valid(scene)
        note_wrong_nodata(scene)
        digitised = None
        if label_path is not None:
            digitised = open_labels(label_path, like=scene, legend=network.card.legend)
    return Job(path.stem, path, scene, digitised, label_path, scene_options, tuple(heard))


def _needed_bytes(job: Job, network: Network, settings: ClassifySettings) -> int:
    """Bytes one image takes before compression: in Zarr and in the rasters made of it."""
    bands = sum(
        {"probability": len(network.card.legend.codes)}.get(name, 1) for name in settings.outputs
    )
    return int(job.scene.sizes["y"] * job.scene.sizes["x"] * (4 + 8 * bands))


def _export(job: Job, result: xr.Dataset, legend: ClassLegend, folder: Path) -> dict[str, Path]:
    """Write the rasters other software reads."""
    classes = result["pixel_class"]
    if not is_georeferenced(job.scene):
        outputs = {"classes": folder / f"{job.name}_classified.png"}
        write_class_png(classes, outputs["classes"], legend=legend)
        return outputs
    outputs = {"classes": folder / f"{job.name}_classified.tif"}
    write_class_geotiff(classes, outputs["classes"], legend=legend)
    for name in OUTPUTS:
        if name in result:
            outputs[name] = folder / f"{job.name}_{name}.tif"
            write_float_geotiff(result[name], outputs[name], class_raster=classes)
    return outputs


def _begin_record(
    job: Job,
    network: Network,
    network_path: str | Path | None,
    settings: ClassifySettings,
    classifier: Any,
) -> RunRecord:
    inputs = [job.image, job.label_path, job.scene_options.get("mask"), network_path]
    return start_record(
        parameters={
            **asdict(settings),
            "scene": job.scene_options,
            "classifier": None if classifier is None else str(classifier),
        },
        seed=settings.seed,
        inputs=[path for path in inputs if path is not None],
        networks={"tiles": network.fingerprint},
    )


def _weighted_f1(scores: dict[str, pd.DataFrame]) -> dict[str, float]:
    return {
        phase: float(report["F1_score"].iloc[-1])  # the row Weighted_avg
        for phase, report in scores.items()
    }


def _essentials(record: RunRecord) -> dict[str, Any]:
    """Give what a result must say of its own origin, in values Zarr attributes can hold."""
    return {
        "software": f"csc_xr {record.software['csc_xr']}",
        "seed": record.seed,
        "networks": dict(record.networks),
        "parameters": dict(record.parameters),
        "inputs": [{"path": entry.path, "sha256": entry.sha256} for entry in record.inputs],
    }
