"""Figures of fronts: how they moved, where they lay, and how far off they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas
import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
import xarray as xr
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LinearLocator, MaxNLocator
from pyproj import CRS

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
from csc_xr.figures.style import (
    CAPTION_SIZE,
    DPI,
    EDGE_COLOUR,
    LABEL_SIZE,
    TICK_SIZE,
    add_title,
    save_png,
)
from csc_xr.fronts.deviation import Deviation
from csc_xr.fronts.series import FrontSeries
from csc_xr.grid import scene_transform
from csc_xr.legend import ClassLegend
from csc_xr.scene import validate_scene

_BOX_COLOUR = "#03719c"
_CENTRELINE_COLOUR = "#d1581c"
_GRID: dict[str, Any] = {"color": "#e4e4e4", "linewidth": 0.8}
_METHODS = (
    ("Box, mean over its width", "box_change_m", _BOX_COLOUR, "o"),
    ("Centreline", "centreline_change_m", _CENTRELINE_COLOUR, "s"),
)
_CHANGES = [column for _, column, _, _ in _METHODS]
_FEW_FRONTS = 60
_CHANGE_INCHES = 4.0
_GAP_INCHES = 0.27
"""Height of the row of one kind of gap."""
_AROUND = 0.3
"""What an overlay shows around the fronts, as a share of how far they reach."""
_PANEL_INCHES = 8.0
_LEGEND_COLUMNS = 3
_BAR_TICKS = 6
_LEAST_METRES = 20.0
"""Range of change shown at least."""
# Plasma without its bright end, which is lost on snow.
_DATE_COLOURS = ListedColormap(mpl.colormaps["plasma"](np.linspace(0, 0.88, 256)))
_BAR_COLOUR = "#5b9bc0"
_BIN_M = 10.0
_LEAST_BINS = 10
_SHOWN_PERCENT = 99


def series_figure(series: FrontSeries, *, title: str, path: str | Path | None = None) -> Figure:
    """Draw how far fronts moved, by both methods, against time.

    No line runs across a gap: rows of crosses beneath tell when there is no position and why. Open
    marks are fronts that were not found whole, as those that touch the frame.

    Parameters
    ----------
    series : FrontSeries
        From :func:`csc_xr.fronts.series.front_series`.
    title : str
        Title of the figure.
    path : str or Path, optional
        Where to write the figure as PNG, whole or not at all.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; no window is opened and no global state touched.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    table = series.table
    gaps = _gaps(table)
    kinds = gaps[gaps != ""].unique().tolist()
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.06, hspace=0.02)
    rows_inches = _GAP_INCHES * len(kinds)
    figure = Figure(figsize=(10.0, 5.4 + rows_inches), layout=layout, dpi=DPI)
    if kinds:
        ratios = [_CHANGE_INCHES, rows_inches]
        change, lowest = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
        _draw_gaps(lowest, table["time"], gaps, kinds)
    else:
        change = lowest = figure.subplots()
    handles = _draw_changes(change, table)
    _label_times(lowest, table["time"])
    _add_legend(figure, handles)
    add_title(figure, title)
    if path is not None:
        save_png(figure, path)
    return figure


def overlay_figure(
    background: xr.DataArray,
    series: FrontSeries,
    *,
    title: str,
    legend: ClassLegend | None = None,
    whole: bool = False,
    path: str | Path | None = None,
) -> Figure:
    """Draw the fronts of a series over an image or its classes, coloured by date.

    Computes what is shown of the background, thinned to at most 1500 px a side, so that memory
    does not grow with the scene.

    Parameters
    ----------
    background : xarray.DataArray
        A scene, dims ("band", "y", "x"), shown as by :func:`csc_xr.figures.maps.four_part_figure`;
        or classes, (y, x), uint8. In any CRS: the fronts are brought to it.
    series : FrontSeries
        From :func:`csc_xr.fronts.series.front_series`, with at least one line. Its box and
        centreline are drawn too.
    title : str
        Title of the figure.
    legend : ClassLegend, optional
        Colours and names of the classes; needed where the background is classes.
    whole : bool
        Whether to show the whole background; by default only the surroundings of the fronts.
    path : str or Path, optional
        Where to write the figure as PNG, whole or not at all.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; no window is opened and no global state touched.

    Raises
    ------
    SceneError
        When the background has a band dim and is no scene.
    ParameterError
        When the background is classes and there is no legend, when it has no CRS, when the
        series has no line, or none on the background.
    OutputError
        When the file cannot be written.
    """
    is_classes = set(background.dims) == {"y", "x"}
    if is_classes and legend is None:
        raise ParameterError(
            "An overlay on classes needs their legend, got none. Pass legend=, for example GLACIER."
        )
    background = background.transpose("y", "x") if is_classes else validate_scene(background)
    shapes = _in_pixels(series, background)
    if not whole:
        background, shapes = _cut_around(background, shapes)
    steps = thinning(background)
    frame = frame_of(background, steps)
    picture, caption, handles = _picture(background, steps, legend)
    lines, box, centreline = (in_frame(shape, background, steps, frame) for shape in shapes)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(layout=layout, dpi=DPI)
    axis = figure.subplots()
    show(axis, picture, frame, f"{caption}, with fronts")
    axis.autoscale(enable=False)
    handles += _draw_references(axis, box, centreline)
    handles += _draw_fronts(axis, lines, series)
    figure.set_size_inches(_overlay_inches(frame, len(handles)))
    axis.set_xlabel(frame.labels[0], fontsize=LABEL_SIZE)
    axis.set_ylabel(frame.labels[1], fontsize=LABEL_SIZE)
    _add_legend(figure, handles)
    add_title(figure, title)
    if path is not None:
        save_png(figure, path)
    return figure


