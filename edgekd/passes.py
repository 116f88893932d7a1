"""Passes over an exported QCDQ graph: each changes the model in place and says whether it did. Values never change.

After all of them a compiler sees integers at every border: int8 in, int8 out, DequantizeLinear only before a
convolution, a matrix product or a pooling that averages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgekd.renaming import rename_tensor

# Operators that pick or move values: the same on integers as on what they stand for (scales are positive).
MOVES_VALUES = ("MaxPool", "Flatten", "Reshape", "Transpose")

Pass = Callable[[ModelProto], bool]


def run_to_end(model: ModelProto, *passes: Pass) -> None:
    """Apply the passes in turn until none changes anything more."""
    while any([apply(model) for apply in passes]):  # noqa: C419 - every pass runs in each round
        pass


def fold_weight_clips(model: ModelProto) -> bool:
    """Replace a Clip of constants (Brevitas limits narrow-range weights so) by the clipped constant."""
    graph = model.graph
    constants = _constants(graph)
    clips = [
        node for node in graph.node if node.op_type == "Clip" and all(name in constants for name in node.input if name)
    ]
    for clip in clips:
        low, high = (constants[name] if name else None for name in [*clip.input, "", ""][1:3])
        clipped = np.clip(constants[clip.input[0]], low, high)
        graph.initializer.append(numpy_helper.from_array(clipped, clip.output[0]))
        graph.node.remove(clip)
    return bool(clips)


def sink_dequantize(model: ModelProto) -> bool:
    """Move a DequantizeLinear behind a following operator that only picks or moves values."""
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        before = producers.get(node.input[0]) if node.op_type in MOVES_VALUES else None
        if before is not None and before.op_type == "DequantizeLinear" and readers[node.input[0]] == 1:
            _swap(graph, before, node)
            return True
    return False


def rectify_integers(model: ModelProto) -> bool:
    """Put a Relu behind the signed QuantizeLinear that follows it: max(0, round(x)) = round(max(0, x)) where zero is 0.

    An unsigned QuantizeLinear needs no Relu at all, and runtimes drop it; before a signed one it would keep the layer
    float.
    """
    graph = model.graph
    readers = Counter(name for node in graph.node for name in node.input)
    quantizers = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        after = quantizers.get(node.output[0]) if node.op_type == "Relu" else None
        signed = after is not None and _integer_type(graph, after) == TensorProto.INT8 and _zero_is_zero(graph, after)
        if after is not None and signed and readers[node.output[0]] == 1:
            _swap(graph, node, after)
            return True
    return False


def unsigned_entry(model: ModelProto) -> bool:
    """Hand signed pixels to an unsigned first layer as uint8 with zero point 128 and the same scale: q + 128, exactly.

    Runtimes fuse a layer to an integer kernel only where its input and output have one type.
    """
    graph = model.graph
    entry = graph.input[0]
    first = next(node for node in graph.node if entry.name in node.input)
    types = {tensor.data_type for tensor in graph.initializer if _is_zero_point(graph, tensor.name)}
    if first.op_type != "DequantizeLinear" or TensorProto.UINT8 not in types:
        return False
    if any(node.op_type == "QuantizeLinear" and node.input[0] == first.output[0] for node in graph.node):
        return False
    zero_point, scale, original = "pixels_unsigned_zero_point", first.input[1], first.output[0]
    graph.initializer.append(numpy_helper.from_array(np.array(128, dtype=np.uint8), zero_point))
    first.output[0] = "pixels_real"
    again = [
        helper.make_node("QuantizeLinear", ["pixels_real", scale, zero_point], ["pixels_unsigned"]),
        helper.make_node("DequantizeLinear", ["pixels_unsigned", scale, zero_point], [original]),
    ]
    for offset, node in enumerate(again, start=list(graph.node).index(first) + 1):
        graph.node.insert(offset, node)
    return True


def integer_input(model: ModelProto) -> bool:
    """Drop the QuantizeLinear at the graph's entry: the caller hands over the integers."""
    graph = model.graph
    entry = graph.input[0]
    readers = [node for node in graph.node if entry.name in node.input]
    if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
        return False
    entry.type.tensor_type.elem_type = _integer_type(graph, readers[0])
    rename_tensor(graph, readers[0].output[0], entry.name)
    graph.node.remove(readers[0])
    return True


