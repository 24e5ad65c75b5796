"""The calving front of a class raster: where the glacier's outline meets the ocean.

After Marochov, Stokes and Carbonneau 2021, The Cryosphere 15:5041-5059, with its thresholds in
metres and square metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import dask.array as da
import geopandas
import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.features import rasterize
from shapely.affinity import affine_transform
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry

from csc_xr.blockwise import map_places
from csc_xr.errors import LineError
from csc_xr.fronts.active_contour import firm_glacier
from csc_xr.fronts.contact import Contact, find_contacts
from csc_xr.fronts.outlines import Points, lines_on_map, raster_crs
from csc_xr.fronts.regions import find_glacier, find_ocean
from csc_xr.fronts.settings import (
    FrontSettings,
    PixelSettings,
    check_classes,
    in_pixels,
    with_front_class,
)
from csc_xr.grid import scene_transform
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.metres import to_metres

Outcome = Literal["found", "no glacier", "no ocean", "no contact", "too long", "touches the frame"]


@dataclass(frozen=True, eq=False)
class Front:
    """A calving front, or why there is none.

    Attributes
    ----------
    outcome : {"found", "no glacier", "no ocean", "no contact", "too long", "touches the frame"}
        With "touches the frame" there is a line, but the front goes on beyond the image, or
        into pixels without a class.
    reason : str
        The same in a sentence.
    line : shapely.LineString or None
        From wall to wall in the raster's CRS, with the glacier on the left.
    crs : pyproj.CRS
        Of the line.
    measures : dict of str to float
        ``length_m``, ``glacier_area_m2``; ``contact_share``, the share of the front that has
        ocean beside it and not only near it; ``sinuosity``, its length over the distance
        between its ends; ``other_contact_m``, length of the other pieces of outline that have
        ocean near them. Only those that are known.
    pieces : geopandas.GeoSeries
        All pieces of the glacier's outline along the ocean, the front first, with its CRS.
    settings : FrontSettings
        How it was looked for.
    raster : xarray.DataArray
        Dims (y, x), uint8, lazy: 1 on the glacier's pixels along the front.
    classes : xarray.DataArray
        Dims (y, x), uint8, lazy: the classes with the front in them, refined on request.
    """

    outcome: Outcome
    reason: str
    line: LineString | None
    crs: CRS
    measures: dict[str, float] = field(repr=False)
    pieces: geopandas.GeoSeries = field(repr=False)
    settings: FrontSettings = field(repr=False)
    raster: xr.DataArray = field(repr=False)
    classes: xr.DataArray = field(repr=False)

    @property
    def lines(self) -> geopandas.GeoSeries:
        """The line with its CRS; empty where there is none."""
        return geopandas.GeoSeries([] if self.line is None else [self.line], crs=self.crs)


def extract_front(
    pixel_class: xr.DataArray,
    legend: ClassLegend,
    *,
    settings: FrontSettings | None = None,
    within: geopandas.GeoSeries | None = None,
) -> Front:
    """Find the calving front in a class raster. Computes.

    The glacier is the largest region of its classes, the ocean what is large and not cut off by
    the image. An active contour makes the glacier's outline firm; the front is the longest piece of
    it that has ocean near it. Holds a few bytes for each pixel, and gives the same front for
    chunks of any size.

    Parameters
    ----------
    pixel_class : xarray.DataArray
        Classes, dims (y, x), uint8, 0 where there is none; with a CRS, since thresholds are in
        metres (:func:`csc_xr.metres.with_pixel_size` for an image that has none).
    legend : ClassLegend
        What the codes stand for.
    settings : FrontSettings, optional
        Thresholds, and which classes are glacier and ocean.
    within : geopandas.GeoSeries, optional
        Polygons, in any CRS, that the front lies in: the end of one glacier, where a scene has
        several, or its fjord, where classes of the valley sides are not to be trusted. The glacier
        is then the region with the most pixels in them.

    Returns
    -------
    Front
        The outcome, always with its reason, and the line where there is one.

    Raises
    ------
    LegendError
        When the legend lacks the classes of glacier or ocean.
    LineError
        When the raster is not one of classes, or has no CRS; when `within` holds other than
        polygons, or has no CRS.
    """
    settings = settings or FrontSettings()
    codes = check_classes(pixel_class)
    pixels = in_pixels(settings, legend, pixel_class)
    with_front_class(legend)  # refuses one without a code to spare
    region = None if within is None else _in_pixels(within, pixel_class)
    report = partial(_report, pixel_class, codes, legend, settings, pixels)
    where = "" if region is None else " in the region given"
    inside = None if region is None else map_places(_cover, codes, dtype=bool, argument=region)
    glacier = find_glacier(codes, pixels, inside=inside)
    if glacier is None:
        return report("no glacier", f"No pixel is {_names(legend, settings.glacier)}{where}.")
    ocean = find_ocean(codes, pixels)
    if ocean is None:
        least = f"{settings.min_ocean_m2 / 1e6:g} km2"
        return report("no ocean", f"No {_names(legend, settings.ocean)} covers {least} or more.")
    ice = firm_glacier(glacier, pixels).persist()
    contacts = find_contacts(ice, ocean, codes, pixels, within=region)
    if not contacts:
        near = f"within {settings.contact_m:g} m of the glacier"
        reason = f"No ocean is {near}, away from the frame{where and ' and'}{where}."
        return report("no contact", reason, ice=ice)
    lines = lines_on_map([contact.points for contact in contacts], pixel_class)
    if settings.simplify_m:
        lines = to_metres(lines).simplify(settings.simplify_m).to_crs(lines.crs)
    measures = _measures(contacts[0], to_metres(lines), ice, pixels)
    length_m = measures["length_m"]
    diagonal = float(np.hypot(*(n * s for n, s in zip(codes.shape, pixels.pixel_m, strict=True))))
    if length_m > diagonal:
        reason = f"It would be {length_m:.0f} m long, more than the image: {diagonal:.0f} m."
        return report("too long", reason, ice=ice, pieces=lines, measures=measures)
    found = partial(
        report, ice=ice, contact=contacts[0], line=lines.iloc[0], pieces=lines, measures=measures
    )
    if contacts[0].cut:
        return found("touches the frame", "The front goes on beyond what the image shows.")
    return found("found", f"A front of {length_m:.0f} m.")


def _report(
    pixel_class: xr.DataArray,
    codes: da.Array,
    legend: ClassLegend,
    settings: FrontSettings,
    pixels: PixelSettings,
    outcome: Outcome,
    reason: str,
    *,
    ice: da.Array | None = None,
    contact: Contact | None = None,
    line: LineString | None = None,
    pieces: geopandas.GeoSeries | None = None,
    measures: dict[str, float] | None = None,
) -> Front:
    """Put together what was found, with rasters that show it."""
    along = np.zeros((0, 2), np.int64)
    if ice is not None and contact is not None:
        along = _pixels_inside(contact.points, ice)
    drawn = map_places(_draw, codes, dtype=np.uint8, argument=along)
    if ice is not None and settings.refine:
        spared = da.isin(codes, (NODATA_CODE, *pixels.land))
        codes = da.where(ice.rechunk(codes.chunks) & ~spared, np.uint8(pixels.glacier[0]), codes)
    shown, front_code = with_front_class(legend)
    codes = da.where(drawn > 0, np.uint8(front_code), codes)
    raster = pixel_class.copy(data=drawn).rename("front").drop_attrs(deep=False)
    classes = pixel_class.copy(data=codes).assign_attrs(shown.flag_attributes())
    crs = raster_crs(pixel_class)
    none = geopandas.GeoSeries([], crs=crs)
    return Front(
        outcome, reason, line, crs, measures or {},
        none if pieces is None else pieces, settings, raster, classes,
    )  # fmt: skip


def _in_pixels(within: geopandas.GeoSeries, raster: xr.DataArray) -> BaseGeometry:
    """Bring polygons to columns and rows of a raster, as one."""
    polygons = within.geometry.dropna()
    polygons = polygons[~polygons.is_empty]
    others = set(polygons.geom_type) - {"Polygon", "MultiPolygon"}
    crs = raster_crs(raster)
    if polygons.crs is None or others or polygons.empty or not polygons.is_valid.all():
        got = "no CRS" if polygons.crs is None else ", ".join(sorted(others)) or "none"
        if not (polygons.is_valid.all() or others):
            got = "one whose sides cross"
        raise LineError(
            f"The region that a front lies in must be polygons with a CRS, got {got}. Draw one "
            "around the end of the glacier."
        )
    if polygons.crs != crs and (polygons.crs.is_engineering or crs is None or crs.is_engineering):
        raise LineError(
            "The region that a front lies in must be in a CRS that leads to the raster's, got "
            f"{polygons.crs.name!r} for a raster in local coordinates. Draw it on the raster."
        )
    in_crs = polygons.to_crs(crs).union_all()
    return affine_transform(in_crs, (~scene_transform(raster)).to_shapely())


def _cover(
    block: NDArray[np.uint8], rows: slice, columns: slice, region: BaseGeometry
) -> NDArray[np.bool_]:
    """Mark the pixels of a chunk whose centres a region covers."""
    here = Affine.translation(columns.start, rows.start)
    return np.asarray(rasterize([region], block.shape, transform=here, dtype=np.uint8).view(bool))


def _pixels_inside(points: Points, ice: da.Array) -> NDArray[np.int64]:
    """Give the glacier's pixel at each vertex of its outline; shape (vertices, 2)."""
    before, after = np.floor(points).astype(np.int64), np.ceil(points).astype(np.int64)
    is_before = np.asarray(ice.vindex[before[:, 0], before[:, 1]])
    return np.where(is_before[:, None], before, after)


