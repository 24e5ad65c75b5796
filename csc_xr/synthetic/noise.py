"""Noise as a function of seed and position, and the windows it is computed on.

Large forms are value noise on a lattice of `STEP` pixels, interpolated to the pixels of a
`Window`; sensor noise is a hash of each pixel's position.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

STEP = 4  # lattice spacing in pixels


class Window:
    """A window of pixels and the lattice cells that cover it.

    Fields are computed over all pixels of these cells; `rows` and `columns` cut the window
    out of them.

    Parameters
    ----------
    y0, y1 : int
        First row and the row after the last.
    x0, x1 : int
        First column and the column after the last.
    """

    def __init__(self, y0: int, y1: int, x0: int, x1: int) -> None:
        top, left = y0 // STEP * STEP, x0 // STEP * STEP
        bottom, right = -(-y1 // STEP) * STEP, -(-x1 // STEP) * STEP
        self.rows = slice(y0 - top, y1 - top)
        self.columns = slice(x0 - left, x1 - left)
        self.row = np.arange(top, bottom)
        self.column = np.arange(left, right)
        self.y = (self.row[:, None] + 0.5).astype(np.float32)
        self.x = (self.column[None, :] + 0.5).astype(np.float32)
        # One lattice point more than the cells need, for slopes.
        self.lattice_y = np.arange(top, bottom + 2 * STEP, STEP).astype(np.float32)[:, None]
        self.lattice_x = np.arange(left, right + 2 * STEP, STEP).astype(np.float32)[None, :]

    def to_pixels(self, field: Floats) -> Floats:
        """Interpolate linearly from the lattice to the pixel centres.

        Parameters
        ----------
        field : array of float32
            Values at the lattice points (`lattice_y`, `lattice_x`).

        Returns
        -------
        array of float32
            Values at the pixels (`row`, `column`).
        """
        share = ((np.arange(STEP) + 0.5) / STEP).astype(np.float32)
        field = field[: self.row.size // STEP + 1, : self.column.size // STEP + 1]
        along = (field[:, :-1, None] + np.diff(field, axis=1)[:, :, None] * share).reshape(
            field.shape[0], -1
        )
        rise = np.diff(along, axis=0)[:, None, :] * share[:, None]
        rise += along[:-1, None, :]
        return rise.reshape(self.row.size, -1)

    def take(self, curve: Floats, axis: Literal["row", "column"]) -> Floats:
        """Take the values of a curve along rows or columns, the last value beyond its end.

        Parameters
        ----------
        curve : array of float32
            A value for each row or each column of the scene.
        axis : {"row", "column"}
            What the curve runs along.

        Returns
        -------
        array of float32
            Values of shape (row, 1) or (1, column).
        """
        index = self.row if axis == "row" else self.column
        values = curve[np.minimum(index, curve.size - 1)]
        return values[:, None] if axis == "row" else values[None, :]


def fractal(
    y: Floats, x: Floats, spacing: float, octaves: int, salt: int, *, ridged: bool = False
) -> Floats:
    """Value noise of several sizes, each octave turned against the one before.

    Octaves below 10 px are left out: the lattice cannot carry them.

    Parameters
    ----------
    y, x : array of float32
        Positions in pixels; they broadcast against each other.
    spacing : float
        Spacing of the random values of the largest octave, in pixels; at least 10 is used.
    octaves : int
        How many octaves, each of half the spacing and half the weight of the one before.
    salt : int
        Which noise: offset in the table of random values, and angle of the first octave.
    ridged : bool
        Whether ridges stand where the noise crosses 0, small ones on large ones.

    Returns
    -------
    array of float32
        Noise of the broadcast shape, in about -1 to 1; ridged, 0 or more.
    """
    total = np.zeros(np.broadcast_shapes(y.shape, x.shape), np.float32)
    weights = 0.0
    for octave in range(octaves):
        size = max(spacing, 10.0) / 2**octave
        if size < 10.0:
            break
        turn = salt + 1.3 * octave
        c, s = float(np.cos(turn)) / size, float(np.sin(turn)) / size
        layer = _value_noise(c * y - s * x, s * y + c * x, salt + 40503 * octave)
        if ridged:
            # Small ridges stand on large ones: valley floors stay smooth.
            np.abs(layer, out=layer)
            layer *= -1.5
            layer += 1
            layer *= layer
            layer *= 0.25 + (total if octave else 0.75)
        total += layer * 0.5**octave
        weights += 0.5**octave
    total *= 1.0 / weights
    return total


def _value_noise(v: Floats, u: Floats, salt: int) -> Floats:
    """Random values at integer positions, smoothly interpolated."""
    low_v, low_u = np.floor(v), np.floor(u)
    v, u = v - low_v, u - low_u
    v, u = v * v * (3 - 2 * v), u * u * (3 - 2 * u)
    row = (low_v.astype(np.int32) + (salt >> 8)) & 255
    column = (low_u.astype(np.int32) + salt) & 255
    below, right = ((row + 1) & 255) << 8, (column + 1) & 255
    row <<= 8
    table = _lattice_values()
    top = table.take(row + column)
    top += (table.take(row + right) - top) * u
    base = table.take(below + column)
    base += (table.take(below + right) - base) * u
    top += (base - top) * v
    return top


@lru_cache(maxsize=1)
def _lattice_values() -> Floats:
    return np.random.default_rng(6).uniform(-1, 1, 1 << 16).astype(np.float32)


def white_noise(seed: int, window: Window, bands: int) -> list[Floats]:
    """White noise of each band, from a hash of seed and absolute pixel position.

    Parameters
    ----------
    seed : int
        Which noise.
    window : Window
        The pixels wanted.
    bands : int
        How many bands.

    Returns
    -------
    list of array of float32
        For each band, noise of mean 0 and standard deviation 1 over all pixels of the
        window's lattice cells. Its distribution is triangular.
    """
    salt = np.random.default_rng((seed, 7)).integers(1 << 32, dtype=np.uint32)
    key = _scramble(window.row.astype(np.uint32) + salt)[:, None]
    key = _scramble(key ^ (window.column.astype(np.uint32) * np.uint32(0x9E3779B1)))
    noise = []
    for band in range(bands):
        mixed = key * np.uint32(0x2C1B3C6D + 0x1F123BB6 * band)
        # The sum of two uniform draws: triangular, of deviation 65536 / sqrt(6).
        value = ((mixed >> np.uint32(16)) + (mixed & np.uint32(0xFFFF))).astype(np.float32)
        noise.append((value - 65536.0) * (6**0.5 / 65536))
    return noise


def _scramble(x: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Mix the bits of 32-bit integers (multiply and shift, as in Wellons' lowbias32)."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def soft_step(field: Floats, width: float) -> Floats:
    """Rise from 0 to 1 across `width`, centred on 0: a soft edge.

    Parameters
    ----------
    field : array of float32
        Signed distance from the edge.
    width : float
        Width of the rise, in the units of `field`.

    Returns
    -------
    array of float32
        Values in 0 to 1, of the shape of `field`.
    """
    risen: Floats = np.clip(field * (1.0 / width) + 0.5, 0, 1)
    return risen
