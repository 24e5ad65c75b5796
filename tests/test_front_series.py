"""Fronts through time: changes in true metres, gaps, and what is refused."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod
from shapely import LineString, Polygon
from shapely.affinity import rotate, translate

from csc_xr.errors import LineError, ParameterError
from csc_xr.fronts.series import FrontSeries, front_series

LOCAL = CRS('LOCAL_CS["Image in metres",UNIT["metre",1],AXIS["X",EAST],AXIS["Y",NORTH]]')
PLACE = CRS("+proj=aeqd +lat_0=68.6 +lon_0=-32.9 +datum=WGS84 +units=m +type=crs")
UTM, POLAR = CRS(32624), CRS(3413)
CHANGES = ["box_change_m", "centreline_change_m"]
POSITIONS = ["box_position_m", "centreline_position_m"]


@dataclass(frozen=True)
class SeenFront:
    """What a series looks at of a front."""

    outcome: str
    reason: str
    line: LineString | None
    crs: CRS | None


def found(line: LineString, crs: CRS | None = LOCAL) -> SeenFront:
    return SeenFront("found", "It was found.", line, crs)


def gap(outcome: str = "no ocean", crs: CRS | None = LOCAL) -> SeenFront:
    return SeenFront(outcome, f"There is {outcome}.", None, crs)


def front_at(north: float, *, slant: float = 0.0, half: float = 2000.0) -> LineString:
    """A front with the glacier south of it, its vertices 50 m apart."""
    line = LineString([(half, north), (-half, north)])
    return shapely.segmentize(rotate(line, slant), 50)


def curved_front(north: float) -> LineString:
    x = np.linspace(2000, -2000, 161)
    y = north + 200 * np.cos(x / 700) + 60 * np.cos(x / 90)
    return LineString(np.column_stack([x, y]))


def series_of(lines: Sequence[LineString], crs: CRS = LOCAL, **settings: Any) -> FrontSeries:
    """Lines in metres around one place, given in a CRS."""
    if crs != LOCAL:
        lines = list(geopandas.GeoSeries(lines, crs=PLACE).to_crs(crs))
    return front_series([found(line, crs) for line in lines], **settings)


def changes(series: FrontSeries) -> np.ndarray:
    return series.table[CHANGES].to_numpy()


@pytest.mark.parametrize("crs", [LOCAL, UTM, POLAR, CRS(4326)])
@pytest.mark.parametrize("make", [front_at, curved_front])
def test_a_front_that_moved_has_moved_so_far_by_both_methods(
    make: Callable[[float], LineString], crs: CRS
) -> None:
    moves = np.array([0.0, 350.0, -1000.0, 1250.0])
    series = series_of([make(move) for move in moves], crs)
    table = series.table
    for column in CHANGES:
        np.testing.assert_allclose(table[column], moves, rtol=1e-6, atol=1e-4)
    corners = shapely.get_coordinates(series.box.to_crs(PLACE) if crs != LOCAL else series.box)
    width = np.hypot(*(corners[1] - corners[0]))
    np.testing.assert_allclose(table["box_area_change_m2"], moves * width, rtol=1e-5, atol=1)
    np.testing.assert_allclose(table["length_m"], make(0).length, rtol=1e-6)
    assert (table["reason"] == "").all()
    assert {shape.crs for shape in (series.lines, series.box, series.centreline)} == {crs}


def test_metres_are_those_on_the_ground() -> None:
    """By the ellipsoid, not by a projection that to_metres may use."""
    ground = Geod(ellps="WGS84")
    lines = []
    for metres in (0.0, 1500.0):
        east, north, _ = ground.fwd(-32.9, 68.6, 0, metres)
        ends = [ground.fwd(east, north, side, 1000)[:2] for side in (90, -90)]
        lines.append(LineString(ends))
    in_utm = geopandas.GeoSeries(lines, crs=4326).to_crs(POLAR)
    series = front_series([found(line, POLAR) for line in in_utm])
    np.testing.assert_allclose(changes(series)[1], 1500, rtol=1e-6)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    angle=st.floats(0, 360),
    moves=st.lists(st.floats(-1500, 1500), min_size=1, max_size=5),
)
def test_no_crs_and_no_turn_changes_the_metres(seed: int, angle: float, moves: list[float]) -> None:
    noise = np.random.default_rng(seed).normal(0, 15, (81, 2))
    noise[[0, -1]] = 0  # so that the chord lies across the moves
    x = np.linspace(2000, -2000, 81)
    line = LineString(np.column_stack([x, 300 * np.cos(x / 500)]) + noise)
    lines = [translate(line, 0, move) for move in (0.0, *moves)]
    expected = changes(series_of(lines))
    moved = np.repeat([[0.0], *([move] for move in moves)], 2, axis=1)
    np.testing.assert_allclose(expected, moved, atol=1e-6)
    turned = [rotate(line, angle, origin=(0, 0)) for line in lines]
    np.testing.assert_allclose(changes(series_of(turned)), expected, atol=1e-6)
    for crs in (UTM, POLAR):
        # Straight pieces between vertices are not quite straight in another CRS.
        np.testing.assert_allclose(changes(series_of(turned, crs)), expected, rtol=1e-5, atol=5e-3)


def test_fronts_the_other_way_round_retreat_where_others_advance() -> None:
    lines = [curved_front(0), curved_front(800)]
    np.testing.assert_allclose(changes(series_of(lines))[1], 800)
    back = [line.reverse() for line in lines]
    np.testing.assert_allclose(changes(series_of(back))[1], -800)


def test_swapped_axes_change_the_result() -> None:
    lines = [front_at(0, slant=10), front_at(500, slant=20), front_at(900, slant=10)]
    swapped = [shapely.transform(line, lambda places: places[:, ::-1]) for line in lines]
    right, wrong = (changes(series_of(these)) for these in (lines, swapped))
    assert (right[1:] > 300).all()
    np.testing.assert_allclose(wrong, -right)


def test_lines_with_heights_lie_where_flat_ones_do() -> None:
    lines = [front_at(0), front_at(700)]
    raised = [shapely.force_3d(line, 120.0) for line in lines]
    np.testing.assert_array_equal(changes(series_of(raised)), changes(series_of(lines)))


def test_gaps_are_rows_without_figures() -> None:
    fronts = [gap(), found(front_at(0)), gap("no contact"), found(front_at(-300))]
    series = front_series(fronts, times=["2020-01-01", "2020-02-01", "2020-03-01", "2020-04-01"])
    table = series.table
    np.testing.assert_allclose(table[CHANGES], np.repeat([[np.nan], [0], [np.nan], [-300]], 2, 1))
    assert table["outcome"].tolist() == ["no ocean", "found", "no contact", "found"]
    assert table["reason"].tolist() == ["There is no ocean.", "", "There is no contact.", ""]
    assert table["name"].tolist() == ["2020-01-01", "2020-02-01", "2020-03-01", "2020-04-01"]
    assert table.loc[[0, 2]].isna().sum(axis=1).tolist() == [6, 6]
    assert series.lines["name"].tolist() == ["2020-02-01", "2020-04-01"]
    pd.testing.assert_frame_equal(
        pd.DataFrame(series.lines.drop(columns="geometry")), table.loc[[1, 3]]
    )
    assert series.lines.geometry.tolist() == [fronts[1].line, fronts[3].line]


@pytest.mark.parametrize("crs", [LOCAL, None])
def test_a_series_of_gaps_is_a_table_of_gaps(crs: CRS | None) -> None:
    empty = SeenFront("found", "", LineString(), crs)
    series = front_series([gap(crs=crs), empty, gap("no glacier", crs)])
    assert series.table["outcome"].tolist() == ["no ocean", "found", "no glacier"]
    assert (
        series.table[[*POSITIONS, *CHANGES, "length_m", "box_area_change_m2"]].isna().all(axis=None)
    )
    assert series.lines.empty
    assert series.lines.columns.tolist() == [*series.table.columns, "geometry"]
    assert series.box.empty
    assert series.centreline.empty
    assert {shape.crs for shape in (series.lines, series.box, series.centreline)} == {crs}


def test_what_was_given_is_kept_where_there_is_no_front() -> None:
    flow = geopandas.GeoSeries([LineString([(0, -900), (0, 900)])], crs=PLACE)
    series = front_series([gap(crs=UTM)], centreline=flow)
    assert series.centreline.to_crs(PLACE).geom_equals_exact(flow, 1e-3).all()
    assert series.centreline.crs == UTM


def test_a_front_that_touches_the_frame_counts_where_it_reaches_across() -> None:
    whole, part = front_at(200), LineString([(2000, 300), (100, 300)])
    fronts = [
        found(front_at(0)),
        SeenFront("touches the frame", "It touches the frame.", whole, LOCAL),
        SeenFront("touches the frame", "It touches the frame.", part, LOCAL),
        found(front_at(-100)),
    ]
    series = front_series(fronts)
    np.testing.assert_allclose(changes(series), np.repeat([[0], [200], [np.nan], [-100]], 2, 1))
    assert series.table["length_m"].tolist() == pytest.approx([4000, 4000, 1900, 4000])
    assert series.table["reason"].tolist() == [
        "",
        "It touches the frame.",
        "It touches the frame. The front does not cross the box from side to side. "
        "The front does not cross the centreline.",
        "",
    ]
    assert len(series.lines) == 4


def test_fronts_that_all_touch_the_frame_are_measured_among_themselves() -> None:
    fronts = [
        SeenFront("touches the frame", "It does.", front_at(north), LOCAL) for north in (0, 90)
    ]
    np.testing.assert_allclose(changes(front_series(fronts))[1], 90)


def test_changes_count_from_the_first_front_that_has_a_position() -> None:
    box = Polygon([(-500, -500), (500, -500), (500, 900), (-500, 900)])
    flow = LineString([(1500, -500), (1500, 900)])
    fronts = [translate(front_at(0, half=700), 1200), front_at(100), front_at(300)]
    table = series_of(fronts, box=box, centreline=flow).table
    np.testing.assert_allclose(table["box_change_m"], [np.nan, 0, 200])
    np.testing.assert_allclose(table["box_area_change_m2"], [np.nan, 0, 200_000])
    np.testing.assert_allclose(table["centreline_change_m"], [0, 100, 300])
    np.testing.assert_allclose(table["box_position_m"], [np.nan, 600, 800])
    assert table["reason"].tolist() == [
        "The front does not cross the box from side to side.",
        "",
        "",
    ]


def test_box_and_centreline_may_be_in_another_crs() -> None:
    box = Polygon([(-500, -500), (500, -500), (500, 900), (-500, 900)])
    flow = LineString([(100, 900), (100, -500)])
    references = geopandas.GeoSeries([box, flow], crs=PLACE).to_crs(4326)
    lines = geopandas.GeoSeries([front_at(0), front_at(250)], crs=PLACE).to_crs(UTM)
    series = front_series(
        [found(line, UTM) for line in lines],
        box=geopandas.GeoDataFrame(geometry=references[:1]),
        centreline=geopandas.GeoSeries([shapely.MultiLineString([references[1]])], crs=4326),
    )
    np.testing.assert_allclose(series.table[POSITIONS], [[500, 500], [750, 750]], rtol=1e-5)
    assert series.box.crs == series.centreline.crs == UTM
    assert series.box.to_crs(PLACE).iloc[0].equals_exact(box, 1e-3)
    assert series.centreline.to_crs(PLACE).iloc[0].equals_exact(flow.reverse(), 1e-3)


def test_without_a_box_one_is_laid_along_the_centreline() -> None:
    along = np.array([np.sin(0.4), np.cos(0.4)])
    flow = LineString([-3000 * along, 3000 * along])
    lines = [translate(front_at(0), *(move * along)) for move in (0, 400)]
    np.testing.assert_allclose(changes(series_of(lines, centreline=flow))[1], 400)
    # Two fronts alone do not tell that they lie aslant.
    np.testing.assert_allclose(changes(series_of(lines))[1], 400 * np.cos(0.4))


def test_without_a_centreline_it_runs_through_the_middle_of_the_box() -> None:
    box = Polygon([(-500, -500), (1500, -500), (1500, 900), (-500, 900)])
    series = series_of([front_at(0)], box=box)
    assert series.centreline.iloc[0].equals(LineString([(500, -500), (500, 900)]))


@pytest.mark.parametrize("crs", [LOCAL, UTM])
def test_a_series_goes_on_with_its_box_and_centreline(crs: CRS) -> None:
    lines = [curved_front(north) for north in (0, -200, 350)]
    series = series_of(lines, crs)
    again = series_of(lines[1:], crs, box=series.box, centreline=series.centreline)
    np.testing.assert_allclose(again.table[POSITIONS], series.table[POSITIONS][1:], atol=1e-4)


def test_a_centreline_that_no_front_crosses_leaves_gaps() -> None:
    beside = LineString([(9000, -900), (9000, 900)])
    table = series_of([front_at(0), front_at(80)], centreline=beside).table
    assert table["centreline_change_m"].isna().all()
    np.testing.assert_allclose(table["box_change_m"], [0, 80])
    assert (table["reason"] == "The front does not cross the centreline.").all()


@pytest.mark.parametrize(
    "times",
    [
        ["2020-05-01", "2021-07-15T14:37:51+02:00"],
        [datetime.datetime(2020, 5, 1), datetime.datetime(2021, 7, 15, 12, 37, 51)],
        np.array(["2020-05-01", "2021-07-15T12:37:51"], "datetime64[s]"),
    ],
)
def test_times_come_in_many_forms(times: Sequence[Any]) -> None:
    series = series_of([front_at(0), front_at(1)], times=times)
    expected = pd.to_datetime(["2020-05-01T00:00:00", "2021-07-15T12:37:51"])
    assert series.table["time"].tolist() == expected.tolist()
    assert series.table["time"].dtype == "datetime64[ns]"
    assert series.table["name"].tolist() == ["2020-05-01T00:00:00", "2021-07-15T12:37:51"]


def test_without_times_fronts_are_numbered_and_names_are_kept() -> None:
    lines = [front_at(0), front_at(1)]
    assert series_of(lines).table["time"].tolist() == [1, 2]
    assert series_of(lines).table["name"].tolist() == ["1", "2"]
    assert series_of(lines, names=["a", "b"]).table["name"].tolist() == ["a", "b"]
    both_on_one_day = ["2020-05-01", "2020-05-01"]
    assert series_of(lines, times=both_on_one_day).table["name"].tolist() == both_on_one_day


def test_fronts_may_come_one_by_one() -> None:
    series = front_series(found(front_at(north)) for north in (0, 5))
    np.testing.assert_allclose(changes(series)[1], 5)


@pytest.mark.parametrize(
    "times",
    [
        ["2020-05-01"],
        ["2020-05-02", "2020-05-01"],
        ["2020-05-01", None],
        ["2020-05-01", "May"],
        [1, 2],
    ],
)
def test_times_are_checked(times: Sequence[Any]) -> None:
    with pytest.raises(ParameterError, match=r"times must be 2 dates, .* none before the one"):
        series_of([front_at(0), front_at(1)], times=times)


@pytest.mark.parametrize("names", [["a"], "ab"])
def test_names_are_checked(names: Sequence[str]) -> None:
    with pytest.raises(ParameterError, match="names must be 2 names, one for each front"):
        series_of([front_at(0), front_at(1)], names=names)


def test_fronts_are_checked() -> None:
    with pytest.raises(ParameterError, match="A series needs at least one front, got none"):
        front_series([])
    with pytest.raises(LineError, match=r"one CRS, but the first is in WGS 84 / UTM .*number 2 in"):
        front_series([found(front_at(0), UTM), gap(crs=POLAR)])
    with pytest.raises(LineError, match="number 2 in none"):
        front_series([found(front_at(0), UTM), found(front_at(0), None)])
    with pytest.raises(LineError, match="need a CRS to be measured in metres, got none"):
        front_series([found(front_at(0), None)])
    with pytest.raises(LineError, match="must all run with the glacier on their left"):
        series_of([front_at(0), front_at(100).reverse()])


def test_a_centreline_is_one_line_and_a_box_one_polygon() -> None:
    line, area = LineString([(0, -900), (0, 900)]), shapely.box(-500, -500, 500, 500)
    for given_line, got in (
        (area, "got Polygon"),
        (geopandas.GeoSeries([line, line], crs=LOCAL), "got LineString, LineString"),
        (geopandas.GeoSeries([], crs=LOCAL), "got no geometry"),
        (LineString(), "got LineString"),
    ):
        with pytest.raises(LineError, match=rf"centreline must be one LineString with.*{got}\."):
            series_of([front_at(0)], centreline=given_line)
    with pytest.raises(LineError, match=r"The box must be one Polygon with vertices, got LineStr"):
        series_of([front_at(0)], box=line)
    with pytest.raises(LineError, match="A box must be a polygon of four corners"):
        series_of([front_at(0)], box=Polygon([(-500, -500), (500, -500), (0, 500)]))
    with pytest.raises(LineError, match="local coordinates can be compared only with"):
        series_of([front_at(0)], box=geopandas.GeoSeries([area], crs=UTM))
    with pytest.raises(LineError, match="must run from the glacier to the sea"):
        series_of([front_at(0)], centreline=LineString([(0, -9), (0, 9), (9, 5), (-9, 5)]))
