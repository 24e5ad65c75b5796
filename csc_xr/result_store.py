"""Results as Zarr stores that xarray and GDAL both read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from csc_xr.errors import ParameterError
from csc_xr.files import plain_values, replacing
from csc_xr.stores import is_store

ZARR_FORMAT = 2
"""Of the stores of results: the newest that GDAL reads as widely as xarray."""

_GDAL_CRS = "_CRS"
_EPSG_URL = "http://www.opengis.net/def/crs/EPSG/0/{}"


def write_result_zarr(result: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a result as a Zarr store; computes it, chunk by chunk.

    The store has Zarr format 2 and Zstandard compression, which xarray, GDAL from 3.4 on and
    QGIS read: GDAL before 3.11 knows no array of the final format 3. GDAL finds the CRS in the
    attribute ``_CRS`` of each variable and the place in ``x`` and ``y``; of a rotated raster it
    finds the CRS only, since GDAL takes no transform from Zarr.

    Parameters
    ----------
    result : xarray.Dataset
        Variables of any dtype; stored chunks are the Dask chunks, made regular where they
        are not (a Zarr chunk is never written by two tasks). Integers stay integers for every
        reader: their nodata value is kept as the attribute ``nodata``, not as a
        ``_FillValue`` that would turn them into floating point on reading.
    path : str or Path
        The store, a folder.
    overwrite : bool
        True replaces a store that exists; the old one stays until the new one is whole.

    Raises
    ------
    OutputError
        When the store exists, cannot be written, or the disk is full.
    ParameterError
        When an attribute has no JSON form.
    """
    plain = storable(result)
    with replacing(path, folder=True, overwrite=overwrite) as made:
        plain.to_zarr(made, mode="w", zarr_format=ZARR_FORMAT)


def open_result(path: str | Path) -> xr.Dataset:
    """Open a result that :func:`write_result_zarr` wrote; lazy.

    Parameters
    ----------
    path : str or Path
        The store.

    Returns
    -------
    xarray.Dataset
        Dtypes, coordinates and georeference equal those written, to the bit; variables are
        Dask-backed in the chunks of the store.

    Raises
    ------
    ParameterError
        When there is no Zarr store.
    """
    store = Path(path)
    if not is_store(store):
        raise ParameterError(
            f"A result is a Zarr folder (with a .zgroup or zarr.json), got {store}, which has "
            "none. Check the path."
        )
    opened: xr.Dataset = xr.open_zarr(store, consolidated=False, mask_and_scale=False)
    for variable in opened.variables.values():
        variable.attrs.pop(_GDAL_CRS, None)  # spatial_ref says the same
    text = {
        name: (coord.dims, np.array(coord.values.tolist(), dtype=str), coord.attrs)
        for name, coord in opened.coords.items()
        if coord.dtype.kind in "TO"
    }
    return opened.assign_coords(text)


def storable(result: xr.Dataset) -> xr.Dataset:
    """Prepare for Zarr: regular chunks, JSON attributes, nothing that decodes to floats.

    Variables on a grid get the CRS as GDAL looks for it, too.

    Parameters
    ----------
    result : xarray.Dataset
        Variables of any dtype, lazy or not.

    Returns
    -------
    xarray.Dataset
        The same values; lazy ones stay so.

    Raises
    ------
    ParameterError
        When an attribute has no JSON form.
    """
    plain = result.drop_encoding()
    plain.attrs = plain_values(result.attrs)
    for name, source in result.variables.items():
        variable = plain[name].variable
        if variable.chunks is not None:
            # Two tasks must never write one Zarr chunk, nor may chunks differ in size.
            variable = variable.chunk({dim: max(n) for dim, n in source.chunksizes.items()})
        if variable.dtype.kind in "UT":
            # Of any length: a scene that is added to a stack may have a longer name.
            variable = variable.astype(object)
        attributes = plain_values(source.attrs)
        fill = source.encoding.get("_FillValue", source.attrs.get("_FillValue"))
        attributes.pop("_FillValue", None)
        if fill is not None and np.isfinite(fill):
            attributes["nodata"] = plain_values(fill)
        if "grid_mapping" in source.encoding:
            # As an attribute, so that spatial_ref stays a coordinate for any reader.
            attributes["grid_mapping"] = source.encoding["grid_mapping"]
        reference = result.coords.get(source.encoding.get("grid_mapping", "spatial_ref"))
        if source.dims[-2:] == ("y", "x") and reference is not None:
            attributes |= _gdal_crs(reference.rio.crs)
        variable.attrs = attributes
        variable.encoding = {"_FillValue": None}
        plain[name] = variable
    return plain


def _gdal_crs(crs: Any) -> dict[str, Any]:
    """Attribute in which GDAL looks for a CRS."""
    if crs is None:
        return {}
    code = crs.to_epsg()
    named = {} if code is None else {"url": _EPSG_URL.format(code)}
    return {_GDAL_CRS: {**named, "wkt": crs.to_wkt(version="WKT2_2019")}}
