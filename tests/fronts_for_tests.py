"""Class rasters with a front, and a plain version of the method over whole arrays."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import pytest
import rasterio.crs
import shapely
import xarray as xr
from affine import Affine
from scipy import ndimage
from skimage.measure import find_contours
from skimage.segmentation import morphological_geodesic_active_contour, morphsnakes

from csc_xr import blockwise
from csc_xr.fronts import regions
from csc_xr.fronts.extraction import Front, extract_front
from csc_xr.fronts.settings import FrontSettings
from csc_xr.grid import place, scene_transform
from csc_xr.legend import GLACIER
from csc_xr.metres import pixel_size_m

WATER, ICEBERGS, MELANGE, ICE, SNOW_ON_ICE, SNOW_ON_ROCK, ROCK, FRONT = range(1, 9)
NORTH_UP = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 7_400_000.0)  # 66.7 N, in EPSG:32624
QUICK = FrontSettings(
    frame_m=40,
    min_ocean_m2=1e5,
    min_ocean_width_m=40,
    margin_m=20,
    closing_m=60,
    iterations=4,
    contact_m=80,
)
"""Thresholds that fit images of 100 pixels, cut into chunks."""


def fjord_codes(shape: tuple[int, int] = (120, 150), *, seed: int = 0) -> np.ndarray:
    """Glacier on the left, water on the right, valley sides above and below, a rough front."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    codes = np.full(shape, WATER, np.uint8)
    swing = ndimage.gaussian_filter1d(rng.normal(size=shape[0]), 3, mode="nearest")
    front = shape[1] * (0.4 + 0.06 * swing / swing.std())
    codes[columns < front[:, None]] = ICE
    sides = ndimage.gaussian_filter1d(rng.normal(size=(2, shape[1])), 8, mode="nearest")
    upper, lower = shape[0] * (0.18 + 0.1 * sides * [[1], [-1]])
    codes[(rows < upper) | (rows >= shape[0] - lower)] = ROCK
    codes[(rows < upper - 8) | (rows >= shape[0] - lower + 8)] = SNOW_ON_ROCK
    return codes


def rough_codes(shape: tuple[int, int] = (120, 150), *, seed: int = 0) -> np.ndarray:
    """The same with mélange, icebergs, nunataks, a lake, snow, and errors of all sizes."""
    rng = np.random.default_rng(seed + 1000)
    codes = fjord_codes(shape, seed=seed)
    column = np.arange(shape[1])
    codes[(codes == WATER) & (column < shape[1] * 0.6)] = MELANGE
    codes[(codes == ICE) & (column < shape[1] * 0.1)] = SNOW_ON_ICE
    for scale, height, new, old in [
        (3, 2.0, ROCK, ICE), (2, 2.2, ICE, WATER), (1.5, 2.2, ICE, MELANGE),
        (1.5, 2.4, MELANGE, ICE), (2, 2.3, ICEBERGS, WATER), (3, 2.3, WATER, SNOW_ON_ROCK),
        (0, 2.5, WATER, ICE), (0, 2.5, ICE, MELANGE), (1, 2.5, ICE, ROCK),
    ]:  # fmt: skip
        field = ndimage.gaussian_filter(rng.normal(size=shape), scale)
        codes[(field > height * field.std()) & (codes == old)] = new
    return codes


def raster(
    codes: np.ndarray,
    *,
    transform: Affine = NORTH_UP,
    crs: str | None = "EPSG:32624",
    chunks: Any = None,
) -> xr.DataArray:
    """Class raster; lazy when chunks are given."""
    pixels = xr.DataArray(
        codes if chunks is None else da.from_array(codes, chunks), dims=("y", "x")
    )
    return place(pixels, transform, crs and rasterio.crs.CRS.from_user_input(crs))


def front_of(codes: np.ndarray, settings: FrontSettings = QUICK, **grid: Any) -> Front:
    return extract_front(raster(codes, **grid), GLACIER, settings=settings)


def vertices(front: Front) -> np.ndarray:
    assert front.line is not None, front.reason
    return np.asarray(front.line.coords)


def turned(codes: np.ndarray) -> dict[str, xr.DataArray]:
    """The same image on the map, its rows and columns in other orders."""
    image = raster(codes)
    swap = Affine(0, 1, 0, 1, 0, 0)
    return {
        "north up": image,
        "south up": image.isel(y=slice(None, None, -1)),
        "mirrored": image.isel(x=slice(None, None, -1)),
        "upside down": image.isel(y=slice(None, None, -1), x=slice(None, None, -1)),
        "transposed": raster(codes.T, transform=NORTH_UP @ swap),
    }


