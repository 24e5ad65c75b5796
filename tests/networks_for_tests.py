"""Small networks and scenes the tests share."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from csc_xr.legend import ClassLegend, LegendClass
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard

LEGEND = ClassLegend(
    "test",
    [
        LegendClass(1, "Water", "blue"),
        LegendClass(2, "Ice", "white"),
        LegendClass(3, "Rock", "grey"),
    ],
)
BANDS = ("red", "green", "blue")


def randomise(model: Any, seed: int) -> Any:
    """Give a model random weights and batch normalisation statistics, variances above 0."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        fan_in = np.prod(weight.shape[:-1]) if len(weight.shape) > 1 else 9
        values = random.normal(0, 1.2 / np.sqrt(fan_in), weight.shape)
        weight.assign(np.abs(values) + 0.1 if "variance" in weight.path else values)
    return model


def patch_network(patch_size: int, *, activation: str = "relu", seed: int = 0) -> Network:
    """Build a patch network with random weights."""
    from csc_xr.networks.builders import build_patch_network

    model = build_patch_network(
        patch_size=patch_size, n_bands=3, n_outputs=4, activation=activation, seed=seed
    )
    card = NetworkCard(kind="patch", bands=BANDS, scale=255.0, size=patch_size, legend=LEGEND)
    return Network(card, randomise(model, seed))


def tile_network(tile_size: int = 8, *, seed: int = 0) -> Network:
    """Build a tile network with random weights: one convolution and a dense layer."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((tile_size, tile_size, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    card = NetworkCard(kind="tile", bands=BANDS, scale=255.0, size=tile_size, legend=LEGEND)
    return Network(card, randomise(model, seed))


def brightness_network(tile_size: int = 8) -> Network:
    """Build a tile network that tells dark, middling and bright tiles apart."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((tile_size, tile_size, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    # logits a * mean - b, largest in turn for means near 0, 0.5 and 1
    slopes = np.array([0.0, 0.0, 60.0, 120.0]) / 3
    model.set_weights([np.tile(slopes, (3, 1)), np.array([-99.0, 0.0, -20.0, -65.0])])
    card = NetworkCard(kind="tile", bands=BANDS, scale=255.0, size=tile_size, legend=LEGEND)
    return Network(card, model)


def noise_scene(
    shape: tuple[int, int], *, chunks: Any = -1, seed: int = 0, holes: float = 0.0
) -> xr.DataArray:
    """Make a scene of uint8 noise; a share of its pixels is nodata (0)."""
    random = np.random.default_rng(seed)
    values = random.integers(1, 256, (3, *shape), dtype=np.uint8)
    values[:, random.random(shape) < holes] = 0
    scene = xr.DataArray(
        da.from_array(values, chunks=(3, *chunks) if isinstance(chunks, tuple) else chunks),
        dims=("band", "y", "x"),
        coords={"band": list(BANDS)},
        attrs={"scale": 255.0},
    )
    return scene.assign_attrs(_FillValue=0) if holes else scene


def striped_scene(shape: tuple[int, int], *, chunks: Any = -1, seed: int = 0) -> xr.DataArray:
    """Make a scene of three vertical stripes, dark, middling and bright, with noise."""
    random = np.random.default_rng(seed)
    level = np.repeat([30, 128, 225], -(-shape[1] // 3))[: shape[1]]
    values = np.clip(level + random.normal(0, 12, (3, *shape)), 1, 255).astype(np.uint8)
    return noise_scene(shape, chunks=chunks).copy(
        data=da.from_array(values, chunks=(3, *chunks) if isinstance(chunks, tuple) else chunks)
    )


def patch_by_patch(scene: xr.DataArray, network: Network) -> NDArray[np.float32]:
    """Run a patch network on every patch by itself: the plain version, the oracle.

    Shape (y, x, outputs); beyond the border the scene is mirrored, invalid pixels are 0.
    """
    values = scene.values.astype(np.float32) / np.float32(network.card.scale)
    size = network.card.size
    reach = size // 2
    padded = np.pad(values, ((0, 0), (reach, reach), (reach, reach)), mode="symmetric")
    patches = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    rows, columns = patches.shape[1:3]
    batch = patches.transpose(1, 2, 3, 4, 0).reshape(-1, size, size, values.shape[0])
    found = network.model.predict(batch, batch_size=4096, verbose=0)
    return found.reshape(rows, columns, -1)
