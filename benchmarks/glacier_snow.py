"""Bare ice against snow on Sentinel-2 chips of Swiss glaciers, no glacier on both sides.

    python benchmarks/glacier_snow.py [--write] [--quick] [--splits alternate shuffled]
        [--patch-size 7] [--mode-radius 4] [--tile-size 16] [--epochs 6]
        [--ablations] [--ablations-every 6]

Glaciers are divided into two halves; a small tile network learns on one half and classifies the
other, then the other way round, and pixels are pooled over all chips. Beside it, on the same
division: Otsu's threshold on near infrared, chip by chip, and boosted trees on the pixel
and the mean and standard deviation of the 9 x 9 pixels around it. Every result is held
against its chip: equal grids, and nodata in the same pixels, in memory and after a GeoTIFF.
With ``--write`` the tables and the figure go to ``docs``. Needs the development imagery
(``CSC_XR_SHARED``).
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from measure import DOCS, SHARED, markdown_table
from scipy.ndimage import uniform_filter
from skimage.filters import threshold_otsu
from sklearn.ensemble import HistGradientBoostingClassifier

from csc_xr.accuracy.confusion import confusion_matrix
from csc_xr.accuracy.scores import classification_report
from csc_xr.errors import CscWarning
from csc_xr.export import write_class_geotiff
from csc_xr.labels import open_labels
from csc_xr.legend import ClassLegend, LegendClass
from csc_xr.networks.bundle import Network
from csc_xr.scene import open_scene, scene_transform
from csc_xr.tiles.cutting import extract_tiles
from csc_xr.tiles.split import split_tiles
from csc_xr.training.phase_one.fit import fit_tile_network
from csc_xr.training.phase_one.settings import TrainSettings
from csc_xr.training.phase_two.fitting import FitSettings
from csc_xr.workflow import ClassifySettings, classify_scene

BANDS = ("blue", "nir_narrow", "nir")  # Sentinel-2 B02, B8A, B08
SCALE = 10000.0
OUTSIDE = 0  # in every band outside the glacier; the 65535 of the files' headers is in no pixel
LEGEND = ClassLegend(
    "ice and snow", [LegendClass(1, "Bare Ice", "#2f7fb5"), LegendClass(2, "Snow", "#f2f0e4")]
)
WINDOW = 9  # of the trees' statistics
TREE_PIXELS = 100_000
METHODS = ("Otsu on B08", "boosted trees", "phase one", "phase two")

Codes = npt.NDArray[np.uint8]
Classes = dict[str, Codes]  # by method


@dataclass(frozen=True, eq=False)
class Chip:
    """One image of one glacier with its labels, in memory."""

    path: Path
    glacier: str
    scene: xr.DataArray
    labels: xr.DataArray

    @property
    def name(self) -> str:
        """Glacier and date."""
        return self.path.stem.removeprefix("RGI50-11.")


@dataclass(frozen=True)
class PhaseOne:
    """How the tile network is trained."""

    tile_size: int = 16
    stride: int = 8
    purity: float = 0.3
    max_unlabelled: float = 0.7
    per_class: int = 6000
    epochs: int = 6
    brightness: float = 0.2


def open_chips(folder: Path) -> list[Chip]:
    """Open all chips, ordered by name."""
    chips = []
    for labelled in sorted(folder.glob("*_label.tif")):
        path = labelled.with_name(labelled.name.replace("_label", ""))
        scene = open_scene(path, band_names=BANDS, nodata=OUTSIDE, scale=SCALE).load()
        labels = open_labels(labelled, like=scene, legend=LEGEND).compute()
        chips.append(Chip(path, path.stem.split("_")[0], scene, labels))
    if not chips:
        raise SystemExit(f"no chips in {folder}; set CSC_XR_SHARED")
    return chips


def first_half(chips: Sequence[Chip], split: str) -> set[str]:
    """Glaciers of half A: every other one by name, or the first half of a shuffle (seed 0)."""
    glaciers = sorted({chip.glacier for chip in chips})
    if split == "alternate":
        return set(glaciers[::2])
    return set(np.random.default_rng(0).permutation(glaciers)[: len(glaciers) // 2].tolist())


def otsu_classes(chip: Chip) -> Codes:
    """Ice at or below Otsu's threshold of the chip's labelled near infrared, snow above."""
    infrared = chip.scene.sel(band="nir").values
    inside = chip.labels.values > 0
    dark = infrared <= threshold_otsu(infrared[inside])
    return np.where(inside, np.where(dark, 1, 2), 0).astype(np.uint8)


def tree_features(chip: Chip) -> npt.NDArray[np.float32]:
    """Each labelled pixel's bands, with mean and deviation of the valid pixels around it."""
    inside = chip.labels.values > 0
    bands = np.where(inside, chip.scene.values, 0).astype(np.float32) / np.float32(SCALE)
    share = np.maximum(uniform_filter(inside.astype(np.float32), WINDOW, mode="constant"), 1e-6)
    columns = [*bands]
    for band in bands:
        mean = uniform_filter(band, WINDOW, mode="constant") / share
        square = uniform_filter(band**2, WINDOW, mode="constant") / share
        columns += [mean, np.sqrt(np.maximum(square - mean**2, 0))]
    return np.stack([column[inside] for column in columns], axis=1)


