"""Calving fronts of two glaciers on Landsat chips, no glacier on both sides.

    python benchmarks/landsat_fronts.py [--write] [--quick 10] [--by glacier date]

Classes come from strips on both sides of digitised fronts. A small tile network learns them on one
glacier, CSC classifies every chip of the other, and the front is looked for in five ways; then the
other way round; and, easier, on some dates of both glaciers and the others. Distances are from
every digitised pixel to the front found. With ``--write`` tables and pictures go to ``docs``. Needs
the development imagery (``CSC_XR_SHARED``).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import geopandas
import matplotlib as mpl
import numpy as np
import xarray as xr
from landsat_chips import (
    GLACIER,
    PIXEL_M,
    SEA,
    Chip,
    Codes,
    Floats,
    Ints,
    label_strips,
    open_chips,
)
from measure import DOCS, SHARED, markdown_table, replace_section
from rasterio.errors import NotGeoreferencedWarning
from scipy import ndimage
from shapely.geometry import LineString
from skimage.graph import MCP_Geometric

from csc_xr.errors import CscWarning
from csc_xr.fronts.deviation import Deviation, front_error
from csc_xr.fronts.digitised import digitised_points
from csc_xr.fronts.extraction import extract_front
from csc_xr.fronts.settings import FrontSettings
from csc_xr.legend import ClassLegend, LegendClass
from csc_xr.networks.bundle import Network
from csc_xr.scene import validate_scene
from csc_xr.tiles.cutting import extract_tiles
from csc_xr.tiles.split import split_tiles
from csc_xr.training.phase_one.fit import fit_tile_network
from csc_xr.training.phase_one.settings import TrainSettings
from csc_xr.workflow import ClassifySettings, classify_scene

LEGEND = ClassLegend(
    "front", [LegendClass(SEA, "Sea", "#2f7fb5"), LegendClass(GLACIER, "Glacier", "#f2f0e4")]
)
AS_IS, LAYOUT, EDGES, WALLED = (
    "`extract_front` as it is", "`extract_front`, layout and walls", "path from edge to edge",
    "**path from wall to wall**",
)  # fmt: skip


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
    classify: ClassifySettings = field(
        default_factory=lambda: ClassifySettings(outputs=("probability",))
    )
    front: FrontSettings = field(
        default_factory=lambda: FrontSettings(glacier=("Glacier",), ocean=("Sea",))
    )
    contact_m: float = 300.0  # with layout and walls
    smooth: float = 4.0  # px, of the class probabilities before the path
    most_log_odds: float = 1.0  # what one pixel may say
    steepness: float = 6.0  # of the path's cost
    least_cost: float = 0.02
    ends: int = 30  # rows at the top and bottom of a chip where no path goes

    @property
    def training(self) -> tuple[object, ...]:
        """What decides the tile network."""
        return (
            self.strip, self.above, self.below, self.windows, self.tile_size, self.stride,
            self.purity, self.max_unlabelled, self.per_class, self.epochs, self.brightness,
            self.seed,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Found:
    """A front that was found in one way, or why there is none."""

    outcome: str
    lines: geopandas.GeoSeries
    deviation: Deviation

    @property
    def mean_px(self) -> float:
        """Mean distance from the digitised pixels to the front found."""
        return self.deviation.mean_m / PIXEL_M

    @property
    def back_px(self) -> float:
        """Mean distance from the front found to the digitised pixels."""
        return self.deviation.predicted_to_digitised_mean_m / PIXEL_M


@dataclass(frozen=True, eq=False)
class Result:
    """What was found on one chip, by way."""

    chip: Chip
    pixel_class: Codes
    strips_right: tuple[float, float]
    ways: dict[str, Found]


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


def train_network(chips: Sequence[Chip], method: Method) -> Network:
    """Fit the compact tile network to the strips of some chips and of their mirror images."""
    scenes, labels = [], []
    for chip in chips:
        codes = label_strips(chip.front, method.strip, method.above, method.below)
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


def classify_chip(chip: Chip, network: Network, method: Method) -> tuple[Codes, Floats]:
    """Classify a chip by both phases; classes, and the probability of glacier."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CscWarning)  # some chips show one class alone
        scene = make_scene(chip, method)
        classes = classify_scene(scene, network, settings=method.classify).compute()
    pixel_class = classes["pixel_class"].values
    probability = classes["probability"]
    if probability.sizes["class"] < 2:
        return pixel_class, (pixel_class == GLACIER).astype(np.float32)
    return pixel_class, probability.values[1]


