"""The layers of a graph: operators that multiply activations by weights, with their MACs and quantization."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgekd.verify.graph import Graph, Node, once_each
from edgekd.verify.operators import Kind, kind_of
from edgekd.verify.quantization import (
    Quantization,
    Stored,
    bits_for,
    quantization_of,
    stated_beside,
    stored_constant,
)

MacCount = Callable[[Graph, Node, int, int], int | None]


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of the deployed network.

    `weight` and `bias` are None where the file does not store them (a MatMul of two activations, a layer without bias);
    a quantization is None where that tensor is a float. `macs` is None where a shape is not known. `weighed` is False
    where it has weights or a bias, but ones that come when it runs or whose shape is not known.
    """

    node: Node
    input: str
    input_quantization: Quantization | None
    weight: Stored | None
    weight_quantization: Quantization | None
    bias: Stored | None
    bias_quantization: Quantization | None
    macs: int | None
    weighed: bool


@dataclass(frozen=True)
class _Signature:
    """Where an operator has its operands; `stated` = each is followed by its scale and zero point."""

    data: int
    weight: int
    bias: int | None
    macs: MacCount
    stated: bool = False


def layers_of(graph: Graph, declared_weight_bits: int | None = None) -> tuple[Layer, ...]:
    """Return the layers in the graph's order; what is computed from constants alone is none.

    Narrow weights in a wider type (4-bit in int8) count as `declared_weight_bits` wide where their values are.
    """
    nodes = (node for node in graph.nodes if kind_of(node) is Kind.LAYER and node.outputs[0] not in graph.fixed)
    layers = (_layer(graph, node) for node in nodes)
    if declared_weight_bits is None:
        return tuple(layers)
    return tuple(_narrowed(graph, layer, declared_weight_bits) for layer in layers)


def _narrowed(graph: Graph, layer: Layer, bits: int) -> Layer:
    weight, quantization = layer.weight, layer.weight_quantization
    if weight is None or quantization is None or weight.bits <= bits or not graph.value(weight.tensor).is_integer:
        return layer
    stored = graph.constant(weight.tensor)
    values = np.zeros(0, np.int64) if stored is None else stored.astype(np.int64)  # folded ones are not in the file
    if not values.size or bits_for(min(int(values.min()), -1), int(values.max())) > bits:  # weights are signed
        return layer
    return replace(layer, weight=replace(weight, bits=bits), weight_quantization=replace(quantization, bits=bits))


def _layer(graph: Graph, node: Node) -> Layer:
    signature = _SIGNATURES[node.op]
    data, weight = signature.data, signature.weight
    if not signature.stated and node.input(data) in graph.fixed:  # MatMul(weights, activations)
        data, weight = weight, data
    bias = node.input(signature.bias) if signature.bias is not None else ""
    read = stated_beside if signature.stated else _read_operand
    stored, added = stored_constant(graph, node.input(weight)), stored_constant(graph, bias) if bias else None
    both_computed = node.op in _PRODUCTS and _computed_alike(graph, node.input(data), node.input(weight))
    return Layer(
        node=node,
        input=node.input(data),
        input_quantization=read(graph, node, data),
        weight=stored,
        weight_quantization=read(graph, node, weight),
        bias=added,
        bias_quantization=quantization_of(graph, bias) if bias else None,
        macs=signature.macs(graph, node, data, weight),
        weighed=(stored is not None or both_computed) and (added is not None or not bias),
    )


def _computed_alike(graph: Graph, data: str, other: str) -> bool:
    """Say whether two tensors are computed from the same graph inputs: then both are activations, none is a weight."""
    origins = _origins(graph)
    return origins.get(data, 0) == origins.get(other, 0) != 0


@once_each
def _origins(graph: Graph) -> Mapping[str, int]:
    """Which graph inputs each tensor depends on, one bit each; a subgraph may read any."""
    found = {name: 1 << at for at, name in enumerate(graph.inputs)}
    for node in graph.nodes:
        read = -1 if node.has_subgraph else 0
        for name in node.inputs:
            read |= found.get(name, 0)
        found.update((name, read) for name in node.outputs if name)
    return found


def _read_operand(graph: Graph, node: Node, operand: int) -> Quantization | None:
    return quantization_of(graph, node.input(operand))


def _conv_macs(graph: Graph, node: Node, _data: int, weight: int) -> int | None:
    """Each output element sums C_in / groups * k_h * k_w products; weights are (C_out, C_in / groups, k_h, k_w)."""
    output, kernel = graph.value(node.outputs[0]).elements, graph.value(node.input(weight)).shape
    return None if output is None or kernel is None else output * math.prod(kernel[1:])


def _transposed_conv_macs(graph: Graph, node: Node, data: int, weight: int) -> int | None:
    """Each input element meets C_out / groups * k_h * k_w weights; weights are (C_in, C_out / groups, k_h, k_w)."""
    source, kernel = graph.value(node.input(data)).elements, graph.value(node.input(weight)).shape
    return None if source is None or kernel is None else source * math.prod(kernel[1:])


def _matmul_macs(graph: Graph, node: Node, _data: int, _weight: int) -> int | None:
    """Each output element of A (.., m, k) x B (.., k, n) sums k products; the first operand is at input 0."""
    output, first = graph.value(node.outputs[0]).elements, graph.value(node.input(0)).shape
    if output is None or not first:
        return None
    return output * (first[0] if node.int("transA", 0) else first[-1])


_PRODUCTS = frozenset({"Gemm", "FusedGemm", "QGemm", "MatMul", "MatMulInteger", "QLinearMatMul"})
_SIGNATURES = {
    "Conv": _Signature(0, 1, 2, _conv_macs),
    "FusedConv": _Signature(0, 1, 2, _conv_macs),
    "ConvInteger": _Signature(0, 1, None, _conv_macs),
    "QLinearConv": _Signature(0, 3, 8, _conv_macs, stated=True),
    "ConvTranspose": _Signature(0, 1, 2, _transposed_conv_macs),
    "Gemm": _Signature(0, 1, 2, _matmul_macs),
    "FusedGemm": _Signature(0, 1, 2, _matmul_macs),
    "QGemm": _Signature(0, 3, 6, _matmul_macs, stated=True),
    "MatMul": _Signature(0, 1, None, _matmul_macs),
    "MatMulInteger": _Signature(0, 1, None, _matmul_macs),
    "QLinearMatMul": _Signature(0, 3, None, _matmul_macs, stated=True),
}
