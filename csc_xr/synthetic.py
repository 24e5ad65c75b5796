"""Generated fjord and river scenes whose classes and calving front are known exactly.

Every value is a function of the seed and of the absolute pixel position, so a scene is
computed chunk by chunk and does not depend on its chunks. Large forms (terrain, fjord walls,
snow lines, ice cover of the sea) are noise on a lattice of 4 px, interpolated to pixels;
fine textures (crevasses, floes, rock) are looked up in periodic tables.
Pixels are linear mixtures of end members, as in spectral mixture analysis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import dask.array as da
import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401  (registers the rio accessor)
import xarray as xr
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from csc_xr.errors import ParameterError
from csc_xr.legend import GLACIER, RIVER

Floats = npt.NDArray[np.float32]
FrontShape = Literal["straight", "concave", "angled", "rough"]
Layer = Literal["scene", "labels"]

_STEP = 4  # lattice spacing in pixels
_PIECE = 256  # pixels a side computed at once, a multiple of _STEP: temporaries stay in cache
_TABLE = 1024  # pixels a side of the periodic texture tables
_LEAST = 32  # smallest side of a scene


def fjord(
    shape: tuple[int, int] = (1500, 2000),
    *,
    seed: int = 0,
    date_seed: int | None = None,
    chunks: int | tuple[int, int] = 1024,
    front_position: float | None = None,
    front_shape: FrontShape | None = None,
    melange: bool = True,
    noise: float = 80.0,
    nodata_margin: float = 0.0,
    pixel_size: float = 10.0,
    crs: str = "EPSG:32624",
    origin: tuple[float, float] = (530000.0, 7365000.0),
) -> xr.Dataset:
    """Generate a Sentinel-2-like scene of a marine-terminating glacier with its exact truth.

    The glacier comes from the left or the right. Forms follow the size of the scene; textures
    (crevasses, icebergs) keep their size in pixels. Iceberg water (class 2) is bergs and the
    water between them. One `seed` with several `date_seed` and `front_position` gives a series
    of images of one place: above a position of 0.42 only the sea, the front and the light change.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns, each at least 32.
    seed : int
        Terrain, fjord, glacier bed and front shape. At least 0.
    date_seed : int, optional
        What changes from one image to the next: light, haze, spectra, icebergs, details of
        the front and sensor noise. Default: `seed`. At least 0.
    chunks : int or tuple of int
        Chunk size along y and x. Values do not depend on it.
    front_position : float, optional
        Mean calving front as a fraction of the way from the glacier's end of the scene (0)
        to the sea's (1), between 0.2 and 0.9. Default: drawn from `seed`, 0.42 to 0.58.
    front_shape : {"straight", "concave", "angled", "rough"}, optional
        Form of the calving front. Default: drawn from `seed`.
    melange : bool
        Whether mélange (class 3) lies in front of the glacier.
    noise : float
        Standard deviation of the white sensor noise, in digital numbers.
    nodata_margin : float
        Mean width of a slanted wedge without data, as at the edge of a swath, as a fraction
        of the columns; 0 to 0.5. There, scene and labels are 0.
    pixel_size : float
        Pixel size in units of the CRS.
    crs : str
        Coordinate reference system.
    origin : tuple of float
        Coordinates x and y of the outer corner of the top left pixel.

    Returns
    -------
    xr.Dataset
        Lazy `scene` (band, y, x), uint16, reflectance x 10000, bands red, green, blue, nir;
        lazy `labels` (y, x), uint8, GLACIER codes 1 to 7; and, computed at once,
        `front_x` and `front_y` (front_vertex), float64, the calving front from wall to wall
        in CRS coordinates, a vertex for each row.

    Raises
    ------
    ParameterError
        When a setting lies outside its range, or `crs` is not a CRS.
    """
    rng = np.random.default_rng((_whole(seed, "seed"), 1))
    position, drawn = float(rng.uniform(0.42, 0.58)), str(rng.choice(get_args(FrontShape)))
    model = _Fjord(
        shape=_sides(shape),
        seed=seed,
        date_seed=_whole(seed if date_seed is None else date_seed, "date_seed"),
        front_position=_within(
            position if front_position is None else front_position, "front_position", 0.2, 0.9
        ),
        front_shape=drawn if front_shape is None else front_shape,
        melange=bool(melange),
        noise=_within(noise, "noise", 0.0, 2000.0),
        nodata_margin=_within(nodata_margin, "nodata_margin", 0.0, 0.5),
    )
    if model.front_shape not in get_args(FrontShape):
        raise ParameterError(
            f"front_shape must be one of {', '.join(get_args(FrontShape))}, got {front_shape!r}."
        )
    _within(pixel_size, "pixel_size", 1e-9, 1e9)
    try:
        reference = CRS.from_user_input(crs)
    except CRSError as error:
        raise ParameterError(f"crs must be a CRS such as 'EPSG:32624', got {crs!r}.") from error
    transform = Affine(pixel_size, 0.0, origin[0], 0.0, -pixel_size, origin[1])
    columns, rows = _front_line(model)
    dataset = _dataset(model, chunks, ("red", "green", "blue", "nir"), GLACIER.flag_attributes())
    dataset = dataset.assign_coords(
        x=origin[0] + pixel_size * (np.arange(shape[1]) + 0.5),
        y=origin[1] - pixel_size * (np.arange(shape[0]) + 0.5),
    )
    dataset["front_x"] = ("front_vertex", origin[0] + pixel_size * columns)
    dataset["front_y"] = ("front_vertex", origin[1] - pixel_size * rows)
    dataset = dataset.rio.write_crs(reference).rio.write_transform(transform)
    dataset["scene"].attrs["scale"] = 8192.0
    if model.nodata_margin > 0:
        dataset["scene"] = dataset["scene"].rio.write_nodata(0)
    finished: xr.Dataset = dataset.assign_attrs(
        seed=model.seed,
        date_seed=model.date_seed,
        front_position=model.front_position,
        front_shape=model.front_shape,
        melange=int(model.melange),
    )
    return finished


def river(
    shape: tuple[int, int] = (1000, 1500),
    *,
    seed: int = 0,
    chunks: int | tuple[int, int] = 1024,
    noise: float = 4.0,
) -> xr.Dataset:
    """Generate an aerial image of a meandering river with its exact truth.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns, each at least 32.
    seed : int
        Course, bars, colours and noise. At least 0.
    chunks : int or tuple of int
        Chunk size along y and x. Values do not depend on it.
    noise : float
        Standard deviation of the white noise, in digital numbers.

    Returns
    -------
    xr.Dataset
        Lazy `scene` (band, y, x), uint8, bands red, green, blue, without CRS; lazy
        `labels` (y, x), uint8, RIVER codes 1 to 3. Coordinates are pixel centres.

    Raises
    ------
    ParameterError
        When a setting lies outside its range.
    """
    model = _River(
        shape=_sides(shape), seed=_whole(seed, "seed"), noise=_within(noise, "noise", 0.0, 100.0)
    )
    dataset = _dataset(model, chunks, ("red", "green", "blue"), RIVER.flag_attributes())
    dataset = dataset.assign_coords(x=np.arange(shape[1]) + 0.5, y=np.arange(shape[0]) + 0.5)
    dataset["scene"].attrs["scale"] = 255.0
    return dataset.assign_attrs(seed=seed)


@dataclass(frozen=True)
class _Pixels:
    """One layer of a model, as an array that computes what is sliced from it."""

    model: _Fjord | _River
    layer: Layer
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    ndim: int = 3

    def __getitem__(self, key: tuple[slice, slice, slice]) -> npt.NDArray[Any]:
        _, rows, columns = (range(size)[part] for size, part in zip(self.shape, key, strict=True))
        if not rows or not columns:
            return np.empty(self.shape, self.dtype)[key]
        bottom, right = rows[-1] + 1, columns[-1] + 1
        out = np.empty(
            (self.shape[0], bottom - rows.start, right - columns.start), dtype=self.dtype
        )
        for y in range(rows.start, bottom, _PIECE):
            for x in range(columns.start, right, _PIECE):
                piece = self.model.render(
                    y, min(y + _PIECE, bottom), x, min(x + _PIECE, right), self.layer
                )
                i, j = y - rows.start, x - columns.start
                out[:, i : i + piece.shape[1], j : j + piece.shape[2]] = piece
        return out[key[0], :: rows.step, :: columns.step]


def _dataset(
    model: _Fjord | _River,
    chunks: int | tuple[int, int],
    bands: tuple[str, ...],
    flags: dict[str, Any],
) -> xr.Dataset:
    along = (chunks, chunks) if isinstance(chunks, int) else chunks
    if len(along) != 2 or min(along) < 1:
        raise ParameterError(f"chunks must be 1 or more along y and x, got {chunks!r}.")
    dtype = np.dtype(np.uint8 if len(bands) == 3 else np.uint16)
    layers: tuple[tuple[Layer, int, np.dtype[Any]], ...] = (
        ("scene", len(bands), dtype),
        ("labels", 1, np.dtype(np.uint8)),
    )
    scene, labels = (
        da.from_array(
            _Pixels(model, layer, (depth, *model.shape), kind),
            chunks=(depth, *along),
            fancy=False,
            meta=np.empty((0, 0, 0), kind),
        )
        for layer, depth, kind in layers
    )
    return xr.Dataset(
        {"scene": (("band", "y", "x"), scene), "labels": (("y", "x"), labels[0], flags)},
        coords={"band": list(bands)},
    )


class _Plan(NamedTuple):
    """What is drawn once for a fjord: curves along its axis, spectra, light, noise offsets."""

    centre: Floats  # centre line of the fjord, row of each pixel column
    half: Floats  # half width of the fjord, pixels, of each pixel column
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


_WATER, _SILT, _ICE, _SNOW, _ROCK, _TUNDRA = range(6)
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
class _Fjord:
    """Settings of a fjord scene; computes its pixels.

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

    def render(self, y0: int, y1: int, x0: int, x1: int, layer: Layer) -> npt.NDArray[Any]:
        mirrored = _plan(self).mirrored
        if mirrored:
            x0, x1 = self.shape[1] - x1, self.shape[1] - x0
        window = _Window(y0, y1, x0, x1)
        out = _fjord_labels(self, window) if layer == "labels" else _fjord_image(self, window)
        out = out[:, window.rows, window.columns]
        return out[:, :, ::-1] if mirrored else out


