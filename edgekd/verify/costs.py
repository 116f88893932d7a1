"""Parameters, weight bytes and MACs of a graph.

The conventions, stated here and nowhere else:

- A parameter is one element of a constant that reaches a weight or bias input, through any quantizers and views: of
  Conv, Gemm and MatMul; of BatchNormalization, PRelu, element-wise operators and Concat where it has more than one
  element.
  Each constant counts once. What is computed from constants alone counts as its result, the tensor that a deployment
  stores, and its operands do not: scaled, sliced, joined or normalized weights are as many as the layer reads.
  Scales, zero points, shapes and clip limits are not parameters.
- Weight bytes are those parameters at the width a device stores: int8 1 byte, int32 bias 4, float32 4, 4-bit 1/2.
  Scales are left out, because each target keeps them in its own form.
- A MAC is one multiplication of an activation by a weight, whether either is zero or not (padding counts). Pools,
  additions, activations and requantization cost 0. A symbolic batch is one image; a fixed batch counts whole.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from edgekd.verify.graph import Graph, Node
from edgekd.verify.layers import Layer
from edgekd.verify.operators import Kind, kind_of
from edgekd.verify.quantization import Stored, stored_constant
from edgekd.verify.results import WeightRow

# Inputs that hold parameters in operators that are no layers; element-wise constants are biases or factors.
_LEARNED: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),  # mean and variance vanish when it is folded
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "PRelu": (1,),
}
_PARAMETER_INPUTS: Mapping[str, tuple[int, ...]] = {
    **_LEARNED,
    "Gather": (0,),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow"), (0, 1)),
    "Where": (1, 2),
    "QLinearAdd": (0, 3),
    "QLinearMul": (0, 3),
}
_ALL_INPUTS = frozenset({"Concat", "Max", "Mean", "Min", "Sum"})
_LARGE = 1_024  # elements: no shape, limit or list of axes has more


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs; `macs` is None where a shape is not known."""

    node: str
    op: str
    macs: int | None
    parameters: int
    weight_bytes: int


@dataclass(frozen=True)
class Costs:
    """Totals of a graph; `unpacked_weight_bytes` gives each parameter whole bytes, `bias_bytes` are part of both.

    `by_bits` splits `weight_bytes` by bit-width, biases apart.
    `unknown` are the operators whose MACs are missing in the total, `unweighed` those whose parameters are: they have
    graphs of their own, or weights that come when they run. `uncounted` are large constants, stored or computed from
    such, or of a size that is not known, that operators read and that are no parameters by the conventions above.
    """

    parameters: int
    weight_bytes: int
    unpacked_weight_bytes: int
    bias_bytes: int
    by_bits: tuple[WeightRow, ...]
    macs: int
    layers: tuple[LayerCost, ...]
    unknown: tuple[Node, ...]
    unweighed: tuple[Node, ...]
    uncounted: tuple[str, ...] = ()


def costs_of(graph: Graph, layers: tuple[Layer, ...]) -> Costs:
    """Add up what the layers and the other operators with parameters cost."""
    per_layer = tuple(_layer_cost(layer) for layer in layers)
    stored = _unique([*_layer_constants(layers), *_other_constants(graph)])
    biases = {layer.bias.tensor for layer in layers if layer.bias}
    return Costs(
        parameters=sum(constant.elements for constant in stored),
        weight_bytes=sum(packed_bytes(constant) for constant in stored),
        unpacked_weight_bytes=sum(constant.elements * math.ceil(constant.bits / 8) for constant in stored),
        bias_bytes=sum(packed_bytes(constant) for constant in stored if constant.tensor in biases),
        by_bits=_by_bits(stored, biases),
        macs=sum(cost.macs or 0 for cost in per_layer),
        layers=per_layer,
        unknown=tuple(node for node in graph.nodes if kind_of(node) is None)
        + tuple(layer.node for layer in layers if layer.macs is None),
        unweighed=_unweighed(graph, layers),
        uncounted=tuple(_uncounted(graph, {constant.tensor for constant in stored})),
    )


def packed_bytes(constant: Stored) -> int:
    """Return the bytes of one constant when elements narrower than a byte share bytes."""
    return math.ceil(constant.elements * constant.bits / 8)


def _by_bits(stored: Iterable[Stored], biases: Collection[str]) -> tuple[WeightRow, ...]:
    """Group constants into weights and biases of each width; the rows' bytes add up to the total."""
    groups: dict[tuple[Literal["weights", "biases"], int], list[Stored]] = {}
    for constant in stored:
        kind: Literal["weights", "biases"] = "biases" if constant.tensor in biases else "weights"
        groups.setdefault((kind, constant.bits), []).append(constant)
    return tuple(
        WeightRow(
            kind=kind,
            bits=bits,
            elements=sum(item.elements for item in items),
            bytes=sum(packed_bytes(item) for item in items),
        )
        for (kind, bits), items in sorted(groups.items(), reverse=True)
    )


def _layer_cost(layer: Layer) -> LayerCost:
    constants = _unique(_layer_constants([layer]))
    return LayerCost(
        node=layer.node.name,
        op=layer.node.op,
        macs=layer.macs,
        parameters=sum(constant.elements for constant in constants),
        weight_bytes=sum(packed_bytes(constant) for constant in constants),
    )


def _layer_constants(layers: Iterable[Layer]) -> list[Stored]:
    return [constant for layer in layers for constant in (layer.weight, layer.bias) if constant]


def _other_constants(graph: Graph) -> list[Stored]:
    """Constants of other operators; of one that edgekd does not know, every array is taken for a parameter."""
    found = []
    for node in graph.nodes:
        if kind_of(node) is Kind.LAYER or node.outputs[0] in graph.fixed:
            continue
        every = kind_of(node) is None or node.op in _ALL_INPUTS
        positions = range(len(node.inputs)) if every else _PARAMETER_INPUTS.get(node.op, ())
        constants = (stored_constant(graph, node.input(position)) for position in positions)
        found += [constant for constant in constants if constant and constant.elements > 1]
    return found


def _unweighed(graph: Graph, layers: Iterable[Layer]) -> tuple[Node, ...]:
    without = {id(layer.node) for layer in layers if not layer.weighed}
    return tuple(node for node in graph.nodes if node.has_subgraph or id(node) in without or _learns(graph, node))


def _uncounted(graph: Graph, counted: Collection[str]) -> Iterator[str]:
    """What only scales quantizers and layers, or is folded away with a normalization, is left out by convention."""
    names: dict[str, None] = {}
    for node in graph.nodes:
        by_convention = node.op in _LEARNED or kind_of(node) in {Kind.LAYER, Kind.QUANTIZER}
        if not by_convention and node.outputs[0] not in graph.fixed:
            names.update(dict.fromkeys(name for name in node.inputs if name in graph.fixed))
    for name in names:
        constant = stored_constant(graph, name)
        if constant is None or (constant.elements > _LARGE and constant.tensor not in counted):
            yield name


def _learns(graph: Graph, node: Node) -> bool:
    """Say whether an operator takes what it should have learned from tensors that are not stored."""
    if node.op not in _LEARNED or kind_of(node) is None or node.outputs[0] in graph.fixed:
        return False
    names = (node.input(position) for position in _PARAMETER_INPUTS[node.op])
    return any(name and stored_constant(graph, name) is None for name in names)


def _unique(constants: Iterable[Stored]) -> list[Stored]:
    return list({constant.tensor: constant for constant in constants}.values())
