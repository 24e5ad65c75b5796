"""A patch network as the convolution it is.

A patch network maps the k x k patch around one pixel to class probabilities. Slid over a scene,
its arithmetic is that of a fully convolutional network: each valid convolution stays, the first
dense layer becomes a convolution over what the convolutions left of the patch, later dense
layers become 1 x 1 convolutions. Batch normalisation is affine at prediction time and folds
into a neighbouring kernel. Nothing is approximated.

Convolutions without activation between them are one linear map, so they may be composed into a
single wider kernel; that is done where it costs fewer multiplications.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csc_xr.errors import NetworkError

Array = NDArray[np.float64]

ACTIVATIONS = (
    "linear", "relu", "relu6", "elu", "selu", "sigmoid", "tanh", "softplus", "softmax",
)  # fmt: skip
_POINTLESS = ("Dropout", "SpatialDropout2D", "GaussianNoise", "Flatten")


@dataclass(frozen=True, eq=False)
class Stage:
    """One convolution with bias and activation.

    Attributes
    ----------
    kernel : ndarray of float
        Shape (rows, columns, inputs, outputs).
    bias : ndarray of float
        Shape (outputs,).
    activation : str
        One of ``ACTIVATIONS``.
    """

    kernel: NDArray[Any]
    bias: NDArray[Any]
    activation: str

    @property
    def multiplications(self) -> int:
        """Multiply-adds for one output pixel."""
        return int(np.prod(self.kernel.shape))


@dataclass(frozen=True, eq=False)
class ConvolutionalForm:
    """A patch network as a chain of valid convolutions with stride 1.

    Attributes
    ----------
    patch_size : int
        Side k of the patch one output pixel sees.
    stages : tuple of Stage
        Applied in order; float32. Together they shrink an area by ``patch_size - 1``.
    layer_multiplications : int
        Multiply-adds a pixel of the network's layers as they were built, without composition:
        the yardstick for speed.
    """

    patch_size: int
    stages: tuple[Stage, ...]
    layer_multiplications: int

    @property
    def n_bands(self) -> int:
        """Bands of the scene the network takes."""
        return int(self.stages[0].kernel.shape[2])

    @property
    def n_outputs(self) -> int:
        """Outputs of the network."""
        return int(self.stages[-1].kernel.shape[3])

    @cached_property
    def fingerprint(self) -> str:
        """Digest of kernels, biases and activations."""
        digest = sha256()
        for stage in self.stages:
            digest.update(repr((stage.kernel.shape, stage.activation)).encode())
            digest.update(np.ascontiguousarray(stage.kernel).tobytes())
            digest.update(np.ascontiguousarray(stage.bias).tobytes())
        return digest.hexdigest()

    def __dask_tokenize__(self) -> str:
        return self.fingerprint


def convolutional_form(model: Any, *, patch_size: int, compose: bool = True) -> ConvolutionalForm:
    """Turn a patch network into its convolutional form.

    Parameters
    ----------
    model : keras.Model
        A chain of Conv2D (valid padding, stride 1), Dense, BatchNormalization, Activation,
        Dropout and Flatten layers over (k, k, bands) patches.
    patch_size : int
        Side k of the patch the model was built for.
    compose : bool
        Merge consecutive linear convolutions where that saves multiplications.

    Returns
    -------
    ConvolutionalForm
        The same function of the patch, ready to slide.

    Raises
    ------
    NetworkError
        When a layer cannot be slid (pooling, strides, zero padding, branches) or the layers do
        not reduce a patch to one pixel.
    """
    stages = _fold(_layers(model), patch_size, int(model.input_shape[-1]))
    reach = 1 + sum(stage.kernel.shape[0] - 1 for stage in stages)
    if reach != patch_size:
        raise NetworkError(
            f"A patch network must reduce a patch of {patch_size} x {patch_size} pixels to one, "
            f"but its layers reduce {reach} x {reach}. Check the patch size on its card."
        )
    cost = sum(stage.multiplications for stage in stages)
    if compose:
        stages = _compose_linear_runs(stages)
    single = tuple(
        Stage(stage.kernel.astype(np.float32), stage.bias.astype(np.float32), stage.activation)
        for stage in stages
    )
    return ConvolutionalForm(patch_size, single, cost)


def _layers(model: Any) -> list[Any]:
    """Return the layers of a chain in order; a branching graph is refused."""
    chain = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    reached = model.inputs[0]
    for layer in chain:
        if layer.input is not reached or hasattr(layer, "layers"):
            raise NetworkError(
                f"A patch network must be a plain chain of layers, but layer {layer.name!r} "
                f"({type(layer).__name__}) branches off or holds a network of its own."
            )
        reached = layer.output
    return chain


class _Folder:
    """Collects stages while batch normalisations wait to be folded into the next kernel."""

    def __init__(self, patch_size: int, n_bands: int) -> None:
        self.extent = patch_size  # what is left of the patch
        self.channels = n_bands
        self.flat = False
        self.stages: list[Stage] = []
        self.pending: tuple[Array, Array] | None = None  # scale and shift of the next input

    def linear(self, kernel: Array, bias: Array, activation: str, name: str) -> None:
        if activation not in ACTIVATIONS:
            raise NetworkError(
                f"Layer {name!r} must have one of the activations {', '.join(ACTIVATIONS)}, "
                f"got {activation!r}."
            )
        if self.pending is not None:
            scale, shift = self.pending
            bias = bias + np.einsum("rcio,i->o", kernel, shift)
            kernel = kernel * scale[None, None, :, None]
            self.pending = None
        self.stages.append(Stage(kernel, bias, activation))
        self.extent -= kernel.shape[0] - 1
        self.channels = kernel.shape[3]

    def affine(self, scale: Array, shift: Array) -> None:
        last = self.stages[-1] if self.stages else None
        if last is not None and last.activation == "linear" and self.pending is None:
            self.stages[-1] = Stage(last.kernel * scale, last.bias * scale + shift, "linear")
        elif self.pending is None:
            self.pending = (scale, shift)
        else:
            self.pending = (self.pending[0] * scale, self.pending[1] * scale + shift)

    def activate(self, activation: str, name: str) -> None:
        if self.pending is None and self.stages and self.stages[-1].activation == "linear":
            last = self.stages.pop()
            self.extent += last.kernel.shape[0] - 1
            self.linear(last.kernel, last.bias, activation, name)
        else:
            identity = np.eye(self.channels)[None, None]
            self.linear(identity, np.zeros(self.channels), activation, name)

    def finish(self) -> list[Stage]:
        if self.pending is not None:
            self.activate("linear", "output")
        return self.stages


def _fold(layers: list[Any], patch_size: int, n_bands: int) -> list[Stage]:
    folder = _Folder(patch_size, n_bands)
    for layer in layers:
        kind = type(layer).__name__
        if kind == "Conv2D":
            _require_slidable(layer)
            kernel, bias = _kernel_and_bias(layer)
            folder.linear(kernel, bias, layer.activation.__name__, layer.name)
        elif kind == "Dense":
            kernel, bias = _kernel_and_bias(layer)
            side = folder.extent if folder.flat else 1
            folder.flat = False
            kernel = kernel.reshape(side, side, folder.channels, -1)
            folder.linear(kernel, bias, layer.activation.__name__, layer.name)
        elif kind == "BatchNormalization":
            if folder.flat and folder.extent > 1:
                raise NetworkError(
                    f"Layer {layer.name!r} normalises each pixel of the patch by itself, which "
                    "cannot slide. Put batch normalisation before Flatten or after a Dense layer."
                )
            folder.affine(*_normalisation(layer))
        elif kind == "Activation":
            folder.activate(layer.activation.__name__, layer.name)
        elif kind == "Softmax" or (kind == "ReLU" and _is_plain_relu(layer)):
            folder.activate(kind.lower(), layer.name)
        elif kind not in _POINTLESS:
            raise NetworkError(
                f"A patch network may hold Conv2D, Dense, BatchNormalization, Activation, Dropout "
                f"and Flatten, but layer {layer.name!r} is a {kind}, which cannot slide over a "
                "scene pixel by pixel."
            )
        folder.flat = folder.flat or kind == "Flatten"
    return folder.finish()


def _require_slidable(layer: Any) -> None:
    rows, columns = layer.kernel_size
    plain = layer.strides == (1, 1) and layer.dilation_rate == (1, 1) and layer.groups == 1
    if layer.padding != "valid" or not plain or rows != columns:
        raise NetworkError(
            f"Convolution {layer.name!r} must have a square kernel, valid padding, stride 1 and no "
            f"dilation to slide over a scene, got kernel {rows} x {columns}, "
            f"padding {layer.padding!r}, strides {layer.strides}."
        )


def _is_plain_relu(layer: Any) -> bool:
    return layer.max_value is None and not layer.negative_slope and not layer.threshold


def _kernel_and_bias(layer: Any) -> tuple[Array, Array]:
    weights = [np.asarray(weight, dtype=np.float64) for weight in layer.get_weights()]
    kernel = weights[0]
    return kernel, weights[1] if len(weights) > 1 else np.zeros(kernel.shape[-1])


def _normalisation(layer: Any) -> tuple[Array, Array]:
    """Return scale and shift of a batch normalisation at prediction time."""
    mean = np.asarray(layer.moving_mean, dtype=np.float64)
    variance = np.asarray(layer.moving_variance, dtype=np.float64)
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.asarray(layer.gamma, dtype=np.float64)
    shift = -mean * scale
    if layer.center:
        shift = shift + np.asarray(layer.beta, dtype=np.float64)
    return scale, shift


def _compose_linear_runs(stages: Iterable[Stage]) -> list[Stage]:
    composed: list[Stage] = []
    run: list[Stage] = []
    for stage in stages:
        run.append(stage)
        if stage.activation != "linear":
            composed.extend(_cheapest(run))
            run = []
    return composed + _cheapest(run)


def _cheapest(run: list[Stage]) -> list[Stage]:
    """Compose neighbours of a run, all but the last linear, so that multiplications are fewest."""
    best: list[tuple[int, list[tuple[int, int]]]] = [(0, [])]
    for end in range(1, len(run) + 1):
        candidates = [
            (best[start][0] + _multiplications(run[start:end]), [*best[start][1], (start, end)])
            for start in range(end - 1, -1, -1)
        ]
        best.append(min(candidates, key=lambda candidate: candidate[0]))
    return [_merged(run[start:end]) for start, end in best[-1][1]]


def _multiplications(stages: list[Stage]) -> int:
    """Multiply-adds for one output pixel of the stage these compose to."""
    side = 1 + sum(stage.kernel.shape[0] - 1 for stage in stages)
    return int(side * side * stages[0].kernel.shape[2] * stages[-1].kernel.shape[3])


def _merged(stages: list[Stage]) -> Stage:
    *before, merged = stages
    for stage in reversed(before):
        merged = _composed(stage, merged)
    return merged


def _composed(first: Stage, second: Stage) -> Stage:
    """Return one stage that does what a linear stage and the next do in turn."""
    side = first.kernel.shape[0] + second.kernel.shape[0] - 1
    kernel = np.zeros((side, side, first.kernel.shape[2], second.kernel.shape[3]))
    reach = first.kernel.shape[0]
    for row in range(second.kernel.shape[0]):
        for column in range(second.kernel.shape[1]):
            kernel[row : row + reach, column : column + reach] += (
                first.kernel @ second.kernel[row, column]
            )
    bias = np.einsum("rcio,i->o", second.kernel, first.bias) + second.bias
    return Stage(kernel, bias, second.activation)
