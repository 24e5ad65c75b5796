"""Panels that show a raster: where it lies, thinned to the screen, in colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from csc_xr.figures.style import CAPTION_SIZE, EDGE_COLOUR, TICK_SIZE, literal
from csc_xr.grid import is_georeferenced, scene_transform
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.scene import valid_pixels

MAX_PANEL_PIXELS = 1500
"""Longest side of a panel in image pixels; larger rasters are thinned."""

Floats = Any
"""An array of float32, of NumPy or Dask."""

_UNCLASSIFIED_COLOUR = "#000000"
_COLOUR_BANDS = ("red", "green", "blue")


@dataclass(frozen=True)
class Frame:
    """Where a panel lies.

    Attributes
    ----------
    extent : tuple of float
        Left, right, bottom and top as matplotlib takes them: of the first and last column, the
        last and first row.
    labels : tuple of str
        Of the axes.
    aspect : float
        Length of a unit up the panel over one across.
    north_up : bool
        False where rows and columns are counted instead.
    """

    extent: tuple[float, float, float, float]
    labels: tuple[str, str]
    aspect: float
    north_up: bool


def thinning(raster: xr.DataArray) -> dict[str, int]:
    """Tell how many pixels of a raster become one of its panel.

    Parameters
    ----------
    raster : xarray.DataArray
        With dims y and x.

    Returns
    -------
    dict of str to int
        Pixels along ``y`` and ``x``.
    """
    rows, columns = raster.sizes["y"], raster.sizes["x"]
    step = -(-max(rows, columns) // MAX_PANEL_PIXELS)
    return {"y": min(step, rows), "x": min(step, columns)}


def frame_of(raster: xr.DataArray, steps: Mapping[str, int]) -> Frame:
    """Tell where the panel of a thinned raster lies.

    Parameters
    ----------
    raster : xarray.DataArray
        With dims y and x, before thinning.
    steps : mapping of str to int
        From :func:`thinning`; what is left of blocks at the end is not shown.

    Returns
    -------
    Frame
        In kilometres, degrees, or pixels where the raster is rotated or has no CRS.
    """
    rows = raster.sizes["y"] - raster.sizes["y"] % steps["y"]
    columns = raster.sizes["x"] - raster.sizes["x"] % steps["x"]
    transform, crs = scene_transform(raster), raster.rio.crs
    rotated = transform.b != 0 or transform.d != 0
    if crs is None or rotated or not is_georeferenced(raster):
        return Frame((0, columns, rows, 0), ("Column (px)", "Row (px)"), 1.0, north_up=False)
    left, right = transform.c, transform.c + columns * transform.a
    top, bottom = transform.f, transform.f + rows * transform.e
    if crs.is_geographic:
        aspect = 1 / max(np.cos(np.deg2rad((top + bottom) / 2)), 0.05)  # finite at the poles
        names = ("Longitude (°)", "Latitude (°)")
        return Frame((left, right, bottom, top), names, float(aspect), north_up=True)
    kilometres = crs.units_factor[1] / 1000
    names = ("Easting (km)", "Northing (km)") if crs.is_projected else ("x (km)", "y (km)")
    extent = (left * kilometres, right * kilometres, bottom * kilometres, top * kilometres)
    return Frame(extent, names, 1.0, north_up=True)


def in_frame(
    shapes: geopandas.GeoSeries, raster: xr.DataArray, steps: Mapping[str, int], frame: Frame
) -> geopandas.GeoSeries:
    """Bring columns and rows of a raster to the units of its panel.

    Parameters
    ----------
    shapes : geopandas.GeoSeries
        Columns and rows, of pixel corners.
    raster : xarray.DataArray
        With dims y and x, before thinning.
    steps : mapping of str to int
        From :func:`thinning`.
    frame : Frame
        From :func:`frame_of`.

    Returns
    -------
    geopandas.GeoSeries
        As the axes of the panel count.
    """
    rows, columns = (raster.sizes[dim] // steps[dim] * steps[dim] for dim in ("y", "x"))
    left, right, bottom, top = frame.extent
    across, down = (right - left) / columns, (bottom - top) / rows
    return shapes.affine_transform([across, 0, 0, down, left, top])


def picture_of(
    scene: xr.DataArray, steps: Mapping[str, int]
) -> tuple[npt.NDArray[np.float32], str]:
    """Make the picture of a scene. Computes, block by block.

    Parameters
    ----------
    scene : xarray.DataArray
        A scene, dims ("band", "y", "x").
    steps : mapping of str to int
        From :func:`thinning`; blocks of pixels are averaged.

    Returns
    -------
    picture : array of float32
        Shape (rows, columns, 4): red, green, blue and opacity, 0 to 1, from the bands of these
        names or else the first three or the first, each stretched; pixels that are not valid are
        transparent.
    caption : str
        Tells the bands.
    """
    bands, caption = shown_bands(scene)
    values = averaged(bands.where(valid_pixels(scene)), steps).values
    stretched = np.stack([stretch(band, stretch_limits(band)) for band in values], axis=-1)
    blank = np.isnan(stretched).any(axis=-1, keepdims=True)
    colour = np.broadcast_to(np.where(blank, 1, stretched), (*blank.shape[:2], 3))
    picture = np.concatenate([colour, np.where(blank, 0, 1)], axis=-1).astype(np.float32)
    return picture, caption


def shown_bands(scene: xr.DataArray) -> tuple[xr.DataArray, str]:
    """Choose the bands a scene is shown from.

    Parameters
    ----------
    scene : xarray.DataArray
        A scene, dims ("band", "y", "x").

    Returns
    -------
    bands : xarray.DataArray
        Red, green and blue, or else the first three bands or the first. Lazy.
    caption : str
        Tells the bands.
    """
    names = [str(name) for name in scene["band"].values]
    if set(_COLOUR_BANDS) <= set(names):
        return scene.isel(band=[names.index(name) for name in _COLOUR_BANDS]), "Image"
    shown = names[:3] if len(names) >= 3 else names[:1]
    return scene.isel(band=slice(len(shown))), f"Image ({', '.join(shown)})"


def averaged(bands: xr.DataArray, steps: Mapping[str, int]) -> xr.DataArray:
    """Average blocks of pixels, chunk by chunk.

    Parameters
    ----------
    bands : xarray.DataArray
        Dims ("band", "y", "x"), NaN where there is no data.
    steps : mapping of str to int
        From :func:`thinning`.

    Returns
    -------
    xarray.DataArray
        Of float32, without the parts of blocks at the end. Lazy.
    """
    values = bands.astype(np.float32)
    if max(steps.values()) == 1:
        return values
    # Chunks of whole blocks let the mean run chunk by chunk. The first of a part may be thin.
    whole = {dim: n * max(1, max(bands.chunksizes[dim]) // n) for dim, n in steps.items()}
    means: xr.DataArray = values.chunk(whole).coarsen(steps, boundary="trim").mean()
    return means


def stretch_limits(band: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Find the values of a band that become black and white.

    Parameters
    ----------
    band : array of float32
        Values, NaN where there is no data.

    Returns
    -------
    tuple of float
        The 2nd and 98th percentile; equal where there is nothing to tell apart.
    """
    valid = band[np.isfinite(band)]
    if valid.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(valid, (2, 98))
    return float(low), float(high)


