"""Rule on the file alone: weights, kernels and strides fit what they are applied to; shape inference is lenient."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.graph import Graph, Node
from edgekd.verify.operators import plain_name
from edgekd.verify.rules.base import Finding, rule
from edgekd.verify.windows import too_large

Check = Callable[[Graph, Node], Iterator[str]]
Shape = tuple[int, ...]

_LEAST = {"kernel_shape": 1, "strides": 1, "dilations": 1, "pads": 0}
_LARGEST = 2**31 - 1
_PADDINGS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
_WEIGHT, _BIAS = {"QLinearConv": 3, "QGemm": 3}, {"QLinearConv": 8, "QGemm": 6}


@rule("layer-shapes")
def layer_shapes(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:  # noqa: ARG001 - of the file alone
    """Weights, biases, kernels, strides and groups fit the tensors that they are applied to."""
    wrong = [(node, text) for node in facts.graph.nodes for text in _complaints(facts.graph, node)]
    for node, text in wrong:
        yield Finding(status="fail", message=f"{node.name}: {text}", node=node.name, attribute="shapes")
    if not wrong:
        yield Finding(status="pass", message="weights, kernels and strides fit their tensors", attribute="shapes")


def _complaints(graph: Graph, node: Node) -> Iterator[str]:
    if text := too_large(graph, node):
        yield text
    for check in _CHECKS.get(plain_name(node.op), ()):
        yield from check(graph, node)


def _window(graph: Graph, node: Node) -> Iterator[str]:
    """Kernel, strides, dilations and pads of a convolution or pool over (n, c, ...) data."""
    shape = graph.value(node.input(0)).shape
    axes = None if shape is None else len(shape) - 2
    if (padding := node.attributes.get("auto_pad", "NOTSET")) not in _PADDINGS:
        yield f"auto_pad is '{padding}', none of {', '.join(_PADDINGS)}"
    for name, least in _LEAST.items():
        values = node.ints(name)
        if values is None:
            continue
        wanted = None if axes is None else 2 * axes if name == "pads" else axes
        if not all(least <= value <= _LARGEST for value in values):
            yield f"{name} {list(values)} has a value that is not in {least}..{_LARGEST:,}"
        elif wanted is not None and len(values) != wanted:
            yield f"{name} has {len(values)} values, an input of shape {list(shape or ())} needs {wanted}"


def _conv(graph: Graph, node: Node) -> Iterator[str]:
    """Weights (C_out, C_in / groups, k, ...) and bias (C_out) on data (n, C_in, ...)."""
    shape, weight = graph.value(node.input(0)).shape, _operand(graph, node, _WEIGHT, 1)
    if shape is None or weight is None:
        return
    if len(weight) != len(shape) or len(weight) < 3:
        yield f"weights of shape {list(weight)} do not fit an input of shape {list(shape)}"
        return
    groups, kernel, bias = node.int("group", 1), node.ints("kernel_shape"), _operand(graph, node, _BIAS, 2)
    if groups < 1 or weight[1] * groups != shape[1] or weight[0] % groups:
        yield f"{groups} groups of weights {list(weight)} do not fit {shape[1]} channels"
    if kernel is not None and kernel != weight[2:]:
        yield f"kernel_shape {list(kernel)} is not that of the weights, {list(weight)}"
    if bias is not None and bias != weight[:1]:
        yield f"a bias of shape {list(bias)} does not fit {weight[0]} output channels"


def _gemm(graph: Graph, node: Node) -> Iterator[str]:
    """A (m, k) times B (k, n), each possibly transposed."""
    first, second = graph.value(node.input(0)).shape, _operand(graph, node, _WEIGHT, 1)
    if first is None or second is None:
        return
    if len(first) != 2 or len(second) != 2:
        yield f"operands of shapes {list(first)} and {list(second)} are not both matrices"
        return
    inner = (first[0 if node.int("transA", 0) else 1], second[1 if node.int("transB", 0) else 0])
    if inner[0] != inner[1]:
        yield f"operands of shapes {list(first)} and {list(second)} do not fit: {inner[0]} is not {inner[1]}"


def _operand(graph: Graph, node: Node, positions: dict[str, int], default: int) -> Shape | None:
    return graph.value(node.input(positions.get(node.op, default))).shape


_CHECKS: dict[str, tuple[Check, ...]] = {
    "Conv": (_window, _conv),
    "ConvTranspose": (_window,),
    "MaxPool": (_window,),
    "AveragePool": (_window,),
    "Gemm": (_gemm,),
}
