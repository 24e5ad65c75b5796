"""Results as files: Zarr, GeoTIFF, PNG and CSV, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import rasterio.shutil
import xarray as xr

from csc_xr.errors import ParameterError
from csc_xr.files import check_output_folder as check_output_folder
from csc_xr.files import plain_values, replacing, scratch_folder
from csc_xr.files import write_json as write_json
from csc_xr.geotiff import category_xml, check_written, gdal_writing, write_geotiff
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.scene import open_scene, valid_pixels

_STALE_SUFFIXES = (".aux.xml", ".ovr", ".msk")


def write_result_zarr(result: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a result as a Zarr 3 store; computes it, chunk by chunk.

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
    with replacing(path, folder=True, overwrite=overwrite) as partial:
        plain.to_zarr(partial, mode="w", zarr_format=3, consolidated=False)


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
        When there is no Zarr 3 store of a dataset.
    """
    store = Path(path)
    if not (store / "zarr.json").is_file():
        raise ParameterError(
            f"A result is a Zarr 3 folder (with a zarr.json), got {store}, which has none. "
            "Check the path."
        )
    opened: xr.Dataset = xr.open_zarr(store, consolidated=False, mask_and_scale=False)
    text = {
        name: (coord.dims, np.array(coord.values.tolist(), dtype=str), coord.attrs)
        for name, coord in opened.coords.items()
        if coord.dtype.kind in "TO"
    }
    return opened.assign_coords(text)


def open_classes(path: str | Path) -> dict[str, xr.DataArray]:
    """Open class rasters that exist already, to score them; lazy.

    Parameters
    ----------
    path : str or Path
        A store that :func:`write_result_zarr` wrote, or a raster file of one band.

    Returns
    -------
    dict of str to xarray.DataArray
        ``tile_class`` and ``pixel_class`` of a result, or ``classes``; dims ("y", "x"), 0 where
        there is no data.

    Raises
    ------
    ParameterError
        When there is no class raster.
    SceneError
        When the file cannot be read.
    """
    source = Path(path)
    if source.is_dir():
        result = open_result(source)
        found = {name: result[name] for name in ("tile_class", "pixel_class") if name in result}
        if not found:
            raise ParameterError(
                f"A result holds tile_class or pixel_class, got {', '.join(map(str, result))} in "
                f"{source}. Pass a store that a classification wrote."
            )
        return found
    raster = open_scene(source)
    if raster.sizes["band"] != 1:
        raise ParameterError(
            f"A class raster must be one band of class codes, got {raster.sizes['band']} bands in "
            f"{source}. Save the codes, not the colours they are shown in."
        )
    valid = valid_pixels(raster)
    codes = da.where(valid.data, raster.data[0], raster.dtype.type(NODATA_CODE))
    return {"classes": valid.copy(data=codes).rename("classes")}


def write_class_geotiff(
    class_raster: xr.DataArray, path: str | Path, *, legend: ClassLegend
) -> None:
    """Write classes as a byte GeoTIFF with colours, class names and nodata 0.

    Computes the raster, in memory bounded by its chunks and 512 of its rows. The names (and an
    attribute table with the colours) lie in ``<path>.aux.xml``, where GDAL and QGIS look
    for them; legend and software are also tags of the file itself. What was written is read
    back and compared, because GDAL does not report every failure.

    Parameters
    ----------
    class_raster : xarray.DataArray
        Dims ("y", "x"), uint8, 0 where there is no class.
    path : str or Path
        The file; replaced when it exists.
    legend : ClassLegend
        Has every code of the raster.

    Raises
    ------
    OutputError
        When the file cannot be written or the disk is full.
    ParameterError
        When the raster is not uint8 on (y, x), or holds codes that the legend does not have.
    """
    _check_class_raster(class_raster)
    target = Path(path)
    with (
        replacing(target) as partial,
        replacing(_sidecar(target)) as sidecar,
        _row_source(class_raster, target) as rows,
    ):
        sidecar.write_bytes(category_xml(legend))
        write_geotiff(rows, partial, target=target, legend=legend)
    _remove_stale(target, suffixes=_STALE_SUFFIXES[1:])


def write_class_png(class_raster: xr.DataArray, path: str | Path, *, legend: ClassLegend) -> None:
    """Write classes as a palette PNG: pixel values are the codes, the palette their colours.

    For scenes without georeference; computes the raster in bounded memory, with class names
    in ``<path>.aux.xml`` and reading back as :func:`write_class_geotiff` does.

    Parameters
    ----------
    class_raster : xarray.DataArray
        Dims ("y", "x"), uint8, 0 where there is no class (transparent).
    path : str or Path
        The file; replaced when it exists.
    legend : ClassLegend
        Has every code of the raster.

    Raises
    ------
    OutputError
        When the file cannot be written or the disk is full.
    ParameterError
        When the raster is not uint8 on (y, x), or holds codes that the legend does not have.
    """
    _check_class_raster(class_raster)
    target = Path(path)
    with (
        replacing(target) as partial,
        replacing(_sidecar(target)) as sidecar,
        _row_source(class_raster, target) as rows,
        scratch_folder(target) as scratch,
    ):
        sidecar.write_bytes(category_xml(legend))
        # The PNG driver of GDAL can only copy a dataset, not take windows.
        checksum = write_geotiff(rows, scratch / "classes.tif", target=target, legend=legend)
        with gdal_writing(target):
            rasterio.shutil.copy(scratch / "classes.tif", partial, driver="PNG")
        check_written(partial, checksum, target=target)
    _remove_stale(target, suffixes=_STALE_SUFFIXES[1:])


