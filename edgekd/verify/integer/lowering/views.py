"""Operators that rename or reorder elements, and constant padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekd.verify.graph import Node
from edgekd.verify.integer.builder import Builder, Pending, Real, Reshaping, Value
from edgekd.verify.integer.kernels.moving import Padding
from edgekd.verify.integer.lowering.base import lowers
from edgekd.verify.integer.values import Operand, RefusedError


@lowers("Identity", "Dropout")
def identity(builder: Builder, node: Node) -> Value:
    """The same tensor; Dropout as inference has it."""
    training = builder.graph.constant(node.input(2)) if node.input(2) else np.array(False)
    if training is None or training.any():
        raise RefusedError(node.name, "it drops elements at random")
    return builder.read(node, 0)


@lowers("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def reshape(builder: Builder, node: Node) -> Value:
    """Another shape for each image."""
    return _moved(builder, node, reshaping(builder, node))


@lowers("Transpose")
def transpose(builder: Builder, node: Node) -> Value:
    """Another order of the axes of each image."""
    rank = len(builder.shape(node, node.input(0)))
    axes = node.ints("perm") or tuple(reversed(range(rank)))
    found = builder.read(node, 0)
    if isinstance(found, Operand) and found.values is not None:
        return _transposed(found, axes)
    if axes[0] != 0:
        raise RefusedError(node.name, "it would move the axis of the batch")
    return _moved(builder, node, lambda own, operand: own.move(node, "Transpose", [operand], axes))


@lowers("Pad")
def pad(builder: Builder, node: Node) -> Value:
    """Constant padding by a value that is an integer of the tensor."""
    if node.attributes.get("mode", "constant") != "constant" or node.input(3):
        raise RefusedError(node.name, "only constant padding of all axes is simulated")
    operand = builder.integers(node, 0)
    rank = len(builder.shape(node, node.input(0)))
    amounts = _pads(builder, node)
    widths = tuple(zip(amounts[:rank], amounts[rank:], strict=True))
    if len(widths) != rank or min(amounts) < 0 or widths[0] != (0, 0):
        raise RefusedError(node.name, "its pads are negative, or along axis 0")
    value = _pad_value(builder, node, operand)
    limits = (min(operand.low, value), max(operand.high, value))
    return builder.move(node, "Pad", [operand], Padding(widths, value), limits=limits)


def reshaping(builder: Builder, node: Node) -> Reshaping:
    """Return the move to the shape of a node's output.

    Raises:
        RefusedError: a shape is not known, or the first axis does not stay what it is.
    """
    shape = builder.shape(node, node.outputs[0])
    before = builder.graph.value(node.input(0)).shape

    def move(own: Builder, operand: Operand) -> Operand:
        if operand.values is not None:
            return _reshaped(node, operand, shape)
        if before is None:
            raise RefusedError(node.name, f"the shape of '{node.input(0)}' is not known")
        if not shape or before[0] != shape[0]:
            raise RefusedError(node.name, "it would move the axis of the batch")
        return own.move(node, "Reshape", [operand], shape[1:])

    return move


def _moved(builder: Builder, node: Node, move: Reshaping) -> Value:
    found = builder.read(node, 0)
    if isinstance(found, Pending) or (isinstance(found, Real) and found.values is None):
        return found.then(move)
    return move(builder, builder.integers(node, 0))


def _reshaped(node: Node, operand: Operand, shape: tuple[int, ...]) -> Operand:
    if operand.format and operand.format.scale.size > 1:
        raise RefusedError(node.name, "it reshapes weights with a scale for each channel")
    assert operand.values is not None
    return replace(operand, values=operand.values.reshape(shape))


def _transposed(operand: Operand, axes: tuple[int, ...]) -> Operand:
    assert operand.values is not None
    form = operand.format.transposed(axes) if operand.format else None
    return replace(operand, values=operand.values.transpose(axes), format=form)


def _pads(builder: Builder, node: Node) -> tuple[int, ...]:
    return node.ints("pads") or builder.indices(node, 1)  # an attribute before opset 11


def _pad_value(builder: Builder, node: Node, operand: Operand) -> int:
    """The integer of the padding's value; without a scale both are integers."""
    given = builder.read(node, 2) if node.input(2) else None
    real = 0.0 if given is None else _scalar(node, given)
    if builder.graph.value(node.input(0)).is_integer or operand.format is None:
        return int(real)
    steps = real / float(operand.format.scale.item()) + int(operand.zero_point.item())
    if steps != np.rint(steps):
        raise RefusedError(node.name, f"its padding {real:g} is none of the tensor's integers")
    return int(steps)


def _scalar(node: Node, value: Value) -> float:
    if isinstance(value, Real) and value.values is not None:
        return float(value.values.item())
    if isinstance(value, Operand) and value.values is not None:
        scale = 1.0 if value.format is None else float(value.format.scale.item())
        return float(value.values.item() - int(value.zero_point.item())) * scale
    raise RefusedError(node.name, "its padding is not constant")
