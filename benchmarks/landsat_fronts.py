"""Calving fronts of two glaciers on Landsat chips, no glacier on both sides.

    python benchmarks/landsat_fronts.py [--write] [--quick 10] [--by glacier date] [--variants]

Classes come from strips on both sides of digitised fronts. A small tile network learns them on one
glacier, and CSC and the front are run on every chip of the other, then the other way round; and,
easier, on some dates of both glaciers and the others. Distances are from every digitised
pixel to the front found. With ``--write`` tables and pictures go to ``docs``. Needs the development
imagery (``CSC_XR_SHARED``).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import geopandas
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import rasterio
import shapely
import xarray as xr
from measure import DOCS, SHARED, markdown_table, replace_section
from rasterio.errors import NotGeoreferencedWarning
from scipy import ndimage
from skimage.graph import MCP_Geometric

from csc_xr.errors import CscWarning
from csc_xr.fronts.deviation import Deviation, front_error
from csc_xr.fronts.digitised import digitised_points
from csc_xr.fronts.extraction import Front, extract_front
from csc_xr.fronts.settings import FrontSettings
from csc_xr.legend import ClassLegend, LegendClass
from csc_xr.metres import with_pixel_size
from csc_xr.networks.bundle import Network
from csc_xr.scene import open_scene, validate_scene
from csc_xr.tiles.cutting import extract_tiles
from csc_xr.tiles.split import split_tiles
from csc_xr.training.phase_one.fit import fit_tile_network
from csc_xr.training.phase_one.settings import TrainSettings
from csc_xr.workflow import ClassifySettings, classify_scene

PIXEL_M = 49.0
SEA, GLACIER, OTHER = 1, 2, 3
LEGEND = ClassLegend(
    "front", [LegendClass(SEA, "Sea", "#2f7fb5"), LegendClass(GLACIER, "Glacier", "#f2f0e4")]
)
SHOWN = ClassLegend("front and other", [*LEGEND.classes, LegendClass(OTHER, "Other", "#8a7a66")])
GLACIERS = {"011": "Jakobshavn", "006": "Sverdrup", "007": "Sverdrup"}  # by WRS row
MIDDLE = 20

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Method:
    """All that decides a result."""

    strip: int = 32  # px on both sides of the front
    above: int = 48  # px straight above and below it
    below: int = 120
    windows: tuple[float, ...] = (40.0,)  # of the moving normalisation: standard deviation, px
    tile_size: int = 16
    stride: int = 4
    purity: float = 0.9
    max_unlabelled: float = 0.1
    per_class: int = 8000
    epochs: int = 4
    brightness: float = 0.2
    seed: int = 0
    classify: ClassifySettings = field(default_factory=lambda: ClassifySettings(mode_radius=6))
    front: FrontSettings = field(
        default_factory=lambda: FrontSettings(glacier=("Glacier",), ocean=("Sea",))
    )
    attempts: int = 8
    upright: bool = True  # what lies above the fjord is not its glacier

    @property
    def training(self) -> tuple[object, ...]:
        """What decides the tile network."""
        return (
            self.strip, self.above, self.below, self.windows, self.tile_size, self.stride,
            self.purity, self.max_unlabelled, self.per_class, self.epochs, self.brightness,
            self.seed,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Chip:
    """One image of a glacier's front, with the front that was digitised."""

    path: Path

    @property
    def glacier(self) -> str:
        """Its glacier, by the row of the satellite's path."""
        return GLACIERS[self.path.stem.split("_")[2][3:]]

    @property
    def date(self) -> str:
        """Year, month and day."""
        return self.path.stem.split("_")[3]

    @property
    def name(self) -> str:
        """Glacier and date."""
        return f"{self.glacier} {self.date[:4]}-{self.date[4:6]}-{self.date[6:]}"

    @cached_property
    def image(self) -> xr.DataArray:
        """Its pixels with a place in metres, dims (band, y, x), uint8; all colours are equal."""
        scene = open_scene(self.path, bands=[1]).reset_coords(drop=True)
        return with_pixel_size(scene, PIXEL_M).load()

    @cached_property
    def front(self) -> Mask:
        """The digitised front, one pixel wide."""
        name = self.path.name.replace("Subset", "Front")
        with rasterio.open(self.path.parents[1] / "labels_1px" / name) as file:
            return np.asarray(file.read(1) == 0)

    def raster(self, values: npt.NDArray[np.uint8]) -> xr.DataArray:
        """Place a raster on the chip's grid."""
        return self.image.isel(band=0, drop=True).copy(data=values).drop_attrs(deep=False)


@dataclass(frozen=True, eq=False)
class Result:
    """What was found on one chip."""

    chip: Chip
    tile_class: Codes
    pixel_class: Codes
    front: Front
    deviation: Deviation

    @property
    def mean_px(self) -> float:
        """Mean distance from the digitised pixels to the front found."""
        return self.deviation.mean_m / PIXEL_M


