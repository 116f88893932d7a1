"""Convolution of any rank, groups, strides, dilations and padding: windows copied into columns, then BLAS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from edgekd.verify.integer.kernels.base import Array, adds, padded
from edgekd.verify.integer.kernels.window import Window

_COLUMN_BYTES = 384 * 1024  # of one block of columns: they stay in a core's cache between the copy and BLAS


@dataclass(frozen=True)
class Convolution:
    """A window and the number of channel groups."""

    window: Window
    groups: int


@adds("Conv")
def convolve(inputs: Sequence[Array], settings: Convolution) -> Array:
    """Convolve (n, c, ...) with weights (c_out, c / groups, ...); the zero point is removed, so padding is 0."""
    image, weight = inputs
    placed = settings.window.place(image.shape[2:])
    if any(placed.before) or any(placed.after):
        image = padded(image, placed.before, placed.after, 0)
    if weight.shape[1] == 1 and settings.groups > 1:
        return _depthwise(image, weight, settings.window, placed.out)
    images = np.split(image, settings.groups, axis=1)
    weights = np.split(weight, settings.groups)
    parts = [_dense(part, own, settings.window, placed.out) for part, own in zip(images, weights, strict=True)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _dense(image: Array, weight: Array, window: Window, out: tuple[int, ...]) -> Array:
    pixels = np.ascontiguousarray(np.moveaxis(image, 1, -1))  # (n, ..., c)
    matrix = np.ascontiguousarray(np.moveaxis(weight, 1, -1).reshape(len(weight), -1).T)  # (k * .. * c, c_out)
    columns = _columns(pixels, window, out)  # (n, *out, *kernel, c), a view
    sums = np.empty((len(image), *out, len(weight)), image.dtype)
    row_bytes = int(np.prod(out[1:])) * matrix.shape[0] * matrix.itemsize
    rows = max(1, _COLUMN_BYTES // max(1, row_bytes))
    for index in range(len(image)):
        for row in range(0, out[0], rows):
            block = columns[index, row : row + rows].reshape(-1, matrix.shape[0])
            np.matmul(block, matrix, out=sums[index, row : row + rows].reshape(-1, len(weight)))
    return np.moveaxis(sums, -1, 1)


def _columns(pixels: Array, window: Window, out: tuple[int, ...]) -> Array:
    batch, *spatial, channel = pixels.strides
    steps = [stride * step for stride, step in zip(spatial, window.strides, strict=True)]
    taps = [stride * gap for stride, gap in zip(spatial, window.dilations, strict=True)]
    shape = (len(pixels), *out, *window.kernel, pixels.shape[-1])
    return as_strided(pixels, shape, (batch, *steps, *taps, channel), writeable=False)


def _depthwise(image: Array, weight: Array, window: Window, out: tuple[int, ...]) -> Array:
    """Each output channel reads one input channel: one multiplication a window element."""
    repeated = np.repeat(image, len(weight) // image.shape[1], axis=1) if len(weight) > image.shape[1] else image
    taps = weight.reshape(len(weight), -1)  # (c_out, k)
    shape = (1, -1) + (1,) * len(out)
    terms = (
        repeated[:, :, *window.slices(offset, out)] * taps[:, at].reshape(shape)
        for at, offset in enumerate(window.offsets())
    )
    sums = next(terms)
    for term in terms:
        sums += term
    return sums