def write_float_geotiff(
    values: xr.DataArray, path: str | Path, *, class_raster: xr.DataArray | None = None
) -> None:
    """Write confidence, margin, entropy or probabilities as a float32 GeoTIFF.

    Nodata is NaN: 0 is an honest margin or entropy, so it cannot also mean nodata. Computes,
    writes and reads back as :func:`write_class_geotiff` does.

    Parameters
    ----------
    values : xarray.DataArray
        Dims ("y", "x"), or a band a name in a dimension before them, such as
        ("class", "y", "x"); converted to float32.
    path : str or Path
        The file; replaced when it exists.
    class_raster : xarray.DataArray, optional
        Classes on the same grid; where they are 0 the file has NaN. Without it, values are
        written as they are.

    Raises
    ------
    OutputError
        When the file cannot be written or the disk is full.
    ParameterError
        When dimensions or shapes do not fit.
    """
    if values.dims[-2:] != ("y", "x") or values.ndim > 3:
        raise ParameterError(
            f"A raster must have the dims y and x, with at most one before them, got {values.dims}."
        )
    floats = values.astype(np.float32)
    if class_raster is not None:
        if class_raster.dims != ("y", "x") or class_raster.shape != values.shape[-2:]:
            raise ParameterError(
                f"class_raster must have the grid of the values, {values.shape[-2:]}, got "
                f"{class_raster.shape}. Pass the pixel classes of the same result."
            )
        floats = floats.where(xr.DataArray(class_raster.data, dims=("y", "x")) != NODATA_CODE)
    target = Path(path)
    with replacing(target) as partial, _row_source(floats, target) as rows:
        write_geotiff(rows, partial, target=target, legend=None)
    _remove_stale(target, suffixes=_STALE_SUFFIXES)


def write_table_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as CSV (UTF-8, no index, empty cells for missing values).

    Parameters
    ----------
    table : pandas.DataFrame
        The table; floating point in full precision.
    path : str or Path
        The file; replaced when it exists, whole or not at all.

    Raises
    ------
    OutputError
        When the file cannot be written or the disk is full.
    """
    with replacing(path) as partial:
        table.to_csv(partial, index=False, encoding="utf-8", lineterminator="\n")


def storable(result: xr.Dataset) -> xr.Dataset:
    """Prepare for Zarr: regular chunks, JSON attributes, nothing that decodes to floats.

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
            # Fixed-length text has no Zarr 3 specification, text objects have.
            variable = variable.astype(object)
        attributes = plain_values(source.attrs)
        fill = source.encoding.get("_FillValue", source.attrs.get("_FillValue"))
        attributes.pop("_FillValue", None)
        if fill is not None and np.isfinite(fill):
            attributes["nodata"] = plain_values(fill)
        if "grid_mapping" in source.encoding:
            # As an attribute, so that spatial_ref stays a coordinate for any reader.
            attributes["grid_mapping"] = source.encoding["grid_mapping"]
        variable.attrs = attributes
        variable.encoding = {"_FillValue": None}
        plain[name] = variable
    return plain


def _check_class_raster(class_raster: xr.DataArray) -> None:
    if class_raster.dims != ("y", "x"):
        raise ParameterError(f"A class raster must have the dims y and x, got {class_raster.dims}.")
    if class_raster.dtype != np.uint8:
        raise ParameterError(
            f"A class raster must be uint8, got {class_raster.dtype}. Convert it with astype."
        )


@contextmanager
def _row_source(raster: xr.DataArray, target: Path) -> Iterator[xr.DataArray]:
    """Lend the raster in a form from which bands of rows are read at no cost but reading.

    Computing a lazy raster band by band would compute what neighbouring chunks share (halos)
    again for each band, so it is stored first, in one pass, on any scheduler.
    """
    if raster.chunks is None:
        yield raster
        return
    light = {name: coord for name, coord in raster.coords.items() if coord.chunks is None}
    with scratch_folder(target) as scratch:
        bare = storable(xr.Dataset({"values": raster.variable}))
        bare.to_zarr(scratch, mode="w", zarr_format=3, consolidated=False)
        stored = xr.open_zarr(scratch, consolidated=False, mask_and_scale=False, chunks=None)
        rows = stored["values"].assign_coords(light).rename(raster.name)
        if "grid_mapping" in raster.encoding:
            rows.encoding["grid_mapping"] = raster.encoding["grid_mapping"]
        yield rows


def _sidecar(target: Path) -> Path:
    return target.with_name(f"{target.name}.aux.xml")


def _remove_stale(target: Path, suffixes: tuple[str, ...]) -> None:
    """Remove what other software derived from the file that was just replaced."""
    for suffix in suffixes:
        target.with_name(target.name + suffix).unlink(missing_ok=True)
