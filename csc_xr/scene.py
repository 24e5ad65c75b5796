"""Scenes: images as lazy, georeferenced arrays, from files and Zarr stores and back."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from csc_xr.bands import (
    check_bands,
    choose_bands,
    file_mask,
    file_nodata,
    imagery_bands,
    names_of,
    nodata_in_dtype,
    pixels_with_data,
)
from csc_xr.errors import CscWarning, SceneError
from csc_xr.grid import is_georeferenced, place, same_grid, scene_transform
from csc_xr.raster import (
    CHUNK,
    Chunks,
    check_complete,
    lazy_bands,
    open_raster,
)
from csc_xr.stores import NodataWhen, open_store, with_aligned_valid, with_settings, write_store

__all__ = [
    "IMAGE_SUFFIXES",
    "check_bands",
    "find_images",
    "open_scene",
    "same_grid",
    "scene_transform",
    "valid_pixels",
    "validate_scene",
    "write_scene",
]

IMAGE_SUFFIXES = (".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".zarr")
"""Endings of the names :func:`find_images` takes for images."""

SCENE_TAG = "CSC_SCENE"
"""Name of the tag of a GeoTIFF that keeps what the format has no place for, as JSON."""

TAGGED = ("scale", "nodata_when", "quantification")
"""Attributes of a scene that it keeps besides ``time``."""

_LABEL_NAME = re.compile(r"SCLS|(?:^|[ _.-])(?:EDGE|VM)(?:$|[ _.-])")


def open_scene(
    path: str | Path,
    *,
    bands: Sequence[str | int] | None = None,
    band_names: Sequence[str] | None = None,
    scale: float | None = None,
    nodata: float | None = None,
    mask: str | Path | None = None,
    chunks: Chunks | None = None,
    nodata_when: NodataWhen | None = None,
) -> xr.DataArray:
    """Open an image as a scene.

    Pixels stay on disk until they are computed. What is read here is the header and, to find
    files that were cut short, the places of the blocks of a TIFF or the last pixel of another
    file.

    Parameters
    ----------
    path : str or Path
        GeoTIFF, JP2, PNG, JPEG or another raster file that GDAL reads, or a Zarr store (format
        2 or 3) whose one variable of three dimensions, or variable ``scene``, is the image.
    bands : sequence of str or int, optional
        Bands to take, in this order, by name or by number from 1; all by default.
    band_names : sequence of str, optional
        Names of the file's bands. By default the file's own descriptions, if every band
        has one of its own; else red, green and blue where the file marks them; else ``grey`` for
        1 band, ``red, green, blue`` for 3, ``red, green, blue, nir`` for 4,
        ``band_1, band_2, ...`` for others. A band of numbers into a colour table is called
        ``palette``. A band the file marks as alpha masks pixels and is no imagery, unless
        the names cover it too or the file describes it otherwise: in 8-bit files of 4 bands near
        infrared is often marked so by mistake.
    scale : float, optional
        What networks divide pixels by. By default what the Zarr store, or the GeoTIFF that
        csc_xr wrote, records, else by dtype: 255 for 8-bit integers, 8192 for other integers,
        1 for floats and bool.
    nodata : float, optional
        Value of pixels without data, in place of the file's own.
    mask : str or Path, optional
        Raster file of one band on the same grid; pixels are masked where it is 0 or NaN.
    chunks : int, tuple of int or mapping, optional
        Rows and columns of a chunk, -1 for all. By default near 1024, and whole blocks of a
        tiled file. All bands lie in one chunk.
    nodata_when : {"any", "all"}, optional
        A pixel has no data when any of its bands has none (the default), or only when all have
        none.

    Returns
    -------
    xarray.DataArray
        Dims (band, y, x), Dask-backed, dtype of the file; raw numbers, to which no scale or
        offset of the file is applied. Coordinates ``band``; ``x`` and ``y``, the pixel
        centres on the map, or 0.5, 1.5, ... in a raster that is rotated or has no georeference;
        ``spatial_ref`` if there is a CRS or transform; ``time``, if csc_xr wrote the file and
        knew it; and ``valid`` (y, x), bool, if the file has an alpha band or a mask. Attributes
        ``scale``, ``nodata_when``, ``source`` and, where there is a nodata value,
        ``_FillValue``. For the exact transform, ask :func:`scene_transform`.

    Raises
    ------
    SceneError
        When the file is absent, damaged or no image, or an option does not fit it.

    Warns
    -----
    CscWarning
        When the file is placed on the map by ground control points or RPCs only, which
        are ignored, or a mask has no georeference to check.
    """
    source = Path(path)
    if not source.exists():
        raise SceneError(f"{source} must be an image, but there is no such file. Check the path.")
    if source.is_dir():
        scene = open_store(
            source, "scene", _check_dims, bands=bands, band_names=band_names, chunks=chunks
        )
    else:
        scene = _open_file(source, bands, band_names, chunks, nodata, nodata_when)
    scene = with_settings(scene, source, scale=scale, nodata=nodata, nodata_when=nodata_when)
    scene = validate_scene(scene)
    return scene if mask is None else _with_mask(scene, Path(mask))


def validate_scene(scene: xr.DataArray) -> xr.DataArray:
    """Check an array and complete it to a scene.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims band, y and x in any order; Dask, NumPy or lazily opened.

    Returns
    -------
    xarray.DataArray
        The same pixels with dims (band, y, x), as Dask array with all bands in one chunk, and
        what was absent: band names, ``x`` and ``y``, attributes ``scale`` and
        ``nodata_when``. Lazy; the argument is left as it is.

    Raises
    ------
    SceneError
        When dims, band names, dtype, coordinates or attributes cannot be those of a scene.

    Examples
    --------
    >>> scene = validate_scene(xr.DataArray(np.zeros((3, 4, 5), "uint8"), dims=("band", "y", "x")))
    >>> scene.band.values.tolist(), scene.attrs["scale"]
    (['red', 'green', 'blue'], 255.0)
    """
    if not isinstance(scene, xr.DataArray):
        raise SceneError(
            f"A scene must be an xarray.DataArray, got {type(scene).__name__}. "
            "Open files with open_scene; take one variable of a Dataset."
        )
    _check_dims(scene)
    if scene.dtype.kind not in "buif":
        raise SceneError(
            f"A scene must hold integers or real numbers, got dtype {scene.dtype}. "
            "Convert it, for example to float32."
        )
    scene = scene.transpose("band", "y", "x").assign_coords(band=names_of(scene))
    scene.attrs = _checked_attrs(scene)
    if not {"x", "y"} <= set(scene.coords):
        scene = place(scene, scene_transform(scene), scene.rio.crs)
    scene_transform(scene)  # raises where coordinates are uneven
    if not isinstance(scene.data, da.Array):
        scene = scene.chunk({"band": -1, "y": CHUNK, "x": CHUNK})
    elif len(scene.data.chunks[0]) > 1:
        scene = scene.chunk({"band": -1})
    return with_aligned_valid(scene)


def scene_like(raster: xr.DataArray) -> xr.DataArray:
    """Take any raster as the scene whose grid is meant.

    Parameters
    ----------
    raster : xarray.DataArray
        A scene, or a raster of dims (y, x), such as the classes of a result.

    Returns
    -------
    xarray.DataArray
        A scene; a raster of dims (y, x) is its one band. Lazy.

    Raises
    ------
    SceneError
        As :func:`validate_scene` does.
    """
    on_grid = isinstance(raster, xr.DataArray) and set(raster.dims) == {"y", "x"}
    return validate_scene(raster.expand_dims("band") if on_grid else raster)


def valid_pixels(scene: xr.DataArray) -> xr.DataArray:
    """Find the pixels that hold data.

    A pixel is valid when the ``valid`` coordinate, if there is one, is True, no band is NaN or
    infinite, and no band equals the nodata value (attribute ``_FillValue``); with attribute
    ``nodata_when`` "all", when not all bands equal it.

    Parameters
    ----------
    scene : xarray.DataArray
        A scene.

    Returns
    -------
    xarray.DataArray
        Dims (y, x), bool, on the scene's grid and chunks. Lazy.
    """
    scene = validate_scene(scene)
    found = pixels_with_data(scene).rechunk(scene.data.chunks[1:])
    coords = {
        name: coord
        for name, coord in scene.coords.items()
        if name != "valid" and "band" not in coord.dims
    }
    return xr.DataArray(found, dims=("y", "x"), coords=coords, name="valid")


def write_scene(scene: xr.DataArray, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a scene as a Zarr store (format 3), whole or not at all.

    Computes the scene, chunk by chunk. :func:`open_scene` gives back pixels, dtype, band
    names, scale, nodata, ``valid``, coordinates, transform and CRS to the bit.

    Parameters
    ----------
    scene : xarray.DataArray
        A scene.
    path : str or Path
        The store, usually with the ending ``.zarr``.
    overwrite : bool
        True replaces a store that exists, False refuses to.

    Raises
    ------
    SceneError
        When the array is no scene, or its pixels cannot be read.
    OutputError
        When the store cannot be written, or exists already.
    """
    write_store(validate_scene(scene), path, "scene", overwrite=overwrite)