def integer_output(model: ModelProto) -> bool:
    """Drop the DequantizeLinear at the graph's exit: the caller takes the integers."""
    graph = model.graph
    exit_ = graph.output[0]
    last = next(node for node in graph.node if exit_.name in node.output)
    if last.op_type != "DequantizeLinear":
        return False
    exit_.type.tensor_type.elem_type = _integer_type(graph, last)
    graph.node.remove(last)
    rename_tensor(graph, last.input[0], exit_.name)
    return True


def own_zero_points(model: ModelProto) -> bool:
    """Give each stored tensor a zero point of its own.

    Where a CPU's u8 x s8 products saturate, onnxruntime turns weights into uint8 layer by layer, each with its own zero
    point (`session.x64quantprecision`), and cannot start where layers share one.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    taken: set[str] = set()
    changed = False
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in stored or len(node.input) < 3:
            continue
        zero_point = node.input[2]
        if zero_point in taken:
            copy = TensorProto()
            copy.CopyFrom(stored[zero_point])
            copy.name = node.input[2] = _unused_name(f"{node.input[0]}.zero_point", {*stored, *taken})
            graph.initializer.append(copy)
            changed = True
        taken.add(node.input[2])
    return changed


def _unused_name(name: str, used: Container[str]) -> str:
    """Return the name, numbered where it is used: layers may share a stored tensor."""
    return next(found for found in chain([name], (f"{name}.{number}" for number in count(2))) if found not in used)


def drop_unused_constants(model: ModelProto) -> bool:
    """Remove initializers that no node reads."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    unused = [tensor for tensor in graph.initializer if tensor.name not in used]
    for tensor in unused:
        graph.initializer.remove(tensor)
    return bool(unused)


def set_dynamic_batch(model: ModelProto, symbol: str = "batch") -> None:
    """Make the first dimension of input and output a symbol."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = symbol
    del model.graph.value_info[:]


def integer_activations(model: ModelProto) -> list[str]:
    """Return the tensors in which activations first become integers, behind a Relu that follows, in the graph's order.

    The quantizers of the graph's input are left out.
    """
    graph = model.graph
    relus = {node.input[0]: node.output[0] for node in graph.node if node.op_type == "Relu"}
    from_input = {graph.input[0].name}
    names = []
    for node in graph.node:
        if node.input[0] in from_input and node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            from_input.add(node.output[0])
        elif node.op_type == "QuantizeLinear":
            names.append(relus.get(node.output[0], node.output[0]))
    return names


def tensor_scale(model: ModelProto, name: str) -> float:
    """Return the scale of an integer tensor: of the DequantizeLinear that reads it or the QuantizeLinear behind it.

    Raises:
        KeyError: no such node touches the tensor.
    """
    constants = _constants(model.graph)
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == name:
            return float(constants[node.input[1]])
    while name in producers and producers[name].op_type in MOVES_VALUES:
        name = producers[name].input[0]
    if name in producers and producers[name].op_type == "QuantizeLinear":
        return float(constants[producers[name].input[1]])
    raise KeyError(name)


def _swap(graph: GraphProto, first: NodeProto, second: NodeProto) -> None:
    """Turn x -> first -> second -> y into x -> second -> first -> y."""
    source, between, result = first.input[0], first.output[0], second.output[0]
    second.input[0], second.output[0] = source, between
    first.input[0], first.output[0] = between, result
    graph.node.remove(first)  # nodes stay in topological order
    graph.node.insert(list(graph.node).index(second) + 1, first)
    kept = [value for value in graph.value_info if value.name not in {between, result}]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _integer_type(graph: GraphProto, node: NodeProto) -> int:
    """Return the element type of a Q/DQ node's zero point; without one ONNX says uint8."""
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    return types[node.input[2]] if len(node.input) > 2 and node.input[2] else TensorProto.UINT8


def _is_zero_point(graph: GraphProto, name: str) -> bool:
    return any(node.op_type in {"QuantizeLinear", "DequantizeLinear"} and name in node.input[2:] for node in graph.node)


def _zero_is_zero(graph: GraphProto, node: NodeProto) -> bool:
    """Say whether a Q/DQ node's zero point is 0."""
    return len(node.input) < 3 or not np.any(_constants(graph)[node.input[2]])


def _constants(graph: GraphProto) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def stamp(model: ModelProto, metadata: dict[str, str], producer_version: str, ir_version: int) -> None:
    """Write metadata, producer and IR version."""
    model.ir_version = ir_version
    model.producer_name, model.producer_version = "edgekd", producer_version
    helper.set_model_props(model, metadata)
