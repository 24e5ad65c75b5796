"""The GDAL side of writing rasters: bands of rows out, read back, failures in words."""

from __future__ import annotations

import importlib.metadata
import json
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
import xarray as xr
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from csc_xr.errors import LegendError, ParameterError
from csc_xr.files import write_error
from csc_xr.grid import is_georeferenced, scene_transform
from csc_xr.legend import ClassLegend
from csc_xr.raster import open_raster

FLOAT_SCALE = 0.0001
"""Step between neighbouring values of confidence and the like in a GeoTIFF."""

NO_NUMBER = 65535
"""Number that stands for no value in a GeoTIFF of scaled integers."""

NO_FLAG = 255
"""Number that stands for no data in a GeoTIFF of 0 and 1."""

Overviews = Literal["nearest", "mode", "average"]

_ROWS_AT_ONCE = 512
_LEGEND_TAG = "CSC_LEGEND"
# What GDAL takes from each number before it compresses, by kind of dtype (c: classes).
_PREDICTORS = {"c": "NO", "u": "STANDARD", "i": "STANDARD", "f": "FLOATING_POINT"}
# No side files; what GDAL holds in memory does not grow with the memory there is.
_SETTINGS = {
    "GDAL_PAM_ENABLED": False,
    "GDAL_TIFF_INTERNAL_MASK": True,
    "GDAL_CACHEMAX": 128 * 2**20,
}


@contextmanager
def gdal_writing(target: Path) -> Iterator[None]:
    """Turn failures of GDAL into output errors; keep it from writing side files.

    Parameters
    ----------
    target : Path
        What is being written, for the message.

    Yields
    ------
    None
        Nothing; GDAL is used inside the block.

    Raises
    ------
    OutputError
        When GDAL fails inside the block.
    """
    with warnings.catch_warnings(), rasterio.Env(**_SETTINGS):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            yield
        except (RasterioError, CPLE_BaseError) as error:
            raise write_error(target, error) from error


@dataclass(frozen=True)
class RasterForm:
    """How the values of a raster are kept in a file.

    Attributes
    ----------
    dtype : numpy.dtype
        Of the numbers in the file.
    nodata : int, float or None
        Number that stands for no data; None where there is none.
    legend : ClassLegend, optional
        The numbers are codes of these classes: the file gets their colours.
    table : mapping
        Red, green, blue and alpha by number, where there is no legend.
    scale : float
        A number times this is the value.
    encode : callable, optional
        Gives the numbers of values; by default they are the same.
    unit : str
        Of the values.
    overviews : {"nearest", "mode", "average"}
        How GDAL makes a coarser pixel of finer ones; a raster with pixels of a class for
        display only, such as a front, has it by "nearest", since "mode" takes lines away.
    tags : mapping
        Text by name, beside the name and version of this software.
    masked : bool
        Pixels whose coordinate ``valid`` is False are hidden by a mask inside the file.
    colours : tuple of rasterio.enums.ColorInterp, optional
        What each band shows.
    counted : bool
        The numbers, uint8 or uint16, are counted, and the file gets their statistics.
    """

    dtype: np.dtype[Any]
    nodata: float | None = None
    legend: ClassLegend | None = None
    table: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict)
    scale: float = 1.0
    encode: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None
    unit: str = ""
    overviews: Overviews = "nearest"
    tags: Mapping[str, str] = field(default_factory=dict)
    masked: bool = False
    colours: tuple[ColorInterp, ...] = ()
    counted: bool = False


@dataclass(frozen=True)
class Written:
    """What went into a file.

    Attributes
    ----------
    checksum : int
        CRC-32 of the numbers, in order of rows, and of the mask if there is one.
    counts : numpy.ndarray
        Shape (bands, 256 or 65536), int64: pixels by number; no columns where they were not
        counted.
    """

    checksum: int
    counts: npt.NDArray[np.int64]

    @property
    def by_code(self) -> dict[int, int]:
        """Pixels of the first band by number, where there are any.

        Returns
        -------
        dict of int to int
            In order of the numbers.
        """
        return {int(code): int(self.counts[0, code]) for code in np.flatnonzero(self.counts[0])}


