"""Tile classes that several runs share: phase one does not depend on the patch size."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from csc_xr.files import replacing
from csc_xr.record import fingerprint
from csc_xr.runs.locks import one_at_a_time
from csc_xr.runs.unfinished import Unfinished

_DECIDING = (
    "network", "tile_size", "min_probability", "despeckle", "edge", "opening", "software"
)  # fmt: skip
_REMOVED = ".removed"


@dataclass(frozen=True)
class SharedTiles:
    """A folder of finished tile classes, by all that decides them.

    Attributes
    ----------
    folder : Path
        Made when it is needed; nothing is lost when it is removed between runs.
    """

    folder: Path

    def keep(self, work: Unfinished, lazy: xr.Dataset) -> xr.Dataset:
        """Compute the tiles of a scene into its work, or copy those another run has computed.

        Parameters
        ----------
        work : Unfinished
            The work on the scene.
        lazy : xarray.Dataset
            Its tiles, lazy.

        Returns
        -------
        xarray.Dataset
            Opened from the work's own store, lazy.

        Raises
        ------
        OutputError
            When they cannot be written into the work.
        """
        known = self.folder / f"{tiles_fingerprint(work)}.zarr"
        with one_at_a_time(known.with_suffix(".lock"), None):
            own = work.store("tiles")
            if known.is_dir() and not own.is_dir():
                _copy(known, own)
            tiles = work.keep("tiles", lazy)
            if not known.is_dir():
                _copy(own, known)
        return tiles

    def remove(self) -> None:
        """Remove the tiles, once no run needs them any more, and the folder if nothing is left."""
        for known in self.folder.glob(f"{'[0-9a-f]' * 64}.*"):
            if known.suffix not in (".zarr", _REMOVED):
                continue
            aside = known.with_suffix(_REMOVED)
            with suppress(OSError):  # another process removes them, or is copying them
                known.rename(aside)  # a copy that has begun fails, and is not half a copy
            shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):
            self.folder.rmdir()


def tiles_fingerprint(work: Unfinished) -> str:
    """Give what is equal for two works if phase one gives the same in both.

    Parameters
    ----------
    work : Unfinished
        The work on a scene.

    Returns
    -------
    str
        A checksum over network, settings of phase one, inputs and software.
    """
    identity = work.identity
    inputs = {
        role: checksum
        for role, checksum in identity["inputs"].items()
        if role in ("image", "mask", "pixels")
    }
    return fingerprint({name: identity.get(name) for name in _DECIDING}, inputs)


def _copy(source: Path, target: Path) -> None:
    """Copy a store whole, or not at all: then its tiles are computed."""
    with suppress(OSError), replacing(target, folder=True) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)
