"""Results as files: Zarr, GeoTIFF, PNG and CSV, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import rasterio.shutil
import xarray as xr
from rasterio.enums import ColorInterp

from csc_xr.errors import ParameterError, SceneError
from csc_xr.files import check_output_folder as check_output_folder
from csc_xr.files import plain_values, replacing, scratch_folder
from csc_xr.files import write_json as write_json
from csc_xr.geotiff import (
    FLOAT_SCALE,
    NO_FLAG,
    NO_NUMBER,
    RasterForm,
    Written,
    check_written,
    checked_flags,
    gdal_writing,
    scaled_numbers,
    write_cog,
    write_geotiff,
)
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.raster_styles import (
    category_xml,
    class_raster_style,
    flag_colour_table,
    flag_raster_style,
    value_raster_style,
)
from csc_xr.result_store import ZARR_FORMAT as ZARR_FORMAT
from csc_xr.result_store import open_result as open_result
from csc_xr.result_store import storable as storable
from csc_xr.result_store import write_result_zarr as write_result_zarr
from csc_xr.scene import SCENE_TAG, TAGGED, open_scene, valid_pixels, validate_scene

_STALE_SUFFIXES = (".aux.xml", ".ovr", ".msk")
_SHOWN = ("red", "green", "blue")
_GEOTIFF_DTYPES = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64",
)  # fmt: skip


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

    The file is cloud-optimised: tiled, compressed by DEFLATE. A raster larger than a tile has
    overviews, which hold the commonest class (the class of one pixel, where there are pixels of
    a class for display only, such as a front: the commonest class would take a line away).
    Legend, software and statistics are tags of the file.

    Beside it lie ``<path>.aux.xml``, an attribute table with names, colours and numbers of
    pixels, where GDAL and QGIS look for it, and the style ``<name>.qml``, with which QGIS opens
    the raster in the names and colours of the legend.

    Computes the raster, in memory bounded by its chunks and 512 of its rows. What was written is
    read back and compared, because GDAL does not report every failure.

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
    _write_classes(class_raster, Path(path), legend, write_cog)


def write_class_png(class_raster: xr.DataArray, path: str | Path, *, legend: ClassLegend) -> None:
    """Write classes as a palette PNG: pixel values are the codes, the palette their colours.

    For scenes without georeference; computes the raster in bounded memory, with class names
    in ``<path>.aux.xml``, style and reading back as :func:`write_class_geotiff` does.

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
    _write_classes(class_raster, Path(path), legend, _write_png)


def write_float_geotiff(
    values: xr.DataArray,
    path: str | Path,
    *,
    class_raster: xr.DataArray | None = None,
    scale: float = FLOAT_SCALE,
    unit: str = "1",
    highest: float = 1.0,
) -> None:
    """Write confidence, margin, entropy or probabilities as a GeoTIFF of scaled integers.

    The file holds uint16 numbers; a number times `scale` is the value, within half of `scale`.
    Scale, offset 0 and unit are stated in the file, where GDAL, QGIS, rioxarray
    (``mask_and_scale=True``) and others look for them, as are exact statistics of the numbers.
    Nodata is 65535: 0 is an honest margin or entropy. The file is cloud-optimised, its
    overviews are means; beside it lies the style ``<name>.qml``. Computes, writes and reads back
    as :func:`write_class_geotiff` does.

    Parameters
    ----------
    values : xarray.DataArray
        Dims ("y", "x"), or a band a name in a dimension before them, such as
        ("class", "y", "x"); floating point from 0 to 65534 times `scale`, NaN where there is
        no value.
    path : str or Path
        The file; replaced when it exists.
    class_raster : xarray.DataArray, optional
        Classes on the same grid; where they are 0 the file has nodata. Without it, values are
        written as they are.
    scale : float
        Step between neighbouring values; by default 0.0001, which reaches to 6.5534 (the
        entropy of 254 classes is 5.54 at most).
    unit : str
        Unit of the values.
    highest : float
        Value of the last colour of the style.

    Raises
    ------
    OutputError
        When the file cannot be written or the disk is full.
    ParameterError
        When dimensions or shapes do not fit, or values are out of range.
    """
    if values.dims[-2:] != ("y", "x") or values.ndim > 3:
        raise ParameterError(
            f"A raster must have the dims y and x, with at most one before them, got {values.dims}."
        )
    if not 0 < scale < np.inf:
        raise ParameterError(f"scale must be a positive number, got {scale!r}.")
    floats = values if values.dtype.kind == "f" else values.astype(np.float32)
    if class_raster is not None:
        _check_class_grid(class_raster, values)
        floats = floats.where(xr.DataArray(class_raster.data, dims=("y", "x")) != NODATA_CODE)
    form = RasterForm(
        np.dtype(np.uint16),
        nodata=NO_NUMBER,
        scale=scale,
        encode=partial(scaled_numbers, scale=scale),
        unit=unit,
        overviews="average",
        counted=True,
    )
    _write_styled(floats, Path(path), form, value_raster_style(highest))


