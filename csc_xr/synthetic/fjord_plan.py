"""What is drawn once for a fjord scene: its settings, curves, calving front, spectra and light."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from csc_xr.synthetic.noise import Floats, fractal

FrontShape = Literal["straight", "concave", "angled", "rough"]

# End members: rows of a plan's `spectra`.
WATER, SILT, ICE, SNOW, ROCK, TUNDRA = range(6)
_SPECTRA = np.array(
    [
        (250, 330, 480, 140),
        (900, 1150, 1250, 380),
        (5000, 5700, 6200, 3900),
        (9000, 9100, 9300, 8300),
        (1500, 1300, 1200, 1750),
        (800, 950, 750, 2500),
    ],
    dtype=np.float32,
)
_HAZE = np.array((130.0, 220.0, 420.0, 50.0), dtype=np.float32)


@dataclass(frozen=True)
class FjordSettings:
    """Settings of a fjord scene.

    Inside, the glacier always comes from the left; half of the seeds give a mirrored scene.
    """

    shape: tuple[int, int]
    seed: int
    date_seed: int
    front_position: float
    front_shape: str
    melange: bool
    noise: float
    nodata_margin: float
    nunataks: int = 0
    tributaries: tuple[str, ...] = ()
    icebergs: int = 0
    lakes: int = 0
    tongue: bool = False


class FjordPlan(NamedTuple):
    """What is drawn once for a fjord: curves along its axis, spectra, light, noise offsets."""

    centre: Floats  # centre line of the fjord, row of each pixel column
    half: Floats  # half width of the fjord, pixels, of each pixel column
    open_side: int  # -1 or 1: the wall above or below lies outside the scene; 0: both inside
    mirrored: bool  # the scene shows the fjord with the glacier on the right
    front: Floats  # column of the calving front, of each pixel row
    calm_front: Floats  # the same without its roughness
    size: float  # length of the large forms in pixels
    sun: tuple[float, float, float]  # unit vector towards the sun: right, down, up
    snow_line: float
    ice_snow_line: float  # column
    moraines: tuple[float, ...]  # across the fjord, -1 to 1
    spectra: Floats  # (end member, band), digital numbers
    haze: Floats  # (band,), digital numbers
    salt: tuple[int, ...]  # offsets of the terrain's noise
    date_salt: tuple[int, ...]  # offsets of the noise that changes with the date


@lru_cache(maxsize=8)
def draw_plan(settings: FjordSettings) -> FjordPlan:
    """Draw all that a scene has one of; kept for the scenes last asked for.

    Parameters
    ----------
    settings : FjordSettings
        The scene.

    Returns
    -------
    FjordPlan
        Curves, spectra, light and noise offsets.
    """
    height, width = settings.shape
    rng = np.random.default_rng((settings.seed, 2))
    date = np.random.default_rng((settings.date_seed, 3))
    draw = rng.uniform
    offset, tilt, bow = draw(-0.05, 0.05), draw(-0.25, 0.25), draw(-0.06, 0.06)
    broad, phase = draw(0.2, 0.28), draw(0, 2 * np.pi, 2)
    s = (np.arange(width) + 0.5) / width
    centre = height * (0.5 + offset + tilt * (s - 0.5) + bow * np.sin(2 * np.pi * s + phase[0]))
    basin = np.clip((0.3 - s) / 0.3, 0, 1) ** 2
    half = height * broad * (1 + 0.12 * np.sin(8 * s + phase[1]) + 1.1 * basin)
    open_side = 0
    if settings.tongue:
        open_side = int(np.random.default_rng((settings.seed, 10)).choice((-1, 1)))
        half *= 1.25
        edge = half - 0.15 * height
        centre = edge if open_side < 0 else height - edge
    salt = tuple(int(value) for value in rng.integers(0, 1 << 16, 16))
    date_salt = tuple(int(value) for value in date.integers(0, 1 << 16, 16))
    column = min(int(settings.front_position * width), width - 2)
    calm, front = _front_columns(
        settings,
        centre[column],
        half[column],
        centre[column + 1] - centre[column],
        (rng.choice((-1.0, 1.0)), salt[0], date_salt[0]),
    )
    azimuth, elevation = date.uniform(-0.9, 0.9), date.uniform(0.5, 0.75)
    tint = rng.uniform(0.92, 1.08, (6, 1)) * date.uniform(0.97, 1.03, (6, 4))
    return FjordPlan(
        centre=centre.astype(np.float32),
        half=half.astype(np.float32),
        open_side=open_side,
        mirrored=bool(rng.random() < 0.5),
        front=front,
        calm_front=calm,
        size=0.25 * min(height, width),
        sun=(
            float(np.cos(elevation) * np.sin(azimuth)),
            float(np.cos(elevation) * np.cos(azimuth)),
            float(np.sin(elevation)),
        ),
        snow_line=float(draw(0.3, 0.42)),
        # Never so far down that snow reaches the front.
        ice_snow_line=width * min(float(draw(0.19, 0.25)), 0.6 * settings.front_position),
        moraines=tuple(float(value) for value in draw(-0.6, 0.6, rng.integers(0, 4))),
        spectra=(_SPECTRA * tint * date.uniform(0.93, 1.06)).astype(np.float32),
        haze=(_HAZE * date.uniform(0.6, 1.8)).astype(np.float32),
        salt=salt,
        date_salt=date_salt,
    )


def _front_columns(
    settings: FjordSettings, centre: float, half: float, slope: float, draws: tuple[float, int, int]
) -> tuple[Floats, Floats]:
    """Column of the front in each row: without and with its roughness."""
    side, salt, date_salt = draws
    row = np.arange(settings.shape[0]) + 0.5
    n = np.clip((row - centre) / half, -1.3, 1.3)
    form = {
        "straight": 0 * n,
        "concave": 0.55 * (n**2 - 0.33),
        "angled": side * (0.5 * n + 0.35 * (np.abs(n - 0.15) - 0.5)),
        "rough": 0 * n,
    }[settings.front_shape]
    span = _span(settings, half)
    calm = settings.front_position * settings.shape[1] + span * (
        form - np.clip(slope, -0.5, 0.5) * n
    )
    y, x = row.astype(np.float32), np.zeros(1, np.float32)
    wavy = roughness(settings, half)
    bays = wavy * fractal(y, x, max(0.35 * half, 8.0), 3, salt)
    calved = min(0.5 * wavy, 12.0) * fractal(y, x, 40.0, 4, date_salt)
    return calm.astype(np.float32), (calm + bays + calved).astype(np.float32)


def _span(settings: FjordSettings, half: float) -> float:
    """Length of the front's form in pixels, for a fjord of a half width."""
    # In scenes taller than wide the fjord is wider than it is long.
    return min(half, 0.35 * settings.shape[1])


def roughness(settings: FjordSettings, half: float) -> float:
    """Give the height of the bays of the front.

    Parameters
    ----------
    settings : FjordSettings
        The scene.
    half : float
        Half width of the fjord at the front, in pixels.

    Returns
    -------
    float
        Pixels; what changes with the date is at most half as high.
    """
    return _span(settings, half) * (0.16 if settings.front_shape == "rough" else 0.035)
