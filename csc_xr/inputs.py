"""Images given to a run: which files they are, and a first look at their pixels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from csc_xr.errors import CscWarning, SceneError
from csc_xr.networks.card import NetworkCard
from csc_xr.record import RECORD_END
from csc_xr.scene import IMAGE_SUFFIXES, find_images, valid_pixels
from csc_xr.stores import is_store
from csc_xr.workflow import OUTPUTS


def list_images(given: Sequence[str | Path]) -> list[Path]:
    """Spread folders into the images they hold.

    Parameters
    ----------
    given : sequence of str or Path
        Images, Zarr stores and folders. Of a folder its images are taken, without label
        rasters, the folders in it, and what an earlier run wrote there.

    Returns
    -------
    list of Path
        Each once, in the order given; those of a folder by name.

    Raises
    ------
    SceneError
        When a folder has no image.
    """
    paths: list[Path] = []
    for path in map(Path, given):
        if not path.is_dir() or path.suffix == ".zarr" or is_store(path):
            paths.append(path)
            continue
        written = _written_before(path)
        found = [image for image in find_images(path) if image.stem not in written]
        if not found:
            raise SceneError(
                f"The folder {path} must hold images ({', '.join(IMAGE_SUFFIXES)}), got none. "
                "Check the path; label rasters and folders inside it are not looked at."
            )
        paths.extend(found)
    return list(dict.fromkeys(paths))


def check_any_valid(scene: xr.DataArray) -> None:
    """Make sure that a scene has a pixel with data.

    Computes: reads chunk by chunk until there is one, which most first chunks have.

    Parameters
    ----------
    scene : xarray.DataArray
        A scene.

    Raises
    ------
    SceneError
        When all pixels are nodata or masked.
    """
    valid = valid_pixels(scene).data
    for index in np.ndindex(valid.numblocks):
        if valid.blocks[index].any().compute():
            return
    raise SceneError(
        "A scene must have pixels with data, but all are nodata or masked. "
        "Check its nodata value and mask."
    )


def note_wrong_nodata(scene: xr.DataArray) -> None:
    """Say so when a file names a nodata value it does not hold, yet has much of 0.

    Computes: reads the first chunk of a scene that names a nodata value other than 0.

    Parameters
    ----------
    scene : xarray.DataArray
        A scene.

    Warns
    -----
    CscWarning
        When the nodata value is likely wrong.
    """
    nodata = scene.attrs.get("_FillValue")
    if nodata is None or nodata == 0:
        return
    block = scene.data.blocks[0, 0, 0].compute()
    empty = float((block == 0).all(axis=0).mean())
    if empty >= 0.05 and not (block == nodata).any():
        warnings.warn(
            f"{scene.attrs.get('source', scene.name)} names {nodata} as nodata but does not seem "
            f"to hold it, while {empty:.0%} of its first pixels are 0 in every band. If these have "
            "no data, pass nodata=0 (--nodata 0).",
            CscWarning,
            stacklevel=2,
        )


def note_learned_scene(name: str, card: NetworkCard) -> None:
    """Say so when a network learned from the labels that it is about to be scored by.

    Parameters
    ----------
    name : str
        Name of a scene with labels.
    card : NetworkCard
        Of the tile network; knows the names of the scenes it learned from.

    Warns
    -----
    CscWarning
        When the scene is one of them.
    """
    learned = (card.provenance.get(key, ()) for key in ("learned_scenes", "first_learned_scenes"))
    if any(name in names for names in learned):
        warnings.warn(
            f"The network learned from a scene called {name}, so scores by the labels of {name} "
            "do not tell how well it does on new scenes.",
            CscWarning,
            stacklevel=2,
        )


def _written_before(folder: Path) -> set[str]:
    """Stems of what earlier runs wrote into a folder, known by the records they left."""
    names = [path.name.removesuffix(RECORD_END) for path in folder.glob(f"*{RECORD_END}")]
    return {f"{name}_{what}" for name in names for what in ("classified", "figure", *OUTPUTS)}
