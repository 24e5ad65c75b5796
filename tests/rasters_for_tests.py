"""Rasters written for tests, and a scheduler that raises when something computes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from csc_xr.grid import place
from csc_xr.legend import RIVER

NORTH_UP = Affine(10.0, 0.0, 330000.0, 0.0, -10.0, 5822040.0)
POLAR = CRS.from_epsg(3413)
POLAR_GRID = Affine(10.1, 0, 500_000.3, 0, -10.1, 7_800_000.7)


def never(*_: Any, **__: Any) -> None:
    """Dask scheduler that computes nothing."""
    raise AssertionError("something was computed")


def write_raster(path: Path, pixels: np.ndarray, **profile: Any) -> Path:
    """Write (band, y, x) pixels; `fill` is a function that goes on writing to the file."""
    fill: Callable[[Any], None] = profile.pop("fill", lambda _: None)
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", count=count, height=height, width=width, dtype=pixels.dtype, **profile
        ) as dataset:
            fill(dataset)
            dataset.write(pixels)
    return path


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            yield dataset


def some_pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(7)
    return rng.integers(1, 120, shape).astype(dtype)


def make_classes(
    shape: tuple[int, int] = (70, 90),
    chunks: Any = 32,
    transform: Affine = POLAR_GRID,
    crs: CRS | None = POLAR,
    top: int = 5,
) -> xr.DataArray:
    """Codes of the river legend, lazy unless `chunks` is None."""
    values = np.random.default_rng(0).integers(0, top + 1, shape, dtype=np.uint8)
    data = values if chunks is None else da.from_array(values, chunks)
    raster = xr.DataArray(data, dims=("y", "x"), name="pixel_class")
    raster = place(raster.assign_attrs(RIVER.flag_attributes()), transform, crs)
    return raster.rio.write_nodata(np.uint8(0))


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(entry.name for entry in folder.iterdir())
