"""The image of a fjord scene: land, glacier and sea as mixtures of end members, light and haze."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from csc_xr.synthetic.fjord_geometry import Ground, ground_fields, nodata_edge, sea_limits
from csc_xr.synthetic.fjord_plan import (
    ICE,
    ROCK,
    SILT,
    SNOW,
    TUNDRA,
    WATER,
    FjordPlan,
    FjordSettings,
    draw_plan,
)
from csc_xr.synthetic.noise import Floats, Window, fractal, soft_step, white_noise
from csc_xr.synthetic.textures import TABLE, look_up, texture_tables


def fjord_image(settings: FjordSettings, window: Window) -> npt.NDArray[np.uint16]:
    """Digital numbers of a window, before mirroring.

    Parameters
    ----------
    settings : FjordSettings
        The scene.
    window : Window
        The pixels wanted.

    Returns
    -------
    array of uint16
        Reflectance x 10000 (band, row, column) over the window's lattice cells: red, green,
        blue, nir; at least 1, and 0 in the wedge without data.
    """
    plan, ground = draw_plan(settings), ground_fields(settings, window)
    y, x = window.lattice_y, window.lattice_x
    on_land = soft_step(ground.land, 2.0)
    afloat = soft_step(ground.sea, 2.0)
    members = np.zeros((6, *on_land.shape), np.float32)
    if on_land.max() > 0:
        _add_land(members, on_land * (1 - _cover(ground.lake)), window, ground)
        _add_lakes(members, on_land, settings, window, ground)
    if on_land.min() < 1:
        if afloat.max() > 0:
            open_sea = (1 - on_land) * afloat
            _add_sea(members, open_sea * (1 - _cover(ground.berg)), settings, window, ground)
            _add_icebergs(members, open_sea, window, ground)
        if afloat.min() < 1:
            _add_ice(members, (1 - on_land) * (1 - afloat), settings, window, ground)
    light = 1 + 0.08 * fractal(y, x, 2 * plan.size, 2, plan.date_salt[2])
    light = window.to_pixels(light)
    shaded = (1 - on_land) * (1 - _cover(ground.side, 12.0))
    light *= 1 - shaded * window.to_pixels(_shadow(plan, y, x))
    present = [member for member in range(6) if members[member].any()]
    image = np.empty((4, *light.shape), np.uint16)
    for band, noise in enumerate(white_noise(settings.date_seed, window, 4)):
        value = np.zeros_like(light)
        for member in present:
            value += members[member] * plan.spectra[member, band]
        value *= light
        value += plan.haze[band]
        value += noise * np.float32(settings.noise)
        image[band] = np.clip(value, 1, 65535)
    if settings.nodata_margin > 0:
        image[:, window.x <= nodata_edge(settings, window.y.astype(np.float64))] = 0
    return image


def _cover(inside: Floats | None, width: float = 2.0) -> Floats | float:
    """Share that a feature covers, from the pixels inside its outline."""
    return 0.0 if inside is None else soft_step(inside, width)


def _shadow(plan: FjordPlan, y: Floats, x: Floats) -> Floats:
    """Share of light that the wall towards the sun (downwards) takes from the fjord."""
    index = np.minimum(x[0].astype(int), plan.centre.size - 1)
    reach = 0.2 * plan.size * (0.7 + fractal(0 * y, x, 0.8 * plan.size, 6, plan.salt[7]))
    away = plan.centre[index] + plan.half[index] - y
    return 0.5 * soft_step(reach / plan.sun[2] - away, 6.0)


def _add_land(members: Floats, weight: Floats, window: Window, ground: Ground) -> None:
    texture = texture_tables()
    c, s = 0.8, 0.6
    grain = look_up(texture.grain, c * window.y + s * window.x, c * window.x - s * window.y)
    light = window.to_pixels(ground.relief)
    below = window.y + 1.5
    light += 0.3 * grain
    light -= 0.3 * look_up(texture.grain, c * below + s * window.x, c * window.x - s * below)
    snow = soft_step(ground.rock_snow + 0.02 * grain, 0.06)
    snow *= 0.97
    height = window.to_pixels(ground.height)
    green = np.clip(0.7 - 3 * height, 0, 1) * soft_step(light - 0.9 + 0.3 * grain, 0.6)
    members[SNOW] += weight * snow * (0.25 + 0.75 * np.minimum(light, 1.25))
    bare = weight * (1 - snow) * light * (1 + 0.3 * grain)
    members[TUNDRA] += bare * green
    members[ROCK] += bare * (1 - green)


def _add_ice(
    members: Floats, weight: Floats, settings: FjordSettings, window: Window, ground: Ground
) -> None:
    plan, texture = draw_plan(settings), texture_tables()
    y, x = window.lattice_y, window.lattice_x
    half = window.take(plan.half, "column")
    n: Floats = (window.y - window.take(plan.centre, "column")) / half
    # Crevasses bend up-glacier towards the margins, where the ice is slower.
    along: Floats = window.x + 0.3 * half * (n * n)
    across = n * float(plan.half[plan.half.size // 2])
    if ground.side is not None:
        # Side glaciers flow towards the fjord.
        across = np.where(ground.side > 0, window.x, across)
        along = np.where(ground.side > 0, (np.abs(n) - 1) * half, along)
    broken = window.to_pixels(
        np.clip(
            0.55
            + 0.5 * fractal(y, x, 0.5 * plan.size, 3, plan.salt[8])
            + 0.5 * (x / (settings.front_position * plan.centre.size) - 0.8),
            0.08,
            1,
        )
    )
    snow = soft_step(ground.ice_snow + 0.1 * look_up(texture.grain, window.y, window.x), 0.35)
    crevasse = look_up(texture.crevasse, along, across)
    crevasse *= broken * (1 - 0.85 * snow)
    streak = look_up(texture.crevasse, across + 300, 0.1 * along)
    swell = fractal(y, x, 60.0, 2, plan.salt[9])
    slope = np.zeros_like(swell)
    slope[:-1, :-1] = np.diff(swell, axis=0)[:, :-1] + 0.5 * np.diff(swell, axis=1)[:-1]
    light = 1 - 0.7 * crevasse - window.to_pixels(slope) * (0.35 + 0.4 * snow)
    dirt = _moraines(plan, window, n, half)
    dirt += 0.5 * np.clip(1 + ground.land / (0.05 * plan.size), 0, 1) + 0.12 * streak
    dirt = np.clip(dirt, 0, 0.9) * (1 - snow)
    light *= weight
    members[SNOW] += light * snow
    light *= 1 - snow
    members[ROCK] += light * dirt
    members[ICE] += light * (1 - dirt)


def _moraines(plan: FjordPlan, window: Window, n: Floats, half: Floats) -> Floats:
    """Share of debris on bands that follow the flow."""
    y, x = window.lattice_y, window.lattice_x
    wander = window.to_pixels(0.03 * fractal(y, x, 0.6 * plan.size, 3, plan.salt[10]))
    fade = np.clip(
        window.to_pixels(0.7 + 1.2 * fractal(y, x, 0.4 * plan.size, 4, plan.salt[13])), 0, 1
    )
    dirt = np.zeros_like(n)
    for place in plan.moraines:
        dirt += np.clip(1 - np.abs(n - place + wander) * (half / (0.02 * plan.size)), 0, 0.5) * fade
    return dirt


def _add_sea(
    members: Floats, weight: Floats, settings: FjordSettings, window: Window, ground: Ground
) -> None:
    plan, texture = draw_plan(settings), texture_tables()
    melange_end, bergs_end = sea_limits(settings)
    packed = soft_step(melange_end - ground.zone, 0.04)
    begin = max(melange_end, 0.0)
    thinning = np.clip((bergs_end - ground.zone) / (bergs_end - begin), 0, 1)
    drift = fractal(window.lattice_y, window.lattice_x, 0.5 * plan.size, 5, plan.date_salt[4])
    drift = window.to_pixels(drift)
    density = np.where(thinning > 0, 0.05 + 0.3 * thinning * thinning, 0.003)
    density *= np.clip(1 + 1.6 * drift, 0.3, 2)
    density += packed * (0.32 + 0.15 * drift)
    shift = plan.date_salt[3] % TABLE
    ice = np.zeros_like(density)
    bright = np.zeros_like(density)
    for scale, share, tilt in ((0.9, 0.12, 0.4), (1.9, 0.3, 1.1), (4.0, 0.7, 2.0), (7.0, 1.3, 2.9)):
        c, s = scale * float(np.cos(tilt)), scale * float(np.sin(tilt))
        v, u = c * window.y + s * window.x + shift, c * window.x - s * window.y
        edge, cell = look_up(texture.edge, v, u), look_up(texture.cell, v, u)
        limit = share * density
        cover = (cell < limit) * np.clip((edge - 2.0) / (1.5 * scale), 0, 1)
        np.maximum(ice, cover, out=ice)
        # Small cell values survive where ice is thin: large bergs are the bright ones.
        cover *= 0.95 - 0.35 * np.minimum(cell / limit, 1)
        np.maximum(bright, cover, out=bright)
    grain = look_up(texture.grain, window.y, window.x)
    brash = np.clip(0.6 + 0.5 * grain + 0.3 * drift, 0.1, 0.85)
    # Fragments too small to see brighten all water among icebergs.
    among_bergs = soft_step(bergs_end - ground.zone, 0.1)
    brash *= packed + (0.14 * among_bergs + (0.12 + 0.25 * drift) * thinning) * (1 - packed)
    brash = np.clip(brash, 0, 0.85)
    open_water = (1 - ice) * (1 - brash) * weight
    silt = np.clip(0.25 + 0.9 * drift + 0.25 * thinning - 0.4 * ground.zone, 0.02, 0.6)
    members[SILT] += open_water * silt
    members[WATER] += open_water * (1 - silt) * (1 + 0.2 * grain)
    bright *= weight
    members[SNOW] += 0.7 * bright
    members[ICE] += 0.3 * bright + 0.85 * weight * (1 - ice) * brash


def _add_icebergs(members: Floats, weight: Floats, window: Window, ground: Ground) -> None:
    """Tabular icebergs: level, bright, crevassed like the glacier they came from."""
    if ground.berg is None:
        return
    texture = texture_tables()
    cover = weight * _cover(ground.berg)
    light = 1 - 0.5 * look_up(texture.crevasse, 0.8 * window.x + 0.6 * window.y, window.y)
    light += 0.12 * look_up(texture.grain, window.y, window.x)
    # The side that stands above the water is the brightest.
    rim = np.clip(1 - ground.berg / 3.0, 0, 1)
    members[SNOW] += cover * light * (0.1 + 0.3 * rim)
    members[ICE] += cover * light * (0.9 - 0.3 * rim)


def _add_lakes(
    members: Floats, weight: Floats, settings: FjordSettings, window: Window, ground: Ground
) -> None:
    """Lakes and shaded hollows: dark water, some of it milky from glaciers."""
    if ground.lake is None:
        return
    plan = draw_plan(settings)
    cover = weight * _cover(ground.lake)
    milky = fractal(window.lattice_y, window.lattice_x, 0.5 * plan.size, 2, plan.salt[14])
    silt = np.clip(window.to_pixels(0.2 + 0.6 * milky), 0, 0.6)
    members[SILT] += cover * silt
    members[WATER] += cover * (1 - silt)
