"""How a calving front is looked for: thresholds in metres, classes by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import ceil
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from csc_xr.errors import LegendError, LineError, ParameterError
from csc_xr.legend import ClassLegend, LegendClass
from csc_xr.metres import pixel_size_m

Radii = tuple[int, int]
"""Reach along y and x in pixels."""

FRONT = LegendClass(8, "Calving Front", "red", display_only=True)
"""What the front is called and drawn as where a legend has no class for it."""

LAND = ("Snow on Rock", "Bedrock")
"""Valley sides, in the legend of glaciers."""


@dataclass(frozen=True)
class FrontSettings:
    """How a calving front is looked for.

    The defaults are the published thresholds (Marochov et al. 2021, The Cryosphere
    15:5041-5059), which were given in pixels of 10 m.

    Attributes
    ----------
    glacier, ocean : tuple of str or int
        Names or codes of the classes that are glacier, and that are water or float on it.
    land : tuple of str or int, optional
        Names or codes of classes that `refine` leaves as they are; by default "Snow on Rock" and
        "Bedrock", where the legend has them.
    frame_m : float
        Width of the frame along the border of the image, and along pixels without a class,
        where no front is looked for.
    min_ocean_m2 : float
        Smaller pieces of water are no ocean.
    min_ocean_width_m : float
        Strips of water up to this width are no ocean: along shaded valley sides and the snow
        line, mixed pixels are often classed as mélange. Not among the published thresholds; 0
        keeps strips.
    margin_m : float
        The glacier is widened by so much before the active contour, and narrowed after it.
    closing_m : float
        Inlets and gaps of the glacier up to this width are closed.
    iterations : int
        Steps of the active contour.
    contact_m : float
        The front is where the glacier's outline has ocean within this distance.
    simplify_m : float
        Leave out vertices of the line that lie nearer than this to it (Douglas-Peucker); 0 keeps
        all.
    refine : bool
        Make everything inside the active contour glacier in the classes, except `land`.
    """

    glacier: tuple[str | int, ...] = ("Glacier Ice",)
    ocean: tuple[str | int, ...] = ("Open Water", "Iceberg Water", "Mélange")
    land: tuple[str | int, ...] | None = None
    frame_m: float = 100.0
    min_ocean_m2: float = 1e6
    min_ocean_width_m: float = 200.0
    margin_m: float = 20.0
    closing_m: float = 300.0
    iterations: int = 30
    contact_m: float = 150.0
    simplify_m: float = 0.0
    refine: bool = False

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.type == "float"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ParameterError(f"{name} must be 0 or more, got {value!r}.")
        if type(self.iterations) is not int or self.iterations < 0:
            raise ParameterError(
                f"iterations must be a whole number of 0 or more, got {self.iterations!r}."
            )
        for name in ("glacier", "ocean", "land"):
            if isinstance(getattr(self, name), str):
                raise ParameterError(
                    f"{name} must be a tuple of classes, got {getattr(self, name)!r}. "
                    "Put it in brackets with a comma behind it."
                )
        if not self.glacier or not self.ocean:
            raise ParameterError(
                f"glacier and ocean must name a class each at least, got {self.glacier!r} and "
                f"{self.ocean!r}."
            )


def read_front_settings(texts: Sequence[str]) -> FrontSettings:
    """Make settings of what was written on a command line or in a table.

    Parameters
    ----------
    texts : sequence of str
        Each ``NAME=VALUE``; several classes with commas between them.

    Returns
    -------
    FrontSettings
        With the defaults for what is not named.

    Raises
    ------
    ParameterError
        When a name is unknown, or a value cannot be read or used.

    Examples
    --------
    >>> read_front_settings(["closing_m=100", "glacier=Glacier Ice,3"]).glacier
    ('Glacier Ice', 3)
    """
    kinds = {field.name: str(field.type) for field in fields(FrontSettings)}
    values: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            values[name.strip()] = _read(kinds[name.strip()], value.strip())
        except (KeyError, ValueError) as error:
            raise ParameterError(
                f"A front setting must be NAME=VALUE with a name of {', '.join(kinds)}, got "
                f"{text!r}."
            ) from error
    return FrontSettings(**values)


def _read(kind: str, text: str) -> Any:
    """Read a value of a kind of setting."""
    if kind.startswith("tuple"):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return tuple(int(part) if part.isdigit() else part for part in parts)
    if kind == "bool":
        return {"true": True, "yes": True, "false": False, "no": False}[text.lower()]
    return int(text) if kind == "int" else float(text)


@dataclass(frozen=True)
class PixelSettings:
    """The same for one raster, in its pixels and codes.

    Attributes
    ----------
    glacier, ocean, land : tuple of int
        Codes. Among those of the glacier, after its own, is the front's.
    pixel_m : tuple of float
        Height and width of a pixel in metres.
    frame_m, contact_m : float
        As they were given.
    frame, ocean_width, margin, closing : tuple of int
        Reach along y and x; at least 1 for the frame.
    reach : tuple of int
        As far as must be looked for what is within `contact_m` or `frame_m`.
    min_ocean : float
        Pixels.
    iterations : int
        Steps of the active contour.
    """

    glacier: tuple[int, ...]
    ocean: tuple[int, ...]
    land: tuple[int, ...]
    pixel_m: tuple[float, float]
    frame_m: float
    contact_m: float
    frame: Radii
    ocean_width: Radii
    margin: Radii
    closing: Radii
    reach: Radii
    min_ocean: float
    iterations: int


def in_pixels(settings: FrontSettings, legend: ClassLegend, raster: xr.DataArray) -> PixelSettings:
    """Turn metres into pixels of a raster and names into codes of a legend.

    Parameters
    ----------
    settings : FrontSettings
        In metres.
    legend : ClassLegend
        The classes.
    raster : xarray.DataArray
        Dims (y, x), with a CRS.

    Returns
    -------
    PixelSettings
        Lengths are rounded to whole pixels, how far to look upwards.

    Raises
    ------
    LegendError
        When the legend lacks a class that is needed, or one is both glacier and ocean.
    LineError
        When the raster has no CRS.
    """
    glacier, ocean = (class_codes(legend, getattr(settings, n), n) for n in ("glacier", "ocean"))
    both = sorted(set(glacier) & set(ocean))
    if both:
        raise LegendError(
            f"A class must be glacier or ocean, but {legend.class_name(both[0])} is given as both."
        )
    land = settings.land
    if land is None:
        land = tuple(name for name in LAND if name in legend.names)
    size = pixel_size_m(raster)

    def reach(metres: float, whole: Callable[[float], int] = round, least: int = 0) -> Radii:
        return (max(least, whole(metres / size[0])), max(least, whole(metres / size[1])))

    # In a raster with a front in it, the front lies on what was found to be glacier.
    front = tuple(entry.code for entry in legend.classes if entry.display_only)
    return PixelSettings(
        glacier=(*glacier, *front),
        ocean=ocean,
        land=class_codes(legend, land, "land"),
        pixel_m=size,
        frame_m=settings.frame_m,
        contact_m=settings.contact_m,
        frame=reach(settings.frame_m, round, 1),
        ocean_width=reach(settings.min_ocean_width_m / 2),
        margin=reach(settings.margin_m),
        closing=reach(settings.closing_m / 2),
        reach=reach(max(settings.contact_m, settings.frame_m), ceil, 1),
        min_ocean=settings.min_ocean_m2 / (size[0] * size[1]),
        iterations=settings.iterations,
    )


def check_classes(pixel_class: xr.DataArray) -> da.Array:
    """Check that a raster is one of classes.

    Parameters
    ----------
    pixel_class : xarray.DataArray
        The raster.

    Returns
    -------
    dask.array.Array
        Its codes, shape (y, x), uint8, lazy.

    Raises
    ------
    LineError
        When it has other dimensions, or other numbers than class codes.
    """
    dims, dtype = pixel_class.dims, pixel_class.dtype
    if dims != ("y", "x") or dtype.kind not in "ui":
        raise LineError(
            f"A class raster must have dims (y, x) and hold integer codes, got {dims} of {dtype}. "
            "Pass pixel_class of a result."
        )
    if pixel_class.size == 0:
        raise LineError("A class raster must have pixels, got none.")
    codes = da.asarray(pixel_class.data)
    if dtype != np.uint8:  # other numbers are no codes, and must not become some
        codes = da.where((codes >= 0) & (codes <= 255), codes, 0).astype(np.uint8)
    return codes


def class_codes(legend: ClassLegend, wanted: tuple[str | int, ...], role: str) -> tuple[int, ...]:
    """Look up the codes of classes.

    Parameters
    ----------
    legend : ClassLegend
        The classes.
    wanted : tuple of str or int
        Names or codes.
    role : str
        What they are wanted for, for the message.

    Returns
    -------
    tuple of int
        Codes, in the order given.

    Raises
    ------
    LegendError
        When the legend does not have one.
    """
    by_name = {entry.name: entry.code for entry in legend.classes}
    codes = []
    for name in wanted:
        code = by_name.get(name) if isinstance(name, str) else name
        if code not in legend.codes:
            classes = ", ".join(f"{c} {legend.class_name(c)}" for c in legend.codes)
            raise LegendError(
                f"The classes that are {role} must be in legend {legend.name!r}, but {name!r} is "
                f"not among {classes}. Name its own with {role}=(...)."
            )
        codes.append(code)
    return tuple(codes)


def with_front_class(legend: ClassLegend) -> tuple[ClassLegend, int]:
    """Find the class a front is drawn as, or add one.

    Parameters
    ----------
    legend : ClassLegend
        The classes.

    Returns
    -------
    legend : ClassLegend
        With a class that is only displayed.
    code : int
        Its code: the legend's own, else 8, else the first that is free.

    Raises
    ------
    LegendError
        When all 255 codes are taken.
    """
    own = [entry.code for entry in legend.classes if entry.display_only]
    if own:
        return legend, own[0]
    taken = {entry.code for entry in legend.classes}
    free = next((code for code in (FRONT.code, *range(1, 256)) if code not in taken), None)
    if free is None:
        raise LegendError(
            f"Legend {legend.name!r} must leave a code for the front, but has all 255."
        )
    names = {entry.name for entry in legend.classes}
    name = next(n for n in (FRONT.name, f"{FRONT.name} line", f"Front {free}") if n not in names)
    added = LegendClass(free, name, FRONT.colour, display_only=True)
    return ClassLegend(legend.name, [*legend.classes, added]), free