def open_chips(folder: Path) -> list[Chip]:
    """List the chips, by file name."""
    chips = [Chip(path) for path in sorted((folder / "images").glob("*.png"))]
    if not chips:
        raise SystemExit(f"no chips in {folder}; set CSC_XR_SHARED")
    return chips


def make_scene(chip: Chip, method: Method, *, mirrored: bool = False) -> xr.DataArray:
    """Make a scene of the chip's brightness relative to what surrounds each pixel.

    A moving window, not the statistics of the chip: the same arithmetic at every pixel.
    """
    values = chip.image.values[0].astype(np.float32)
    bands = np.stack([relative(values, sigma) for sigma in method.windows])
    scene = chip.image.isel(band=[0] * len(bands)).copy(data=bands[:, :, :: -1 if mirrored else 1])
    names = [f"relative_{sigma:g}" for sigma in method.windows]
    scene = scene.assign_coords(band=names).rename(f"{chip.name} mirrored" * mirrored or chip.name)
    return validate_scene(scene.assign_attrs(scale=1.0).chunk())


def relative(values: Floats, sigma: float) -> Floats:
    """Half of what a pixel differs from its surroundings, in their standard deviations."""
    mean = ndimage.gaussian_filter(values, sigma)
    square = ndimage.gaussian_filter(values**2, sigma)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return np.asarray((values - mean) / (deviation + 4) / 2, np.float32)


def label_strips(front: Mask, method: Method) -> Codes:
    """Label strips on both sides of a digitised front; nothing beyond its ends.

    Seaward is what the front encloses with lines straight up from its two ends.
    """
    left, right = line_ends(front)
    barrier = front.copy()
    barrier[: left[0] + 1, left[1]] = barrier[: right[0] + 1, right[1]] = True
    pieces, _ = ndimage.label(~barrier)
    enclosed = pieces[0, left[1] + 1 : right[1]]
    seaward = pieces == np.bincount(enclosed[enclosed > 0]).argmax()
    distance, nearest = ndimage.distance_transform_edt(~front, return_indices=True)
    rows, columns = np.indices(front.shape)
    beyond = ((columns < left[1]) & (rows < left[0])) | ((columns > right[1]) & (rows < right[0]))
    for end in (left, right):
        beyond |= np.hypot(nearest[0] - end[0], nearest[1] - end[1]) <= 1.5
    labels = np.zeros(front.shape, np.uint8)
    near = (distance <= method.strip) & ~beyond
    labels[near & seaward] = SEA
    labels[near & ~seaward & ~barrier] = GLACIER
    between = (columns > left[1]) & (columns < right[1]) & front.any(axis=0)
    first, last = front.argmax(axis=0), len(front) - 1 - front[::-1].argmax(axis=0)
    labels[between & (rows < first) & (rows >= first - method.above) & (labels == 0)] = SEA
    labels[between & (rows > last) & (rows <= last + method.below) & (labels == 0)] = GLACIER
    labels[front] = 0
    return labels


