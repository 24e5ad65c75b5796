"""What a scene has finished so far, in a folder of its own until all of it is there.

The folder's name holds the fingerprint of the work, so that work of other settings never meets
in one place, not even when a worker goes on after its client died.
"""

from __future__ import annotations

import glob
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from csc_xr.files import read_json, write_json
from csc_xr.networks.bundle import Network, open_network, save_network
from csc_xr.record import InputFile, fingerprint
from csc_xr.runs.chunks import ChunkCount, count_chunks, fill_store

FOLDER = "unfinished"
"""Name of the folder in an output folder where unfinished scenes lie."""

_CLAIM = "work.json"
_FAILED = ".failed.json"
_DIGITS = 12


@dataclass(frozen=True)
class Unfinished:
    """The work on one scene.

    Attributes
    ----------
    name : str
        The scene.
    folder : Path
        Where what is finished lies: tile classes, network, pixel classes.
    identity : mapping
        All that decides the results; see :mod:`csc_xr.runs.identity`.
    """

    name: str
    folder: Path
    identity: Mapping[str, Any]

    @property
    def claim(self) -> Path:
        """File without which nothing more is written.

        Returns
        -------
        Path
            It holds the identity.
        """
        return self.folder / _CLAIM

    def keep(self, what: str, dataset: xr.Dataset) -> xr.Dataset:
        """Compute a lazy dataset into the folder, all but the chunks that are there already.

        Parameters
        ----------
        what : str
            Name of the store.
        dataset : xarray.Dataset
            Lazy.

        Returns
        -------
        xarray.Dataset
            Opened from the store, lazy.

        Raises
        ------
        OutputError
            When it cannot be written, or the work is no longer wanted.
        """
        return fill_store(dataset, self.store(what), claim=self.claim)

    def store(self, what: str) -> Path:
        """Give the path of a store of the folder.

        Parameters
        ----------
        what : str
            Name of the store.

        Returns
        -------
        Path
            It may not exist.
        """
        return self.folder / f"{what}.zarr"

    def network(self) -> Network | None:
        """Open the patch network, if the scene has been learnt.

        Returns
        -------
        Network or None
            The network.
        """
        path = self.folder / "network.keras"
        return open_network(path) if path.is_file() else None

    def keep_network(self, network: Network) -> None:
        """Keep the patch network.

        Parameters
        ----------
        network : Network
            What was learnt.
        """
        save_network(network, self.folder / "network.keras")

    def counts(self) -> dict[str, ChunkCount]:
        """Count the chunks that are there.

        Returns
        -------
        dict of str to ChunkCount
            By name of the store: ``tiles`` and ``result``.
        """
        return {what: count_chunks(self.store(what)) for what in ("tiles", "result")}


def begin_work(
    name: str, out: Path, identity: Mapping[str, Any], inputs: Mapping[str, InputFile]
) -> Unfinished:
    """Start the work on a scene, or take it up again.

    Parameters
    ----------
    name : str
        The scene.
    out : Path
        The output folder.
    identity : mapping
        All that decides the results, with the inputs' checksums.
    inputs : mapping
        Description of each input file by role, to see later whether it changed.

    Returns
    -------
    Unfinished
        Empty, or what an earlier start left.
    """
    folder = out / FOLDER / f"{name}-{fingerprint(identity)[:_DIGITS]}"
    work = Unfinished(name, folder, identity)
    failure_file(out, name).unlink(missing_ok=True)
    if not work.claim.is_file():
        write_json({"name": name, "identity": identity, "inputs": inputs}, work.claim)
    return work


def find_work(out: Path, name: str | None = None) -> list[Unfinished]:
    """List the unfinished work in an output folder.

    Parameters
    ----------
    out : Path
        The output folder.
    name : str, optional
        The scene to look for; all by default.

    Returns
    -------
    list of Unfinished
        In order of the names; of one scene there may be several, of different settings.
    """
    found = []
    for folder in _folders(out, name):
        content = read_json(folder / _CLAIM)
        if content:  # else it is being removed
            found.append(Unfinished(content["name"], folder, content["identity"]))
    return found


def remove_work(out: Path, name: str) -> None:
    """Remove the unfinished work on a scene, once all is in its place or no longer wanted.

    Parameters
    ----------
    out : Path
        The output folder.
    name : str
        The scene.
    """
    for folder in _folders(out, name):
        (folder / _CLAIM).unlink(missing_ok=True)  # first: nothing more is written then
        shutil.rmtree(folder, ignore_errors=True)
    failure_file(out, name).unlink(missing_ok=True)
    with suppress(OSError):  # others may have work there
        (out / FOLDER).rmdir()


def _folders(out: Path, name: str | None) -> list[Path]:
    start = "*" if name is None else glob.escape(name)
    found = (out / FOLDER).glob(f"{start}-{'?' * _DIGITS}")
    return sorted(path for path in found if path.is_dir())


def lock_file(out: Path, name: str) -> Path:
    """Give the path of the file that keeps other processes from a scene.

    Parameters
    ----------
    out : Path
        The output folder.
    name : str
        The scene.

    Returns
    -------
    Path
        For :func:`csc_xr.runs.locks.one_at_a_time`.
    """
    return out / FOLDER / f"{name}.lock"


def failure_file(out: Path, name: str) -> Path:
    """Give the path of the file that says why a scene failed.

    Parameters
    ----------
    out : Path
        The output folder.
    name : str
        The scene.

    Returns
    -------
    Path
        It exists when the scene failed and was not begun since.
    """
    return out / FOLDER / f"{name}{_FAILED}"