def tree_classes(train: Sequence[Chip], test: Sequence[Chip]) -> list[Codes]:
    """Fit boosted trees to pixels of some chips, and classify others."""
    features = np.concatenate([tree_features(chip) for chip in train])
    codes = np.concatenate([chip.labels.values[chip.labels.values > 0] for chip in train])
    chosen = np.random.default_rng(0).permutation(len(codes))[:TREE_PIXELS]
    trees = HistGradientBoostingClassifier(random_state=0).fit(features[chosen], codes[chosen])
    found = []
    for chip in test:
        classes = np.zeros(chip.labels.shape, np.uint8)
        classes[chip.labels.values > 0] = trees.predict(tree_features(chip))
        found.append(classes)
    return found


def train_network(train: Sequence[Chip], how: PhaseOne) -> Network:
    """Fit the compact tile network to tiles of some chips."""
    tiles = extract_tiles(
        [chip.scene for chip in train],
        [chip.labels for chip in train],
        legend=LEGEND,
        bands=BANDS,
        tile_size=how.tile_size,
        stride=how.stride,
        purity=how.purity,
        max_unlabelled=how.max_unlabelled,
        per_class=how.per_class,
    )
    settings = TrainSettings(epochs=how.epochs, brightness=how.brightness, tilt=0, class_power=0)
    network, _ = fit_tile_network(tiles, split_tiles(tiles, by="none"), settings=settings)
    return network


def both_phases(chip: Chip, network: Network, settings: ClassifySettings) -> tuple[Codes, Codes]:
    """Classify a chip, and check the result against the file it came from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CscWarning)  # some chips show one class alone
        result = classify_scene(chip.scene, network, settings=settings).compute()
    check_result(chip, result)
    return result["tile_class"].values, result["pixel_class"].values


def check_result(chip: Chip, result: xr.Dataset) -> None:
    """Compare grid and nodata with the chip as rasterio reads it, to the bit and the pixel."""
    with rasterio.open(chip.path) as file:
        outside, transform, crs = (file.read() == OUTSIDE).all(axis=0), file.transform, file.crs
    for name in ("tile_class", "pixel_class"):
        raster = result[name]
        assert np.array_equal(raster.values == 0, outside), f"{chip.name}: nodata of {name}"
        assert scene_transform(raster) == transform, f"{chip.name}: transform of {name}"
        assert raster.rio.crs == crs, f"{chip.name}: CRS of {name}"
        for axis in ("x", "y"):
            same = raster[axis].values.tobytes() == chip.scene[axis].values.tobytes()
            assert same, f"{chip.name}: {axis} of {name}"
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "classes.tif"
            write_class_geotiff(raster, target, legend=LEGEND)
            with rasterio.open(target) as file:
                assert (file.transform, file.crs, file.nodata) == (transform, crs, 0), chip.name
                assert np.array_equal(file.read(1), raster.values), chip.name
                assert np.array_equal(file.dataset_mask() == 0, outside), chip.name


def classify_all(
    chips: Sequence[Chip],
    half: set[str],
    *,
    how: PhaseOne,
    settings: ClassifySettings,
    baselines: bool = True,
    tested: slice = slice(None),
    networks: Mapping[bool, Network] | None = None,
) -> tuple[dict[str, Classes], dict[bool, Network]]:
    """Classify the chips of each half by what the other half taught; classes by chip's name."""
    found: dict[str, Classes] = {}
    trained = dict(networks or {})
    for side in (True, False):
        train = [chip for chip in chips if (chip.glacier in half) == side]
        test = [chip for chip in chips[tested] if (chip.glacier in half) != side]
        assert not {chip.glacier for chip in train} & {chip.glacier for chip in test}
        trees: Sequence[Codes | None] = (
            tree_classes(train, test) if baselines else [None] * len(test)
        )
        if side not in trained:
            trained[side] = train_network(train, how)
        for chip, by_trees in zip(test, trees, strict=True):
            phases = both_phases(chip, trained[side], settings)
            found[chip.name] = dict(zip(METHODS[2:], phases, strict=True))
            if by_trees is not None:
                found[chip.name] |= {METHODS[0]: otsu_classes(chip), METHODS[1]: by_trees}
            print(chip.name, *(f"{v:.3f}" for v in chip_scores(chip, found[chip.name])), flush=True)
    return found, trained