def find_images(folder: str | Path) -> list[Path]:
    """List the images in a folder.

    Parameters
    ----------
    folder : str or Path
        Searched itself, without the folders in it.

    Returns
    -------
    list of Path
        Files and Zarr stores with the endings of :data:`IMAGE_SUFFIXES`, in any case, sorted by
        name. Left out are names with ``SCLS`` anywhere or with ``EDGE`` or ``VM`` as a
        part of its own (``VM_Helheim.tif``, but not ``SVM_Helheim.tif``), which are label
        rasters, and hidden names.

    Raises
    ------
    SceneError
        When there is no such folder.
    """
    source = Path(folder)
    if not source.is_dir():
        raise SceneError(
            f"Images are looked for in a folder, but {source} is none. Check the path."
        )
    return sorted(
        entry
        for entry in source.iterdir()
        if entry.suffix.lower() in IMAGE_SUFFIXES
        and not entry.name.startswith(".")
        and not _LABEL_NAME.search(entry.stem)
    )


def _open_file(
    source: Path,
    bands: Sequence[str | int] | None,
    band_names: Sequence[str] | None,
    chunks: Chunks | None,
    nodata: float | None,
    nodata_when: NodataWhen | None,
) -> xr.DataArray:
    with open_raster(source) as dataset:
        imagery, names = imagery_bands(dataset, band_names)
        chosen = choose_bands(names, bands)
        numbers = [imagery[index] for index in chosen]
        dtypes = {str(dataset.dtypes[number - 1]) for number in numbers}
        if len(dtypes) > 1 or "complex" in next(iter(dtypes)):
            raise SceneError(
                f"The bands of {source} must be integers or real numbers of one dtype, got "
                f"{', '.join(sorted(dtypes))}. Choose others with bands=, or convert the file."
            )
        check_complete(dataset)
        pixels = lazy_bands(dataset, numbers, chunks=chunks)
        scene = xr.DataArray(pixels, dims=("band", "y", "x"))
        scene = scene.assign_coords(band=[names[index] for index in chosen])
        scene = place(scene, dataset.transform, dataset.crs)
        if not is_georeferenced(scene) and (dataset.gcps[0] or dataset.rpcs):
            warnings.warn(
                f"{source} is placed on the map by ground control points or RPCs only; they are "
                "ignored. Warp it onto a regular grid first to keep its place.",
                CscWarning,
                stacklevel=3,
            )
        if nodata is None:
            scene.attrs["_FillValue"] = file_nodata(dataset, numbers)
        scene = _with_tagged(scene, dataset.tags().get(SCENE_TAG))
        every = nodata_when or scene.attrs.get("nodata_when", "any")
        seen = file_mask(dataset, numbers, imagery=imagery, nodata_when=every)
    return scene if seen is None else scene.assign_coords(valid=(("y", "x"), seen))