def line_ends(front: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """Find the two pixels furthest apart along a line, the left one first."""

    def furthest(start: tuple[int, int]) -> tuple[int, int]:
        costs, _ = MCP_Geometric(np.where(front, 1.0, -1.0)).find_costs([start])
        row, column = np.unravel_index(np.where(front, costs, -1).argmax(), front.shape)
        return int(row), int(column)

    one = furthest(tuple(np.argwhere(front)[0].tolist()))
    left, right = sorted((one, furthest(one)), key=lambda pixel: pixel[1])
    return left, right


def train_network(chips: Sequence[Chip], method: Method) -> Network:
    """Fit the compact tile network to the strips of some chips and of their mirror images."""
    scenes, labels = [], []
    for chip in chips:
        codes = label_strips(chip.front, method)
        for mirrored in (False, True):
            scenes.append(make_scene(chip, method, mirrored=mirrored))
            labels.append(chip.raster(codes[:, :: -1 if mirrored else 1]))
    tiles = extract_tiles(
        scenes,
        labels,
        legend=LEGEND,
        tile_size=method.tile_size,
        stride=method.stride,
        purity=method.purity,
        max_unlabelled=method.max_unlabelled,
        per_class=method.per_class,
        seed=method.seed,
    )
    settings = TrainSettings(
        epochs=method.epochs,
        brightness=method.brightness,
        tilt=0,
        class_power=0,
        turns=False,  # in every chip the glacier lies below
        flips=False,
    )
    network, _ = fit_tile_network(
        tiles, split_tiles(tiles, by="none"), settings=settings, seed=method.seed
    )
    return network


def find_front(chip: Chip, network: Network, method: Method) -> Result:
    """Classify a chip by both phases, find the front and compare it with the digitised one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CscWarning)  # some chips show one class alone
        scene = make_scene(chip, method)
        classes = classify_scene(scene, network, settings=method.classify).compute()
    pixel_class = classes["pixel_class"].values
    prepared = without_far_shore(pixel_class) if method.upright else pixel_class
    prepared, front = front_across(chip, prepared, method)
    drawn = digitised_points(chip.raster(chip.front.astype(np.uint8)))
    return Result(
        chip, classes["tile_class"].values, prepared, front, front_error(front.lines, drawn)
    )


def without_far_shore(classes: Codes) -> Codes:
    """Let the glacier's class above the fjord be another: chips have the glacier below.

    The fjord is the largest region of its class, channels of up to 4 px cut off.
    """
    rows, columns = np.mgrid[-2:3, -2:3]
    pieces, count = ndimage.label(ndimage.binary_opening(classes == SEA, rows**2 + columns**2 <= 4))
    if not count:
        return classes
    fjord = pieces == np.bincount(pieces[pieces > 0]).argmax()
    quarter = fjord.shape[1] // 4
    fjord[:, :quarter] = fjord[:, -quarter:] = False
    above = np.logical_or.accumulate(fjord[::-1], axis=0)[::-1]
    return np.where(above & (classes == GLACIER), np.uint8(OTHER), classes)


def front_across(chip: Chip, classes: Codes, method: Method) -> tuple[Codes, Front]:
    """Find the front that crosses the middle of the chip, where the glacier flows.

    Where the longest does not, the water it lies at is rock taken for water: the next is looked for.
    """
    middle = classes.shape[1] // 2
    first: tuple[Codes, Front] | None = None
    for _ in range(method.attempts):
        front = extract_front(chip.raster(classes), SHOWN, settings=method.front)
        first = first or (classes, front)
        drawn = front.raster.values > 0
        if front.line is None:
            break
        if drawn[:, middle - MIDDLE : middle + MIDDLE + 1].any():
            return classes, front
        near = ndimage.distance_transform_edt(~drawn) <= 8
        classes = np.where(near & (classes == SEA), np.uint8(OTHER), classes)
    return first


def folds(chips: Sequence[Chip], by: str) -> dict[str, tuple[list[Chip], list[Chip]]]:
    """Divide chips: training and test, by what the test is called."""
    found = {}
    if by == "glacier":
        for glacier in sorted({chip.glacier for chip in chips}):
            train = [chip for chip in chips if chip.glacier != glacier]
            found[glacier] = train, [chip for chip in chips if chip.glacier == glacier]
        return found
    ordered = sorted(chips, key=lambda chip: (chip.glacier, chip.date))
    for number, name in enumerate(("odd dates", "even dates")):
        test = ordered[number::2]
        found[name] = [chip for chip in chips if chip not in test], test
    return found


def run_folds(
    chips: Sequence[Chip],
    by: str,
    method: Method,
    quick: int | None,
    networks: dict[tuple[object, ...], Network],
) -> dict[str, list[Result]]:
    """Train and test on every fold."""
    found = {}
    for name, (train, test) in folds(chips, by).items():
        assert not {chip.path for chip in train} & {chip.path for chip in test}
        key = (by, name, *method.training)
        if key not in networks:
            networks[key] = train_network(train, method)
        if quick:
            test = [test[int(i)] for i in np.linspace(0, len(test) - 1, quick)]
        found[name] = [find_front(chip, networks[key], method) for chip in test]
        print(f"{by} {name}: {' | '.join(map(str, figures(found[name])))}", flush=True)
    return found


HEADER = (
    "images", "found", "mean, px", "median, px", "mean of found at most 10 px off",
    "at most 3 px", "more than 10 px", "both ways: median, px",
)  # fmt: skip


def figures(results: Sequence[Result]) -> list[object]:
    """Figures over images: of the mean distance from the digitised pixels to the front found."""
    lines = [result for result in results if result.front.line is not None]
    means = np.array([result.mean_px for result in lines])
    both = np.array([result.deviation.mean_distance_error_m / PIXEL_M for result in lines])
    near = means[means <= 10]
    return [
        len(results),
        f"{len(lines) / len(results):.0%}",
        f"{means.mean():.2f}",
        f"**{np.median(means):.2f}**",
        f"{near.mean():.2f}",
        f"{(means <= 3).sum() / len(results):.0%}",
        f"{(means > 10).sum() / len(results):.0%}",
        f"{np.median(both):.2f}",
    ]


def score_table(found: Mapping[str, Sequence[Result]]) -> str:
    """Score each fold and all together."""
    rows = [[name, *figures(results)] for name, results in found.items()]
    rows.append(["all", *figures([result for part in found.values() for result in part])])
    return markdown_table(["tested on", *HEADER], rows)


def main() -> None:
    """Run, print and, where asked, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "landsat_fronts")
    parser.add_argument("--write", action="store_true", help="write page and pictures to docs")
    parser.add_argument("--quick", type=int, help="so many chips of each fold only")
    parser.add_argument("--by", nargs="+", choices=("glacier", "date"), default=["glacier", "date"])
    options = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    chips = open_chips(options.data)
    networks: dict[tuple[object, ...], Network] = {}
    for by in options.by:
        start = time.perf_counter()
        found = run_folds(chips, by, Method(), options.quick, networks)
        print(f"{time.perf_counter() - start:.0f} s\n{score_table(found)}")
        print(Counter(r.front.outcome for part in found.values() for r in part))


if __name__ == "__main__":
    main()
