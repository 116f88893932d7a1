"""What the integers are worth that a graph puts out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekd.verify.graph import Array, Graph
from edgekd.verify.operators import Kind, kind_of, stays_on_grid
from edgekd.verify.quantization import Quantization, quantized, states_output

if TYPE_CHECKING:
    from edgekd.runtime import OutputFormat


def output_format(graph: Graph) -> OutputFormat | None:
    """Return scale and zero point of the first output, as the last quantizer before it states them in constants.

    None where it is no integer tensor of one scale.
    """
    from edgekd.runtime import OutputFormat

    found = _stated(graph, graph.outputs[0])
    if found is None or not graph.value(graph.outputs[0]).is_integer or not found.valid_scale:
        return None
    scale, zero_point = _sole(found.scale), 0.0 if found.zero_point is None else _sole(found.zero_point)
    return None if scale is None or zero_point is None else OutputFormat(scale, int(zero_point))


def _stated(graph: Graph, tensor: str) -> Quantization | None:
    """Read backwards through operators that leave integers on their grid."""
    node = graph.producers.get(tensor)
    while node is not None and node.op != "QuantizeLinear" and (kind_of(node) is Kind.VIEW or stays_on_grid(node)):
        node = graph.producers.get(node.input(0))
    if node is None:
        return None
    return quantized(graph, node) if node.op == "QuantizeLinear" else states_output(graph, node)


def _sole(array: Array | None) -> float | None:
    return None if array is None or array.size != 1 else float(array.item())
