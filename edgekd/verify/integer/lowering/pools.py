"""Pools: a maximum keeps its integers, an average is a sum that is requantized."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekd.verify.graph import Node
from edgekd.verify.integer.builder import Builder, Pending, Value
from edgekd.verify.integer.lowering.base import accumulate, lowers, require_default
from edgekd.verify.integer.lowering.layers import window_of
from edgekd.verify.integer.lowering.views import reshaping
from edgekd.verify.integer.values import Operand, RefusedError

LARGEST_SUM = 2**24  # elements: float32 counts no further


@lowers("MaxPool")
def max_pool(builder: Builder, node: Node) -> Value:
    """The largest integer of each window."""
    window = window_of(node)
    if any(pad >= size for pad, size in zip(window.pads, window.kernel * 2, strict=True)):
        raise RefusedError(node.name, "a window may lie in the padding alone")
    return _moved(builder, node, "MaxPool", window)


@lowers("GlobalMaxPool")
def global_max_pool(builder: Builder, node: Node) -> Value:
    """The largest integer of each channel."""
    rank = len(builder.shape(node, node.input(0)))
    return _moved(builder, node, "ReduceMax", tuple(range(2, rank)))


@lowers("AveragePool")
def average_pool(builder: Builder, node: Node) -> Pending:
    """The mean of each window."""
    return averaged_windows(builder, node, builder.activation(node, 0))


@lowers("GlobalAveragePool")
def global_average_pool(builder: Builder, node: Node) -> Pending:
    """The mean of each channel."""
    shape = builder.shape(node, node.input(0))
    return averaged_axes(node, builder.activation(node, 0), shape, range(2, len(shape)))


@lowers("ReduceMean")
def reduce_mean(builder: Builder, node: Node) -> Pending:
    """The mean over axes, as torch exports a global average."""
    require_default(node, "noop_with_empty_axes", 0)
    shape = builder.shape(node, node.input(0))
    given = node.ints("axes")
    if given is None and node.input(1):
        given = builder.indices(node, 1)
    axes = sorted({axis % len(shape) for axis in (given if given is not None else range(len(shape)))})
    if 0 in axes or not axes:
        raise RefusedError(node.name, "a mean over axis 0 would mix the images of a batch")
    pending = averaged_axes(node, builder.activation(node, 0), shape, axes)
    return pending if node.int("keepdims", 1) else pending.then(reshaping(builder, node))


def averaged_windows(builder: Builder, node: Node, data: Operand) -> Pending:
    """Return the pending means of windows; padding counts where `count_include_pad` says so."""
    window = window_of(node)
    sizes = builder.shape(node, node.input(0))[2:]
    if np.prod(sizes, dtype=object) + sum(window.pads) > LARGEST_SUM or max(window.pads) > max(window.kernel):
        raise RefusedError(node.name, "its windows are larger than any image")
    counts = window.counts(sizes, include_pad=bool(node.int("count_include_pad", 0)))
    if not counts.size or counts.min() < 1:
        raise RefusedError(node.name, "a window may lie in the padding alone")
    count = counts if counts.min() != counts.max() else counts.ravel()[0]
    return accumulate(node, "SumPool", (data,), window, terms=window.taps, count=count)


def averaged_axes(node: Node, data: Operand, shape: Sequence[int], axes: Sequence[int]) -> Pending:
    """Return the pending means over whole axes."""
    count = int(np.prod([shape[axis] for axis in axes]))
    return accumulate(node, "ReduceSum", (data,), tuple(axes), terms=count, count=count)


def _moved(builder: Builder, node: Node, kernel: str, settings: object) -> Value:
    found = builder.read(node, 0)
    if isinstance(found, Pending):
        return found.then(lambda own, operand: own.move(node, kernel, [operand], settings))
    return builder.move(node, kernel, [builder.integers(node, 0)], settings)