def find_fronts(chip: Chip, network: Network, method: Method, others: Sequence[Chip]) -> Result:
    """Classify a chip, find its front in every way and compare it with the digitised one."""
    pixel_class, glacier = classify_chip(chip, network, method)
    drawn = digitised_points(chip.raster(chip.front.astype(np.uint8)))
    as_is = extract_front(chip.raster(pixel_class), LEGEND, settings=method.front)
    layout = extract_front(
        chip.raster(by_layout(pixel_class)),
        LEGEND,
        settings=replace(method.front, contact_m=method.contact_m),
        within=chip.fjord,
    )
    costs = path_costs(glacier, method)
    left, right = chip.walls
    edges = np.zeros_like(left), np.full_like(right, costs.shape[1] - 1)
    lines = {AS_IS: (as_is.outcome, as_is.lines), LAYOUT: (layout.outcome, layout.lines)}
    for way, pixels in (
        (EDGES, cheapest_path(costs, edges, method.ends)),
        (WALLED, cheapest_path(costs, (left, right), method.ends)),
    ):
        lines[way] = "found", chip.on_map(LineString(chip.places(pixels)))
    way, guess = without_image(chip, others)
    lines[f"no image: {way}"] = "found", guess
    return Result(
        chip,
        pixel_class,
        strips_right(chip, pixel_class, method),
        {
            way: Found(outcome, line, front_error(line, drawn))
            for way, (outcome, line) in lines.items()
        },
    )


def without_image(chip: Chip, others: Sequence[Chip]) -> tuple[str, geopandas.GeoSeries]:
    """Guess the front from other images: of the nearest date, or of another glacier its row."""
    same = [other for other in others if other.glacier == chip.glacier]
    if same:
        nearest = min(same, key=lambda other: abs(chip.day - other.day))
        return "nearest date", digitised_points(chip.raster(nearest.front.astype(np.uint8)))
    row = int(np.median([np.argwhere(other.front)[:, 0].mean() for other in others]))
    left, right = chip.walls
    ends = np.array([[row, left[row]], [row, right[row]]])
    return "straight line", chip.on_map(LineString(chip.places(ends)))


def strips_right(chip: Chip, classes: Codes, method: Method) -> tuple[float, float]:
    """Share of the strips of sea and of glacier along the digitised front that is classed so."""
    labels = label_strips(chip.front, method.strip, 0, 0)
    sea, glacier = (float((classes[labels == c] == c).mean()) for c in (SEA, GLACIER))
    return sea, glacier


def by_layout(classes: Codes) -> Codes:
    """Let glacier be what reaches the chip's bottom, and sea what reaches its top.

    What reaches neither belongs to what it lies in.
    """
    pieces, _ = ndimage.label(classes == GLACIER)
    from_bottom = np.isin(pieces, pieces[-1][pieces[-1] > 0])
    rest, _ = ndimage.label(~from_bottom)
    from_top = np.isin(rest, rest[0][rest[0] > 0])
    return np.where(from_top, np.uint8(SEA), np.uint8(GLACIER))


def path_costs(glacier: Floats, method: Method) -> Floats:
    """Make a front cheap where sea turns into glacier, downwards or sideways.

    From the gradient of the smoothed log odds, as a share of that of a full step.
    """
    most = method.most_log_odds
    odds = np.clip(np.log((glacier + 1e-3) / (1 - glacier + 1e-3)), -most, most) / most
    down = ndimage.gaussian_filter(odds, method.smooth, order=(1, 0))
    across = ndimage.gaussian_filter(odds, method.smooth, order=(0, 1))
    full_step = 2 / (np.sqrt(2 * np.pi) * method.smooth)
    share = np.hypot(across, np.maximum(down, 0)) / full_step
    return np.asarray(np.exp(-method.steepness * share) + method.least_cost, np.float32)


def cheapest_path(costs: Floats, walls: tuple[Ints, Ints], ends: int) -> Ints:
    """Find the cheapest path from any row of the left wall to any of the right; (pixels, 2)."""
    left, right = walls
    columns = np.arange(costs.shape[1])
    inside = (columns >= left[:, None]) & (columns <= right[:, None])
    inside[:ends] = inside[-ends:] = False
    rows = np.arange(len(costs))[ends:-ends]
    graph = MCP_Geometric(np.where(inside, costs, -1))
    totals, _ = graph.find_costs([(row, left[row]) for row in rows])
    end = rows[totals[rows, right[rows]].argmin()]
    return np.array(graph.traceback((end, right[end])))


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
        found[name] = [find_fronts(chip, networks[key], method, train) for chip in test]
        print(f"{by} {name}: {' | '.join(map(str, figures(found[name], WALLED)))}", flush=True)
    return found


HEADER = (
    "images", "found", "mean, px", "median, px", "mean of those at most 10 px off",
    "at most 3 px off", "more than 10 px off", "back: mean, px", "back: median, px",
)  # fmt: skip


