"""Zarr stores filled chunk by chunk: what is there already is not computed again.

A chunk of a local store is a file that appears whole, by renaming. Its Zstandard frame ends in a
checksum, so that one damaged by a loss of power is noticed and computed again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from csc_xr.blockwise import map_stores
from csc_xr.errors import CscError, OutputError
from csc_xr.export import ZARR_FORMAT, open_result, storable
from csc_xr.files import scratch_folder, write_error

COMPRESSED = {"id": "zstd", "level": 0, "checksum": True}
"""How chunks of results are compressed."""

_MARK = ".zgroup"
_ARRAY_MARKS = (".zarray", "zarr.json")


@dataclass(frozen=True)
class ChunkCount:
    """How far a store is.

    Attributes
    ----------
    found : int
        Chunks that are there, in all variables.
    total : int
        Chunks the store has when it is complete.
    """

    found: int
    total: int


@dataclass(frozen=True)
class _Target:
    """Where chunks go, as every task is told."""

    store: Path
    names: tuple[str, ...]
    claim: Path
    leading: tuple[int, ...] = ()


def fill_store(dataset: xr.Dataset, path: Path, *, claim: Path) -> xr.Dataset:
    """Compute a lazy dataset into a store, all but the chunks that are there already.

    Computes. A chunk counts as there when every variable has it, readable.

    Parameters
    ----------
    dataset : xarray.Dataset
        Lazy variables of dims (y, x), or of one dimension before them.
    path : Path
        The store; made when it is absent. When it is there, it must be of the same dataset.
    claim : Path
        A file. When it is gone, the work is no longer wanted, and no more is written: so that
        a worker whose client died cannot write into what came after.

    Returns
    -------
    xarray.Dataset
        The store, opened lazily.

    Raises
    ------
    OutputError
        When the store cannot be written, the disk is full, or the claim is gone.
    """
    sides = {
        dim: max(max(v.chunksizes[dim]) for v in dataset.data_vars.values()) for dim in ("y", "x")
    }
    whole = {dim: -1 for dim in dataset.dims if dim not in sides}
    plain = storable(dataset.chunk({**sides, **whole}))
    if not (path / _MARK).is_file():
        codecs = {name: {"compressors": (COMPRESSED,)} for name in map(str, plain.data_vars)}
        with scratch_folder(path) as scratch:
            made = scratch / "store"
            plain.to_zarr(made, mode="w", zarr_format=ZARR_FORMAT, compute=False, encoding=codecs)
            _place_new(made, path)
    names = tuple(str(name) for name in plain.data_vars)
    tasks = map_stores(
        _write_chunk,
        [plain[name].data for name in names],
        argument=_Target(path, names, claim),
    )
    _compute(tasks[~_readable_chunks(path, names)], path)
    for left in path.rglob("*.partial"):  # of a process that was killed while it wrote
        left.unlink(missing_ok=True)
    count = count_chunks(path)
    if not 0 < count.found == count.total:
        raise OutputError(
            f"{path} must hold {count.total} chunks, but {count.found} are there: another process "
            "moved or replaced it meanwhile. Start again."
        )
    return open_result(path)


def write_region(dataset: xr.Dataset, path: Path, position: int, *, claim: Path) -> None:
    """Write the result of one scene to its place in the store of a stack. Computes.

    Parameters
    ----------
    dataset : xarray.Dataset
        Lazy variables of dims (y, x), or of one dimension before them.
    path : Path
        The store, with one scene a chunk along its first dimension.
    position : int
        Place of the scene along it.
    claim : Path
        As in :func:`fill_store`.

    Raises
    ------
    OutputError
        When the store cannot be written, the disk is full, or the claim is gone.
    """
    names = tuple(str(name) for name in dataset.data_vars)
    rows, columns = _open_array(str(path / names[0])).chunks[-2:]
    aligned = dataset.chunk({"y": rows, "x": columns})
    tasks = map_stores(
        _write_chunk,
        [aligned[name].data for name in names],
        argument=_Target(path, names, claim, (position,)),
    )
    _compute(tasks, path)


def _place_new(made: Path, path: Path) -> None:
    """Move an empty store to its name, unless another process has put one there meanwhile."""
    if path.is_dir() and not (path / _MARK).is_file():
        shutil.rmtree(path)
    try:
        made.rename(path)
    except OSError:
        if not (path / _MARK).is_file():
            raise


def _compute(tasks: NDArray[np.object_], path: Path) -> None:
    try:
        dask.compute(*tasks.ravel().tolist())
    except OSError as error:
        if isinstance(error, CscError):
            raise
        raise write_error(path, error) from error


def count_chunks(path: Path) -> ChunkCount:
    """Count the chunks of a store that are there, without reading them.

    Parameters
    ----------
    path : Path
        A store that :func:`fill_store` made, or nothing yet.

    Returns
    -------
    ChunkCount
        Zeros when there is no store.
    """
    if not (path / _MARK).is_file():
        return ChunkCount(0, 0)
    grids = [_chunk_files(path / name) for name in _filled_variables(path)]
    found = sum(file.is_file() for grid in grids for file in grid.ravel())
    return ChunkCount(found, sum(grid.size for grid in grids))


def _filled_variables(path: Path) -> list[str]:
    group = zarr.open_group(path, mode="r", zarr_format=ZARR_FORMAT)
    return [name for name, array in group.arrays() if _compression(array) == COMPRESSED]


def _compression(array: Any) -> dict[str, Any]:
    compressor = array.metadata.compressor
    return {} if compressor is None else dict(compressor.get_config())


def _readable_chunks(path: Path, names: Sequence[str]) -> NDArray[np.bool_]:
    """Tell for each chunk along y and x whether all variables have it."""
    grids = []
    for name in names:
        array = _open_array(str(path / name))
        files = _chunk_files(path / name)
        found = np.array([file.is_file() for file in files.ravel()], bool).reshape(files.shape)
        for index in np.argwhere(found):
            found[tuple(index)] = _is_readable(array, tuple(index))
        grids.append(found)
    return np.asarray(np.logical_and.reduce(grids))


def _chunk_files(path: Path) -> NDArray[np.object_]:
    """Give the file of every chunk, by its place along y and x; other axes have one chunk."""
    array = _open_array(str(path))
    leading = (0,) * (array.ndim - 2)
    counts = [-(-n // side) for n, side in zip(array.shape[-2:], array.chunks[-2:], strict=True)]
    files = np.empty(counts, object)
    for index in np.ndindex(*counts):
        files[index] = path / array.metadata.encode_chunk_key((*leading, *index))
    return files


def _is_readable(array: Any, index: tuple[int, ...]) -> bool:
    region = tuple(
        slice(i * side, (i + 1) * side) for i, side in zip(index, array.chunks[-2:], strict=True)
    )
    try:
        array[(..., *region)]
    except (OSError, RuntimeError, ValueError):  # what codecs raise over damaged bytes
        return False
    return True


def _write_chunk(
    blocks: Sequence[NDArray[Any]], rows: slice, columns: slice, target: _Target
) -> None:
    if not target.claim.is_file():
        raise OutputError(
            f"{target.store} is no longer wanted: {target.claim} is gone. The work was started "
            "anew with other settings, or its folder was removed."
        )
    for name, block in zip(target.names, blocks, strict=True):
        array = _open_array(str(target.store / name))
        array[(*target.leading, ..., rows, columns)] = block


def _open_array(path: str) -> Any:
    # Stacks that were begun before results had format 2 go on in format 3.
    mark = next((mark for mark in _ARRAY_MARKS if Path(path, mark).is_file()), _ARRAY_MARKS[0])
    return _open_version(path, Path(path, mark).stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _open_version(path: str, _modified: int) -> Any:
    # Chunks of zeros are stored too: a chunk that is there is a chunk that is finished.
    array = zarr.open_array(path, mode="r+")
    return array.with_config({"write_empty_chunks": True})
