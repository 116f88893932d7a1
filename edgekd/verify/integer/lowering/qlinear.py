"""Operators on integers that state the scale of every operand and of their result."""

from __future__ import annotations

import numpy as np

from edgekd.verify.graph import Node
from edgekd.verify.integer.builder import Builder, Pending
from edgekd.verify.integer.lowering.base import accumulate, lowers, require_default
from edgekd.verify.integer.lowering.elementwise import addition, joined, product
from edgekd.verify.integer.lowering.layers import convolution, fully_connected, matrix_product, stored, transposed
from edgekd.verify.integer.lowering.pools import averaged_axes, averaged_windows
from edgekd.verify.integer.values import Operand, RefusedError


@lowers("QLinearConv")
def conv(builder: Builder, node: Node) -> Operand:
    """Convolution, with an int32 bias on the grid of the sums."""
    data, weight = _stated(builder, node, 0), _stated(builder, node, 3, axis=0)
    return _rounded(builder, node, convolution(node, data, weight, _bias(builder, node, 8)), 6)


@lowers("QLinearMatMul")
def matmul(builder: Builder, node: Node) -> Operand:
    """Matrix product."""
    pending = matrix_product(builder, node, _stated(builder, node, 0), _stated(builder, node, 3, axis=-1))
    return _rounded(builder, node, pending, 6)


@lowers("QGemm")
def gemm(builder: Builder, node: Node) -> Operand:
    """Fully connected layer of onnxruntime."""
    require_default(node, "alpha", 1.0)
    if not node.input(7):
        raise RefusedError(node.name, "its result is float: no scale is stated for it")
    flipped = node.int("transB", 0)
    weight = _stated(builder, node, 3, axis=0 if flipped else 1)
    stored(node, weight)
    weight = transposed(weight) if flipped else weight
    pending = fully_connected(node, _stated(builder, node, 0), weight, _bias(builder, node, 6))
    return _rounded(builder, node, pending, 7)


@lowers("QLinearAdd")
def add(builder: Builder, node: Node) -> Operand:
    """Addition of onnxruntime."""
    return _rounded(builder, node, addition(builder, node, _pair(builder, node)), 6)


@lowers("QLinearMul")
def mul(builder: Builder, node: Node) -> Operand:
    """Product, element by element, of onnxruntime."""
    return _rounded(builder, node, product(builder, node, _pair(builder, node)), 6)


@lowers("QLinearConcat")
def concat(builder: Builder, node: Node) -> Operand:
    """Concatenation of onnxruntime."""
    parts = [_stated(builder, node, index) for index in range(2, len(node.inputs), 3)]
    form = builder.format(node, 0)
    pending = joined(builder, node, parts, len(builder.shape(node, node.input(2))))
    if isinstance(pending, Operand):  # all parts have one format, maybe not the output's
        pending = accumulate(node, "Rescale", (pending,))
    assert isinstance(pending, Pending)
    return builder.round(pending, form, node.outputs[0])


@lowers("QLinearGlobalAveragePool")
def global_average_pool(builder: Builder, node: Node) -> Operand:
    """Mean of each channel, of onnxruntime."""
    require_default(node, "channels_last", 0)
    shape = builder.shape(node, node.input(0))
    return _rounded(builder, node, averaged_axes(node, _stated(builder, node, 0), shape, range(2, len(shape))), 3)


@lowers("QLinearAveragePool")
def average_pool(builder: Builder, node: Node) -> Operand:
    """Mean of each window, of onnxruntime."""
    require_default(node, "channels_last", 0)
    return _rounded(builder, node, averaged_windows(builder, node, _stated(builder, node, 0)), 3)


def _stated(builder: Builder, node: Node, index: int, axis: int | None = None) -> Operand:
    """The integers at `index`, with the scale and zero point behind them."""
    found = builder.integers(node, index)
    rank = found.values.ndim if found.values is not None else 0
    dtype = builder.graph.value(node.input(index)).dtype
    return found.with_format(builder.format(node, index + 1, dtype, rank=rank, axis=axis))


def _pair(builder: Builder, node: Node) -> list[Operand]:
    return [_stated(builder, node, 0), _stated(builder, node, 3)]


def _bias(builder: Builder, node: Node, index: int) -> np.ndarray | None:
    if not node.input(index):
        return None
    return stored(node, builder.integers(node, index)).astype(np.int64)


def _rounded(builder: Builder, node: Node, pending: Pending, scale: int) -> Operand:
    return builder.round(pending, builder.format(node, scale), node.outputs[0])
