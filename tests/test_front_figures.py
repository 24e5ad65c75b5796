"""Figures of fronts: their change, their overlay on an image, their error."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from dask.callbacks import Callback
from figures_for_tests import assert_texts_are_whole_and_apart, legend_names
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from pyproj import CRS
from shapely import LineString

from csc_xr.errors import OutputError, ParameterError, SceneError
from csc_xr.figures.fronts import error_histogram, overlay_figure, series_figure
from csc_xr.figures.panels import MAX_PANEL_PIXELS
from csc_xr.fronts.deviation import Deviation
from csc_xr.fronts.series import FrontSeries, front_series
from csc_xr.grid import place
from csc_xr.legend import GLACIER
from csc_xr.metres import with_pixel_size

LEFT, TOP, PIXEL = 500_000.0, 7_600_000.0, 30.0
UTM = CRS(32624)
NORTH_UP = Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP)
DATES = ["2020-01-10", "2020-02-20", "2020-04-01", "2020-05-15", "2021-01-03"]


def front_at(row: float, *, first: float = 80, last: float = 20, crs: CRS = UTM) -> SimpleNamespace:
    """A front along a row of pixels, the glacier beneath it."""
    line = LineString([(LEFT + PIXEL * x, TOP - PIXEL * row) for x in (first, last)])
    return SimpleNamespace(outcome="found", reason="", line=line, crs=crs)


def gap(outcome: str) -> SimpleNamespace:
    return SimpleNamespace(outcome=outcome, reason=f"There is {outcome}.", line=None, crs=UTM)


def cut(row: float) -> SimpleNamespace:
    front = front_at(row)
    front.outcome, front.reason = "touches the frame", "It touches the frame."
    return front


def some_series() -> FrontSeries:
    fronts = [front_at(50), gap("no ocean"), front_at(54), cut(57), front_at(60, last=70)]
    return front_series(fronts, times=DATES)


def make_scene(shape: tuple[int, int] = (100, 120), **settings: Any) -> xr.DataArray:
    ramp = np.linspace(100, 9000, shape[0] * shape[1]).reshape(shape)
    scene = xr.DataArray(
        da.from_array(np.stack([ramp] * 3).astype(np.float32), (-1, 16, 16)),
        dims=("band", "y", "x"),
        coords={"band": ["red", "green", "blue"]},
        attrs={"scale": 8192.0},
    )
    return place(scene, settings.get("transform", NORTH_UP), settings.get("crs", "EPSG:32624"))


def make_classes() -> xr.DataArray:
    codes = np.repeat(np.array([1, 1, 3, 4], np.uint8), 25)[:, None] * np.ones(120, np.uint8)
    raster = xr.DataArray(da.from_array(codes.astype(np.uint8), 16), dims=("y", "x"))
    return place(raster, NORTH_UP, "EPSG:32624")


def fronts_drawn(axis: Axes) -> list[np.ndarray]:
    """Vertices of the coloured fronts, without their halos."""
    collections = [found for found in axis.collections if isinstance(found, LineCollection)]
    return [np.asarray(path) for path in collections[-1].get_segments()]


def curve(axis: Axes, name: str) -> tuple[np.ndarray, np.ndarray]:
    line = next(line for line in axis.lines if line.get_label() == name)
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata(), np.float64)


def test_changes_against_time_with_gaps_left_open(tmp_path: Path) -> None:
    series = some_series()
    figure = series_figure(series, title="Glacier", path=tmp_path / "a.png")
    change, gaps = figure.axes
    for name, column in (
        ("Box, mean over its width", "box_change_m"),
        ("Centreline", "centreline_change_m"),
    ):
        when, metres = curve(change, name)
        np.testing.assert_array_equal(when, series.table["time"])
        np.testing.assert_array_equal(metres, series.table[column])
        assert np.isnan(metres).tolist() == [False, True, False, False, True]
    assert [label.get_text() for label in gaps.get_yticklabels()] == [
        "no ocean",
        "beside box and centreline",
    ]
    crosses = {line.get_ydata()[0]: line.get_xdata() for line in gaps.lines}
    assert crosses.keys() == {0, 1}
    np.testing.assert_array_equal(crosses[0], np.array(DATES[1:2], "datetime64[ns]"))
    np.testing.assert_array_equal(crosses[1], np.array(DATES[4:], "datetime64[ns]"))
    assert change.get_ylabel().startswith("Change since 2020-01-10 (m)\n")
    assert legend_names(figure) == ["Box, mean over its width", "Centreline", "Front not whole"]
    for line in (line for line in change.lines if line.get_markerfacecolor() == "white"):
        drawn = np.asarray(line.get_xdata())[np.isfinite(line.get_ydata())]
        np.testing.assert_array_equal(drawn, np.array(DATES[3:4], "datetime64[ns]"))
    assert_texts_are_whole_and_apart(figure)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert 1000 < image.size[0] < 2500
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_without_gaps_there_is_one_panel() -> None:
    figure = series_figure(front_series([front_at(50), front_at(54)]), title="t")
    (axis,) = figure.axes
    assert axis.get_xlabel() == "Front"
    assert axis.get_ylabel().startswith("Change since front 1 (m)")
    low, high = axis.get_xlim()
    assert [tick for tick in axis.get_xticks() if low <= tick <= high] == [1, 2]
    assert legend_names(figure) == ["Box, mean over its width", "Centreline"]


def test_positions_by_one_method_only_are_told() -> None:
    beside = LineString([(LEFT + PIXEL * 25, TOP - 3000), (LEFT + PIXEL * 25, TOP)])
    fronts = [front_at(50), front_at(54, first=30), front_at(54, last=30), front_at(55)]
    figure = series_figure(front_series(fronts, centreline=beside, times=DATES[:4]), title="t")
    names = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert names == ["not across the box", "not on the centreline"]
    from_another = front_series(
        [front_at(54, last=30), front_at(50), front_at(52)], centreline=beside, times=DATES[:3]
    )
    assert (
        "the first position of each" in series_figure(from_another, title="t").axes[0].get_ylabel()
    )


@pytest.mark.parametrize("times", [None, ["2020-01-10"] * 3])
def test_a_series_of_gaps_or_of_one_moment_is_drawn(times: list[str] | None) -> None:
    figure = series_figure(front_series([gap("no ocean")] * 3, times=times), title="t")
    assert figure.axes[0].get_ylabel() == "Change (m)\nno front has a position"
    assert_texts_are_whole_and_apart(figure)
    one = series_figure(front_series([front_at(50)] * 3, times=times), title="t")
    assert_texts_are_whole_and_apart(one)
    low, high = one.axes[0].get_ylim()
    assert high - low == pytest.approx(20)


def test_fronts_lie_on_the_map_in_kilometres(tmp_path: Path) -> None:
    figure = overlay_figure(make_scene(), some_series(), title="Glacier", path=tmp_path / "a.png")
    axis, bar = figure.axes
    expected = [np.array([(502.4, y), (500.6, y)]) for y in (7598.5, 7598.38, 7598.29)]
    for found, front in zip(fronts_drawn(axis), expected, strict=False):
        np.testing.assert_allclose(found, front, atol=1e-6)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("Easting (km)", "Northing (km)")
    assert legend_names(figure) == ["Box", "Centreline"]
    box = next(line for line in axis.lines if line.get_label() == "Box")
    corners = np.column_stack(box.get_data())
    assert (corners[[0, 3], 1] > corners[[1, 2], 1]).all()  # open to the north, where the sea lies
    colours = axis.collections[-1].get_array()
    np.testing.assert_array_equal(
        colours, mdates.date2num(np.array([DATES[i] for i in (0, 2, 3, 4)], "datetime64[D]"))
    )
    labels = [label.get_text() for label in bar.get_yticklabels()]
    assert (labels[0], labels[-1]) == (DATES[0], DATES[4])
    assert_texts_are_whole_and_apart(figure)
    with Image.open(tmp_path / "a.png") as image:
        assert 800 < min(image.size) < max(image.size) < 2500


def test_the_surroundings_of_the_fronts_are_shown_or_the_whole() -> None:
    scene, series = make_scene((400, 500)), some_series()
    near = overlay_figure(scene, series, title="t").axes[0]
    left, right = near.get_xlim()
    assert 500 <= left < 500.6
    assert 502.4 < right < 503.5
    whole = overlay_figure(scene, series, title="t", whole=True).axes[0]
    assert whole.get_xlim() == pytest.approx((500, 515))
    assert whole.get_ylim() == pytest.approx((7588, 7600))
    for one, other in zip(fronts_drawn(near), fronts_drawn(whole), strict=True):
        np.testing.assert_allclose(one, other)


def test_fronts_over_classes() -> None:
    figure = overlay_figure(make_classes(), some_series(), title="t", legend=GLACIER)
    assert legend_names(figure) == ["Open Water", "Mélange", "Glacier Ice", "Box", "Centreline"]
    with pytest.raises(ParameterError, match="An overlay on classes needs their legend, got none"):
        overlay_figure(make_classes(), some_series(), title="t")


def test_a_single_front_is_named_instead_of_coloured() -> None:
    figure = overlay_figure(
        make_scene(), front_series([front_at(50), gap("no ocean")], times=DATES[:2]), title="t"
    )
    assert len(figure.axes) == 1
    assert legend_names(figure) == ["Box", "Centreline", "Front 2020-01-10"]


def test_fronts_without_times_are_coloured_by_number() -> None:
    figure = overlay_figure(
        make_scene(), front_series([front_at(50), front_at(55)], names=["a", "b"]), title="t"
    )
    assert figure.axes[1].get_ylabel() == "Front"
    assert figure.axes[1].get_ylim() == (1, 2)


@pytest.mark.parametrize("crs", [UTM, CRS(3413), CRS(4326)])
def test_fronts_come_to_the_crs_of_the_image(crs: CRS) -> None:
    series = some_series()
    there = [
        SimpleNamespace(outcome="found", reason="", line=line, crs=crs)
        for line in series.lines.to_crs(crs).geometry
    ]
    figure = overlay_figure(make_scene(), front_series(there), title="t")
    for found, front in zip(
        fronts_drawn(figure.axes[0]),
        fronts_drawn(overlay_figure(make_scene(), series, title="t").axes[0]),
        strict=True,
    ):
        np.testing.assert_allclose(found, front, atol=1e-6)


def test_axes_in_pixels_where_the_image_is_rotated() -> None:
    transform = Affine(24, 18, LEFT, 18, -24, TOP)
    rows_and_columns = np.array([(80, 50), (20, 50)])
    line = LineString([transform @ tuple(place) for place in rows_and_columns.tolist()])
    front = SimpleNamespace(outcome="found", reason="", line=line, crs=UTM)
    scene = make_scene(transform=transform)
    axis = overlay_figure(scene, front_series([front]), title="t", whole=True).axes[0]
    assert axis.get_ylabel() == "Row (px)"
    np.testing.assert_allclose(fronts_drawn(axis)[0], rows_and_columns, atol=1e-6)


def test_images_in_local_coordinates() -> None:
    bare = make_scene().drop_vars(["x", "y", "spatial_ref"])
    scene = with_pixel_size(bare, PIXEL)
    line = LineString([(2400, -1500), (600, -1500)])
    crs = CRS.from_user_input(scene.rio.crs)
    series = front_series([SimpleNamespace(outcome="found", reason="", line=line, crs=crs)])
    axis = overlay_figure(scene, series, title="t").axes[0]
    assert axis.get_xlabel() == "x (km)"
    np.testing.assert_allclose(fronts_drawn(axis)[0], [(2.4, -1.5), (0.6, -1.5)])
    for background, got in ((bare, "without a CRS"), (make_scene(), "in 'WGS 84 / UTM zone 24N'")):
        with pytest.raises(ParameterError, match=f"lies where its fronts do, .* got one {got}"):
            overlay_figure(background, series, title="t")


def test_only_what_is_shown_is_computed_and_thinned() -> None:
    size = 4 * MAX_PANEL_PIXELS
    computed: list[tuple[int, ...]] = []

    def block(block_info: Any = None) -> np.ndarray:
        computed.append(block_info[None]["chunk-location"])
        return np.full(block_info[None]["chunk-shape"], 7.0, np.float32)

    pixels = da.map_blocks(block, chunks=((1,), (500,) * 12, (500,) * 12), dtype=np.float32)
    scene = place(xr.DataArray(pixels, dims=("band", "y", "x")), NORTH_UP, "EPSG:32624")
    scene = scene.assign_coords(band=["grey"]).assign_attrs(scale=1.0)
    computed.clear()
    overlay_figure(scene, front_series([front_at(50), front_at(60)]), title="t")
    assert set(computed) == {(0, 0, 0)}
    axis = overlay_figure(
        scene, front_series([front_at(50), front_at(60)]), title="t", whole=True
    ).axes[0]
    assert axis.images[0].get_array().shape[:2] == (MAX_PANEL_PIXELS, MAX_PANEL_PIXELS)
    assert axis.get_xlim() == pytest.approx((500, 500 + size * PIXEL / 1000))


def test_a_part_that_begins_in_a_thin_chunk_is_thinned_in_large_ones() -> None:
    size = 2 * MAX_PANEL_PIXELS + 5
    pixels = da.ones((1, size, size), chunks=(1, (5, 3000), (5, 3000)), dtype=np.float32)
    scene = place(xr.DataArray(pixels, dims=("band", "y", "x")), NORTH_UP, "EPSG:32624")
    scene = scene.assign_coords(band=["grey"]).assign_attrs(scale=1.0)
    tasks: list[object] = []
    with Callback(posttask=lambda *done: tasks.append(done[0])):
        overlay_figure(scene, front_series([front_at(50)]), title="t", whole=True)
    assert len(tasks) < 100


def test_overlays_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="needs at least one front with a line, got none"):
        overlay_figure(make_scene(), front_series([gap("no ocean")]), title="t")
    with pytest.raises(ParameterError, match="shows its fronts, but they lie outside of it"):
        overlay_figure(make_scene(), front_series([front_at(900)]), title="t")
    with pytest.raises(SceneError, match="band"):
        overlay_figure(make_scene().rename(band="colour"), some_series(), title="t")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OutputError, match="must be a file, but is a folder already"):
        overlay_figure(make_scene(), some_series(), title="t", path=tmp_path / "taken.png")


def bars(figure: Figure) -> list[tuple[float, float]]:
    return [(bar.get_x(), bar.get_height()) for bar in figure.axes[0].patches]


def test_errors_in_bins_of_10_metres_with_mean_and_median(tmp_path: Path) -> None:
    distances = np.array([0, 3, 9.9, 10, 25, 25, 29, 98.1])
    figure = error_histogram(
        Deviation(distances, distances), title="Front error", path=tmp_path / "a.png"
    )
    axis = figure.axes[0]
    heights = dict(bars(figure))
    assert [heights[edge] for edge in (0, 10, 20, 30, 90)] == [37.5, 12.5, 37.5, 0, 12.5]
    assert legend_names(figure) == ["Median 17.5 m", "Mean 25.0 m"]
    marks = [line.get_xdata()[0] for line in axis.lines]
    assert marks == pytest.approx([17.5, 25.0])
    assert axis.get_title() == "8 digitised points"
    assert axis.get_xlim() == (0, 100)
    assert_texts_are_whole_and_apart(figure)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_errors_far_beyond_all_others_are_counted_and_not_drawn() -> None:
    distances = np.concatenate([np.linspace(0, 149, 1990), np.full(10, 5000.0)])
    figure = error_histogram(Deviation(distances, distances), title="t")
    assert len(bars(figure)) == 15
    caption = figure.axes[0].get_title().replace("\u202f", " ")
    assert caption == "2 000 digitised points, 0.5 % of them beyond 150 m, not shown"
    assert_texts_are_whole_and_apart(figure)


def test_a_histogram_needs_errors(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="needs at least one distance, got none"):
        error_histogram(Deviation(np.empty(0), np.empty(0)), title="t")
    (tmp_path / "taken.png").mkdir()
    for draw, data in (
        (error_histogram, Deviation(np.ones(3), np.ones(3))),
        (series_figure, some_series()),
    ):
        with pytest.raises(OutputError, match="must be a file, but is a folder already"):
            draw(data, title="t", path=tmp_path / "taken.png")


def test_no_global_figure_is_touched() -> None:
    before = dict(mpl.rcParams)
    overlay_figure(make_scene(), some_series(), title="t")
    series_figure(some_series(), title="t")
    assert dict(mpl.rcParams) == before