def error_histogram(deviation: Deviation, *, title: str, path: str | Path | None = None) -> Figure:
    """Draw how many digitised points lie how far from the line found, in bins of 10 m.

    Parameters
    ----------
    deviation : Deviation
        From :func:`csc_xr.fronts.deviation.front_error` or
        :func:`csc_xr.fronts.deviation.margin_error`.
    title : str
        Title of the figure.
    path : str or Path, optional
        Where to write the figure as PNG, whole or not at all.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; no window is opened and no global state touched.

    Raises
    ------
    ParameterError
        When nothing was measured.
    OutputError
        When the file cannot be written.
    """
    if not deviation.count:
        raise ParameterError(
            "A histogram of errors needs at least one distance, got none: no line was found. "
            "Leave the figure out."
        )
    counts, edges = deviation.histogram(bin_m=_BIN_M)
    percent = 100 * counts / deviation.count
    # A few points kilometres away would press all others into the first bars.
    far = max(float(np.percentile(deviation.distances_m, _SHOWN_PERCENT)), deviation.mean_m)
    shown = min(len(counts), max(int(far // _BIN_M) + 1, _LEAST_BINS))
    figure = Figure(figsize=(9.0, 5.2), layout=ConstrainedLayoutEngine(w_pad=0.12), dpi=DPI)
    axis = figure.subplots()
    axis.bar(
        edges[:shown],
        percent[:shown],
        width=_BIN_M,
        align="edge",
        color=_BAR_COLOUR,
        edgecolor="white",
        linewidth=0.4 if shown <= 100 else 0,
    )
    for name, metres, colour, style in (
        ("Median", deviation.median_m, _CENTRELINE_COLOUR, "-"),
        ("Mean", deviation.mean_m, "black", "--"),
    ):
        label = f"{name} {metres:.1f} m"
        axis.axvline(metres, color=colour, linestyle=style, linewidth=2, label=label)
    axis.set_xlim(0, max(shown, _LEAST_BINS) * _BIN_M)
    caption = f"{deviation.count:,} digitised points".replace(",", "\u202f")
    beyond = int(counts[shown:].sum())
    if beyond:
        share = 100 * beyond / deviation.count
        caption += f", {share:.1f} % of them beyond {shown * _BIN_M:.0f} m, not shown"
    axis.set_title(caption, fontsize=CAPTION_SIZE)
    axis.set_xlabel("Distance to the line found (m)", fontsize=LABEL_SIZE)
    axis.set_ylabel(f"Digitised points (% in each {_BIN_M:.0f} m)", fontsize=LABEL_SIZE)
    axis.tick_params(labelsize=TICK_SIZE)
    axis.grid(axis="y", **_GRID)
    axis.set_axisbelow(True)
    _add_legend(figure, axis.get_legend_handles_labels()[0])
    add_title(figure, title)
    if path is not None:
        save_png(figure, path)
    return figure


def _gaps(table: pd.DataFrame) -> pd.Series[str]:
    """Tell in a few words, for each front, which position is missing; empty where none is."""
    no_box, no_line = table["box_change_m"].isna(), table["centreline_change_m"].isna()
    gaps = pd.Series("", index=table.index)
    gaps[no_box] = "not across the box"
    gaps[no_line] = "not on the centreline"
    gaps[no_box & no_line] = "beside box and centreline"
    unmeasured = no_box & no_line & (table["outcome"] != "found")
    return gaps.mask(unmeasured, table["outcome"])


def _draw_changes(axis: Axes, table: pd.DataFrame) -> list[Artist]:
    size = 5.0 if len(table) <= _FEW_FRONTS else 2.5
    in_part = table["outcome"] != "found"
    handles: list[Artist] = []
    for name, column, colour, marker in _METHODS:
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": size}
        # The line breaks where a value is NaN.
        handles += axis.plot(table["time"], table[column], linewidth=1.4, label=name, **style)
        axis.plot(
            table["time"][in_part],
            table[column][in_part],
            linestyle="none",
            markerfacecolor="white",
            **style,
        )
    if table.loc[in_part, _CHANGES].notna().any(axis=None):
        style = {"linestyle": "none", "marker": "o", "markersize": size, "color": EDGE_COLOUR}
        handles.append(Line2D([], [], markerfacecolor="white", label="Front not whole", **style))
    axis.axhline(0, color=EDGE_COLOUR, linewidth=0.8, zorder=1)
    low, high = axis.get_ylim()
    if high - low < _LEAST_METRES:  # none but the first front
        axis.set_ylim((low + high - _LEAST_METRES) / 2, (low + high + _LEAST_METRES) / 2)
    axis.set_ylabel(_change_label(table), fontsize=LABEL_SIZE)
    axis.tick_params(labelsize=TICK_SIZE)
    axis.grid(**_GRID)
    axis.set_axisbelow(True)
    return handles


def _change_label(table: pd.DataFrame) -> str:
    firsts = {table[column].first_valid_index() for column in _CHANGES} - {None}
    if not firsts:
        return "Change (m)\nno front has a position"
    since = "the first position of each"
    if len(firsts) == 1:
        first = table.loc[firsts.pop()]
        is_dated = table["time"].dtype.kind == "M"
        since = f"{first['time']:%Y-%m-%d}" if is_dated else f"front {first['name']}"
    return f"Change since {since} (m)\n← retreat    advance →"


def _draw_gaps(axis: Axes, times: pd.Series[Any], gaps: pd.Series[str], kinds: list[str]) -> None:
    """Draw a row of crosses for each kind of gap."""
    for row, kind in enumerate(kinds):
        when = times[gaps == kind]
        axis.plot(when, np.full(len(when), row), "x", color=EDGE_COLOUR, markersize=6)
    axis.set_yticks(range(len(kinds)), kinds)
    axis.set_ylim(len(kinds) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", **_GRID)
    axis.set_axisbelow(True)


def _numbers(times: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """Count times as matplotlib does: in days, or the numbers of the fronts."""
    if times.dtype.kind == "M":
        times = mdates.date2num(times.to_numpy())  # type: ignore[no-untyped-call]
    return np.asarray(times, np.float64)


def _label_times(axis: Axes, times: pd.Series[Any]) -> None:
    """Set ticks and limits of the axis across."""
    if times.dtype.kind != "M":
        axis.xaxis.set_major_locator(_whole_numbers())
        axis.set_xlabel("Front", fontsize=LABEL_SIZE)
    else:
        locator = mdates.AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
        formatter = mdates.AutoDateFormatter(locator)  # type: ignore[no-untyped-call]
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(formatter)
    numbers = _numbers(times)
    first, last = numbers.min(), numbers.max()
    spare = 0.03 * (last - first) or (15.0 if times.dtype.kind == "M" else 0.5)
    axis.set_xlim(first - spare, last + spare)
    axis.tick_params(labelsize=TICK_SIZE)


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)


def _add_legend(figure: Figure, handles: list[Artist]) -> None:
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), _LEGEND_COLUMNS),
        fontsize=LABEL_SIZE,
        frameon=False,
    )


def _picture(
    background: xr.DataArray, steps: Mapping[str, int], legend: ClassLegend | None
) -> tuple[npt.NDArray[Any], str, list[Artist]]:
    """Colours, caption and entries of the legend."""
    if legend is None or "band" in background.dims:
        return *picture_of(background, steps), []
    codes = thinned_classes(background, steps)
    return coloured(codes, legend), "Classes", [*class_patches([codes], legend)]


def _in_pixels(series: FrontSeries, background: xr.DataArray) -> list[geopandas.GeoSeries]:
    """Lines, box and centreline in columns and rows of the background."""
    lines, found = series.lines.geometry, background.rio.crs
    if lines.empty:
        raise ParameterError(
            "An overlay needs at least one front with a line, got none. Leave the figure out."
        )
    crs = None if found is None else CRS.from_user_input(found)
    if crs is None or (crs != lines.crs and (crs.is_engineering or lines.crs.is_engineering)):
        raise ParameterError(
            f"An overlay needs a background that lies where its fronts do, in {lines.crs.name!r}, "
            f"got one {'without a CRS' if crs is None else f'in {crs.name!r}'}. Pass the scene or "
            "the classes that they were found in."
        )
    matrix = (~scene_transform(background)).to_shapely()
    return [
        shape.to_crs(crs).affine_transform(matrix)
        for shape in (lines, series.box, series.centreline)
    ]


def _cut_around(
    background: xr.DataArray, shapes: list[geopandas.GeoSeries]
) -> tuple[xr.DataArray, list[geopandas.GeoSeries]]:
    """Leave the surroundings of the fronts and their box."""
    bounds = np.concatenate([shapes[0].bounds, shapes[1].bounds])
    low, high = bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)
    spare = _AROUND * (high - low).max()
    size = (background.sizes["x"], background.sizes["y"])
    first = np.clip(np.floor(low - spare), 0, size).astype(int)
    last = np.clip(np.ceil(high + spare), 0, size).astype(int)
    if (last <= first).any():
        raise ParameterError(
            "An overlay needs a background that shows its fronts, but they lie outside of it. "
            "Pass the scene or the classes that they were found in."
        )
    part = background.isel(x=slice(first[0], last[0]), y=slice(first[1], last[1]))
    return part, [shape.translate(-first[0], -first[1]) for shape in shapes]


