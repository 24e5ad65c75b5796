"""Pictures of a classification: image, labels and the classes of both phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from csc_xr.errors import ParameterError
from csc_xr.figures.style import (
    CAPTION_SIZE,
    DPI,
    EDGE_COLOUR,
    LABEL_SIZE,
    TICK_SIZE,
    add_title,
    save_png,
)
from csc_xr.grid import is_georeferenced, scene_transform
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.scene import valid_pixels, validate_scene

MAX_PANEL_PIXELS = 1500
"""Longest side of a panel in image pixels; larger scenes are thinned."""

_PANEL_INCHES = 5.6
_UNCLASSIFIED_COLOUR = "#000000"
_COLOUR_BANDS = ("red", "green", "blue")


@dataclass(frozen=True)
class _Frame:
    """Where the panels lie: extent as matplotlib takes it, axis labels and aspect."""

    extent: tuple[float, float, float, float]
    labels: tuple[str, str]
    aspect: float
    north_up: bool


def four_part_figure(
    scene: xr.DataArray,
    labels: xr.DataArray | None,
    tile_class: xr.DataArray,
    pixel_class: xr.DataArray,
    *,
    legend: ClassLegend,
    title: str,
    scores: Mapping[str, float] | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Draw the image, its labels, and the classes of phase one and phase two.

    Computes the rasters, thinned to at most 1500 px a side: classes by taking one pixel of
    many, the image by averaging, so that memory does not grow with the scene.

    Parameters
    ----------
    scene : xarray.DataArray
        A scene, dims ("band", "y", "x"); shown from its bands red, green and blue, or else its
        first three, each stretched between its 2nd and 98th percentile; one or two bands as grey.
        Pixels that are not valid stay blank.
    labels : xarray.DataArray or None
        Digitised classes, (y, x), uint8; None leaves their panel out.
    tile_class, pixel_class : xarray.DataArray
        Classes of phase one and phase two on the grid of the scene, (y, x), uint8.
    legend : ClassLegend
        Colours and names; the figure's legend has the classes that occur.
    title : str
        Title of the figure.
    scores : mapping, optional
        F1 scores by ``"tile_class"`` and ``"pixel_class"``, shown over their panels.
    path : str or Path, optional
        Where to write the figure as PNG, whole or not at all.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; no window is opened and no global state touched.

    Raises
    ------
    SceneError
        When the scene is no scene.
    ParameterError
        When a class raster does not have the shape of the scene.
    OutputError
        When the file cannot be written.
    """
    scene = validate_scene(scene)
    panels = {"labels": labels, "tile_class": tile_class, "pixel_class": pixel_class}
    drawn = {name: raster for name, raster in panels.items() if raster is not None}
    for name, raster in drawn.items():
        _check_shape(name, raster, scene)
    rows, columns = scene.sizes["y"], scene.sizes["x"]
    step = -(-max(rows, columns) // MAX_PANEL_PIXELS)
    steps = {"y": min(step, rows), "x": min(step, columns)}
    picture, caption = _picture(scene, steps)
    classes = {name: _thinned(raster, steps) for name, raster in drawn.items()}
    frame = _frame(scene, rows - rows % steps["y"], columns - columns % steps["x"])

    figure, axes = _panels(len(drawn) + 1, frame)
    add_title(figure, title)
    _show(axes[0], picture, frame, caption)
    for axis, (name, codes) in zip(axes[1:], classes.items(), strict=True):
        _show(axis, _coloured(codes, legend), frame, _class_caption(name, scores or {}))
    _add_legend(figure, list(classes.values()), legend)
    if path is not None:
        save_png(figure, path)
    return figure


def _check_shape(name: str, raster: xr.DataArray, scene: xr.DataArray) -> None:
    wanted = (scene.sizes["y"], scene.sizes["x"])
    if raster.dims != ("y", "x") or raster.shape != wanted:
        raise ParameterError(
            f"{name} must have the dims y and x and the shape {wanted} of the scene, got "
            f"{raster.dims} and {raster.shape}. Bring it onto the grid of the scene first."
        )


def _picture(scene: xr.DataArray, steps: Mapping[str, int]) -> tuple[npt.NDArray[np.float32], str]:
    """Red, green, blue and opacity, 0 to 1, and the caption that tells the bands."""
    names = [str(name) for name in scene["band"].values]
    if set(_COLOUR_BANDS) <= set(names):
        shown = list(_COLOUR_BANDS)
    else:
        shown = names[:3] if len(names) >= 3 else names[:1]
    bands = scene.isel(band=[names.index(name) for name in shown])
    values = bands.where(valid_pixels(scene)).astype(np.float32)
    if max(steps.values()) > 1:
        # Chunks of whole blocks let the mean run chunk by chunk.
        whole = {dim: n * max(1, bands.chunksizes[dim][0] // n) for dim, n in steps.items()}
        values = values.chunk(whole).coarsen(steps, boundary="trim").mean()
    stretched = np.stack([_stretched(band) for band in values.values], axis=-1)
    blank = np.isnan(stretched).any(axis=-1, keepdims=True)
    colour = np.broadcast_to(np.where(blank, 1, stretched), (*blank.shape[:2], 3))
    picture = np.concatenate([colour, np.where(blank, 0, 1)], axis=-1).astype(np.float32)
    if shown == list(_COLOUR_BANDS):
        return picture, "Image"
    return picture, f"Image ({', '.join(shown)})"


def _stretched(band: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    valid = band[np.isfinite(band)]
    if valid.size == 0:
        return np.full_like(band, np.nan)
    low, high = np.percentile(valid, (2, 98))
    if high <= low:
        return np.where(np.isfinite(band), np.float32(0.5), band)
    # The gamma keeps dark water from going black beside snow.
    stretched: npt.NDArray[np.float32] = np.clip((band - low) / (high - low), 0, 1) ** 0.7
    return stretched


def _thinned(raster: xr.DataArray, steps: Mapping[str, int]) -> npt.NDArray[np.uint8]:
    """Take a pixel near the middle of every block, but none of the parts of blocks at the end."""
    middles = {
        dim: slice(n // 2, raster.sizes[dim] - raster.sizes[dim] % n, n) for dim, n in steps.items()
    }
    return raster.isel(middles).values.astype(np.uint8)


def _frame(scene: xr.DataArray, rows: int, columns: int) -> _Frame:
    transform, crs = scene_transform(scene), scene.rio.crs
    rotated = transform.b != 0 or transform.d != 0
    if crs is None or rotated or not is_georeferenced(scene):
        return _Frame((0, columns, rows, 0), ("Column (px)", "Row (px)"), 1.0, north_up=False)
    left, right = transform.c, transform.c + columns * transform.a
    top, bottom = transform.f, transform.f + rows * transform.e
    if crs.is_geographic:
        aspect = 1 / max(np.cos(np.deg2rad((top + bottom) / 2)), 0.05)  # finite at the poles
        names = ("Longitude (°)", "Latitude (°)")
        return _Frame((left, right, bottom, top), names, float(aspect), north_up=True)
    kilometres = crs.linear_units_factor[1] / 1000
    extent = (left * kilometres, right * kilometres, bottom * kilometres, top * kilometres)
    return _Frame(extent, ("Easting (km)", "Northing (km)"), 1.0, north_up=True)


def _panels(count: int, frame: _Frame) -> tuple[Figure, list[Axes]]:
    left, right, bottom, top = frame.extent
    shape = abs(top - bottom) * frame.aspect / abs(right - left)
    rows, columns = (2, 2) if count == 4 else (1, count)
    # Very long scenes would make a figure of no use on a screen.
    width = _PANEL_INCHES * max(min(1.0, 1.5 / shape), 0.4)
    height = _PANEL_INCHES * min(max(shape, 0.3), 1.5)
    # Inches for tick labels, titles and legend, so that little is left blank around the panels.
    size = (columns * (width + 0.25) + 0.65, rows * (height + 0.35) + 1.3)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.06)
    figure = Figure(figsize=size, layout=layout, dpi=DPI)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in grid[-1]:
        axis.set_xlabel(frame.labels[0], fontsize=LABEL_SIZE)
    for axis in grid[:, 0]:
        axis.set_ylabel(frame.labels[1], fontsize=LABEL_SIZE)
    return figure, list(grid.ravel())


def _show(axis: Axes, picture: npt.NDArray[Any], frame: _Frame, caption: str) -> None:
    axis.imshow(
        picture,
        extent=frame.extent,
        interpolation="nearest" if picture.dtype == np.uint8 else "auto",
        aspect=frame.aspect,
    )
    if frame.north_up:
        axis.set_xlim(*sorted(frame.extent[:2]))
        axis.set_ylim(*sorted(frame.extent[2:]))
    axis.set_title(caption, fontsize=CAPTION_SIZE)
    axis.tick_params(labelsize=TICK_SIZE)
    for line in (axis.xaxis, axis.yaxis):
        line.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        line.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]


def _coloured(codes: npt.NDArray[np.uint8], legend: ClassLegend) -> npt.NDArray[np.uint8]:
    table = np.zeros((256, 4), dtype=np.uint8)
    for code, colour in legend.colour_table().items():
        table[code] = colour
    table[NODATA_CODE] = (0, 0, 0, 255)
    return table[codes]


def _class_caption(name: str, scores: Mapping[str, float]) -> str:
    words = {
        "labels": "Labels",
        "tile_class": "Phase one: tiles",
        "pixel_class": "Phase two: pixels",
    }
    score = scores.get(name)
    return words[name] if score is None else f"{words[name]} (F1 {100 * score:.1f} %)"


def _add_legend(figure: Figure, classes: list[npt.NDArray[np.uint8]], legend: ClassLegend) -> None:
    present = set(np.unique(np.concatenate([codes.ravel() for codes in classes])).tolist())
    entries = [(entry.name, entry.colour) for entry in legend.classes if entry.code in present]
    if NODATA_CODE in present:
        entries.append((legend.class_name(NODATA_CODE), _UNCLASSIFIED_COLOUR))
    patches = [
        Patch(facecolor=colour, edgecolor=EDGE_COLOUR, linewidth=0.6, label=name)
        for name, colour in entries
    ]
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=min(len(patches), 5),
        fontsize=LABEL_SIZE,
        frameon=False,
    )
