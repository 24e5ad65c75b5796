"""What makes a calving front hard to find: nunataks, side glaciers, tabular icebergs, lakes.

Rock, side glaciers and lakes follow `seed` and stay in place; icebergs follow `date_seed`. None
touches the calving front, wherever it lies between the positions `FRONT_RANGE`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from csc_xr.synthetic.fjord_plan import FjordPlan, FjordSettings, draw_plan, roughness
from csc_xr.synthetic.noise import Floats, fractal

Tributary = Literal["joining", "land", "fjord"]

FRONT_RANGE = (0.42, 0.62)
"""Front positions that nunataks and side glaciers leave room for."""

_TRIES = 60  # places drawn for a lake before the best is taken


class Patch(NamedTuple):
    """A small area about a point."""

    y: float
    x: float
    radius: float
    stretch: float  # length over width
    turn: float  # of its length, radians
    salt: int


class SideGlacier(NamedTuple):
    """A glacier that comes down a side wall."""

    side: float  # -1 above the fjord, 1 below
    column: float  # where its middle meets the wall
    lean: float  # columns for each pixel inland
    half: float  # half width, pixels
    end: float  # pixels inland of the wall where its ice ends; below 0 out in the fjord
    snow: float  # pixels inland of the wall where snow begins
    salt: int


class Features(NamedTuple):
    """What was drawn for a scene."""

    nunataks: tuple[Patch, ...]
    glaciers: tuple[SideGlacier, ...]
    icebergs: tuple[Patch, ...]
    lakes: tuple[Patch, ...]


@lru_cache(maxsize=8)
def draw_features(settings: FjordSettings) -> Features:
    """Draw where the features of a scene lie; kept for the scenes last asked for.

    Parameters
    ----------
    settings : FjordSettings
        The scene.

    Returns
    -------
    Features
        Places and sizes, before mirroring.
    """
    rng = np.random.default_rng((settings.seed, 8))
    # Each kind has draws of its own: more lakes do not move a nunatak.
    rock, ice, water = rng.spawn(3)
    return Features(
        nunataks=_draw_nunataks(settings, rock),
        glaciers=tuple(_draw_glacier(settings, kind, ice) for kind in settings.tributaries),
        icebergs=_draw_icebergs(settings, np.random.default_rng((settings.date_seed, 9))),
        lakes=_draw_lakes(settings, water),
    )


def _draw_nunataks(settings: FjordSettings, rng: np.random.Generator) -> tuple[Patch, ...]:
    """Rocks up-glacier of every front in `FRONT_RANGE`, the first close to it."""
    plan = draw_plan(replace(settings, front_position=FRONT_RANGE[0]))
    width = plan.centre.size
    found: list[Patch] = []
    for index in range(settings.nunataks):
        radius = float(rng.uniform(0.09, 0.16) * plan.size)
        stretch = float(rng.uniform(1.2, 2.2))
        column = int(0.4 * width)
        y = plan.centre[column] + rng.uniform(-0.5, 0.5) * plan.half[column]
        row = int(np.clip(y, 0, plan.front.size - 1))
        near = plan.calm_front[row] - 1.4 * roughness(settings, plan.half[column]) - 4
        turn, salt = float(rng.uniform(0, np.pi)), int(rng.integers(0, 1 << 16))
        # Half its length along the flow, and what its rough outline may add.
        near -= radius * np.hypot(np.cos(turn) * stretch**0.5, np.sin(turn) / stretch**0.5)
        near -= 0.4 * radius * stretch**0.5
        gap = rng.uniform(0.0, 0.01) if index == 0 else rng.uniform(0.03, 0.2)
        found.append(Patch(float(y), float(near - gap * width), radius, stretch, turn, salt))
    return tuple(found)


def _draw_glacier(settings: FjordSettings, kind: str, rng: np.random.Generator) -> SideGlacier:
    """Draw a side glacier that leaves the front alone wherever that lies in `FRONT_RANGE`."""
    plan = draw_plan(settings)
    size, width = plan.size, plan.centre.size
    half = float(rng.uniform(0.14, 0.2) * size)
    lean = float(rng.uniform(-0.7, -0.1))
    sides = [plan.open_side * -1.0] if plan.open_side else [-1.0, 1.0]
    rng.shuffle(sides)
    up = {side: float(_front_at_wall(settings, FRONT_RANGE[0], side).min()) for side in sides}
    down = {side: float(_front_at_wall(settings, FRONT_RANGE[1], side).max()) for side in sides}
    # What its course, its edges and the wall's bays may add.
    room = 1.8 * half + 0.1 * size + 1.4 * roughness(settings, float(plan.half.mean()))
    if kind == "joining":
        side = max(sides, key=lambda side: up[side])
        column = up[side] - room - rng.uniform(0, 0.08) * width
        end = -0.2 * size
    elif kind == "fjord":
        side = min(sides, key=lambda side: down[side])
        first, last = down[side] + room + 0.1 * size, width - 0.6 * half
        column = first + rng.uniform(0, 0.7) * max(last - first, 0)
        end = -float(rng.uniform(0.05, 0.2)) * size
    else:
        side = sides[0]
        column = rng.uniform(0.3, 0.9) * width
        end = float(rng.uniform(0.25, 0.4)) * size
    return SideGlacier(
        side=side,
        column=float(column),
        lean=lean,
        half=half,
        end=end,
        snow=float(rng.uniform(0.75, 1.0)) * size,
        salt=int(rng.integers(0, 1 << 16)),
    )


def _front_at_wall(settings: FjordSettings, position: float, side: float) -> Floats:
    """Columns of a front at a position in the rows about the wall on a side."""
    plan = draw_plan(replace(settings, front_position=position))
    column = min(int(position * plan.centre.size), plan.centre.size - 1)
    across = side * (np.arange(plan.front.size) - plan.centre[column]) / plan.half[column]
    # At least the row at the border, where the wall lies outside.
    near = (across > 0.6) & (across < 1.3)
    return plan.calm_front[near] if near.any() else plan.calm_front[[0 if side < 0 else -1]]


def _draw_icebergs(settings: FjordSettings, rng: np.random.Generator) -> tuple[Patch, ...]:
    """Icebergs between the front and the end of the scene, the first close to the front."""
    plan = draw_plan(settings)
    width = plan.centre.size
    found: list[Patch] = []
    for index in range(settings.icebergs):
        radius, stretch = float(rng.uniform(0.1, 0.2) * plan.size), float(rng.uniform(1.1, 2.2))
        across, along = rng.uniform(-0.6, 0.6), rng.uniform(0, 1)
        column = int((settings.front_position + 0.1) * width)
        y = plan.centre[column] + across * plan.half[column]
        row = int(np.clip(y, 0, plan.front.size - 1))
        first = plan.front[row] + radius * stretch + 10
        x = first + (0.1 if index == 0 else 0.9) * along * max(width - radius - first, 0)
        y = plan.centre[min(int(x), width - 1)] + across * plan.half[min(int(x), width - 1)]
        turn, salt = float(rng.uniform(0, np.pi)), int(rng.integers(0, 1 << 16))
        found.append(Patch(float(y), float(x), radius, stretch, turn, salt))
    return tuple(found)


def _draw_lakes(settings: FjordSettings, rng: np.random.Generator) -> tuple[Patch, ...]:
    """Lakes on land, the first across the upper or lower border of the scene."""
    plan = draw_plan(settings)
    height, width = settings.shape
    found: list[Patch] = []
    for index in range(settings.lakes):
        radius, stretch = float(rng.uniform(0.08, 0.15) * plan.size), float(rng.uniform(1, 2))
        x = rng.uniform(0.1, 0.95, _TRIES) * width
        y = rng.integers(0, 2, _TRIES) * height if index == 0 else rng.uniform(0, height, _TRIES)
        column = x.astype(int)
        inland = np.abs(y - plan.centre[column]) - plan.half[column] - 0.3 * plan.size
        # The first place that is far enough inland, or else the one furthest inland.
        best = int(np.argmax(np.minimum(inland, 2 * radius)))
        turn, salt = float(rng.uniform(0, np.pi)), int(rng.integers(0, 1 << 16))
        found.append(Patch(float(y[best]), float(x[best]), radius, stretch, turn, salt))
    return tuple(found)


def patch_field(patches: tuple[Patch, ...], y: Floats, x: Floats, *, angular: bool) -> Floats:
    """Pixels inside the outline of the nearest patch.

    Parameters
    ----------
    patches : tuple of Patch
        At least one.
    y, x : array of float32
        Positions in pixels, a column and a row.
    angular : bool
        Whether patches have straight sides, as tabular icebergs do.

    Returns
    -------
    array of float32
        Values of the broadcast shape, below 0 outside.
    """
    field = np.full(np.broadcast_shapes(y.shape, x.shape), -1e6, np.float32)
    for patch in patches:
        c, s = float(np.cos(patch.turn)), float(np.sin(patch.turn))
        longer = patch.stretch**0.5
        u = np.abs((c * (x - patch.x) + s * (y - patch.y)) / longer)
        v = np.abs((c * (y - patch.y) - s * (x - patch.x)) * longer)
        away = np.maximum(np.maximum(u, v), 0.78 * (u + v)) if angular else np.hypot(u, v)
        rough = (0.25 if angular else 0.6) * patch.radius
        away -= rough * fractal(y, x, 1.3 * patch.radius, 3, patch.salt)
        np.maximum(field, patch.radius - away, out=field)
    return field


def valley_field(settings: FjordSettings, y: Floats, x: Floats, wall: Floats) -> Floats:
    """Pixels inside the outline of the nearest side glacier.

    Parameters
    ----------
    settings : FjordSettings
        The scene.
    y, x : array of float32
        Positions in pixels, a column and a row.
    wall : array of float32
        Pixels inland of the fjord wall.

    Returns
    -------
    array of float32
        Values of the shape of `wall`, below 0 outside.
    """
    field = np.full(wall.shape, -1e6, np.float32)
    for glacier in draw_features(settings).glaciers:
        inland = _inland(draw_plan(settings), glacier, y, x)
        middle = glacier.column + glacier.lean * inland
        middle += 0.5 * glacier.half * fractal(y, 0 * x, 3.0 * glacier.half, 2, glacier.salt)
        # Wider where it begins, above.
        half = glacier.half * (0.9 + 0.25 * np.clip(inland / draw_plan(settings).size, 0, 2))
        inside = half - np.abs(x - middle) / float(np.hypot(1, glacier.lean))
        inside += 0.3 * glacier.half * fractal(y, x, 1.5 * glacier.half, 3, glacier.salt + 7)
        inside = _rounded_minimum(inside, wall - glacier.end, glacier.half)
        inside[inland < -0.7 * draw_plan(settings).half.min()] = -1e6
        np.maximum(field, inside, out=field)
    return field


def _rounded_minimum(one: Floats, other: Floats, width: float) -> Floats:
    """Take the lower of two fields, lower still where nearly equal: outlines turn in a curve."""
    near = np.maximum(1 - np.abs(one - other) / width, 0)
    lower: Floats = np.minimum(one, other) - 0.25 * width * near * near
    return lower


def side_snow(settings: FjordSettings, y: Floats, x: Floats) -> Floats:
    """Rise of snow on the side glaciers, above 0 where snow lies, in units of `Ground.ice_snow`.

    Parameters
    ----------
    settings : FjordSettings
        The scene.
    y, x : array of float32
        Positions in pixels, a column and a row.

    Returns
    -------
    array of float32
        Values of the broadcast shape, far below 0 in the fjord.
    """
    plan = draw_plan(settings)
    field = np.full(np.broadcast_shapes(y.shape, x.shape), -1e6, np.float32)
    for glacier in draw_features(settings).glaciers:
        inland = _inland(plan, glacier, y, x)
        np.maximum(field, (inland - glacier.snow) / (0.5 * plan.size), out=field)
    return field


def _inland(plan: FjordPlan, glacier: SideGlacier, y: Floats, x: Floats) -> Floats:
    """Pixels inland of the fjord's wall on the glacier's side, the wall taken as smooth."""
    index = np.minimum(x[0].astype(int), plan.centre.size - 1)
    inland: Floats = glacier.side * (y - plan.centre[index]) - plan.half[index]
    return inland
