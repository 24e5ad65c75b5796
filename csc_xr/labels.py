"""Label rasters: classes digitised by a person, on the grid of their scene."""

from __future__ import annotations

import warnings
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray

from csc_xr.errors import CscWarning, LabelError, SceneError
from csc_xr.grid import is_georeferenced, pixel_map
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.scene import open_scene, scene_like, scene_transform, valid_pixels

_NEAR = 0.01  # of a pixel: grids that lie nearer to each other are one


def find_labels(image_path: str | Path) -> Path | None:
    """Find the label raster that belongs to an image, by its name.

    Parameters
    ----------
    image_path : str or Path
        The image; it need not exist.

    Returns
    -------
    Path or None
        ``SCLS_<name>.tif`` or ``.tiff`` in the same folder, else the same without the
        underscores of the name (``StMarg_26607.jpg`` goes with ``SCLS_StMarg26607.tif``); None
        when there is no such file.
    """
    return find_beside(image_path, "SCLS", (".tif", ".tiff"))


def find_beside(image_path: str | Path, prefix: str, suffixes: tuple[str, ...]) -> Path | None:
    """Find a file that belongs to an image, by its name.

    Parameters
    ----------
    image_path : str or Path
        The image; it need not exist.
    prefix : str
        Such as ``SCLS``.
    suffixes : tuple of str
        Endings to look for, in this order.

    Returns
    -------
    Path or None
        ``<prefix>_<name><suffix>`` in the same folder, else the same without the underscores of
        the name; None when there is no such file.
    """
    image = Path(image_path)
    for name in (image.stem, image.stem.replace("_", "")):
        for suffix in suffixes:
            candidate = image.with_name(f"{prefix}_{name}{suffix}")
            if candidate.is_file():
                return candidate
    return None


def open_labels(path: str | Path, *, like: xr.DataArray, legend: ClassLegend) -> xr.DataArray:
    """Open a label raster on the grid of its scene.

    Reads the raster once, chunk by chunk, to look for codes the legend does not have; the result
    is lazy and reads it again. Labels of other pixels than the scene's are resampled to the
    nearest label pixel: the one that the centre of the scene's pixel falls in, and on a border
    between two the one stored later.

    Parameters
    ----------
    path : str or Path
        Raster file of one band that holds class codes, in any dtype; pixels without data are
        unlabelled.
    like : xarray.DataArray
        The scene, or any raster of dims (y, x) on its grid, such as the classes of a result.
    legend : ClassLegend
        Classes the codes stand for. Codes that results only display count as unlabelled.

    Returns
    -------
    xarray.DataArray
        Dims (y, x), uint8, Dask-backed, on the scene's grid and chunks, 0 where unlabelled (which
        may be everywhere); attributes of the legend and ``source``.

    Raises
    ------
    LabelError
        When the raster cannot be read, holds other numbers than codes of the legend, or lies
        elsewhere than the scene.

    Warns
    -----
    CscWarning
        When the labels are resampled, or only one of labels and scene is georeferenced.
    """
    scene = scene_like(like)
    source = Path(path)
    try:
        raster = open_scene(source)
        if raster.sizes["band"] != 1:
            raise LabelError(
                f"Labels must be one band of class codes, got {raster.sizes['band']} bands in "
                f"{source}. Save the codes, not the colours they are shown in."
            )
        numbers = da.where(valid_pixels(raster).data, raster.data[0], raster.dtype.type(0))
        _check_codes(numbers, legend, source)
    except SceneError as error:
        raise LabelError(f"Labels cannot be read. {error}") from error
    codes = numbers.astype(np.uint8)
    codes = da.where(da.isin(codes, legend.codes), codes, np.uint8(NODATA_CODE))
    pixels = _label_pixels(raster, scene, source)
    if pixels is not None:
        codes = da.take(da.take(codes, pixels[0], axis=0), pixels[1], axis=1)
    labels = valid_pixels(scene).copy(data=codes.rechunk(scene.data.chunks[1:]))
    return labels.rename("labels").assign_attrs(legend.flag_attributes(), source=str(source))


def _check_codes(numbers: da.Array, legend: ClassLegend, source: Path) -> None:
    allowed = (NODATA_CODE, *(entry.code for entry in legend.classes))
    blocks = [dask.delayed(_others)(block, allowed) for block in numbers.to_delayed().ravel()]
    others = sorted(set().union(*dask.compute(*blocks)))
    if not others:
        return
    found = ", ".join(f"{number:g}" for number in others[:10])
    found += ", ..." * (len(others) > 10)
    if any(number != int(number) for number in others):
        raise LabelError(
            f"Labels must be whole numbers, got {found} in {source}. "
            "Pass a raster of class codes, resampled by nearest neighbour if at all."
        )
    raise LabelError(
        f"Labels must hold the codes of legend {legend.name!r}, "
        f"{', '.join(map(str, legend.codes))}, or 0 where there is none; got {found} in {source}. "
        "Pass the legend they were drawn with, or recode them."
    )


