"""Prediction speed as a share of the machine's float32 matrix-multiply rate.

    python benchmarks/speed.py [--write]

The yardstick is arithmetic: the multiply-adds of the network's layers as they were built (batch
normalisation folded, nothing composed), times two, over the time taken, over the rate of plain
matrix multiplication measured just before and after. Composing linear convolutions saves
multiplications that the yardstick still counts, so a linear network can exceed 100 %.
"""

from __future__ import annotations

import argparse

import dask.array as da
import numpy as np
import xarray as xr
from measure import DOCS, THREADS, best_ratio, markdown_table, replace_section

from csc_xr.inference import classify_pixels, predict_tiles
from csc_xr.legend import RIVER
from csc_xr.networks.builders import build_patch_network, build_tile_network
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard
from csc_xr.networks.convolution import convolutional_form

SIDE = {1: 2048, 3: 2048, 5: 1024, 7: 1536, 15: 1024}


def noise(side: int) -> xr.DataArray:
    """Make a scene of noise, three bands of 8 bits, in memory."""
    values = np.random.default_rng(0).integers(1, 256, (3, side, side), dtype=np.uint8)
    return xr.DataArray(
        da.from_array(values, chunks=(3, 1024, 1024)),
        dims=("band", "y", "x"),
        coords={"band": ["red", "green", "blue"]},
    )


def pixel_row(patch_size: int, activation: str, repeats: int) -> list[object]:
    """Measure phase two's prediction."""
    model = build_patch_network(
        patch_size=patch_size, n_bands=3, n_outputs=4, activation=activation, seed=0
    )
    card = NetworkCard(
        kind="patch", bands=("red", "green", "blue"), size=patch_size, legend=RIVER,
        codes=(0, 1, 2, 3),
    )  # fmt: skip
    network = Network(card, model)
    scene = noise(SIDE[patch_size])
    lazy = classify_pixels(scene, network)["pixel_class"]
    form = convolutional_form(model, patch_size=patch_size)
    pixels = scene.sizes["y"] * scene.sizes["x"]
    operations = 2.0 * form.layer_multiplications * pixels
    seconds, share, best = best_ratio(lazy.compute, operations, repeats)
    return [
        f"pixels, k = {patch_size}, {activation}",
        f"{form.layer_multiplications:,}",
        f"{seconds / pixels * 1e6:.3f} µs a pixel",
        f"{share:.0%}",
        f"{best:.0%}",
    ]


def tile_row(repeats: int) -> list[object]:
    """Measure phase one's prediction with the published network."""
    model = build_tile_network("vgg16", tile_size=50, n_bands=3, n_outputs=4, seed=0)
    card = NetworkCard(
        kind="tile", bands=("red", "green", "blue"), size=50, legend=RIVER, codes=(0, 1, 2, 3)
    )
    network = Network(card, model)
    scene = noise(2000)
    lazy = predict_tiles(scene, network)["tile_class"]
    multiplications = 0
    for layer in model.layers:
        weights = layer.get_weights()
        if weights:
            places = int(np.prod(layer.output.shape[1:3])) if weights[0].ndim == 4 else 1
            multiplications += int(weights[0].size) * places
    seconds, share, best = best_ratio(lazy.compute, 2.0 * multiplications * 1600, repeats)
    return [
        "tiles, VGG16, 50 px",
        f"{multiplications:,}",
        f"{seconds / 1600 * 1e3:.2f} ms a tile",
        f"{share:.0%}",
        f"{best:.0%}",
    ]


def main() -> None:
    """Measure, print, and with ``--write`` put the table into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    networks = [(size, "relu") for size in SIDE] + [(7, "linear"), (15, "linear")]
    rows = [tile_row(arguments.repeats)]
    rows += [pixel_row(size, activation, arguments.repeats) for size, activation in networks]
    header = ["what", "multiply-adds", "time", "share of the rate (median)", "best"]
    table = markdown_table(header, rows)
    print(f"{THREADS} threads\n\n{table}")
    if arguments.write:
        replace_section(DOCS / "benchmarks.md", "speed", table)


if __name__ == "__main__":
    main()