def _draw(
    block: NDArray[np.uint8], rows: slice, columns: slice, pixels: NDArray[np.int64]
) -> NDArray[np.uint8]:
    drawn = np.zeros(block.shape, np.uint8)
    local = pixels - (rows.start, columns.start)
    here = ((local >= 0) & (local < block.shape)).all(axis=1)
    drawn[tuple(local[here].T)] = 1
    return drawn


def _measures(
    contact: Contact, lines_m: geopandas.GeoSeries, ice: da.Array, pixels: PixelSettings
) -> dict[str, float]:
    height, width = pixels.pixel_m
    length_m, *others_m = lines_m.length
    ends = lines_m.iloc[0].coords
    apart_m = float(np.hypot(ends[0][0] - ends[-1][0], ends[0][1] - ends[-1][1]))
    return {
        "length_m": float(length_m),
        "glacier_area_m2": float(ice.sum().compute() * height * width),
        "contact_share": float((contact.ocean_m <= max(height, width)).mean()),
        "sinuosity": float(length_m / apart_m) if apart_m else float("inf"),
        "other_contact_m": float(sum(others_m)),
    }


def _names(legend: ClassLegend, classes: tuple[str | int, ...]) -> str:
    names = [c if isinstance(c, str) else legend.class_name(c) for c in classes]
    return " or ".join(names)