def _others(block: NDArray[np.generic], allowed: tuple[int, ...]) -> set[float]:
    """Numbers that are not allowed, at most a hundred."""
    return {float(number) for number in np.unique(block[~np.isin(block, allowed)])[:100]}


def _label_pixels(
    raster: xr.DataArray, scene: xr.DataArray, source: Path
) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Rows and columns of the label pixels that the scene's pixels fall in; None: their own."""
    (height, width), (rows, columns) = scene.shape[1:], raster.shape[1:]
    size = f"{rows} x {columns} pixels onto the {height} x {width} of the scene"
    placed = is_georeferenced(raster), is_georeferenced(scene)
    same_size = (height, width) == (rows, columns)
    if all(placed):
        moved = _checked_map(raster, scene, source)
    else:
        if abs(columns * height / (rows * width) - 1) > 0.02:
            raise LabelError(
                f"Labels without a place on the map must have the shape of the scene, {height} x "
                f"{width} pixels, got {rows} x {columns} in {source}. "
                "Pass the labels of this scene, or georeference both."
            )
        moved = Affine.scale(columns / width, rows / height)
        if any(placed):
            lacking = "the scene" if placed[0] else source
            _warn(f"{lacking} has no georeference, so labels and scene are taken to coincide.")
    found = _nearest(moved.e, moved.f, height, rows), _nearest(moved.a, moved.c, width, columns)
    if same_size and all(np.array_equal(index, np.arange(len(index))) for index in found):
        return None
    _warn(f"The labels {source} are resampled by nearest neighbour, {size}.")
    return found


def _checked_map(raster: xr.DataArray, scene: xr.DataArray, source: Path) -> Affine:
    """Pixels of the scene to pixels of the labels, once both are known to cover the same."""
    crs = raster.rio.crs, scene.rio.crs
    moved = pixel_map(scene, raster)
    (height, width), (rows, columns) = scene.shape[1:], raster.shape[1:]
    covered = (
        abs(moved.b * height) < _NEAR
        and abs(moved.d * width) < _NEAR
        and _covers(moved.e, moved.f, height, rows)
        and _covers(moved.a, moved.c, width, columns)
    )
    if not covered or (None not in crs and crs[0] != crs[1]):
        raise LabelError(
            f"Labels must cover the extent of the scene, {_extent(scene)}, but {source} covers "
            f"{_extent(raster)}. Pass the labels of this scene, or warp them onto its grid."
        )
    return moved


def _covers(step: float, start: float, count: int, limit: int) -> bool:
    """Whether the scene, seen in label pixels, ends where the labels do.

    One pixel of the coarser raster may be missing or too many: sizes are rounded to pixels.
    """
    first, last = sorted((start, start + count * step))
    near = max(1.0, abs(step))
    return abs(first) < near and abs(last - limit) < near


def _nearest(step: float, start: float, count: int, limit: int) -> NDArray[np.intp]:
    """Index of the label pixel that the centre of each pixel of the scene falls in."""
    first, last = sorted((start, start + count * step))
    near = _NEAR * min(1.0, abs(step))
    if abs(first) < near and abs(last - limit) < near:  # one extent, but for rounding
        step, start = (limit / count, 0.0) if step > 0 else (-limit / count, float(limit))
    centres = step * (np.arange(count) + 0.5) + start
    whole = np.rint(centres)  # a centre on a border must not move with rounding
    floor = np.floor(np.where(np.abs(centres - whole) < 1e-6, whole, centres))
    return floor.clip(0, limit - 1).astype(np.intp)


def _extent(raster: xr.DataArray) -> str:
    transform, crs = scene_transform(raster), raster.rio.crs
    height, width = raster.shape[1:]
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    x = [transform.a * column + transform.b * row + transform.c for column, row in corners]
    y = [transform.d * column + transform.e * row + transform.f for column, row in corners]
    name = "without CRS" if crs is None else f"in {crs.to_string()}"
    return f"x {min(x):.10g} to {max(x):.10g}, y {min(y):.10g} to {max(y):.10g} {name[:60]}"


def _warn(message: str) -> None:
    warnings.warn(message, CscWarning, stacklevel=4)  # at the call of open_labels