@lru_cache(maxsize=8)
def _plan(model: _Fjord) -> _Plan:
    height, width = model.shape
    rng = np.random.default_rng((model.seed, 2))
    date = np.random.default_rng((model.date_seed, 3))
    draw = rng.uniform
    offset, tilt, bow = draw(-0.05, 0.05), draw(-0.25, 0.25), draw(-0.06, 0.06)
    broad, phase = draw(0.2, 0.28), draw(0, 2 * np.pi, 2)
    s = (np.arange(width) + 0.5) / width
    centre = height * (0.5 + offset + tilt * (s - 0.5) + bow * np.sin(2 * np.pi * s + phase[0]))
    basin = np.clip((0.3 - s) / 0.3, 0, 1) ** 2
    half = height * broad * (1 + 0.12 * np.sin(8 * s + phase[1]) + 1.1 * basin)
    salt = tuple(int(value) for value in rng.integers(0, 1 << 16, 16))
    date_salt = tuple(int(value) for value in date.integers(0, 1 << 16, 16))
    column = min(int(model.front_position * width), width - 2)
    calm, front = _front_columns(
        model,
        centre[column],
        half[column],
        centre[column + 1] - centre[column],
        (rng.choice((-1.0, 1.0)), salt[0], date_salt[0]),
    )
    azimuth, elevation = date.uniform(-0.9, 0.9), date.uniform(0.5, 0.75)
    tint = rng.uniform(0.92, 1.08, (6, 1)) * date.uniform(0.97, 1.03, (6, 4))
    return _Plan(
        centre=centre.astype(np.float32),
        half=half.astype(np.float32),
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
        ice_snow_line=width * min(float(draw(0.19, 0.25)), 0.6 * model.front_position),
        moraines=tuple(float(value) for value in draw(-0.6, 0.6, rng.integers(0, 4))),
        spectra=(_SPECTRA * tint * date.uniform(0.93, 1.06)).astype(np.float32),
        haze=(_HAZE * date.uniform(0.6, 1.8)).astype(np.float32),
        salt=salt,
        date_salt=date_salt,
    )


