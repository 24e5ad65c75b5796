"""Scenes of several products, joined to a stack."""

from __future__ import annotations

from collections.abc import Sequence

import dask.array as da
import xarray as xr

from csc_xr.errors import SceneError
from csc_xr.grid import same_grid, scene_transform
from csc_xr.stack import validate_stack


def join_scenes(scenes: Sequence[xr.DataArray]) -> xr.DataArray:
    """Join scenes of one grid to a stack along time.

    Parameters
    ----------
    scenes : sequence of xarray.DataArray
        At least one scene, each with a scalar coordinate ``time``, in any order.

    Returns
    -------
    xarray.DataArray
        Dims (time, band, y, x), sorted by time, in the chunks of the first scene; coordinate
        ``scene`` holds their names, and ``valid`` (time, y, x) is there if any has it. Lazy.

    Raises
    ------
    SceneError
        When a scene has no time or that of another, or differs from the first in grid, bands or
        dtype.
    """
    first = scenes[0]
    _check_times(scenes)
    for scene in scenes[1:]:
        _check_alike(scene, first)
    chunks = first.data.chunks
    shared = {"band", "y", "x", str(first.rio.grid_mapping)} & set(first.coords)
    stack = xr.DataArray(
        da.stack([scene.data.rechunk(chunks) for scene in scenes]),
        dims=("time", *first.dims),
        coords={
            **{name: first.coords[name].variable for name in shared},
            "time": [scene.coords["time"].values for scene in scenes],
            "scene": ("time", [str(scene.name) for scene in scenes]),
        },
        attrs={key: value for key, value in first.attrs.items() if key != "source"},
        name="stack",
    )
    stack.encoding = first.encoding
    if any("valid" in scene.coords for scene in scenes):
        every = da.ones(first.shape[1:], dtype=bool, chunks=chunks[1:])
        seen = [
            scene.coords["valid"].data.rechunk(chunks[1:]) if "valid" in scene.coords else every
            for scene in scenes
        ]
        stack = stack.assign_coords(valid=(("time", "y", "x"), da.stack(seen)))
    return validate_stack(stack)


def _check_times(scenes: Sequence[xr.DataArray]) -> None:
    known: dict[object, xr.DataArray] = {}
    for scene in scenes:
        if "time" not in scene.coords:
            raise SceneError(
                "Products of a stack must have a sensing time, but none is known of "
                f"{_source(scene)}. Leave it out, or compose it alone and pass times= to "
                "open_stack."
            )
        moment = scene.coords["time"].values.item()
        if moment in known:
            raise SceneError(
                f"Products of a stack must differ in time, but {_source(known[moment])} and "
                f"{_source(scene)} were both taken at {str(scene.coords['time'].values)[:19]}. "
                "They may be one scene processed or packed twice, or neighbouring tiles: leave "
                "one out."
            )
        known[moment] = scene


def _check_alike(scene: xr.DataArray, first: xr.DataArray) -> None:
    for what, found, wanted in (
        (
            "set of bands",
            scene.coords["band"].values.tolist(),
            first.coords["band"].values.tolist(),
        ),
        ("dtype", str(scene.dtype), str(first.dtype)),
        ("scale", scene.attrs["scale"], first.attrs["scale"]),
    ):
        if found != wanted:
            raise SceneError(
                f"The products of a stack must have one {what}, but {_source(scene)} has {found}, "
                f"and {_source(first)} {wanted}. Choose bands that all have, or leave it out."
            )
    if not same_grid(scene, first):
        raise SceneError(
            f"The products of a stack must lie on one grid, but {_source(scene)} has "
            f"{_place(scene)}, and {_source(first)} {_place(first)}. Give all of them one grid "
            "with a box, a CRS or like=, or leave it out."
        )


def _source(scene: xr.DataArray) -> str:
    return str(scene.attrs.get("source", scene.name))


def _place(scene: xr.DataArray) -> str:
    crs = scene.rio.crs
    return (
        f"{scene.sizes['y']} x {scene.sizes['x']} pixels in "
        f"{'no CRS' if crs is None else crs.to_string()} from {tuple(scene_transform(scene))[:6]}"
    )