def write_flag_geotiff(
    flags: xr.DataArray,
    path: str | Path,
    *,
    labels: tuple[str, str],
    class_raster: xr.DataArray | None = None,
) -> None:
    """Write what is 0 or 1, such as the disagreement of two phases, as a byte GeoTIFF.

    Nodata is 255. The file is cloud-optimised, with colours, statistics (their mean is the share
    of pixels that have 1) and overviews that hold the commoner number; beside it lies the style
    ``<name>.qml``. Computes, writes and reads back as :func:`write_class_geotiff` does.

    Parameters
    ----------
    flags : xarray.DataArray
        Dims ("y", "x"), bool or integer, 0 and 1.
    path : str or Path
        The file; replaced when it exists.
    labels : tuple of str
        What 0 and 1 mean, for the style.
    class_raster : xarray.DataArray, optional
        Classes on the same grid; where they are 0 the file has nodata.

    Raises
    ------
    OutputError
        When the file cannot be written or the disk is full.
    ParameterError
        When dimensions or shapes do not fit, or there are other numbers.
    """
    if flags.dims != ("y", "x"):
        raise ParameterError(f"Flags must have the dims y and x, got {flags.dims}.")
    numbers = flags.astype(np.uint8)
    if class_raster is not None:
        _check_class_grid(class_raster, flags)
        seen = xr.DataArray(class_raster.data, dims=("y", "x")) != NODATA_CODE
        numbers = numbers.where(seen, np.uint8(NO_FLAG))
    form = RasterForm(
        np.dtype(np.uint8),
        nodata=NO_FLAG,
        table=flag_colour_table(),
        encode=checked_flags,
        overviews="mode",
        counted=True,
    )
    _write_styled(numbers, Path(path), form, flag_raster_style(labels))


