"""Both phases' predictions over a whole scene, lazily, chunk by chunk."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from skimage.filters import rank

from csc_xr.blockwise import map_columns, map_halo, map_places, map_tiles, map_together
from csc_xr.errors import NetworkError, ParameterError
from csc_xr.grid import place, scene_transform
from csc_xr.legend import ClassLegend
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard
from csc_xr.networks.convolution import ConvolutionalForm
from csc_xr.networks.pixelwise import PixelClassifier
from csc_xr.record import report_pixels
from csc_xr.scene import check_bands, valid_pixels, validate_scene
from csc_xr.windows import blocks, check_patch_size, check_tile_size, tile_starts

Floats = NDArray[np.float32]
Edge = Literal["cover", "blank"]
PIXEL_OUTPUTS = ("pixel_class", "confidence", "margin", "entropy", "probability")


def predict_tiles(
    scene: xr.DataArray,
    network: Network,
    *,
    tile_size: int | None = None,
    min_probability: float = 0.0,
    despeckle: int = 0,
    edge: Edge = "cover",
) -> xr.Dataset:
    """Classify the tiles of a scene: phase one.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x).
    network : Network
        A tile network.
    tile_size : int, optional
        Side of a tile in pixels; the network's own by default. A network whose layers take any
        size can be given another.
    min_probability : float
        Tiles whose best class is less probable get class 0.
    despeckle : int
        Radius, in tiles, of a mode filter over the tile classes; 0 for none.
    edge : {"cover", "blank"}
        Partial tiles at the right and bottom are predicted from a window shifted inwards, or
        left at class 0.

    Returns
    -------
    xarray.Dataset
        On the tile grid, lazy: ``tile_class`` (y, x) uint8, 0 where a tile has no valid pixel, and
        ``tile_probability`` (class, y, x) float32 of the predicted classes. Attribute
        ``tile_size``.

    Raises
    ------
    SceneError
        When the scene lacks bands the network needs.
    NetworkError
        When the network is not a tile network, or takes tiles of another size.
    ParameterError
        When the scene holds no whole tile, or an option is out of range.
    """
    card = network.card
    scene = check_bands(validate_scene(scene), card.bands, who="The tile network")
    size = _tile_size(network, tile_size)
    check_tile_size(size, (scene.sizes["y"], scene.sizes["x"]))
    if not 0 <= min_probability <= 1:
        raise ParameterError(f"min_probability must lie in 0 to 1, got {min_probability}.")
    outputs = map_tiles(
        _predict_chunk_tiles,
        pixels_and_validity(scene),
        tile_size=size,
        n_outputs=len(card.codes),
        dtype=np.float32,
        argument=(network, size, _scale_of(scene, card)),
    )
    probability, codes = _class_probability(outputs, card)
    choose = partial(_top_class, codes=codes, least=min_probability)
    tile_class = map_columns(choose, probability, dtype=np.uint8)
    tiles = _on_tile_grid(scene, tile_class, probability, codes, card.legend, size)
    if despeckle:
        tiles["tile_class"] = mode_filter(tiles["tile_class"], radius=despeckle)
    if edge == "blank":
        whole = {dim: slice(0, scene.sizes[dim] // size) for dim in ("y", "x")}
        tiles = _blank_outside(tiles, whole)
    return tiles


def expand_tiles(tiles: xr.DataArray, scene: xr.DataArray, *, tile_size: int) -> xr.DataArray:
    """Spread a raster on the tile grid over the pixels of its scene.

    Parameters
    ----------
    tiles : xarray.DataArray
        Dims (y, x) on the tile grid.
    scene : xarray.DataArray
        The scene the tiles were cut from.
    tile_size : int
        Side of a tile in pixels.

    Returns
    -------
    xarray.DataArray
        Dims (y, x) on the scene's grid, same dtype, 0 where the scene is not valid. Lazy.
    """
    scene = validate_scene(scene)
    grid = tiles.data
    if isinstance(grid, da.Array):
        grid = grid.rechunk(-1).to_delayed().item()
    valid = valid_pixels(scene)
    pixels = map_places(_tiles_under, valid.data, dtype=tiles.dtype, argument=(grid, tile_size))
    return valid.copy(data=pixels).rename(tiles.name).assign_attrs(tiles.attrs)


def classify_pixels(
    scene: xr.DataArray,
    network: Network | PixelClassifier,
    *,
    outputs: tuple[str, ...] = ("pixel_class",),
    edge: Edge = "cover",
) -> xr.Dataset:
    """Classify every pixel of a scene from the patch around it: phase two.

    The patch network runs in its convolutional form over blocks inside each chunk; the patch
    tensor is never built. Beyond the scene's border the pixels are mirrored; in place of a pixel
    that is not valid the network sees 0.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x).
    network : Network or PixelClassifier
        A patch network, or a scikit-learn classifier of single pixels.
    outputs : tuple of str
        Any of ``pixel_class`` (y, x) uint8; ``confidence``, the top probability;
        ``margin``, top minus second; ``entropy`` in nats; ``probability`` (class, y, x); all
        float32.
    edge : {"cover", "blank"}
        Classify all pixels, or leave those nearer to the border than half a patch at 0.

    Returns
    -------
    xarray.Dataset
        On the scene's grid, lazy; every variable is 0 where the scene is not valid.

    Raises
    ------
    SceneError
        When the scene lacks bands the network needs.
    NetworkError
        When the network is not a patch network or cannot slide.
    ParameterError
        When the patch is larger than the scene, or an output is unknown.
    """
    unknown = sorted(set(outputs) - set(PIXEL_OUTPUTS))
    if unknown:
        raise ParameterError(f"outputs may hold {', '.join(PIXEL_OUTPUTS)}, got {unknown}.")
    card = network.card
    scene = check_bands(validate_scene(scene), card.bands, who="The patch network")
    slider = network if isinstance(network, PixelClassifier) else network.convolutional_form()
    halo = patch_halo(card.size, scene)
    raw = map_halo(
        _predict_chunk_pixels,
        pixels_and_validity(scene),
        halo=halo,
        n_outputs=len(card.codes),
        dtype=np.float32,
        argument=(slider, _scale_of(scene, card)),
        edge="mirror",
    )
    probability, codes = _class_probability(raw, card)
    result = _pixel_outputs(scene, probability, codes, card.legend, outputs)
    if edge == "blank":
        reached = {dim: slice(halo, scene.sizes[dim] - halo) for dim in ("y", "x")}
        result = _blank_outside(result, reached)
    return result


def patch_halo(patch_size: int, scene: xr.DataArray) -> int:
    """Give the halo of a patch, once the patch is known to fit the scene.

    Parameters
    ----------
    patch_size : int
        Side of the patch in pixels, odd.
    scene : xarray.DataArray
        Dims (band, y, x).

    Returns
    -------
    int
        Half the patch, rounded down.

    Raises
    ------
    ParameterError
        When the patch size is even or not positive, or larger than the scene.
    """
    size = check_patch_size(patch_size)
    rows, columns = scene.sizes["y"], scene.sizes["x"]
    if size > min(rows, columns):
        raise ParameterError(
            f"The patch must fit in the scene, got a patch of {size} x {size} pixels and a scene "
            f"of {rows} x {columns}. Use a smaller patch size."
        )
    return size // 2


def mode_filter(classes: xr.DataArray, *, radius: int) -> xr.DataArray:
    """Give every pixel the commonest class of the disk around it.

    Pixels of class 0 do not vote and stay 0; of classes equally common the lowest code wins.

    Parameters
    ----------
    classes : xarray.DataArray
        Dims (y, x), uint8.
    radius : int
        Radius of the disk in pixels; 0 returns the classes as they are.

    Returns
    -------
    xarray.DataArray
        Like ``classes``, lazy.

    Raises
    ------
    ParameterError
        When the radius is negative.
    """
    if radius < 0:
        raise ParameterError(f"The radius of the mode filter must be 0 or more, got {radius}.")
    if radius == 0:
        return classes
    data = classes.data if isinstance(classes.data, da.Array) else da.from_array(classes.data)
    filtered = map_halo(
        _majority,
        data[None],
        halo=radius,
        n_outputs=1,
        dtype=np.uint8,
        argument=radius,
        edge="none",
    )
    return classes.copy(data=filtered[0])


def pixels_and_validity(scene: xr.DataArray) -> da.Array:
    """Put the validity of pixels beside their numbers, in one array.

    Chunks wait for their neighbours in the scene's own dtype, a quarter of what they take once
    they are scaled; :func:`_scaled` scales what one task works on.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x).

    Returns
    -------
    dask.array.Array
        Shape (bands + 1, y, x), the scene's dtype: its numbers, then 1 where a pixel is valid and
        0 elsewhere. Lazy.
    """
    return map_together(_beside, [scene.data, valid_pixels(scene).data], dtype=scene.dtype)


def _tiles_under(
    valid: NDArray[np.bool_], rows: slice, columns: slice, argument: tuple[NDArray[Any], int]
) -> NDArray[Any]:
    tiles, size = argument
    row, column = (np.arange(span.start, span.stop) // size for span in (rows, columns))
    return np.where(valid, tiles[row[:, None], column], np.zeros((), tiles.dtype))


def _beside(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    return np.concatenate([pixels, valid[None].astype(pixels.dtype)])


def _scaled(block: NDArray[Any], scale: float) -> Floats:
    """Scale a block of numbers and validity for a network; what is not valid becomes NaN."""
    floats = block[:-1].astype(np.float32)
    floats /= np.float32(scale)
    floats[:, block[-1] == 0] = np.nan
    return floats


def _scale_of(scene: xr.DataArray, card: NetworkCard) -> float:
    """Divisor of the numbers: the network's, or without one the scene's own."""
    return card.scale or float(scene.attrs["scale"])


def _tile_size(network: Network, tile_size: int | None) -> int:
    card = network.card
    if card.kind != "tile":
        raise NetworkError(
            f"predict_tiles needs a tile network, got a {card.kind} network. "
            "Pass the network trained in phase one."
        )
    fixed = network.model.input_shape[1]
    if tile_size is not None and fixed is not None and tile_size != fixed:
        raise NetworkError(
            f"The network takes tiles of {fixed} x {fixed} pixels, got tile_size={tile_size}. "
            "Leave tile_size out, or pass a network trained on tiles of that size."
        )
    return tile_size or card.size


def _class_probability(outputs: da.Array, card: NetworkCard) -> tuple[da.Array, list[int]]:
    """Keep the outputs that stand for a class, in order of their codes; output 0 never does."""
    known = set(card.legend.codes)
    order = sorted((code, index) for index, code in enumerate(card.codes) if code in known)
    return outputs[[index for _, index in order]], [code for code, _ in order]


def _on_tile_grid(
    scene: xr.DataArray,
    tile_class: da.Array,
    probability: da.Array,
    codes: list[int],
    legend: ClassLegend,
    size: int,
) -> xr.Dataset:
    classes = xr.DataArray(tile_class, dims=("y", "x"), attrs=legend.flag_attributes())
    transform = scene_transform(scene) @ Affine.scale(size)
    tiles = place(classes, transform, scene.rio.crs).to_dataset(name="tile_class")
    tiles["tile_probability"] = (("class", "y", "x"), probability)
    return tiles.assign_coords({"class": codes}).assign_attrs(tile_size=size)


def _pixel_outputs(
    scene: xr.DataArray,
    probability: da.Array,
    codes: list[int],
    legend: ClassLegend,
    outputs: tuple[str, ...],
) -> xr.Dataset:
    template = valid_pixels(scene).drop_vars("valid", errors="ignore")
    made: dict[str, Any] = {}
    for name in outputs:
        if name == "pixel_class":
            classes = map_columns(partial(_top_class, codes=codes), probability, dtype=np.uint8)
            made[name] = (("y", "x"), classes, legend.flag_attributes())
        elif name == "probability":
            made[name] = (("class", "y", "x"), probability)
        else:
            certainty = map_columns(_CERTAINTY[name], probability, dtype=np.float32)
            made[name] = (("y", "x"), certainty)
    coords = {**template.coords, "class": codes} if "probability" in outputs else template.coords
    return xr.Dataset(made, coords=coords)


def _blank_outside(dataset: xr.Dataset, inside: dict[str, slice]) -> xr.Dataset:
    """Set everything outside an index range of y and x to 0, lazily."""
    masks = []
    for dim, chosen in inside.items():
        index = np.arange(dataset.sizes[dim])
        kept = (index >= chosen.start) & (index < chosen.stop)
        masks.append(xr.DataArray(kept, dims=dim))
    mask = masks[0] & masks[1]
    blanked = {
        name: variable.where(mask, variable.dtype.type(0)).assign_attrs(variable.attrs)
        for name, variable in dataset.data_vars.items()
    }
    return dataset.assign(blanked)


def _top_class(probability: Floats, codes: list[int], least: float = 0.0) -> NDArray[np.uint8]:
    classes = np.asarray(codes, np.uint8)[probability.argmax(axis=0)]
    known = (probability != 0).any(axis=0)
    if least > 0:  # not before: outputs that are no probabilities may be negative
        known &= probability.max(axis=0) >= np.float32(least)
    return np.where(known, classes, np.uint8(0))


def _confidence(probability: Floats) -> Floats:
    return np.asarray(probability.max(axis=0))


def _margin(probability: Floats) -> Floats:
    if len(probability) == 1:
        return np.asarray(probability[0])
    second, first = np.partition(probability, -2, axis=0)[-2:]
    return np.asarray(first - second)


def _entropy(probability: Floats) -> Floats:
    logarithm = np.log(probability, out=np.zeros_like(probability), where=probability > 0)
    return np.asarray(-(probability * logarithm).sum(axis=0), np.float32)


_CERTAINTY = {"confidence": _confidence, "margin": _margin, "entropy": _entropy}


def _predict_chunk_tiles(block: NDArray[Any], argument: tuple[Network, int, float]) -> Floats:
    from csc_xr.networks.runtime import batch_size, tile_function

    network, size, scale = argument
    block = _scaled(block, scale)
    rows, columns = (tile_starts(length, size) for length in block.shape[1:])
    found = np.zeros((len(network.card.codes), len(rows) * len(columns)), np.float32)
    windows = [(row, column) for row in rows for column in columns]
    tiles = [block[:, row : row + size, column : column + size] for row, column in windows]
    wanted = [index for index, tile in enumerate(tiles) if not np.isnan(tile).all()]
    report_pixels((len(tiles) - len(wanted)) * size**2)
    predict = tile_function(network.fingerprint, network.model)
    length = batch_size(size)
    for start in range(0, len(wanted), length):
        chosen = wanted[start : start + length]
        # always a full batch: one shape, so that a tile's result does not depend on its company
        batch = np.zeros((length, size, size, block.shape[0]), np.float32)
        for slot, index in enumerate(chosen):
            batch[slot] = np.nan_to_num(tiles[index].transpose(1, 2, 0))
        found[:, chosen] = predict(batch)[: len(chosen)].T
        report_pixels(len(chosen) * size**2)
    return found.reshape(-1, len(rows), len(columns))


def _predict_chunk_pixels(
    block: NDArray[Any], argument: tuple[ConvolutionalForm | PixelClassifier, float]
) -> Floats:
    from csc_xr.networks.runtime import BLOCK_SIDE, sliding_function

    slider, scale = argument
    halo = slider.patch_size // 2
    rows, columns = block.shape[1] - 2 * halo, block.shape[2] - 2 * halo
    found = np.zeros((slider.n_outputs, rows, columns), np.float32)
    slide: Any = None
    for row, column in blocks(rows, columns, BLOCK_SIDE):
        area = block[:, row.start : row.stop + 2 * halo, column.start : column.stop + 2 * halo]
        area = _scaled(area, scale)
        blank = np.isnan(area[0, halo : area.shape[1] - halo, halo : area.shape[2] - halo])
        if blank.all():
            report_pixels(blank.size)
            continue
        if slide is None:
            slide = (
                slider.predict_area
                if isinstance(slider, PixelClassifier)
                else sliding_function(slider)
            )
        area = np.ascontiguousarray(np.nan_to_num(area.transpose(1, 2, 0)))
        outputs = slide(area)
        outputs[blank] = 0
        found[:, row, column] = outputs.transpose(2, 0, 1)
        report_pixels(blank.size)
    return found


def _majority(block: NDArray[np.uint8], argument: int) -> NDArray[np.uint8]:
    from skimage.morphology import disk

    classes = np.ascontiguousarray(block[0])
    voters = (classes > 0).astype(np.uint8)
    filtered = rank.majority(classes, disk(argument), mask=voters)
    inner = slice(argument, -argument)
    return np.where(classes > 0, filtered, 0)[None, inner, inner].astype(np.uint8)
