"""CNN-Supervised Classification of one scene, as the paper tells it.

A network trained on many scenes classifies the tiles of a new one. Its tiles teach a small
network what the classes look like in this scene, and that network classifies every pixel.

Carbonneau et al. 2020, Remote Sensing of Environment 251:112107; Marochov, Stokes and Carbonneau
2021, The Cryosphere 15:5041-5059.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from csc_xr.errors import CscWarning, ParameterError, SceneError
from csc_xr.fronts.settings import FrontSettings, in_pixels
from csc_xr.inference import (
    PIXEL_OUTPUTS,
    Edge,
    classify_pixels,
    expand_tiles,
    mode_filter,
    patch_halo,
    predict_tiles,
)
from csc_xr.legend import ClassLegend
from csc_xr.networks.builders import MAX_PATCH_SIZE
from csc_xr.networks.bundle import Network
from csc_xr.networks.pixelwise import PixelClassifier
from csc_xr.record import StageTimer
from csc_xr.scene import check_bands, validate_scene
from csc_xr.training.phase_two.fitting import (
    FitSettings,
    class_shares,
    fit_patch_network,
    fit_pixel_classifier,
)
from csc_xr.training.phase_two.sampling import draw_samples
from csc_xr.windows import check_patch_size, check_tile_size

OUTPUTS = (*PIXEL_OUTPUTS[1:], "disagreement")
"""What a result can hold besides the classes of both phases."""

FEW_TILES = 5


@dataclass(frozen=True)
class ClassifySettings:
    """Settings of a classification.

    Attributes
    ----------
    patch_size : int
        Side k of the patch phase two sees, odd, 1 to 15 pixels.
    tile_size : int, optional
        Side of a tile in pixels, for networks that take any; the network's own by default.
    seed : int
        All randomness comes from it.
    min_probability : float
        Tiles whose best class is less probable teach nothing.
    despeckle : int
        Radius in tiles of a mode filter over the tile classes; 0 for none.
    mode_radius : int
        Radius in pixels of the mode filter over the pixel classes; 0 for none. Twice the
        smallest element worth showing.
    edge : {"cover", "blank"}
        Classify every pixel, or leave partial tiles and the border as 0.
    outputs : tuple of str
        Besides the classes, any of ``OUTPUTS``.
    fit : FitSettings
        How phase two samples and fits.
    front : FrontSettings, optional
        Also find the calving front, so; by default none is looked for.
    """

    patch_size: int = 7
    tile_size: int | None = None
    seed: int = 0
    min_probability: float = 0.0
    despeckle: int = 0
    mode_radius: int = 4
    edge: Edge = "cover"
    outputs: tuple[str, ...] = ()
    fit: FitSettings = field(default_factory=FitSettings)
    front: FrontSettings | None = None

    def __post_init__(self) -> None:
        check_patch_size(self.patch_size)
        if self.patch_size > MAX_PATCH_SIZE:
            raise ParameterError(
                f"Patch size must be at most {MAX_PATCH_SIZE}, got {self.patch_size}."
            )
        if self.seed < 0:
            raise ParameterError(f"seed must be 0 or more, got {self.seed}.")
        if not 0 <= self.min_probability < 1:
            raise ParameterError(
                f"min_probability must be 0 or more and below 1, got {self.min_probability}."
            )
        for name in ("despeckle", "mode_radius"):
            if getattr(self, name) < 0:
                raise ParameterError(f"{name} must be 0 or more, got {getattr(self, name)}.")
        if self.edge not in ("cover", "blank"):
            raise ParameterError(f"edge must be 'cover' or 'blank', got {self.edge!r}.")
        unknown = sorted(set(self.outputs) - set(OUTPUTS))
        if unknown:
            raise ParameterError(f"outputs may hold {', '.join(OUTPUTS)}, got {unknown}.")


def classify_scene(
    scene: xr.DataArray,
    network: Network,
    *,
    settings: ClassifySettings | None = None,
    classifier: Any = None,
    timer: StageTimer | None = None,
) -> xr.Dataset:
    """Classify a scene by both phases.

    Computes phase one and the fit of phase two; the classes of the pixels stay lazy.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x).
    network : Network
        The tile network of phase one.
    settings : ClassifySettings, optional
        How to classify.
    classifier : sklearn classifier, optional
        Takes the place of the patch network; patch size must be 1.
    timer : StageTimer, optional
        Takes the time of each stage.

    Returns
    -------
    xarray.Dataset
        On the scene's grid, lazy: ``tile_class`` and ``pixel_class`` (y, x) uint8, 0 where the
        scene is not valid, and the outputs asked for in the settings. ``disagreement`` is 1 where
        the phases differ.

    Raises
    ------
    SceneError
        When the scene lacks bands the network needs or has no valid pixel.
    NetworkError
        When the network is not a tile network, or its tiles have another size.
    ParameterError
        When the scene is smaller than a tile or a patch.

    Warns
    -----
    CscWarning
        When phase one finds a single class, or a class of a handful of tiles.
    """
    settings = settings or ClassifySettings()
    timer = timer or StageTimer()
    scene = check_job(scene, network, settings=settings, classifier=classifier)
    tiles = find_tiles(scene, network, settings=settings, timer=timer)
    learned = learn_scene(
        scene, tiles, network, settings=settings, classifier=classifier, timer=timer
    )
    return apply_learned(scene, tiles, learned, settings=settings)


def check_job(
    scene: xr.DataArray,
    network: Network,
    *,
    settings: ClassifySettings,
    classifier: Any = None,
) -> xr.DataArray:
    """Check that a scene, a network and settings go together, before any work.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x).
    network : Network
        The tile network of phase one.
    settings : ClassifySettings
        How to classify.
    classifier : sklearn classifier, optional
        Takes the place of the patch network.

    Returns
    -------
    xarray.DataArray
        The scene, validated, in the network's bands.

    Raises
    ------
    SceneError
        When the scene lacks bands the network needs.
    ParameterError
        When the scene is smaller than a tile or a patch, or the classifier does not fit.
    LegendError
        When a front is to be found, and the network's legend lacks glacier or ocean.
    LineError
        When a front is to be found, and the scene has no CRS.
    """
    scene = check_bands(validate_scene(scene), network.card.bands, who="The network")
    shape = (scene.sizes["y"], scene.sizes["x"])
    check_tile_size(settings.tile_size or network.card.size, shape)
    patch_halo(settings.patch_size, scene)
    if classifier is not None and settings.patch_size != 1:
        raise ParameterError(
            f"A scikit-learn classifier takes single pixels, got patch size "
            f"{settings.patch_size}. Use patch_size=1."
        )
    predict_tiles(scene, network, tile_size=settings.tile_size)  # lazy: checks the rest
    if settings.front is not None:
        in_pixels(settings.front, network.card.legend, scene)
    return scene


def find_tiles(
    scene: xr.DataArray,
    network: Network,
    *,
    settings: ClassifySettings,
    timer: StageTimer,
    keep: Callable[[xr.Dataset], xr.Dataset] | None = None,
) -> xr.Dataset:
    """Phase one: classify the tiles of a scene. Computes.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x).
    network : Network
        The tile network.
    settings : ClassifySettings
        How to classify.
    timer : StageTimer
        Takes the time of the stage "tiles".
    keep : callable, optional
        Computes the lazy tiles into a store and opens it, where they should survive this process.

    Returns
    -------
    xarray.Dataset
        As :func:`csc_xr.inference.predict_tiles` gives it, in memory.

    Raises
    ------
    SceneError
        When no tile has a class.

    Warns
    -----
    CscWarning
        When there is a single class, or a class of a handful of tiles.
    """
    with timer.stage("tiles"):
        lazy = predict_tiles(
            scene,
            network,
            tile_size=settings.tile_size,
            min_probability=settings.min_probability,
            despeckle=settings.despeckle,
            edge=settings.edge,
        )
        tiles = (keep(lazy) if keep else lazy).compute()
    codes, counts = np.unique(tiles["tile_class"].data, return_counts=True)
    found = {int(code): int(count) for code, count in zip(codes, counts, strict=True) if code}
    if not found:
        raise SceneError(
            "Phase one needs a tile with valid pixels and a class, but found none: the scene is "
            "all nodata or masked, or no tile reaches min_probability="
            f"{settings.min_probability}. Check the scene's nodata value and mask."
        )
    _say_if_few(found, network.card.legend)
    return tiles


def learn_scene(
    scene: xr.DataArray,
    tiles: xr.Dataset,
    network: Network,
    *,
    settings: ClassifySettings,
    classifier: Any = None,
    initial: Network | None = None,
    timer: StageTimer,
    progress: Callable[[int, int], None] | None = None,
) -> Network | PixelClassifier:
    """Phase two, first half: learn this scene from its tiles. Computes.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x).
    tiles : xarray.Dataset
        From :func:`find_tiles`.
    network : Network
        The tile network; its bands, scale and legend are phase two's as well.
    settings : ClassifySettings
        How to sample and fit.
    classifier : sklearn classifier, optional
        Fitted in place of a patch network.
    initial : Network, optional
        Patch network of a scene like this one, to go on from.
    timer : StageTimer
        Takes the times of the stages "samples" and "fit".
    progress : callable, optional
        Called with steps done and steps at most.

    Returns
    -------
    Network or PixelClassifier
        Ready for :func:`csc_xr.inference.classify_pixels`.
    """
    card = network.card
    scale = card.scale or float(scene.attrs["scale"])
    with timer.stage("samples"):
        samples = draw_samples(
            scene,
            expand_tiles(tiles["tile_class"], scene, tile_size=tiles.attrs["tile_size"]),
            bands=card.bands,
            patch_size=settings.patch_size,
            per_class=settings.fit.samples_per_class,
            seed=settings.seed,
        )
    with timer.stage("fit"):
        if classifier is not None:
            return fit_pixel_classifier(
                samples, classifier, bands=card.bands, scale=scale, legend=card.legend
            )
        learned, _ = fit_patch_network(
            samples,
            bands=card.bands,
            scale=scale,
            legend=card.legend,
            class_shares=class_shares(tiles["tile_class"]),
            seed=settings.seed,
            settings=settings.fit,
            initial=initial,
            progress=progress,
        )
    return learned


def apply_learned(
    scene: xr.DataArray,
    tiles: xr.Dataset,
    learned: Network | PixelClassifier,
    *,
    settings: ClassifySettings,
) -> xr.Dataset:
    """Phase two, second half: classify every pixel. Lazy.

    Parameters
    ----------
    scene : xarray.DataArray
        Dims (band, y, x).
    tiles : xarray.Dataset
        From :func:`find_tiles`.
    learned : Network or PixelClassifier
        From :func:`learn_scene`.
    settings : ClassifySettings
        Which outputs, and how to filter.

    Returns
    -------
    xarray.Dataset
        As :func:`classify_scene` gives it.
    """
    wanted = tuple(name for name in settings.outputs if name in PIXEL_OUTPUTS)
    result = classify_pixels(scene, learned, outputs=("pixel_class", *wanted), edge=settings.edge)
    result["pixel_class"] = mode_filter(result["pixel_class"], radius=settings.mode_radius)
    tile_class = expand_tiles(tiles["tile_class"], scene, tile_size=tiles.attrs["tile_size"])
    tile_class = tile_class.copy(data=tile_class.data.rechunk(result["pixel_class"].data.chunks))
    if "disagreement" in settings.outputs:
        both = (tile_class > 0) & (result["pixel_class"] > 0)
        differ = both & (tile_class != result["pixel_class"])
        result["disagreement"] = differ.astype(np.uint8)
    return result.assign(tile_class=tile_class)


def _say_if_few(found: dict[int, int], legend: ClassLegend) -> None:
    if len(found) == 1:
        (code,) = found
        warnings.warn(
            f"Phase one found a single class, {legend.class_name(code)}: all pixels get it.",
            CscWarning,
            stacklevel=3,
        )
        return
    few = [f"{legend.class_name(c)} ({n})" for c, n in found.items() if n <= FEW_TILES]
    if few:
        warnings.warn(
            f"Phase one found only a few tiles of {', '.join(few)}; their pixel classes rest "
            "on little.",
            CscWarning,
            stacklevel=3,
        )