def _front_columns(
    model: _Fjord, centre: float, half: float, slope: float, draws: tuple[float, int, int]
) -> tuple[Floats, Floats]:
    """Column of the front in each row: without and with its roughness."""
    side, salt, date_salt = draws
    row = np.arange(model.shape[0]) + 0.5
    n = np.clip((row - centre) / half, -1.3, 1.3)
    form = {
        "straight": 0 * n,
        "concave": 0.55 * (n**2 - 0.33),
        "angled": side * (0.5 * n + 0.35 * (np.abs(n - 0.15) - 0.5)),
        "rough": 0 * n,
    }[model.front_shape]
    # In scenes taller than wide the fjord is wider than it is long.
    span = min(half, 0.35 * model.shape[1])
    calm = model.front_position * model.shape[1] + span * (form - np.clip(slope, -0.5, 0.5) * n)
    y, x = row.astype(np.float32), np.zeros(1, np.float32)
    wavy = span * (0.16 if model.front_shape == "rough" else 0.035)
    bays = wavy * _fractal(y, x, max(0.35 * half, 8.0), 3, salt)
    calved = min(0.5 * wavy, 12.0) * _fractal(y, x, 40.0, 4, date_salt)
    return calm.astype(np.float32), (calm + bays + calved).astype(np.float32)


def _front_line(model: _Fjord) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Front from wall to wall, pixels from the top left corner: columns, rows."""
    front = _plan(model).front
    height, width = model.shape
    at_sea = np.zeros(height, dtype=bool)
    for y0 in range(0, height, 32):
        y1 = min(y0 + 32, height)
        columns = np.clip(front[y0:y1].astype(int), 0, width - 1)
        window = _Window(y0, y1, int(columns.min()), int(columns.max()) + 1)
        land = _land(_wall(_plan(model), window.lattice_y, window.lattice_x), window)
        land = land[window.rows, window.columns]
        at_sea[y0:y1] = land[np.arange(y1 - y0), columns - columns.min()] <= 0
    middle = int(_plan(model).centre[min(int(model.front_position * width), width - 1)])
    walls = np.flatnonzero(~at_sea)
    first = int(walls[walls < middle].max(initial=-1)) + 1
    last = int(walls[walls > middle].min(initial=height))
    line_y = np.arange(first, last, dtype=np.float64) + 0.5
    line_x = front[first:last].astype(np.float64)
    seen = (line_x > _wedge(model, line_y)) & (line_x > 0) & (line_x < width)
    line_y, line_x = line_y[seen], line_x[seen]
    return (width - line_x if _plan(model).mirrored else line_x), line_y


def _wedge(model: _Fjord, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Column where data begin in each row, on the glacier's side of the scene."""
    return model.nodata_margin * model.shape[1] * (1.5 - rows / model.shape[0])


