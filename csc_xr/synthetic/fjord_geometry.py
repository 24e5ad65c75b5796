"""Where what lies in a fjord scene: walls, terrain, sea, and so the classes and the front line."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from csc_xr.synthetic.fjord_features import draw_features, patch_field, side_snow, valley_field
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
    side: Floats | None = None  # pixels inside the outline of a side glacier
    berg: Floats | None = None  # pixels inside the outline of a tabular iceberg
    lake: Floats | None = None  # pixels inside the shore of a lake


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
    wall, side = _wall(settings, window.lattice_y, window.lattice_x)
    height, relief = _terrain(plan, window.lattice_y, window.lattice_x, wall)
    rock_snow, ice_snow = _snow(settings, window, height, relief, side)
    grain = look_up(texture_tables().grain, window.y, window.x)
    land = _land(wall, window)
    sea = window.x - window.take(plan.front, "row")
    if side is not None:
        side = window.to_pixels(side)
        # Up to the valley's walls, which are rougher than the ice field.
        sea = np.minimum(sea, -4 - side)
    berg, lake = _afloat_and_ashore(settings, window, land, sea, side)
    return Ground(
        land=land,
        sea=sea,
        rock_snow=rock_snow + 0.05 * grain,
        ice_snow=ice_snow + 0.12 * grain,
        zone=_zone(settings, window) + 0.006 * grain,
        height=height,
        relief=relief,
        side=side,
        berg=berg,
        lake=lake,
    )


def _snow(
    settings: FjordSettings, window: Window, height: Floats, relief: Floats, side: Floats | None
) -> tuple[Floats, Floats]:
    """Fields above 0 where snow lies on rock and on ice, at pixels, without their grain."""
    plan, features = draw_plan(settings), draw_features(settings)
    y, x = window.lattice_y, window.lattice_x
    on_rock = height - plan.snow_line + 0.3 * fractal(y, x, 0.8 * plan.size, 5, plan.salt[2])
    on_rock += 0.25 * np.clip(1.0 - relief, -0.6, 0.3)
    if features.nunataks:
        # Every other rock is high enough for snow.
        on_rock += 0.02 * np.maximum(patch_field(features.nunataks[1::2], y, x, angular=False), 0)
    on_ice = (plan.ice_snow_line - x) / (0.5 * plan.size)
    on_ice = on_ice + 0.9 * fractal(y, x, 0.8 * plan.size, 5, plan.salt[3])
    if side is not None:
        higher = side_snow(settings, y, x) + 0.4 * fractal(y, x, 0.5 * plan.size, 4, plan.salt[3])
        on_ice = np.where(side > -8, np.maximum(on_ice, higher), on_ice)
    return window.to_pixels(on_rock), window.to_pixels(on_ice)


def _zone(settings: FjordSettings, window: Window) -> Floats:
    """Seaward of the front, 0 to 1 at the end of the scene, at pixels."""
    plan = draw_plan(settings)
    y, x = window.lattice_y, window.lattice_x
    begin = plan.calm_front[np.minimum(y[:, 0].astype(int), plan.calm_front.size - 1)][:, None]
    reach = plan.centre.size * (1 - settings.front_position)
    zone = (x - begin) / reach
    # Ice spreads away from the front and forgets its form.
    zone += (begin / reach - plan.calm_front.mean() / reach) * np.clip(1.6 * zone, 0, 0.7)
    zone += np.clip(3 * zone, 0, 1) * 0.22 * fractal(y, x, 1.2 * plan.size, 5, plan.date_salt[1])
    return window.to_pixels(zone)


def _afloat_and_ashore(
    settings: FjordSettings, window: Window, land: Floats, sea: Floats, side: Floats | None
) -> tuple[Floats | None, Floats | None]:
    """Pixels inside tabular icebergs, which touch neither land nor glacier, and inside lakes."""
    features = draw_features(settings)
    y, x = window.lattice_y, window.lattice_x
    berg = lake = None
    if features.icebergs:
        berg = window.to_pixels(patch_field(features.icebergs, y, x, angular=True))
        berg = np.minimum(berg, np.minimum(sea - 6, -4 - land))
    if features.lakes:
        lake = window.to_pixels(patch_field(features.lakes, y, x, angular=False))
        lake = np.minimum(lake, land - 4)
        if side is not None:
            lake = np.minimum(lake, -8 - side)
    return berg, lake


def _wall(settings: FjordSettings, y: Floats, x: Floats) -> tuple[Floats, Floats | None]:
    """Pixels inland of the fjord wall, and inside side glaciers if there are any, on the lattice.

    Also inland: rocks that pierce the ice.
    """
    plan = draw_plan(settings)
    index = np.minimum(x[0].astype(int), plan.centre.size - 1)
    wall: Floats = np.abs(y - plan.centre[index]) - plan.half[index]
    wall += 0.3 * plan.size * fractal(y, x, plan.size, 5, plan.salt[1])
    nunatak = 0.8 * (fractal(y, x, 0.5 * plan.size, 5, plan.salt[11]) - 0.5)
    nunatak -= np.maximum(x - 0.8 * plan.ice_snow_line, 0) / plan.size
    np.maximum(wall, nunatak * plan.size, out=wall)
    features = draw_features(settings)
    side = valley_field(settings, y, x, wall) if features.glaciers else None
    if side is not None:
        np.minimum(wall, -side, out=wall)
    if features.nunataks:
        np.maximum(wall, patch_field(features.nunataks, y, x, angular=False), out=wall)
    return wall, side


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
        # The last pixel of ice and the first of sea, by their centres.
        last_ice = np.clip(np.ceil(front[y0:y1] - 0.5).astype(int) - 1, 0, width - 2)
        window = Window(y0, y1, int(last_ice.min()), int(last_ice.max()) + 2)
        land = _land(_wall(settings, window.lattice_y, window.lattice_x)[0], window)
        land = land[window.rows, window.columns]
        rows, columns = np.arange(y1 - y0), last_ice - last_ice.min()
        at_sea[y0:y1] = np.maximum(land[rows, columns], land[rows, columns + 1]) <= 0
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
    if ground.berg is not None:
        codes[ground.berg > 0] = 4
    land = ground.land > 0
    codes[land] = 7
    codes[land & (ground.rock_snow > 0)] = 6
    if ground.lake is not None:
        codes[ground.lake > 0] = 1
    if settings.nodata_margin > 0:
        codes[window.x <= nodata_edge(settings, window.y.astype(np.float64))] = 0
    return codes[None]
