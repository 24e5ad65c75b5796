"""The grid on which the bands of a product become a scene."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform_bounds

from csc_xr.errors import SceneError
from csc_xr.grid import scene_transform
from csc_xr.raster import open_raster

Box = tuple[float, float, float, float]
"""Lowest x and y, highest x and y."""

_EDGE = 1e-6  # of a pixel: a box that ends on the edge of a pixel touches no further one
_LONGEST = 10**6  # rows or columns: what asks for more is metres taken for degrees


@dataclass(frozen=True)
class TargetGrid:
    """Where the pixels of a raster lie.

    Attributes
    ----------
    crs : rasterio.crs.CRS or None
        Coordinate reference system.
    transform : affine.Affine
        From pixel corners (column, row) to the map.
    height, width : int
        Rows and columns.
    """

    crs: CRS | None
    transform: Affine
    height: int
    width: int

    @property
    def pixel(self) -> float:
        """Width of a pixel on the map."""
        return math.hypot(self.transform.a, self.transform.d)

    @property
    def bounds(self) -> Box:
        """Box around all pixels."""
        columns, rows = (0, self.width, 0, self.width), (0, 0, self.height, self.height)
        corners = [self.transform @ corner for corner in zip(columns, rows, strict=True)]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def grid_of(scene: xr.DataArray) -> TargetGrid:
    """Give the grid of a scene.

    Parameters
    ----------
    scene : xarray.DataArray
        Anything with dims y and x.

    Returns
    -------
    TargetGrid
        Its CRS, transform and size.
    """
    height, width = scene.sizes["y"], scene.sizes["x"]
    return TargetGrid(scene.rio.crs, scene_transform(scene), height, width)


def native_grid(path: str) -> TargetGrid:
    """Give the grid of a raster file.

    Parameters
    ----------
    path : str
        Path of a file, or of one in a zip as GDAL writes it.

    Returns
    -------
    TargetGrid
        Read from the header.

    Raises
    ------
    SceneError
        When the file cannot be opened.
    """
    with open_raster(path) as dataset:
        return TargetGrid(dataset.crs, dataset.transform, dataset.height, dataset.width)


def settle_grid(
    files: Sequence[tuple[str, TargetGrid]],
    *,
    crs: Any = None,
    resolution: float | None = None,
    box: Box | None = None,
    box_crs: Any = None,
    like: xr.DataArray | None = None,
) -> TargetGrid:
    """Choose one grid for the bands of a product.

    Parameters
    ----------
    files : sequence of (str, TargetGrid)
        Names of the bands and the grids of their files; at least one.
    crs, resolution, box, box_crs : optional
        As for :func:`choose_grid`.
    like : xarray.DataArray, optional
        Scene whose grid is taken; the others must be left out then.

    Returns
    -------
    TargetGrid
        That of `like`; else as :func:`choose_grid` makes it from the grid of the band that has
        the resolution asked for, or else the smallest pixels.

    Raises
    ------
    SceneError
        When the bands have several resolutions and none is asked for, lie in several CRS or
        in several places, or the grid cannot be made.
    """
    _check_one_place(files)
    if like is not None:
        if any(setting is not None for setting in (crs, resolution, box, box_crs)):
            raise SceneError(
                "like= settles the whole grid, so crs=, resolution=, box= and box_crs= must be "
                "left out with it. Leave out one or the other."
            )
        grid = grid_of(like)
        if (grid.crs is None) != (files[0][1].crs is None):
            raise SceneError(
                "The scene of like= and the product must both have a CRS, but only one has. "
                "Give the scene its CRS with .rio.write_crs."
            )
        return grid
    sizes = sorted({round(grid.pixel, 9) for _, grid in files})
    if len(sizes) > 1 and crs is None and resolution is None:
        listed = ", ".join(f"{name} {grid.pixel:g}" for name, grid in files)
        raise SceneError(
            "Bands of several resolutions need one to be resampled to, got pixels of "
            f"{listed}. Pass resolution={sizes[0]:g}, or like= a scene."
        )
    equal = [grid for _, grid in files if resolution is not None and grid.pixel == resolution]
    native = equal[0] if equal else min((grid for _, grid in files), key=lambda grid: grid.pixel)
    return choose_grid(native, crs=crs, resolution=resolution, box=box, box_crs=box_crs)


def choose_grid(
    native: TargetGrid,
    *,
    crs: Any = None,
    resolution: float | None = None,
    box: Box | None = None,
    box_crs: Any = None,
) -> TargetGrid:
    """Choose the grid of a scene.

    Parameters
    ----------
    native : TargetGrid
        Grid of the file.
    crs : optional
        Coordinate reference system to go to, as a code (``"EPSG:3413"``, 3413), text or object;
        the file's own by default.
    resolution : float, optional
        Sides of a pixel in units of that CRS. By default that of the file; in a CRS of other
        units the one that keeps the number of pixels along the diagonal.
    box : tuple of float, optional
        Lowest x and y, highest x and y; all of the file by default. A box in degrees may cross the
        antimeridian, with a lowest x above the highest, if the scene is in metres.
    box_crs : optional
        CRS of the box, that of the scene by default.

    Returns
    -------
    TargetGrid
        In the file's own CRS and resolution, exactly the pixels of the file that the box touches.
        Otherwise north up, with corners on whole multiples of the resolution, so that products
        opened with the same settings lie on one grid: the box as a whole, whether the file
        covers it or not.

    Raises
    ------
    SceneError
        When a setting cannot be used, the box touches no pixel of the file, the pixels would be
        larger than the image or without number, or the antimeridian would cut the scene.

    Examples
    --------
    >>> native = TargetGrid(CRS.from_epsg(32624), Affine(10, 0, 500000, 0, -10, 7400040), 60, 60)
    >>> tuple(choose_grid(native, box=(500095, 7400000, 500110, 7400020)).transform)[:6]
    (10.0, 0.0, 500090.0, 0.0, -10.0, 7400020.0)
    """
    goal = native.crs if crs is None else _read_crs(crs, "crs")
    if resolution is not None and not (_is_number(resolution) and resolution > 0):
        raise SceneError(
            f"resolution must be a positive number of map units, got {resolution!r}. Pass 10 for "
            "pixels of 10 m."
        )
    if goal is not None and native.crs is None:
        raise SceneError(
            "The product has no coordinate reference system, so it cannot go to another. Leave "
            "crs= out, or give the files theirs."
        )
    wanted = _box_in(box, goal if box_crs is None else _read_crs(box_crs, "box_crs"), goal)
    own = goal == native.crs and resolution in (None, native.pixel)
    if wanted is not None:
        _check_touches(wanted, native, goal)
    if own:
        return native if wanted is None else _touched(native, wanted)
    side = float(resolution) if resolution is not None else _nearest_resolution(native, goal)
    if wanted is None:
        wanted = _moved(native.bounds, native.crs, goal)
    _check_size(side, wanted, _moved(native.bounds, native.crs, goal))
    left, bottom = (math.floor(edge / side + _EDGE) for edge in wanted[:2])
    right, top = (math.ceil(edge / side - _EDGE) for edge in wanted[2:])
    return TargetGrid(
        goal,
        Affine(side, 0.0, left * side, 0.0, -side, top * side),
        max(1, top - bottom),
        max(1, right - left),
    )


def _check_one_place(files: Sequence[tuple[str, TargetGrid]]) -> None:
    """Bands of one product cover the same area, but for parts of a pixel at the far edges."""
    (name, first), *others = files
    for other_name, other in others:
        away = max(
            abs(one - two) for one, two in zip(first.bounds, other.bounds, strict=True)
        ) > max(first.pixel, other.pixel)
        if other.crs != first.crs or away:
            raise SceneError(
                "The bands of a product must lie in one CRS and cover one area, but "
                f"{name} is in {_crs_name(first.crs)} over {_box_text(first.bounds)}, and "
                f"{other_name} in {_crs_name(other.crs)} over {_box_text(other.bounds)}. "
                "Take files of one tile."
            )


def _box_in(box: Box | None, box_crs: CRS | None, goal: CRS | None) -> Box | None:
    if box is None:
        return None
    numbers = list(box) if isinstance(box, Iterable) else []
    if len(numbers) != 4 or not all(_is_number(number) for number in numbers):
        raise SceneError(
            f"box must be four numbers, lowest x and y, highest x and y, got {box!r}. Correct it."
        )
    left, bottom, right, top = map(float, numbers)
    around = box_crs is not None and box_crs.is_geographic and box_crs != goal
    if not ((left < right or (around and left > right)) and bottom < top):
        raise SceneError(
            f"box must be lowest x and y, then highest x and y, got {_box_text(numbers)}. "
            "Correct the order."
        )
    return _moved((left, bottom, right, top), box_crs, goal)


def _moved(box: Box, start: CRS | None, end: CRS | None) -> Box:
    if start == end:
        return box
    try:
        moved = transform_bounds(start, end, *box, densify_pts=21)
    except (CRSError, RasterioError, AttributeError) as error:
        raise SceneError(
            f"The box {_box_text(box)} in {_crs_name(start)} must have a place in "
            f"{_crs_name(end)}, but has none ({error}). Check box= and box_crs=."
        ) from error
    if not all(math.isfinite(edge) for edge in moved):
        raise SceneError(
            f"The box {_box_text(box)} in {_crs_name(start)} must have a place in "
            f"{_crs_name(end)}, but has none. Check box= and box_crs=."
        )
    if moved[0] > moved[2]:
        raise SceneError(
            f"A scene in {_crs_name(end)} must lie on one side of the antimeridian, but "
            f"{_box_text(box)} in {_crs_name(start)} lies on both. Use a CRS in metres."
        )
    return moved[0], moved[1], moved[2], moved[3]


def _check_touches(box: Box, native: TargetGrid, goal: CRS | None) -> None:
    edges = _moved(native.bounds, native.crs, goal)
    if box[0] < edges[2] and box[2] > edges[0] and box[1] < edges[3] and box[3] > edges[1]:
        return
    raise SceneError(
        f"The box must touch the image, which covers {_box_text(edges)} in {_crs_name(goal)}, got "
        f"{_box_text(box)}. Correct box=, or say in box_crs= which CRS it is in; check the CRS of "
        "polygons that it was taken from."
    )


def _check_size(side: float, wanted: Box, image: Box) -> None:
    sizes = [math.ceil(length / side) for length in _sides(wanted)]
    if side > max(_sides(image)):
        asked = "larger than the whole image"
    elif max(sizes) > _LONGEST:
        asked = f"so small that the scene has {sizes[1]} x {sizes[0]}"
    else:
        return
    raise SceneError(
        f"resolution must be in the units of the scene's CRS, got {side:g}, which makes pixels "
        f"{asked}. Correct resolution=, or choose another crs=."
    )


def _sides(box: Box) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


def _touched(native: TargetGrid, box: Box) -> TargetGrid:
    """Cut a grid to the pixels that a box touches."""
    if native.transform.b or native.transform.d:
        raise SceneError(
            "The image is rotated, so a box of it is no box of pixels. Pass resolution= too, to "
            "get it north up."
        )
    back = ~native.transform
    (one, two), (three, four) = back @ (box[0], box[3]), back @ (box[2], box[1])
    columns, rows = sorted((one, three)), sorted((two, four))
    left, top = (
        min(max(0, math.floor(start + _EDGE)), length - 1)
        for start, length in ((columns[0], native.width), (rows[0], native.height))
    )
    right = min(native.width, math.ceil(columns[1] - _EDGE))
    bottom = min(native.height, math.ceil(rows[1] - _EDGE))
    return TargetGrid(
        native.crs,
        native.transform @ Affine.translation(left, top),
        max(1, bottom - top),
        max(1, right - left),
    )


def _nearest_resolution(native: TargetGrid, goal: CRS | None) -> float:
    """Pixel size in another CRS: the same number where the units are the same."""
    if native.crs is None or goal is None or goal == native.crs:
        return native.pixel
    units = {(crs.is_geographic, crs.linear_units) for crs in (native.crs, goal)}
    if len(units) == 1:
        return native.pixel
    left, bottom, right, top = _moved(native.bounds, native.crs, goal)
    return math.hypot(right - left, top - bottom) / math.hypot(native.width, native.height)


def _read_crs(value: Any, name: str) -> CRS:
    try:
        return CRS.from_user_input(value)
    except (CRSError, TypeError) as error:
        raise SceneError(
            f"{name} must be a coordinate reference system, such as 'EPSG:32624', got {value!r}. "
            "Correct it."
        ) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _crs_name(crs: CRS | None) -> str:
    return "no CRS" if crs is None else str(crs.to_string())


def _box_text(box: Sequence[float]) -> str:
    return "(" + ", ".join(f"{edge:.10g}" for edge in box) + ")"
