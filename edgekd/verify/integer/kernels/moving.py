"""Kernels that only choose, clamp or move the integers they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.verify.integer.kernels.base import Array, moves, padded
from edgekd.verify.integer.kernels.window import Window
from edgekd.verify.integer.values import storage


@dataclass(frozen=True)
class Limits:
    """The range to clamp to."""

    low: int
    high: int


@dataclass(frozen=True)
class Entry:
    """How float pixels become integers before the first step."""

    scale: float
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True)
class Padding:
    """Elements of `value` to add before and after each axis."""

    widths: tuple[tuple[int, int], ...]
    value: int


@moves("MaxPool")
def max_windows(inputs: Sequence[Array], window: Window) -> Array:
    """Return the largest integer of each window of (n, c, ...); padding never wins."""
    placed, image = window.place(inputs[0].shape[2:]), inputs[0]
    if any(placed.before) or any(placed.after):
        image = padded(image, placed.before, placed.after, np.iinfo(image.dtype).min)
    best: Array | None = None
    for offset in window.offsets():
        part = image[:, :, *window.slices(offset, placed.out)]
        best = part.copy(order="K") if best is None else np.maximum(best, part, out=best)
    assert best is not None  # a window has at least one element
    return best


@moves("ReduceMax")
def max_axes(inputs: Sequence[Array], axes: tuple[int, ...]) -> Array:
    """Return the largest integer over whole axes, which are kept with size 1."""
    return np.asarray(inputs[0].max(axis=axes, keepdims=True))


@moves("Clip")
def clamp(inputs: Sequence[Array], limits: Limits) -> Array:
    """Clamp to a range."""
    kind = np.iinfo(inputs[0].dtype)
    return np.clip(inputs[0], max(limits.low, kind.min), min(limits.high, kind.max))


@moves("Reshape")
def reshape(inputs: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """Give each image another shape; `shape` is without the batch."""
    return np.reshape(inputs[0], (len(inputs[0]), *shape))


@moves("Transpose")
def transpose(inputs: Sequence[Array], axes: tuple[int, ...]) -> Array:
    """Reorder axes."""
    return inputs[0].transpose(axes)


@moves("Concat")
def concatenate(inputs: Sequence[Array], axis: int) -> Array:
    """Join along an axis that is not the batch; constants are repeated for every image."""
    batch = max(len(part) for part in inputs)
    whole = [part if len(part) == batch else np.repeat(part, batch, axis=0) for part in inputs]
    return np.concatenate(whole, axis=axis)


@moves("Pad")
def pad(inputs: Sequence[Array], padding: Padding) -> Array:
    """Surround with one integer."""
    return np.pad(inputs[0], padding.widths, constant_values=padding.value)


@moves("QuantizeLinear")
def quantize_entry(inputs: Sequence[Array], entry: Entry) -> Array:
    """Make integers of float pixels, half to even: what the host does before the target sees them."""
    steps = np.rint(inputs[0].astype(np.float32) / np.float32(entry.scale)) + entry.zero_point
    return np.asarray(np.clip(steps, entry.low, entry.high), storage(entry.low, entry.high))
