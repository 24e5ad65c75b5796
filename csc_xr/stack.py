"""Stacks: scenes of one grid along a leading dim, from files and Zarr stores and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize
from dask.core import flatten
from dask.optimization import cull
from numpy.typing import NDArray

from csc_xr.dates import date_in_name
from csc_xr.errors import SceneError
from csc_xr.grid import same_grid, scene_transform
from csc_xr.raster import CHUNK, Chunks, RasterWindows
from csc_xr.scene import IMAGE_SUFFIXES, find_images, open_scene, validate_scene
from csc_xr.stores import (
    NodataWhen,
    is_store,
    open_store,
    with_aligned_valid,
    with_settings,
    write_store,
)

Times = NDArray[np.datetime64]


def open_stack(
    source: str | Path | Sequence[str | Path],
    *,
    times: Sequence[Any] | None = None,
    bands: Sequence[str | int] | None = None,
    band_names: Sequence[str] | None = None,
    scale: float | None = None,
    nodata: float | None = None,
    chunks: Chunks | None = None,
    nodata_when: NodataWhen | None = None,
) -> xr.DataArray:
    """Open scenes of one grid as a stack.

    Pixels stay on disk until they are computed; what is read here is headers, as
    :func:`csc_xr.open_scene` does.

    Parameters
    ----------
    source : str, Path or sequence of these
        Images; or a folder, whose images are taken as :func:`csc_xr.find_images` lists them; or a
        Zarr store (format 2 or 3) whose one variable of four dimensions, or variable ``stack``,
        is the stack.
    times : sequence, optional
        When each scene was taken, in the order of `source`: text of ISO 8601, ``datetime`` or
        ``datetime64``; a time zone is turned into UTC. By default what the store holds, or the
        dates in the names of the images, if every name holds exactly one, as ``20210715``,
        ``2021-07-15`` or ``20210715T143751``, and no two are equal.
    bands, band_names, scale, nodata, chunks, nodata_when : optional
        Of every scene, as for :func:`csc_xr.open_scene`.

    Returns
    -------
    xarray.DataArray
        Dims ("time", "band", "y", "x"), sorted by time, when there are times, else ("scene",
        "band", "y", "x") in the order of `source`; Dask-backed, one scene to a chunk. Coordinates
        and attributes of a scene, ``valid`` (time or scene, y, x) when any scene has a mask,
        ``scene``, the name of each, and for images ``source``, their paths.

    Raises
    ------
    SceneError
        When an image cannot be opened, differs from the first in grid, bands, dtype, scale or
        nodata, or has the name of another; or when `times` do not fit.
    """
    if isinstance(source, str | Path) and is_store(Path(source)):
        path = Path(source)
        stack = open_store(
            path, "stack", _leading_dim, bands=bands, band_names=band_names, chunks=chunks
        )
        stack = with_settings(stack, path, scale=scale, nodata=nodata, nodata_when=nodata_when)
        lead = _leading_dim(stack)
        if times is not None:
            stack = _timed(stack, lead, _different_times(times, stack.sizes[lead]))
        return validate_stack(stack)
    paths = _image_paths(source)
    names = _checked_names([path.stem for path in paths])
    moments = _dates_in(names) if times is None else _different_times(times, len(paths))
    order = range(len(paths)) if moments is None else np.argsort(moments).tolist()
    open_one = partial(
        open_scene,
        bands=bands,
        band_names=band_names,
        scale=scale,
        nodata=nodata,
        nodata_when=nodata_when,
    )
    stack = _open_images([paths[index] for index in order], open_one, chunks)
    if isinstance(source, str | Path):
        stack = stack.rename(Path(source).stem)
    return stack if moments is None else _timed(stack, "scene", moments[order])


def validate_stack(stack: xr.DataArray) -> xr.DataArray:
    """Check an array and complete it to a stack.

    Parameters
    ----------
    stack : xarray.DataArray
        Dims time or scene, band, y and x in any order; Dask, NumPy or lazily opened.

    Returns
    -------
    xarray.DataArray
        The same pixels as :func:`open_stack` gives them, with what was absent: what a scene
        has, and names of the scenes, made from their times or numbers. A mask of dims (y, x) is
        spread over all scenes. Lazy; the argument is left as it is.

    Raises
    ------
    SceneError
        When dims, names, times or anything a scene has cannot be those of a stack.

    Examples
    --------
    >>> pixels = xr.DataArray(np.zeros((2, 3, 4, 5), "uint8"), dims=("scene", "band", "y", "x"))
    >>> stack = validate_stack(pixels)
    >>> stack.scene.values.tolist(), stack.data.numblocks
    (['scene_1', 'scene_2'], (2, 1, 1, 1))
    """
    lead = _leading_dim(stack)
    stack = stack.transpose(lead, "band", "y", "x")
    if lead == "time":
        moments = _times_of(stack)
        stack = stack.assign_coords(time=moments)
        if np.any(np.diff(moments) < np.timedelta64(0)):
            stack = stack.isel(time=np.argsort(moments))
    first = validate_scene(stack.isel({lead: 0}, drop=True))
    same = {name: coord.variable for name, coord in first.coords.items() if name != "valid"}
    stack = stack.assign_coords({**same, "scene": (lead, _names_of(stack, lead))})
    stack.attrs, stack.encoding = first.attrs, first.encoding
    sides = {} if isinstance(stack.data, da.Array) else {"y": CHUNK, "x": CHUNK}
    stack = stack.copy(data=stack.variable.chunk({lead: 1, "band": -1, **sides}).data)
    if "valid" in stack.coords and lead not in stack.coords["valid"].dims:
        shared = stack.coords["valid"].expand_dims({lead: stack.sizes[lead]})
        stack = stack.assign_coords(valid=shared.variable)
    return with_aligned_valid(stack)


def stack_names(stack: xr.DataArray) -> list[str]:
    """List the names of the scenes in a stack.

    Parameters
    ----------
    stack : xarray.DataArray
        A stack.

    Returns
    -------
    list of str
        In the order of the stack; each once.

    Raises
    ------
    SceneError
        When the array is no stack.
    """
    return [str(name) for name in validate_stack(stack).coords["scene"].values]


def stack_scene(stack: xr.DataArray, position: int) -> xr.DataArray:
    """Take one scene out of a stack.

    Parameters
    ----------
    stack : xarray.DataArray
        A stack.
    position : int
        Which scene, from 0; from -1 downwards, counted from the end.

    Returns
    -------
    xarray.DataArray
        The scene, with its name, and with its ``time`` if it has one. Lazy; its graph knows
        nothing of the other scenes but, for images read in place, their paths.

    Raises
    ------
    SceneError
        When the array is no stack, or has no such scene.
    """
    stack = validate_stack(stack)
    lead, count = stack.dims[0], len(stack)
    if not isinstance(position, int | np.integer) or not -count <= position < count:
        raise SceneError(
            f"The position of a scene must be a whole number from 0 to {count - 1}, got "
            f"{position!r}. stack_names lists the scenes in order."
        )
    scene = stack.isel({lead: int(position)})
    if "source" in scene.coords:
        scene = scene.assign_attrs(source=str(scene.coords["source"].item()))
    name = str(scene.coords["scene"].item())
    scene = validate_scene(scene.drop_vars(["scene", "source"], errors="ignore").rename(name))
    if "valid" in scene.coords:
        scene = scene.assign_coords(valid=(("y", "x"), _culled(scene.coords["valid"].data)))
    return scene.copy(data=_culled(scene.data))


def write_stack(stack: xr.DataArray, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a stack as a Zarr store (format 3), whole or not at all.

    Computes the stack, chunk by chunk. :func:`open_stack` gives back pixels, dtype, names of
    scenes and bands, times, scale, nodata, ``valid``, coordinates, transform and CRS to the bit.

    Parameters
    ----------
    stack : xarray.DataArray
        A stack.
    path : str or Path
        The store, usually with the ending ``.zarr``; one scene to a chunk. The paths of images
        (coordinate ``source``) are left out.
    overwrite : bool
        True replaces a store that exists, False refuses to.

    Raises
    ------
    SceneError
        When the array is no stack, or its pixels cannot be read.
    OutputError
        When the store cannot be written, or exists already.
    """
    stack = validate_stack(stack).drop_vars("source", errors="ignore")
    write_store(stack, path, "stack", overwrite=overwrite)


