"""Rules on the file alone: what it says must not contradict itself."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.graph import Graph, Node
from edgekd.verify.quantization import quantized
from edgekd.verify.rules.base import Finding, rule

# Where each operator has scales: input, the tensor that it scales (None: the first output), and the zero point's input.
_SCALES: dict[str, tuple[tuple[int, int | None, int], ...]] = {
    "QuantizeLinear": ((1, None, 2),),
    "DequantizeLinear": ((1, 0, 2),),
    "QLinearConv": ((1, 0, 2), (4, 3, 5), (6, None, 7)),
    "QLinearMatMul": ((1, 0, 2), (4, 3, 5), (6, None, 7)),
}
_FIRST_AXIS = frozenset({"QLinearConv"})


@rule("consistent-shapes")
def consistent_shapes(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:  # noqa: ARG001 - of the file alone
    """Types, shapes and attributes fit together at every operator."""
    for flaw in facts.graph.flaws:
        yield Finding(status="fail", message=f"the graph contradicts itself: {flaw}", attribute="shapes")
    if not facts.graph.flaws:
        yield Finding(status="pass", message="types, shapes and attributes fit together", attribute="shapes")


@rule("quantizer-parameters")
def quantizer_parameters(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:  # noqa: ARG001 - as above
    """Every scale is one number, or one a channel; its zero point has the same shape and the integers' type."""
    wrong = [(node, text) for node in facts.graph.nodes for text in _complaints(facts.graph, node)]
    for node, text in wrong:
        yield Finding(status="fail", message=f"{node.name}: {text}", node=node.name, attribute="scale")
    if not wrong:
        yield Finding(status="pass", message="scales and zero points fit their tensors", attribute="scale")


def _complaints(graph: Graph, node: Node) -> Iterator[str]:
    if node.op == "QuantizeLinear" and not quantized(graph, node).valid_scale:
        yield "its scale is not a positive number"
    for scale, tensor, zero_point in _SCALES.get(node.op, ()):
        name = node.outputs[0] if tensor is None else node.input(tensor)
        yield from _scale_complaints(graph, node, name, scale)
        yield from _zero_point_complaints(graph, node, name, scale, zero_point)


def _scale_complaints(graph: Graph, node: Node, tensor: str, position: int) -> Iterator[str]:
    scale, shape = graph.value(node.input(position)).shape, graph.value(tensor).shape
    if scale is None or shape is None or scale in {(), (1,)}:
        return
    if len(scale) > 1:
        if node.op in _SCALES and node.int("block_size", 0) <= 0:
            yield f"the scale of '{tensor}' has shape {list(scale)}: it must be one number, or one a channel"
        return
    axis = 0 if node.op in _FIRST_AXIS else node.int("axis", 1)
    if not -len(shape) <= axis < len(shape):
        yield f"axis {axis} is none of '{tensor}', which has {len(shape)} dimensions"
    elif scale[0] != shape[axis]:
        yield f"{scale[0]} scales for '{tensor}', which has {shape[axis]} channels on axis {axis}"


def _zero_point_complaints(graph: Graph, node: Node, tensor: str, scale: int, position: int) -> Iterator[str]:
    name = node.input(position)
    zero_point, integers = graph.value(name), graph.value(tensor)
    if not name:
        return
    if zero_point.dtype and integers.dtype and zero_point.dtype != integers.dtype:
        yield f"the zero point of '{tensor}' is {zero_point.dtype}, the integers are {integers.dtype}"
    elements, scales = zero_point.elements, graph.value(node.input(scale)).elements
    if elements is not None and scales is not None and elements != scales:
        yield f"{elements} zero points for {scales} scales of '{tensor}'"
