"""Quantized graph -> integer steps, or the reason why not."""

from __future__ import annotations

from edgekd.verify.graph import Graph, Node
from edgekd.verify.integer.builder import Builder, Real, Value
from edgekd.verify.integer.lowering import LOWERINGS
from edgekd.verify.integer.steps import Program, Result
from edgekd.verify.integer.values import Format, Operand, RefusedError
from edgekd.verify.operators import FAKE_QUANTIZERS
from edgekd.verify.windows import too_large

_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
_REASONS = {
    **dict.fromkeys(
        ("Softmax", "LogSoftmax"), "exponentials have no one integer form: every target has tables of its own"
    ),
    **dict.fromkeys(FAKE_QUANTIZERS, "it quantizes in float (QONNX): export with QuantizeLinear and DequantizeLinear"),
    "BatchNormalization": "it is float: fold it into the layer before",
    "ConvTranspose": "transposed convolutions are not simulated",
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), "its sums leave as integers, and the file scales them in float"),
}
# What a damaged file makes NumPy say: shapes, axes or attributes that contradict each other.
_CONTRADICTIONS = (ValueError, IndexError, TypeError, ArithmeticError)


def lower(graph: Graph) -> Program:
    """Return the integer program of a quantized graph.

    Raises:
        RefusedError: naming the first node that integers cannot compute as the file says, and why. Only nodes that an
            output depends on count.
    """
    builder = Builder(graph)
    for name in graph.inputs:
        builder.values[name] = _entry(graph, name)
    for node in graph.nodes:
        builder.values[node.outputs[0]] = _lowered(builder, node)
    results = tuple(_result(builder, name) for name in graph.outputs)
    operands = {name: value for name, value in builder.values.items() if isinstance(value, Operand)}
    return Program(graph.inputs, tuple(builder.steps), results, operands)


def _entry(graph: Graph, name: str) -> Value:
    value = graph.value(name)
    if value.dtype.startswith("float"):
        return Real(None, name)
    if not value.is_integer or value.bits > 32:
        return RefusedError(name, f"the graph takes {value.dtype or 'an unknown type'}")
    low, high = (-(2 ** (value.bits - 1)), 2 ** (value.bits - 1) - 1)
    return Operand(name, 0, 2**value.bits - 1) if value.dtype.startswith("u") else Operand(name, low, high)


def _lowered(builder: Builder, node: Node) -> Value:
    known = LOWERINGS.get(node.op) if node.domain in _DOMAINS and not node.has_subgraph else None
    if known is None:
        return RefusedError(node.name, _REASONS.get(node.op, f"{node.op} is not simulated"))
    if text := too_large(builder.graph, node):
        return RefusedError(node.name, text)
    made = len(builder.steps)
    try:
        return known(builder, node)
    except RefusedError as refusal:
        del builder.steps[made:]
        return refusal
    except _CONTRADICTIONS as error:
        del builder.steps[made:]
        return RefusedError(node.name, f"its shapes or attributes contradict each other: {error}")


def _result(builder: Builder, name: str) -> Result:
    value = builder.values.get(name)
    if isinstance(value, RefusedError):
        raise value
    if not isinstance(value, Operand) or value.values is not None:
        node = builder.graph.producers.get(name)
        raise RefusedError(node.name if node else name, f"the output '{name}' is not an integer that steps compute")
    form: Format | None = value.format
    return Result(name, value.tensor, form, dequantized=not builder.graph.value(name).is_integer)