def write_cog(
    raster: xr.DataArray, partial: Path, *, target: Path, form: RasterForm, scratch: Path
) -> Written:
    """Write a cloud-optimised GeoTIFF and read it back.

    Tiles of 512 or 256 pixels, DEFLATE, overviews where it is larger than a tile, everything in
    one file.
    GDAL's driver can only copy a dataset, so a plain GeoTIFF is written first.

    Parameters
    ----------
    raster : xarray.DataArray
        As :func:`write_geotiff` takes it.
    partial : Path
        Where to write, in the file system of `scratch`.
    target : Path
        What the file will be called, for messages.
    form : RasterForm
        How.
    scratch : Path
        A folder for what is only needed meanwhile.

    Returns
    -------
    Written
        What went into it.

    Raises
    ------
    OutputError
        When writing fails, or what is read back differs.
    ParameterError
        When the raster has codes that the legend does not have.
    """
    plain, made = scratch / "plain.tif", scratch / "cog.tif"
    written = write_geotiff(raster, plain, target=target, form=form)
    height, width = raster.shape[-2:]
    overviews = "nearest" if _has_lines(written, form) else form.overviews
    with gdal_writing(target):
        rasterio.shutil.copy(
            plain, made,
            driver="COG", compress="DEFLATE", predictor=_PREDICTORS[_kind(form)],
            blocksize=_block(height, width), overview_resampling=overviews.upper(),
            bigtiff="IF_SAFER",
        )  # fmt: skip
    check_written(made, written.checksum, target=target)
    made.replace(partial)  # GDAL's own temporary files stayed in the scratch folder
    return written


def write_geotiff(
    raster: xr.DataArray, partial: Path, *, target: Path, form: RasterForm
) -> Written:
    """Write a raster to a plain GeoTIFF by bands of 512 rows.

    Parameters
    ----------
    raster : xarray.DataArray
        Dims ("y", "x") or a dimension before them, whose coordinate names the bands; from which
        rows can be read cheaply. CRS and transform are written to the bit where there are any.
    partial : Path
        Where to write.
    target : Path
        What the file will be called, for messages.
    form : RasterForm
        How.

    Returns
    -------
    Written
        What went into it.

    Raises
    ------
    OutputError
        When writing fails.
    ParameterError
        When the raster has codes that the legend does not have.
    """
    checksum = 0
    counts: Any = np.zeros((1, 0), np.int64)
    with gdal_writing(target), rasterio.open(partial, "w", **_profile(raster, form)) as file:
        _describe(file, raster, form)
        for start in range(0, file.height, _ROWS_AT_ONCE):
            rows = raster.isel(y=slice(start, start + _ROWS_AT_ONCE))
            values = rows.values.reshape(-1, *rows.shape[-2:])
            if form.legend is not None:
                _check_codes(values, form.legend)
            numbers = values
            if form.encode is not None:  # band by band, to hold less at a time
                numbers = np.stack([form.encode(band) for band in values])
            window = Window(0, start, file.width, values.shape[1])
            file.write(numbers, window=window)
            checksum = zlib.crc32(numbers.tobytes(), checksum)
            if form.counted:
                found = _count(numbers)
                counts = found if start == 0 else counts + found
            if form.masked:
                seen = rows.coords["valid"].values
                file.write_mask(seen, window=window)
                checksum = zlib.crc32(seen.tobytes(), checksum)
        if form.counted:
            _write_statistics(file, counts, form)
    return Written(checksum, counts)


