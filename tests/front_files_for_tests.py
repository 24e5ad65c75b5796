"""Images and class rasters of a small fjord as files, and a network that knows its classes."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import xarray as xr
import zarr
from fronts_for_tests import ICE, NORTH_UP, QUICK, ROCK, SNOW_ON_ROCK, WATER, fjord_codes, raster
from networks_for_tests import BANDS
from rasters_for_tests import write_raster

from csc_xr.export import write_class_geotiff
from csc_xr.fronts.extraction import Front, extract_front
from csc_xr.fronts.settings import FrontSettings
from csc_xr.legend import GLACIER, ClassLegend
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard
from csc_xr.runs.stack_store import make_store
from csc_xr.stack import validate_stack
from csc_xr.vectors import write_lines

NAME = "gl_20170821"
CODES = fjord_codes((100, 120))
WORDS = tuple(
    word
    for name, value in asdict(QUICK).items()
    if value != getattr(FrontSettings(), name)
    for word in ("--front-setting", f"{name}={value}")
)
"""The settings `QUICK` on the command line."""
PLACE = {"driver": "GTiff", "transform": NORTH_UP, "crs": "EPSG:32624"}
_LEVELS = {WATER: 30, ICE: 128, SNOW_ON_ROCK: 225, ROCK: 225}


def glacier_network(legend: ClassLegend = GLACIER) -> Network:
    """Build a tile network of 5 px: dark is open water, middling is ice, bright is bedrock."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((5, 5, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(8, activation="softmax"),
        ]
    )
    slopes, starts = np.zeros(8), np.full(8, -99.0)
    slopes[[WATER, ICE, ROCK]] = [0.0, 60.0, 120.0]
    starts[[WATER, ICE, ROCK]] = [0.0, -20.0, -65.0]
    model.set_weights([np.tile(slopes / 3, (3, 1)), starts])
    card = NetworkCard(kind="tile", bands=BANDS, scale=255.0, size=5, legend=legend)
    return Network(card, model)


def pixels_of(codes: np.ndarray = CODES) -> np.ndarray:
    """Give an image of classes, shape (3, y, x), uint8."""
    levels = np.zeros(9)
    levels[list(_LEVELS)] = list(_LEVELS.values())
    noise = np.random.default_rng(0).normal(0, 6, (3, *codes.shape))
    return np.clip(levels[codes] + noise, 1, 255).astype(np.uint8)


def write_fjord(folder: Path, name: str = NAME, codes: np.ndarray = CODES, **profile: Any) -> Path:
    """Write an image of classes."""
    return write_raster(folder / f"{name}.tif", pixels_of(codes), **{**PLACE, **profile})


def true_front(codes: np.ndarray = CODES) -> Front:
    """Find the front in the true classes."""
    return _front_in(codes.tobytes(), codes.shape)


@cache
def _front_in(codes: bytes, shape: tuple[int, int]) -> Front:
    classes = np.frombuffer(codes, np.uint8).reshape(shape)
    return extract_front(raster(classes), GLACIER, settings=QUICK)


def write_edge(folder: Path, name: str = NAME, pixels: np.ndarray | None = None) -> Path:
    """Write the true front as the raster a person would have drawn."""
    drawn = true_front().raster.to_numpy() if pixels is None else pixels
    return write_raster(folder / f"EDGE_{name}.tif", drawn[None], **PLACE)


def write_shapes(path: Path, shapes: geopandas.GeoSeries) -> Path:
    """Write lines or a polygon as a file of one layer."""
    write_lines(geopandas.GeoDataFrame(geometry=shapes.reset_index(drop=True)), path)
    return path


def write_classes(path: Path, codes: np.ndarray = CODES) -> Path:
    """Write a class raster."""
    write_class_geotiff(raster(codes), path, legend=GLACIER)
    return path


def retreated(columns: int) -> np.ndarray:
    """Give the classes after the front went back, by whole columns."""
    codes = CODES.copy()
    for row, classes in enumerate(codes):
        ice = np.flatnonzero(classes == ICE)
        if len(ice):
            codes[row, ice[-1] - columns + 1 : ice[-1] + 1] = WATER
    return codes


def write_dated(folder: Path) -> list[Path]:
    """Write classes of three years; the front goes back 4 columns of 10 m a year."""
    return [
        write_classes(folder / f"gl_{2017 + year}0821.tif", retreated(4 * year))
        for year in range(3)
    ]


def write_stack(path: Path, scenes: list[np.ndarray], *, lead: str, names: list[str]) -> Path:
    """Write the store that the classification of a stack leaves; with time a year apart."""
    images = [
        raster(codes).expand_dims(band=list(BANDS)).transpose("band", "y", "x") for codes in scenes
    ]
    stack = xr.concat(images, dim=lead, combine_attrs="override")
    stack = stack.assign_coords(scene=(lead, np.array(names)))
    if lead == "time":
        years = np.array(["2017-08-21", "2018-08-21", "2019-08-21"], "datetime64[ns]")
        stack = stack.assign_coords(time=years[: len(scenes)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_store(validate_stack(stack), path, outputs=(), legend=GLACIER)
    group = zarr.open_group(path, mode="r+")
    group["pixel_class"][:] = np.stack(scenes)
    return path


def layers_of(path: Path) -> list[str]:
    """List the layers of a file that hold geometries."""
    return [name for name, kind in pyogrio.list_layers(path) if kind is not None]


def rows_of(path: Path, layer: str = "fronts") -> geopandas.GeoDataFrame:
    """Read a layer."""
    return geopandas.read_file(path, layer=layer)
