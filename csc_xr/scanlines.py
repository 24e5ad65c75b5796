"""Polygons filled pixel by pixel: those whose centre lies inside.

The arithmetic is that of GDAL's polygon filling, to the last bit, but in pixels of the whole raster
whatever the part that is asked for. GDAL itself, called part by part, subtracts the corner of the
part first, and that rounding can move an edge that runs through the centre of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rings:
    """Outlines and holes of polygons.

    Attributes
    ----------
    places : ndarray
        Corners of all rings one after the other, the first of each again at its end; shape
        (corners, 2), x and y.
    starts : ndarray
        Where each ring starts, and where the last one ends; shape (rings + 1,).
    owners : ndarray
        Number of the polygon that each ring belongs to, ascending; shape (rings,).
    """

    places: Floats
    starts: Integers
    owners: Integers

    @classmethod
    def of(cls, polygons: NDArray[np.object_]) -> Rings:
        """Take polygons and multipolygons apart.

        Parameters
        ----------
        polygons : ndarray of shapely geometries
            None of them empty.

        Returns
        -------
        Rings
            All rings of all polygons.
        """
        _, places, (starts, *outer) = shapely.to_ragged_array(polygons, include_z=False)
        first_ring = outer[0][outer[1]] if len(outer) == 2 else outer[0]
        owners = np.repeat(np.arange(len(polygons)), np.diff(first_ring))
        return cls(places, starts, owners)

    @property
    def edges(self) -> Integers:
        """Numbers of the corners from which an edge leads to the next corner."""
        all_but_last = np.ones(len(self.places), bool)
        all_but_last[self.starts[1:] - 1] = False
        return np.flatnonzero(all_but_last)

    @property
    def owner_of_corner(self) -> Integers:
        """Number of the polygon that each corner belongs to."""
        return np.repeat(self.owners, np.diff(self.starts))

    def only(self, wanted: NDArray[np.bool_]) -> Rings:
        """Keep some of the polygons, numbered anew.

        Parameters
        ----------
        wanted : ndarray of bool
            One for each polygon.

        Returns
        -------
        Rings
            The rings of those that are wanted.
        """
        lengths = np.diff(self.starts)[wanted[self.owners]]
        numbers = np.cumsum(wanted) - 1
        return Rings(
            self.places[wanted[self.owner_of_corner]],
            np.concatenate([[0], np.cumsum(lengths)]),
            numbers[self.owners[wanted[self.owners]]],
        )

    def cut(self, pieces: Integers) -> Rings:
        """Cut edges into pieces of one length.

        Parameters
        ----------
        pieces : ndarray of int
            How many pieces the edge after each corner becomes; 1 for the last corner of a ring.

        Returns
        -------
        Rings
            The same outlines with more corners.
        """
        ends = np.concatenate([[0], np.cumsum(pieces)])
        corner = np.repeat(np.arange(len(pieces)), pieces)
        share = (np.arange(ends[-1]) - ends[corner]) / pieces[corner]
        following = np.minimum(corner + 1, len(pieces) - 1)
        step = self.places[following] - self.places[corner]
        return Rings(self.places[corner] + share[:, None] * step, ends[self.starts], self.owners)


def to_pixels(places: Floats, transform: Affine) -> Floats:
    """Bring places on the map to pixels, rounded as GDAL rounds.

    Parameters
    ----------
    places : ndarray
        Shape (n, 2), x and y.
    transform : affine.Affine
        From pixel corners to the map.

    Returns
    -------
    ndarray
        Shape (n, 2), column and row.
    """
    a, b, c, d, e, f = transform[:6]
    if b == 0 and d == 0:
        columns, rows = (-c / a, 1 / a, 0.0), (-f / e, 0.0, 1 / e)
    else:
        share = 1 / (a * e - b * d)
        columns = (b * f - c * e) * share, e * share, -b * share
        rows = (-a * f + c * d) * share, -d * share, a * share
    x, y = places.T
    return np.column_stack([first + x * of_x + y * of_y for first, of_x, of_y in (columns, rows)])


@dataclass(frozen=True, eq=False)
class Scanlines:
    """Polygons ready to be filled, in the order in which they are painted.

    Attributes
    ----------
    codes : ndarray of uint8
        What each polygon is painted with.
    boxes : ndarray of int
        Top, bottom, left and right pixel border around each polygon; shape (polygons, 4).
    first_edge, first_level : ndarray of int
        Where the edges and levels of each polygon start, and where the last ends.
    low, high : ndarray
        Column and row where each edge has its smaller and its larger row; shape (edges, 2).
    begin, end : ndarray of int
        First row whose middle an edge crosses, and the first that it crosses no more.
    levels : ndarray of int
        Row, first and last column of edges along the middle of a row that GDAL fills.
    """

    codes: NDArray[np.uint8]
    boxes: Integers
    first_edge: Integers
    first_level: Integers
    low: Floats
    high: Floats
    begin: Integers
    end: Integers
    levels: Integers

    @classmethod
    def of(cls, rings: Rings, codes: NDArray[np.uint8], transform: Affine) -> Scanlines:
        """Prepare polygons.

        Parameters
        ----------
        rings : Rings
            On the map, finite; polygons later in number are painted later.
        codes : ndarray of uint8
            What each polygon is painted with.
        transform : affine.Affine
            Of the raster.

        Returns
        -------
        Scanlines
            The polygons in pixels of the raster.
        """
        places = to_pixels(rings.places, transform)
        starts, owners = rings.edges, rings.owner_of_corner
        one, other = places[starts], places[starts + 1]
        rises = (one[:, 1] < other[:, 1])[:, None]
        low, high = np.where(rises, one, other), np.where(rises, other, one)
        begin, end = (np.ceil(corner[:, 1] - 0.5).astype(np.int64) for corner in (low, high))
        crosses = begin < end
        leftward = one[:, 0] > other[:, 0]
        middle = (one[:, 1] == other[:, 1]) & (begin + 0.5 == one[:, 1])
        clockwise = np.repeat(_clockwise(rings), np.diff(rings.starts))[starts]
        # GDAL turns every ring clockwise on the map and fills levels that then lead leftwards.
        filled = middle & (one[:, 0] != other[:, 0]) & (leftward == clockwise)
        columns = np.floor(np.stack([one[filled, 0], other[filled, 0]], axis=1) + 0.5)
        levels = np.column_stack([begin[filled], np.sort(columns.astype(np.int64), axis=1)])
        corners = np.searchsorted(owners, np.arange(len(codes)))
        least, most = (reduce.reduceat(places, corners) for reduce in (np.minimum, np.maximum))
        border = np.column_stack([np.floor(least), np.ceil(most) + 1]).astype(np.int64)
        numbers = np.arange(len(codes) + 1)
        return cls(
            codes,
            border[:, [1, 3, 0, 2]],
            np.searchsorted(owners[starts[crosses]], numbers),
            np.searchsorted(owners[starts[filled]], numbers),
            low[crosses],
            high[crosses],
            begin[crosses],
            end[crosses],
            levels,
        )

    def within(self, rows: slice, columns: slice) -> Integers:
        """Find the polygons that may have pixels in a part of the raster.

        Parameters
        ----------
        rows, columns : slice
            The part.

        Returns
        -------
        ndarray of int
            Their numbers, ascending.
        """
        top, bottom, left, right = self.boxes.T
        beside = (top >= rows.stop) | (bottom <= rows.start)
        return np.flatnonzero(~(beside | (left >= columns.stop) | (right <= columns.start)))

    def paint(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """Paint a part of the raster.

        Parameters
        ----------
        rows, columns : slice
            The part.

        Returns
        -------
        ndarray of uint8
            Code of the last polygon at each pixel, 0 where there is none.
        """
        painted = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        for number in self.within(rows, columns):
            inside, window = self._filled(number, rows, columns)
            painted[window][inside] = self.codes[number]
        return painted

    def conflicts(self, rows: slice, columns: slice) -> set[tuple[int, int]]:
        """Find polygons of different codes that claim the same pixels of a part of the raster.

        Parameters
        ----------
        rows, columns : slice
            The part.

        Returns
        -------
        set of tuple of int
            Numbers of two polygons; of the earlier ones at a pixel, that painted last.
        """
        owners = np.full((rows.stop - rows.start, columns.stop - columns.start), -1, np.int32)
        found: set[tuple[int, int]] = set()
        for number in self.within(rows, columns):
            inside, window = self._filled(number, rows, columns)
            below = np.unique(owners[window][inside])
            differ = below[(below >= 0) & (self.codes[below] != self.codes[number])]
            found.update((int(other), int(number)) for other in differ)
            owners[window][inside] = number
        return found

    def _filled(
        self, number: int, rows: slice, columns: slice
    ) -> tuple[NDArray[np.bool_], tuple[slice, slice]]:
        """Pixels inside a polygon, and the window of the part that they are given for."""
        top, bottom, left, right = self.boxes[number]
        top, bottom = max(top, rows.start), min(bottom, rows.stop)
        left, right = max(left, columns.start), min(right, columns.stop)
        edges = slice(*self.first_edge[number : number + 2])
        row, column = self._crossings(edges, top, bottom)
        column = column.clip(left, right).astype(np.int64) - left
        # Inside is where an odd number of edges was crossed from the left.
        width = int(right - left) + 1
        crossed = np.zeros((bottom - top) * width, np.uint8)
        np.add.at(crossed, (row - top) * width + column, np.uint8(1))
        crossed = crossed.reshape(-1, width)
        inside = (np.add.accumulate(crossed, axis=1, dtype=np.uint8)[:, :-1] & 1).astype(bool)
        for level, start, stop in self.levels[slice(*self.first_level[number : number + 2])]:
            if top <= level < bottom:
                inside[level - top, max(start - left, 0) : max(stop - left, 0)] = True
        across = slice(left - columns.start, right - columns.start)
        return inside, (slice(top - rows.start, bottom - rows.start), across)

    def _crossings(self, edges: slice, top: int, bottom: int) -> tuple[Integers, Floats]:
        """Rows and columns from which on the pixels lie beyond an edge."""
        begin = np.maximum(self.begin[edges], top)
        count = (np.minimum(self.end[edges], bottom) - begin).clip(0)
        edge = np.repeat(np.arange(len(count)), count)
        ends = np.cumsum(count)
        row = begin[edge] + np.arange(len(edge)) - (ends - count)[edge]
        (x, y), (x_high, y_high) = self.low[edges][edge].T, self.high[edges][edge].T
        column = (row + 0.5 - y) * (x_high - x) / (y_high - y) + x
        return row, np.floor(column + 0.5)


def _clockwise(rings: Rings) -> NDArray[np.bool_]:
    """Whether each ring runs clockwise on the map, y upwards."""
    lengths = np.diff(rings.starts)
    x, y = (rings.places - np.repeat(rings.places[rings.starts[:-1]], lengths, axis=0)).T
    twice = np.zeros(len(x))
    twice[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]  # between rings: 0, both are at the start
    return np.add.reduceat(twice, rings.starts[:-1]) < 0