def check_written(partial: Path, checksum: int, *, target: Path) -> None:
    """Read a raster back and compare it, since GDAL may close a file on a full disk silently.

    Parameters
    ----------
    partial : Path
        The file that was written.
    checksum : int
        CRC-32 of what was meant to be written, in bands of 512 rows.
    target : Path
        What the file will be called, for messages.

    Raises
    ------
    OutputError
        When it cannot be read, or holds other values.
    """
    found = 0
    with gdal_writing(target), rasterio.open(partial) as file:
        masked = MaskFlags.per_dataset in file.mask_flag_enums[0]
        for start in range(0, file.height, _ROWS_AT_ONCE):
            count = min(_ROWS_AT_ONCE, file.height - start)
            window = Window(0, start, file.width, count)
            found = zlib.crc32(file.read(window=window), found)
            if masked and MaskFlags.alpha not in file.mask_flag_enums[0]:
                seen = file.read_masks(1, window=window) != 0
                found = zlib.crc32(seen.tobytes(), found)
    if found != checksum:
        raise write_error(target, "what was written differs from what is read back")


def scaled_numbers(values: npt.NDArray[Any], *, scale: float) -> npt.NDArray[np.uint16]:
    """Round values to whole multiples of a step.

    Parameters
    ----------
    values : numpy.ndarray
        Floating point; NaN where there is no value.
    scale : float
        The step.

    Returns
    -------
    numpy.ndarray
        The shape of `values`, uint16; :data:`NO_NUMBER` for NaN.

    Raises
    ------
    ParameterError
        When a value is below 0 or above the last number there is.

    Examples
    --------
    >>> scaled_numbers(np.array([0.0, 0.97316, np.nan]), scale=0.0001)
    array([    0,  9732, 65535], dtype=uint16)
    """
    steps = np.rint(values / np.float64(scale))
    strange = (steps < 0) | (steps >= NO_NUMBER)
    if strange.any():
        raise ParameterError(
            f"Values must lie in 0 to {(NO_NUMBER - 1) * scale:g} to be kept as multiples of "
            f"{scale:g}, got {values[strange][0]:g}. Pass another scale=, or write a Zarr store."
        )
    return np.where(np.isnan(steps), NO_NUMBER, steps).astype(np.uint16)


