"""Fine textures, looked up in periodic tables: crevasses, floes, and the grain of surfaces."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from csc_xr.synthetic.noise import Floats

TABLE = 1 << 10  # pixels a side of the periodic tables; `look_up` relies on the power of 2


class Textures(NamedTuple):
    """Periodic tables, flat, of TABLE x TABLE pixels."""

    grain: Floats  # rough, about -1 to 1
    crevasse: Floats  # 0 to 1, lines along the second axis
    cell: Floats  # 0 to 1, constant over each floe
    edge: Floats  # pixels from the edge of the floe, twice


@lru_cache(maxsize=1)
def texture_tables() -> Textures:
    """Compute the tables, once for each process; they are the same for every seed.

    Returns
    -------
    Textures
        The four tables, float32.
    """
    rng = np.random.default_rng(5)
    grain = np.zeros((TABLE, TABLE), np.float32)
    for weight, size in ((0.35, 64), (0.3, 128), (0.3, 256), (0.25, 512)):
        grain += weight * _periodic(rng, size, size)
    bend = np.round(9 * _periodic(rng, 16, 16) + 3 * _periodic(rng, 64, 64)).astype(np.intp)
    down, right = np.indices((TABLE, TABLE))
    lines = np.zeros((TABLE, TABLE), np.float32)
    for weight, size in ((1.0, 64), (0.8, 128), (0.5, 256)):
        sharp = 1 - 3 * np.abs(_periodic(rng, size, size // 8))
        lines = np.maximum(lines, weight * np.clip(sharp, 0, 1))
    lines = lines[(down + bend) % TABLE, right]
    cell, edge = _floes(rng, _periodic(rng, 128, 128))
    return Textures(*(table.astype(np.float32).ravel() for table in (grain, lines, cell, edge)))


def _periodic(rng: np.random.Generator, ny: int, nx: int) -> Floats:
    """Smooth noise in -1 to 1 on a table, from ny x nx random values."""
    values = rng.uniform(-1, 1, (ny, nx)).astype(np.float32)
    for axis, size in ((0, ny), (1, nx)):
        at = np.arange(TABLE) * (size / TABLE)
        low = at.astype(np.intp)
        share = (at - low).astype(np.float32)
        share = share * share * (3 - 2 * share)
        first, second = values.take(low, axis), values.take((low + 1) % size, axis)
        second -= first
        second *= share[:, None] if axis == 0 else share[None, :]
        values = first + second
    return values


def _floes(rng: np.random.Generator, rough: Floats) -> tuple[Floats, Floats]:
    """Voronoi cells of jittered points: a value of each cell, and distance to its edge."""
    count, width = 32, TABLE // 32
    points = (np.indices((count, count)) + rng.uniform(0.05, 0.95, (2, count, count))) * width
    values = rng.random((count, count)).astype(np.float32)
    down, right = np.indices((TABLE, TABLE)).astype(np.float32)
    # Rough edges: the cells are those of slightly displaced positions.
    down += 2.5 * rough
    right += 2.5 * np.roll(rough, 300, axis=1)
    nearest = np.full((TABLE, TABLE), np.inf, np.float32)
    second, cell = nearest.copy(), np.zeros((TABLE, TABLE), np.float32)
    home_y, home_x = ((at // width).astype(np.intp) for at in (down, right))
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            i, j = home_y + dy, home_x + dx
            wrap_y, wrap_x = i % count, j % count
            away_y = points[0][wrap_y, wrap_x] + (i - wrap_y) * width - down
            away_x = points[1][wrap_y, wrap_x] + (j - wrap_x) * width - right
            away = np.hypot(away_y, away_x).astype(np.float32)
            closer = away < nearest
            second = np.where(closer, nearest, np.minimum(second, away))
            cell = np.where(closer, values[wrap_y, wrap_x], cell)
            nearest = np.minimum(nearest, away)
    return cell, second - nearest


def look_up(table: Floats, y: Floats, x: Floats) -> Floats:
    """Look values of a periodic table up, nearest neighbour.

    Parameters
    ----------
    table : array of float32
        One of `Textures`.
    y, x : array of float32
        Positions in pixels, above -65536; they broadcast against each other.

    Returns
    -------
    array of float32
        Values of the table, of the broadcast shape.
    """
    # The shift keeps positions positive: truncation would mirror the table at 0.
    index = (y + 65536.0).astype(np.int32) & (TABLE - 1)
    index = (index << 10) + ((x + 65536.0).astype(np.int32) & (TABLE - 1))
    return table.take(index)
