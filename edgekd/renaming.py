"""Short names for nodes, tensors and constants of a graph, so that a person can read it: conv2, conv2.weight, relu2."""

from __future__ import annotations

from collections import Counter

from onnx import GraphProto, ModelProto, NodeProto

# What a node's inputs are, by position.
SLOTS = {
    "Conv": ("input", "weight", "bias"),
    "Gemm": ("input", "weight", "bias"),
    "QuantizeLinear": ("input", "scale", "zero_point"),
    "DequantizeLinear": ("value", "scale", "zero_point"),
}


def rename_all(model: ModelProto, input_name: str, output_name: str) -> None:
    """Name every node, tensor and constant after its place; the graph's input and output as given."""
    graph = model.graph
    rename_tensor(graph, graph.input[0].name, input_name)
    rename_tensor(graph, graph.output[0].name, output_name)
    counts: Counter[str] = Counter()
    for node in graph.node:
        kind = node.op_type.lower()
        counts[kind] += 1
        node.name = f"{kind}{counts[kind]}"
        for output in list(node.output):
            if output != output_name:
                rename_tensor(graph, output, f"{node.name}.out")
    _rename_constants(graph)
    del graph.value_info[:]


def rename_tensor(graph: GraphProto, old: str, new: str) -> None:
    """Rename a tensor wherever it is written, read or stored."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    for value in (*graph.input, *graph.output, *graph.initializer):
        if value.name == old:
            value.name = new


def _rename_constants(graph: GraphProto) -> None:
    """Name each constant after the first node that reads it, or after the layer whose weight or bias it becomes."""
    readers = {name: (node, slot) for node in reversed(graph.node) for slot, name in enumerate(node.input)}
    taken: Counter[str] = Counter()
    for tensor in list(graph.initializer):
        if tensor.name not in readers:
            continue
        node, slot = readers[tensor.name]
        slots = SLOTS.get(node.op_type, ())
        name = f"{_owner(node, readers)}.{slots[slot] if slot < len(slots) else slot}"
        taken[name] += 1
        rename_tensor(graph, tensor.name, name if taken[name] == 1 else f"{name}.{taken[name]}")


def _owner(node: NodeProto, readers: dict[str, tuple[NodeProto, int]]) -> str:
    """Return `conv2.weight` for the DequantizeLinear of conv2's weight, the node's own name otherwise."""
    consumer, slot = readers.get(node.output[0], (node, 0))
    if node.op_type == "DequantizeLinear" and consumer.op_type in {"Conv", "Gemm"} and slot > 0:
        return f"{consumer.name}.{SLOTS[consumer.op_type][slot]}"
    return str(node.name)