@contextmanager
def small_chunks(labelled: int, worked: int) -> Iterator[None]:
    """Label and work in chunks of so many pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "_CHUNK", labelled)
        patch.setattr(blockwise, "CHUNK", worked)
        yield


class PlainFront(NamedTuple):
    """What the method finds; masks and raster of shape (y, x), lines as x and y on the map.

    "too long" is for who measures in metres.
    """

    ice: np.ndarray
    outcome: str
    lines: list[np.ndarray]
    drawn: np.ndarray
    contact_share: float = 0.0


def plain_front(
    pixel_class: xr.DataArray, settings: FrontSettings, *, within: shapely.Polygon | None = None
) -> PlainFront:
    """The whole method on whole arrays."""
    codes, size = pixel_class.to_numpy(), pixel_size_m(pixel_class)
    inside = None
    if within is not None:
        centres = on_map(np.moveaxis(np.indices(codes.shape), 0, -1).reshape(-1, 2), pixel_class)
        inside = shapely.intersects_xy(within, centres).reshape(codes.shape)
    glacier = plain_glacier(np.isin(codes, codes_of(settings.glacier)), inside)
    ocean = plain_ocean(np.isin(codes, codes_of(settings.ocean)), settings, size)
    nothing = np.zeros(codes.shape, np.uint8)
    if glacier is None or ocean is None:
        missing = "no glacier" if glacier is None else "no ocean"
        return PlainFront(nothing > 0, missing, [], nothing)
    ice = plain_ice(glacier, settings, size)
    known = (0, *codes_of(settings.glacier), *codes_of(settings.ocean))
    land = ~np.isin(codes, known) & ~ice & ~ocean
    metres = [
        metres_from(mask, size) for mask in (ocean & ~ice, land, (codes == 0) & ~ice & ~ocean)
    ]
    pieces = []
    for outline in find_contours(ice, 0.5, fully_connected="low"):
        vertices = [Vertex(place, ice, metres, settings, size) for place in outline.tolist()]
        if within is not None:
            for vertex, point in zip(vertices, on_map(outline, pixel_class), strict=True):
                vertex.at_ocean &= bool(shapely.intersects_xy(within, *point))
        if ice_on_the_right(vertices):
            vertices.reverse()
        pieces += plain_pieces(vertices)
    if not pieces:
        return PlainFront(ice, "no contact", [], nothing)
    pieces.sort(key=lambda found: (-metres_along(found[0], size), found[0][0].place))
    front, cut = pieces[0]
    for vertex in front:
        nothing[vertex.inside] = 1
    lines = [on_map([vertex.place for vertex in piece], pixel_class) for piece, _ in pieces]
    if scene_transform(pixel_class).determinant > 0:
        lines = [line[::-1] for line in lines]
    outcome = "touches the frame" if cut else "found"
    beside = np.mean([vertex.ocean_m <= max(size) for vertex in front])
    return PlainFront(ice, outcome, lines, nothing, float(beside))


def on_map(places: np.ndarray, image: xr.DataArray) -> np.ndarray:
    """Rows and columns of pixel centres, as x and y."""
    y, x = np.asarray(places).T + 0.5
    a, b, c, d, e, f = tuple(scene_transform(image))[:6]
    return np.column_stack([a * x + b * y + c, d * x + e * y + f])


def codes_of(names: tuple[str | int, ...]) -> list[int]:
    return [1 + GLACIER.names.index(name) if isinstance(name, str) else name for name in names]


def metres_along(piece: list[Vertex], size: tuple[float, float]) -> float:
    steps = np.diff([vertex.place for vertex in piece], axis=0) * size
    return float(np.hypot(*steps.T).sum())


def plain_glacier(mask: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray | None:
    """The largest region, or that with the most pixels inside of something."""
    labels, _ = ndimage.label(mask)
    pixels = np.bincount(labels.ravel() if inside is None else labels[inside])[1:]
    return ndimage.binary_fill_holes(labels == 1 + pixels.argmax()) if pixels.any() else None


def plain_ocean(
    mask: np.ndarray, settings: FrontSettings, size: tuple[float, float]
) -> np.ndarray | None:
    rows, columns = (max(1, round(settings.frame_m / step)) for step in size)
    water, mask = mask, plain_width(ndimage.binary_fill_holes(mask), settings, size)
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    at_frame = set(labels.ravel().tolist()) - {0}
    at_frame -= at_frame - {
        number
        for edge in (labels[:rows], labels[-rows:], labels[:, :columns], labels[:, -columns:])
        for number in edge.ravel().tolist()
    }
    sizes = np.bincount(labels.ravel())
    dropped = sorted(at_frame, key=lambda number: sizes[number])[:-1]
    pieces, count = ndimage.label(mask & ~np.isin(labels, dropped))
    large = [
        n
        for n in range(1, count + 1)
        if (water & (pieces == n)).sum() * math.prod(size) >= settings.min_ocean_m2
    ]
    return np.isin(pieces, large) if large else None


def plain_width(mask: np.ndarray, settings: FrontSettings, size: tuple[float, float]) -> np.ndarray:
    """Where a box fits in, and what lies within a box of there."""
    rows, columns = (round(settings.min_ocean_width_m / 2 / step) for step in size)
    far = 3 * max(rows, columns)
    wide = np.pad(mask, far, mode="symmetric")
    box, larger = (np.ones((2 * n * rows + 1, 2 * n * columns + 1)) for n in (1, 2))
    grown = ndimage.binary_dilation(ndimage.binary_erosion(wide, box, border_value=1), larger)
    return mask & grown[far : far + mask.shape[0], far : far + mask.shape[1]]


def plain_ice(
    glacier: np.ndarray, settings: FrontSettings, size: tuple[float, float]
) -> np.ndarray:
    margin = [round(settings.margin_m / step) for step in size]
    closing = [round(settings.closing_m / 2 / step) for step in size]
    far = 5 + max(margin) + 2 * max(closing) + 3 * settings.iterations
    box = np.ones([2 * radius + 1 for radius in closing], bool)

    def mirrored(mask: np.ndarray) -> np.ndarray:
        return np.pad(mask, far, mode="symmetric")

    def cropped(mask: np.ndarray) -> np.ndarray:
        return mask[far:-far, far:-far]

    wide = ndimage.binary_dilation(mirrored(glacier), diamond(*margin))
    start = ndimage.binary_fill_holes(cropped(ndimage.binary_closing(wide, box)))
    inside = plain_contour(mirrored(start), mirrored(glacier), settings.iterations)
    narrow = ndimage.binary_erosion(inside, diamond(*margin))
    near = ndimage.binary_dilation(narrow, diamond(margin[0] + 1, margin[1] + 1))
    return cropped(narrow) | (glacier & cropped(near))


def diamond(rows: int, columns: int) -> np.ndarray:
    return np.array(
        [
            [abs(y) / max(rows, 1) + abs(x) / max(columns, 1) <= 1
             for x in range(-columns, columns + 1)]
            for y in range(-rows, rows + 1)
        ]
    )  # fmt: skip


def plain_contour(
    start: np.ndarray, glacier: np.ndarray, iterations: int, *, balloon: float = -0.5
) -> np.ndarray:
    """The active contour of scikit-image, as published."""
    with pytest.MonkeyPatch.context() as patch:  # it goes on where the call before has left off
        order = [lambda u: morphsnakes.sup_inf(morphsnakes.inf_sup(u)),
                 lambda u: morphsnakes.inf_sup(morphsnakes.sup_inf(u))]  # fmt: skip
        patch.setattr(morphsnakes, "_curvop", morphsnakes._fcycle(order))
        return morphological_geodesic_active_contour(
            1.0 - glacier, iterations, init_level_set=start, smoothing=1, balloon=balloon,
            threshold=0.6,
        ).astype(bool)  # fmt: skip


def metres_from(mask: np.ndarray, size: tuple[float, float]) -> np.ndarray:
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return ndimage.distance_transform_edt(~mask, sampling=size)


class Vertex:
    """A place on an outline: what lies near it."""

    def __init__(
        self,
        place: list[float],
        ice: np.ndarray,
        metres: list[np.ndarray],
        settings: FrontSettings,
        size: tuple[float, float],
    ) -> None:
        self.place = tuple(place)
        beside = [tuple(side(n) for n in place) for side in (math.floor, math.ceil)]
        (self.inside,) = [pixel for pixel in beside if ice[pixel]]
        (self.outside,) = [pixel for pixel in beside if not ice[pixel]]
        self.ocean_m, land_m, blank_m = (min(field[p] for p in beside) for field in metres)
        self.cut = blank_m <= settings.frame_m
        for along, length, step in zip(place, ice.shape, size, strict=True):
            frame = max(1, round(settings.frame_m / step))
            self.cut |= not frame <= along <= length - 1 - frame
        self.at_ocean = self.ocean_m <= settings.contact_m and not self.cut
        self.at_land = land_m < self.ocean_m


def ice_on_the_right(vertices: list[Vertex]) -> bool:
    """Look from the middle of the first step to the pixel inside, rows going down."""
    one, other = vertices[:2]
    along = np.subtract(other.place, one.place)
    aside = np.subtract(one.inside, one.outside)
    return along[1] * -aside[0] - -along[0] * aside[1] < 0


def plain_pieces(vertices: list[Vertex]) -> list[tuple[list[Vertex], bool]]:
    """Pieces of an outline along the ocean, and whether they are cut."""
    if vertices[0].place == vertices[-1].place:
        elsewhere = [n for n, vertex in enumerate(vertices) if not vertex.at_ocean]
        if not elsewhere:
            first = min(range(len(vertices) - 1), key=lambda n: vertices[n].place)
            return [([*vertices[first:-1], *vertices[: first + 1]], False)]
        start = elsewhere[0]
        vertices = [*vertices[start:-1], *vertices[: start + 1]]
    pieces, at = [], 0
    for at_ocean, group in itertools.groupby(vertices, key=lambda vertex: vertex.at_ocean):
        piece = list(group)
        before, after = vertices[max(at - 1, 0)], vertices[min(at + len(piece), len(vertices) - 1)]
        at += len(piece)
        if not at_ocean:
            continue
        cut = (before.cut and not piece[0].at_land) or (after.cut and not piece[-1].at_land)
        while piece and piece[0].at_land:
            piece.pop(0)
        while piece and piece[-1].at_land:
            piece.pop()
        if len(piece) > 1:
            pieces.append((piece, cut))
    return pieces
