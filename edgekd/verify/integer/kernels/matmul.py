"""Matrix products, element-wise products, and sums over windows or axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekd.verify.integer.kernels.base import Array, adds, padded
from edgekd.verify.integer.kernels.window import Window


@adds("MatMul")
def multiply_matrices(inputs: Sequence[Array], _settings: None) -> Array:
    """Return (..., m, k) x (..., k, n)."""
    return np.asarray(np.matmul(inputs[0], inputs[1]))


@adds("Mul")
def multiply(inputs: Sequence[Array], _settings: None) -> Array:
    """Multiply element by element, broadcasting."""
    return np.asarray(inputs[0] * inputs[1])


@adds("Rescale")
def rescale(inputs: Sequence[Array], _settings: None) -> Array:
    """Return the integers themselves, for another scale."""
    return inputs[0]


@adds("ReduceSum")
def sum_axes(inputs: Sequence[Array], axes: tuple[int, ...]) -> Array:
    """Sum over whole axes, which are kept with size 1."""
    return np.asarray(inputs[0].sum(axis=axes, keepdims=True))


@adds("SumPool")
def sum_windows(inputs: Sequence[Array], window: Window) -> Array:
    """Sum each window of (n, c, ...); padding is 0."""
    placed = window.place(inputs[0].shape[2:])
    image = padded(inputs[0], placed.before, placed.after, 0)
    return np.asarray(sum(image[:, :, *window.slices(offset, placed.out)] for offset in window.offsets()))
