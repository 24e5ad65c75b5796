"""Phase-one training: labelled tiles cut from scenes, and a tile network fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from csc_xr.errors import LabelError, ParameterError, SceneError
from csc_xr.legend import NODATA_CODE, ClassLegend
from csc_xr.networks.builders import TileArchitecture, build_tile_network
from csc_xr.networks.bundle import Network
from csc_xr.networks.card import NetworkCard
from csc_xr.scene import check_bands, valid_pixels, validate_scene
from csc_xr.windows import check_tile_size

Progress = Callable[[int, int], None]
Starts = tuple[NDArray[np.int64], NDArray[np.int64]]  # first rows, first columns

_BATCH = 256  # tiles predicted at once when a network is scored


@dataclass(frozen=True, eq=False)
class LabelledTiles:
    """Tiles of nearly one class each.

    Attributes
    ----------
    values : ndarray
        Shape (n, size, size, bands), in the scenes' own dtype and numbers; 0 in place of pixels
        that are not valid.
    codes : ndarray of uint8
        Shape (n,): class of each tile.
    scenes : ndarray of int64
        Shape (n,): position in the list of scenes of the one each tile was cut from.
    """

    values: NDArray[np.generic]
    codes: NDArray[np.uint8]
    scenes: NDArray[np.int64]

    def counts(self) -> dict[int, int]:
        """Count the tiles of each class.

        Returns
        -------
        dict of int to int
            Number of tiles by class code, in order of the codes.
        """
        return _counts(self.codes)


class EpochScores(NamedTuple):
    """How one pass over the tiles went.

    Attributes
    ----------
    loss, accuracy : float
        Means over the augmented tiles of this epoch, while the weights changed.
    validation_accuracy : float or None
        Share of the validation tiles classed right after it; None without validation scenes.
    """

    loss: float
    accuracy: float
    validation_accuracy: float | None


@dataclass(frozen=True)
class TileFitReport:
    """What a fit of a tile network went through.

    Attributes
    ----------
    epochs : list of EpochScores
        One for each epoch taken.
    validation_accuracy : float or None
        Share of the validation tiles that the network classes right; None without any.
    validation_recall : dict of int to float
        The same for the validation tiles of each class, by code.
    tiles : dict of int to int
        Tiles learned from, by class code.
    validation_tiles : dict of int to int
        Tiles validated on, by class code.
    """

    epochs: list[EpochScores]
    validation_accuracy: float | None
    validation_recall: dict[int, float]
    tiles: dict[int, int]
    validation_tiles: dict[int, int]


def extract_tiles(
    scenes: Sequence[xr.DataArray],
    labels: Sequence[xr.DataArray],
    *,
    bands: Sequence[str],
    tile_size: int,
    stride: int,
    purity: float = 0.95,
    max_unlabelled: float = 0.10,
    per_class: int | None = None,
    seed: int = 0,
) -> LabelledTiles:
    """Cut tiles of nearly one class out of labelled scenes.

    Computes: reads one scene after another, and keeps the tiles in memory.

    Parameters
    ----------
    scenes : sequence of xarray.DataArray
        Dims (band, y, x), all of one dtype.
    labels : sequence of xarray.DataArray
        Class codes of each scene, dims (y, x), uint8; 0 is unlabelled.
    bands : sequence of str
        Names of the bands the tiles hold, in order.
    tile_size : int
        Side of a tile in pixels.
    stride : int
        Pixels from one window to the next. The last windows touch the last row and column,
        whatever the stride.
    purity : float
        Least share of a tile that its commonest class covers.
    max_unlabelled : float
        Most of a tile that may be unlabelled or not valid, as a share.
    per_class : int, optional
        Most tiles of a class, over all scenes; all by default.
    seed : int
        Decides which tiles are kept when there are more.

    Returns
    -------
    LabelledTiles
        In the order of the scenes, and within each by row and column.

    Raises
    ------
    ParameterError
        When a setting is out of range.
    SceneError
        When there is no scene, or scenes lack bands or differ in dtype.
    LabelError
        When labels do not fit their scene, or no tile is pure enough.

    Notes
    -----
    Marochov, Stokes and Carbonneau 2021, The Cryosphere 15:5041-5059: 50 px tiles moved by 25 px.
    """
    _require(
        ("stride", stride, stride >= 1, "be 1 or more pixels"),
        ("purity", purity, 0 < purity <= 1, "lie above 0 and up to 1"),
        ("max_unlabelled", max_unlabelled, 0 <= max_unlabelled <= 1, "lie in 0 to 1"),
        ("per_class", per_class, per_class is None or per_class >= 1, "be 1 or more, or None"),
    )
    checked = _checked_scenes(scenes, labels, bands, tile_size)
    found: list[NDArray[np.int64]] = []  # rows: code, scene, first row, first column
    windows = 0
    for index, (scene, codes) in enumerate(zip(checked, labels, strict=True)):
        usable = np.where(valid_pixels(scene).values, codes.values, np.uint8(NODATA_CODE))
        down, right = (_starts(length, tile_size, stride) for length in usable.shape)
        windows += len(down) * len(right)
        majority = _majority_codes(usable, (down, right), tile_size, purity, max_unlabelled)
        row, column = np.nonzero(majority)
        place = (majority[row, column], np.full(len(row), index), down[row], right[column])
        found.append(np.stack(place).astype(np.int64))
    kept = np.concatenate(found, axis=1)
    if not kept.shape[1]:
        raise LabelError(
            f"Tiles must be labelled, with one class on {purity:.0%} of each, but none of "
            f"{windows} windows of {tile_size} px in {len(checked)} scene(s) is. "
            "Label larger areas, lower purity, or take smaller tiles."
        )
    kept = _thinned(kept, per_class, seed)
    values = np.concatenate(
        [_cut(scene, kept[2:, kept[1] == i], tile_size) for i, scene in enumerate(checked)]
    )
    return LabelledTiles(values, kept[0].astype(np.uint8), kept[1])


def fit_tile_network(
    tiles: LabelledTiles,
    *,
    architecture: TileArchitecture = "compact",
    bands: tuple[str, ...],
    scale: float,
    legend: ClassLegend,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    brightness: float = 0.0,
    validation_scenes: Sequence[int] = (),
    target_accuracy: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Network, TileFitReport]:
    """Fit a phase-one network to labelled tiles.

    In each epoch every class is drawn equally often, however many tiles it has, and each tile
    is turned by quarters and flipped at random. The learning rate falls along half a cosine.
    Validation tiles come from scenes of their own, since tiles of one scene may overlap. With
    the same tiles, settings and seed the result is the same to the bit on any machine of one
    kind, since TensorFlow runs on one thread.

    Parameters
    ----------
    tiles : LabelledTiles
        From :func:`extract_tiles`.
    architecture : {"compact", "vgg16"}
        As :func:`csc_xr.networks.builders.build_tile_network` takes it.
    bands : tuple of str
        Names of the tiles' bands.
    scale : float
        Divisor of the tiles' numbers.
    legend : ClassLegend
        Classes; the network has an output for each code up to the highest, and never predicts
        classes it saw no tile of.
    epochs : int
        Most passes over the tiles.
    batch_size : int
        Tiles in a step.
    learning_rate : float
        Of the first step.
    brightness : float
        Each tile is multiplied by a random factor between 1 - brightness and 1 + brightness.
    validation_scenes : sequence of int
        Scenes (positions, as in ``tiles.scenes``) whose tiles are not learned from.
    target_accuracy : float, optional
        Stop after the epoch whose validation accuracy reaches it.
    seed : int
        Of the first weights, the order of the tiles and their augmentation.
    progress : callable, optional
        Called with steps done and steps at most.

    Returns
    -------
    network : Network
        A tile network; its provenance counts scenes and tiles and holds the settings.
    report : TileFitReport
        How it went.

    Raises
    ------
    ParameterError
        When a setting is out of range or contradicts the tiles.
    LabelError
        When tiles have codes the legend lacks.
    """
    _require(
        ("epochs", epochs, epochs >= 1, "be 1 or more"),
        ("batch_size", batch_size, batch_size >= 1, "be 1 or more"),
        ("learning_rate", learning_rate, learning_rate > 0, "be above 0"),
        ("brightness", brightness, 0 <= brightness < 1, "be 0 or more and below 1"),
    )
    _check_tiles(tiles, bands, legend)
    held_out = _checked_split(tiles, validation_scenes, target_accuracy)
    learn, check = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    model = build_tile_network(
        architecture,
        tile_size=tiles.values.shape[1],
        n_bands=len(bands),
        n_outputs=legend.n_outputs,
        seed=seed,
    )
    batches = _Batches(tiles, learn, batch_size, scale, brightness, np.random.default_rng(seed))
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * batches.steps, alpha=0.01)
    model.compile(
        optimizer=keras.optimizers.Adam(rate, amsgrad=True),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    history: list[EpochScores] = []
    right = np.empty(0, np.bool_)
    for epoch in range(epochs):
        scores = np.zeros(2)
        for step in range(batches.steps):
            scores += model.train_on_batch(*batches.draw(step))
            if progress:
                progress(epoch * batches.steps + step + 1, epochs * batches.steps)
        right = _classed_right(model, tiles, check, scale)
        accuracy = float(right.mean()) if len(check) else None
        loss, learned = scores / batches.steps
        history.append(EpochScores(float(loss), float(learned), accuracy))
        if target_accuracy is not None and accuracy is not None and accuracy >= target_accuracy:
            break
    report = TileFitReport(
        epochs=history,
        validation_accuracy=history[-1].validation_accuracy,
        validation_recall=_recall(tiles.codes[check], right),
        tiles=_counts(tiles.codes[learn]),
        validation_tiles=_counts(tiles.codes[check]),
    )
    card = NetworkCard(
        kind="tile",
        bands=bands,
        scale=scale,
        size=tiles.values.shape[1],
        legend=legend,
        codes=tuple(code if code in report.tiles else 0 for code in range(legend.n_outputs)),
        provenance={
            "architecture": architecture,
            "scenes": len(np.unique(tiles.scenes[learn])),
            "validation_scenes": len(set(validation_scenes)),
            "tiles": {str(code): count for code, count in report.tiles.items()},
            "epochs": len(history),
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "brightness": brightness,
            "seed": seed,
            "validation_accuracy": report.validation_accuracy,
        },
    )
    return Network(card, model), report


def _require(*settings: tuple[str, object, bool, str]) -> None:
    """Check settings given as name, value, whether it can be used, and the rule."""
    for name, value, usable, rule in settings:
        if not usable:
            raise ParameterError(f"{name} must {rule}, got {value}.")


def _checked_scenes(
    scenes: Sequence[xr.DataArray],
    labels: Sequence[xr.DataArray],
    bands: Sequence[str],
    tile_size: int,
) -> list[xr.DataArray]:
    if not scenes or len(scenes) != len(labels):
        raise SceneError(
            f"Tiles are cut from one or more scenes, each with its labels, got {len(scenes)} "
            f"scenes and {len(labels)} label rasters."
        )
    checked = [check_bands(validate_scene(scene), bands, who="extract_tiles") for scene in scenes]
    dtypes = sorted({str(scene.dtype) for scene in checked})
    if len(dtypes) > 1:
        raise SceneError(
            f"Scenes to learn from together must have one dtype, got {', '.join(dtypes)}. "
            "Convert them to one dtype and scale."
        )
    for index, (scene, codes) in enumerate(zip(checked, labels, strict=True)):
        if codes.dims != ("y", "x") or codes.shape != scene.shape[1:] or codes.dtype != np.uint8:
            raise LabelError(
                f"Labels must be uint8 codes with dims (y, x) of the shape of their scene, "
                f"{scene.shape[1:]}, got {codes.dtype} with dims {codes.dims} of shape "
                f"{codes.shape} for scene {index}. Open them with open_labels(like=scene)."
            )
        check_tile_size(tile_size, (scene.sizes["y"], scene.sizes["x"]))
    return checked


def _starts(length: int, size: int, stride: int) -> NDArray[np.int64]:
    """First pixels of windows moved by a stride, and of one that ends with the axis."""
    last = length - size
    return np.unique(np.append(np.arange(0, last + 1, stride), last))


def _majority_codes(
    codes: NDArray[np.uint8], starts: Starts, size: int, purity: float, max_unlabelled: float
) -> NDArray[np.uint8]:
    """Give the commonest class of each window, 0 where it covers too little of it."""
    best = np.zeros((len(starts[0]), len(starts[1])), np.uint8)
    most = np.zeros(best.shape, np.int64)
    for code in np.unique(codes[codes != NODATA_CODE]):
        count = _window_counts(codes == code, starts, size)
        best[count > most] = code
        most = np.maximum(most, count)
    empty = _window_counts(codes == NODATA_CODE, starts, size)
    # The allowance keeps a tile of exactly the share asked for, which no float may be equal to.
    pure = (most >= purity * size**2 - 1e-6) & (empty <= max_unlabelled * size**2 + 1e-6)
    return np.where(pure, best, np.uint8(NODATA_CODE))


def _window_counts(where: NDArray[np.bool_], starts: Starts, size: int) -> NDArray[np.int64]:
    """Count the true pixels of each window as differences of running sums along each axis."""
    rows, columns = starts
    above = np.pad(where.cumsum(axis=0), ((1, 0), (0, 0)))
    left: NDArray[np.int64]
    left = np.pad((above[rows + size] - above[rows]).cumsum(axis=1), ((0, 0), (1, 0)))
    return left[:, columns + size] - left[:, columns]


def _thinned(found: NDArray[np.int64], per_class: int | None, seed: int) -> NDArray[np.int64]:
    if per_class is None:
        return found
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.flatnonzero(found[0] == code))[:per_class]
        for code in np.unique(found[0])
    ]
    return found[:, np.sort(np.concatenate(chosen))]


def _cut(scene: xr.DataArray, starts: NDArray[np.int64], size: int) -> NDArray[np.generic]:
    if not starts.shape[1]:
        return np.empty((0, size, size, scene.sizes["band"]), scene.dtype)
    values = scene.where(valid_pixels(scene), scene.dtype.type(0)).values
    windows = np.lib.stride_tricks.sliding_window_view(values, (size, size), axis=(1, 2))
    return windows[:, starts[0], starts[1]].transpose(1, 2, 3, 0)


class _Batches:
    """Augmented batches in which every class comes equally often."""

    def __init__(
        self,
        tiles: LabelledTiles,
        chosen: NDArray[np.int64],
        size: int,
        scale: float,
        brightness: float,
        random: np.random.Generator,
    ) -> None:
        self.tiles, self.size, self.scale = tiles, size, scale
        self.brightness, self.random = brightness, random
        codes = tiles.codes[chosen]
        self.of_class = [chosen[codes == code] for code in np.unique(codes)]
        self.steps = -(-len(chosen) // size)
        self.order = np.empty(0, np.int64)

    def draw(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Give the batch of a step of an epoch; step 0 draws a new epoch."""
        if step == 0:
            wanted = -(-self.steps * self.size // len(self.of_class))
            drawn = [self._draw_class(members, wanted) for members in self.of_class]
            self.order = self.random.permutation(np.concatenate(drawn))
        chosen = self.order[step * self.size : (step + 1) * self.size]
        batch = self.tiles.values[chosen].astype(np.float32) / np.float32(self.scale)
        for index, turn in enumerate(self.random.integers(8, size=len(batch))):
            turned = np.rot90(batch[index], turn % 4)
            batch[index] = turned[::-1] if turn >= 4 else turned
        factor = self.random.uniform(-self.brightness, self.brightness, (len(batch), 1, 1, 1))
        return batch * (1 + factor).astype(np.float32), self.tiles.codes[chosen]

    def _draw_class(self, members: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
        """Take each tile of a class once, in a new order, before any again."""
        rounds = -(-wanted // len(members))
        return np.concatenate([self.random.permutation(members) for _ in range(rounds)])[:wanted]


def _checked_split(
    tiles: LabelledTiles, validation_scenes: Sequence[int], target_accuracy: float | None
) -> NDArray[np.bool_]:
    """Say which tiles are for validation."""
    there = set(np.unique(tiles.scenes).tolist())
    held = set(validation_scenes)
    if not held <= there or held == there:
        raise ParameterError(
            f"validation_scenes must be some, not all, of the scenes with tiles, {sorted(there)}, "
            f"got {sorted(held)}."
        )
    if target_accuracy is not None and (not held or not 0 < target_accuracy <= 1):
        raise ParameterError(
            f"target_accuracy must lie above 0 and up to 1, and needs validation_scenes to be "
            f"measured on, got {target_accuracy} and validation scenes {sorted(held)}."
        )
    return np.isin(tiles.scenes, sorted(held))


def _check_tiles(tiles: LabelledTiles, bands: tuple[str, ...], legend: ClassLegend) -> None:
    if len(bands) != tiles.values.shape[-1]:
        raise ParameterError(
            f"bands must name the {tiles.values.shape[-1]} bands of the tiles, "
            f"got {', '.join(bands)}."
        )
    unknown = sorted(set(tiles.counts()) - set(legend.codes))
    if unknown:
        raise LabelError(
            f"Tiles must have codes of legend {legend.name!r}, "
            f"{', '.join(map(str, legend.codes))}, got {', '.join(map(str, unknown))}. "
            "Pass the legend the labels were drawn with."
        )


def _classed_right(
    model: Any, tiles: LabelledTiles, chosen: NDArray[np.int64], scale: float
) -> NDArray[np.bool_]:
    right = np.empty(len(chosen), np.bool_)
    for start in range(0, len(chosen), _BATCH):
        part = chosen[start : start + _BATCH]
        found = model.predict_on_batch(tiles.values[part].astype(np.float32) / np.float32(scale))
        right[start : start + len(part)] = np.asarray(found).argmax(axis=-1) == tiles.codes[part]
    return right


def _counts(codes: NDArray[np.uint8]) -> dict[int, int]:
    present, counts = np.unique(codes, return_counts=True)
    return {int(code): int(count) for code, count in zip(present, counts, strict=True)}


def _recall(codes: NDArray[np.uint8], right: NDArray[np.bool_]) -> dict[int, float]:
    return {int(code): float(right[codes == code].mean()) for code in np.unique(codes)}
