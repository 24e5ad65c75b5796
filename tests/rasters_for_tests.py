"""Rasters written for tests, and a scheduler that raises when something computes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

NORTH_UP = Affine(10.0, 0.0, 330000.0, 0.0, -10.0, 5822040.0)


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
