"""What a run will take of memory, worked out before it begins, and kept within a limit.

The limit changes how many chunks are computed at once, never what comes out.
"""

from __future__ import annotations

import ctypes
import math
import sys
from contextlib import suppress
from dataclasses import dataclass

import psutil
import xarray as xr

from csc_xr.blockwise import CHUNK
from csc_xr.errors import ParameterError
from csc_xr.networks.builders import build_patch_network
from csc_xr.networks.bundle import Network
from csc_xr.networks.convolution import convolutional_form
from csc_xr.windows import working_chunks
from csc_xr.workflow import ClassifySettings

SHARE = 0.8
"""Part of the memory of the machine that a run may take when no limit is given."""

_LARGE_BUFFER = 2**24
_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
# Measured: TensorFlow's own growth on first use, and what stays of a fit.
_FIRST_USE = 150e6
_FIT = 80e6
_UNITS = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "b": 1, "": 1}


@dataclass(frozen=True)
class MemoryPlan:
    """How a scene will be worked on, and what that takes.

    Attributes
    ----------
    chunks : int
        Chunks that pixels are classified in.
    chunk_side : int
        Longest side of a chunk in pixels.
    threads : int
        Chunks computed at once.
    predicted_peak : int
        Bytes of resident memory, this process as it is now included.
    limit : int
        Bytes allowed.
    """

    chunks: int
    chunk_side: int
    threads: int
    predicted_peak: int
    limit: int

    def __str__(self) -> str:
        return (
            f"{self.chunks} chunks of at most {self.chunk_side} x {self.chunk_side} px, "
            f"{self.threads} at once; about {self.predicted_peak / 1e9:.1f} GB of "
            f"{self.limit / 1e9:.1f} GB allowed"
        )


def plan_memory(
    scene: xr.DataArray,
    network: Network,
    settings: ClassifySettings,
    *,
    limit: int | None = None,
    threads: int | None = None,
) -> MemoryPlan:
    """Work out how many chunks of a scene may be computed at once.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x); its own chunks count. Nothing is computed.
    network : Network
        The tile network.
    settings : ClassifySettings
        How to classify.
    limit : int, optional
        Bytes of resident memory allowed; by default four fifths of the machine's, or of what its
        control group grants.
    threads : int, optional
        Most chunks at once; by default one for each core.

    Returns
    -------
    MemoryPlan
        The most threads that fit.

    Raises
    ------
    ParameterError
        When a single thread would take more than the limit.
    """
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    limit = int(MEMORY_LIMIT * SHARE) if limit is None else limit
    fixed = psutil.Process().memory_info().rss + _FIRST_USE + _fit_bytes(scene, network, settings)
    fixed += 2 * _frontier_bytes(scene)
    each = max(_tile_bytes(network, settings), _pixel_bytes(scene, network, settings))
    most = threads or CPU_COUNT
    fitting = int(min(most, (limit - fixed) // each))
    if fitting < 1:
        raise ParameterError(
            f"memory_limit must be at least {(fixed + each) / 1e9:.2f} GB for this scene, network "
            f"and patch size, got {limit / 1e9:.2f} GB. Allow more, use a smaller patch size or "
            "fewer samples, or store the scene in smaller chunks."
        )
    sides = [working_chunks(lengths, least=1, most=CHUNK) for lengths in scene.data.chunks[1:]]
    return MemoryPlan(
        chunks=math.prod(len(lengths) for lengths in sides),
        chunk_side=max(max(lengths) for lengths in sides),
        threads=fitting,
        predicted_peak=int(fixed + fitting * each),
        limit=limit,
    )


def parse_bytes(text: str) -> int:
    """Read a number of bytes with a unit.

    Parameters
    ----------
    text : str
        Such as ``"4 GB"``, ``"2GiB"`` or ``"1500000000"``.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ParameterError
        When it is no number of bytes.

    Examples
    --------
    >>> parse_bytes("4 GB"), parse_bytes("2GiB")
    (4000000000, 2147483648)
    """
    number = text.strip().rstrip("BbGgIiKkMm ")
    unit = text.strip()[len(number) :].strip().lower()
    try:
        found = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        found = 0.0
    if not 0 < found < math.inf:
        raise ParameterError(f"A memory limit is a size such as 4GB or 500MiB, got {text!r}.")
    return int(found)


def give_back_large_buffers() -> None:
    """Have glibc return every freed buffer of 16 MB or more to the system at once.

    By default it learns to keep them, and a long run then holds hundreds of megabytes that
    nothing uses. Elsewhere than on Linux nothing is done.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library has no mallopt
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BUFFER)


def _frontier_bytes(scene: xr.DataArray) -> float:
    """Chunks that wait for their neighbours: a row of them, across the scene, and its validity."""
    rows = max(CHUNK, *scene.data.chunks[1])
    return float(rows * scene.sizes["x"] * (scene.sizes["band"] + 1) * scene.dtype.itemsize)


def _tile_bytes(network: Network, settings: ClassifySettings) -> float:
    """One batch of tiles in its two widest layers, with as much again to work in."""
    from csc_xr.networks.runtime import batch_size

    size = settings.tile_size or network.card.size
    largest = 0
    for layer in network.model.layers:
        shape = getattr(layer.output, "shape", ())
        places = [size if side is None else int(side) for side in shape[1:]]
        largest = max(largest, math.prod(places))
    return 4.0 * 4 * largest * batch_size(size)


def _pixel_bytes(scene: xr.DataArray, network: Network, settings: ClassifySettings) -> float:
    """One block in its two widest layers, and the chunk it is cut from with its probabilities."""
    from csc_xr.networks.runtime import BLOCK_SIDE

    n_outputs = network.card.legend.n_outputs
    model = build_patch_network(
        patch_size=settings.patch_size,
        n_bands=len(network.card.bands),
        n_outputs=n_outputs,
        activation=settings.fit.activation,
        seed=0,
    )
    form = convolutional_form(model, patch_size=settings.patch_size)
    wide = [sum(s.kernel.shape[2:]) for s in form.stages if s.kernel.shape[0] > 1]
    chunk = CHUNK**2 * (3 * 4 * n_outputs + 2 * (scene.sizes["band"] + 1) * scene.dtype.itemsize)
    return float(2 * 4 * BLOCK_SIDE**2 * max([*wide, 2 * n_outputs]) + chunk)


def _fit_bytes(scene: xr.DataArray, network: Network, settings: ClassifySettings) -> float:
    """Count samples of every class twice: while they are gathered, and kept."""
    patch = settings.patch_size**2 * len(network.card.bands) * scene.dtype.itemsize
    most = settings.fit.samples_per_class * len(network.card.legend.codes)
    return _FIT + 2 * float(min(most * patch, 2**29))
