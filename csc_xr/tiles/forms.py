"""Labelled tiles in the forms other programs of the method use: class folders, compiled tensors.

Class folders ``C1 ... CN`` hold an image a tile. A compiled tensor is one array (n, row, column,
band) in an ``.npy`` file, with the labels in another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import dask
import dask.array as da
import numpy as np
import rasterio.dtypes
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from csc_xr.errors import ParameterError, TileError
from csc_xr.files import replacing
from csc_xr.legend import ClassLegend
from csc_xr.tiles.images import (
    check_tile_files,
    file_names,
    find_tile_files,
    read_tile_files,
    tiff_of,
)
from csc_xr.tiles.layout import (
    UNKNOWN_PLACE,
    band_names,
    tile_dataset,
    tile_legend,
    tiles_per_chunk,
    validate_tiles,
)
from csc_xr.tiles.split import TileSplit
from csc_xr.windows import split as split_length

CompiledForm = Literal["float16", "uint8"]

_CHUNKS_AT_ONCE = 8
_GREY_LEVELS = 255


def export_tile_folders(
    tiles: xr.Dataset,
    folder: str | Path,
    *,
    split: TileSplit | None = None,
    overwrite: bool = False,
) -> None:
    """Write labelled tiles as TIFF files in class folders, whole or not at all.

    Computes the pixels, some chunks at a time. A file is called
    ``<scene>_<number of the scene>_r<row>_c<column>_v<variant>.tif``; where the place is not
    known ``t<number of the tile>`` stands for row and column.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.
    folder : str or Path
        Will hold a folder ``C<code>`` for each code from 1 to the highest of the legend.
    split : TileSplit, optional
        Puts class folders under ``training`` and ``validation``; tiles in neither part of it
        are left out.
    overwrite : bool
        True replaces a folder that exists, False refuses to.

    Raises
    ------
    TileError
        When the dataset does not hold labelled tiles, holds one twice, or has a dtype that
        TIFF files cannot have.
    OutputError
        When the folder cannot be written, or exists already.
    """
    tiles = validate_tiles(tiles)
    if not rasterio.dtypes.check_dtype(tiles["pixels"].dtype):
        raise TileError(
            f"TIFF files hold integers and 32 or 64 bit floats, got tiles of "
            f"{tiles['pixels'].dtype}. Convert them, for example to float32."
        )
    files = _placed(tiles, split)
    classes = [f"C{code}" for code in range(1, tile_legend(tiles).n_outputs)]
    parts = [""] if split is None else ["training", "validation"]
    with replacing(folder, folder=True, overwrite=overwrite) as partial_folder:
        for part in parts:
            for name in classes:
                (partial_folder / part / name).mkdir(parents=True)
        for start, pixels in _computed(tiles["pixels"].data):
            for number, tile in enumerate(pixels, start):
                if number in files:
                    (partial_folder / files[number]).write_bytes(tiff_of(tile, band_names(tiles)))


def import_tile_folders(
    folder: str | Path, *, bands: Sequence[str], scale: float, legend: ClassLegend
) -> xr.Dataset:
    """Open class folders of images as labelled tiles.

    Reads the header of every file (half a millisecond each); pixels stay on disk until they are
    computed.

    Parameters
    ----------
    folder : str or Path
        Holds class folders ``C<code>``, or folders of such (``training`` and ``validation``), with
        one TIFF or PNG file a tile.
    bands : sequence of str
        Names of the bands of the files, in order.
    scale : float
        What networks divide the numbers by.
    legend : ClassLegend
        Classes of the codes.

    Returns
    -------
    xarray.Dataset
        Labelled tiles. File names as :func:`export_tile_folders` gives them tell scene, place
        and variant, and the tiles are in the order of variant, scene, row and column: scenes
        come in the order of their old numbers, without those that have no tile. Tiles of other
        file names are one scene for each folder of class folders, their places unknown.

    Raises
    ------
    TileError
        When there are no tiles, their files cannot be read or differ in size, bands or dtype, or
        codes are not of the legend.
    ParameterError
        When the scale is not above 0.
    """
    source = Path(folder)
    _check_scale(scale)
    files = find_tile_files(source)
    if not files:
        raise TileError(
            f"Tiles must lie in folders C1, C2, ... as .tif or .png files, but there are none in "
            f"{source}. Pass the folder that holds the class folders, or that of training "
            "and validation."
        )
    codes = np.array([file.code for file in files])
    _check_codes(codes, legend, source)
    paths = [file.path.absolute() for file in files]  # workers may run in other folders
    shape, dtype = check_tile_files(paths, bands)
    scenes = sorted({file.scene for file in files})
    stamp = [(str(path), path.stat().st_mtime_ns) for path in paths]
    return tile_dataset(
        _lazy(
            stamp,
            len(files),
            shape,
            dtype,
            lambda start, stop: partial(read_tile_files, paths[start:stop], shape, dtype),
        ),
        code=codes,
        scene=np.array([scenes.index(file.scene) for file in files]),
        row=np.array([file.row for file in files]),
        column=np.array([file.column for file in files]),
        variant=np.array([file.variant for file in files]),
        bands=bands,
        scale=scale,
        legend=legend,
        scenes=[{"name": name, "source": str(source.resolve())} for _, name in scenes],
        origin={"imported_from": str(source)},
    )


def export_compiled(
    tiles: xr.Dataset, path: str | Path, *, form: CompiledForm, overwrite: bool = False
) -> tuple[Path, Path]:
    """Write labelled tiles as one tensor, and their labels beside it.

    Computes the pixels, some chunks at a time. Neither file appears before both are whole.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles.
    path : str or Path
        What the names of the files begin with.
    form : {"float16", "uint8"}
        Numbers over the scale, or these in 256 levels from 0 to 1.
    overwrite : bool
        True replaces files that exist, False refuses to.

    Returns
    -------
    tuple of Path
        ``<path>_tiles.npy``, of shape (n, row, column, band), and ``<path>_labels.npy``, the codes,
        of shape (n,) and dtype uint8.

    Raises
    ------
    TileError
        When the dataset does not hold labelled tiles, or numbers that float16 cannot hold.
    ParameterError
        When there is no such form.
    OutputError
        When the files cannot be written, or exist already.
    """
    if form not in ("float16", "uint8"):
        raise ParameterError(f"form must be float16 or uint8, got {form!r}.")
    tiles = validate_tiles(tiles)
    count, n_bands, side, _ = tiles["pixels"].shape
    start = Path(path)
    tensor, labels = (start.with_name(f"{start.name}_{what}.npy") for what in ("tiles", "labels"))
    compile_block = partial(_levels if form == "uint8" else _halves, scale=tiles.attrs["scale"])
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(form)),
        "fortran_order": False,
        "shape": (count, side, side, n_bands),
    }
    with (
        replacing(tensor, overwrite=overwrite) as partial_tensor,
        replacing(labels, overwrite=overwrite) as partial_labels,
    ):
        with partial_labels.open("wb") as stream:
            np.save(stream, tiles["code"].values, allow_pickle=False)
        # written in order, not through a memory map: that dies on a full disk
        with partial_tensor.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for _, pixels in _computed(tiles["pixels"].data):
                stream.write(compile_block(pixels.transpose(0, 2, 3, 1)).tobytes())
    return tensor, labels


def import_compiled(
    tensor: str | Path,
    labels: str | Path,
    *,
    bands: Sequence[str],
    scale: float,
    legend: ClassLegend,
) -> xr.Dataset:
    """Open a compiled tensor as labelled tiles.

    Reads the labels; pixels stay on disk until they are computed. Nothing in the files is run:
    those that hold Python objects are refused.

    Parameters
    ----------
    tensor : str or Path
        ``.npy`` file of shape (n, row, column, band): floats are numbers over the scale, uint8
        are these in 256 levels.
    labels : str or Path
        ``.npy`` file of codes, whole numbers of shape (n,) or (n, 1), or of ones and zeros of
        shape (n, outputs), the one at the index of the code.
    bands : sequence of str
        Names of the bands, in order.
    scale : float
        What networks divide the numbers by.
    legend : ClassLegend
        Classes of the codes.

    Returns
    -------
    xarray.Dataset
        Labelled tiles of one scene, called after the file, their places unknown: float32 numbers
        times the scale, but uint8 as it is where the scale is 255.

    Raises
    ------
    TileError
        When a file cannot be read as such an array, or tensor, labels, bands and legend do not
        fit together.
    ParameterError
        When the scale is not above 0.
    """
    source = Path(tensor)
    _check_scale(scale)
    values = _open_array(source)
    if values.ndim != 4 or values.shape[1] != values.shape[2] or values.shape[3] != len(bands):
        raise TileError(
            f"A compiled tensor must have the shape (n, side, side, {len(bands)}) for bands "
            f"{', '.join(bands)}, got {values.shape} in {source}. Name the bands it holds, or "
            "bring its axes into this order."
        )
    if values.dtype.kind != "f" and values.dtype != np.uint8:
        raise TileError(
            f"A compiled tensor must hold floats, numbers over the scale, or uint8, got "
            f"{values.dtype} in {source}. Divide the numbers by the scale."
        )
    codes = _codes_of(_open_array(Path(labels)), len(values), Path(labels))
    _check_codes(codes, legend, Path(labels))
    dtype = np.dtype(np.uint8 if _stays(values.dtype, scale) else np.float32)
    shape = (values.shape[3], *values.shape[1:3])
    whole = source.absolute()  # workers may run in other folders
    return tile_dataset(
        _lazy(
            (str(whole), whole.stat().st_mtime_ns, scale),
            len(values),
            shape,
            dtype,
            lambda start, stop: partial(_read_tensor, whole, start, stop, scale),
        ),
        code=codes,
        scene=np.zeros(len(codes)),
        row=np.full(len(codes), UNKNOWN_PLACE),
        column=np.full(len(codes), UNKNOWN_PLACE),
        bands=bands,
        scale=scale,
        legend=legend,
        scenes=[{"name": source.stem, "source": str(source.resolve())}],
        origin={"imported_from": str(source)},
    )


def _placed(tiles: xr.Dataset, split: TileSplit | None) -> dict[int, Path]:
    """Give the file of each tile that is written, by number of the tile."""
    names = file_names(tiles)
    if split is None:
        files = dict(enumerate(names))
    else:
        files = {number: "training" / names[number] for number in split.learn.tolist()}
        files |= {number: "validation" / names[number] for number in split.check.tolist()}
    common = Counter(files.values()).most_common(1)
    if common and common[0][1] > 1:
        name, times = common[0]
        raise TileError(
            f"Each tile must be in the set once to get a file of its own, but {name} comes "
            f"{times} times. Join each set of tiles once."
        )
    return files


def _computed(pixels: da.Array) -> Iterator[tuple[int, NDArray[Any]]]:
    """Compute some chunks of tiles at a time; give the number of the first tile with each."""
    step = _CHUNKS_AT_ONCE * tiles_per_chunk(int(np.prod(pixels.shape[1:])) * pixels.dtype.itemsize)
    for start in range(0, len(pixels), step):
        (block,) = dask.compute(pixels[start : start + step])
        yield start, block


def _check_scale(scale: float) -> None:
    if not 0 < scale < np.inf:
        raise ParameterError(f"scale must be a positive number, got {scale}.")


def _check_codes(codes: NDArray[Any], legend: ClassLegend, source: Path) -> None:
    unknown = sorted(set(np.unique(codes).tolist()) - set(legend.codes))
    if unknown:
        raise TileError(
            f"Tiles must have codes of legend {legend.name!r}, "
            f"{', '.join(map(str, legend.codes))}, got {', '.join(f'{c:g}' for c in unknown[:10])} "
            f"in {source}. Pass the legend of these classes."
        )


def _lazy(
    token: object,
    count: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    reader: Callable[[int, int], Callable[[], NDArray[Any]]],
) -> da.Array:
    """Read tiles chunk by chunk; ``reader`` makes what reads from one number to another."""
    step = tiles_per_chunk(int(np.prod(shape)) * dtype.itemsize)
    name = f"imported-tiles-{tokenize(token, shape, dtype)}"
    graph = {
        (name, number, 0, 0, 0): (reader(start, start + step),)
        for number, start in enumerate(range(0, count, step))
    }
    chunks = (split_length(count, step), *((length,) for length in shape))
    return da.Array(graph, name, chunks, dtype=dtype)


def _open_array(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TileError(
            f"{path} must be an .npy file of numbers, but cannot be read as one: {error} "
            "Files that hold Python objects are refused, since reading them runs code: save plain "
            "arrays with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray):
        raise TileError(
            f"{path} must be an .npy file of one array, got an archive of several. "
            "Save its arrays with numpy.save, one a file."
        )
    return array


def _codes_of(labels: NDArray[Any], count: int, path: Path) -> NDArray[np.int64]:
    wide = labels.ndim == 2 and labels.shape[1] > 1
    if len(labels.shape) not in (1, 2) or len(labels) != count or labels.dtype.kind not in "buif":
        raise TileError(
            f"The labels of {count} tiles must be numbers of shape ({count},) or ({count}, outputs)"
            f", got {labels.dtype} of shape {labels.shape} in {path}. "
            "Pass the labels of this tensor."
        )
    values = np.asarray(labels) if wide else np.asarray(labels).ravel()
    one_each = wide and ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()
    if wide and not one_each:
        raise TileError(
            f"Labels of several outputs must be 1 for one of them and 0 for the others, but those "
            f"in {path} are not. Pass the classes themselves, not what a network made of them."
        )
    if not wide and not (np.isfinite(values) & (values == np.floor(values))).all():
        raise TileError(
            f"Labels must be whole numbers, got others in {path}. Pass codes of the legend."
        )
    return values.argmax(axis=1) if wide else values.astype(np.int64)


def _stays(dtype: np.dtype[Any], scale: float) -> bool:
    return bool(dtype == np.uint8 and scale == _GREY_LEVELS)


def _read_tensor(path: Path, start: int, stop: int, scale: float) -> NDArray[Any]:
    part = _open_array(path)[start:stop].transpose(0, 3, 1, 2)
    if _stays(part.dtype, scale):
        return np.ascontiguousarray(part)
    most = _GREY_LEVELS if part.dtype == np.uint8 else 1
    return np.ascontiguousarray(part, np.float32) * np.float32(scale / most)


def _halves(pixels: NDArray[Any], scale: float) -> NDArray[np.float16]:
    scaled = pixels / scale
    with np.errstate(over="ignore"):
        halves = scaled.astype(np.float16)
    if (np.isinf(halves) & np.isfinite(scaled)).any():
        raise TileError(
            f"A float16 tensor holds numbers up to {np.finfo(np.float16).max:g} times the scale, "
            f"{scale:g}, but the tiles have greater ones. Use another scale, or form uint8."
        )
    return np.asarray(halves)


def _levels(pixels: NDArray[Any], scale: float) -> NDArray[np.uint8]:
    if _stays(pixels.dtype, scale):
        return pixels
    levels = np.rint(np.nan_to_num(pixels / scale * _GREY_LEVELS))
    return levels.clip(0, _GREY_LEVELS).astype(np.uint8)
