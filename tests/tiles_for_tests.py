"""Labelled tiles that tests of training share."""

from __future__ import annotations

from typing import Any

import dask.array as da
import keras
import numpy as np
import xarray as xr
from networks_for_tests import BANDS, LEGEND

from csc_xr.legend import ClassLegend
from csc_xr.networks.bundle import Network
from csc_xr.tiles.layout import tile_dataset
from csc_xr.tiles.split import TileSplit, split_tiles
from csc_xr.training.phase_one.fit import fit_tile_network
from csc_xr.training.phase_one.report import TrainingReport
from csc_xr.training.phase_one.settings import TrainSettings


def coloured_tiles(
    n: int = 20,
    *,
    size: int = 16,
    seed: int = 0,
    chunk: int = 7,
    legend: ClassLegend = LEGEND,
    codes: tuple[int, int, int] = (1, 2, 3),
) -> xr.Dataset:
    """Make noisy tiles of three brightnesses in three scenes; the third class has few."""
    random = np.random.default_rng(seed)
    which = np.repeat([0, 1, 2], [n, n, n // 4])
    level = np.array([60, 120, 200])[which][:, None, None, None]
    values = np.clip(level + random.normal(0, 15, (len(which), 3, size, size)), 1, 255)
    order = np.arange(len(which))
    return tile_dataset(
        da.from_array(values.astype(np.uint8), chunks=(chunk, 3, size, size)),
        code=np.array(codes)[which],
        scene=order % 3,
        row=order * size,
        column=order * 0,
        bands=BANDS,
        scale=255.0,
        legend=legend,
        scenes=[{"name": f"scene {number}", "source": ""} for number in range(3)],
        origin={"stride": size},
    )


def quick(**changed: Any) -> TrainSettings:
    return TrainSettings(**({"epochs": 2, "batch_size": 16, "brightness": 0, "tilt": 0} | changed))


def held(tiles: xr.Dataset, scene: int = 1) -> TileSplit:
    return split_tiles(tiles, scenes=[f"scene {scene}"])


def small_model() -> keras.Model:
    """Build a model whose random layers have a state that must be kept too."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.GlorotUniform(1)),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(0.4, seed=2),
            keras.layers.Dense(
                4, activation="softmax", kernel_initializer=keras.initializers.GlorotUniform(3)
            ),
        ]
    )


def fit_small(
    tiles: xr.Dataset, split: TileSplit, *, settings: TrainSettings, seed: int = 0
) -> tuple[Network, TrainingReport]:
    """Fit the small model, in a fraction of the time that the smallest architecture takes."""
    return fit_tile_network(tiles, split, network=small_model(), settings=settings, seed=seed)
