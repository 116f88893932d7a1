"""Which operators compute with a tensor, seen through quantizers and activations."""

from __future__ import annotations

from edgekd.verify.graph import Graph, Node
from edgekd.verify.operators import Kind, kind_of

_PASSING = {Kind.QUANTIZER, Kind.UNARY}


def computing_readers(graph: Graph, tensor: str) -> tuple[Node, ...]:
    """Return the nodes that read `tensor`, or what quantizers and element-wise activations make of it."""
    waiting, readers = [tensor], list[Node]()
    while waiting:
        for reader in graph.consumers.get(waiting.pop(), ()):
            if kind_of(reader) in _PASSING:
                waiting.append(reader.outputs[0])
            else:
                readers.append(reader)
    return tuple(readers)


def layer_before(graph: Graph, node: Node) -> str | None:
    """Return the layer whose output a quantizer rounds or reads, seen through all that keeps it in place."""
    while kind_of(node) in {*_PASSING, Kind.VIEW, Kind.POOL}:
        before = graph.producers.get(node.input(0))
        if before is None:
            return None
        node = before
    return node.name if kind_of(node) is Kind.LAYER else None


def origin(graph: Graph, tensor: str, known: frozenset[str]) -> str | None:
    """Return the first of the `known` tensors on the way from `tensor` backwards through first inputs."""
    while tensor not in known:
        node = graph.producers.get(tensor)
        if node is None:
            return None
        tensor = node.input(0)
    return tensor