@dataclass(frozen=True)
class StackWindows:
    """Windows of raster files, of which a read takes those it is for.

    Attributes
    ----------
    members : tuple of RasterWindows
        One for each scene, all of one shape and dtype.
    shape : tuple of int
        Scenes, bands, rows, columns.
    dtype : numpy.dtype
        Of the pixels.
    """

    members: tuple[RasterWindows, ...]
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]

    def read(self, key: tuple[slice, slice, slice, slice]) -> NDArray[Any]:
        """Read one window of some scenes.

        Parameters
        ----------
        key : tuple of slice
            Scenes, bands, rows and columns.

        Returns
        -------
        numpy.ndarray
            Shape (scenes, bands, rows, columns).
        """
        return np.stack([member.read(key[1:]) for member in self.members[key[0]]])


def _image_paths(source: str | Path | Sequence[str | Path]) -> list[Path]:
    if not isinstance(source, str | Path):
        paths = [Path(path) for path in source]
        if not paths:
            raise SceneError("A stack must have at least one scene, got an empty list of images.")
        return paths
    folder = Path(source)
    if not folder.is_dir():
        raise SceneError(
            f"A stack must be a folder of images, a Zarr store or a list of images, but {folder} "
            "is none. Check the path; one image is opened with open_scene."
        )
    paths = find_images(folder)
    if not paths:
        raise SceneError(
            f"The folder {folder} must hold images ({', '.join(IMAGE_SUFFIXES)}), got none. "
            "Check the path; folders inside it are not looked at."
        )
    return paths


