"""Jobs: scenes opened and checked, with all that decides their results, before any work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from csc_xr.errors import (
    LabelError,
    LineError,
    NetworkError,
    OutputError,
    ParameterError,
    SceneError,
)
from csc_xr.files import check_output_folder, read_json
from csc_xr.fronts.settings import class_codes
from csc_xr.inputs import check_any_valid, note_learned_scene, note_wrong_nodata
from csc_xr.labels import find_labels, open_labels
from csc_xr.networks.bundle import Network
from csc_xr.notes import heard_warnings
from csc_xr.record import RECORD_END, InputFile
from csc_xr.runs.checksums import known_inputs
from csc_xr.runs.fronts import Digitised, find_digitised, land_classes, open_all_digitised
from csc_xr.runs.identity import Identity, check_same_work, identify, input_files, with_inputs
from csc_xr.runs.unfinished import find_work, remove_work
from csc_xr.scene import open_scene
from csc_xr.workflow import ClassifySettings, check_job

_NOT_IN_NAMES = frozenset('/\\:*?"<>|')


@dataclass(frozen=True)
class Job:
    """One scene to classify, opened and checked.

    Attributes
    ----------
    name : str
        Name of the scene, the stem of an image's file name; outputs are named after it.
    scene : xarray.DataArray
        Dims (band, y, x); lazy.
    labels : xarray.DataArray or None
        Digitised classes on the scene's grid, where there are any; lazy.
    inputs : mapping of str to Path
        Files it was made of, by role: ``image``, ``labels``, ``mask``. Without any, the pixels
        themselves are what is identified.
    scene_options : mapping
        How the image was opened.
    warnings : tuple of str
        What the user was told on opening.
    digitised : mapping of str to geopandas.GeoSeries
        Calving front (``edge``) and valley margin (``margin``), where they were digitised and a
        front is looked for.
    tags : mapping of str to str
        What else is known of the scene, for tables over many runs: ``glacier``, ``validation``.
    """

    name: str
    scene: xr.DataArray
    labels: xr.DataArray | None = None
    inputs: Mapping[str, Path] = field(default_factory=dict)
    scene_options: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    digitised: Digitised = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def identity(
        self,
        network: Network,
        settings: ClassifySettings,
        *,
        classifier: Any = None,
        experiment: str | None = None,
    ) -> Identity:
        """Describe all that decides the results, but for the inputs.

        Parameters
        ----------
        network : Network
            The tile network of phase one.
        settings : ClassifySettings
            How to classify.
        classifier : sklearn classifier, optional
            Takes the place of the patch network.
        experiment : str, optional
            Short name in the names of the reports.

        Returns
        -------
        dict
            Plain values.
        """
        decisive = {
            name: value
            for name, value in self.scene_options.items()
            if value is not None and name not in ("chunks", "mask")  # the mask is an input
        }
        options = {"experiment": experiment, "opening": decisive}
        return identify(network, settings, classifier=classifier, options=options)

    def describe_inputs(self, before: Mapping[str, Any] | None = None) -> dict[str, InputFile]:
        """Take the checksums of the inputs; reads what does not look unchanged.

        Parameters
        ----------
        before : mapping, optional
            Descriptions from an earlier run, as plain values by role.

        Returns
        -------
        dict of str to InputFile
            By role.

        Raises
        ------
        SceneError
            When an input does not exist or cannot be read.
        """
        return input_files(self.scene, self.inputs, before)


def prepare_jobs(
    images: Sequence[str | Path],
    network: Network,
    folder: str | Path,
    *,
    settings: ClassifySettings,
    labels: str | Path | None = None,
    scene_options: Mapping[str, Any] | None = None,
    classifier: Any = None,
    experiment: str | None = None,
    overwrite: bool = False,
) -> list[Job]:
    """Open and check every image, its labels and the output folder, before any work.

    Label rasters are read once, to know their codes, and images until a valid pixel is found.
    Inputs of results that are there already are read when their size or time has changed.

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
    experiment : str, optional
        Short name in the names of the reports.
    overwrite : bool
        Begin anew, and replace what is in the folder. By default results made in the same way
        are kept, unfinished work goes on, and what was made in another way is refused.

    Returns
    -------
    list of Job
        In the order of the images.

    Raises
    ------
    SceneError
        When an image cannot be read, does not fit the network, or is all nodata.
    LabelError
        When labels do not fit their image or the legend, or a digitised front or margin that is
        needed lies on another grid or is empty.
    LineError, LegendError
        When a front is to be found and an image has no CRS, or the legend no glacier.
    NetworkError
        When the network is not a tile network, or its tiles have another size.
    ParameterError
        When an image is smaller than a tile or a patch, or there are labels for several images.
    OutputError
        When images share a name, or the folder cannot take the outputs.
    ResumeError
        When the folder holds results of these images made with another network, other settings,
        inputs or software.
    """
    jobs = open_jobs(
        images, network,
        settings=settings, labels=labels, scene_options=scene_options, classifier=classifier,
    )  # fmt: skip
    folder = Path(folder)
    check_outputs(
        jobs, network, folder,
        settings=settings, classifier=classifier, experiment=experiment, overwrite=overwrite,
    )  # fmt: skip
    if overwrite:
        clear_work(folder, [job.name for job in jobs])
    return jobs


def open_jobs(
    images: Sequence[str | Path],
    network: Network,
    *,
    settings: ClassifySettings,
    labels: str | Path | None = None,
    scene_options: Mapping[str, Any] | None = None,
    classifier: Any = None,
) -> list[Job]:
    """Open and check every image and its labels; see :func:`prepare_jobs`.

    Parameters
    ----------
    images : sequence of str or Path
        Files or Zarr stores.
    network : Network
        The tile network of phase one.
    settings : ClassifySettings
        How to classify.
    labels : str or Path, optional
        Label raster of a single image.
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
    ParameterError
        When there are labels for several images.
    OutputError
        When images share a name.
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
    return jobs