def chip_scores(chip: Chip, classes: Classes) -> list[float]:
    """Accuracy of each method on one chip."""
    inside = chip.labels.values > 0
    return [
        float((classes[method] == chip.labels.values)[inside].mean())
        for method in METHODS
        if method in classes
    ]


def pooled(chips: Sequence[Chip], found: Mapping[str, Classes], method: str) -> dict[str, float]:
    """Accuracy and F1 over the pixels of all chips that were classified."""
    total: xr.DataArray | int = 0
    for chip in chips:
        if chip.name in found:
            classes = chip.labels.copy(data=found[chip.name][method])
            total = total + confusion_matrix(chip.labels, classes, legend=LEGEND)
    report = classification_report(total).set_index("Class")["F1_score"]  # type: ignore[arg-type]
    return {str(key): float(value) for key, value in report.items()}


def score_table(chips: Sequence[Chip], half: set[str], found: Mapping[str, Classes]) -> str:
    """Score every method: each direction, both pooled, and chip by chip."""
    rows = []
    for method in METHODS:
        both = pooled(chips, found, method)
        one_way = [
            pooled([c for c in chips if (c.glacier in half) != side], found, method)["Accuracy"]
            for side in (True, False)
        ]
        each = [
            chip_scores(c, {method: found[c.name][method]})[0] for c in chips if c.name in found
        ]
        values = [*one_way, both["Accuracy"], both["Bare Ice"], both["Snow"], np.median(each)]
        rows.append([method, *(f"{value:.3f}" for value in values), f"{min(each):.3f}"])
    return markdown_table(
        ["", "A to B", "B to A", "pooled", "F1 ice", "F1 snow", "median chip", "worst chip"], rows
    )


def ablation_table(
    chips: Sequence[Chip],
    half: set[str],
    how: PhaseOne,
    base: ClassifySettings,
    networks: Mapping[bool, Network],
    every: int,
) -> str:
    """Change one setting at a time, on every n-th chip."""
    variants: dict[str, tuple[PhaseOne, ClassifySettings]] = {
        "as above": (how, base),
        "patch size 3": (how, replace(base, patch_size=3)),
        "min_probability 0.8": (how, replace(base, min_probability=0.8)),
        "frequency_power 0.6": (how, replace(base, fit=FitSettings(frequency_power=0.6))),
        "mode_radius 12": (how, replace(base, mode_radius=12)),
        "tiles of 32 px": (replace(how, tile_size=32), base),
    }
    rows = []
    for name, (trained, settings) in variants.items():
        found, _ = classify_all(
            chips,
            half,
            how=trained,
            settings=settings,
            baselines=False,
            tested=slice(None, None, every),
            networks=networks if trained == how else None,
        )
        scores = [f"{pooled(chips, found, method)['Accuracy']:.3f}" for method in METHODS[2:]]
        rows.append([name, *scores])
        print(*rows[-1], flush=True)
    return markdown_table(["", "phase one", "phase two"], rows)


def draw(chips: Sequence[Chip], found: Mapping[str, Classes], path: Path) -> list[str]:
    """Draw a good, a median and a bad chip; return their names."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    order = sorted(chips, key=lambda chip: chip_scores(chip, found[chip.name])[-1])
    shown = [order[round(share * (len(order) - 1))] for share in (0.9, 0.5, 0.05)]
    colours = ListedColormap(["#ffffff", *(entry.colour for entry in LEGEND.classes)])
    figure, axes = plt.subplots(3, 5, figsize=(11, 7.2), dpi=90, layout="constrained")
    for row, kind, chip in zip(axes, ("good", "median", "bad"), shown, strict=True):
        inside = chip.labels.values > 0
        image = chip.scene.values[[2, 1, 0]].transpose(1, 2, 0) / np.percentile(
            chip.scene.values[:, inside], 98
        )
        row[0].imshow(np.where(inside[..., None], image.clip(0, 1), 1))
        row[0].set_title(f"{chip.name} ({kind})", fontsize=8)
        drawn = {"labels": chip.labels.values, **{m: found[chip.name][m] for m in METHODS}}
        del drawn["boosted trees"]
        for axis, (name, classes) in zip(row[1:], drawn.items(), strict=True):
            axis.imshow(classes, cmap=colours, vmin=0, vmax=2, interpolation="nearest")
            score = (classes == chip.labels.values)[inside].mean()
            axis.set_title(name if name == "labels" else f"{name} {score:.2f}", fontsize=8)
        for axis in row:
            axis.set_facecolor("#bbbbbb")
            axis.set_xticks([])
            axis.set_yticks([])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
    return [chip.name for chip in shown]


def page(sections: Mapping[str, str], shown: Sequence[str], facts: str, command: str) -> str:
    """Write the page of results."""
    results = "\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"""# Bare ice and snow on Swiss glaciers