def _open_images(
    paths: Sequence[Path], open_one: Callable[..., xr.DataArray], chunks: Chunks | None
) -> xr.DataArray:
    """Open images in this order, along dim scene."""
    first = open_one(paths[0], chunks=chunks)
    sides = tuple(lengths[0] for lengths in first.data.chunks[1:])
    pixels, masks = [first.data], [first.coords.get("valid")]
    for path in paths[1:]:  # what else a scene holds would fill the memory
        scene = open_one(path, chunks=sides)
        _check_alike(scene, first)
        pixels.append(scene.data)
        masks.append(scene.coords.get("valid"))
    shared = {"band", "y", "x", first.rio.grid_mapping} & set(first.coords)
    coords: dict[Any, Any] = {name: first.coords[name].variable for name in shared}
    coords["scene"] = [path.stem for path in paths]
    coords["source"] = ("scene", [str(path) for path in paths])
    dims = ("scene", *first.dims)
    stack = xr.DataArray(_stacked(pixels), dims=dims, coords=coords, attrs=first.attrs)
    stack.encoding = first.encoding
    del stack.attrs["source"]
    if any(mask is not None for mask in masks):
        every = da.ones(first.shape[1:], dtype=bool, chunks=first.data.chunks[1:])
        seen = [every if mask is None else mask.data for mask in masks]
        stack = stack.assign_coords(valid=(("scene", "y", "x"), da.stack(seen)))
    return stack.rename("stack")


def _check_alike(scene: xr.DataArray, first: xr.DataArray) -> None:
    """Raise where a scene differs from the first in what all scenes of a stack share."""
    facts = [
        ("set of bands", "Choose bands with bands=, or name them with band_names="),
        ("dtype", "Convert the image"),
        ("scale", "Pass scale="),
        ("nodata value", "Pass nodata="),
        ("nodata_when", "Pass nodata_when="),
        ("size", "Resample the image to the grid of the others"),
        ("place", "Resample the image to the grid of the others"),
    ]
    for (what, remedy), found, wanted in zip(facts, _facts(scene), _facts(first), strict=True):
        if found != wanted and not (what == "place" and same_grid(scene, first)):
            raise SceneError(
                f"The scenes of a stack must have one {what}, but {scene.attrs['source']} has "
                f"{found}, and {first.attrs['source']} {wanted}. {remedy}, or leave the image out."
            )


def _facts(scene: xr.DataArray) -> tuple[str, ...]:
    crs = scene.rio.crs
    return (
        ", ".join(scene.coords["band"].values.tolist()),
        str(scene.dtype),
        f"{scene.attrs['scale']:g}",
        str(scene.attrs.get("_FillValue", "none")),  # as text, NaN equals NaN
        scene.attrs["nodata_when"],
        f"{scene.sizes['y']} x {scene.sizes['x']} pixels",
        f"{'no CRS' if crs is None else crs.to_string()} and the transform "
        f"{tuple(scene_transform(scene))[:6]}",
    )


def _stacked(arrays: Sequence[da.Array]) -> da.Array:
    """Stack scenes: as one lazy layer where a chunk is a window of a file.

    A thousand scenes then weigh no more than one. Stacked one by one they make as many layers, all
    of which dask looks at whenever it computes.
    """
    members = tuple(window for array in arrays for window in _windows_of(array))
    if len(members) < len(arrays):
        return da.stack(arrays)
    shape = (len(members), *members[0].shape)
    windows = StackWindows(members, shape, members[0].dtype)
    return da.from_array(
        windows,
        chunks=(1, *arrays[0].chunks),
        name=f"read-stack-{tokenize(windows, arrays[0].chunks)}",
        getitem=StackWindows.read,
        meta=np.empty((0, 0, 0, 0), windows.dtype),
    )


