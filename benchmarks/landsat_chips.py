"""Landsat chips of two glaciers' calving fronts, and labels from strips along digitised fronts."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas
import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from scipy import ndimage
from shapely.geometry import LineString, Polygon
from skimage.graph import MCP_Geometric

from csc_xr.fronts.outlines import raster_crs
from csc_xr.metres import with_pixel_size
from csc_xr.scene import open_scene

PIXEL_M = 49.0
SEA, GLACIER = 1, 2
GLACIERS = {"011": "Jakobshavn", "006": "Sverdrup", "007": "Sverdrup"}  # by WRS row
WALLS = {
    "Jakobshavn": (
        ((0, 45, 60, 90, 130, 180, 299), (66, 66, 52, 25, 35, 50, 50)),
        ((0, 299), (139, 139)),
    ),
    "Sverdrup": (((0, 299), (38, 38)), ((0, 299), (142, 142))),
}
"""Rows and columns of the fjord's left and right wall, drawn by eye, one pair for all dates."""

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


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
    def day(self) -> int:
        """Its date as a number of days."""
        return datetime.date.fromisoformat(self.date).toordinal()

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

    @property
    def walls(self) -> tuple[Ints, Ints]:
        """First and last column of the fjord in each row."""
        rows = np.arange(len(self.front))
        left, right = (np.interp(rows, *wall).round() for wall in WALLS[self.glacier])
        return left.astype(np.int64), right.astype(np.int64)

    @property
    def fjord(self) -> geopandas.GeoSeries:
        """What lies between the walls."""
        rows = np.arange(len(self.front))
        left, right = (np.stack([rows, wall], axis=1) for wall in self.walls)
        return self.on_map(Polygon(self.places(np.concatenate([left, right[::-1]]))))

    def places(self, pixels: Ints) -> Floats:
        """Give x and y of the centres of pixels; shape (pixels, 2)."""
        rows, columns = pixels.T
        return np.stack([self.image.x.values[columns], self.image.y.values[rows]], axis=1)

    def on_map(self, *shapes: LineString | Polygon) -> geopandas.GeoSeries:
        """Give shapes the chip's CRS."""
        return geopandas.GeoSeries(list(shapes), crs=raster_crs(self.image))


def open_chips(folder: Path) -> list[Chip]:
    """List the chips, by file name."""
    chips = [Chip(path) for path in sorted((folder / "images").glob("*.png"))]
    if not chips:
        raise SystemExit(f"no chips in {folder}; set CSC_XR_SHARED")
    return chips


def label_strips(front: Mask, strip: int, above: int, below: int) -> Codes:
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
    near = (distance <= strip) & ~beyond
    labels[near & seaward] = SEA
    labels[near & ~seaward & ~barrier] = GLACIER
    between = (columns > left[1]) & (columns < right[1]) & front.any(axis=0)
    first, last = front.argmax(axis=0), len(front) - 1 - front[::-1].argmax(axis=0)
    labels[between & (rows < first) & (rows >= first - above) & (labels == 0)] = SEA
    labels[between & (rows > last) & (rows <= last + below) & (labels == 0)] = GLACIER
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