def _with_tagged(scene: xr.DataArray, tag: str | None) -> xr.DataArray:
    """Give a scene from a GeoTIFF what csc_xr has kept in its tag."""
    if tag is None:
        return scene
    try:
        kept = json.loads(tag)
        time = kept.get("time")
        if time is not None:
            scene = scene.assign_coords(time=np.datetime64(time, "ns"))
    except (ValueError, AttributeError):  # not ours, or edited
        return scene
    settings = {key: kept[key] for key in TAGGED if key in kept}
    # Other software copies tags to what it makes; of another dtype, the numbers are others.
    return scene.assign_attrs(settings) if kept.get("dtype") == str(scene.dtype) else scene


def _with_mask(scene: xr.DataArray, path: Path) -> xr.DataArray:
    if not path.is_file():
        raise SceneError(f"{path} must be a mask, but there is no such file. Check the path.")
    sides = {dim: max(scene.chunksizes[dim]) for dim in ("y", "x")}
    other = validate_scene(_open_file(path, None, None, sides, None, "any"))
    size, other_size = scene.shape[1:], other.shape[1:]
    placed = is_georeferenced(scene), is_georeferenced(other)
    if (
        other.sizes["band"] != 1
        or size != other_size
        or (all(placed) and not same_grid(scene, other))
    ):
        raise SceneError(
            f"The mask {path} must be one band on the grid of the image, {size[0]} x {size[1]} "
            f"pixels, got {other.sizes['band']} band(s) of {other_size[0]} x {other_size[1]} "
            f"pixels{'' if size != other_size else ' elsewhere'}. "
            "Resample it to the grid of the image by nearest neighbour."
        )
    if placed[0] != placed[1]:
        lacking = path if placed[0] else scene.attrs["source"]
        warnings.warn(
            f"{lacking} has no georeference, so image and mask are taken to lie on one grid.",
            CscWarning,
            stacklevel=3,
        )
    seen = (other.data[0] != 0) & valid_pixels(other).data
    if "valid" in scene.coords:
        seen = seen & scene.coords["valid"].data
    return scene.assign_coords(valid=(("y", "x"), seen.rechunk(scene.data.chunks[1:])))


