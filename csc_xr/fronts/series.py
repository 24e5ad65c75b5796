"""Fronts through time: how far a glacier advanced or retreated, by two published methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import geopandas
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyproj import CRS
from shapely import LineString, Polygon
from shapely.geometry.base import BaseGeometry

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
from csc_xr.metres import to_metres

_FOUND = "found"
_FIGURES = (
    "length_m",
    "box_position_m",
    "box_change_m",
    "box_area_change_m2",
    "centreline_position_m",
    "centreline_change_m",
)


class DatedFront(Protocol):
    """What a series needs of a front, as :class:`csc_xr.fronts.extraction.Front` has it."""

    @property
    def outcome(self) -> str:
        """``"found"``, or in a word or two why not."""

    @property
    def reason(self) -> str:
        """The same in a sentence."""

    @property
    def line(self) -> LineString | None:
        """The front with the glacier on its left, or None."""

    @property
    def crs(self) -> CRS | None:
        """Of the line."""


@dataclass(frozen=True)
class FrontSeries:
    """Fronts of one glacier in order of time, and how far they moved.

    Positions count towards the sea, so a positive change is an advance and a negative one a
    retreat. All are in true metres, whatever the CRS.

    Attributes
    ----------
    table : pandas.DataFrame
        A row for each front: ``time`` (datetime64, or 1, 2, ... without times), ``name``,
        ``outcome``, ``reason`` (why there is no front, or no position of it; else empty),
        ``length_m``; ``box_position_m``, mean distance from the base of the box, and
        ``box_change_m`` and ``box_area_change_m2`` since the first front that has a position in
        the box; ``centreline_position_m``, metres along the centreline, and
        ``centreline_change_m`` since the first front that crosses it. NaN where there is none.
    lines : geopandas.GeoDataFrame
        The fronts that there are, in their own CRS, with the columns of the table.
    box : geopandas.GeoSeries
        The polygon of the box, its base first, in the same CRS; empty where none could be derived.
    centreline : geopandas.GeoSeries
        The line along the flow, running to the sea, in the same CRS; empty where none could be
        derived.
    """

    table: pd.DataFrame
    lines: geopandas.GeoDataFrame = field(repr=False)
    box: geopandas.GeoSeries = field(repr=False)
    centreline: geopandas.GeoSeries = field(repr=False)


def front_series(
    fronts: Iterable[DatedFront],
    *,
    times: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    centreline: LineString | geopandas.GeoSeries | geopandas.GeoDataFrame | None = None,
    box: Polygon | geopandas.GeoSeries | geopandas.GeoDataFrame | None = None,
) -> FrontSeries:
    """Measure how fronts of one glacier moved, by the box method and along a centreline.

    By the box method (Moon and Joughin 2008) the position of a front is the area between it and
    the base of a box, divided by the box's width; along a centreline it is where the front crosses
    it, of several crossings that nearest the sea.

    A front counts as soon as it has a line: one that touches the frame of its image is measured
    where what there is of it crosses the box or the centreline. All others are gaps, with their
    reason.

    Parameters
    ----------
    fronts : iterable of Front
        In order of time; at least one. Of each its outcome, reason, line (with the glacier on the
        left) and CRS are looked at.
    times : sequence, optional
        When each front was there: text of ISO 8601, ``datetime`` or ``datetime64``; a time zone
        is turned into UTC. No time may lie before the one ahead of it.
    names : sequence of str, optional
        Names of the fronts; by default their times, or else their numbers.
    centreline : shapely.LineString, geopandas.GeoSeries or geopandas.GeoDataFrame, optional
        One line along the flow, drawn either way: a LineString in the fronts' CRS, or a series in
        any. By default the line through the middle of the box.
    box : shapely.Polygon, geopandas.GeoSeries or geopandas.GeoDataFrame, optional
        One polygon of four corners over the end of the glacier, given in the same two ways. Its
        base is the side farthest from the sea; the two beside it should run along the flow. By
        default :func:`csc_xr.fronts.positions.derive_box` lays one over the fronts that were found
        (or, where none was, over those that touch the frame), along the centreline where one is
        given, or else along :func:`csc_xr.fronts.positions.seaward_direction`. A derived box
        changes with the fronts; to add dates to a series, pass on its box and centreline.

    Returns
    -------
    FrontSeries
        Table, lines, box and centreline; in memory.

    Raises
    ------
    ParameterError
        When there is no front, or when times or names are not one for each front, or times go back
        or cannot be read.
    LineError
        When the fronts differ in CRS or have none, when centreline or box are not one simple line
        and one polygon of four corners, or when the fronts run against each other.

    References
    ----------
    Moon, T. and Joughin, I. (2008). Changes in ice front position on Greenland's outlet glaciers
    from 1992 to 2007. Journal of Geophysical Research 113, F02022.
    """
    rows = [(front.outcome, front.reason, front.line, front.crs) for front in fronts]
    table = _table(rows, times, names)
    crs = _common_crs([row[3] for row in rows])
    lines = geopandas.GeoSeries([row[2] for row in rows], crs=crs).force_2d()
    flow, area = _one(centreline, "centreline", "LineString", crs), _one(box, "box", "Polygon", crs)
    seen = lines[~(lines.isna() | lines.is_empty)]
    if not seen.empty:
        metres = to_metres(seen)
        found = metres[table.loc[seen.index, "outcome"] == _FOUND]
        references = _references(
            list(metres if found.empty else found),
            None if flow is None else to_metres(flow, around=seen).iloc[0],
            None if area is None else to_metres(area, around=seen).iloc[0],
        )
        _measure(table, metres, *references)
        area = geopandas.GeoSeries([references[0].polygon], crs=metres.crs)
        flow = geopandas.GeoSeries([references[1]], crs=metres.crs)
    return FrontSeries(
        table,
        geopandas.GeoDataFrame(table.loc[seen.index], geometry=seen),
        _in_crs(area, crs),
        _in_crs(flow, crs),
    )


def _table(
    rows: Sequence[tuple[str, str, Any, Any]],
    times: Sequence[Any] | None,
    names: Sequence[str] | None,
) -> pd.DataFrame:
    """Columns that need no measuring; the others NaN."""
    count = len(rows)
    if not count:
        raise ParameterError("A series needs at least one front, got none. Pass the fronts found.")
    moments = np.arange(1, count + 1) if times is None else _moments(times, count)
    if names is None:
        names = _default_names(moments)
    if isinstance(names, str) or len(names) != count:
        raise ParameterError(
            f"names must be {count} names, one for each front, got {len(names)}. Correct them, or "
            "leave them out."
        )
    outcomes, reasons = [row[0] for row in rows], [row[1] for row in rows]
    table = pd.DataFrame(
        {"time": moments, "name": list(names), "outcome": outcomes, "reason": reasons}
    )
    table.loc[table["outcome"] == _FOUND, "reason"] = ""
    return table.assign(**dict.fromkeys(_FIGURES, np.nan))


def _moments(times: Sequence[Any], count: int) -> NDArray[np.datetime64]:
    plain = [str(time) if isinstance(time, int | float) else time for time in times]
    try:
        # One by one text of many forms, dates and datetimes; without a zone they count as UTC.
        index = pd.to_datetime(plain, utc=True, format="ISO8601").tz_localize(None)
    except (TypeError, ValueError):
        index = pd.DatetimeIndex([])
    if len(index) != count or index.hasnans or not index.is_monotonic_increasing:
        shown = ", ".join(map(str, plain[:5])) + ", ..." * (len(plain) > 5)
        raise ParameterError(
            f"times must be {count} dates, with or without a time of day, one for each front and "
            f"none before the one ahead of it, got {len(plain)}: {shown}. Sort the fronts by time, "
            "and write times as '2021-07-15' or '2021-07-15T14:37:51'."
        )
    moments: NDArray[np.datetime64] = index.as_unit("ns").to_numpy()
    return moments


def _default_names(moments: NDArray[Any]) -> list[str]:
    if moments.dtype.kind != "M":
        return [str(number) for number in moments]
    index = pd.DatetimeIndex(moments)
    whole_days = bool((index == index.normalize()).all())
    return index.strftime("%Y-%m-%d" if whole_days else "%Y-%m-%dT%H:%M:%S").tolist()


def _common_crs(all_crs: Sequence[CRS | None]) -> CRS | None:
    first = all_crs[0]
    for number, crs in enumerate(all_crs, start=1):
        if crs != first:
            raise LineError(
                f"The fronts of a series must have one CRS, but the first is in {_name(first)} and "
                f"number {number} in {_name(crs)}. Bring the images to one CRS first."
            )
    return first


def _name(crs: CRS | None) -> str:
    return "none" if crs is None else crs.name


def _one(
    given: BaseGeometry | geopandas.GeoSeries | geopandas.GeoDataFrame | None,
    what: str,
    kind: str,
    crs: CRS | None,
) -> geopandas.GeoSeries | None:
    """Give a series of the one geometry wanted; what comes without a CRS is in the fronts'."""
    if given is None:
        return None
    if isinstance(given, BaseGeometry):
        given = geopandas.GeoSeries([given], crs=crs)
    parts = given.geometry.explode(ignore_index=True).force_2d()
    kinds = parts.geom_type.tolist()
    if kinds != [kind] or parts.is_empty.any():
        got = ", ".join(map(str, kinds[:5])) + ", ..." * (len(kinds) > 5) or "no geometry"
        raise LineError(
            f"The {what} must be one {kind} with vertices, got {got}. Pass a single one."
        )
    return parts


