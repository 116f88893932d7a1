"""The registry of kernels: each a small function of arrays and of settings that its lowering made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Arrays are (batch, channels, ...) by index; in memory the channels may come last, which every kernel keeps.
Array = NDArray[Any]
Kernel = Callable[[Sequence[Array], Any], Array]

LARGEST_ELEMENTS = 2**28  # of one tensor: a hostile file may claim more
ADDING: dict[str, Kernel] = {}  # exact float sums of integers without their zero points
MOVING: dict[str, Kernel] = {}  # integers of the input, moved, compared or clamped


def adds(name: str) -> Callable[[Kernel], Kernel]:
    """Register a kernel whose sums are requantized."""
    return _registered(ADDING, name)


def moves(name: str) -> Callable[[Kernel], Kernel]:
    """Register a kernel that makes no new values."""
    return _registered(MOVING, name)


def padded(image: Array, before: Sequence[int], after: Sequence[int], value: float) -> Array:
    """Surround the spatial axes of (n, c, ...) with `value`; the channels are last in memory.

    Raises:
        ValueError: so much padding that no image has.
    """
    sizes = [size + low + high for size, low, high in zip(image.shape[2:], before, after, strict=True)]
    if math.prod(image.shape[:2]) * math.prod(sizes) > LARGEST_ELEMENTS:
        raise ValueError(f"padding makes a tensor of {' x '.join(map(str, sizes))}")
    wide = np.full((len(image), *sizes, image.shape[1]), value, image.dtype)
    inside = tuple(slice(low, low + size) for size, low in zip(image.shape[2:], before, strict=True))
    wide[:, *inside] = np.moveaxis(image, 1, -1)
    return np.moveaxis(wide, -1, 1)


def _registered(table: dict[str, Kernel], name: str) -> Callable[[Kernel], Kernel]:
    def register(kernel: Kernel) -> Kernel:
        table[name] = kernel
        return kernel

    return register
