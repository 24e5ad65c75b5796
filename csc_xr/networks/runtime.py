"""Networks at work: the only module that calls TensorFlow itself.

Every call runs on one thread; Dask's threads make the calls side by side. Two things follow:
results do not depend on how many cores a machine has, and TensorFlow's thread pool never
competes with Dask's (see ``csc_xr.networks`` for the setting).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from csc_xr.networks.convolution import ConvolutionalForm, Stage

Floats = NDArray[np.float32]

BLOCK_SIDE = 160
"""Longest side in pixels of the blocks a sliding network runs over.

Larger blocks gain nothing, smaller ones lose to call overhead; the widest activation a whole block
can have (512 channels, after the 3 x 3 dense layer of k = 15) takes 52 MB."""

SLICE = 1024
"""Pixels that go through the 1 x 1 stages at once: 512 channels of them stay in the cache."""

BATCH_PIXELS = 2**17
"""Pixels of a batch of tiles: 52 tiles of 50 x 50."""

_KEPT = 8
_compiled: OrderedDict[str, Callable[[Floats], Floats]] = OrderedDict()
_compiling = threading.Lock()


def sliding_function(form: ConvolutionalForm) -> Callable[[Floats], Floats]:
    """Compile a convolutional form, once per process and content.

    Parameters
    ----------
    form : ConvolutionalForm
        The network.

    Returns
    -------
    callable
        Takes an area of float32, shape (rows + k - 1, columns + k - 1, bands), already scaled;
        gives the outputs, float32, shape (rows, columns, outputs). Safe to call from several
        threads.
    """
    return _once(form.fingerprint, lambda: _compile_form(form))


def tile_function(fingerprint: str, model: Any) -> Callable[[Floats], Floats]:
    """Compile a tile network, once per process and content.

    Parameters
    ----------
    fingerprint : str
        Digest of the network's content.
    model : keras.Model
        Takes (n, size, size, bands) and gives (n, outputs).

    Returns
    -------
    callable
        Takes a batch of float32 tiles, already scaled, and gives float32 outputs. Batches should
        all have one size. Safe to call from several threads.
    """
    return _once(fingerprint, lambda: _compile_model(model))


def batch_size(tile_size: int) -> int:
    """Give the number of tiles in a batch.

    Parameters
    ----------
    tile_size : int
        Side of a tile in pixels.

    Returns
    -------
    int
        At least 1; a batch holds about ``BATCH_PIXELS`` pixels.
    """
    return max(1, BATCH_PIXELS // tile_size**2)


def _once(key: str, build: Callable[[], Callable[[Floats], Floats]]) -> Callable[[Floats], Floats]:
    with _compiling:
        if key not in _compiled:
            _compiled[key] = build()
            while len(_compiled) > _KEPT:
                _compiled.popitem(last=False)
        _compiled.move_to_end(key)
        return _compiled[key]


def _compile_form(form: ConvolutionalForm) -> Callable[[Floats], Floats]:
    wide, pointwise = _split(form.stages)
    n_between = wide[-1].kernel.shape[3] if wide else form.n_bands
    apply_wide, apply_pointwise = _chain(wide), _chain(pointwise)

    @tf.function(input_signature=[tf.TensorSpec((1, None, None, form.n_bands), tf.float32)])  # type: ignore[untyped-decorator]
    def slide(area: Any) -> Any:
        area = apply_wide(area)
        rows, columns = tf.shape(area)[1], tf.shape(area)[2]
        pixels = tf.reshape(area, (-1, n_between))
        rest = -rows * columns % SLICE
        slices = tf.reshape(tf.pad(pixels, ((0, rest), (0, 0))), (-1, 1, 1, SLICE, n_between))
        found = tf.map_fn(apply_pointwise, slices, parallel_iterations=1)
        found = tf.reshape(found, (-1, form.n_outputs))[: rows * columns]
        return tf.reshape(found, (rows, columns, form.n_outputs))

    side = form.patch_size
    slide(tf.zeros((1, side, side, form.n_bands)))  # trace here, under the lock

    def run(area: Floats) -> Floats:
        return slide(tf.convert_to_tensor(area[None])).numpy()  # type: ignore[no-any-return]

    return run


def _split(stages: tuple[Stage, ...]) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """Split off the 1 x 1 stages at the end: all that the wide activations are made for."""
    last = max((i for i, s in enumerate(stages) if s.kernel.shape[0] > 1), default=-1)
    return stages[: last + 1], stages[last + 1 :]


def _chain(stages: tuple[Stage, ...]) -> Callable[[Any], Any]:
    constants = [(tf.constant(s.kernel), tf.constant(s.bias), s.activation) for s in stages]

    def apply(area: Any) -> Any:
        for kernel, bias, activation in constants:
            area = tf.nn.bias_add(tf.nn.conv2d(area, kernel, 1, "VALID"), bias)
            if activation != "linear":
                area = getattr(tf.nn, activation)(area)
        return area

    return apply


def _compile_model(model: Any) -> Callable[[Floats], Floats]:
    shape = (None, *model.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])  # type: ignore[untyped-decorator]
    def predict(batch: Any) -> Any:
        return tf.cast(model(batch, training=False), tf.float32)

    predict(tf.zeros((1, *shape[1:])))

    def run(batch: Floats) -> Floats:
        return predict(tf.convert_to_tensor(batch)).numpy()  # type: ignore[no-any-return]

    return run
