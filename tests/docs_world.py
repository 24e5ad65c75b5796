"""What lies in the folder that a page is read in: small stand-ins for the reader's own files."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import geopandas
import numpy as np
import xarray as xr
from distributed import Client, LocalCluster
from docs_blocks import Block
from docs_commands import run_csc_xr
from matplotlib.layout_engine import ConstrainedLayoutEngine
from products_for_tests import write_safe
from rasterio.features import rasterize

import csc_xr
from csc_xr import demo, synthetic
from csc_xr.figures import style
from csc_xr.training.phase_two.fitting import FitSettings

SIDES = (320, 420)
"""Rows and columns of a generated scene: enough for every class, and for a front to be found."""

STEPS = 30
"""Of a fit, at most: nothing looks at how well it went."""

MORE_STEPS = {"README.md": 60, "fronts.md": 60, "first_scene.md": 60, "fronts_through_time.md": 150}
"""Of fits whose classes must be good enough for a front; in a series, for one across a box."""

DATES = ("20210615", "20210715", "20210815")
SAFE = "S2B_MSIL2A_20210715T143749_N0301_R053_T24WWU_20210715T171201.SAFE"
Maker = Callable[[Path], Any]

_fjord = synthetic.fjord
_steps_for = FitSettings.steps_for


@cache
def small_fjord(seed: int = 7, date_seed: int | None = None) -> xr.Dataset:
    """Give a generated fjord of small size, computed once."""
    return _fjord(SIDES, seed=seed, date_seed=date_seed).compute()


def scene_of(truth: xr.Dataset) -> xr.DataArray:
    return truth["scene"].chunk({"band": -1, "y": 256, "x": 256})


def write_pair(path: Path, *, seed: int = 7, date_seed: int | None = None) -> None:
    """Write an image, and its labels beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = small_fjord(seed, date_seed)
    truth["scene"].rio.to_raster(path, driver="GTiff")
    write_labels(path.with_name(f"SCLS_{path.stem}.tif"), seed=seed, date_seed=date_seed)


def write_labels(path: Path, *, seed: int = 7, date_seed: int | None = None) -> None:
    csc_xr.write_class_geotiff(small_fjord(seed, date_seed)["labels"], path, legend=csc_xr.GLACIER)


def write_dated(folder: Path, dates: Sequence[str] = DATES) -> None:
    for date in dates:
        write_pair(folder / f"fjord_{date}.tif", date_seed=int(date))


def write_many(folder: Path) -> None:
    for seed in (3, 4, 5):
        write_pair(folder / f"fjord_{seed}.tif", seed=seed)


def write_lines_of_front(path: Path, layer: str = "fronts") -> None:
    csc_xr.write_lines(demo.true_front(small_fjord()), path, layer=layer)


def write_areas(path: Path) -> None:
    """Write the polygons of the labels, as somebody would have drawn them."""
    labels = small_fjord()["labels"]
    polygons = csc_xr.class_polygons(labels.chunk(), csc_xr.GLACIER)
    names = [name for name in polygons.columns if name in {"class", "name", "class_name"}]
    frame = geopandas.GeoDataFrame(
        {"class": polygons[names[0]]}, geometry=polygons.geometry, crs=polygons.crs
    )
    frame.to_file(path, layer="training_areas", engine="pyogrio")