def checked_flags(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Make sure that numbers are 0, 1 or :data:`NO_FLAG`.

    Parameters
    ----------
    values : numpy.ndarray
        Of uint8.

    Returns
    -------
    numpy.ndarray
        The same.

    Raises
    ------
    ParameterError
        When there are others.
    """
    strange = (values > 1) & (values != NO_FLAG)
    if strange.any():
        raise ParameterError(
            f"Flags must be 0 or 1, got {values[strange][0]} too. Write classes with "
            "write_class_geotiff."
        )
    return values


def raster_legend(path: str | Path) -> ClassLegend:
    """Read the legend that a class GeoTIFF carries.

    Parameters
    ----------
    path : str or Path
        What :func:`csc_xr.export.write_class_geotiff` wrote.

    Returns
    -------
    ClassLegend
        From the tag ``CSC_LEGEND`` of the file.

    Raises
    ------
    LegendError
        When the file has no such tag, or something else in it.
    SceneError
        When the file cannot be read.
    """
    content = None
    if not Path(path).is_dir():  # a store of results
        with open_raster(Path(path)) as file:
            content = file.tags().get(_LEGEND_TAG)
    if content is None:
        raise LegendError(
            f"The classes in {path} need a legend, but it carries none. "
            "Pass the one they were made with (--legend)."
        )
    try:
        return ClassLegend.from_dict(json.loads(content))
    except json.JSONDecodeError as error:
        raise LegendError(
            f"The tag CSC_LEGEND of {path} must be JSON, but cannot be read: {error}. "
            "Pass the legend (--legend)."
        ) from error


def _profile(raster: xr.DataArray, form: RasterForm) -> dict[str, Any]:
    height, width = raster.shape[-2:]
    block = _block(height, width)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": raster.shape[0] if raster.ndim == 3 else 1,
        "dtype": form.dtype,
        "nodata": form.nodata,
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "compress": "deflate",
        "zlevel": 1,  # it is copied and removed
        "interleave": "band",
        "photometric": "MINISBLACK",  # else GDAL takes the fourth of four bytes for alpha
        "BIGTIFF": "IF_SAFER",
    }
    if is_georeferenced(raster):
        profile["crs"] = raster.rio.crs
        profile["transform"] = scene_transform(raster)
    return profile


def _describe(file: Any, raster: xr.DataArray, form: RasterForm) -> None:
    """Names, colours, scale and tags, which a GeoTIFF wants before its pixels."""
    file.update_tags(TIFFTAG_SOFTWARE=f"csc_xr {importlib.metadata.version('csc_xr')}")
    file.update_tags(**form.tags)
    for index, description in enumerate(_band_names(raster), start=1):
        file.set_band_description(index, description)
    if form.colours:
        file.colorinterp = form.colours
    if form.scale != 1.0:
        file.scales, file.offsets = (form.scale,) * file.count, (0.0,) * file.count
        file.units = (form.unit,) * file.count
    table = form.table if form.legend is None else form.legend.colour_table()
    if table:
        file.write_colormap(1, table)
    if form.legend is not None:
        content = json.dumps(form.legend.to_dict(), ensure_ascii=False)
        file.update_tags(**{_LEGEND_TAG: content})


def _count(numbers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Pixels by band and number."""
    counts = np.zeros((len(numbers), 1 << (8 * numbers.dtype.itemsize)), np.int64)
    for band, found in zip(numbers, counts, strict=True):
        for start in range(0, len(band), 64):  # each piece is widened to 8 bytes a pixel
            piece = band[start : start + 64].ravel()
            found += np.bincount(piece, minlength=len(found))
    return counts


def _write_statistics(file: Any, counts: npt.NDArray[np.int64], form: RasterForm) -> None:
    """Of the numbers in the file, as GDAL means them, over all pixels with data."""
    total = file.height * file.width
    for band, found in enumerate(counts, start=1):
        seen = found.copy()
        seen[int(form.nodata or 0)] = 0
        present, many = np.flatnonzero(seen), int(seen.sum())
        tags = {"VALID_PERCENT": f"{100 * many / total:.4g}"}
        if many:
            tags |= {"MINIMUM": str(present[0]), "MAXIMUM": str(present[-1])}
            mean = float((seen[present] * present).sum()) / many
            spread = float((seen[present] * (present - mean) ** 2).sum()) / many
            if form.legend is None:  # a mean of codes says nothing
                tags |= {"MEAN": repr(mean), "STDDEV": repr(spread**0.5)}
        file.update_tags(band, **{f"STATISTICS_{name}": text for name, text in tags.items()})


def _block(height: int, width: int) -> int:
    return 512 if min(height, width) >= 512 else 256


def _has_lines(written: Written, form: RasterForm) -> bool:
    classes = () if form.legend is None else form.legend.classes
    return any(entry.display_only and written.counts[0, entry.code] for entry in classes)


def _kind(form: RasterForm) -> str:
    return "c" if form.legend is not None else form.dtype.kind


def _band_names(raster: xr.DataArray) -> list[str]:
    if raster.ndim == 2:
        return [str(raster.name or "class")]
    return [str(name) for name in raster[raster.dims[0]].values]


def _check_codes(values: npt.NDArray[np.uint8], legend: ClassLegend) -> None:
    foreign_codes = np.ones(256, dtype=bool)
    foreign_codes[list(legend.colour_table())] = False
    strange = foreign_codes[values]
    if strange.any():
        foreign = np.unique(values[strange]).tolist()
        raise ParameterError(
            f"A class raster must hold 0 or codes of the legend {legend.name!r}, "
            f"{[entry.code for entry in legend.classes]}, got {foreign} too. "
            "Pass the legend it was made with."
        )
