"""Networks at work: the only module that calls TensorFlow itself, and the one that starts it.

Other modules take ``keras`` from here, so that the start is quiet whoever comes first.

Every call runs on one thread; Dask's threads make the calls side by side. Two things follow:
results do not depend on how many cores a machine has, and TensorFlow's thread pool never
competes with Dask's (see ``csc_xr.networks`` for the setting).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csc_xr.networks.convolution import ConvolutionalForm
from csc_xr.networks.quiet import quiet_start

with quiet_start():
    import keras as keras
    import tensorflow as tf

    tf.config.list_physical_devices()  # what it finds there it tells, too

Floats = NDArray[np.float32]
Shapes = tuple[tuple[tuple[int, ...], str], ...]

BLOCK_SIDE = 160
"""Longest side in pixels of the blocks a sliding network runs over.

Larger blocks gain nothing, smaller ones lose to call overhead; the widest activation a whole block
can have (512 channels, after the 3 x 3 dense layer of k = 15) takes 52 MB."""

SLICE = 1024
"""Pixels that go through the 1 x 1 stages at once: 512 channels of them stay in the cache."""

BATCH_PIXELS = 2**15
"""Pixels of a batch of tiles: 13 tiles of 50 x 50. Four times as many were no faster and took
130 MB more in VGG16; the classes are the same to the bit."""

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
    return _once(form.fingerprint, lambda: _sliding(form))


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


def gpu_capability() -> tuple[int, int] | None:
    """Give the compute capability of the graphics cards TensorFlow uses.

    Returns
    -------
    tuple of int, or None
        Major and minor number, the least where there are several cards, (0, 0) where a card
        tells none; None without a card.
    """
    cards = [
        tf.config.experimental.get_device_details(card)
        for card in tf.config.get_visible_devices("GPU")
    ]
    return min((card.get("compute_capability", (0, 0)) for card in cards), default=None)


def _once(key: str, build: Callable[[], Callable[[Floats], Floats]]) -> Callable[[Floats], Floats]:
    with _compiling:
        if key not in _compiled:
            _compiled[key] = build()
            while len(_compiled) > _KEPT:
                _compiled.popitem(last=False)
        _compiled.move_to_end(key)
        return _compiled[key]


def _sliding(form: ConvolutionalForm) -> Callable[[Floats], Floats]:
    slide = _compile_slide(tuple((s.kernel.shape, s.activation) for s in form.stages))
    weights = [(tf.constant(s.kernel), tf.constant(s.bias)) for s in form.stages]

    def run(area: Floats) -> Floats:
        return slide(tf.convert_to_tensor(area[None]), weights).numpy()  # type: ignore[no-any-return]

    return run


@lru_cache(maxsize=16)
def _compile_slide(shapes: Shapes) -> Callable[..., Any]:
    """Compile the passage of an area through stages of some shapes, whatever their weights.

    TensorFlow never gives back what a compiled function takes, and every scene has a network of
    its own: weights are arguments, so that scenes share one function.
    """
    wide, n_bands, n_outputs = _count_wide(shapes), shapes[0][0][2], shapes[-1][0][3]
    n_between = shapes[wide - 1][0][3] if wide else n_bands
    activations = [activation for _, activation in shapes]
    signature = [(_floats(*shape), _floats(shape[3])) for shape, _ in shapes]

    @tf.function(input_signature=[_floats(1, None, None, n_bands), signature])  # type: ignore[untyped-decorator]
    def slide(area: Any, weights: Any) -> Any:
        stages = [(*pair, name) for pair, name in zip(weights, activations, strict=True)]
        area = _apply(stages[:wide], area)
        rows, columns = tf.shape(area)[1], tf.shape(area)[2]
        pixels = tf.reshape(area, (-1, n_between))
        rest = -rows * columns % SLICE
        slices = tf.reshape(tf.pad(pixels, ((0, rest), (0, 0))), (-1, 1, 1, SLICE, n_between))
        found = tf.map_fn(partial(_apply, stages[wide:]), slices, parallel_iterations=1)
        found = tf.reshape(found, (-1, n_outputs))[: rows * columns]
        return tf.reshape(found, (rows, columns, n_outputs))

    slide.get_concrete_function()  # trace here, under the lock
    return slide  # type: ignore[no-any-return]


def _count_wide(shapes: Shapes) -> int:
    """Count the stages before the 1 x 1 stages at the end, which the wide activations are for."""
    return max((i for i, (shape, _) in enumerate(shapes) if shape[0] > 1), default=-1) + 1


def _floats(*shape: int | None) -> Any:
    return tf.TensorSpec(shape, tf.float32)


def _apply(stages: list[tuple[Any, Any, str]], area: Any) -> Any:
    for kernel, bias, activation in stages:
        area = tf.nn.bias_add(tf.nn.conv2d(area, kernel, 1, "VALID"), bias)
        if activation != "linear":
            area = getattr(tf.nn, activation)(area)
    return area


def _compile_model(model: Any) -> Callable[[Floats], Floats]:
    shape = (None, *model.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])  # type: ignore[untyped-decorator]
    def predict(batch: Any) -> Any:
        return tf.cast(model(batch, training=False), tf.float32)

    predict(tf.zeros((1, *shape[1:])))

    def run(batch: Floats) -> Floats:
        return predict(tf.convert_to_tensor(batch)).numpy()  # type: ignore[no-any-return]

    return run
