"""Conv, Gemm and MatMul: products of activations and weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgekd.verify.graph import Node
from edgekd.verify.integer.builder import Builder, Pending, Real, require_one_scale
from edgekd.verify.integer.kernels.conv import Convolution
from edgekd.verify.integer.kernels.window import Window
from edgekd.verify.integer.lowering.base import accumulate, lowers, require_default
from edgekd.verify.integer.values import Integers, Operand, RefusedError

# Exporters round scale_x * scale_w to float32 on their own; a bias on another grid than this would need its own scale.
_SAME_SCALE = 1e-5
_SAME_FLOAT = 2.0**-23  # relative: two roundings to float32


@lowers("Conv")
def conv(builder: Builder, node: Node) -> Pending:
    """Sums of a convolution with constant weights."""
    data, weight = builder.activation(node, 0), constant_weight(builder, node, 1)
    bias = bias_on_grid(builder, node, 2, _product(data, weight))
    return convolution(node, data, weight, bias)


@lowers("Gemm")
def gemm(builder: Builder, node: Node) -> Pending:
    """Sums of a fully connected layer."""
    require_default(node, "alpha", 1.0)
    require_default(node, "beta", 1.0)
    data, weight = builder.activation(node, 0), constant_weight(builder, node, 1)
    weight = transposed(weight) if node.int("transB", 0) else weight
    bias = bias_on_grid(builder, node, 2, _product(data, weight))
    return fully_connected(node, data, weight, bias)


@lowers("MatMul")
def matmul(builder: Builder, node: Node) -> Pending:
    """Sums of a matrix product of activations and weights, or of two activations."""
    return matrix_product(builder, node, builder.quantized(node, 0), builder.quantized(node, 1))


def convolution(node: Node, data: Operand, weight: Operand, bias: NDArray[np.int64] | None) -> Pending:
    """Return the pending sums; a bias has the shape (c_out,)."""
    values = stored(node, weight)
    rank = values.ndim - 2
    groups = node.int("group", 1)
    if rank < 1 or groups < 1 or values.shape[0] % groups:
        raise RefusedError(node.name, f"weights {values.shape} and {groups} groups do not make a convolution")
    _require_bias(node, bias, values.shape[0])
    window = window_of(node, values.shape[2:])
    factor = _channels(node, weight, 0, (1, -1, *[1] * rank))
    assert data.format is not None  # an activation has one
    return accumulate(
        node,
        "Conv",
        (data, weight),
        Convolution(window, groups),
        factors=(data.format.scale, factor),
        terms=int(np.prod(values.shape[1:])),
        bias=None if bias is None else bias.reshape(1, -1, *[1] * rank),
        layer=True,
    )


def fully_connected(node: Node, data: Operand, weight: Operand, bias: NDArray[np.int64] | None) -> Pending:
    """Return the pending sums of (n, k) x (k, m)."""
    if node.int("transA", 0):
        raise RefusedError(node.name, "transA = 1 would mix the images of a batch")
    values = stored(node, weight)
    if bias is not None and bias.ndim > 1 and bias.shape[0] != 1:
        raise RefusedError(node.name, "its bias differs between the images of a batch")
    _require_bias(node, bias, values.shape[-1])
    assert data.format is not None  # an activation has one
    factors = (data.format.scale, _channels(node, weight, 1, (1, -1)))
    return accumulate(node, "MatMul", (data, weight), factors=factors, terms=values.shape[0], bias=bias, layer=True)


def _require_bias(node: Node, bias: NDArray[np.int64] | None, channels: int) -> None:
    if bias is not None and bias.size not in {1, channels}:
        raise RefusedError(node.name, f"its bias has {bias.size} elements for {channels} output channels")


def matrix_product(builder: Builder, node: Node, first: Operand, second: Operand) -> Pending:
    """Return the pending sums of (.., m, k) x (.., k, n)."""
    _require_product(builder, node, first, second)
    assert first.format is not None
    assert second.format is not None
    factor = second.format.scale if second.values is None else _channels(node, second, 1, (1, -1))
    terms = second.values.shape[0] if second.values is not None else builder.shape(node, _operand_names(node)[0])[-1]
    factors = (first.format.scale, factor)
    return accumulate(node, "MatMul", (first, second), factors=factors, terms=terms, layer=True)


def _require_product(builder: Builder, node: Node, first: Operand, second: Operand) -> None:
    """Refuse a product that is not image by image.

    Raises:
        RefusedError: with what it is instead.
    """
    rank = len(builder.shape(node, _operand_names(node)[0]))
    require_one_scale(node, first)
    if first.values is not None or (second.values is not None and (second.values.ndim != 2 or rank < 2)):
        raise RefusedError(node.name, "only (.., m, k) x weights (k, n) is simulated")
    if second.values is not None:
        return
    require_one_scale(node, second)
    if rank < 3 or len(builder.shape(node, _operand_names(node)[1])) != rank:
        raise RefusedError(node.name, "this product would mix the images of a batch")


def constant_weight(builder: Builder, node: Node, index: int) -> Operand:
    """Return weights that the file stores.

    Raises:
        RefusedError: they are float, or computed.
    """
    weight = builder.quantized(node, index)
    stored(node, weight)
    return weight


def stored(node: Node, weight: Operand) -> Integers:
    """Return the integers of a constant operand.

    Raises:
        RefusedError: it is not constant.
    """
    if weight.values is None:
        raise RefusedError(node.name, "its weights are not stored in the file")
    return weight.values


def bias_on_grid(builder: Builder, node: Node, index: int, scale: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return a bias as integers of the sums' `scale` (channels in its last axis); None where there is none.

    Raises:
        RefusedError: it lies on another grid, so that a target would have to round it.
    """
    if not node.input(index):
        return None
    found = builder.read(node, index)
    if isinstance(found, Real) and found.values is not None:
        real = found.values.astype(np.float64)
        steps = np.rint(real / scale)
        if np.all(np.abs(steps * scale - real) <= _SAME_FLOAT * np.abs(real)) and np.all(np.abs(steps) < 2**31):
            return np.asarray(steps.astype(np.int64))
    elif isinstance(found, Operand) and found.values is not None and found.format is not None:
        own = found.format.scale.astype(np.float64)
        if np.all(np.abs(own / scale - 1) <= _SAME_SCALE):
            return np.asarray(found.values.astype(np.int64) - found.format.zero_point)
    raise RefusedError(node.name, f"its bias '{node.input(index)}' is not a constant integer with scale_x * scale_w")


