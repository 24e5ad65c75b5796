"""Classes and image of a meandering river with bars of gravel and wooded banks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csc_xr.synthetic.noise import STEP, Floats, Window, fractal, soft_step, white_noise
from csc_xr.synthetic.textures import look_up, texture_tables


@dataclass(frozen=True)
class RiverSettings:
    """Settings of a river scene."""

    shape: tuple[int, int]
    seed: int
    noise: float


def river_labels(settings: RiverSettings, window: Window) -> npt.NDArray[np.uint8]:
    """Classes of a window.

    Parameters
    ----------
    settings : RiverSettings
        The scene.
    window : Window
        The pixels wanted.

    Returns
    -------
    array of uint8
        RIVER codes (1, row, column) over the window's lattice cells.
    """
    land, dry = _water_and_sediment(settings, window)
    codes = np.where(land < 0, np.uint8(1), np.where(dry > 0, np.uint8(2), np.uint8(3)))
    return codes[None]


def river_image(settings: RiverSettings, window: Window) -> npt.NDArray[np.uint8]:
    """Digital numbers of a window.

    Parameters
    ----------
    settings : RiverSettings
        The scene.
    window : Window
        The pixels wanted.

    Returns
    -------
    array of uint8
        Red, green and blue (band, row, column) over the window's lattice cells, 1 to 255.
    """
    land, dry = _water_and_sediment(settings, window)
    rng = np.random.default_rng((settings.seed, 9))
    texture, y, x = texture_tables(), window.lattice_y, window.lattice_x
    salt = int(rng.integers(0, 1 << 16))
    colours = np.array(((74, 72, 66), (168, 148, 116), (70, 102, 46)), np.float32)
    colours *= rng.uniform(0.88, 1.12, (3, 1)).astype(np.float32)
    broad = window.to_pixels(fractal(y, x, 0.3 * settings.shape[0], 4, salt))
    grain = look_up(texture.grain, 0.9 * window.y + 0.4 * window.x, 0.9 * window.x - 0.4 * window.y)
    crown = np.zeros_like(land)
    for scale, turn in ((1.3, 0.5), (2.3, 1.2), (4.1, 2.2)):
        c, s = scale * float(np.cos(turn)), scale * float(np.sin(turn))
        v, u = c * window.y + s * window.x, c * window.x - s * window.y
        crown += 0.2 * np.minimum(look_up(texture.edge, v, u) / 14, 1)
        crown += 0.25 * look_up(texture.cell, v, u)
    shallow = np.clip(1 + land / (0.05 * settings.shape[0]), 0, 1)
    bank = soft_step(land, 2.0)
    bare = soft_step(dry, 3.0) * bank
    green = bank - bare
    image = np.empty((3, *land.shape), np.uint8)
    for band, noise in enumerate(white_noise(settings.seed, window, 3)):
        water = colours[0, band] * (1 + 0.1 * broad + 0.03 * grain)
        water += 0.35 * shallow * (colours[1, band] - colours[0, band])
        value = (1 - bank) * water + bare * colours[1, band] * (1 + 0.12 * grain + 0.1 * broad)
        trees = 0.35 + crown + 0.2 * grain + 0.2 * broad
        value += green * colours[2, band] * trees
        image[band] = np.clip(value + noise * np.float32(settings.noise), 1, 255)
    return image


def _water_and_sediment(settings: RiverSettings, window: Window) -> tuple[Floats, Floats]:
    """Pixels from the water's edge (negative in water), and above 0 where sediment lies bare."""
    height, width = settings.shape
    rng = np.random.default_rng((settings.seed, 8))
    salt = [int(value) for value in rng.integers(0, 1 << 16, 4)]
    at = (np.arange(0, width + 2 * STEP, STEP) / width)[:, None]
    waves, phases = rng.uniform(0.7, 1.4, 3), rng.uniform(0, 2 * np.pi, 3)
    swing = np.array((0.16, 0.08, 0.03)) * height
    angle = 2 * np.pi * waves * (1, 1.9, 3.2) * at + phases
    centre = (0.5 * height + (swing * np.sin(angle)).sum(1)).astype(np.float32)
    curving = (-(np.array((1.0, 0.7, 0.0)) * np.sin(angle)).sum(1)).astype(np.float32)
    index = (window.lattice_x[0] // STEP).astype(int)
    y, x = window.lattice_y, window.lattice_x
    away = y - centre[index]
    size = 0.2 * height
    half = 0.1 * height * (1 + 0.3 * fractal(0 * y, x, 2 * size, 2, salt[0]))
    land = np.abs(away) - half + 0.15 * size * fractal(y, x, 0.6 * size, 5, salt[1])
    # Bars grow on the inner side of bends; islands of gravel rise where the river is wide.
    bar = 0.09 * height * np.clip(curving[index] * np.sign(away) + 0.1, 0, 1.2)
    bar += 0.1 * height * np.maximum(fractal(y, x, size, 5, salt[2]), 0)
    shoal = (fractal(y, x, 0.7 * size, 4, salt[3]) - 0.5) * size
    land = np.maximum(land, shoal * (np.abs(away) < half))
    dry = np.where(np.abs(away) < 0.8 * half, 0.1 * size, bar - land)
    grain = look_up(texture_tables().grain, window.y, window.x)
    return window.to_pixels(land) + 2 * grain, window.to_pixels(dry) + 4 * grain