def _references(
    fronts: Sequence[LineString], centreline: LineString | None, box: Polygon | None
) -> tuple[Box, LineString]:
    """Box and centreline to measure by, in metres; those not given are derived."""
    if centreline is None:
        direction = seaward_direction(fronts)
    else:
        centreline, direction = orient_centreline(centreline, fronts)
    if box is None:
        area = derive_box(fronts, seaward=direction)
    else:
        area = box_from_polygon(box, seaward=direction)
    return area, area.middle if centreline is None else centreline


def _measure(
    table: pd.DataFrame, fronts: geopandas.GeoSeries, box: Box, centreline: LineString
) -> None:
    """Fill in the figures of the fronts, which have the index of their rows."""
    in_box = [position_in_box(front, box) for front in fronts]
    along = [position_along(front, centreline) for front in fronts]
    rows = fronts.index
    table.loc[rows, "length_m"] = fronts.length
    table.loc[rows, "box_position_m"] = [position.metres for position in in_box]
    table.loc[rows, "box_area_change_m2"] = [position.area_m2 for position in in_box]
    table.loc[rows, "centreline_position_m"] = [position.metres for position in along]
    table.loc[rows, "reason"] = [
        " ".join(filter(None, (reason, one.reason, other.reason)))
        for reason, one, other in zip(table.loc[rows, "reason"], in_box, along, strict=True)
    ]
    table["box_change_m"] = _since_first(table["box_position_m"])
    table["box_area_change_m2"] = _since_first(table["box_area_change_m2"])
    table["centreline_change_m"] = _since_first(table["centreline_position_m"])


def _since_first(values: pd.Series[float]) -> pd.Series[float]:
    known = values.dropna()
    return values if known.empty else values - known.iloc[0]


def _in_crs(shape: geopandas.GeoSeries | None, crs: CRS | None) -> geopandas.GeoSeries:
    if shape is None:
        return geopandas.GeoSeries([], crs=crs)
    return shape if crs is None else shape.to_crs(crs)
