"""Add, Mul, Concat, Relu and Clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgekd.verify.graph import Node
from edgekd.verify.integer.builder import Builder, Pending, Real, Value, require_one_scale
from edgekd.verify.integer.kernels.moving import Limits
from edgekd.verify.integer.lowering.base import accumulate, lowers, pending_sum
from edgekd.verify.integer.lowering.layers import bias_on_grid
from edgekd.verify.integer.steps import AddTerms, Move
from edgekd.verify.integer.values import Operand, Output, RefusedError


@lowers("Add")
def add(builder: Builder, node: Node) -> Pending:
    """A sum of two quantized tensors, or the bias of a layer before it."""
    for index in (0, 1):
        layer = builder.read(node, index)
        if isinstance(layer, Pending):
            return _add_bias(builder, node, layer, 1 - index)
    return addition(builder, node, [builder.activation(node, 0), builder.activation(node, 1)])


@lowers("Mul")
def mul(builder: Builder, node: Node) -> Pending:
    """A product of two quantized tensors, element by element."""
    return product(builder, node, [builder.activation(node, 0), builder.activation(node, 1)])


@lowers("Concat")
def concat(builder: Builder, node: Node) -> Value:
    """Tensors of one format are joined; those of several are first brought to the format behind."""
    parts = [builder.integers(node, index) for index in range(len(node.inputs))]
    return joined(builder, node, parts, len(builder.shape(node, node.input(0))))


@lowers("Relu")
def relu(builder: Builder, node: Node) -> Value:
    """A clamp at 0: of a pending result before it is rounded, of integers at their zero point."""
    found = builder.read(node, 0)
    if isinstance(found, Pending):
        return found.clamped(0.0, np.inf)
    operand = builder.integers(node, 0)
    require_one_scale(node, operand)
    zero = int(operand.zero_point.item())
    return _clip(builder, node, operand, zero, max(zero, operand.high))


@lowers("Clip")
def clip(builder: Builder, node: Node) -> Value:
    """A clamp: of integers by integers, of real values by real limits."""
    found = builder.read(node, 0)
    low, high = _limit(builder, node, 1, "min", -np.inf), _limit(builder, node, 2, "max", np.inf)
    if isinstance(found, Pending):
        return found.clamped(low, high)
    operand = builder.integers(node, 0)
    if builder.graph.value(node.input(0)).is_integer or operand.format is None:
        limits = [int(np.clip(limit, -(2.0**32), 2.0**32)) for limit in (low, high)]
        return _clip(builder, node, operand, *limits)
    return accumulate(node, "Rescale", (builder.activation(node, 0),)).clamped(low, high)


def addition(builder: Builder, node: Node, terms: Sequence[Operand]) -> Pending:
    """Return the pending sum of tensors."""
    require_images_apart(builder, node, terms)

    def emit(_builder: Builder, output: Output, scale: np.float32) -> AddTerms:
        return AddTerms(node.name, tuple(terms), scale, output)

    return Pending(node, emit)


def product(builder: Builder, node: Node, factors: Sequence[Operand]) -> Pending:
    """Return the pending product of two tensors."""
    require_images_apart(builder, node, factors)
    return accumulate(node, "Mul", tuple(factors))


def joined(builder: Builder, node: Node, parts: Sequence[Operand], rank: int) -> Value:
    """Join tensors of `rank` dimensions along an axis that is not the batch."""
    axis = node.int("axis", 0) % rank
    if any(part.values is not None and part.values.shape[:1] != (1,) for part in parts):
        raise RefusedError(node.name, "its constant differs between the images of a batch")
    if axis == 0:
        raise RefusedError(node.name, "joining along axis 0 would mix the images of a batch")
    if all(_same_format(part, parts[0]) for part in parts):
        return builder.move(node, "Concat", parts, axis)

    def emit(own: Builder, output: Output, scale: np.float32) -> Move:
        steps = []
        for at, part in enumerate(parts):
            require_one_scale(node, part)
            place = replace(output, tensor=f"{output.tensor}/{at}")
            own.steps.append(accumulate(node, "Rescale", (part,)).emit(own, place, scale))
            steps.append(Operand(place.tensor, output.low, output.high))
        return Move(node.name, "Concat", tuple(steps), axis, output.tensor)

    return Pending(node, emit)


def require_images_apart(builder: Builder, node: Node, operands: Sequence[Operand]) -> None:
    """Refuse a broadcast that would spread one image over a batch.

    Raises:
        RefusedError: tensors of different ranks, or constants that differ along axis 0.
    """
    rank = len(builder.shape(node, node.outputs[0]))
    for operand in operands:
        if operand.values is None:
            continue
        if operand.values.ndim > rank or (operand.values.ndim == rank and operand.values.shape[0] != 1):
            raise RefusedError(node.name, "its constant differs between the images of a batch")
    names = [name for name in node.inputs if name in builder.values]
    shapes = [builder.shape(node, name) for name in names if not _is_constant(builder, name)]
    if any(len(shape) != rank for shape in shapes) or all(operand.values is not None for operand in operands):
        raise RefusedError(node.name, "tensors of different rank would mix the images of a batch")


def _add_bias(builder: Builder, node: Node, layer: Pending, index: int) -> Pending:
    step = layer.sum
    if step is None or not step.layer or step.bias is not None:
        raise RefusedError(node.name, f"Add reads the result of {layer.node.name} before it is rounded")
    scale = np.asarray(step.multiplier.as_float64())  # its output is still 1
    bias = bias_on_grid(
        builder, node, index, scale.reshape(-1) if scale.size > 1 and step.kernel == "MatMul" else scale
    )
    rank = len(builder.shape(node, node.outputs[0]))
    if bias is None or bias.ndim > rank or (bias.ndim == rank and bias.shape[0] != 1):
        raise RefusedError(node.name, "its constant differs between the images of a batch")
    return pending_sum(node, replace(step, bias=bias), np.array(1, np.int64))


def _clip(builder: Builder, node: Node, operand: Operand, low: int, high: int) -> Operand:
    limits = (max(low, min(operand.low, high)), min(high, max(operand.high, low)))
    return builder.move(node, "Clip", [operand], Limits(low, high), limits=limits)


def _limit(builder: Builder, node: Node, index: int, attribute: str, default: float) -> float:
    """A limit of Clip: an input since opset 11, an attribute before."""
    if not node.input(index):
        value = node.attributes.get(attribute, default)
        return float(value) if isinstance(value, int | float) else default
    found = builder.read(node, index)
    if isinstance(found, Operand) and found.values is not None:
        values = found.values.astype(np.float64)
        real = values if found.format is None else (values - found.zero_point) * found.format.scale
        return float(real.item())
    if isinstance(found, Real) and found.values is not None:
        return float(found.values.item())
    raise RefusedError(node.name, "its limits are not constant")


def _same_format(one: Operand, other: Operand) -> bool:
    if one.format is None or other.format is None:
        return one.format is other.format
    same = one.format.scale.size == other.format.scale.size == 1
    return same and one.format.scale == other.format.scale and one.format.zero_point == other.format.zero_point


def _is_constant(builder: Builder, name: str) -> bool:
    value = builder.values.get(name)
    return isinstance(value, Operand) and value.values is not None