Sentinel-2 chips (B02, B8A, B08, 10 m) with digitised ice and snow, from lgeibel/snowicesen.
Written by `benchmarks/glacier_snow.py`:

    {command}

{facts}

A glacier and all its dates lie on one side of a division. The network that classifies half B saw
half A alone, and the other way round; "pooled" counts every labelled pixel of all chips
classified. The baselines take the same division: Otsu's threshold, chip by chip, over
the labelled area (ice at or below it); and scikit-learn's boosted trees, fitted to {TREE_PIXELS}
pixels of the other half, on the three bands, their mean and their standard deviation over
{WINDOW} x {WINDOW} pixels.

The files name 65535 as nodata, but no pixel has it: outside the glacier every band is 0. They
are opened with `nodata=0`. For every chip and both phases the run checked that transform, CRS, x
and y equal the chip's to the bit, that the pixels outside the glacier and no others are 0, and
that both hold for the GeoTIFF of the result as rasterio reads it.

{results}
![Chips](images/glacier_snow.png)

From the top: {", ".join(shown)}, at the 90th, 50th and 5th percentile of phase two's accuracy.
Image as B08, B8A, B02; ice blue, snow pale. The labels are polygons and tell ice and snow
alone: rock, shadow and cloud inside a glacier count as one of them, and no method is right there
but by chance.
"""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "s2_glacier_snow")
    parser.add_argument("--write", action="store_true", help="write page and figure to docs")
    parser.add_argument("--quick", action="store_true", help="few chips, short training")
    parser.add_argument("--splits", nargs="+", choices=("alternate", "shuffled"))
    parser.add_argument("--patch-size", type=int, default=7)
    parser.add_argument("--mode-radius", type=int, default=4)
    parser.add_argument("--tile-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--ablations-every", type=int, default=6)
    options = parser.parse_args()
    options.splits = options.splits or ["alternate"]
    return options


def main() -> None:
    """Run, print and, where asked, write."""
    options = arguments()
    chips = open_chips(options.data)
    how = PhaseOne(tile_size=options.tile_size, epochs=options.epochs)
    if options.quick:
        how = replace(how, per_class=1000, epochs=2)
    settings = ClassifySettings(patch_size=options.patch_size, mode_radius=options.mode_radius)
    tested = slice(None, None, 12 if options.quick else None)
    glaciers = {chip.glacier for chip in chips}
    pixels = sum(int((chip.labels.values > 0).sum()) for chip in chips[tested])
    facts = (
        f"{len(chips)} chips of {len(glaciers)} glaciers; {len(chips[tested])} chips with {pixels} "
        f"labelled pixels classified. Phase one: compact network, {how}. Phase two: patch size "
        f"{settings.patch_size}, mode filter of radius {settings.mode_radius} px, else defaults."
    )
    sections: dict[str, str] = {}
    shown: list[str] = []
    for split in options.splits:
        half = first_half(chips, split)
        start = time.perf_counter()
        found, networks = classify_all(chips, half, how=how, settings=settings, tested=tested)
        table = score_table(chips, half, found)
        print(f"{split}: {time.perf_counter() - start:.0f} s\n{table}", flush=True)
        title = {"alternate": "Every other glacier by name", "shuffled": "Glaciers shuffled"}[split]
        sections[title] = table
        if options.write and not shown:
            seen = [chip for chip in chips if chip.name in found]
            shown = draw(seen, found, DOCS / "images" / "glacier_snow.png")
        if options.write:
            write_page(sections, shown, facts)
        if options.ablations and split == options.splits[0]:
            table = ablation_table(chips, half, how, settings, networks, options.ablations_every)
            sections[f"One setting changed, every {options.ablations_every}th chip"] = table
            print(table)
            if options.write:
                write_page(sections, shown, facts)


def write_page(sections: Mapping[str, str], shown: Sequence[str], facts: str) -> None:
    """Write what is known so far."""
    command = shlex.join(["python", "benchmarks/glacier_snow.py", *sys.argv[1:]])
    text = page(sections, shown, facts, command)
    (DOCS / "glacier_snow.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