def transposed(weight: Operand) -> Operand:
    """Return weights (n, k) as (k, n), with their scales."""
    assert weight.values is not None
    assert weight.format is not None
    return replace(weight, values=weight.values.T, format=weight.format.transposed((1, 0)))


def window_of(node: Node, kernel: tuple[int, ...] | None = None) -> Window:
    """Read the windows of a convolution or pool.

    Raises:
        RefusedError: attributes that no window can have.
    """
    sizes = kernel or node.ints("kernel_shape") or ()
    rank = len(sizes)
    strides = node.ints("strides") or (1,) * rank
    dilations = node.ints("dilations") or (1,) * rank
    pads = node.ints("pads") or (0,) * (2 * rank)
    lengths = (len(strides), len(dilations), len(pads))
    if (
        lengths != (rank, rank, 2 * rank)
        or min((1, *sizes, *strides, *dilations)) < 1
        or min((0, *pads)) < 0
        or not rank
    ):
        raise RefusedError(node.name, "its kernel, strides, dilations and pads do not fit each other")
    auto_pad = str(node.attributes.get("auto_pad", "NOTSET"))
    return Window(sizes, strides, dilations, pads, auto_pad, bool(node.int("ceil_mode", 0)))


def _product(data: Operand, weight: Operand) -> NDArray[np.float64]:
    """The scale of the sums, in the shape () or (channels,)."""
    assert data.format is not None
    assert weight.format is not None
    scale = weight.format.scale.astype(np.float64)
    return np.asarray(float(data.format.scale.item()) * (scale.reshape(-1) if scale.size > 1 else scale))


def _channels(node: Node, weight: Operand, axis: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The weight scales, in the shape of the sums' channels."""
    assert weight.format is not None
    scale = weight.format.scale
    if scale.size == 1:
        return scale.reshape(())
    if scale.shape[axis] != scale.size:
        raise RefusedError(node.name, "its weights have a scale along an axis that is summed over")
    return scale.reshape(shape)


def _operand_names(node: Node) -> tuple[str, str]:
    return (node.input(0), node.input(3)) if node.op == "QLinearMatMul" else (node.input(0), node.input(1))
