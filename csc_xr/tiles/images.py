"""Images of one tile each, in class folders: their names, what is in them, and reading them."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from csc_xr.errors import SceneError, TileError
from csc_xr.raster import open_raster
from csc_xr.tiles.layout import UNKNOWN_PLACE

_SUFFIXES = (".tif", ".tiff", ".png")
_CLASS_FOLDER = re.compile(r"C(\d+)")
_FILE_NAME = re.compile(
    r"(?P<name>.+)_(?P<number>\d+)_(?:r(?P<row>\d+)_c(?P<column>\d+)|t(?P<turn>\d+))"
    r"_v(?P<variant>[0-7])"
)


class TileFile(NamedTuple):
    """One image of a class folder; files are brought into the order of these fields.

    Attributes
    ----------
    variant : int
        0 as it was cut, else a copy.
    scene : tuple of int and str
        Number and name of the scene.
    row, column : int
        First pixel in the scene, -1 where unknown.
    turn : int
        Where the place is unknown, the number of the tile in the set it was written from.
    path : Path
        The file.
    code : int
        The class.
    """

    variant: int
    scene: tuple[int, str]
    row: int
    column: int
    turn: int
    path: Path
    code: int


def file_names(tiles: xr.Dataset) -> list[Path]:
    """Give each tile a file in a class folder.

    Parameters
    ----------
    tiles : xarray.Dataset
        Labelled tiles; pixels are not read.

    Returns
    -------
    list of Path
        ``C<code>/<scene>_<number of the scene>_r<row>_c<column>_v<variant>.tif``; where the place
        is not known ``t<number of the tile>`` stands for row and column.
    """
    # what file systems dislike in names is replaced; the number tells scenes apart
    scenes = [re.sub(r"[^\w.-]", "_", entry["name"]) for entry in tiles.attrs["scenes"]]
    fields = ("code", "scene", "row", "column", "variant")
    rows = zip(*(tiles[name].values.tolist() for name in fields), strict=True)
    names = []
    for number, (code, scene, row, column, variant) in enumerate(rows):
        unknown = UNKNOWN_PLACE in (row, column)
        place = f"t{number}" if unknown else f"r{row}_c{column}"
        names.append(Path(f"C{code}", f"{scenes[scene]}_{scene}_{place}_v{variant}.tif"))
    return names


def find_tile_files(source: Path) -> list[TileFile]:
    """List the images in class folders.

    Parameters
    ----------
    source : Path
        Holds class folders, or folders of such.

    Returns
    -------
    list of TileFile
        In order; no file is opened. Where file names do not tell the scene it is the folder
        that holds the class folders.
    """
    found = []
    for number, group in enumerate([source, *sorted(_folders(source))]):
        for folder in _folders(group):
            code = _CLASS_FOLDER.fullmatch(folder.name)
            if code:
                scene = number, group.absolute().name
                found += [_tile_file(path, int(code[1]), scene) for path in _images(folder)]
    return sorted(found)


def tiff_of(tile: NDArray[Any], bands: Sequence[str]) -> bytes:
    """Make the content of a TIFF file in memory, since GDAL does not report every full disk.

    Parameters
    ----------
    tile : ndarray
        Shape (bands, rows, columns).
    bands : sequence of str
        Names of the bands.

    Returns
    -------
    bytes
        Content of the file.
    """
    profile = {
        "driver": "GTiff", "count": len(tile), "height": tile.shape[1], "width": tile.shape[2],
        "dtype": tile.dtype, "interleave": "pixel", "photometric": "MINISBLACK",
    }  # fmt: skip
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(**profile) as file:
            file.write(tile)
            for number, name in enumerate(bands, 1):
                file.set_band_description(number, name)
        return bytes(memory.getbuffer())


def check_tile_files(
    paths: Sequence[Path], bands: Sequence[str]
) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    """Check that files hold tiles of one kind, by their headers.

    Parameters
    ----------
    paths : sequence of Path
        One file at least.
    bands : sequence of str
        Names of the bands they must have.

    Returns
    -------
    shape : tuple of int
        Bands, rows and columns of each.
    dtype : numpy.dtype
        Of each.

    Raises
    ------
    TileError
        When a file cannot be read, is no square, or differs from the others.
    """
    kinds = [_header(path) for path in paths]
    (shape, dtype), _ = common = Counter(kinds).most_common(1)[0]
    fits = shape == (len(bands), shape[1], shape[1])
    for path, kind in zip(paths, kinds, strict=True):
        if kind != common[0] or not fits:
            (count, height, width), found = kind
            raise TileError(
                f"All tiles must be squares of one size and dtype with bands {', '.join(bands)}, "
                f"got {count} band(s) of {height} x {width} pixels of {found} in {path}; most are "
                f"{shape[0]} of {shape[1]} x {shape[2]} of {dtype}. Take the file away, or name "
                "the bands the files hold."
            )
    return shape, dtype


def read_tile_files(
    paths: Sequence[Path], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Read tiles.

    Parameters
    ----------
    paths : sequence of Path
        Their files.
    shape : tuple of int
        Bands, rows and columns of each.
    dtype : numpy.dtype
        Of each.

    Returns
    -------
    ndarray
        Shape (tiles, bands, rows, columns).

    Raises
    ------
    TileError
        When a file cannot be read.
    """
    tiles = np.empty((len(paths), *shape), dtype)
    for tile, path in zip(tiles, paths, strict=True):
        try:
            with open_raster(path) as file:
                file.read(out=tile)
        except (SceneError, RasterioError) as error:
            raise TileError(
                f"{path} must be a whole image, but cannot be read: {error.__cause__ or error}. "
                "The file is damaged or gone: get it again, or take it away."
            ) from error
    return tiles


def _header(path: Path) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    try:
        with open_raster(path) as file:
            return (file.count, file.height, file.width), np.dtype(file.dtypes[0])
    except SceneError as error:
        raise TileError(f"Every file of a class folder must be a tile. {error}") from error


def _folders(source: Path) -> list[Path]:
    return [entry for entry in source.iterdir() if entry.is_dir()] if source.is_dir() else []


def _images(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."):
            yield path


def _tile_file(path: Path, code: int, group: tuple[int, str]) -> TileFile:
    told = _FILE_NAME.fullmatch(path.stem)
    if told is None:
        return TileFile(0, group, UNKNOWN_PLACE, UNKNOWN_PLACE, 0, path, code)
    row, column, turn = (
        UNKNOWN_PLACE if told[name] is None else int(told[name])
        for name in ("row", "column", "turn")
    )
    scene = int(told["number"]), told["name"]
    return TileFile(int(told["variant"]), scene, row, column, turn, path, code)
