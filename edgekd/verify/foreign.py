"""What a graph may hold that nobody but its author can judge: operators of other domains, and control flow."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.verify.graph import Graph, Node
from edgekd.verify.operators import kind_of
from edgekd.verify.signatures import STANDARD_DOMAINS

# What ONNX defines, onnxruntime adds, and QONNX and Brevitas export.
KNOWN_DOMAINS = (
    *sorted(STANDARD_DOMAINS),
    "ai.onnx.ml",
    "com.microsoft",
    "finn.custom_op.general",
    "onnx.brevitas",
    "qonnx.custom_op.general",
)
_MOST_NAMED = 5  # operators, each once


def foreign_operators(graph: Graph) -> tuple[str, ...]:
    """Return a sentence for each custom operator, and for each operator that holds a graph: what it is, what to do."""
    firsts: dict[tuple[str, str], str] = {}
    for node in graph.nodes:
        key = (node.domain, node.op)
        if key not in firsts and (text := _sentence(node)):
            firsts[key] = text
    named = tuple(firsts.values())[:_MOST_NAMED]
    return (*named, *_rest(len(firsts) - len(named)))


def _sentence(node: Node) -> str | None:
    if node.domain not in KNOWN_DOMAINS and kind_of(node) is None:
        known = ", ".join(filter(None, KNOWN_DOMAINS))
        return (
            f"{node.name} is the custom operator {node.op} of domain '{node.domain}': what it computes and costs "
            f"cannot be known; export it as operators of a known domain ({known}), or as an ONNX function in the file"
        )
    if node.has_subgraph:
        return (
            f"{node.name} ({node.op}) holds a graph of its own, so that what runs depends on the image: "
            "export without control flow (If, Loop, Scan)"
        )
    return None


def _rest(count: int) -> Iterator[str]:
    if count:
        yield f"it has {count:,} more custom operators or operators with graphs of their own"