def _overlay_inches(frame: Frame, entries: int) -> tuple[float, float]:
    """Size of a figure that its panel fills, with a colour bar beside it and a legend beneath."""
    left, right, bottom, top = frame.extent
    shape = abs(top - bottom) * frame.aspect / abs(right - left)
    width = _PANEL_INCHES * max(min(1.0, 1 / shape), 0.5)
    height = _PANEL_INCHES * min(max(shape, 0.4), 1.0)
    return width + 2.1, height + 1.4 + 0.23 * -(-entries // _LEGEND_COLUMNS)


def _draw_references(
    axis: Axes, box: geopandas.GeoSeries, centreline: geopandas.GeoSeries
) -> list[Artist]:
    """Draw the box, which is open to the sea, and the centreline."""
    handles: list[Artist] = []
    halo = [patheffects.withStroke(linewidth=3.0, foreground="white", alpha=0.85)]
    for polygon in box:
        corners = shapely.get_coordinates(polygon)
        handles += axis.plot(
            *corners[[3, 0, 1, 2]].T, color="black", linewidth=1.3, path_effects=halo, label="Box"
        )
    for line in centreline:
        handles += axis.plot(
            *shapely.get_coordinates(line).T,
            color="black",
            linewidth=1.3,
            linestyle="--",
            path_effects=halo,
            label="Centreline",
        )
    return handles


def _draw_fronts(axis: Axes, lines: geopandas.GeoSeries, series: FrontSeries) -> list[Artist]:
    """Draw fronts from dark to bright by date, with a colour bar; a single one with its name."""
    paths = [shapely.get_coordinates(line) for line in lines]
    times = series.lines["time"]
    numbers = _numbers(times)
    # All the halos beneath all the lines, so that none covers its neighbour.
    axis.add_collection(LineCollection(paths, colors="white", linewidths=3.6, alpha=0.7))
    norm = Normalize(numbers.min(), numbers.max())
    fronts = LineCollection(paths, cmap=_DATE_COLOURS, norm=norm, linewidths=1.8)
    fronts.set_array(numbers)
    axis.add_collection(fronts)
    if numbers.min() == numbers.max():
        names = ", ".join(series.lines["name"])
        return [Line2D([], [], color=_DATE_COLOURS(0.0), linewidth=1.8, label=f"Front {names}")]
    bar = axis.figure.colorbar(fronts, ax=axis, pad=0.02, fraction=0.05, aspect=30)
    if times.dtype.kind == "M":
        form = "%Y-%m-%d" if np.ptp(numbers) >= _BAR_TICKS else "%Y-%m-%d %H:%M"
        bar.ax.yaxis.set_major_locator(LinearLocator(_BAR_TICKS))
        bar.ax.yaxis.set_major_formatter(mdates.DateFormatter(form))  # type: ignore[no-untyped-call]
    else:
        bar.ax.yaxis.set_major_locator(_whole_numbers())
        bar.set_label("Front", fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    return []