def _check_dims(scene: xr.DataArray) -> None:
    if set(scene.dims) != {"band", "y", "x"} or 0 in scene.shape:
        raise SceneError(
            f"A scene must have dims band, y and x, none of length 0, got {dict(scene.sizes)}. "
            "Rename dims with .rename; add the band of a single image with .expand_dims('band')."
        )


def _checked_attrs(scene: xr.DataArray) -> dict[str, Any]:
    attrs = dict(scene.attrs)
    given = attrs.pop("_FillValue", attrs.get("missing_value"))
    try:
        nodata = nodata_in_dtype(given, scene.dtype)
    except (TypeError, ValueError) as error:
        raise SceneError(
            f"The nodata value of a scene (attribute _FillValue) must be a number, got {given!r}. "
            "Set it with .rio.write_nodata."
        ) from error
    if nodata is not None:
        attrs["_FillValue"] = nodata
    attrs.setdefault("nodata_when", "any")
    if attrs["nodata_when"] not in ("any", "all"):
        raise SceneError(
            f"nodata_when must be 'any' or 'all', got {attrs['nodata_when']!r}. Pass one of them."
        )
    try:
        attrs["scale"] = float(attrs.get("scale", _default_scale(scene.dtype)))
    except (TypeError, ValueError):
        attrs["scale"] = np.nan
    if not 0 < attrs["scale"] < np.inf:
        raise SceneError(
            f"The scale of a scene must be a positive number, got {scene.attrs['scale']!r}. "
            "Pass scale=255 for 8-bit imagery, or what the network was trained with."
        )
    return attrs


def _default_scale(dtype: np.dtype[Any]) -> float:
    if dtype.kind in "ui":
        return 255.0 if dtype.itemsize == 1 else 8192.0
    return 1.0
