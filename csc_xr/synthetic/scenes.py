"""Generated scenes as datasets: settings checked, pixels computed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

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
from csc_xr.synthetic.fjord_features import FRONT_RANGE, Tributary
from csc_xr.synthetic.fjord_geometry import fjord_labels, front_line
from csc_xr.synthetic.fjord_plan import FjordSettings, FrontShape, draw_plan
from csc_xr.synthetic.fjord_surfaces import fjord_image
from csc_xr.synthetic.noise import Window
from csc_xr.synthetic.river_layers import RiverSettings, river_image, river_labels

_PIECE = 256  # pixels a side computed at once, a multiple of STEP: temporaries stay in cache
_LEAST = 32  # smallest side of a scene
_MOST = 20  # features of a kind


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
    nunataks: int = 0,
    tributaries: Iterable[Tributary] = (),
    icebergs: int = 0,
    lakes: int = 0,
    tongue: bool = False,
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
    nunataks : int
        How many rocks pierce the glacier up-glacier of the front, 0 to 20; the first lies close
        to where the front is at a position of 0.42. Every other one bears snow.
    tributaries : iterable of {"joining", "land", "fjord"}
        Glaciers that come down a side wall, one for each word: joining the main glacier, ending
        on land, or ending in the fjord away from the main front.
    icebergs : int
        How many large tabular icebergs float in the fjord, 0 to 20; the first lies close to the
        front. Their class is that of the glacier (4), which none of them touches.
    lakes : int
        How many small waters of class 1 lie on land, 0 to 20; the first lies across the border
        of the scene.
    tongue : bool
        Whether the scene ends within the fjord: one wall lies outside, and the front ends at the
        border of the scene.
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
        `front_x` and `front_y` (front_vertex), float64, the main glacier's calving front from
        wall to wall, or to the border of the scene, in CRS coordinates, a vertex for each row, with
        the glacier on the left.

    Raises
    ------
    ParameterError
        When a setting lies outside its range, `crs` is not a CRS, or nunataks or tributaries are
        asked for with a front outside 0.42 to 0.62, where they would meet it.
    """
    rng = np.random.default_rng((_whole(seed, "seed"), 1))
    position, drawn = float(rng.uniform(0.42, 0.58)), str(rng.choice(get_args(FrontShape)))
    settings = FjordSettings(
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
        nunataks=_count(nunataks, "nunataks"),
        tributaries=tuple(str(kind) for kind in tributaries),
        icebergs=_count(icebergs, "icebergs"),
        lakes=_count(lakes, "lakes"),
        tongue=bool(tongue),
    )
    _check_forms(settings)
    _within(pixel_size, "pixel_size", 1e-9, 1e9)
    try:
        reference = CRS.from_user_input(crs)
    except CRSError as error:
        raise ParameterError(f"crs must be a CRS such as 'EPSG:32624', got {crs!r}.") from error
    transform = Affine(pixel_size, 0.0, origin[0], 0.0, -pixel_size, origin[1])
    columns, rows = front_line(settings)
    mirrored = draw_plan(settings).mirrored
    if not mirrored:  # up the scene, with the glacier on the left
        columns, rows = columns[::-1], rows[::-1]
    dataset = _dataset(
        _Pixels(
            partial(fjord_image, settings), mirrored, (4, *settings.shape), np.dtype(np.uint16)
        ),
        _Pixels(
            partial(fjord_labels, settings), mirrored, (1, *settings.shape), np.dtype(np.uint8)
        ),
        chunks,
        ("red", "green", "blue", "nir"),
    )
    dataset["labels"].attrs.update(GLACIER.flag_attributes())
    dataset = dataset.assign_coords(
        x=origin[0] + pixel_size * (np.arange(shape[1]) + 0.5),
        y=origin[1] - pixel_size * (np.arange(shape[0]) + 0.5),
    )
    dataset["front_x"] = ("front_vertex", origin[0] + pixel_size * columns)
    dataset["front_y"] = ("front_vertex", origin[1] - pixel_size * rows)
    dataset = dataset.rio.write_crs(reference).rio.write_transform(transform)
    dataset["scene"].attrs["scale"] = 8192.0
    if settings.nodata_margin > 0:
        dataset["scene"] = dataset["scene"].rio.write_nodata(0)
    finished: xr.Dataset = dataset.assign_attrs(
        seed=settings.seed,
        date_seed=settings.date_seed,
        front_position=settings.front_position,
        front_shape=settings.front_shape,
        melange=int(settings.melange),
        nunataks=settings.nunataks,
        tributaries=" ".join(settings.tributaries),
        icebergs=settings.icebergs,
        lakes=settings.lakes,
        tongue=int(settings.tongue),
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
    settings = RiverSettings(
        shape=_sides(shape), seed=_whole(seed, "seed"), noise=_within(noise, "noise", 0.0, 100.0)
    )
    dataset = _dataset(
        _Pixels(partial(river_image, settings), False, (3, *settings.shape), np.dtype(np.uint8)),
        _Pixels(partial(river_labels, settings), False, (1, *settings.shape), np.dtype(np.uint8)),
        chunks,
        ("red", "green", "blue"),
    )
    dataset["labels"].attrs.update(RIVER.flag_attributes())
    dataset = dataset.assign_coords(x=np.arange(shape[1]) + 0.5, y=np.arange(shape[0]) + 0.5)
    dataset["scene"].attrs["scale"] = 255.0
    return dataset.assign_attrs(seed=seed)


@dataclass(frozen=True)
class _Pixels:
    """One layer of a scene, as an array that computes what is sliced from it."""

    paint: Callable[[Window], npt.NDArray[Any]]
    mirrored: bool
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
                piece = self._piece(y, min(y + _PIECE, bottom), x, min(x + _PIECE, right))
                i, j = y - rows.start, x - columns.start
                out[:, i : i + piece.shape[1], j : j + piece.shape[2]] = piece
        return out[key[0], :: rows.step, :: columns.step]

    def _piece(self, y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[Any]:
        if self.mirrored:
            x0, x1 = self.shape[2] - x1, self.shape[2] - x0
        window = Window(y0, y1, x0, x1)
        out = self.paint(window)[:, window.rows, window.columns]
        return out[:, :, ::-1] if self.mirrored else out


def _dataset(
    scene: _Pixels, labels: _Pixels, chunks: int | tuple[int, int], bands: tuple[str, ...]
) -> xr.Dataset:
    along = (chunks, chunks) if isinstance(chunks, int) else chunks
    if len(along) != 2 or min(along) < 1:
        raise ParameterError(f"chunks must be 1 or more along y and x, got {chunks!r}.")
    image, codes = (
        da.from_array(
            layer,
            chunks=(layer.shape[0], *along),
            fancy=False,
            meta=np.empty((0, 0, 0), layer.dtype),
        )
        for layer in (scene, labels)
    )
    return xr.Dataset(
        {"scene": (("band", "y", "x"), image), "labels": (("y", "x"), codes[0])},
        coords={"band": list(bands)},
    )


def _check_forms(settings: FjordSettings) -> None:
    """Refuse words that name no form, and a front where nunataks and tributaries would meet it."""
    shapes, kinds = get_args(FrontShape), get_args(Tributary)
    if settings.front_shape not in shapes:
        raise ParameterError(
            f"front_shape must be one of {', '.join(shapes)}, got {settings.front_shape!r}."
        )
    for kind in settings.tributaries:
        if kind not in kinds:
            raise ParameterError(
                f"tributaries must be any of {', '.join(kinds)}, each in a list, got {kind!r}."
            )
    if settings.nunataks or settings.tributaries:
        _within(
            settings.front_position, "with nunataks or tributaries, front_position", *FRONT_RANGE
        )


def _count(value: int, name: str) -> int:
    return int(_within(_whole(value, name), name, 0, _MOST))


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
