"""Accuracy on real, labelled imagery: four aerial images of the River Ste-Marguerite.

    python benchmarks/accuracy.py [--write] [--patch-sizes 1 3 5 7 15] [--seeds 0 1 2]

For every image, patch size and seed: weighted F1 and mean F1 over the labelled classes, of phase
one and of phase two, with the published recipe's figures beside them. Needs the development
imagery (``CSC_XR_SHARED``).
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import pandas as pd
from measure import DOCS, SHARED, markdown_table, replace_section

from csc_xr.accuracy.scores import classification_report
from csc_xr.errors import CscWarning
from csc_xr.labels import find_labels, open_labels
from csc_xr.networks.bundle import Network, open_network
from csc_xr.record import StageTimer
from csc_xr.runs.scores import count_confusions
from csc_xr.scene import open_scene
from csc_xr.workflow import ClassifySettings, apply_learned, find_tiles, learn_scene

IMAGES = ("31198", "31180", "31252", "31306")
REFERENCE = {  # weighted and mean F1 of phases one and two at k = 7, the research scripts
    "31198": (0.962, 0.760, 0.971, 0.784),
    "31180": (0.966, 0.957, 0.969, 0.961),
    "31252": (0.985, 0.984, 0.991, 0.990),
    "31306": (0.978, 0.976, 0.990, 0.990),
}


def both_scores(report: pd.DataFrame) -> tuple[float, float]:
    """Give weighted and mean F1 of a report."""
    f1 = report.set_index("Class")["F1_score"]
    return float(f1["Weighted_avg"]), float(f1["Macro_avg"])


def measure(network: Network, patch_sizes: list[int], seeds: list[int]) -> pd.DataFrame:
    """Run every combination; phase one once for each image."""
    rows = []
    for image in IMAGES:
        path = SHARED / "data" / "st_marguerite" / "validate" / f"StMarg_{image}.jpg"
        scene = open_scene(path)
        found = find_labels(path)
        if found is None:
            raise SystemExit(f"no labels beside {path}")
        labels = open_labels(found, like=scene, legend=network.card.legend)
        tiles = find_tiles(scene, network, settings=ClassifySettings(), timer=StageTimer())
        for patch_size in patch_sizes:
            for seed in seeds:
                settings = ClassifySettings(patch_size=patch_size, seed=seed)
                timer = StageTimer()
                learned = learn_scene(scene, tiles, network, settings=settings, timer=timer)
                start = time.perf_counter()
                result = apply_learned(scene, tiles, learned, settings=settings).compute()
                seconds = time.perf_counter() - start
                counted = count_confusions(result, labels, network.card.legend)
                before, after = (
                    both_scores(classification_report(counted[phase]))
                    for phase in ("tile_class", "pixel_class")
                )
                rows.append(
                    (image, patch_size, seed, *before, *after, timer.seconds["fit"], seconds)
                )
                print("  ".join(f"{value:.3f}" if isinstance(value, float) else str(value)
                                for value in rows[-1]), flush=True)  # fmt: skip
    columns = [
        "image",
        "k",
        "seed",
        "weighted_1",
        "mean_1",
        "weighted_2",
        "mean_2",
        "fit",
        "pixels",
    ]
    return pd.DataFrame(rows, columns=columns)


def table(results: pd.DataFrame) -> str:
    """Format the median over seeds, with the spread, beside the reference."""
    rows = []
    for (image, patch_size), group in results.groupby(["image", "k"], sort=False):
        reference = REFERENCE[str(image)]
        rows.append(
            [
                image,
                patch_size,
                f"{group.weighted_1.iloc[0]:.3f} / {group.mean_1.iloc[0]:.3f}",
                f"**{statistics.median(group.weighted_2):.3f} / "
                f"{statistics.median(group.mean_2):.3f}**",
                f"{group.weighted_2.min():.3f} / {group.mean_2.min():.3f}",
                f"{reference[2]:.3f} / {reference[3]:.3f}" if patch_size == 7 else "",
            ]
        )
    header = ["image", "k", "phase one", "phase two, median", "phase two, lowest", "reference"]
    return markdown_table(header, rows)


def main() -> None:
    """Measure, print, and with ``--write`` put the table into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/accuracy.md")
    parser.add_argument("--patch-sizes", type=int, nargs="+", default=[1, 3, 5, 7, 15])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", CscWarning)
    network = open_network(SHARED / "models" / "st_marguerite_vgg16_50_rgb.h5")
    results = measure(network, arguments.patch_sizes, arguments.seeds)
    text = table(results)
    print(text)
    if arguments.write:
        replace_section(DOCS / "accuracy.md", "st_marguerite", text)


if __name__ == "__main__":
    main()
