"""How each activation is quantized, collected over a whole graph."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.verify.graph import Graph
from edgekd.verify.layers import Layer
from edgekd.verify.operators import FAKE_QUANTIZERS, Kind, kind_of
from edgekd.verify.quantization import Quantization, dequantized, fake_quantized, quantized, states_output


def activations_of(graph: Graph, layers: Sequence[Layer]) -> tuple[Quantization, ...]:
    """Return the quantization of every activation once, in the graph's order.

    Where a tensor is quantized, clipped and dequantized, the dequantizer counts: it is what the next layer reads.
    """
    origins = _origins(graph)
    by_tensor: dict[str, Quantization] = {}
    for node in graph.nodes:
        if node.outputs[0] in graph.fixed:
            continue
        if node.op == "QuantizeLinear":
            by_tensor[node.outputs[0]] = quantized(graph, node)
        elif node.op == "DequantizeLinear":
            by_tensor[origins.get(node.input(0), node.input(0))] = dequantized(graph, node)
        elif node.op in FAKE_QUANTIZERS:
            by_tensor[node.outputs[0]] = fake_quantized(graph, node)
        elif stated := states_output(graph, node):
            by_tensor[node.outputs[0]] = stated
    return (*by_tensor.values(), *_read_by_layers_only(layers, by_tensor))


def _read_by_layers_only(layers: Sequence[Layer], by_tensor: dict[str, Quantization]) -> list[Quantization]:
    """Integer graph inputs that a layer reads directly."""
    stated = {found.node for found in by_tensor.values()}
    direct = [layer for layer in layers if layer.input not in by_tensor and layer.input_quantization]
    inputs = [layer.input_quantization for layer in direct if layer.input_quantization]
    return [found for found in inputs if found.node not in stated]


def _origins(graph: Graph) -> dict[str, str]:
    """For each tensor behind clips and views, the one before them."""
    origins: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "Clip" or kind_of(node) is Kind.VIEW:
            origin = origins.get(node.input(0), node.input(0))
            origins.update((name, origin) for name in node.outputs)
    return origins
