"""``csc-xr classify`` on a generated scene of a whole Sentinel-2 tile, within a memory limit.

    python benchmarks/large_scene.py [--write] [--folder FOLDER]

Each row is a run of the command from start to end: a generated scene of four bands of 16 bits,
phase one by a VGG16 of tiles of 50 pixels, both phases, Zarr, GeoTIFF, figure and record. Resident
memory is that of the process and all its children together, sampled ten times a second. The share
of the matrix-multiply rate is that of both predictions together, with reading and writing: the
multiply-adds of the layers, times two, over the seconds of the stages "tiles" and "pixels", over
the rate measured just before and after the run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from measure import BANDS, DOCS, markdown_table, matmul_rate, replace_section, write_fjord

from csc_xr.legend import GLACIER
from csc_xr.networks.builders import build_patch_network, build_tile_network
from csc_xr.networks.bundle import Network, open_network, save_network
from csc_xr.networks.card import NetworkCard
from csc_xr.networks.convolution import convolutional_form
from csc_xr.synthetic import fjord
from csc_xr.tiles.cutting import extract_tiles

TILE = 50
RUNS = (
    (10980, 15, "4GB"),
    (10980, 7, "4GB"),
    (10980, 3, "4GB"),
    (3000, 15, "4GB"),
    (10980, 15, "2GB"),
)


@dataclass(frozen=True)
class Run:
    """What one run took."""

    side: int
    patch_size: int
    limit: str
    wall: float
    stages: dict[str, float]
    peak: int
    plan: str
    share: float


def write_vgg16(path: Path) -> Path:
    """Write a VGG16 whose last layers tell the classes of generated fjords apart.

    Its convolutions are random: what is measured is what a VGG16 costs, not how good it is.
    """
    if path.exists():
        return path
    import keras

    scenes = [fjord((900, 1200), seed=seed) for seed in (100, 101, 102)]
    tiles = extract_tiles(
        [scene["scene"] for scene in scenes],
        [scene["labels"] for scene in scenes],
        legend=GLACIER, bands=BANDS, tile_size=TILE, stride=TILE, purity=0.7, per_class=60,
    )  # fmt: skip
    pixels = tiles["pixels"].values.transpose(0, 2, 3, 1).astype("float32") / 8192
    model = build_tile_network("vgg16", tile_size=TILE, n_bands=4, n_outputs=8, seed=0)
    names = [layer.name for layer in model.layers]
    cut = names.index("flatten")
    convolutions = keras.Model(model.inputs[0], model.layers[cut].output)
    found = np.asarray(convolutions.predict(pixels, batch_size=32, verbose=0))
    last = model.get_layer("block5_conv3")
    last.set_weights([values / found.std() for values in last.get_weights()])
    inputs = outputs = keras.Input(found.shape[1:])
    for layer in model.layers[cut + 1 :]:
        outputs = layer(outputs)
    top = keras.Model(inputs, outputs)
    top.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    top.fit(found / found.std(), tiles["code"].values, epochs=120, batch_size=64, verbose=0)
    card = NetworkCard(
        kind="tile", bands=BANDS, size=TILE, legend=GLACIER, scale=8192.0, codes=tuple(range(8))
    )
    save_network(Network(card, model), path)
    return path


def operations(side: int, patch_size: int, model: Path) -> float:
    """Count the arithmetic of both predictions over a scene."""
    tile = 0
    for layer in open_network(model).model.layers:
        weights = layer.get_weights()
        if weights:
            places = int(np.prod(layer.output.shape[1:3])) if weights[0].ndim == 4 else 1
            tile += int(weights[0].size) * places
    patch = build_patch_network(
        patch_size=patch_size, n_bands=4, n_outputs=8, activation="relu", seed=0
    )
    pixel = convolutional_form(patch, patch_size=patch_size).layer_multiplications
    return 2.0 * (tile * (-(-side // TILE)) ** 2 + pixel * side**2)


def run(side: int, patch_size: int, limit: str, folder: Path) -> Run:
    """Classify a scene in a process of its own and watch its memory."""
    scene, model = write_fjord(folder, side), write_vgg16(folder / "vgg16.keras")
    work = operations(side, patch_size, model)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [
            str(Path(sys.executable).with_name("csc-xr")), "classify", str(scene),
            "--model", str(model), "--patch-size", str(patch_size), "--memory-limit", limit,
            "--out", out,
        ]  # fmt: skip
        before, start = matmul_rate(2.0), time.perf_counter()
        with (Path(out) / "log").open("w") as log:
            process = psutil.Popen(command, stdout=log, stderr=log)
            peak = watch(process)
        wall = time.perf_counter() - start
        rate = (before + matmul_rate(2.0)) / 2
        said = (Path(out) / "log").read_text()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{said}")
        record = json.loads((Path(out) / f"{scene.stem}_run.json").read_text())
        (folder / f"{scene.stem}_k{patch_size}_{limit}_run.json").write_text(json.dumps(record))
    stages = record["stage_seconds"]
    share = work / (stages["tiles"] + stages["pixels"]) / rate
    plan = next(line for line in said.splitlines() if line.startswith("plan: "))
    return Run(side, patch_size, limit, wall, stages, peak, plan.removeprefix("plan: "), share)


def watch(process: psutil.Popen) -> int:
    """Wait for a process; give the most memory that it and its children held together."""
    peak = 0
    while process.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(one.memory_info().rss for one in family))
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.1)
    return peak


def table(runs: list[Run]) -> str:
    """Format the runs as a table, and the plan of each below it."""
    stages = ("tiles", "samples", "fit", "pixels", "export", "figure")
    header = ["scene", "k", "limit", "whole run, s", *stages, "share of the rate", "peak memory"]
    rows = [
        [
            f"{one.side} x {one.side}", one.patch_size, one.limit, f"**{one.wall:.0f}**",
            *(f"{one.stages[name]:.1f}" for name in stages),
            f"**{one.share:.0%}**", f"**{one.peak / 1e9:.2f} GB**",
        ]
        for one in runs
    ]  # fmt: skip
    plans = "\n".join(
        f"- {one.side}, k = {one.patch_size}, {one.limit}: {one.plan}" for one in runs
    )
    return f"{markdown_table(header, rows)}\nPlanned before each run:\n\n{plans}\n"


def main() -> None:
    """Measure, print, and with ``--write`` put the table into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    parser.add_argument("--folder", type=Path, help="keeps scenes, network and run records")
    parser.add_argument("--only", type=int, nargs="+", help="rows to run, from 0")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        chosen = RUNS if arguments.only is None else [RUNS[row] for row in arguments.only]
        runs = []
        for side, patch_size, limit in chosen:
            runs.append(run(side, patch_size, limit, folder))
            print(table(runs[-1:]), flush=True)
    if arguments.write:
        replace_section(DOCS / "benchmarks.md", "large_scene", table(runs))


if __name__ == "__main__":
    main()
