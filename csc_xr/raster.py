"""Raster files read lazily, by windows that suit the file."""

from __future__ import annotations

import re
import threading
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import rasterio
from dask.base import tokenize
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from csc_xr.errors import SceneError
from csc_xr.jp2 import jp2_shortfall

CHUNK = 1024
"""Sides in pixels of the chunks a scene gets when none are asked for."""

READ_BYTES = 256 * 2**20
"""Most bytes one task reads at a time."""

Chunks = int | tuple[int, int] | Mapping[str, int]

_LARGEST_BLOCK = 2 * CHUNK
_BLOCKS_CHECKED = 100_000
# Their decoders start at the first row, whichever rows are asked for.
_SEQUENTIAL_DRIVERS = {"JPEG", "PNG", "GIF", "WEBP"}
_REMOTE = re.compile(r"[A-Za-z0-9+]+://|/vsi(?!zip)")
_IN_ZIP = re.compile(r"/vsizip/\{(.+)\}/(.+)", re.DOTALL)
# Warning filters belong to the process: two threads that change them at once leave them wrong.
_opening = threading.Lock()


@contextmanager
def open_raster(path: str | Path) -> Iterator[Any]:
    """Open a raster file, silent about a lack of georeference.

    Parameters
    ----------
    path : str or Path
        Any raster file GDAL reads; of one in a zip as :func:`path_in_zip` gives it.

    Yields
    ------
    rasterio.io.DatasetReader
        The open file, closed at the end of the block.

    Raises
    ------
    SceneError
        When the file cannot be opened as a raster.
    """
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(str(path))
    except RasterioError as error:
        raise SceneError(
            f"{path} must be an image GDAL can read, but it cannot be opened: {_reason(error)}. "
            "Check that the file is complete and is what its name says."
        ) from error
    # On several threads of its own GDAL gives tiles that it cannot decode as 0 without an error.
    with rasterio.Env(GDAL_NUM_THREADS="1"), dataset:
        yield dataset


