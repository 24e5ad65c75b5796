"""Where what lies in a fjord scene: walls, terrain, sea, and so the classes and the front line."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from csc_xr.synthetic.fjord_plan import FjordPlan, FjordSettings, draw_plan
from csc_xr.synthetic.noise import STEP, Floats, Window, fractal
from csc_xr.synthetic.textures import look_up, texture_tables


class Ground(NamedTuple):
    """Signed fields that decide the classes of a window, at pixels; terrain on the lattice."""

    land: Floats  # pixels inland of the fjord wall
    sea: Floats  # pixels seaward of the calving front
    rock_snow: Floats  # above 0: snow on rock
    ice_snow: Floats  # above 0: snow on ice
    zone: Floats  # seaward of the front, 0 to 1 at the end of the scene
    height: Floats  # lattice: terrain height, 0 to about 1
    relief: Floats  # lattice: light on the terrain, 1 where level


def ground_fields(settings: FjordSettings, window: Window) -> Ground:
    """Compute the fields that decide the classes of a window.

    Parameters
    ----------
    settings : FjordSettings
        The scene.
    window : Window
        The pixels wanted.

    Returns
    -------
    Ground
        Fields at the pixels and on the lattice of the window.
    """
    plan = draw_plan(settings)
    y, x = window.lattice_y, window.lattice_x
    wall = _wall(plan, y, x)
    height, relief = _terrain(plan, y, x, wall)
    rock_snow = height - plan.snow_line + 0.3 * fractal(y, x, 0.8 * plan.size, 5, plan.salt[2])
    rock_snow += 0.25 * np.clip(1.0 - relief, -0.6, 0.3)
    ice_snow = (plan.ice_snow_line - x) / (0.5 * plan.size)
    ice_snow = ice_snow + 0.9 * fractal(y, x, 0.8 * plan.size, 5, plan.salt[3])
    begin = plan.calm_front[np.minimum(y[:, 0].astype(int), plan.calm_front.size - 1)][:, None]
    reach = plan.centre.size * (1 - settings.front_position)
    zone = (x - begin) / reach
    # Ice spreads away from the front and forgets its form.
    zone += (begin / reach - plan.calm_front.mean() / reach) * np.clip(1.6 * zone, 0, 0.7)
    zone += np.clip(3 * zone, 0, 1) * 0.22 * fractal(y, x, 1.2 * plan.size, 5, plan.date_salt[1])
    grain = look_up(texture_tables().grain, window.y, window.x)
    rock_snow = window.to_pixels(rock_snow)
    rock_snow += 0.05 * grain
    ice_snow = window.to_pixels(ice_snow)
    ice_snow += 0.12 * grain
    return Ground(
        land=_land(wall, window),
        sea=window.x - window.take(plan.front, "row"),
        rock_snow=rock_snow,
        ice_snow=ice_snow,
        zone=window.to_pixels(zone) + 0.006 * grain,
        height=height,
        relief=relief,
    )


def _wall(plan: FjordPlan, y: Floats, x: Floats) -> Floats:
    """Pixels inland of the fjord wall, on the lattice; also inland: rocks that pierce the ice."""
    index = np.minimum(x[0].astype(int), plan.centre.size - 1)
    wall: Floats = np.abs(y - plan.centre[index]) - plan.half[index]
    wall += 0.3 * plan.size * fractal(y, x, plan.size, 5, plan.salt[1])
    nunatak = 0.8 * (fractal(y, x, 0.5 * plan.size, 5, plan.salt[11]) - 0.5)
    nunatak -= np.maximum(x - 0.8 * plan.ice_snow_line, 0) / plan.size
    np.maximum(wall, nunatak * plan.size, out=wall)
    return wall


def _land(wall: Floats, window: Window) -> Floats:
    """Pixels inland of the fjord wall, at pixels."""
    land = window.to_pixels(wall)
    land += 2.0 * look_up(texture_tables().grain, window.y, window.x)
    return land


def _terrain(plan: FjordPlan, y: Floats, x: Floats, wall: Floats) -> tuple[Floats, Floats]:
    """Height (0 to about 1) of ridged mountains rising from the fjord, and the light on them."""
    bend = 0.2 * plan.size
    yy = y + bend * fractal(y, x, plan.size, 2, plan.salt[4])
    xx = x + bend * fractal(y, x, plan.size, 2, plan.salt[5])
    ridges = fractal(yy, xx, 0.9 * plan.size, 6, plan.salt[6], ridged=True)
    inland = np.maximum(wall, 0)
    inland /= inland + 0.25 * plan.size
    height = inland * (0.35 + 0.75 * ridges + 0.3 * fractal(y, x, plan.size, 3, plan.salt[12]))
    # Relief as a share of the length of its forms: about 1000 m over 4 km.
    metres = 0.4 * plan.size
    slope_y = np.zeros_like(height)
    slope_x = np.zeros_like(height)
    slope_y[:-1] = np.diff(height, axis=0) * (metres / STEP)
    slope_x[:, :-1] = np.diff(height, axis=1) * (metres / STEP)
    right, down, up = plan.sun
    light = (up - right * slope_x - down * slope_y) / (
        up * np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    )
    return height, np.clip(light, 0.2, 1.7)


def sea_limits(settings: FjordSettings) -> tuple[float, float]:
    """Values of `Ground.zone` where mélange and iceberg water end.

    Parameters
    ----------
    settings : FjordSettings
        The scene.

    Returns
    -------
    tuple of float
        End of the mélange (far below every zone when there is none), end of iceberg water.
    """
    return (0.26 if settings.melange else -9.0), 0.66


def nodata_edge(settings: FjordSettings, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Column where data begin in each row, on the glacier's side of the scene.

    Parameters
    ----------
    settings : FjordSettings
        The scene.
    rows : array of float64
        Rows, in pixels from the top of the scene.

    Returns
    -------
    array of float64
        Columns before mirroring, of the shape of `rows`; 0 without a margin.
    """
    return settings.nodata_margin * settings.shape[1] * (1.5 - rows / settings.shape[0])


