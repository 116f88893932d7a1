"""QuantizeLinear and DequantizeLinear: where float regions begin and end."""

from __future__ import annotations

import numpy as np

from edgekd.verify.graph import Node
from edgekd.verify.integer.builder import Builder, Pending, Real
from edgekd.verify.integer.kernels.moving import Entry
from edgekd.verify.integer.lowering.base import accumulate, lowers, require_default
from edgekd.verify.integer.steps import Move
from edgekd.verify.integer.values import Format, Operand, RefusedError


@lowers("DequantizeLinear")
def dequantize(builder: Builder, node: Node) -> Operand:
    """The same integers, with the scale that this node states."""
    require_default(node, "block_size", 0)
    found = builder.integers(node, 0)
    dtype = builder.graph.value(node.input(0)).dtype
    rank = found.values.ndim if found.values is not None else len(builder.graph.value(node.input(0)).shape or ())
    return found.with_format(builder.format(node, 1, dtype, rank=rank, axis=node.int("axis", 1)))


@lowers("QuantizeLinear")
def quantize(builder: Builder, node: Node) -> Operand:
    """Round a pending result, another scale's integers, the graph's floats, or constants."""
    require_default(node, "block_size", 0)
    found = builder.read(node, 0)
    values = found.values if isinstance(found, Real) else None
    rank = 0 if values is None else values.ndim
    dtype = builder.graph.value(node.outputs[0]).dtype if not node.input(2) else ""
    form = builder.format(node, 1, dtype, rank=rank, axis=node.int("axis", 1))
    if isinstance(found, Pending):
        return builder.round(found, form, node.outputs[0])
    if isinstance(found, Operand):
        if found.format is None:
            raise RefusedError(node.name, f"nothing tells the scale of '{node.input(0)}'")
        return builder.round(accumulate(node, "Rescale", (found,)), form, node.outputs[0])
    return _enter(builder, node, found, form) if values is None else _constant(node, values, form)


def _enter(builder: Builder, node: Node, pixels: Real, form: Format) -> Operand:
    """Round the floats of a graph input, and then move the integers as the floats were moved before."""
    entry = Entry(float(form.scale.item()), int(form.zero_point.item()), form.low, form.high)
    tensor = node.outputs[0]
    builder.steps.append(Move(node.name, "QuantizeLinear", (Operand(pixels.entry, 0, 0),), entry, tensor))
    operand = Operand(tensor, form.low, form.high, form)
    for move in pixels.moves:
        operand = move(builder, operand)
    return operand


def _constant(node: Node, values: np.ndarray, form: Format) -> Operand:
    """Quantize a float constant of the file, half to even, as any compiler does once."""
    steps = np.rint(values / form.scale).astype(np.float64) + form.zero_point
    integers = np.clip(steps, form.low, form.high).astype(form.dtype)
    return Operand(node.outputs[0], form.low, form.high, form, integers)
