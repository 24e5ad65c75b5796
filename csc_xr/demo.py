"""The demonstration: a generated fjord, classified like a user's image by the shipped network."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import xarray as xr
from shapely.geometry import LineString

from csc_xr.errors import ParameterError
from csc_xr.export import write_class_geotiff, write_scene_geotiff
from csc_xr.files import check_output_folder, replacing
from csc_xr.fronts.settings import FrontSettings
from csc_xr.legend import GLACIER
from csc_xr.networks.bundle import Network, open_network
from csc_xr.record import StageTimer
from csc_xr.runs.jobs import prepare_jobs
from csc_xr.runs.scene import RunResult, run_job
from csc_xr.synthetic import fjord
from csc_xr.vectors import write_lines
from csc_xr.workflow import ClassifySettings

BANDS = ("red", "green", "blue", "nir")
SCALE = 8192.0
TILE_SIZE = 50

TRAINING_SEEDS = tuple(range(100, 110))
"""Fjords that the shipped network was trained and validated on."""

NETWORK = Path(__file__).with_name("data") / "fjord_tiles.keras"
"""The tile network that ships with the package."""


def open_demo_network() -> Network:
    """Open the tile network that ships with the package.

    Trained by ``examples/train_demo_network.py`` on generated fjords: good for the demonstration
    and for tests, not for satellite images.

    Returns
    -------
    Network
        Tiles of 50 px, bands red, green, blue, nir, glacier legend.
    """
    return open_network(NETWORK)


def true_front(truth: xr.Dataset) -> geopandas.GeoDataFrame:
    """Give the exact calving front of a generated fjord.

    Parameters
    ----------
    truth : xarray.Dataset
        From :func:`csc_xr.synthetic.fjord`.

    Returns
    -------
    geopandas.GeoDataFrame
        One line, in the CRS of the scene.
    """
    line = LineString(np.column_stack([truth["front_x"], truth["front_y"]]))
    return geopandas.GeoDataFrame({"name": ["truth"]}, geometry=[line], crs=truth.rio.crs)


def run_demo(
    out: str | Path,
    *,
    seed: int = 7,
    shape: tuple[int, int] = (1200, 1600),
    patch_size: int = 7,
    timer: StageTimer | None = None,
    fit_progress: Callable[[int, int], None] | None = None,
) -> RunResult:
    """Generate a fjord, classify it with the shipped network, find its calving front, score both.

    Writes the scene as ``fjord_<seed>.tif``, its exact classes as ``SCLS_fjord_<seed>.tif``, its
    exact front as ``EDGE_fjord_<seed>.gpkg`` and the network as ``fjord_tiles.keras``, then runs
    over these files as over a user's: what :func:`csc_xr.runs.scene.run_job` writes lies beside
    them.

    Parameters
    ----------
    out : str or Path
        Folder for scene and results; created when absent, and what an earlier run of this seed
        left there is replaced.
    seed : int
        Which fjord; the network has seen none but those of ``TRAINING_SEEDS``.
    shape : tuple of int
        Rows and columns of the scene.
    patch_size : int
        Side of the patch phase two sees, odd, 1 to 15 pixels. In small patches open water and
        the water between icebergs look alike.
    timer : StageTimer, optional
        Takes the time of each stage.
    fit_progress : callable, optional
        Called with steps done and steps at most.

    Returns
    -------
    RunResult
        Paths, scores and the record; its outputs begin with the image, the labels and the tile
        network.

    Raises
    ------
    ParameterError
        When the network was trained on the fjord of this seed.
    OutputError
        When the folder cannot be written to.
    """
    if seed in TRAINING_SEEDS:
        raise ParameterError(
            f"The demo classifies a fjord its network has not seen, got seed {seed}, one of the "
            f"seeds it was trained on ({TRAINING_SEEDS[0]} to {TRAINING_SEEDS[-1]}). "
            "Take another seed."
        )
    timer = timer or StageTimer()
    folder = check_output_folder(out)
    image, model = folder / f"fjord_{seed}.tif", folder / NETWORK.name
    labels = folder / f"SCLS_{image.name}"
    with timer.stage("generate"):
        truth = fjord(shape, seed=seed)
        write_scene_geotiff(truth["scene"], image, overwrite=True)
        write_class_geotiff(truth["labels"], labels, legend=GLACIER)
        write_lines(true_front(truth), folder / f"EDGE_{image.stem}.gpkg", layer="front")
        with replacing(model) as partial:
            shutil.copyfile(NETWORK, partial)
    settings = ClassifySettings(patch_size=patch_size, front=FrontSettings())
    with timer.stage("open"):
        network = open_network(model)
        (job,) = prepare_jobs([image], network, folder, settings=settings, overwrite=True)
    result = run_job(
        job, network, folder,
        settings=settings, network_path=model, timer=timer, fit_progress=fit_progress,
    )  # fmt: skip
    inputs = {"image": image, "labels": labels, "tile network": model}
    return dataclasses.replace(result, outputs=inputs | result.outputs)
