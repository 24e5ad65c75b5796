"""Labelled tiles from image files: which images, their labels, one store."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from csc_xr.errors import CscWarning, LabelError, ParameterError
from csc_xr.files import check_target
from csc_xr.labels import find_labels, open_labels
from csc_xr.legend import ClassLegend
from csc_xr.record import StageTimer
from csc_xr.scene import open_scene
from csc_xr.tiles.cutting import extract_tiles
from csc_xr.tiles.keys import ClassKey, with_class_key
from csc_xr.tiles.purity import WindowRule
from csc_xr.tiles.sets import add_copies
from csc_xr.tiles.store import write_tiles


def cut_images(
    images: Sequence[str | Path],
    out: str | Path,
    *,
    legend: ClassLegend,
    rule: WindowRule,
    labels: str | Path | None = None,
    class_key: ClassKey | None = None,
    bands: Sequence[str] | None = None,
    scene_options: Mapping[str, Any] | None = None,
    per_class: int | None = None,
    leave_out: Sequence[int] = (),
    copies: bool = False,
    flips: bool = False,
    noise: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
    timer: StageTimer | None = None,
) -> xr.Dataset:
    """Cut labelled tiles out of image files into a store.

    Computes: reads labels and images chunk by chunk.

    Parameters
    ----------
    images : sequence of str or Path
        Files or Zarr stores. Label rasters are found by name; images without are left out.
    out : str or Path
        The Zarr store to write.
    legend : ClassLegend
        Classes; with a class key, the common ones.
    rule : WindowRule
        Which windows become tiles.
    labels : str or Path, optional
        Label raster of a single image.
    class_key : ClassKey, optional
        The labels hold local classes, and this says what they are.
    bands : sequence of str, optional
        Bands the tiles hold; by default all of the first image.
    scene_options : mapping, optional
        Further arguments of :func:`csc_xr.scene.open_scene`.
    per_class : int, optional
        Most tiles of a class.
    leave_out : sequence of int
        Classes whose labels count as unlabelled.
    copies : bool
        Also store copies turned by quarters.
    flips : bool
        And copies that are mirrored.
    noise : float
        Of the copies; see :func:`csc_xr.tiles.sets.add_copies`.
    seed : int
        Of which tiles are kept, and of the noise.
    overwrite : bool
        True replaces a store that is there.
    timer : StageTimer, optional
        Takes the time of each stage.

    Returns
    -------
    xarray.Dataset
        The tiles, on disk.

    Raises
    ------
    LabelError
        When no image has labels, or labels do not fit.
    ParameterError
        When a label raster is given for several images, or a setting is out of range.
    SceneError
        When images cannot be read or do not fit together.
    TileError
        When no tile is pure enough, or a class has none.
    OutputError
        When the store cannot be written or exists.

    Warns
    -----
    CscWarning
        When images are left out.
    """
    timer = timer or StageTimer()
    rule.check()
    check_target(Path(out), folder=True, overwrite=overwrite)
    local = legend if class_key is None else class_key.local_legend(legend)
    with timer.stage("labels"):
        pairs = _with_labels([Path(image) for image in images], labels)
        scenes = [open_scene(image, **dict(scene_options or {})) for image, _ in pairs]
        codes = [
            open_labels(path, like=scene, legend=local)
            for scene, (_, path) in zip(scenes, pairs, strict=True)
        ]
        tiles = extract_tiles(
            scenes, codes,
            legend=local, tile_size=rule.size, stride=rule.stride, purity=rule.purity,
            max_unlabelled=rule.max_unlabelled, bands=bands, per_class=per_class,
            leave_out=leave_out, seed=seed,
        )  # fmt: skip
    if class_key is not None:
        tiles = with_class_key(tiles, class_key, legend)
    if copies:
        tiles = add_copies(tiles, flips=flips, noise=noise, seed=seed)
    with timer.stage("cutting"):
        return write_tiles(tiles, out, overwrite=overwrite)


def _with_labels(images: list[Path], labels: str | Path | None) -> list[tuple[Path, Path]]:
    if labels is not None:
        if len(images) != 1:
            raise ParameterError(
                f"A label raster belongs to one image, got {len(images)} images. Name the rasters "
                "SCLS_<image>.tif beside the images instead."
            )
        return [(images[0], Path(labels))]
    pairs = [(image, find_labels(image)) for image in images]
    without = [image.name for image, found in pairs if found is None]
    if len(without) == len(pairs):
        raise LabelError(
            "Tiles are cut where images are labelled, but no label raster was found beside "
            f"{', '.join(without[:5])}. Name it SCLS_<image>.tif, or pass labels= for one image."
        )
    if without:
        warnings.warn(
            f"{len(without)} of {len(pairs)} images have no label raster SCLS_<image>.tif and are "
            f"left out: {', '.join(without[:5])}{', ...' if len(without) > 5 else ''}.",
            CscWarning,
            stacklevel=3,
        )
    return [(image, found) for image, found in pairs if found is not None]