def write_scene_geotiff(scene: xr.DataArray, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a scene as a cloud-optimised GeoTIFF, whole or not at all.

    Computes the scene, in memory bounded by its chunks and 512 of its rows; what was written is
    read back and compared. :func:`csc_xr.open_scene` gives back pixels, dtype, band names,
    scale, valid pixels, ``time``, transform and CRS to the bit.

    Pixels that are not valid get the nodata value in every band: that of the scene, or NaN in
    scenes of floating point that have none. Where integers have no nodata value, every number
    may be a measurement: pixels that ``valid`` masks keep theirs and are hidden by a mask
    inside the file.

    Scale, quantification and time are also written where other software looks for
    them: as scale of the bands, so that integers read as reflectance, and as ``TIFFTAG_DATETIME``.

    Parameters
    ----------
    scene : xarray.DataArray
        A scene, dims (band, y, x); integers of 8 to 64 bits, float32 or float64.
    path : str or Path
        The file, usually with the ending ``.tif``.
    overwrite : bool
        True replaces a file that exists, False refuses to.

    Raises
    ------
    SceneError
        When the array is no scene, its dtype has no place in a GeoTIFF, or its pixels cannot
        be read.
    OutputError
        When the file cannot be written, exists already, or the disk is full.
    """
    scene = validate_scene(scene)
    if str(scene.dtype) not in _GEOTIFF_DTYPES:
        raise SceneError(
            f"A GeoTIFF holds {', '.join(_GEOTIFF_DTYPES)}, got a scene of {scene.dtype}. "
            "Convert it with astype, or write a Zarr store with write_scene."
        )
    form = _scene_form(scene)
    if form.nodata is not None:
        valid = valid_pixels(scene).data
        scene = scene.copy(data=da.where(valid, scene.data, scene.dtype.type(form.nodata)))
    if not form.masked:
        scene = scene.drop_vars("valid", errors="ignore")
    _write_alone(scene, Path(path), form, overwrite=overwrite)


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
    with replacing(path) as made:
        table.to_csv(made, index=False, encoding="utf-8", lineterminator="\n")


def _write_classes(
    class_raster: xr.DataArray, target: Path, legend: ClassLegend, write: Callable[..., Written]
) -> None:
    """Write a class raster with its attribute table and style, all of them or none."""
    _check_class_raster(class_raster)
    form = RasterForm(
        np.dtype(np.uint8), nodata=NODATA_CODE, legend=legend, overviews="mode", counted=True
    )
    with (
        replacing(target) as made,
        replacing(_sidecar(target)) as sidecar,
        replacing(style_path(target)) as style,
        _row_source(class_raster, target) as rows,
        scratch_folder(target) as scratch,
    ):
        written = write(rows, made, target=target, form=form, scratch=scratch)
        sidecar.write_bytes(category_xml(legend, written.by_code))
        style.write_text(class_raster_style(legend), encoding="utf-8")
    _remove_stale(target, suffixes=_STALE_SUFFIXES[1:])


def _write_png(
    raster: xr.DataArray, made: Path, *, target: Path, form: RasterForm, scratch: Path
) -> Written:
    """Write a PNG and read it back, as :func:`csc_xr.geotiff.write_cog` does a GeoTIFF."""
    # The PNG driver of GDAL can only copy a dataset, not take windows.
    plain = scratch / "classes.tif"
    written = write_geotiff(raster, plain, target=target, form=form)
    with gdal_writing(target):
        rasterio.shutil.copy(plain, made, driver="PNG")
    check_written(made, written.checksum, target=target)
    return written


def _scene_form(scene: xr.DataArray) -> RasterForm:
    nodata = scene.attrs.get("_FillValue", np.nan if scene.dtype.kind == "f" else None)
    kept = {key: scene.attrs[key] for key in TAGGED if key in scene.attrs}
    kept["dtype"] = str(scene.dtype)
    tags = {}
    time = scene.coords.get("time")
    if time is not None and time.ndim == 0 and not np.isnat(time.values):
        kept["time"] = str(time.values)
        tags["TIFFTAG_DATETIME"] = time.dt.strftime("%Y:%m:%d %H:%M:%S").item()
    names = scene["band"].values.tolist()
    shown = set(_SHOWN) <= set(names)
    return RasterForm(
        scene.dtype,
        nodata=nodata,
        scale=1.0 / float(scene.attrs.get("quantification", 1.0)),
        overviews="average",
        tags={**tags, SCENE_TAG: json.dumps(plain_values(kept))},
        masked=nodata is None and "valid" in scene.coords,
        colours=tuple(
            ColorInterp[name] if shown and name in _SHOWN else ColorInterp.undefined
            for name in names
        ),
    )


def _write_alone(
    raster: xr.DataArray, target: Path, form: RasterForm, *, overwrite: bool = True
) -> None:
    """Write a GeoTIFF that has no file beside it."""
    with (
        replacing(target, overwrite=overwrite) as made,
        _row_source(raster, target) as rows,
        scratch_folder(target) as scratch,
    ):
        write_cog(rows, made, target=target, form=form, scratch=scratch)
    _remove_stale(target, suffixes=_STALE_SUFFIXES)


def _write_styled(raster: xr.DataArray, target: Path, form: RasterForm, qml: str) -> None:
    """Write a GeoTIFF with a style beside it."""
    with replacing(style_path(target)) as style:
        style.write_text(qml, encoding="utf-8")
        _write_alone(raster, target, form)


def style_path(raster: Path) -> Path:
    """Give the path where QGIS looks for the style of a raster.

    Parameters
    ----------
    raster : Path
        The raster file.

    Returns
    -------
    Path
        Beside it, with the ending ``.qml`` in place of its own.
    """
    return raster.with_suffix(".qml")


def _check_class_grid(class_raster: xr.DataArray, values: xr.DataArray) -> None:
    if class_raster.dims != ("y", "x") or class_raster.shape != values.shape[-2:]:
        raise ParameterError(
            f"class_raster must have the grid of the values, {values.shape[-2:]}, got "
            f"{class_raster.shape}. Pass the pixel classes of the same result."
        )


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
        heavy = {
            name: coord.variable
            for name, coord in raster.coords.items()
            if coord.chunks is not None
        }
        bare = storable(xr.Dataset({"values": raster.variable, **heavy}))
        bare.to_zarr(scratch, mode="w", zarr_format=ZARR_FORMAT, consolidated=False)
        stored = xr.open_zarr(scratch, consolidated=False, mask_and_scale=False, chunks=None)
        kept = {name: stored[name].variable for name in heavy}
        rows = stored["values"].assign_coords({**light, **kept}).rename(raster.name)
        if "grid_mapping" in raster.encoding:
            rows.encoding["grid_mapping"] = raster.encoding["grid_mapping"]
        yield rows


def _sidecar(target: Path) -> Path:
    return target.with_name(f"{target.name}.aux.xml")


def _remove_stale(target: Path, suffixes: tuple[str, ...]) -> None:
    """Remove what other software derived from the file that was just replaced."""
    for suffix in suffixes:
        target.with_name(target.name + suffix).unlink(missing_ok=True)