def check_outputs(
    jobs: Sequence[Job],
    network: Network,
    folder: Path,
    *,
    settings: ClassifySettings,
    classifier: Any = None,
    experiment: str | None = None,
    overwrite: bool = False,
) -> None:
    """Check that a folder can take the outputs of jobs, and holds nothing made in another way.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be done.
    network : Network
        The tile network of phase one.
    folder : Path
        The output folder; created when absent.
    settings : ClassifySettings
        How to classify.
    classifier : sklearn classifier, optional
        Takes the place of the patch network.
    experiment : str, optional
        Short name in the names of the reports.
    overwrite : bool
        Whether what is in the folder is to be replaced.

    Raises
    ------
    ParameterError
        When the short name cannot be part of the name of a file.
    OutputError
        When the folder cannot take the outputs.
    ResumeError
        When it holds results made in another way, which are not to be replaced.
    """
    if set(experiment or "") & _NOT_IN_NAMES:
        raise ParameterError(
            f"The short name of an experiment becomes part of the names of files, got "
            f"{experiment!r}. Leave out {' '.join(sorted(_NOT_IN_NAMES))}"
        )
    needed = max((needed_bytes(job, network, settings) for job in jobs), default=0)
    check_output_folder(folder, needed)
    if overwrite:
        return
    identities = {
        job.name: job.identity(network, settings, classifier=classifier, experiment=experiment)
        for job in jobs
    }
    check_earlier_work(jobs, folder, identities)


def check_earlier_work(
    jobs: Sequence[Job], folder: Path, identities: Mapping[str, Identity]
) -> None:
    """Refuse a folder that holds results of the jobs, or unfinished work, made in another way.

    Files are compared here; pixels that come from no file when their scene begins.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be done.
    folder : Path
        The output folder.
    identities : mapping
        What decides the result of each job, by name, without inputs.

    Raises
    ------
    ResumeError
        Naming what differs.
    SceneError
        When an input does not exist or cannot be read.
    """
    earlier: dict[str, list[dict[str, Any]]] = {}
    for work in find_work(folder):
        claim = read_json(work.claim)
        if claim:  # else another process has just finished it
            earlier.setdefault(work.name, []).append(claim)
    for job in jobs:
        record = read_json(folder / f"{job.name}{RECORD_END}")
        for content in [*([record] if record else []), *earlier.get(job.name, [])]:
            before = content.get("identity") or {"made by": "a version that left no identity"}
            unknown = {key: value for key, value in before.items() if key not in ("inputs", "from")}
            check_same_work(job.name, folder, unknown, identities[job.name])
            if job.inputs:
                found = job.describe_inputs(known_inputs(content))
                now = with_inputs({}, {role: file.sha256 for role, file in found.items()})
                check_same_work(job.name, folder, {"inputs": before.get("inputs", {})}, now)


def clear_work(folder: Path, names: Sequence[str]) -> None:
    """Drop unfinished work and the records that would let finished results be kept.

    Parameters
    ----------
    folder : Path
        The output folder; results themselves stay until they are replaced.
    names : sequence of str
        Scenes to begin anew.
    """
    for name in names:
        remove_work(folder, name)
        (folder / f"{name}{RECORD_END}").unlink(missing_ok=True)


def needed_bytes(job: Job, network: Network, settings: ClassifySettings) -> int:
    """Estimate what the outputs of a job take.

    Parameters
    ----------
    job : Job
        The scene.
    network : Network
        The tile network; its legend counts.
    settings : ClassifySettings
        Which outputs.

    Returns
    -------
    int
        Bytes before compression, in Zarr and in the rasters made of it.
    """
    bands = sum(
        {"probability": len(network.card.legend.codes)}.get(name, 1) for name in settings.outputs
    )
    return int(job.scene.sizes["y"] * job.scene.sizes["x"] * (4 + 8 * bands))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let every error say which of many images it is about."""
    try:
        yield
    except (SceneError, LabelError, LineError, NetworkError, ParameterError) as error:
        if path.name in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def _prepare(
    path: Path,
    label_path: Path | None,
    network: Network,
    settings: ClassifySettings,
    scene_options: dict[str, Any],
    classifier: Any,
) -> Job:
    with heard_warnings() as heard:
        scene = open_scene(path, **scene_options)
        scene = check_job(scene, network, settings=settings, classifier=classifier)
        check_any_valid(scene)
        note_wrong_nodata(scene)
        labels = None
        if label_path is not None:
            labels = open_labels(label_path, like=scene, legend=network.card.legend)
            note_learned_scene(path.stem, network.card)
        lines = {} if settings.front is None else find_digitised(path)
        if settings.front is not None and "margin" in lines:
            class_codes(network.card.legend, land_classes(settings.front), "land")
        digitised = open_all_digitised(lines, like=scene)
    inputs = {"image": path, "labels": label_path, "mask": scene_options.get("mask"), **lines}
    return Job(
        name=path.stem,
        scene=scene,
        labels=labels,
        inputs={role: Path(file).absolute() for role, file in inputs.items() if file is not None},
        scene_options=scene_options,
        warnings=tuple(heard),
        digitised=digitised,
    )