def _windows_of(array: da.Array) -> list[RasterWindows]:
    """Look up the file whose windows are the chunks of an array, if they are that."""
    layers = list(array.dask.layers.values())
    arguments = getattr(layers[0], "indices", ()) if len(layers) == 1 else ()
    return [value for value, _ in arguments if isinstance(value, RasterWindows)]


def _culled(array: da.Array) -> da.Array:
    """Leave what the array is made of in its graph, and nothing else."""
    keys = set(flatten(array.__dask_keys__()))
    # By layers first, which is cheap but keeps some whole; then task by task.
    graph, _ = cull(array.dask.cull(keys).to_dict(), keys)
    return da.Array(graph, array.name, array.chunks, meta=array._meta)


def _leading_dim(stack: xr.DataArray) -> str:
    if not isinstance(stack, xr.DataArray):
        raise SceneError(
            f"A stack must be an xarray.DataArray, got {type(stack).__name__}. "
            "Open images with open_stack; take one variable of a Dataset."
        )
    leads = [lead for lead in ("time", "scene") if lead in stack.dims]
    if len(leads) != 1 or set(stack.dims) != {*leads, "band", "y", "x"} or 0 in stack.shape:
        raise SceneError(
            "A stack must have dims time or scene, band, y and x, none of length 0, got "
            f"{dict(stack.sizes)}. Rename dims with .rename; a single scene is made a stack with "
            ".expand_dims('scene')."
        )
    return leads[0]


def _timed(stack: xr.DataArray, lead: str, moments: Times) -> xr.DataArray:
    """Give a stack other times, and keep its names."""
    names = stack.coords["scene"].values if "scene" in stack.coords else None
    stack = stack.drop_vars(["time", "scene"], errors="ignore")
    stack = stack.rename({lead: "time"} if lead != "time" else {}).assign_coords(time=moments)
    return stack if names is None else stack.assign_coords(scene=("time", names))


def _times_of(stack: xr.DataArray) -> Times:
    times = stack.coords["time"].values if "time" in stack.coords else np.empty(0)
    if times.dtype.kind != "M":
        raise SceneError(
            "A stack along time must have a coordinate time of dtype datetime64, got "
            f"{times.dtype if times.size else 'none'}. Pass times= to open_stack, or name the "
            "dim scene."
        )
    return _different_times(times, len(times))


def _different_times(times: Sequence[Any] | NDArray[Any], count: int) -> Times:
    plain = [str(time) if isinstance(time, int | float) else time for time in times]
    try:
        # One by one text of many forms, dates and datetimes; without a zone they count as UTC.
        index = pd.to_datetime(plain, utc=True, format="ISO8601").tz_localize(None)
        found = index.as_unit("ns").to_numpy()
    except (TypeError, ValueError):
        found = np.empty(0, "datetime64[ns]")
    if len(found) != count or np.isnat(found).any() or len(set(found)) < count:
        shown = ", ".join(map(str, plain[:5])) + ", ..." * (len(plain) > 5)
        raise SceneError(
            f"times must be {count} different dates, with or without a time of day, one for each "
            f"scene, got {len(plain)}: {shown}. Correct them, for example to "
            "'2021-07-15T14:37:51', or stack the scenes along dim scene."
        )
    return found


def _dates_in(names: Sequence[str]) -> Times | None:
    """Dates in the names of images; None unless each has one of its own."""
    moments = [date_in_name(name) for name in names]
    if None in moments or len(set(moments)) < len(names):
        return None
    return _different_times(moments, len(names))


def _names_of(stack: xr.DataArray, lead: str) -> list[str]:
    if "scene" not in stack.coords:
        if lead == "scene":
            return [f"scene_{number}" for number in range(1, stack.sizes[lead] + 1)]
        moments = pd.DatetimeIndex(stack.coords["time"].values)
        whole_days = (moments == moments.normalize()).all()
        form = "%Y%m%d" if whole_days else "%Y%m%dT%H%M%S"
        return _checked_names(moments.strftime(form).tolist())
    names = stack.coords["scene"]
    if names.dims != (lead,):
        raise SceneError(
            f"Coordinate scene must name each scene along {lead}, got dims {names.dims}. "
            "Assign names, or drop it."
        )
    return _checked_names([str(name) for name in names.values])


def _checked_names(names: list[str]) -> list[str]:
    doubles = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubles:
        raise SceneError(
            f"Each scene of a stack must have a name of its own, got {', '.join(doubles[:10])} "
            "more than once. Rename the files, or assign names as coordinate scene."
        )
    return names