def stretch(band: Floats, limits: tuple[float, float]) -> Floats:
    """Bring the values of a band to brightness, 0 to 1.

    Parameters
    ----------
    band : array of float32
        Values, NaN where there is no data; a lazy array stays lazy.
    limits : tuple of float
        From :func:`stretch_limits`; where they are equal the band is of middling grey.

    Returns
    -------
    array of float32
        Brightness, NaN where there is no data.
    """
    low, high = limits
    if high <= low:
        return band * 0 + 0.5
    # The gamma keeps dark water from going black beside snow.
    return np.clip((band - low) / (high - low), 0, 1) ** 0.7


def thinned_classes(raster: xr.DataArray, steps: Mapping[str, int]) -> npt.NDArray[np.uint8]:
    """Take a class near the middle of every block, but none of the parts of blocks at the end.

    Parameters
    ----------
    raster : xarray.DataArray
        Classes, dims ("y", "x"). Only the pixels taken are kept.
    steps : mapping of str to int
        From :func:`thinning`.

    Returns
    -------
    array of uint8
        Shape (rows, columns).
    """
    middles = {
        dim: slice(n // 2, raster.sizes[dim] - raster.sizes[dim] % n, n) for dim, n in steps.items()
    }
    return raster.isel(middles).values.astype(np.uint8)


def coloured(codes: npt.NDArray[np.uint8], legend: ClassLegend) -> npt.NDArray[np.uint8]:
    """Give classes the colours of their legend, black where there is none.

    Parameters
    ----------
    codes : array of uint8
        Class codes.
    legend : ClassLegend
        Their colours.

    Returns
    -------
    array of uint8
        Red, green, blue and opacity along a last axis.
    """
    table = np.zeros((256, 4), dtype=np.uint8)
    for code, colour in legend.colour_table().items():
        table[code] = colour
    table[NODATA_CODE] = (0, 0, 0, 255)
    return table[codes]


def class_patches(classes: list[npt.NDArray[np.uint8]], legend: ClassLegend) -> list[Patch]:
    """Make the entries of a figure's legend for the classes that occur.

    Parameters
    ----------
    classes : list of array of uint8
        Class codes.
    legend : ClassLegend
        Names and colours.

    Returns
    -------
    list of matplotlib.patches.Patch
        In order of the codes, what has no class last.
    """
    present = set(np.unique(np.concatenate([codes.ravel() for codes in classes])).tolist())
    entries = [(entry.name, entry.colour) for entry in legend.classes if entry.code in present]
    if NODATA_CODE in present:
        entries.append((legend.class_name(NODATA_CODE), _UNCLASSIFIED_COLOUR))
    return [
        Patch(facecolor=colour, edgecolor=EDGE_COLOUR, linewidth=0.6, label=literal(name))
        for name, colour in entries
    ]


def show(axis: Axes, picture: npt.NDArray[Any], frame: Frame, caption: str) -> None:
    """Draw a picture into its panel.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        The panel.
    picture : array
        Shape (rows, columns, 4); classes as uint8, an image as float32.
    frame : Frame
        Where it lies.
    caption : str
        Stands over the panel.
    """
    axis.imshow(
        picture,
        extent=frame.extent,
        interpolation="nearest" if picture.dtype == np.uint8 else "auto",
        aspect=frame.aspect,
    )
    if frame.north_up:
        axis.set_xlim(*sorted(frame.extent[:2]))
        axis.set_ylim(*sorted(frame.extent[2:]))
    axis.set_title(caption, fontsize=CAPTION_SIZE)
    axis.tick_params(labelsize=TICK_SIZE)
    for line in (axis.xaxis, axis.yaxis):
        line.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        line.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]
