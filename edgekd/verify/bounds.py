"""What an ONNX file may ask for: bounds that are checked before anything is computed from it.

They are far above any network for a small device, and low enough that a file made to exhaust memory or time is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import onnx

from edgekd.errors import ModelError
from edgekd.text import harmless

LARGEST_FILE_BYTES = 2**30  # of the file and its external data together
MOST_NODES = 100_000  # with functions expanded
LONGEST_NAME = 1_000  # characters
LARGEST_DIM = 2**31 - 1
MOST_DIMS = 64  # of one tensor; also NumPy's limit
LARGEST_TENSOR = 2**50  # elements that a computed tensor may have

_NARROWEST_PER_BYTE = 4  # elements of the narrowest type, 2 bits

FunctionKey = tuple[str, str, str]  # domain, name, overload


def require_sane(model: onnx.ModelProto) -> None:
    """Check all that can be checked without looking at what the operators mean.

    Raises:
        ModelError: naming the part that is damaged or asks for too much.
    """
    if not model.graph.output:
        raise ModelError("it is cut off, or not a model: its graph has no output")
    for text in _names(model):
        require_name(text)
    nodes = expanded_nodes(model)
    if nodes > MOST_NODES:
        raise ModelError(f"it has {shown_count(nodes)} nodes with its functions expanded, the limit is {MOST_NODES:,}")
    if model.graph.sparse_initializer:
        name = model.graph.sparse_initializer[0].values.name
        raise ModelError(f"'{name}' is a sparse tensor, which edgekd does not read")
    for tensor in tensors_of(model):
        require_dims(tensor.name, tensor.dims)
        require_elements(tensor.name, tensor.dims)
    for item in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        require_rank(item.name, len(item.type.tensor_type.shape.dim))


def require_name(text: str | bytes) -> None:
    """Refuse a name that would do harm where it is printed.

    Raises:
        ModelError: it is not text, has characters that steer a terminal, or is very long.
    """
    if isinstance(text, bytes):  # what protobuf gives where it is not UTF-8
        raise ModelError("it is damaged: a name in it is not text")
    if len(text) > LONGEST_NAME:
        raise ModelError(f"a name in it has {len(text):,} characters, the limit is {LONGEST_NAME:,}: {text[:40]!r}...")
    if not harmless(text):
        raise ModelError(f"a name in it has characters that cannot be printed: {text!a}")


def require_dims(name: str, dims: Sequence[int]) -> None:
    """Refuse a stored tensor whose shape no data can have.

    Raises:
        ModelError: too many dimensions, or a negative one.
    """
    require_rank(name, len(dims))
    if any(dim < 0 for dim in dims):
        raise ModelError(f"'{name}' has a negative dimension: {list(dims)}")


def require_elements(name: str, dims: Sequence[int]) -> None:
    """Refuse a tensor with an empty dimension; an empty list of sizes or axes is none, operators take it as absent.

    Raises:
        ModelError: naming it and the axis.
    """
    if len(dims) > 1 and 0 in dims:
        raise ModelError(f"'{name}' has dimension 0 on axis {list(dims).index(0)}, {list(dims)}: it holds nothing")


def require_rank(name: str, rank: int) -> None:
    """Refuse a tensor of too many dimensions.

    Raises:
        ModelError: naming it.
    """
    if rank > MOST_DIMS:
        raise ModelError(f"'{name}' has {rank:,} dimensions, the limit is {MOST_DIMS}")


def require_data(tensor: onnx.TensorProto) -> None:
    """Refuse a tensor that claims more elements than its bytes can hold.

    Raises:
        ModelError: naming it, its shape and its bytes.
    """
    elements, stored = math.prod(tensor.dims), tensor.ByteSize()
    if elements > _NARROWEST_PER_BYTE * stored:
        raise ModelError(
            f"the data of '{tensor.name}' does not match its shape {list(tensor.dims)}: "
            f"{shown_count(elements)} elements in {len(tensor.raw_data) or stored:,} bytes"
        )


def expanded_nodes(model: onnx.ModelProto) -> int:
    """Return how many nodes there are, those of subgraphs too, once every call of a function is replaced by its body.

    Raises:
        ModelError: a function that calls itself, directly or through others.
    """
    functions = {_key(function): function for function in model.functions}
    sizes: dict[FunctionKey, int] = {}
    for key in _callees_first(functions):
        sizes[key] = _size(functions[key].node, sizes)
    return _size(model.graph.node, sizes)


def shown_count(count: int) -> str:
    """Return a number for people, however large: 1,234 or about 1e+300."""
    return f"{count:,}" if count < 10**15 else f"about 1e+{len(f'{count:x}') * 1204 // 1000}"


def nodes_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes and those of the graphs inside them."""
    for node in nodes:
        yield node
        for graph in _graphs(node):
            yield from nodes_of(graph.node)


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor that the file stores: initializers and attributes, also inside subgraphs and functions."""
    yield from model.graph.initializer
    bodies = chain(model.graph.node, *(function.node for function in model.functions))
    for node in nodes_of(bodies):
        for graph in _graphs(node):
            yield from graph.initializer
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _names(model: onnx.ModelProto) -> Iterator[str | bytes]:
    yield from (entry.key for entry in model.metadata_props)
    yield from _graph_names(model.graph)
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output)
        yield from _node_names(function.node)


def _graph_names(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    for item in (*graph.input, *graph.output, *graph.value_info):
        yield from (item.name, *(dim.dim_param for dim in item.type.tensor_type.shape.dim))
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    yield from _node_names(graph.node)


def _node_names(nodes: Iterable[onnx.NodeProto]) -> Iterator[str | bytes]:
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            yield attribute.t.name
        for graph in _graphs(node):
            yield from _graph_names(graph)


def _key(item: onnx.FunctionProto | onnx.NodeProto) -> FunctionKey:
    name = item.op_type if isinstance(item, onnx.NodeProto) else item.name
    return (item.domain, name, item.overload)


def _size(nodes: Iterable[onnx.NodeProto], sizes: Mapping[FunctionKey, int]) -> int:
    return sum(sizes.get(_key(node), 1) for node in nodes_of(nodes))


def _callees_first(functions: Mapping[FunctionKey, onnx.FunctionProto]) -> Iterator[FunctionKey]:
    """Order functions so that each comes behind those that it calls."""
    waiting = {
        key: {_key(node) for node in nodes_of(function.node)} & functions.keys() for key, function in functions.items()
    }
    callers: dict[FunctionKey, list[FunctionKey]] = {key: [] for key in functions}
    for key, callees in waiting.items():
        for callee in callees:
            callers[callee].append(key)
    ready = [key for key, callees in waiting.items() if not callees]
    done = 0
    while ready:
        key = ready.pop()
        done += 1
        yield key
        for caller in callers[key]:
            waiting[caller].discard(key)
            if not waiting[caller]:
                ready.append(caller)
    if done < len(functions):
        circle = next(key for key, callees in waiting.items() if callees)
        raise ModelError(f"function '{circle[1]}' calls itself, directly or through others")