@dataclass(frozen=True)
class RasterWindows:
    """Windows of some bands of a raster file, or of their masks.

    Each read opens the file anew (half a millisecond), so threads and processes share nothing,
    need no lock, and no file stays open.

    Attributes
    ----------
    path : Path or str
        The file; an address of one elsewhere.
    bands : tuple of int
        Band numbers, from 1.
    shape : tuple of int
        Bands, rows, columns.
    dtype : numpy.dtype
        Of the pixels, or uint8 for masks.
    of_masks : bool
        True reads GDAL's masks of the bands (0 = masked) rather than their pixels.
    stamp : tuple of int
        Size and time of the last change, so that a changed file gets new Dask keys.
    """

    path: Path | str
    bands: tuple[int, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    of_masks: bool
    stamp: tuple[int, int]

    def read(self, key: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Read one window.

        Parameters
        ----------
        key : tuple of slice
            Bands, rows and columns.

        Returns
        -------
        numpy.ndarray
            Shape (bands, rows, columns).

        Raises
        ------
        SceneError
            When the file cannot be read there, or has another size than when it was opened.
        """
        bands, (rows, columns) = list(self.bands[key[0]]), key[1:]
        window = Window.from_slices(rows, columns)
        with open_raster(self.path) as dataset:
            if dataset.shape != self.shape[1:] or dataset.count < max(bands):
                raise SceneError(
                    f"{self.path} must stay as it was opened, {self.shape[1]} x {self.shape[2]} "
                    f"pixels, but now is {dataset.height} x {dataset.width}. Open it again."
                )
            try:
                reader = dataset.read_masks if self.of_masks else dataset.read
                return np.asarray(reader(bands, window=window))
            except RasterioError as error:
                raise SceneError(
                    f"{self.path} must be readable, but rows {rows.start} to {rows.stop} of it "
                    f"are not: {_reason(error)}. The file is damaged or incomplete: get it again."
                ) from error


def path_in_zip(archive: Path, name: str) -> str:
    """Give the path by which a raster file in a zip is opened.

    Parameters
    ----------
    archive : Path
        The zip.
    name : str
        Of the file in it, with ``/`` between folders.

    Returns
    -------
    str
        Path as GDAL takes it.

    Raises
    ------
    SceneError
        When the path of the zip has a brace without its other half.

    Examples
    --------
    >>> path_in_zip(Path("/data/product.zip"), "IMG_DATA/B04.jp2")
    '/vsizip/{/data/product.zip}/IMG_DATA/B04.jp2'
    """
    path = str(archive.absolute())
    depth = accumulate({"{": 1, "}": -1}.get(letter, 0) for letter in path)
    if path.count("{") != path.count("}") or min(depth) < 0:
        raise SceneError(
            f"The path of a zip must not have a brace without its other half, got {path}. Rename "
            "the folder or the zip."
        )
    return f"/vsizip/{{{path}}}/{name}"


def file_stamp(path: str | Path) -> tuple[int, int]:
    """Tell a file from what it was before it changed.

    Parameters
    ----------
    path : str or Path
        A file; of one in a zip, the zip is meant.

    Returns
    -------
    tuple of int
        Size in bytes, and time of the last change in nanoseconds; 0 and 0 of one elsewhere, which
        is asked nothing.
    """
    if _REMOTE.match(str(path)):
        return 0, 0
    inside = _IN_ZIP.fullmatch(str(path))
    state = Path(inside[1] if inside else path).stat()
    return state.st_size, state.st_mtime_ns


def lazy_bands(
    dataset: Any,
    bands: Sequence[int],
    *,
    chunks: Chunks | None = None,
    of_masks: bool = False,
) -> da.Array:
    """Read bands of a raster file lazily.

    What one task reads suits the file: whole blocks of a tiled file, full-width row groups of
    a striped one, and all of a JPEG or PNG up to :data:`READ_BYTES`, which are decoded from
    the first row on for every read. Smaller chunks are cut from that.

    Parameters
    ----------
    dataset : rasterio.io.DatasetReader
        The open file.
    bands : sequence of int
        Band numbers, from 1; at least one, all of one dtype.
    chunks : int, tuple of int or mapping, optional
        Rows and columns of a chunk; -1 for all. By default near :data:`CHUNK`.
    of_masks : bool
        True reads GDAL's masks of the bands, as uint8, rather than their pixels.

    Returns
    -------
    dask.array.Array
        Shape (bands, y, x), all bands in one chunk.

    Raises
    ------
    SceneError
        When the chunks are not positive whole numbers.
    """
    path = dataset.name
    if not _REMOTE.match(path):
        path = Path(path).absolute()  # workers may run in other folders
    dtype = np.dtype("uint8" if of_masks else dataset.dtypes[bands[0] - 1])
    windows = RasterWindows(
        path=path,
        bands=tuple(bands),
        shape=(len(bands), *dataset.shape),
        dtype=dtype,
        of_masks=of_masks,
        stamp=file_stamp(path),
    )
    block = dataset.block_shapes[bands[0] - 1]
    wanted = chunk_sizes(chunks, dataset.shape) or (
        _default_side(block[0], dataset.height),
        _default_side(block[1], dataset.width),
    )
    sides = _read_sides(
        dataset.shape,
        block,
        wanted,
        pixel_bytes=len(bands) * dtype.itemsize,
        sequential=dataset.driver in _SEQUENTIAL_DRIVERS,
    )
    array = da.from_array(
        windows,
        chunks=(-1, *sides),
        name=f"read-{Path(path).stem}-{tokenize(windows, sides)}",
        getitem=RasterWindows.read,
        meta=np.empty((0, 0, 0), dtype),
        inline_array=True,
    )
    return array.rechunk((-1, *wanted))


def chunk_sizes(chunks: Chunks | None, shape: tuple[int, int]) -> tuple[int, int] | None:
    """Settle rows and columns of a chunk as the user asks for them.

    Parameters
    ----------
    chunks : int, tuple of int, mapping or None
        One side for both, (rows, columns), or a mapping with keys ``y`` and ``x``;
        -1 stands for the whole side.
    shape : tuple of int
        Rows and columns of the image.

    Returns
    -------
    tuple of int or None
        Rows and columns of a chunk; None when nothing is asked for.

    Raises
    ------
    SceneError
        When the chunks are anything else.

    Examples
    --------
    >>> chunk_sizes({"y": 256, "x": -1}, (700, 900))
    (256, 900)
    """
    if chunks is None:
        return None
    given: list[Any] = [chunks, chunks]
    if isinstance(chunks, Mapping):
        given = [chunks.get(key, -1) for key in ("y", "x")]
    elif isinstance(chunks, tuple):
        given = list(chunks)
    whole = all(isinstance(side, int | np.integer) and (side > 0 or side == -1) for side in given)
    if len(given) != 2 or not whole or (isinstance(chunks, Mapping) and set(chunks) - {"y", "x"}):
        raise SceneError(
            "chunks must be a number of pixels, (rows, columns) or {'y': rows, 'x': columns}, "
            f"each 1 or more or -1 for all, got {chunks!r}."
        )
    rows, columns = (
        length if side == -1 else min(int(side), length)
        for side, length in zip(given, shape, strict=True)
    )
    return rows, columns


def near_blocks(block: int, wanted: int, length: int) -> int:
    """Round a length to whole blocks.

    Parameters
    ----------
    block : int
        Length of a block.
    wanted : int
        Length to come near to.
    length : int
        Length of the whole, which is not exceeded.

    Returns
    -------
    int
        At least one block.

    Examples
    --------
    >>> near_blocks(512, 1200, 10980)
    1024
    """
    return min(length, block * max(1, round(wanted / block)))


def check_complete(dataset: Any) -> None:
    """Make sure that a raster file holds all its blocks, without reading them.

    For TIFF the place of every block is compared with the length of the file. A JP2 is followed
    from tile to tile by their headers (in a zip, the length in its header is compared): GDAL
    gives missing tiles as 0, often without an error. Of these and other files the last pixel is
    read: that decodes all of a JPEG or PNG (0.1 s for 6 million pixels) and one block of a JP2.
    GDAL gives rows that are missing from a PNG as 0 without an error when the whole file is read
    at once, so this check is the only one that notices.

    Parameters
    ----------
    dataset : rasterio.io.DatasetReader
        The open file.

    Raises
    ------
    SceneError
        When the file is cut short.
    """
    path, reason = dataset.name, ""
    try:
        if dataset.driver == "GTiff":
            needed, length = _last_byte(dataset), _length(path)
            if length is not None and needed > length:
                reason = f"{length} bytes long and needs {needed}"
        else:
            if dataset.driver.startswith("JP2"):
                reason = _jp2_shortfall(path)
            dataset.read(1, window=Window(dataset.width - 1, dataset.height - 1, 1, 1))
    except RasterioError as error:
        reason = reason or f"not readable to its end ({_reason(error)})"
    if reason:
        raise SceneError(
            f"{path} must be complete, but it is {reason}. Copy or download the file again."
        )


def _length(path: str) -> int | None:
    """Length of a file, or of one in a zip; None where it lies elsewhere."""
    if _REMOTE.match(path):
        return None
    inside = _IN_ZIP.fullmatch(path)
    if inside is None:
        return Path(path).stat().st_size
    with zipfile.ZipFile(inside[1]) as archive:
        return archive.getinfo(inside[2]).file_size


def _jp2_shortfall(path: str) -> str:
    length = _length(path)
    if length is None:
        return ""
    inside = _IN_ZIP.fullmatch(path)
    if inside is None:
        with Path(path).open("rb") as file:
            return jp2_shortfall(file, length)
    # Going from tile to tile would unpack all of it.
    try:
        with zipfile.ZipFile(inside[1]) as archive, archive.open(inside[2]) as member:
            return jp2_shortfall(member, length, walk=False)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        return f"damaged in its zip ({error})"


def _last_byte(dataset: Any) -> int:
    """Last byte of the blocks; blocks beyond a hundred thousand are sampled evenly."""
    planes = dataset.indexes if dataset.profile.get("interleave") == "band" else [1]
    height, width = dataset.block_shapes[0]
    places = [
        (plane, row, column)
        for plane in planes
        for row in range(-(-dataset.height // height))
        for column in range(-(-dataset.width // width))
    ]
    last = 0
    step = 1 + len(places) // _BLOCKS_CHECKED
    for plane, row, column in [*places[::step], places[-1]]:
        start = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=plane)
        size = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=plane)
        if start is not None and size is not None:  # absent blocks of sparse files read as nodata
            last = max(last, int(start) + int(size))
    return last


def _default_side(block: int, length: int) -> int:
    """Side of a chunk that is whole blocks, unless the blocks are huge or all of the image."""
    if block > _LARGEST_BLOCK or block >= length:
        return min(CHUNK, length)
    return near_blocks(block, CHUNK, length)


def _read_sides(
    shape: tuple[int, int],
    block: tuple[int, int],
    wanted: tuple[int, int],
    *,
    pixel_bytes: int,
    sequential: bool,
) -> tuple[int, int]:
    """Rows and columns one task reads: whole blocks, near what is wanted, within the budget."""
    (height, width), (block_rows, block_columns) = shape, block
    striped = sequential or block_columns >= width
    columns = width if striped else near_blocks(block_columns, wanted[1], width)
    most_rows = max(1, READ_BYTES // (columns * pixel_bytes))
    rows = near_blocks(block_rows, most_rows if sequential else min(wanted[0], most_rows), height)
    return rows, columns


def _reason(error: BaseException) -> str:
    return str(error.__cause__ or error).rstrip(".")
