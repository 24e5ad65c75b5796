"""Tiles of nearly one class, cut out of labelled scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from csc_xr.blockwise import leading_blocks
from csc_xr.errors import LabelError, ParameterError, SceneError, TileError
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.priorities import check_seed, lowest_of_each
from csc_xr.scene import check_bands, valid_pixels, validate_scene
from csc_xr.tiles.layout import tile_dataset, tiles_per_chunk
from csc_xr.tiles.purity import WindowRule, majority_codes
from csc_xr.tiles.sets import check_per_class, place_priorities
from csc_xr.windows import check_tile_size, split

_SCENE_BYTES = 2**27  # of the scene that one task cuts tiles from

Found = NDArray[np.int64]  # shape (3, n): code, first row and first column of windows


def extract_tiles(
    scenes: Sequence[xr.DataArray],
    labels: Sequence[xr.DataArray],
    *,
    legend: ClassLegend,
    tile_size: int,
    stride: int,
    purity: float = 0.95,
    max_unlabelled: float = 0.10,
    bands: Sequence[str] | None = None,
    per_class: int | None = None,
    leave_out: Sequence[int] = (),
    seed: int = 0,
) -> xr.Dataset:
    """Cut tiles of nearly one class out of labelled scenes.

    Computes: reads the labels, one scene after another, and where a scene has a nodata value
    or mask its pixels too. The pixels of the tiles stay lazy;
    :func:`csc_xr.tiles.store.write_tiles` streams them into a store. Which tiles there are, and
    their order, depend on neither chunks nor scheduler.

    Parameters
    ----------
    scenes : sequence of xarray.DataArray
        Dims (band, y, x), all of one dtype and scale.
    labels : sequence of xarray.DataArray
        Class codes of each scene, dims (y, x), uint8; 0 is unlabelled.
    legend : ClassLegend
        Classes of the labels.
    tile_size : int
        Side of a tile in pixels.
    stride : int
        Pixels from one window to the next. The last windows touch the last row and column,
        whatever the stride.
    purity : float
        Least share of a tile that its commonest class covers.
    max_unlabelled : float
        Most of a tile that may be unlabelled or not valid, as a share.
    bands : sequence of str, optional
        Names of the bands the tiles hold, in order; by default all of the first scene.
    per_class : int, optional
        Most tiles of a class, over all scenes; all by default.
    leave_out : sequence of int
        Classes whose labels count as unlabelled.
    seed : int
        Decides which tiles are kept when there are more.

    Returns
    -------
    xarray.Dataset
        Labelled tiles as :mod:`csc_xr.tiles.layout` describes them, in the order of the
        scenes, and within each by row and column; pixels that are not valid are 0.

    Raises
    ------
    ParameterError
        When a setting is out of range, or no whole tile fits a scene.
    SceneError
        When there is no scene, or scenes lack bands or differ in dtype or scale.
    LabelError
        When labels do not fit their scene.
    TileError
        When no tile is pure enough, or a class that is labelled has no tile.

    Notes
    -----
    Marochov, Stokes and Carbonneau 2021, The Cryosphere 15:5041-5059: 50 px tiles moved by 25 px.
    """
    rule = WindowRule(tile_size, stride, purity, max_unlabelled)
    rule.check()
    check_seed(seed)
    if per_class is not None:
        check_per_class(per_class)
    unknown = sorted(set(leave_out) - set(legend.codes))
    if unknown:
        raise ParameterError(
            f"leave_out names classes of legend {legend.name!r}, "
            f"{', '.join(map(str, legend.codes))}, got {', '.join(map(str, unknown))}."
        )
    checked = _checked_scenes(scenes, labels, bands, tile_size)
    found, labelled = [], np.zeros(256, np.int64)
    for scene, codes in zip(checked, labels, strict=True):
        windows, pixels = _find_windows(scene, codes, rule, frozenset(leave_out))
        found.append(windows)
        labelled += pixels
    _check_classes(found, labelled, legend, rule)
    if per_class is not None:
        found = _thinned(found, per_class, seed)
    return tile_dataset(
        da.concatenate([_cut(*pair, tile_size) for pair in zip(checked, found, strict=True)]),
        code=np.concatenate([windows[0] for windows in found]),
        scene=_scene_of(found),
        row=np.concatenate([windows[1] for windows in found]),
        column=np.concatenate([windows[2] for windows in found]),
        bands=checked[0]["band"].values.tolist(),
        scale=float(checked[0].attrs["scale"]),
        legend=legend,
        scenes=[scene_entry(scene, number) for number, scene in enumerate(checked)],
        origin={
            "stride": stride,
            "purity": purity,
            "max_unlabelled": max_unlabelled,
            "per_class": per_class,
            "left_out": sorted(leave_out),
            "seed": seed,
        },
    )


def scene_entry(scene: xr.DataArray, number: int) -> dict[str, str]:
    """Describe a scene as tiles refer to it.

    Parameters
    ----------
    scene : xarray.DataArray
        A scene.
    number : int
        Its position; part of the name of one that has none.

    Returns
    -------
    dict
        ``name``, and ``source``: the absolute path of what it was opened from, or empty.
    """
    source = str(scene.attrs.get("source", ""))
    if source:
        source = str(Path(source).resolve())
    return {"name": str(scene.name or f"scene {number}"), "source": source}


def _checked_scenes(
    scenes: Sequence[xr.DataArray],
    labels: Sequence[xr.DataArray],
    bands: Sequence[str] | None,
    tile_size: int,
) -> list[xr.DataArray]:
    if not scenes or len(scenes) != len(labels):
        raise SceneError(
            f"Tiles are cut from one or more scenes, each with its labels, got {len(scenes)} "
            f"scenes and {len(labels)} label rasters."
        )
    valid = [validate_scene(scene) for scene in scenes]
    wanted = list(valid[0]["band"].values) if bands is None else list(bands)
    checked = [check_bands(scene, wanted, who="extract_tiles") for scene in valid]
    kinds = sorted({f"{scene.dtype} of scale {scene.attrs['scale']:g}" for scene in checked})
    if len(kinds) > 1:
        raise SceneError(
            f"Scenes to learn from together must have one dtype and scale, got "
            f"{', '.join(kinds)}. Convert them, or pass scale= when opening them."
        )
    for index, (scene, codes) in enumerate(zip(checked, labels, strict=True)):
        if codes.dims != ("y", "x") or codes.shape != scene.shape[1:] or codes.dtype != np.uint8:
            raise LabelError(
                f"Labels must be uint8 codes with dims (y, x) of the shape of their scene, "
                f"{scene.shape[1:]}, got {codes.dtype} with dims {codes.dims} of shape "
                f"{codes.shape} for scene {index}. Open them with open_labels(like=scene)."
            )
        check_tile_size(tile_size, (scene.sizes["y"], scene.sizes["x"]))
    return checked


def _find_windows(
    scene: xr.DataArray, labels: xr.DataArray, rule: WindowRule, leave_out: frozenset[int]
) -> tuple[Found, NDArray[np.int64]]:
    """Find the windows that become tiles, by row and column; count labelled pixels by code."""
    valid = valid_pixels(scene).data
    codes = da.asarray(labels.data).rechunk(valid.chunks)
    usable = da.where(valid, codes, np.uint8(NODATA_CODE))
    starts = rule.starts(scene.sizes["y"]), rule.starts(scene.sizes["x"])
    blocks = leading_blocks(usable[None], reach=rule.size - 1)
    name = f"find-windows-{tokenize(usable.name, rule, sorted(leave_out))}"
    look = partial(_find_in_block, starts=starts, rule=rule, leave_out=leave_out)
    # by hand here and below: a call of dask.delayed for each block takes longer than the work
    graph: dict[Any, Any] = {
        (name, number): (partial(look, rows=block.rows, columns=block.columns), block.values.key)
        for number, block in enumerate(blocks)
    }
    graph[name] = (list, list(graph))
    below = [block.values for block in blocks]
    parts = Delayed(name, HighLevelGraph.from_collections(name, graph, below)).compute()
    found = np.concatenate([windows for windows, _ in parts], axis=1)
    return found[:, np.lexsort((found[2], found[1]))], sum(pixels for _, pixels in parts)


def _find_in_block(
    block: NDArray[np.uint8],
    *,
    rows: slice,
    columns: slice,
    starts: tuple[NDArray[np.int64], NDArray[np.int64]],
    rule: WindowRule,
    leave_out: frozenset[int],
) -> tuple[Found, NDArray[np.int64]]:
    codes = block[0]
    if leave_out:
        codes = np.where(np.isin(codes, list(leave_out)), np.uint8(NODATA_CODE), codes)
    own = codes[: rows.stop - rows.start, : columns.stop - columns.start]
    pixels = np.bincount(own.ravel(), minlength=256)
    pixels[NODATA_CODE] = 0
    down, right = (
        all_starts[(all_starts >= span.start) & (all_starts < span.stop)]
        for all_starts, span in zip(starts, (rows, columns), strict=True)
    )
    if not len(down) or not len(right):
        return np.empty((3, 0), np.int64), pixels
    majority = majority_codes(codes, (down - rows.start, right - columns.start), rule)
    row, column = np.nonzero(majority)
    return np.stack([majority[row, column].astype(np.int64), down[row], right[column]]), pixels


def _check_classes(
    found: list[Found], labelled: NDArray[np.int64], legend: ClassLegend, rule: WindowRule
) -> None:
    there = set(np.unique(np.concatenate([windows[0] for windows in found])).tolist())
    known = {NODATA_CODE, *legend.codes}
    unknown = sorted(set(np.flatnonzero(labelled).tolist()) - known)
    if unknown:
        raise LabelError(
            f"Labels must hold codes of legend {legend.name!r}, "
            f"{', '.join(map(str, legend.codes))}, got {', '.join(map(str, unknown))}. "
            "Pass the legend they were drawn with."
        )
    if not there:
        raise TileError(
            f"Tiles must be labelled, with one class on {rule.purity:.0%} of each, but no window "
            f"of {rule.size} px in {len(found)} scene(s) is. "
            "Label larger areas, lower purity, or take smaller tiles."
        )
    missing = [
        f"{code} {legend.class_name(code)} ({labelled[code]} pixels)"
        for code in np.flatnonzero(labelled).tolist()
        if code not in there
    ]
    if missing:
        raise TileError(
            f"Every class that is labelled must have tiles, but no window of {rule.size} px has "
            f"{rule.purity:.0%} of {', '.join(missing)}. Lower purity, take smaller tiles, label "
            "more of it, or leave the class out with leave_out=."
        )


def _thinned(found: list[Found], per_class: int, seed: int) -> list[Found]:
    """Keep what :func:`thin_tiles` would of the same tiles."""
    every, scene = np.concatenate(found, axis=1), _scene_of(found)
    priorities = place_priorities(scene, every[1], every[2], seed=seed)
    kept = lowest_of_each(every[0].astype(np.uint8), priorities, per_class)
    return [every[:, kept[scene[kept] == number]] for number in range(len(found))]


def _scene_of(found: list[Found]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(found)), [windows.shape[1] for windows in found])


def _cut(scene: xr.DataArray, windows: Found, size: int) -> da.Array:
    """Cut tiles lazily: a task for each chunk of tiles copies them out of chunks of the scene."""
    shape, count = (scene.sizes["band"], size, size), windows.shape[1]
    if not count:
        return da.empty((0, *shape), dtype=scene.dtype)
    filled = scene.where(valid_pixels(scene), scene.dtype.type(0)).data
    name = f"tiles-{tokenize(filled.name, windows, size)}"
    step = tiles_per_chunk(int(np.prod(shape)) * scene.dtype.itemsize)
    graph: dict[Any, Any] = {}
    for number, start in enumerate(range(0, count, step)):
        tasks = list(_cut_tasks(filled, windows[1:, start : start + step], size))
        keys = [(f"part-{name}", number, part) for part in range(len(tasks))]
        graph.update(zip(keys, tasks, strict=True))
        graph[name, number, 0, 0, 0] = (np.concatenate, keys)
    chunks = (split(count, step), *((length,) for length in shape))
    layers = HighLevelGraph.from_collections(name, graph, [filled])
    return da.Array(layers, name, chunks, dtype=scene.dtype)


def _cut_tasks(
    scene: da.Array, first: NDArray[np.int64], size: int
) -> Iterator[tuple[Any, list[tuple[Any, ...]]]]:
    """Give tasks that cut tiles at first rows and columns, none from much of the scene at once."""
    borders = [np.cumsum((0, *lengths)) for lengths in scene.chunks[1:]]
    begin, end = (
        [np.searchsorted(*pair, side="right") - 1 for pair in zip(borders, corner, strict=True)]
        for corner in (first, first + size - 1)
    )
    used = np.zeros(scene.numblocks[1:], np.bool_)
    for top, bottom, left, right in zip(begin[0], end[0], begin[1], end[1], strict=True):
        used[top : bottom + 1, left : right + 1] = True
    pixels = int(np.outer(*scene.chunks[1:])[used].sum())
    middle = first.shape[1] // 2
    if middle and pixels * scene.shape[0] * scene.dtype.itemsize > _SCENE_BYTES:
        yield from _cut_tasks(scene, first[:, :middle], size)
        yield from _cut_tasks(scene, first[:, middle:], size)
        return
    places = np.argwhere(used)
    corners = np.stack([borders[axis][places[:, axis]] for axis in (0, 1)], axis=1)
    keys = [(scene.name, 0, row, column) for row, column in places.tolist()]
    yield partial(_cut_tiles, corners=corners, first=first.T, size=size), keys


def _cut_tiles(
    chunks: list[NDArray[Any]], corners: NDArray[np.int64], first: NDArray[np.int64], size: int
) -> NDArray[Any]:
    """Copy tiles out of the chunks of the scene that they lie in, each part of a tile by itself."""
    tiles = np.empty((len(first), len(chunks[0]), size, size), chunks[0].dtype)
    for chunk, corner in zip(chunks, corners, strict=True):
        start = np.maximum(first, corner)
        stop = np.minimum(first + size, corner + chunk.shape[1:])
        for tile in np.flatnonzero((start < stop).all(axis=1)):
            span = start[tile], stop[tile]
            (y, x), (down, right) = (
                [slice(*pair) for pair in zip(*(edge - origin for edge in span), strict=True)]
                for origin in (corner, first[tile])
            )
            tiles[tile, :, down, right] = chunk[:, y, x]
    return tiles
