"""Where a front lies: boxes, centrelines, and the direction to the sea."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely import LineString, Polygon
from shapely.affinity import rotate, translate

from csc_xr.errors import LineError, ParameterError
from csc_xr.fronts.positions import (
    Box,
    box_from_polygon,
    derive_box,
    orient_centreline,
    position_along,
    position_in_box,
    seaward_direction,
)

NORTH = np.array([0.0, 1.0])
BOX = box_from_polygon(shapely.box(0, 0, 1000, 2000), seaward=NORTH)
FLOW = LineString([(500, 0), (500, 2000)])

# Fronts below lie north of their glacier, so they run from east to west.
STRAIGHT = LineString([(1200, 700), (-100, 700)])
FOLDED = LineString(
    [(1100, 1000), (200, 1000), (200, 800), (600, 800), (600, 500), (-100, 500)],
)
LEAVING = LineString(
    [
        (1100, 900),
        (800, 900),
        (800, 700),
        (1200, 700),
        (1200, 600),
        (700, 600),
        (700, 500),
        (-100, 500),
    ]
)


@st.composite
def rough_fronts(draw: st.DrawFn) -> LineString:
    """A line from east to west, far beyond the sides of BOX, that may fold back."""
    seed = draw(st.integers(0, 2**32 - 1))
    fold = draw(st.floats(0, 400))
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-300, 1300, draw(st.integers(0, 60))))[::-1]
    x = np.concatenate([[2000, 1900], x, [-900, -1000]])
    y = 900 + 300 * np.sin(x / rng.uniform(50, 500)) + rng.uniform(-100, 100, len(x))
    # A shear moves points along x by what depends on y alone, so the line still hardly ever meets
    # itself.
    many = shapely.segmentize(LineString(np.column_stack([x, y])), 5)
    x, y = shapely.get_coordinates(many).T
    return LineString(np.column_stack([x + fold * np.sin(y / 60), y]))


def test_a_straight_front_lies_where_it_lies() -> None:
    position = position_in_box(STRAIGHT, BOX)
    assert (position.metres, position.area_m2, position.reason) == (700, 700_000, "")
    assert position_along(STRAIGHT, FLOW).metres == 700


def test_a_slanted_or_curved_front_has_its_mean_position() -> None:
    slanted = LineString([(1500, 900), (-500, 500)])
    assert position_in_box(slanted, BOX).metres == pytest.approx(700, rel=1e-12)
    x = np.linspace(1300, -300, 801)
    arc = LineString(np.column_stack([x, 800 + 3e-4 * (x - 500) ** 2]))
    mean = 800 + 3e-4 * 500**2 / 3
    assert position_in_box(arc, BOX).metres == pytest.approx(mean, abs=1e-3)
    assert position_along(arc, FLOW).metres == pytest.approx(800, rel=1e-12)


def test_folds_count_with_their_area() -> None:
    area = 1000 * 500 + 400 * 300 + 800 * 200
    assert position_in_box(FOLDED, BOX).area_m2 == pytest.approx(area, rel=1e-12)
    assert position_along(FOLDED, FLOW).metres == 1000
    assert position_along(FOLDED, translate(FLOW, 300)).metres == 1000
    assert position_along(FOLDED, translate(FLOW, -400)).metres == 500


def test_a_front_that_leaves_at_a_side_and_comes_back_counts_on_both_sides() -> None:
    area = 1000 * 500 + 300 * 100 + 200 * 200
    assert position_in_box(LEAVING, BOX).area_m2 == pytest.approx(area, rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(front=rough_fronts())
def test_the_area_is_that_of_the_polygon_behind_the_front(front: LineString) -> None:
    behind = Polygon([*front.coords, (-1500, 0), (2500, 0)])
    assume(behind.is_valid)
    expected = behind.intersection(BOX.polygon).area
    position = position_in_box(front, BOX)
    assert position.area_m2 == pytest.approx(expected, rel=1e-9)
    assert position.metres == pytest.approx(expected / 1000, rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(front=rough_fronts(), first=st.floats(-200, 200), second=st.floats(-200, 200))
def test_moves_along_the_box_add_up(front: LineString, first: float, second: float) -> None:
    for measure, reference in ((position_in_box, BOX), (position_along, FLOW)):
        start, middle, end = (
            measure(translate(front, 0, up), reference).metres for up in (0, first, first + second)
        )
        assert middle - start == pytest.approx(first, abs=1e-6)
        assert end - middle == pytest.approx(second, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(front=rough_fronts(), angle=st.floats(0, 360))
def test_turning_everything_changes_nothing(front: LineString, angle: float) -> None:
    def turned(shape: LineString) -> LineString:
        return rotate(shape, angle, origin=(300_000, -20_000))

    corners = shapely.get_coordinates(turned(LineString(BOX.corners)))
    front_there, flow_there = turned(front), turned(FLOW)
    expected = position_in_box(front, BOX).metres
    assert position_in_box(front_there, Box(corners)).metres == pytest.approx(expected, abs=1e-4)
    expected = position_along(front, FLOW).metres
    assert position_along(front_there, flow_there).metres == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("front", "reason"),
    [
        (translate(STRAIGHT, 0, 2000), "does not cross the box from side to side"),
        (LineString([(1200, 700), (300, 700)]), "does not cross the box from side to side"),
        (LineString([(600, 700), (300, 700)]), "does not cross the box from side to side"),
        (
            LineString([(1200, 700), (300, 700), (300, 600), (1200, 600)]),
            "does not cross the box from side to side",
        ),
        (LineString([(1200, 700), (500, -10), (-100, 700)]), "meets the base of the box"),
        (LineString([(1200, 0), (-100, 0)]), "meets the base of the box"),
        (LineString([(1200, 700), (500, 2010), (-100, 700)]), "meets the end at sea of the box"),
    ],
)
def test_no_position_without_a_whole_crossing(front: LineString, reason: str) -> None:
    position = position_in_box(front, BOX)
    assert np.isnan([position.metres, position.area_m2]).all()
    assert reason in position.reason


def test_loose_ends_and_loops_do_no_harm() -> None:
    loose = LineString([*STRAIGHT.coords, (-100, 900), (400, 900)])
    assert position_in_box(loose, BOX).metres == pytest.approx(700)
    loop = LineString([(1200, 700), (500, 700), (500, 720), (510, 720), (510, 690), (-100, 700)])
    assert not loop.is_simple
    assert position_in_box(loop, BOX).metres == pytest.approx(700, abs=10)


def test_a_front_along_a_side_of_the_box_counts() -> None:
    along = LineString([(1200, 700), (1000, 700), (1000, 900), (-100, 900)])
    assert position_in_box(along, BOX).metres == pytest.approx(900)


def test_no_position_where_front_and_centreline_do_not_cross() -> None:
    position = position_along(LineString([(1200, 700), (600, 700)]), FLOW)
    assert np.isnan(position.metres)
    assert position.reason == "The front does not cross the centreline."


def test_a_curved_centreline_counts_its_own_metres() -> None:
    angle = np.linspace(np.pi, 0, 721)
    bend = LineString(np.column_stack([3000 * np.cos(angle), 3000 * np.sin(angle)]))
    front = LineString([(0, 0), (5000, 5000)])
    assert position_along(front, bend).metres == pytest.approx(3000 * 0.75 * np.pi, rel=1e-5)
    overlap = LineString([(0, 500), (500, 500), (500, 900), (0, 900)])
    assert position_along(overlap, FLOW).metres == 900


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("reverse", [False, True])
def test_the_base_of_a_box_is_its_side_farthest_from_the_sea(first: int, reverse: bool) -> None:
    corners = np.roll([(0, 0), (1000, 0), (1100, 2000), (-100, 2000)], first, axis=0)
    polygon = Polygon(corners[::-1] if reverse else corners)
    box = box_from_polygon(polygon, seaward=np.array([0.3, 0.9]))
    assert list(box.base.coords) == [(0, 0), (1000, 0)]
    assert list(box.end.coords) == [(1100, 2000), (-100, 2000)]
    assert list(box.middle.coords) == [(500, 0), (500, 2000)]
    assert box.width_m == pytest.approx(1100)
    assert box.polygon.equals(polygon)
    turned = box_from_polygon(polygon, seaward=-NORTH)
    assert list(turned.base.coords) == [(1100, 2000), (-100, 2000)]


def test_a_slanted_box_is_as_wide_as_its_sides_are_apart() -> None:
    slanted = Polygon([(0, 0), (1000, 0), (2000, 2000), (1000, 2000)])
    box = box_from_polygon(slanted, seaward=NORTH)
    along = np.array([1, 2]) / np.sqrt(5)
    assert box.width_m == pytest.approx(1000 * 2 / np.sqrt(5))
    # A front that moves along the sides moves by just so much.
    front = LineString([(3000, 700), (-100, 700)])
    moved = translate(front, *(300 * along))
    change = position_in_box(moved, box).metres - position_in_box(front, box).metres
    assert change == pytest.approx(300)


@pytest.mark.parametrize(
    "polygon",
    [
        Polygon([(0, 0), (1000, 0), (1000, 900), (500, 1200), (0, 900)]),
        Polygon([(0, 0), (1000, 0), (500, 900)]),
        Polygon([(0, 0), (1000, 900), (1000, 0), (0, 900)]),
    ],
)
def test_boxes_have_four_corners(polygon: Polygon) -> None:
    with pytest.raises(LineError, match="A box must be a polygon of four corners"):
        box_from_polygon(polygon, seaward=NORTH)


def test_the_sea_lies_on_the_right() -> None:
    np.testing.assert_allclose(seaward_direction([STRAIGHT]), NORTH)
    np.testing.assert_allclose(seaward_direction([STRAIGHT.reverse()]), -NORTH)
    fronts = [rotate(FOLDED, 90), rotate(LEAVING, 90)]
    chord = np.sum([np.subtract(front.coords[-1], front.coords[0]) for front in fronts], axis=0)
    seaward = seaward_direction(fronts)
    assert seaward @ chord == pytest.approx(0, abs=1e-9)
    assert seaward[0] < 0


@settings(deadline=None, max_examples=30)
@given(slant=st.floats(-40, 40), angle=st.floats(0, 360), steps=st.lists(st.floats(-300, 300)))
def test_the_track_of_slanted_fronts_tells_the_flow(
    slant: float, angle: float, steps: list[float]
) -> None:
    front = rotate(STRAIGHT, slant)
    moves = [0.0, 400.0, 900.0, *steps]
    fronts = [rotate(translate(front, 0, move), angle, origin=(0, 0)) for move in moves]
    expected = [-np.sin(np.radians(angle)), np.cos(np.radians(angle))]
    np.testing.assert_allclose(seaward_direction(fronts), expected, atol=1e-9)


@pytest.mark.parametrize(
    "moves",
    [
        [(0, 0), (0, 900)],  # too few
        [(0, 0), (0, 30), (0, 60)],  # too short
        [(0, 0), (300, 400), (-300, 900)],  # not straight
        [(0, 0), (400, 200), (800, 400)],  # too far aside
    ],
)
def test_no_track_where_fronts_did_not_move_along_one(moves: list[tuple[float, float]]) -> None:
    fronts = [translate(rotate(STRAIGHT, 10), *move) for move in moves]
    np.testing.assert_allclose(
        seaward_direction(fronts), [-np.sin(np.radians(10)), np.cos(np.radians(10))]
    )


@pytest.mark.parametrize(
    "fronts",
    [
        [STRAIGHT, translate(STRAIGHT, 0, 100).reverse()],
        [LineString([(0, 0), (100, 0), (0, 100), (0, 0)])],
    ],
)
def test_fronts_that_run_against_each_other_have_no_sea(fronts: list[LineString]) -> None:
    with pytest.raises(LineError, match="must all run with the glacier on their left"):
        seaward_direction(fronts)


def test_a_derived_box_lies_over_all_fronts() -> None:
    fronts = [STRAIGHT, translate(STRAIGHT, 100, 900), translate(STRAIGHT, -100, 500)]
    box = derive_box(fronts, seaward=NORTH)
    # In common: 0 to 1100; 80 % of it; a tenth of that beyond the fronts.
    np.testing.assert_allclose(box.corners, [(110, 612), (990, 612), (990, 1688), (110, 1688)])
    for front in fronts:
        assert position_in_box(front, box).metres == pytest.approx(front.coords[0][1] - 612)
    whole = derive_box(fronts, seaward=NORTH, width_share=1.0)
    assert whole.width_m == pytest.approx(1100)


@settings(deadline=None, max_examples=30)
@given(front=rough_fronts(), angle=st.floats(0, 360), moves=st.lists(st.floats(-900, 900)))
def test_every_front_has_its_place_in_a_derived_box(
    front: LineString, angle: float, moves: list[float]
) -> None:
    fronts = [rotate(translate(front, 0, move), angle, origin=(0, 0)) for move in (0.0, *moves)]
    box = derive_box(fronts, seaward=seaward_direction(fronts))
    assert not any(position_in_box(one, box).reason for one in fronts)
    assert not any(position_along(one, box.middle).reason for one in fronts)


def test_fronts_found_in_part_do_not_narrow_the_box() -> None:
    wholes = [translate(STRAIGHT, 0, move) for move in (0, 200, 300, 500)]
    parts = [LineString([(90, 800), (-100, 800)]), LineString([(1200, 800), (990, 800)])]
    box = derive_box([*wholes, *parts], seaward=NORTH)
    np.testing.assert_allclose(box.corners[:, 0], [30, 1070, 1070, 30])
    reasons = [position_in_box(front, box).reason for front in (*wholes, *parts)]
    assert [bool(reason) for reason in reasons] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("share", [0, -0.5, 1.2, np.nan])
def test_the_width_of_a_derived_box_is_a_share(share: float) -> None:
    with pytest.raises(ParameterError, match="width_share must lie above 0 and at most at 1, got"):
        derive_box([STRAIGHT], seaward=NORTH, width_share=share)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_centreline_is_turned_to_the_sea(reverse: bool) -> None:
    bend = LineString([(4000, -800), (900, 0), (500, 400), (500, 1500), (-600, 1800)])
    drawn = bend.reverse() if reverse else bend
    fronts = [STRAIGHT, translate(STRAIGHT, 0, 200)]
    line, direction = orient_centreline(drawn, fronts)
    assert line.equals_exact(bend)
    start, end = bend.project(shapely.Point(500, 700)), bend.project(shapely.Point(500, 900))
    ends = shapely.get_coordinates(bend.interpolate([start - 650, end + 650]))
    np.testing.assert_allclose(direction * np.hypot(*(ends[1] - ends[0])), ends[1] - ends[0])
    seen_from_the_sea, turned = orient_centreline(drawn, [front.reverse() for front in fronts])
    assert seen_from_the_sea.equals_exact(bend.reverse())
    np.testing.assert_allclose(turned, -direction)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_centreline_beside_the_fronts_is_turned_too(reverse: bool) -> None:
    beside = LineString([(5000, 0), (5100, 2000)])
    line, direction = orient_centreline(beside.reverse() if reverse else beside, [STRAIGHT])
    assert line.equals_exact(beside)
    np.testing.assert_allclose(direction, NORTH)


def test_centrelines_are_checked() -> None:
    for line in (
        LineString([(0, 0), (0, 1000), (500, 500), (-500, 500)]),
        LineString([(0, 0), (0, 1000), (500, 500), (0, 0)]),
        LineString([(0, 0), (0, 0)]),
    ):
        with pytest.raises(LineError, match="must run from the glacier to the sea and not cross"):
            orient_centreline(line, [STRAIGHT])
    with pytest.raises(LineError, match="fronts face, but lies 80 degrees aside"):
        orient_centreline(rotate(FLOW, 80, origin=(500, 700)), [STRAIGHT])