def front_line(settings: FjordSettings) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Follow the calving front from wall to wall, where the scene has data.

    Parameters
    ----------
    settings : FjordSettings
        The scene.

    Returns
    -------
    tuple of array of float64
        Columns and rows of the vertices, in pixels from the top left corner of the scene.
    """
    front = draw_plan(settings).front
    height, width = settings.shape
    at_sea = np.zeros(height, dtype=bool)
    for y0 in range(0, height, 32):
        y1 = min(y0 + 32, height)
        columns = np.clip(front[y0:y1].astype(int), 0, width - 1)
        window = Window(y0, y1, int(columns.min()), int(columns.max()) + 1)
        land = _land(_wall(draw_plan(settings), window.lattice_y, window.lattice_x), window)
        land = land[window.rows, window.columns]
        at_sea[y0:y1] = land[np.arange(y1 - y0), columns - columns.min()] <= 0
    middle = int(draw_plan(settings).centre[min(int(settings.front_position * width), width - 1)])
    walls = np.flatnonzero(~at_sea)
    first = int(walls[walls < middle].max(initial=-1)) + 1
    last = int(walls[walls > middle].min(initial=height))
    line_y = np.arange(first, last, dtype=np.float64) + 0.5
    line_x = front[first:last].astype(np.float64)
    seen = (line_x > nodata_edge(settings, line_y)) & (line_x > 0) & (line_x < width)
    line_y, line_x = line_y[seen], line_x[seen]
    return (width - line_x if draw_plan(settings).mirrored else line_x), line_y


def fjord_labels(settings: FjordSettings, window: Window) -> npt.NDArray[np.uint8]:
    """Classes of a window, before mirroring.

    Parameters
    ----------
    settings : FjordSettings
        The scene.
    window : Window
        The pixels wanted.

    Returns
    -------
    array of uint8
        GLACIER codes (1, row, column) over the window's lattice cells, 0 in the wedge without
        data.
    """
    ground = ground_fields(settings, window)
    melange, bergs = sea_limits(settings)
    codes = np.where(ground.zone < bergs, np.uint8(2), np.uint8(1))
    codes[ground.zone < melange] = 3
    ice = ground.sea < 0
    codes[ice] = 4
    codes[ice & (ground.ice_snow > 0)] = 5
    land = ground.land > 0
    codes[land] = 7
    codes[land & (ground.rock_snow > 0)] = 6
    if settings.nodata_margin > 0:
        codes[window.x <= nodata_edge(settings, window.y.astype(np.float64))] = 0
    return codes[None]