def write_product(path: Path) -> None:
    """Write a generated product of the fjord, with its true colours."""
    side = 240
    scene = _fjord((side, side), seed=7)["scene"].compute()
    names = dict(zip(("red", "green", "blue", "nir"), ("B04", "B03", "B02", "B08"), strict=True))
    surface = {names[str(band)]: scene.sel(band=band).values / 10_000 for band in names}
    coarse = surface["B08"].reshape(side // 2, 2, side // 2, 2).mean(axis=(1, 3))
    surface |= {"B11": coarse, "B8A": coarse}
    write_safe(path.parent, surface, level="L2A", baseline="03.01", name=path.stem)


def write_network(path: Path) -> None:
    shutil.copy(demo.NETWORK, path)


def write_legacy(path: Path) -> None:
    """Write the demonstration's network as a legacy file, as those published are."""
    import keras

    with mock.patch("absl.logging.warning"):
        keras.saving.save_model(csc_xr.open_network(demo.NETWORK).model, path)


def write_tiles(path: Path) -> None:
    fjords = {seed: small_fjord(seed) for seed in (3, 4, 5)}
    scenes = [scene_of(truth).rename(f"fjord {seed}") for seed, truth in fjords.items()]
    tiles = csc_xr.extract_tiles(
        scenes, [truth["labels"].chunk() for truth in fjords.values()],
        legend=csc_xr.GLACIER, tile_size=50, stride=25, purity=0.5, leave_out=(3, 5),
    )  # fmt: skip
    csc_xr.write_tiles(tiles, path)


def write_river(path: Path, *, seed: int) -> None:
    """Write an aerial image of three bands of 8 bits with labels of the river legend."""
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = small_fjord(seed)
    image = (truth["scene"].isel(band=slice(3)) / 40).clip(1, 255).astype("uint8")
    image.rio.to_raster(path, driver="GTiff")
    of_river = np.array([0, 1, 1, 3, 3, 3, 2, 2], "uint8")  # by code of the glacier legend
    labels = truth["labels"].copy(data=of_river[truth["labels"].values])
    target = path.with_name(f"SCLS_{path.name}")
    csc_xr.write_class_geotiff(labels, target, legend=csc_xr.RIVER)


def write_rivers(folder: Path) -> None:
    for seed, name in enumerate(("31180", "31198", "31252"), 3):
        write_river(folder / "train" / f"StMarg_{name}.tif", seed=seed)
    write_river(folder / "validate" / "StMarg_31306.tif", seed=7)


def write_river_networks(folder: Path) -> None:
    """Write networks of tiles of 32 and 50 pixels, untrained."""
    folder.mkdir(parents=True)
    for side in (32, 50):
        model = csc_xr.build_tile_network(
            "compact", tile_size=side, n_bands=3, n_outputs=6, seed=side
        )
        card = csc_xr.NetworkCard(
            kind="tile", bands=("red", "green", "blue"), size=side, legend=csc_xr.RIVER
        )
        csc_xr.save_network(csc_xr.Network(card, model), folder / f"river_{side}.keras")


def write_sweep(folder: Path) -> None:
    """Leave what two runs leave, in the quickest way."""
    write_dated(folder / "images", DATES[:1])
    write_network(folder / "helheim.keras")
    for radius in ("2", "4"):
        network, out = folder / "helheim.keras", folder / f"radius_{radius}"
        words = f"classify {folder / 'images'} --model {network} --out {out} --mode-radius {radius}"
        run_csc_xr(f"{words} --patch-size 3 --samples-per-class 300 --front".split())


def write_old(folder: Path) -> None:
    """Leave the tables that the research scripts left."""
    table = csc_xr.classification_report(
        csc_xr.confusion_matrix(
            small_fjord()["labels"], small_fjord()["labels"], legend=csc_xr.GLACIER
        )
    )
    (folder / "fjord_patch7").mkdir(parents=True)
    for phase in ("CNN", "CSC"):
        table.to_csv(folder / "fjord_patch7" / f"{phase}_fjord_old.csv", index=False)


def write_edge(path: Path) -> None:
    """Write a digitised front as pixels."""
    truth = small_fjord()
    line = demo.true_front(truth).geometry
    transform = csc_xr.scene_transform(truth["labels"])
    drawn = rasterize(line, out_shape=truth["labels"].shape, transform=transform, all_touched=True)
    truth["labels"].copy(data=drawn).rio.to_raster(path, driver="GTiff")


GIVEN: dict[str, Maker] = {
    "fjord.tif": partial(write_pair),
    "helheim_20170821.tif": partial(write_pair),
    "helheim.keras": write_network,
    "helheim.h5": write_legacy,
    "old.h5": write_legacy,
    "scenes": write_dated,
    "folder_of_scenes": write_dated,
    "labelled_scenes": write_many,
    "tiles.zarr": write_tiles,
    "digitised.gpkg": write_lines_of_front,
    "training_areas.gpkg": write_areas,
    "a_classified.tif": write_labels,
    "b_classified.tif": partial(write_labels, date_seed=5),
    "SCLS_a.tif": write_labels,
    "SCLS_b.tif": partial(write_labels, date_seed=5),
    "EDGE_helheim.tif": write_edge,
    "networks": write_river_networks,
    "st_marguerite": write_rivers,
    "sweep": write_sweep,
    "new": write_sweep,
    "old": write_old,
    "classes.tif": write_labels,
    "labels.tif": write_labels,
    SAFE: write_product,
}
"""What pages may name without making it."""


def makes(text: str, name: str) -> bool:
    """Whether the first that code does with a name is to write it."""
    at = text.find(name)
    before = text[text.rfind("\n", 0, at) + 1 : at]
    after = text[at : text.find("\n", at)]
    writing = r"(--out\s+|write_\w+\(.*|copy\w*\(.*,.*|to_\w+\(.*|mkdir .*)\S*$"
    return bool(re.search(writing, before)) or "mkdir(" in after


def made_by_tables(blocks: Sequence[Block]) -> set[str]:
    """Give the folders that the jobs of a page's tables write into."""
    tables = [block.text for block in blocks if "OutFolder" in block.text.partition("\n")[0]]
    rows = [row for table in tables for row in csv.DictReader(table.splitlines())]
    return {Path(row["OutFolder"]).parts[0] for row in rows}


class World:
    """Stand-ins, each made once, and copied into the folder of every page that names it."""

    def __init__(self, stock: Path) -> None:
        self.stock = stock
        self._made: dict[Path, Maker] = {}
        self._address: str | None = None
        self._cluster: LocalCluster | None = None

    def furnish(self, folder: Path, blocks: Sequence[Block]) -> None:
        """Put what the code of a page names into its folder."""
        code = [block.text for block in blocks if block.language in {"sh", "python", "csv"}]
        text = re.sub(r"(?<!\S)#.*", "", "\n".join(code))  # comments make and use nothing
        made = made_by_tables(blocks)
        for name, make in GIVEN.items():
            named = re.search(rf"(?<![\w./]){re.escape(name)}(?![\w.]\w)", text)
            if named and name not in made and not makes(text, name):
                self._give(name, make, folder)
        for block in blocks:
            if block.file and not (folder / block.file).exists():
                (folder / block.file).write_text(block.text + "\n", encoding="utf-8")

    def _give(self, name: str, make: Maker, folder: Path) -> None:
        kept = self.stock / name.replace(".", "_")
        if not kept.exists():
            kept.mkdir(parents=True)
            twin = next((path for path, other in self._made.items() if other is make), None)
            if twin and twin.is_dir():
                shutil.copytree(twin, kept / name)
            else:
                make(kept / name)
            self._made[kept / name] = make
        shutil.copytree(kept, folder, dirs_exist_ok=True)

    def scheduler(self) -> str:
        """Give the address of a cluster in this process, started when first asked for."""
        if self._cluster is None:
            self._cluster = LocalCluster(
                n_workers=1, threads_per_worker=2, processes=False, protocol="tcp",
                dashboard_address=None,
            )  # fmt: skip
        return str(self._cluster.scheduler_address)

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()


def act_by_hand(folder: Path) -> None:
    """Do what a reader does between two blocks: label points that were drawn."""
    for path in folder.glob("points.gpkg"):
        points = geopandas.read_file(path, layer="points")
        if (points["label"].fillna("") == "").all():
            points["label"] = points["map_code"]
            points.to_file(path, layer="points", engine="pyogrio")


@contextmanager
def small_and_quick(page: str) -> Iterator[None]:
    """Keep scenes small, fits short and figures plain, whatever size and steps a page names."""

    def fjord(shape: tuple[int, int] = SIDES, **more: Any) -> xr.Dataset:
        share = min(1.0, np.sqrt(SIDES[0] * SIDES[1] / (shape[0] * shape[1])))
        return _fjord((round(shape[0] * share), round(shape[1] * share)), **more)

    def few_steps(settings: FitSettings, classes: int) -> int:
        return min(MORE_STEPS.get(page, STEPS), _steps_for(settings, classes))

    with (
        mock.patch.object(style, "DPI", 40),
        mock.patch.object(ConstrainedLayoutEngine, "execute"),
        mock.patch.object(synthetic, "fjord", fjord),
        mock.patch.object(demo, "fjord", fjord),
        mock.patch.object(FitSettings, "steps_for", few_steps),
    ):
        yield


def close_clients() -> None:
    """Close clients that the code of a page has left open."""
    from distributed.client import _get_global_client

    client: Client | None = _get_global_client()
    if client is not None:
        client.close()
