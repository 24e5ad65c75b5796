"""Runs over files: check everything first, then classify, write, score and draw each image."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from csc_xr.accuracy import classification_report, confusion_matrix
from csc_xr.errors import CscWarning, OutputError
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
from csc_xr.labels import find_labels, open_labels
from csc_xr.legend import ClassLegend
from csc_xr.networks.bundle import Network, save_network
from csc_xr.networks.pixelwise import PixelClassifier
from csc_xr.record import RunRecord, StageTimer, start_record
from csc_xr.scene import open_scene
from csc_xr.workflow import (
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
        The image as a scene, in the network's bands; lazy.
    labels : xarray.DataArray or None
        Digitised classes on the scene's grid, where there are any; lazy.
    label_path : Path or None
        Where they came from.
    """

    name: str
    image: Path
    scene: xr.DataArray
    labels: xr.DataArray | None
    label_path: Path | None


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
    scene_options: dict[str, Any] | None = None,
    classifier: Any = None,
) -> list[Job]:
    """Open and check every image, its labels and the output folder, before any work.

    Label rasters are read once, to know their codes.

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
    scene_options : dict, optional
        Arguments of :func:`csc_xr.scene.open_scene`.
    classifier : sklearn classifier, optional
        Takes the place of the patch network.

    Returns
    -------
    list of Job
        In the order of the images.

    Raises
    ------
    CscError
        Whatever is wrong with an image, its labels, the settings or the folder.
    """
    paths = [Path(image) for image in images]
    names = [path.stem for path in paths]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise OutputError(
            f"Outputs are named after the images, so each must have its own name, got several "
            f"called {', '.join(doubles)}. Classify them into different folders."
        )
    jobs = []
    for path, name in zip(paths, names, strict=True):
        scene = check_job(
            open_scene(path, **(scene_options or {})),
            network,
            settings=settings,
            classifier=classifier,
        )
        label_path = Path(labels) if labels is not None else find_labels(path)
        digitised = None
        if label_path is not None:
            digitised = open_labels(label_path, like=scene, legend=network.card.legend)
        jobs.append(Job(name, path, scene, digitised, label_path))
    largest = max((job.scene.sizes["y"] * job.scene.sizes["x"] for job in jobs), default=0)
    check_output_folder(folder, largest * (4 + 8 * len(settings.outputs)))
    return jobs


def run_job(
    job: Job,
    network: Network,
    folder: str | Path,
    *,
    settings: ClassifySettings,
    experiment: str | None = None,
    classifier: Any = None,
    timer: StageTimer | None = None,
    fit_progress: Progress | None = None,
) -> RunResult:
    """Classify one image and write everything a run leaves.

    Writes, each whole or not at all: ``<name>_classified.zarr`` with the classes of both phases
    and the outputs asked for; ``<name>_classified.tif`` (``.png`` for an image without
    georeference); a GeoTIFF for each other output of a georeferenced image;
    ``<name>_network.keras``, the patch network; ``CNN_<name>_<experiment>.csv`` and
    ``CSC_<name>_<experiment>.csv``, the scores of the two phases, where there are labels;
    ``<name>_figure.png``; ``<name>_run.json``, the run record, last.

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
    timer : StageTimer, optional
        Takes the time of each stage.
    fit_progress : callable, optional
        Called with steps done and steps at most.

    Returns
    -------
    RunResult
        Paths, scores and the record.
    """
    timer = timer or StageTimer()
    folder = Path(folder)
    outputs: dict[str, Path] = {}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", CscWarning)
        tiles = find_tiles(job.scene, network, settings=settings, timer=timer)
        learned = learn_scene(
            job.scene, tiles, network,
            settings=settings, classifier=classifier, timer=timer, progress=fit_progress,
        )  # fmt: skip
        result = apply_learned(job.scene, tiles, learned, settings=settings)
        record = _begin_record(job, network, learned, settings)
        outputs["result"] = folder / f"{job.name}_classified.zarr"
        with timer.stage("pixels"):
            write_result_zarr(
                result.assign_attrs(_essentials(record)), outputs["result"], overwrite=True
            )
        result = open_result(outputs["result"])
        legend = network.card.legend
        with timer.stage("export"):
            outputs |= _export(job, result, legend, folder)
            if isinstance(learned, Network):
                outputs["network"] = folder / f"{job.name}_network.keras"
                save_network(learned, outputs["network"])
        scores = {}
        with timer.stage("scores"):
            if job.labels is not None:
                name = experiment or f"k{settings.patch_size}"
                scores = score_result(result, job.labels, legend)
                for phase, role in (("tile_class", "CNN"), ("pixel_class", "CSC")):
                    outputs[f"{role} report"] = folder / f"{role}_{job.name}_{name}.csv"
                    write_table_csv(scores[phase], outputs[f"{role} report"])
        with timer.stage("figure"):
            outputs["figure"] = folder / f"{job.name}_figure.png"
            four_part_figure(
                job.scene, job.labels, result["tile_class"], result["pixel_class"],
                legend=legend, title=job.name, scores=scores, path=outputs["figure"],
            )  # fmt: skip
    for warning in said:
        warnings.warn_explicit(
            warning.message, warning.category, warning.filename, warning.lineno
        )
    outputs["record"] = folder / f"{job.name}_run.json"
    record = record.finish(
        stage_seconds=timer.seconds,
        outputs=outputs,
        warnings=[str(w.message) for w in said if issubclass(w.category, CscWarning)],
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
    """
    if not bool((labels > 0).any().compute()):
        warnings.warn("The labels hold no class, so nothing is scored.", CscWarning, stacklevel=2)
        return {}
    return {
        phase: classification_report(confusion_matrix(labels, result[phase], legend=legend))
        for phase in ("tile_class", "pixel_class")
    }


def _export(
    job: Job, result: xr.Dataset, legend: ClassLegend, folder: Path
) -> dict[str, Path]:
    """Write the rasters other software reads."""
    classes = result["pixel_class"]
    if "spatial_ref" not in result.coords:
        outputs = {"classes": folder / f"{job.name}_classified.png"}
        write_class_png(classes, outputs["classes"], legend=legend)
        return outputs
    outputs = {"classes": folder / f"{job.name}_classified.tif"}
    write_class_geotiff(classes, outputs["classes"], legend=legend)
    for name, variable in result.data_vars.items():
        if variable.dtype.kind == "f":
            outputs[str(name)] = folder / f"{job.name}_{name}.tif"
            write_float_geotiff(variable, outputs[str(name)], class_raster=classes)
    return outputs


def _begin_record(
    job: Job,
    network: Network,
    learned: Network | PixelClassifier,
    settings: ClassifySettings,
) -> RunRecord:
    fingerprints = {"tiles": network.fingerprint}
    if isinstance(learned, Network):
        fingerprints["patches"] = learned.fingerprint
    inputs = [job.image] if job.label_path is None else [job.image, job.label_path]
    return start_record(
        parameters=asdict(settings), seed=settings.seed, inputs=inputs, networks=fingerprints
    )


def _essentials(record: RunRecord) -> dict[str, Any]:
    """Give what a result must say of its own origin, in values Zarr attributes can hold."""
    return {
        "software": f"csc_xr {record.software['csc_xr']}",
        "seed": record.seed,
        "networks": dict(record.networks),
        "parameters": dict(record.parameters),
        "inputs": [{"path": entry.path, "sha256": entry.sha256} for entry in record.inputs],
    }
