"""Zarr stores of scenes and stacks, and what opening and writing both kinds of image share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from csc_xr.bands import check_count, choose_bands, names_of, nodata_in_dtype
from csc_xr.errors import SceneError
from csc_xr.files import plain_values, replacing
from csc_xr.raster import CHUNK, Chunks, chunk_sizes, near_blocks

NodataWhen = Literal["any", "all"]
StoreName = Literal["scene", "stack"]

_ZARR_MARKS = ("zarr.json", ".zgroup", ".zmetadata")
_STORED = {"scene": (3, "band, y, x"), "stack": (4, "time or scene, band, y, x")}


def is_store(path: Path) -> bool:
    """Tell whether a folder is a Zarr store, of format 2 or 3.

    Parameters
    ----------
    path : Path
        Any path, there or not.

    Returns
    -------
    bool
        True when it holds the file that marks a store; nothing is opened.
    """
    return any((path / mark).exists() for mark in _ZARR_MARKS)


def open_store(
    path: Path,
    name: StoreName,
    check: Callable[[xr.DataArray], object],
    *,
    bands: Sequence[str | int] | None,
    band_names: Sequence[str] | None,
    chunks: Chunks | None,
) -> xr.DataArray:
    """Open the scene or stack in a Zarr store.

    Reads coordinates and attributes; pixels stay on disk until they are computed.

    Parameters
    ----------
    path : Path
        A folder.
    name : {"scene", "stack"}
        What it holds: the variable of this name, or the only one of as many dimensions.
    check : callable
        Takes the variable as it is stored; raises SceneError when its dims are wrong.
    bands : sequence of str or int, optional
        Bands to take, in this order, by name or by number from 1; all by default.
    band_names : sequence of str, optional
        Names of the bands; by default those stored.
    chunks : int, tuple of int or mapping, optional
        Rows and columns of a chunk, -1 for all. By default whole stored chunks, near 1024.

    Returns
    -------
    xarray.DataArray
        Dims in the order stored, dtype as stored, Dask-backed: all bands in one chunk, and of
        a stack one scene. Not yet checked but for its dims.

    Raises
    ------
    SceneError
        When the folder is no Zarr store, cannot be read, holds no such variable, or an option
        does not fit it.
    """
    if not is_store(path):
        raise SceneError(
            f"{path} must be an image, but is a folder and no Zarr store. "
            "Pass one of the images in it; find_images lists them."
        )
    image = _stored_image(path, name)
    check(image)
    names = list(band_names) if band_names is not None else names_of(image)
    check_count(names, image.sizes["band"], path)
    image = image.assign_coords(band=names).isel(band=choose_bands(names, bands))
    stored = image.encoding.get("preferred_chunks", {})
    sides = chunk_sizes(chunks, (image.sizes["y"], image.sizes["x"])) or tuple(
        near_blocks(stored.get(dim, CHUNK), CHUNK, image.sizes[dim]) for dim in ("y", "x")
    )
    lengths = {"band": -1, "y": sides[0], "x": sides[1]}
    chunked = image.variable.chunk({dim: lengths.get(str(dim), 1) for dim in image.dims})
    return image.copy(data=chunked.data)  # names and times stay in memory


def write_store(image: xr.DataArray, path: str | Path, name: StoreName, *, overwrite: bool) -> None:
    """Write a scene or stack as a Zarr store (format 3), whole or not at all.

    Computes it, chunk by chunk.

    Parameters
    ----------
    image : xarray.DataArray
        A scene or stack that is complete, as ``validate_scene`` and ``validate_stack`` give it.
    path : str or Path
        The store.
    name : {"scene", "stack"}
        Name of the variable.
    overwrite : bool
        True replaces a store that exists, False refuses to.

    Raises
    ------
    SceneError
        When the pixels cannot be read.
    OutputError
        When the store cannot be written, or exists already.
    """
    image = image.drop_encoding().drop_vars(name, errors="ignore")  # as isel leaves of a stack
    image.attrs = {  # the nodata value keeps its dtype
        key: value if key == "_FillValue" else plain_values(value)
        for key, value in image.attrs.items()
    }
    texts = {key: coord for key, coord in image.coords.items() if coord.dtype.kind == "U"}
    image = image.assign_coords(  # fixed-length text has no place in Zarr format 3
        {key: (coord.dims, coord.values.astype(object)) for key, coord in texts.items()}
    )
    # Zarr wants equal chunks, xarray would otherwise declare NaN as nodata of all floats.
    even = image.data.rechunk(tuple(max(lengths) for lengths in image.data.chunks))
    dataset = with_aligned_valid(image.copy(data=even)).rename(name).to_dataset()
    encoding: dict[Any, dict[str, Any]] = {
        key: {} if "_FillValue" in variable.attrs else {"_FillValue": None}
        for key, variable in dataset.variables.items()
    }
    if "spatial_ref" in image.coords:
        encoding[name]["grid_mapping"] = "spatial_ref"
    with replacing(path, folder=True, overwrite=overwrite) as partial:
        dataset.to_zarr(partial, zarr_format=3, consolidated=False, encoding=encoding)


def with_settings(
    image: xr.DataArray,
    source: Path,
    *,
    scale: float | None,
    nodata: float | None,
    nodata_when: NodataWhen | None,
) -> xr.DataArray:
    """Name a scene or stack after its source, and put what the user gave in place of its own.

    Parameters
    ----------
    image : xarray.DataArray
        As opened from a file or store.
    source : Path
        The file or store; becomes the attribute ``source``, its stem the name.
    scale : float, optional
        What networks divide pixels by.
    nodata : float, optional
        Value of pixels without data.
    nodata_when : {"any", "all"}, optional
        Whether one band or all decide that a pixel has no data.

    Returns
    -------
    xarray.DataArray
        The same pixels; lazy ones stay so. What is None keeps the attribute the image has.

    Raises
    ------
    SceneError
        When no pixel of this dtype can have the value `nodata`.
    """
    settings = {"scale": scale, "nodata_when": nodata_when, "source": str(source)}
    given: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
    if nodata is not None:
        given["_FillValue"] = nodata_in_dtype(nodata, image.dtype)
        if given["_FillValue"] is None:
            raise SceneError(
                f"nodata must be a value that pixels of dtype {image.dtype} can have, got "
                f"{nodata}. Leave it out, or pass the value the file uses."
            )
    return image.assign_attrs(given).rename(source.stem)


def with_aligned_valid(image: xr.DataArray) -> xr.DataArray:
    """Give the ``valid`` coordinate, if there is one, the image's order and chunks.

    Parameters
    ----------
    image : xarray.DataArray
        A scene or stack, Dask-backed.

    Returns
    -------
    xarray.DataArray
        The same image; ``valid`` is bool, with the dims of the image but band. Lazy.

    Raises
    ------
    SceneError
        When ``valid`` has other dims.
    """
    if "valid" not in image.coords:
        return image
    chunks = dict(zip(image.dims, image.data.chunks, strict=True))
    del chunks["band"]
    valid = image.coords["valid"].reset_coords(drop=True)
    if set(valid.dims) != set(chunks):
        raise SceneError(
            f"Coordinate valid must have dims ({', '.join(map(str, chunks))}), got {valid.dims}. "
            "Drop it, or mask bands by a nodata value instead."
        )
    data = valid.transpose(*chunks).chunk(chunks).data.astype(bool)
    return image.assign_coords(valid=(tuple(chunks), data))


def _stored_image(path: Path, name: StoreName) -> xr.DataArray:
    try:
        dataset = xr.open_dataset(
            path,
            engine="zarr",
            chunks=None,
            mask_and_scale=False,  # integers stay integers
            decode_coords="all",
            consolidated=False,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SceneError(
            f"{path} must be a Zarr store that xarray reads, but opening it failed: {error}. "
            "Write it again, or get it again."
        ) from error
    ndim, dims = _STORED[name]
    images = sorted(str(key) for key, image in dataset.data_vars.items() if image.ndim == ndim)
    if name not in images and len(images) != 1:
        raise SceneError(
            f"{path} must hold one variable of dims ({dims}), or one called {name!r}, got "
            f"{', '.join(images) or 'none'}. Write the {name} to a store of its own."
        )
    return dataset[name if name in images else images[0]]
