"""Training phase one on real imagery, as a user does: two commands, then classify.

    python benchmarks/phase_one.py [--write] [--seeds 0 1 2] [--skip-splits]

Cuts tiles from the ten training images of the River Ste-Marguerite and trains the compact network
on them, with the commands that stand in docs/training.md; scores phase one and phase two (k = 7) on
the four validation images, which no training saw. Then shows what the way of splitting tiles
makes of the validation accuracy. Needs the development imagery (``CSC_XR_SHARED``).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from accuracy import IMAGES, measure
from measure import DOCS, SHARED, markdown_table, replace_section

from csc_xr.errors import CscWarning
from csc_xr.labels import find_labels, open_labels
from csc_xr.legend import RIVER
from csc_xr.networks.bundle import Network, open_network
from csc_xr.scene import find_images, open_scene
from csc_xr.tiles.cutting import extract_tiles
from csc_xr.tiles.sets import add_copies, thin_tiles
from csc_xr.tiles.split import TileSplit, split_tiles
from csc_xr.tiles.store import open_tiles
from csc_xr.training.phase_one.fit import fit_tile_network
from csc_xr.training.phase_one.settings import TrainSettings

IMAGERY = SHARED / "data" / "st_marguerite"
TRAIN = ("--epochs", "4", "--validation", "none")
SPLIT_TILES = 1000  # of a class, for the comparison of splits
SPLIT_EPOCHS = 12


def command(*words: object) -> float:
    """Run the command line; give its wall-clock seconds."""
    start = time.perf_counter()
    subprocess.run([Path(sys.executable).with_name("csc-xr"), *map(str, words)], check=True)
    return time.perf_counter() - start


def train_and_score(folder: Path, seeds: list[int]) -> tuple[str, str]:
    """Cut, train with every seed, classify with every network; give tables of times and scores."""
    store = folder / "tiles.zarr"
    cut = command("tiles", IMAGERY / "train", "--legend", "river", "--out", store)
    times, scores = [], []
    for seed in seeds:
        out = folder / f"river_{seed}.keras"
        took = command("train", store, "--out", out, "--seed", seed, *TRAIN)
        network = open_network(out)
        times.append([seed, f"{cut:.0f} s", f"{took:.0f} s", f"{cut + took:.0f} s"])
        scores.append(measure(network, [7], [0, 1, 2]).assign(training=seed))
    rows = []
    for (seed, image), group in pd.concat(scores).groupby(["training", "image"], sort=False):
        one = group.iloc[0]
        rows.append(
            [
                seed,
                image,
                f"{one.weighted_1:.3f} / {one.mean_1:.3f}",
                f"{statistics.median(group.weighted_2):.3f} / "
                f"{statistics.median(group.mean_2):.3f}",
                f"{group.weighted_2.min():.3f} / {group.mean_2.min():.3f}",
            ]
        )
    for seed, results in zip(seeds, scores, strict=True):
        first = results.groupby("image").first()
        rows.append(
            [seed, f"median of {len(IMAGES)}",
             f"**{first.weighted_1.median():.3f} / {first.mean_1.median():.3f}**", "", ""]
        )  # fmt: skip
    return (
        markdown_table(["seed", "tiles", "train", "together"], times),
        markdown_table(["seed", "image", "phase one", "phase two, median", "lowest"], rows),
    )


def unseen_tiles() -> xr.Dataset:
    """Cut tiles from the validation images, as from the training images."""
    paths = find_images(IMAGERY / "validate")
    scenes = [open_scene(path) for path in paths]
    labels = []
    for path, scene in zip(paths, scenes, strict=True):
        found = find_labels(path)
        if found is None:
            raise SystemExit(f"no labels beside {path}")
        labels.append(open_labels(found, like=scene, legend=RIVER))
    return extract_tiles(scenes, labels, legend=RIVER, tile_size=50, stride=25).compute()


def accuracy_on(network: Network, tiles: xr.Dataset) -> float:
    """Share of tiles that a network classes right."""
    right = 0
    for start in range(0, tiles.sizes["tile"], 256):
        part = tiles.isel(tile=slice(start, start + 256))
        values = part["pixels"].values.transpose(0, 2, 3, 1).astype(np.float32) / 255
        found = np.asarray(network.model.predict_on_batch(values)).argmax(axis=1)
        right += int((found == part["code"].values).sum())
    return right / tiles.sizes["tile"]


def random_split(tiles: xr.Dataset, seed: int) -> TileSplit:
    """Split as one should not: any fifth of the tiles."""
    order = np.random.default_rng(seed).permutation(tiles.sizes["tile"])
    fifth = len(order) // 5
    return TileSplit(np.sort(order[fifth:]), np.sort(order[:fifth]), {"by": "chance"})


def compare_splits(folder: Path, seeds: list[int]) -> str:
    """Claimed accuracy under each split, beside that on images no training saw."""
    store = open_tiles(folder / "tiles.zarr")
    tiles = thin_tiles(store, per_class=SPLIT_TILES).compute()
    copied = add_copies(thin_tiles(store, per_class=SPLIT_TILES // 4), noise=10).compute()
    unseen = unseen_tiles()
    ways: dict[str, tuple[xr.Dataset, Any]] = {
        "any fifth of the tiles": (tiles, random_split),
        "any fifth of tiles and their turned copies": (copied, random_split),
        "blocks of 500 px": (tiles, lambda t, seed: split_tiles(t, by="block", seed=seed)),
        "whole scenes": (tiles, lambda t, seed: split_tiles(t, by="scene", seed=seed)),
    }
    rows = []
    for name, (given, split) in ways.items():
        claimed, true = [], []
        for seed in seeds:
            network, report = fit_tile_network(
                given, split(given, seed), settings=TrainSettings(epochs=SPLIT_EPOCHS), seed=seed
            )
            claimed.append(report.validation_accuracy or 0.0)
            true.append(accuracy_on(network, unseen))
            print(f"{name}  {seed}  {claimed[-1]:.4f}  {true[-1]:.4f}", flush=True)
        rows.append(
            [name]
            + [f"{statistics.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in (claimed, true)]
        )
    return markdown_table(
        ["held out", "validation accuracy", "accuracy on images never seen"], rows
    )


def main() -> None:
    """Measure, print, and with ``--write`` put the tables into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/training.md")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--skip-splits", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", CscWarning)
    with tempfile.TemporaryDirectory() as name:
        times, scores = train_and_score(Path(name), arguments.seeds)
        sections = {"training_times": times, "training_scores": scores}
        if not arguments.skip_splits:
            sections["splits"] = compare_splits(Path(name), arguments.seeds)
    for section, text in sections.items():
        print(text)
        if arguments.write:
            replace_section(DOCS / "training.md", section, text)


if __name__ == "__main__":
    main()
