"""The registry of lowerings: one function an ONNX operator, from a node to what its output becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgekd.verify.graph import Node
from edgekd.verify.integer.builder import Builder, Pending, Value
from edgekd.verify.integer.steps import Accumulate, multiplier_of
from edgekd.verify.integer.values import Multiplier, Operand, Output, RefusedError

Lowering = Callable[[Builder, Node], Value]
LOWERINGS: dict[str, Lowering] = {}
_NOWHERE = Output("", 0, 0, 0, 0, 0)


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    """Register the decorated function as the lowering of these operators."""

    def register(lowering: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(names, lowering))
        return lowering

    return register


def accumulate(
    node: Node,
    kernel: str,
    inputs: tuple[Operand, ...],
    settings: object = None,
    *,
    factors: tuple[np.ndarray, ...] | None = None,
    terms: int = 1,
    bias: np.ndarray | None = None,
    count: np.ndarray | int = 1,
    layer: bool = False,
) -> Pending:
    """Return the pending sums of a kernel; `factors` default to the scales of the inputs."""
    scales = factors or tuple(item.format.scale for item in inputs if item.format)
    step = Accumulate(
        node.name, kernel, inputs, settings, terms, bias, multiplier_of(scales, np.float32(1)), _NOWHERE, layer
    )
    return pending_sum(node, step, np.asarray(count, np.int64))


def pending_sum(node: Node, step: Accumulate, count: np.ndarray) -> Pending:
    """Return a pending result that becomes `step`, once its output is known."""

    def emit(_builder: Builder, output: Output, scale: np.float32) -> Accumulate:
        return replace(step, output=output, multiplier=Multiplier(step.multiplier.factors, scale, count))

    return Pending(node, emit, sum=step)


def require_default(node: Node, attribute: str, default: float) -> None:
    """Refuse an attribute that is simulated at its default only.

    Raises:
        RefusedError: it has another value.
    """
    value = node.attributes.get(attribute, default)
    if value != default:
        raise RefusedError(node.name, f"{attribute} = {value}, only {default:g} is simulated")
