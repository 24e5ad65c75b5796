"""Pictures of a classification: image, labels and the classes of both phases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import geopandas
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from shapely.geometry import LineString

from csc_xr.errors import ParameterError
from csc_xr.figures.panels import (
    Frame,
    class_patches,
    coloured,
    frame_of,
    in_frame,
    picture_of,
    show,
    thinned_classes,
    thinning,
)
from csc_xr.figures.style import DPI, LABEL_SIZE, add_title, save_png
from csc_xr.fronts.settings import FRONT
from csc_xr.grid import scene_transform
from csc_xr.legend import ClassLegend
from csc_xr.scene import validate_scene

_PANEL_INCHES = 5.6


def four_part_figure(
    scene: xr.DataArray,
    labels: xr.DataArray | None,
    tile_class: xr.DataArray,
    pixel_class: xr.DataArray,
    *,
    legend: ClassLegend,
    title: str,
    scores: Mapping[str, float] | None = None,
    front: geopandas.GeoSeries | None = None,
    front_error_m: float | None = None,
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
    front : geopandas.GeoSeries, optional
        Calving front, in the CRS of the scene; drawn over the image and phase two's classes.
    front_error_m : float, optional
        Median distance from a digitised front, in metres, shown over the panel of phase two.
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
    steps = thinning(scene)
    picture, caption = picture_of(scene, steps)
    classes = {name: thinned_classes(raster, steps) for name, raster in drawn.items()}
    frame = frame_of(scene, steps)

    figure, axes = _panels(len(drawn) + 1, frame)
    add_title(figure, title)
    show(axes[0], picture, frame, caption)
    for axis, (name, codes) in zip(axes[1:], classes.items(), strict=True):
        error_m = front_error_m if name == "pixel_class" else None
        show(axis, coloured(codes, legend), frame, _class_caption(name, scores or {}, error_m))
    handles: list[Artist] = [*class_patches(list(classes.values()), legend)]
    if front is not None and not front.empty:
        in_pixels = front.affine_transform((~scene_transform(scene)).to_shapely())
        (line,) = in_frame(in_pixels, scene, steps, frame)
        handles.append(_draw_front((axes[0], axes[-1]), line))
    _add_legend(figure, handles)
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


def _panels(count: int, frame: Frame) -> tuple[Figure, list[Axes]]:
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


def _draw_front(axes: tuple[Axes, ...], line: LineString) -> Line2D:
    for axis in axes:
        axis.plot(*line.xy, color="white", linewidth=2.6, alpha=0.8)
        axis.plot(*line.xy, color=FRONT.colour, linewidth=1.3)
    return Line2D([], [], color=FRONT.colour, linewidth=1.5, label=FRONT.name)


def _class_caption(name: str, scores: Mapping[str, float], front_error_m: float | None) -> str:
    words = {
        "labels": "Labels",
        "tile_class": "Phase one: tiles",
        "pixel_class": "Phase two: pixels",
    }
    score = scores.get(name)
    figures = [] if score is None else [f"F1 {100 * score:.1f} %"]
    if front_error_m is not None:
        figures.append(f"front error {front_error_m:.0f} m")
    return f"{words[name]} ({', '.join(figures)})" if figures else words[name]


def _add_legend(figure: Figure, handles: list[Artist]) -> None:
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 5),
        fontsize=LABEL_SIZE,
        frameon=False,
    )
