"""The GDAL side of writing rasters: bands of rows out, read back, failures in words."""

from __future__ import annotations

import importlib.metadata
import json
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from csc_xr.errors import ParameterError
from csc_xr.files import write_error
from csc_xr.grid import is_georeferenced, scene_transform
from csc_xr.legend import NODATA_CODE, ClassLegend

_ROWS_AT_ONCE = 512
# Column name, GDAL type (0 integer, 2 text) and GDAL usage of a raster attribute table.
_TABLE_COLUMNS = (
    ("Value", 0, 5),
    ("Class", 2, 2),
    ("Red", 0, 6),
    ("Green", 0, 7),
    ("Blue", 0, 8),
    ("Alpha", 0, 9),
)


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
    with warnings.catch_warnings(), rasterio.Env(GDAL_PAM_ENABLED=False):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            yield
        except (RasterioError, CPLE_BaseError) as error:
            raise write_error(target, error) from error


def write_geotiff(
    raster: xr.DataArray, partial: Path, *, target: Path, legend: ClassLegend | None = None
) -> int:
    """Write a raster to a GeoTIFF by bands of 512 rows and read it back.

    Parameters
    ----------
    raster : xarray.DataArray
        Dims ("y", "x") or a dimension before them, whose coordinate names the bands; from which
        rows can be read cheaply. CRS and transform are written to the bit where there are any.
    partial : Path
        Where to write.
    target : Path
        What the file will be called, for messages.
    legend : ClassLegend, optional
        Makes the file a class raster: colour table, nodata 0; without it nodata is NaN.

    Returns
    -------
    int
        CRC-32 of the values, in order of rows.

    Raises
    ------
    OutputError
        When writing fails, or what is read back differs.
    ParameterError
        When the raster has codes that the legend does not have.
    """
    checksum = 0
    with gdal_writing(target), rasterio.open(partial, "w", **_profile(raster, legend)) as file:
        file.update_tags(TIFFTAG_SOFTWARE=f"csc_xr {importlib.metadata.version('csc_xr')}")
        for index, description in enumerate(_band_names(raster), start=1):
            file.set_band_description(index, description)
        if legend is not None:
            file.write_colormap(1, legend.colour_table())
            file.update_tags(CSC_LEGEND=json.dumps(legend.to_dict(), ensure_ascii=False))
        for start in range(0, file.height, _ROWS_AT_ONCE):
            values = raster.isel(y=slice(start, start + _ROWS_AT_ONCE)).values
            values = values.reshape(-1, *values.shape[-2:])
            if legend is not None:
                _check_codes(values, legend)
            file.write(values, window=Window(0, start, file.width, values.shape[1]))
            checksum = zlib.crc32(values.tobytes(), checksum)
    check_written(partial, checksum, target=target)
    return checksum


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
        for start in range(0, file.height, _ROWS_AT_ONCE):
            count = min(_ROWS_AT_ONCE, file.height - start)
            found = zlib.crc32(file.read(window=Window(0, start, file.width, count)), found)
    if found != checksum:
        raise write_error(target, "what was written differs from what is read back")


def category_xml(legend: ClassLegend) -> bytes:
    """Class names and colours as the side file that GDAL and QGIS read beside a raster.

    Parameters
    ----------
    legend : ClassLegend
        The classes.

    Returns
    -------
    bytes
        Content of ``<raster>.aux.xml``: category names and a raster attribute table, in
        GDAL's persistent auxiliary metadata format (``gdal_pam.xsd``).
    """
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    codes = (NODATA_CODE, *(entry.code for entry in legend.classes))
    # Names are found by position, so a code that is not in use gets an empty one.
    names = ElementTree.SubElement(band, "CategoryNames")
    for code in range(max(codes) + 1):
        name = legend.class_name(code) if code in codes else ""
        ElementTree.SubElement(names, "Category").text = name
    table = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (column, kind, usage) in enumerate(_TABLE_COLUMNS):
        definition = ElementTree.SubElement(table, "FieldDefn", index=str(index))
        for tag, value in (("Name", column), ("Type", kind), ("Usage", usage)):
            ElementTree.SubElement(definition, tag).text = str(value)
    colours = legend.colour_table()
    for index, code in enumerate(codes):
        row = ElementTree.SubElement(table, "Row", index=str(index))
        for value in (code, legend.class_name(code), *colours[code]):
            ElementTree.SubElement(row, "F").text = str(value)
    ElementTree.indent(root)
    # Without an XML declaration: GDAL takes it for the root and finds nothing.
    return ElementTree.tostring(root, encoding="unicode").encode("utf-8")


def _profile(raster: xr.DataArray, legend: ClassLegend | None) -> dict[str, Any]:
    height, width = raster.shape[-2:]
    block = 512 if min(height, width) >= 512 else 256
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": raster.shape[0] if raster.ndim == 3 else 1,
        "dtype": raster.dtype,
        "nodata": np.nan if legend is None else NODATA_CODE,
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "compress": "deflate",
        "predictor": 3 if legend is None else 1,
        "interleave": "band",
        "BIGTIFF": "IF_SAFER",
    }
    if is_georeferenced(raster):
        profile["crs"] = raster.rio.crs
        profile["transform"] = scene_transform(raster)
    return profile


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
