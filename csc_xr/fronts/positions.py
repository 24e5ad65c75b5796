"""Where a front lies, in metres: by the box method and along a centreline.

Pure geometry: all coordinates here are metres in one plane with y up, as
:func:`csc_xr.metres.to_metres` gives them, and every front runs with the glacier on its left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import LineString, Polygon

from csc_xr.errors import LineError, ParameterError

Points = NDArray[np.float64]

_TOUCH_M = 1e-6
"""What lies nearer than this touches: far above rounding, far below any pixel."""
_MARGIN = 0.1
"""What a derived box reaches beyond all fronts, at both ends, as a share of its width."""
_LEAST_COMMON_SHARE = 0.25
_LEAST_AGREEMENT = 0.5
"""Sum of the chords of fronts as a share of their lengths, from which they run one way."""
_TRACK_FRONTS, _TRACK_SHARE, _TRACK_RATIO, _TRACK_COSINE = 3, 0.2, 5.0, 0.7
"""When the track of fronts tells the flow: how many, how long, how straight, how near to it."""
_LEAST_COSINE = 0.5


@dataclass(frozen=True)
class Position:
    """Where one front lies by one method.

    Attributes
    ----------
    metres : float
        Metres towards the sea from where the box or the centreline begins; NaN where the
        front has no position.
    reason : str
        A sentence that tells why there is none; empty where there is one.
    area_m2 : float
        Of a position in a box: the area of the box on the glacier's side of the front.
    """

    metres: float = np.nan
    reason: str = ""
    area_m2: float = np.nan


@dataclass(frozen=True)
class Box:
    """A box over the end of a glacier, open to the sea.

    Attributes
    ----------
    corners : array of float64
        Shape (4, 2), in metres: the left and the right end of the base, then the right and
        the left corner at sea, left and right as one looks from the base to the sea.
    """

    corners: Points

    @property
    def polygon(self) -> Polygon:
        """The area of the box."""
        return Polygon(self.corners)

    @property
    def base(self) -> LineString:
        """The side upstream, from which positions count."""
        return LineString(self.corners[[0, 1]])

    @property
    def end(self) -> LineString:
        """The side at sea."""
        return LineString(self.corners[[2, 3]])

    @property
    def middle(self) -> LineString:
        """From the middle of the base to the middle of the side at sea."""
        return LineString(np.stack([self.corners[:2].mean(axis=0), self.corners[2:].mean(axis=0)]))

    @property
    def width_m(self) -> float:
        """Width across its middle line: between the sides where these are parallel."""
        return float(self.polygon.area / self.middle.length)


def seaward_direction(fronts: Sequence[LineString]) -> Points:
    """Tell the direction of the flow, to the sea, from fronts alone.

    The sea lies on the right of the chords from the first to the last point of the fronts, so the
    direction is perpendicular to the sum of these. But a front may lie aslant in its valley, whose
    walls its ends follow. So where the middles of the chords moved along one line, the direction is
    that of the line: of at least three fronts, when the line lies within 45 degrees of the
    perpendicular, and the distances of the middles from their mean along it, squared, summed and
    rooted, are at least a fifth of the mean chord and five times those across it.

    Parameters
    ----------
    fronts : sequence of shapely.LineString
        At least one front, each with the glacier on its left.

    Returns
    -------
    array of float64
        Unit vector, shape (2,).

    Raises
    ------
    LineError
        When the fronts run against each other or in circles, so that no side is the sea's.

    Examples
    --------
    >>> seaward_direction([LineString([(500, 0), (0, 0)])]).tolist()
    [0.0, 1.0]
    """
    ends = np.array([(front.coords[0], front.coords[-1]) for front in fronts])
    chords = ends[:, 1] - ends[:, 0]
    chord = chords.sum(axis=0)
    length = np.hypot(*chord)
    if not length > _LEAST_AGREEMENT * np.hypot(*chords.T).sum():
        raise LineError(
            "The fronts of a series must all run with the glacier on their left, but these "
            f"{len(fronts)} run against each other or in circles. Turn those that run the other "
            "way round."
        )
    seaward: Points = np.array([chord[1], -chord[0]]) / length
    middles = ends.mean(axis=1)
    track, spread, aside = _main_axis(middles - middles.mean(axis=0))
    cosine = float(track @ seaward)
    is_track = len(fronts) >= _TRACK_FRONTS and abs(cosine) >= _TRACK_COSINE
    if is_track and spread >= max(_TRACK_SHARE * length / len(fronts), _TRACK_RATIO * aside):
        return track if cosine > 0 else -track
    return seaward


def derive_box(fronts: Sequence[LineString], *, seaward: Points, width_share: float = 0.8) -> Box:
    """Lay a box over fronts, its sides along one direction.

    It takes the middle of the width that all fronts have in common, across that direction.
    Fronts that would leave less than a quarter of the median front's width in common, as one that
    was found in part only, are passed over, those farthest off first. From base to sea the box
    reaches beyond all fronts by a tenth of its width.

    Parameters
    ----------
    fronts : sequence of shapely.LineString
        At least one front, in metres.
    seaward : array of float64
        Direction of the sides, shape (2,), a unit vector that points to the sea.
    width_share : float
        Width of the box as a share of the width in common, above 0 and at most 1.

    Returns
    -------
    Box
        A rectangle.

    Raises
    ------
    ParameterError
        When the share is not above 0 and at most 1.

    Examples
    --------
    >>> front = LineString([(1000, 0), (0, 0)])
    >>> derive_box([front], seaward=seaward_direction([front]), width_share=0.75).polygon.bounds
    (125.0, -75.0, 875.0, 75.0)
    """
    if not 0 < width_share <= 1:
        raise ParameterError(
            f"width_share must lie above 0 and at most at 1, got {width_share}. Give the width of "
            "the box as a share of the width that all fronts have in common."
        )
    rightward = np.array([seaward[1], -seaward[0]])
    points = [shapely.get_coordinates(front) for front in fronts]
    across = [vertices @ rightward for vertices in points]
    left, right = _common_width(np.array([(place.min(), place.max()) for place in across]))
    spare = (1 - width_share) / 2 * (right - left)
    left, right = left + spare, right - spare
    along = np.concatenate(points) @ seaward
    margin = _MARGIN * (right - left)
    base, sea = along.min() - margin, along.max() + margin
    places = np.array([(left, base), (right, base), (right, sea), (left, sea)])
    return Box(places @ np.stack([rightward, seaward]))


def box_from_polygon(polygon: Polygon, *, seaward: Points) -> Box:
    """Take a polygon of four corners as box: its base is the side farthest from the sea.

    Parameters
    ----------
    polygon : shapely.Polygon
        In metres; need not be a rectangle.
    seaward : array of float64
        Direction to the sea, shape (2,); the middle of the base lies farthest against it.

    Returns
    -------
    Box
        The same corners, the base first.

    Raises
    ------
    LineError
        When the polygon does not have four corners, or crosses itself or has no area.

    Examples
    --------
    >>> box = box_from_polygon(shapely.box(0, 0, 200, 900), seaward=np.array([0.0, -1.0]))
    >>> box.base.wkt
    'LINESTRING (200 900, 0 900)'
    """
    corners = shapely.get_coordinates(shapely.orient_polygons(polygon))[:-1]
    if len(corners) != 4 or not polygon.is_valid or not polygon.area > 0:
        raise LineError(
            "A box must be a polygon of four corners that does not cross itself, so that the side "
            f"farthest from the sea is its base, got one of {len(corners)} corners and "
            f"{polygon.area:.0f} m2. Draw a rectangle whose sides run along the flow."
        )
    middles = (corners + np.roll(corners, -1, axis=0)) / 2
    return Box(np.roll(corners, -int((middles @ seaward).argmin()), axis=0))


def orient_centreline(
    centreline: LineString, fronts: Sequence[LineString]
) -> tuple[LineString, Points]:
    """Turn a line along the flow so that it runs to the sea, and tell its direction there.

    Parameters
    ----------
    centreline : shapely.LineString
        In metres, straight or curved, drawn either way.
    fronts : sequence of shapely.LineString
        At least one front, each with the glacier on its left.

    Returns
    -------
    centreline : shapely.LineString
        The same line, running to the sea.
    direction : array of float64
        Unit vector, shape (2,): from where the line first meets a front to where it last does,
        lengthened by half a front's chord both ways. Where it meets none, the direction to the sea
        that the fronts tell.

    Raises
    ------
    LineError
        When the line crosses itself or has no length, or no side of the fronts is the sea's.
    """
    if not centreline.is_simple or centreline.is_closed or not centreline.length > 0:
        raise LineError(
            "A centreline must run from the glacier to the sea and not cross or touch itself, got "
            "one that does or is a point. Draw it anew along the flow."
        )
    seaward = seaward_direction(fronts)
    met = np.concatenate([_crossings(front, centreline) for front in fronts])
    if met.size:
        beyond = float(np.median([_chord_m(front) for front in fronts])) / 2
        first, last = met.min() - beyond, met.max() + beyond
    else:
        first, last = 0.0, centreline.length
    start, end = centreline.interpolate([max(first, 0.0), min(last, centreline.length)])
    direction = np.array([end.x - start.x, end.y - start.y])
    direction /= np.hypot(*direction)
    cosine = float(direction @ seaward)
    if cosine < 0:
        centreline, direction = centreline.reverse(), -direction
    if not met.size:
        return centreline, seaward
    if abs(cosine) < _LEAST_COSINE:
        raise LineError(
            "A centreline must lead from the glacier to the sea within 60 degrees of the way the "
            f"fronts face, but lies {np.degrees(np.arccos(abs(cosine))):.0f} degrees aside. Draw "
            "it along the flow."
        )
    return centreline, direction


def position_in_box(front: LineString, box: Box) -> Position:
    """Measure the mean position of a front in a box: area behind it by width of the box.

    The box is cut along the front; its area on the glacier's side, divided by its width, is the
    front's mean distance from the base. Folds of the front count with their exact area, also
    where they leave the box at a side and come back.

    Parameters
    ----------
    front : shapely.LineString
        In metres.
    box : Box
        The box.

    Returns
    -------
    Position
        Without metres where the front does not join both sides of the box, or meets its base or
        its end at sea.

    References
    ----------
    Moon, T. and Joughin, I. (2008). Changes in ice front position on Greenland's outlet glaciers
    from 1992 to 2007. Journal of Geophysical Research 113, F02022.

    Examples
    --------
    >>> box = box_from_polygon(shapely.box(0, 0, 200, 900), seaward=np.array([0.0, 1.0]))
    >>> position_in_box(LineString([(300, 400), (-100, 400)]), box).metres
    400.0
    """
    for side, name in ((box.base, "base"), (box.end, "end at sea")):
        if front.distance(side) <= _TOUCH_M:
            return Position(reason=f"The front meets the {name} of the box.")
    faces = _faces(front, box)
    first = _face_at(box.base, faces)
    if first == _face_at(box.end, faces):
        return Position(reason="The front does not cross the box from side to side.")
    area = float(sum(faces[number].area for number in _same_side(faces, first)))
    return Position(metres=area / box.width_m, area_m2=area)


def position_along(front: LineString, centreline: LineString) -> Position:
    """Measure where a front crosses a line along the flow.

    Parameters
    ----------
    front : shapely.LineString
        In metres.
    centreline : shapely.LineString
        Running to the sea, straight or curved.

    Returns
    -------
    Position
        Metres along the line from its start; of several crossings, that nearest the sea. Without
        metres where the two do not cross.

    Examples
    --------
    >>> flow = LineString([(0, 0), (0, 900)])
    >>> position_along(LineString([(100, 300), (-100, 300), (-100, 500), (100, 500)]), flow).metres
    500.0
    """
    met = _crossings(front, centreline)
    if not met.size:
        return Position(reason="The front does not cross the centreline.")
    return Position(metres=float(met.max()))


def _main_axis(points: Points) -> tuple[Points, float, float]:
    """Axis along which points (n, 2) lie farthest from 0, and how far in all, along and across."""
    squares, axes = np.linalg.eigh(points.T @ points)
    across, along = np.sqrt(np.maximum(squares, 0)).tolist()
    main: Points = axes[:, 1]
    return main, along, across


def _chord_m(front: LineString) -> float:
    return float(np.hypot(*np.subtract(front.coords[-1], front.coords[0])))


def _crossings(front: LineString, centreline: LineString) -> Points:
    """Metres along the centreline of each point where the front meets it."""
    points = shapely.points(shapely.get_coordinates(front.intersection(centreline)))
    found: Points = shapely.line_locate_point(centreline, points)
    return found


def _common_width(ranges: Points) -> tuple[float, float]:
    """Give the range, left and right, common to ranges (n, 2), less those that narrow it most."""
    while True:
        left, right = ranges[:, 0].max(), ranges[:, 1].min()
        if right - left >= _LEAST_COMMON_SHARE * np.median(ranges[:, 1] - ranges[:, 0]):
            return float(left), float(right)
        off = np.abs(ranges - np.median(ranges, axis=0))
        narrowing = (ranges[:, 0].argmax(), ranges[:, 1].argmin())
        worst = int(off[narrowing[1], 1] > off[narrowing[0], 0])
        ranges = np.delete(ranges, narrowing[worst], axis=0)


def _faces(front: LineString, box: Box) -> list[Polygon]:
    """Pieces that the front cuts the box into; an end of it that hangs loose cuts nothing."""
    outline = box.polygon
    pieces = shapely.polygonize([shapely.unary_union([outline.exterior, front])])
    return [
        piece
        for piece in shapely.get_parts(pieces)
        if outline.contains(piece.representative_point())
    ]


def _face_at(side: LineString, faces: Sequence[Polygon]) -> int:
    """Give the number of the face that a side of the box, whole, belongs to."""
    middle = side.interpolate(0.5, normalized=True)
    return int(np.argmin([face.distance(middle) for face in faces]))


def _same_side(faces: Sequence[Polygon], first: int) -> list[int]:
    """Faces that one comes to from the first by crossing the front an even number of times."""
    beside = defaultdict(list)
    for number, face in enumerate(faces):
        for ring in (face.exterior, *face.interiors):
            for start, end in pairwise(ring.coords):
                beside[min(start, end), max(start, end)].append(number)
    across = defaultdict(set)
    for numbers in beside.values():
        for number in numbers:
            across[number].update(numbers)
    crossed = {first: 0}
    waiting = [first]
    while waiting:
        number = waiting.pop()
        for other in across[number] - crossed.keys():
            crossed[other] = crossed[number] + 1
            waiting.append(other)
    return [number for number, times in crossed.items() if times % 2 == 0]
