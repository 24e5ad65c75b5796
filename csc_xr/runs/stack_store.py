"""The store of a classified stack: one scene a chunk along its first dimension."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from csc_xr.blockwise import CHUNK
from csc_xr.export import ZARR_FORMAT, storable
from csc_xr.files import replacing
from csc_xr.legend import ClassLegend
from csc_xr.runs.chunks import COMPRESSED
from csc_xr.stack import stack_names

_CLASSES = ("tile_class", "pixel_class", "disagreement")


def make_store(
    stack: xr.DataArray, path: Path, *, outputs: tuple[str, ...], legend: ClassLegend
) -> None:
    """Make the store of a stack's results, empty: all scenes 0, in place of one that is there.

    Parameters
    ----------
    stack : xarray.DataArray
        Dims (time or scene, band, y, x).
    path : Path
        The store.
    outputs : tuple of str
        Variables besides the classes of both phases.
    legend : ClassLegend
        The classes.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    plain = _template(stack, outputs, legend)
    with replacing(path, folder=True, overwrite=True) as partial:
        plain.to_zarr(
            partial, mode="w", zarr_format=ZARR_FORMAT, compute=False, encoding=_encoding(plain)
        )  # fmt: skip


def extend_store(
    stack: xr.DataArray, path: Path, *, known: int, outputs: tuple[str, ...], legend: ClassLegend
) -> None:
    """Make room in a store for scenes that came after those it has.

    Parameters
    ----------
    stack : xarray.DataArray
        Dims (time or scene, band, y, x); begins with the scenes of the store.
    path : Path
        The store.
    known : int
        Number of scenes it has. Room for more, of a run that was killed while it made some, is
        made anew.
    outputs : tuple of str
        Variables besides the classes of both phases.
    legend : ClassLegend
        The classes.
    """
    lead = str(stack.dims[0])
    for left in path.rglob(".z*.partial"):  # of a run that was killed while it made room
        left.unlink(missing_ok=True)
    group = zarr.open_group(path, mode="r+")
    for _, array in group.arrays():
        dims = getattr(array.metadata, "dimension_names", None) or array.attrs.get(
            "_ARRAY_DIMENSIONS", ()
        )
        if tuple(dims[:1]) == (lead,):
            array.resize((known, *array.shape[1:]))
    form: Any = group.metadata.zarr_format  # 3 of stacks begun before results had format 2
    plain = _template(stack.isel({lead: slice(known, None)}), outputs, legend)
    fixed = [name for name in plain.variables if lead not in plain[name].dims]
    plain.drop_vars(fixed).to_zarr(
        path, append_dim=lead, zarr_format=form, consolidated=False, compute=False
    )
    if form == ZARR_FORMAT:
        zarr.consolidate_metadata(path, zarr_format=ZARR_FORMAT)


def _template(stack: xr.DataArray, outputs: tuple[str, ...], legend: ClassLegend) -> xr.Dataset:
    lead = str(stack.dims[0])
    sizes = {name: stack.sizes[name] for name in (lead, "y", "x")}
    coords: dict[str, Any] = {
        str(name): coord.variable
        for name, coord in stack.coords.items()
        if name in (lead, "y", "x", "spatial_ref", "time")
    }
    coords["scene"] = ((lead,), np.array(stack_names(stack), dtype=object))
    made: dict[str, Any] = {}
    for name in ("tile_class", "pixel_class", *outputs):
        dtype = np.uint8 if name in _CLASSES else np.float32
        dims, shape = tuple(sizes), tuple(sizes.values())
        if name == "probability":
            dims = (lead, "class", "y", "x")
            shape = (sizes[lead], len(legend.codes), sizes["y"], sizes["x"])
            coords["class"] = (("class",), list(legend.codes))
        # One chunk here, so that no graph is made: nothing of it is ever computed.
        empty = da.zeros(shape, dtype=dtype, chunks=-1)
        attributes = legend.flag_attributes() if name.endswith("_class") else {}
        made[name] = xr.Variable(dims, empty, attributes)
        if "spatial_ref" in coords:
            made[name].encoding["grid_mapping"] = "spatial_ref"
    return storable(xr.Dataset(made, coords=coords))


def _encoding(plain: xr.Dataset) -> dict[str, dict[str, Any]]:
    found = {}
    for name, variable in plain.data_vars.items():
        sides = [min(CHUNK, n) for n in variable.shape[-2:]]
        between = variable.shape[1:-2]
        found[str(name)] = {"chunks": (1, *between, *sides), "compressors": (COMPRESSED,)}
    return found