class _Window:
    """A window of pixels and the lattice cells that cover it."""

    def __init__(self, y0: int, y1: int, x0: int, x1: int) -> None:
        top, left = y0 // _STEP * _STEP, x0 // _STEP * _STEP
        bottom, right = -(-y1 // _STEP) * _STEP, -(-x1 // _STEP) * _STEP
        self.rows = slice(y0 - top, y1 - top)
        self.columns = slice(x0 - left, x1 - left)
        self.row = np.arange(top, bottom)
        self.column = np.arange(left, right)
        self.y = (self.row[:, None] + 0.5).astype(np.float32)
        self.x = (self.column[None, :] + 0.5).astype(np.float32)
        # One lattice point more than the cells need, for slopes.
        self.lattice_y = np.arange(top, bottom + 2 * _STEP, _STEP).astype(np.float32)[:, None]
        self.lattice_x = np.arange(left, right + 2 * _STEP, _STEP).astype(np.float32)[None, :]

    def to_pixels(self, field: Floats) -> Floats:
        """Interpolate linearly from the lattice to the pixel centres."""
        share = ((np.arange(_STEP) + 0.5) / _STEP).astype(np.float32)
        field = field[: self.row.size // _STEP + 1, : self.column.size // _STEP + 1]
        along = (field[:, :-1, None] + np.diff(field, axis=1)[:, :, None] * share).reshape(
            field.shape[0], -1
        )
        rise = np.diff(along, axis=0)[:, None, :] * share[:, None]
        rise += along[:-1, None, :]
        return rise.reshape(self.row.size, -1)

    def take(self, curve: Floats, axis: Literal["row", "column"]) -> Floats:
        """Values of a per-row or per-column curve, the last value beyond its end."""
        index = self.row if axis == "row" else self.column
        values = curve[np.minimum(index, curve.size - 1)]
        return values[:, None] if axis == "row" else values[None, :]


class _Ground(NamedTuple):
    """Signed fields that decide the classes of a window, at pixels; terrain on the lattice."""

    land: Floats  # pixels inland of the fjord wall
    sea: Floats  # pixels seaward of the calving front
    rock_snow: Floats  # above 0: snow on rock
    ice_snow: Floats  # above 0: snow on ice
    zone: Floats  # seaward of the front, 0 to 1 at the end of the scene
    height: Floats  # lattice: terrain height, 0 to about 1
    relief: Floats  # lattice: light on the terrain, 1 where level


def _wall(plan: _Plan, y: Floats, x: Floats) -> Floats:
    """Pixels inland of the fjord wall, on the lattice; also inland: rocks that pierce the ice."""
    index = np.minimum(x[0].astype(int), plan.centre.size - 1)
    wall: Floats = np.abs(y - plan.centre[index]) - plan.half[index]
    wall += 0.3 * plan.size * _fractal(y, x, plan.size, 5, plan.salt[1])
    nunatak = 0.8 * (_fractal(y, x, 0.5 * plan.size, 5, plan.salt[11]) - 0.5)
    nunatak -= np.maximum(x - 0.8 * plan.ice_snow_line, 0) / plan.size
    np.maximum(wall, nunatak * plan.size, out=wall)
    return wall


def _land(wall: Floats, window: _Window) -> Floats:
    """Pixels inland of the fjord wall, at pixels."""
    land = window.to_pixels(wall)
    land += 2.0 * _look_up(_textures().grain, window.y, window.x)
    return land


def _ground(model: _Fjord, window: _Window) -> _Ground:
    plan = _plan(model)
    y, x = window.lattice_y, window.lattice_x
    wall = _wall(plan, y, x)
    height, relief = _terrain(plan, y, x, wall)
    rock_snow = height - plan.snow_line + 0.3 * _fractal(y, x, 0.8 * plan.size, 5, plan.salt[2])
    rock_snow += 0.25 * np.clip(1.0 - relief, -0.6, 0.3)
    ice_snow = (plan.ice_snow_line - x) / (0.5 * plan.size)
    ice_snow = ice_snow + 0.9 * _fractal(y, x, 0.8 * plan.size, 5, plan.salt[3])
    begin = plan.calm_front[np.minimum(y[:, 0].astype(int), plan.calm_front.size - 1)][:, None]
    reach = plan.centre.size * (1 - model.front_position)
    zone = (x - begin) / reach
    # Ice spreads away from the front and forgets its form.
    zone += (begin / reach - plan.calm_front.mean() / reach) * np.clip(1.6 * zone, 0, 0.7)
    zone += np.clip(3 * zone, 0, 1) * 0.22 * _fractal(y, x, 1.2 * plan.size, 5, plan.date_salt[1])
    grain = _look_up(_textures().grain, window.y, window.x)
    rock_snow = window.to_pixels(rock_snow)
    rock_snow += 0.05 * grain
    ice_snow = window.to_pixels(ice_snow)
    ice_snow += 0.12 * grain
    return _Ground(
        land=_land(wall, window),
        sea=window.x - window.take(plan.front, "row"),
        rock_snow=rock_snow,
        ice_snow=ice_snow,
        zone=window.to_pixels(zone) + 0.006 * grain,
        height=height,
        relief=relief,
    )


def _terrain(plan: _Plan, y: Floats, x: Floats, wall: Floats) -> tuple[Floats, Floats]:
    """Height (0 to about 1) of ridged mountains rising from the fjord, and the light on them."""
    bend = 0.2 * plan.size
    yy = y + bend * _fractal(y, x, plan.size, 2, plan.salt[4])
    xx = x + bend * _fractal(y, x, plan.size, 2, plan.salt[5])
    ridges = _fractal(yy, xx, 0.9 * plan.size, 6, plan.salt[6], ridged=True)
    inland = np.maximum(wall, 0)
    inland /= inland + 0.25 * plan.size
    height = inland * (0.35 + 0.75 * ridges + 0.3 * _fractal(y, x, plan.size, 3, plan.salt[12]))
    # Relief as a share of the length of its forms: about 1000 m over 4 km.
    metres = 0.4 * plan.size
    slope_y = np.zeros_like(height)
    slope_x = np.zeros_like(height)
    slope_y[:-1] = np.diff(height, axis=0) * (metres / _STEP)
    slope_x[:, :-1] = np.diff(height, axis=1) * (metres / _STEP)
    right, down, up = plan.sun
    light = (up - right * slope_x - down * slope_y) / (
        up * np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    )
    return height, np.clip(light, 0.2, 1.7)


def _limits(model: _Fjord) -> tuple[float, float]:
    """Values of `zone` where mélange and iceberg water end."""
    return (0.26 if model.melange else -9.0), 0.66


def _fjord_labels(model: _Fjord, window: _Window) -> npt.NDArray[np.uint8]:
    ground = _ground(model, window)
    melange, bergs = _limits(model)
    codes = np.where(ground.zone < bergs, np.uint8(2), np.uint8(1))
    codes[ground.zone < melange] = 3
    ice = ground.sea < 0
    codes[ice] = 4
    codes[ice & (ground.ice_snow > 0)] = 5
    land = ground.land > 0
    codes[land] = 7
    codes[land & (ground.rock_snow > 0)] = 6
    if model.nodata_margin > 0:
        codes[window.x <= _wedge(model, window.y.astype(np.float64))] = 0
    return codes[None]


def _fjord_image(model: _Fjord, window: _Window) -> npt.NDArray[np.uint16]:
    plan, ground = _plan(model), _ground(model, window)
    y, x = window.lattice_y, window.lattice_x
    on_land = _soft(ground.land, 2.0)
    afloat = _soft(ground.sea, 2.0)
    members = np.zeros((6, *on_land.shape), np.float32)
    if on_land.max() > 0:
        _add_land(members, on_land, window, ground)
    if on_land.min() < 1:
        if afloat.max() > 0:
            _add_sea(members, (1 - on_land) * afloat, model, window, ground)
        if afloat.min() < 1:
            _add_ice(members, (1 - on_land) * (1 - afloat), model, window, ground)
    light = 1 + 0.08 * _fractal(y, x, 2 * plan.size, 2, plan.date_salt[2])
    light = window.to_pixels(light)
    light *= 1 - (1 - on_land) * window.to_pixels(_shadow(plan, y, x))
    present = [member for member in range(6) if members[member].any()]
    image = np.empty((4, *light.shape), np.uint16)
    for band, noise in enumerate(_white(model.date_seed, window, 4)):
        value = np.zeros_like(light)
        for member in present:
            value += members[member] * plan.spectra[member, band]
        value *= light
        value += plan.haze[band]
        value += noise * np.float32(model.noise)
        image[band] = np.clip(value, 1, 65535)
    if model.nodata_margin > 0:
        image[:, window.x <= _wedge(model, window.y.astype(np.float64))] = 0
    return image


def _shadow(plan: _Plan, y: Floats, x: Floats) -> Floats:
    """Share of light that the wall towards the sun (downwards) takes from the fjord."""
    index = np.minimum(x[0].astype(int), plan.centre.size - 1)
    reach = 0.2 * plan.size * (0.7 + _fractal(0 * y, x, 0.8 * plan.size, 6, plan.salt[7]))
    away = plan.centre[index] + plan.half[index] - y
    return 0.5 * _soft(reach / plan.sun[2] - away, 6.0)


def _add_land(members: Floats, weight: Floats, window: _Window, ground: _Ground) -> None:
    texture = _textures()
    c, s = 0.8, 0.6
    grain = _look_up(texture.grain, c * window.y + s * window.x, c * window.x - s * window.y)
    light = window.to_pixels(ground.relief)
    below = window.y + 1.5
    light += 0.3 * grain
    light -= 0.3 * _look_up(texture.grain, c * below + s * window.x, c * window.x - s * below)
    snow = _soft(ground.rock_snow + 0.02 * grain, 0.06)
    snow *= 0.97
    height = window.to_pixels(ground.height)
    green = np.clip(0.7 - 3 * height, 0, 1) * _soft(light - 0.9 + 0.3 * grain, 0.6)
    members[_SNOW] += weight * snow * (0.25 + 0.75 * np.minimum(light, 1.25))
    bare = weight * (1 - snow) * light * (1 + 0.3 * grain)
    members[_TUNDRA] += bare * green
    members[_ROCK] += bare * (1 - green)


def _add_ice(
    members: Floats, weight: Floats, model: _Fjord, window: _Window, ground: _Ground
) -> None:
    plan, texture = _plan(model), _textures()
    y, x = window.lattice_y, window.lattice_x
    half = window.take(plan.half, "column")
    n: Floats = (window.y - window.take(plan.centre, "column")) / half
    # Crevasses bend up-glacier towards the margins, where the ice is slower.
    along: Floats = window.x + 0.3 * half * (n * n)
    across = n * float(plan.half[plan.half.size // 2])
    broken = window.to_pixels(
        np.clip(
            0.55
            + 0.5 * _fractal(y, x, 0.5 * plan.size, 3, plan.salt[8])
            + 0.5 * (x / (model.front_position * plan.centre.size) - 0.8),
            0.08,
            1,
        )
    )
    snow = _soft(ground.ice_snow + 0.1 * _look_up(texture.grain, window.y, window.x), 0.35)
    crevasse = _look_up(texture.crevasse, along, across)
    crevasse *= broken * (1 - 0.85 * snow)
    streak = _look_up(texture.crevasse, across + 300, 0.1 * along)
    swell = _fractal(y, x, 60.0, 2, plan.salt[9])
    slope = np.zeros_like(swell)
    slope[:-1, :-1] = np.diff(swell, axis=0)[:, :-1] + 0.5 * np.diff(swell, axis=1)[:-1]
    light = 1 - 0.7 * crevasse - window.to_pixels(slope) * (0.35 + 0.4 * snow)
    dirt = _moraines(plan, window, n, half)
    dirt += 0.5 * np.clip(1 + ground.land / (0.05 * plan.size), 0, 1) + 0.12 * streak
    dirt = np.clip(dirt, 0, 0.9) * (1 - snow)
    light *= weight
    members[_SNOW] += light * snow
    light *= 1 - snow
    members[_ROCK] += light * dirt
    members[_ICE] += light * (1 - dirt)


def _moraines(plan: _Plan, window: _Window, n: Floats, half: Floats) -> Floats:
    """Share of debris on bands that follow the flow."""
    y, x = window.lattice_y, window.lattice_x
    wander = window.to_pixels(0.03 * _fractal(y, x, 0.6 * plan.size, 3, plan.salt[10]))
    fade = np.clip(
        window.to_pixels(0.7 + 1.2 * _fractal(y, x, 0.4 * plan.size, 4, plan.salt[13])), 0, 1
    )
    dirt = np.zeros_like(n)
    for place in plan.moraines:
        dirt += np.clip(1 - np.abs(n - place + wander) * (half / (0.02 * plan.size)), 0, 0.5) * fade
    return dirt


def _add_sea(
    members: Floats, weight: Floats, model: _Fjord, window: _Window, ground: _Ground
) -> None:
    plan, texture = _plan(model), _textures()
    melange_end, bergs_end = _limits(model)
    packed = _soft(melange_end - ground.zone, 0.04)
    begin = max(melange_end, 0.0)
    thinning = np.clip((bergs_end - ground.zone) / (bergs_end - begin), 0, 1)
    drift = _fractal(window.lattice_y, window.lattice_x, 0.5 * plan.size, 5, plan.date_salt[4])
    drift = window.to_pixels(drift)
    density = np.where(thinning > 0, 0.05 + 0.3 * thinning * thinning, 0.003)
    density *= np.clip(1 + 1.6 * drift, 0.3, 2)
    density += packed * (0.32 + 0.15 * drift)
    shift = plan.date_salt[3] % _TABLE
    ice = np.zeros_like(density)
    bright = np.zeros_like(density)
    for scale, share, tilt in ((0.9, 0.12, 0.4), (1.9, 0.3, 1.1), (4.0, 0.7, 2.0), (7.0, 1.3, 2.9)):
        c, s = scale * float(np.cos(tilt)), scale * float(np.sin(tilt))
        v, u = c * window.y + s * window.x + shift, c * window.x - s * window.y
        edge, cell = _look_up(texture.edge, v, u), _look_up(texture.cell, v, u)
        limit = share * density
        cover = (cell < limit) * np.clip((edge - 2.0) / (1.5 * scale), 0, 1)
        np.maximum(ice, cover, out=ice)
        # Small cell values survive where ice is thin: large bergs are the bright ones.
        cover *= 0.95 - 0.35 * np.minimum(cell / limit, 1)
        np.maximum(bright, cover, out=bright)
    grain = _look_up(texture.grain, window.y, window.x)
    brash = np.clip(0.6 + 0.5 * grain + 0.3 * drift, 0.1, 0.85)
    brash *= packed + (0.12 + 0.25 * drift) * thinning * (1 - packed)
    brash = np.clip(brash, 0, 0.85)
    open_water = (1 - ice) * (1 - brash) * weight
    silt = np.clip(0.25 + 0.9 * drift + 0.25 * thinning - 0.4 * ground.zone, 0.02, 0.6)
    members[_SILT] += open_water * silt
    members[_WATER] += open_water * (1 - silt) * (1 + 0.2 * grain)
    bright *= weight
    members[_SNOW] += 0.7 * bright
    members[_ICE] += 0.3 * bright + 0.85 * weight * (1 - ice) * brash


@dataclass(frozen=True)
class _River:
    """Settings of a river scene; computes its pixels."""

    shape: tuple[int, int]
    seed: int
    noise: float

    def render(self, y0: int, y1: int, x0: int, x1: int, layer: Layer) -> npt.NDArray[Any]:
        window = _Window(y0, y1, x0, x1)
        land, dry = _river_fields(self, window)
        out: npt.NDArray[Any]
        if layer == "labels":
            out = np.where(land < 0, np.uint8(1), np.where(dry > 0, np.uint8(2), np.uint8(3)))[None]
        else:
            out = _river_image(self, window, land, dry)
        return out[:, window.rows, window.columns]


def _river_fields(model: _River, window: _Window) -> tuple[Floats, Floats]:
    """Pixels from the water's edge (negative in water), and above 0 where sediment lies bare."""
    height, width = model.shape
    rng = np.random.default_rng((model.seed, 8))
    salt = [int(value) for value in rng.integers(0, 1 << 16, 4)]
    at = (np.arange(0, width + 2 * _STEP, _STEP) / width)[:, None]
    waves, phases = rng.uniform(0.7, 1.4, 3), rng.uniform(0, 2 * np.pi, 3)
    swing = np.array((0.16, 0.08, 0.03)) * height
    angle = 2 * np.pi * waves * (1, 1.9, 3.2) * at + phases
    centre = (0.5 * height + (swing * np.sin(angle)).sum(1)).astype(np.float32)
    curving = (-(np.array((1.0, 0.7, 0.0)) * np.sin(angle)).sum(1)).astype(np.float32)
    index = (window.lattice_x[0] // _STEP).astype(int)
    y, x = window.lattice_y, window.lattice_x
    away = y - centre[index]
    size = 0.2 * height
    half = 0.1 * height * (1 + 0.3 * _fractal(0 * y, x, 2 * size, 2, salt[0]))
    land = np.abs(away) - half + 0.15 * size * _fractal(y, x, 0.6 * size, 5, salt[1])
    # Bars grow on the inner side of bends; islands of gravel rise where the river is wide.
    bar = 0.09 * height * np.clip(curving[index] * np.sign(away) + 0.1, 0, 1.2)
    bar += 0.1 * height * np.maximum(_fractal(y, x, size, 5, salt[2]), 0)
    shoal = (_fractal(y, x, 0.7 * size, 4, salt[3]) - 0.5) * size
    land = np.maximum(land, shoal * (np.abs(away) < half))
    dry = np.where(np.abs(away) < 0.8 * half, 0.1 * size, bar - land)
    grain = _look_up(_textures().grain, window.y, window.x)
    return window.to_pixels(land) + 2 * grain, window.to_pixels(dry) + 4 * grain


def _river_image(
    model: _River, window: _Window, land: Floats, dry: Floats
) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng((model.seed, 9))
    texture, y, x = _textures(), window.lattice_y, window.lattice_x
    salt = int(rng.integers(0, 1 << 16))
    colours = np.array(((74, 72, 66), (168, 148, 116), (70, 102, 46)), np.float32)
    colours *= rng.uniform(0.88, 1.12, (3, 1)).astype(np.float32)
    broad = window.to_pixels(_fractal(y, x, 0.3 * model.shape[0], 4, salt))
    grain = _look_up(
        texture.grain, 0.9 * window.y + 0.4 * window.x, 0.9 * window.x - 0.4 * window.y
    )
    crown = np.zeros_like(land)
    for scale, turn in ((1.3, 0.5), (2.3, 1.2), (4.1, 2.2)):
        c, s = scale * float(np.cos(turn)), scale * float(np.sin(turn))
        v, u = c * window.y + s * window.x, c * window.x - s * window.y
        crown += 0.2 * np.minimum(_look_up(texture.edge, v, u) / 14, 1)
        crown += 0.25 * _look_up(texture.cell, v, u)
    shallow = np.clip(1 + land / (0.05 * model.shape[0]), 0, 1)
    bank = _soft(land, 2.0)
    bare = _soft(dry, 3.0) * bank
    green = bank - bare
    image = np.empty((3, *land.shape), np.uint8)
    for band, noise in enumerate(_white(model.seed, window, 3)):
        water = colours[0, band] * (1 + 0.1 * broad + 0.03 * grain)
        water += 0.35 * shallow * (colours[1, band] - colours[0, band])
        value = (1 - bank) * water + bare * colours[1, band] * (1 + 0.12 * grain + 0.1 * broad)
        trees = 0.35 + crown + 0.2 * grain + 0.2 * broad
        value += green * colours[2, band] * trees
        image[band] = np.clip(value + noise * np.float32(model.noise), 1, 255)
    return image


class _Textures(NamedTuple):
    """Periodic tables, flat, of _TABLE x _TABLE pixels."""

    grain: Floats  # rough, about -1 to 1
    crevasse: Floats  # 0 to 1, lines along the second axis
    cell: Floats  # 0 to 1, constant over each floe
    edge: Floats  # pixels from the edge of the floe, twice


@lru_cache(maxsize=1)
def _textures() -> _Textures:
    rng = np.random.default_rng(5)
    grain = np.zeros((_TABLE, _TABLE), np.float32)
    for weight, size in ((0.35, 64), (0.3, 128), (0.3, 256), (0.25, 512)):
        grain += weight * _periodic(rng, size, size)
    bend = np.round(9 * _periodic(rng, 16, 16) + 3 * _periodic(rng, 64, 64)).astype(np.intp)
    down, right = np.indices((_TABLE, _TABLE))
    lines = np.zeros((_TABLE, _TABLE), np.float32)
    for weight, size in ((1.0, 64), (0.8, 128), (0.5, 256)):
        sharp = 1 - 3 * np.abs(_periodic(rng, size, size // 8))
        lines = np.maximum(lines, weight * np.clip(sharp, 0, 1))
    lines = lines[(down + bend) % _TABLE, right]
    cell, edge = _floes(rng, _periodic(rng, 128, 128))
    return _Textures(*(table.astype(np.float32).ravel() for table in (grain, lines, cell, edge)))


def _periodic(rng: np.random.Generator, ny: int, nx: int) -> Floats:
    """Smooth noise in -1 to 1 on a table, from ny x nx random values."""
    values = rng.uniform(-1, 1, (ny, nx)).astype(np.float32)
    for axis, size in ((0, ny), (1, nx)):
        at = np.arange(_TABLE) * (size / _TABLE)
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
    count, width = 32, _TABLE // 32
    points = (np.indices((count, count)) + rng.uniform(0.05, 0.95, (2, count, count))) * width
    values = rng.random((count, count)).astype(np.float32)
    down, right = np.indices((_TABLE, _TABLE)).astype(np.float32)
    # Rough edges: the cells are those of slightly displaced positions.
    down += 2.5 * rough
    right += 2.5 * np.roll(rough, 300, axis=1)
    nearest = np.full((_TABLE, _TABLE), np.inf, np.float32)
    second, cell = nearest.copy(), np.zeros((_TABLE, _TABLE), np.float32)
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


def _look_up(table: Floats, y: Floats, x: Floats) -> Floats:
    """Values of a periodic table at positions in pixels, nearest neighbour."""
    # The shift keeps positions positive: truncation would mirror the table at 0.
    index = (y + 65536.0).astype(np.int32) & (_TABLE - 1)
    index = (index << 10) + ((x + 65536.0).astype(np.int32) & (_TABLE - 1))
    return table.take(index)


@lru_cache(maxsize=1)
def _lattice_values() -> Floats:
    return np.random.default_rng(6).uniform(-1, 1, 1 << 16).astype(np.float32)


def _fractal(
    y: Floats, x: Floats, spacing: float, octaves: int, salt: int, *, ridged: bool = False
) -> Floats:
    """Value noise in about -1 to 1: `octaves` of halved spacing and weight, each turned.

    Octaves below 10 px are left out: the lattice cannot carry them.
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


def _white(seed: int, window: _Window, bands: int) -> list[Floats]:
    """White noise of unit deviation for each band, from a hash of seed and position."""
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


def _soft(field: Floats, width: float) -> Floats:
    """Rise from 0 to 1 across `width`, centred on 0."""
    risen: Floats = np.clip(field * (1.0 / width) + 0.5, 0, 1)
    return risen


def _whole(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ParameterError(f"{name} must be an integer of at least 0, got {value!r}.")
    return int(value)


def _within(value: float, name: str, low: float, high: float) -> float:
    if not low <= value <= high:
        raise ParameterError(f"{name} must lie in {low:g} to {high:g}, got {value!r}.")
    return float(value)


def _sides(shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < _LEAST:
        raise ParameterError(
            f"shape must be rows and columns of at least {_LEAST} pixels each, got {shape!r}."
        )
    return (int(shape[0]), int(shape[1]))
