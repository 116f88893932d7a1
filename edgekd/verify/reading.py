"""ONNX file -> `Graph`. A file is untrusted: whatever is wrong with it ends in one `ModelError` that says what."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from edgekd.errors import ModelError
from edgekd.files import sha256_bytes
from edgekd.text import escaped
from edgekd.verify.bounds import LARGEST_FILE_BYTES, require_data, require_sane, tensors_of
from edgekd.verify.external import load_external_data, open_regular
from edgekd.verify.graph import Array, Attribute, Graph, Node, Value
from edgekd.verify.inference import understand
from edgekd.verify.shapes import bind_batch
from edgekd.verify.signatures import STANDARD_DOMAINS

_KEPT = {onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT, onnx.AttributeProto.STRING}
_KEPT_LISTS = {onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS, onnx.AttributeProto.STRINGS}
_TEXT = {"string", "object"}  # as ONNX names it, and as NumPy does
_SUBGRAPHS = {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}


def read_graph(path: Path) -> Graph:
    """Read an ONNX file.

    Raises:
        ModelError: missing, empty, truncated, too large or not ONNX; tensors that lie outside the file's folder, or
            whose data does not match their shape; a graph that breaks the ONNX specification.
    """
    content = _read_bytes(path)
    model = _parse(path, content)
    try:
        require_sane(model)
        load_external_data(path, model, LARGEST_FILE_BYTES - len(content))
        for tensor in tensors_of(model):
            require_data(tensor)
        return _view(path, sha256_bytes(content), model)
    except ModelError as error:
        raise ModelError(f"{path}: {escaped(str(error))}") from error


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not an ONNX file")
    try:
        with os.fdopen(open_regular(path), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > LARGEST_FILE_BYTES:
                raise ModelError(f"{path} has {size:,} bytes, the limit is {LARGEST_FILE_BYTES:,}")
            content = stream.read(size)
    except FileNotFoundError:
        raise ModelError(f"no file at {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise ModelError(f"cannot read {path}: {error}") from error
    if not content:
        raise ModelError(f"{path} is empty")
    return content


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError(f"{path} is not an ONNX file, or is cut off: {error}") from error
    if not model.HasField("graph"):
        raise ModelError(f"{path} is not an ONNX file, or is cut off: it holds no graph")
    if not model.graph.node:
        raise ModelError(f"{path} is cut off, or computes nothing: its graph has no nodes")
    return model


def _view(path: Path, sha256: str, model: onnx.ModelProto) -> Graph:
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in stored]
    if not inputs:
        raise ModelError("its graph has no input: what it computes does not depend on an image")
    symbolic = bind_batch(model.graph, inputs)
    found = understand(model)
    constants = _constants(model.graph.initializer, found.nodes)
    values = {**found.values, **_constant_values(constants)}
    _require_numbers(model.graph, found.nodes, values)
    return Graph(
        path=path,
        sha256=sha256,
        producer=escaped(f"{model.producer_name} {model.producer_version}".strip()),
        metadata={entry.key: entry.value for entry in model.metadata_props if isinstance(entry.value, str)},
        inputs=tuple(item.name for item in inputs),
        outputs=tuple(item.name for item in model.graph.output),
        nodes=tuple(_nodes(found.nodes)),
        values=values,
        constants=constants,
        symbolic=tuple(symbolic),
        flaws=tuple(escaped(flaw) for flaw in found.flaws),
    )


def _require_numbers(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto], values: Mapping[str, Value]) -> None:
    """Refuse text where a network computes.

    Raises:
        ModelError: naming the tensor and who has it.
    """
    of_graph = [(item.name, "the graph") for item in (*graph.input, *graph.output)]
    of_nodes = ((name, node.name or node.op_type) for node in nodes for name in (*node.input, *node.output))
    for name, where in (*of_graph, *of_nodes):
        if name in values and values[name].dtype in _TEXT:
            raise ModelError(f"'{name}' of {where} is a string tensor: a network computes with numbers")


def _constants(initializers: Iterable[onnx.TensorProto], nodes: Iterable[onnx.NodeProto]) -> dict[str, Array]:
    constants = {tensor.name: _array(tensor) for tensor in initializers}
    for node in nodes:
        if _is_constant(node):
            constants[node.output[0]] = _constant_node(node)
    return constants


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and node.domain in STANDARD_DOMAINS and len(node.output) > 0


def _constant_node(node: onnx.NodeProto) -> Array:
    values = [attribute for attribute in node.attribute if attribute.name.startswith(("value", "sparse_value"))]
    if len(values) != 1 or values[0].type == onnx.AttributeProto.SPARSE_TENSOR:
        raise ModelError(
            f"the constant '{node.output[0]}' has no value, several, or a sparse one: edgekd reads one tensor"
        )
    (attribute,) = values
    if attribute.type == onnx.AttributeProto.TENSOR:
        return _array(attribute.t)
    if attribute.type not in _KEPT | _KEPT_LISTS:
        raise ModelError(f"the constant '{node.output[0]}' is neither a tensor nor numbers nor text")
    return np.asarray(_attribute(attribute))


def _array(tensor: onnx.TensorProto) -> Array:
    try:
        return numpy_helper.to_array(tensor)
    except KeyError as error:
        raise ModelError(f"'{tensor.name}' is of an element type that onnx does not know: {error}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"the strings of '{tensor.name}' are not UTF-8: {error}") from error
    except (ValueError, TypeError, MemoryError, OverflowError) as error:
        raise ModelError(
            f"the data of '{tensor.name}' does not match its shape {list(tensor.dims)}: {error}"
        ) from error


def _constant_values(constants: Mapping[str, Array]) -> dict[str, Value]:
    return {name: Value(name, str(array.dtype), tuple(array.shape)) for name, array in constants.items()}


def _nodes(nodes: Iterable[onnx.NodeProto]) -> list[Node]:
    """Every node but `Constant`; one without a name gets its operator and position."""
    return [_node(node, index) for index, node in enumerate(nodes) if not _is_constant(node)]


def _node(node: onnx.NodeProto, index: int) -> Node:
    attributes = {item.name: _attribute(item) for item in node.attribute if item.type in _KEPT | _KEPT_LISTS}
    return Node(
        name=node.name or f"{node.op_type}_{index}",
        op=node.op_type,
        domain=node.domain,
        inputs=tuple(node.input),
        outputs=tuple(node.output) or ("",),  # a custom operator may have none
        attributes=attributes,
        has_subgraph=any(item.type in _SUBGRAPHS for item in node.attribute),
    )


def _attribute(attribute: onnx.AttributeProto) -> Attribute:
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type in _KEPT:
        return _text(value) if isinstance(value, bytes) else value
    return tuple(_text(item) if isinstance(item, bytes) else item for item in value)


def _text(value: bytes) -> str:
    return escaped(value.decode(errors="replace"))
