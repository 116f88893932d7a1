"""ONNX file -> `Graph`. A file is untrusted: whatever is wrong with it ends in one `ModelError` that says what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from edgekd.errors import ModelError
from edgekd.files import sha256_bytes
from edgekd.verify.external import load_external_data
from edgekd.verify.graph import Array, Attribute, Graph, Node, Value
from edgekd.verify.shapes import bind_batch, infer_values

_KEPT = {onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT, onnx.AttributeProto.STRING}
_KEPT_LISTS = {onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS, onnx.AttributeProto.STRINGS}
_SUBGRAPHS = {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}


def read_graph(path: Path) -> Graph:
    """Read an ONNX file.

    Raises:
        ModelError: missing, empty, truncated or not ONNX; tensors that lie outside the file's folder, or whose data
            does not match their shape; a graph that breaks the ONNX specification.
    """
    content = _read_bytes(path)
    model = _parse(path, content)
    load_external_data(path, model)
    _check(path, model)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return _view(path, sha256_bytes(content), model)


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not an ONNX file")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"no file at {path}") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    if not content:
        raise ModelError(f"{path} is empty")
    return content


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError(f"{path} is not an ONNX file, or is cut off: {error}") from error
    if not model.HasField("graph") or not model.graph.node:
        raise ModelError(f"{path} is not an ONNX file, or is cut off: it holds no graph")
    return model


def _check(path: Path, model: onnx.ModelProto) -> None:
    if not model.graph.output:
        raise ModelError(f"{path} is cut off, or not a model: its graph has no output")
    if any(isinstance(text, bytes) for text in _texts(model)):  # what protobuf gives where it is not UTF-8
        raise ModelError(f"{path} is damaged: a name in it is not text")
    for stored in model.graph.initializer:
        if any(dim < 0 for dim in stored.dims):
            raise ModelError(f"{path}: initializer '{stored.name}' has a negative dimension: {list(stored.dims)}")
    shapeless = [tensor for item in model.graph.output if not (tensor := item.type.tensor_type).HasField("shape")]
    for tensor in shapeless:  # the checker wants the field, runtimes do without
        tensor.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{path} breaks the ONNX specification: {' '.join(str(error).split())}") from error
    for tensor in shapeless:
        tensor.ClearField("shape")


def _texts(model: onnx.ModelProto) -> Iterator[str | bytes]:
    yield from (model.producer_name, model.producer_version)
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    for item in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        yield from (item.name, *(dim.dim_param for dim in item.type.tensor_type.shape.dim))
    yield from (tensor.name for tensor in model.graph.initializer)
    for node in model.graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute))


def _view(path: Path, sha256: str, model: onnx.ModelProto) -> Graph:
    constants = _constants(path, model.graph)
    inputs = [item for item in model.graph.input if item.name not in constants]
    symbolic = bind_batch(path, model.graph, inputs)
    return Graph(
        path=path,
        sha256=sha256,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        inputs=tuple(item.name for item in inputs),
        outputs=tuple(item.name for item in model.graph.output),
        nodes=tuple(_nodes(model.graph)),
        values=infer_values(model) | _constant_values(constants),
        constants=constants,
        symbolic=tuple(symbolic),
    )


def _constants(path: Path, graph: onnx.GraphProto) -> dict[str, Array]:
    constants = {tensor.name: _array(path, tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute:
            constants[node.output[0]] = _constant_node(path, node)
    return constants


def _constant_node(path: Path, node: onnx.NodeProto) -> Array:
    attribute = node.attribute[0]
    if attribute.type == onnx.AttributeProto.TENSOR:
        return _array(path, attribute.t)
    if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
        raise ModelError(f"{path}: node '{node.name}' holds a sparse tensor, which edgekd does not read")
    return np.asarray(onnx.helper.get_attribute_value(attribute))


def _array(path: Path, tensor: onnx.TensorProto) -> Array:
    try:
        return numpy_helper.to_array(tensor)
    except KeyError as error:
        raise ModelError(f"{path}: '{tensor.name}' is of an element type that onnx does not know: {error}") from error
    except (ValueError, TypeError, MemoryError) as error:
        raise ModelError(
            f"{path}: the data of '{tensor.name}' does not match its shape {list(tensor.dims)}: {error}"
        ) from error


def _constant_values(constants: Mapping[str, Array]) -> dict[str, Value]:
    return {name: Value(name, str(array.dtype), tuple(array.shape)) for name, array in constants.items()}


def _nodes(graph: onnx.GraphProto) -> list[Node]:
    """Every node but `Constant`; one without a name gets its operator and position."""
    return [_node(node, index) for index, node in enumerate(graph.node) if node.op_type != "Constant"]


def _node(node: onnx.NodeProto, index: int) -> Node:
    attributes = {item.name: _attribute(item) for item in node.attribute if item.type in _KEPT | _KEPT_LISTS}
    return Node(
        name=node.name or f"{node.op_type}_{index}",
        op=node.op_type,
        domain=node.domain,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes=attributes,
        has_subgraph=any(item.type in _SUBGRAPHS for item in node.attribute),
    )


def _attribute(attribute: onnx.AttributeProto) -> Attribute:
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type in _KEPT:
        return value.decode(errors="replace") if isinstance(value, bytes) else value
    return tuple(item.decode(errors="replace") if isinstance(item, bytes) else item for item in value)