def figures(results: Sequence[Result], way: str) -> list[object]:
    """Figures over images, of the mean distances in pixels."""
    fronts = [result.ways[way] for result in results if len(result.ways[way].lines)]
    if not fronts:
        return [len(results), "0%", *["-"] * (len(HEADER) - 2)]
    means = np.array([front.mean_px for front in fronts])
    back = np.array([front.back_px for front in fronts])
    near = means[means <= 10]
    return [
        len(results),
        f"{len(fronts) / len(results):.0%}",
        f"{means.mean():.2f}",
        f"{np.median(means):.2f}",
        f"{near.mean():.2f}" if near.size else "-",
        f"{(means <= 3).sum() / len(results):.0%}",
        f"{(means > 10).sum() / len(results):.0%}",
        f"{back.mean():.2f}",
        f"{np.median(back):.2f}",
    ]


def score_table(found: Mapping[str, Sequence[Result]]) -> str:
    """Score every way on each fold and on all together."""
    parts = {**found, "all": [result for part in found.values() for result in part]}
    ways = next(iter(parts["all"])).ways
    rows = [[way, name, *figures(part, way)] for way in ways for name, part in parts.items()]
    return markdown_table(["front", "tested on", *HEADER], rows)


def outcome_table(found: Mapping[str, Sequence[Result]]) -> str:
    """Count the outcomes of `extract_front`."""
    every = [result for part in found.values() for result in part]
    counts = {way: Counter(r.ways[way].outcome for r in every) for way in (AS_IS, LAYOUT)}
    names = sorted({name for count in counts.values() for name in count})
    rows = [[way, *(count[name] for name in names)] for way, count in counts.items()]
    return markdown_table(["front", *names], rows)


def why(result: Result) -> str:
    """Say what the classes along the digitised front explain of a front that is elsewhere."""
    sea, glacier = result.strips_right
    wrong = [
        f"{name} there classed as {other}"
        for name, other, share in (("sea", "glacier", sea), ("glacier", "sea", glacier))
        if share < 2 / 3
    ]
    return " and ".join(wrong) or "a firmer boundary elsewhere"


def failure_table(found: Mapping[str, Sequence[Result]]) -> str:
    """List the images whose front from wall to wall is more than 10 px off."""
    far = [r for part in found.values() for r in part if r.ways[WALLED].mean_px > 10]
    rows = [
        [
            r.chip.name,
            f"{r.ways[WALLED].mean_px:.1f}",
            *(f"{s:.0%}" for s in r.strips_right),
            why(r),
        ]
        for r in sorted(far, key=lambda r: -r.ways[WALLED].mean_px)
    ]
    header = ["image", "mean, px", "sea strip right", "glacier strip right", "what went wrong"]
    return markdown_table(header, rows)


def draw(found: Mapping[str, Sequence[Result]], path: Path, each: int = 6) -> None:
    """Draw the best and the worst: digitised front red, the one found from wall to wall blue."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    every = sorted(
        (r for part in found.values() for r in part), key=lambda r: r.ways[WALLED].mean_px
    )
    colours = mpl.colors.ListedColormap([entry.colour for entry in LEGEND.classes])
    figure, axes = plt.subplots(4, each, figsize=(1.7 * each, 11), layout="constrained")
    for number, result in enumerate([*every[:each], *every[-each:]]):
        upper, lower = axes[2 * (number // each) :, number % each][:2]
        values = result.chip.image.values[0]
        upper.imshow(values, cmap="gray", vmin=np.percentile(values, 1),
                     vmax=np.percentile(values, 99))  # fmt: skip
        lower.imshow(result.pixel_class, cmap=colours, vmin=SEA, vmax=GLACIER,
                     interpolation="nearest")  # fmt: skip
        x, y = np.array(result.ways[WALLED].lines.iloc[0].coords).T / PIXEL_M
        columns = x - result.chip.image.x.values[0] / PIXEL_M
        rows = result.chip.image.y.values[0] / PIXEL_M - y
        for axis in (upper, lower):
            digitised = np.argwhere(result.chip.front)
            axis.plot(digitised[:, 1], digitised[:, 0], ".", color="#D55E00", markersize=1.5)
            axis.plot(columns, rows, color="#56B4E9" if axis is upper else "black", linewidth=1)
            axis.set_axis_off()
        upper.set_title(f"{result.chip.name}\n{result.ways[WALLED].mean_px:.1f} px", fontsize=7)
    figure.savefig(path, dpi=80)
    plt.close(figure)


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
    page = DOCS / "landsat_fronts.md"
    for by in options.by:
        start = time.perf_counter()
        found = run_folds(chips, by, Method(), options.quick, networks)
        tables = {
            f"{by}_scores": score_table(found),
            f"{by}_outcomes": outcome_table(found),
            f"{by}_failures": failure_table(found),
        }
        for name, table in tables.items():
            print(f"{name}\n{table}", flush=True)
            if options.write:
                replace_section(page, name, table)
        if options.write and by == "glacier":
            draw(found, DOCS / "images" / "landsat_fronts.png")
        print(f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
