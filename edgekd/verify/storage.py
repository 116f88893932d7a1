"""The width at which each tensor of a graph is stored once the graph is lowered to integers."""

from __future__ import annotations

from edgekd.verify.graph import Graph, Node
from edgekd.verify.operators import FAKE_QUANTIZERS, Kind, kind_of, stays_on_grid
from edgekd.verify.quantization import fake_quantized


def storage_bits(graph: Graph) -> dict[str, int]:
    """Return the bits of an element of every tensor that depends on a graph input or is an output.

    An integer keeps its width. A float takes that of the integers it is read from (DequantizeLinear and what stays on
    their grid) or rounded to (QuantizeLinear, also behind activations and pools), and otherwise its own.
    """
    rounded = _rounded_bits(graph)
    bits = {name: graph.value(name).bits for name in graph.inputs}
    for node in graph.nodes:
        inherited = bits.get(node.input(0))
        for name in node.outputs:
            if name and (name not in graph.fixed or name in graph.results):
                bits[name] = rounded.get(name) or _own_bits(graph, node, name, inherited)
    return bits


def _own_bits(graph: Graph, node: Node, name: str, inherited: int | None) -> int:
    value = graph.value(name)
    if value.is_integer or name in graph.results or inherited is None:
        return value.bits
    if node.op == "DequantizeLinear" or stays_on_grid(node):
        return min(inherited, value.bits)
    return value.bits


def _rounded_bits(graph: Graph) -> dict[str, int]:
    """Walk backwards from each quantizer: a float that is read only to be rounded is stored as it will be rounded."""
    rounded: dict[str, int] = {}
    for node in reversed(graph.nodes):
        for name in node.outputs:
            widths = _reader_widths(graph, name, rounded)
            if widths and all(widths):
                rounded[name] = max(width for width in widths if width)
        if node.op in FAKE_QUANTIZERS:
            rounded[node.outputs[0]] = fake_quantized(graph, node).bits
    return rounded


def _reader_widths(graph: Graph, name: str, rounded: dict[str, int]) -> list[int | None]:
    """The width that each reader rounds a float to, None for one that does not; empty where none takes it as data."""
    readers = graph.consumers.get(name, ())
    if not name or name in graph.results or graph.value(name).is_integer:
        return []
    if not any(reader.input(0) == name for reader in readers):
        return []
    return [_rounds_to(graph, reader, rounded) for reader in readers]


def _rounds_to(graph: Graph, reader: Node, rounded: dict[str, int]) -> int | None:
    if reader.op == "QuantizeLinear":
        return graph.value(reader.outputs[0]).bits
    if reader.op in FAKE_QUANTIZERS or stays_on_grid(reader) or kind_of(reader) is Kind.UNARY:
        return rounded.get(reader.outputs[0])
    return None
