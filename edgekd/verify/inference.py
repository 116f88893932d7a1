"""What the onnx library finds out about a model: is it legal, what do its functions expand to, what shapes has it.

All of it is C++ that reads an untrusted file, so it runs contained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import chain, islice

import onnx
import onnx.inliner

from edgekd.errors import ModelError
from edgekd.verify.bounds import MOST_DIMS, require_elements
from edgekd.verify.contained import MEMORY_BYTES, contained
from edgekd.verify.graph import Value
from edgekd.verify.operators import plain_name
from edgekd.verify.shapes import dtype_name, value_of, with_standard_shapes
from edgekd.verify.signatures import STANDARD_DOMAINS, type_flaws
from edgekd.verify.windows import WINDOWED, count_as_runtimes

_LONGEST_FLAW = 500  # characters
_MOST_FLAWS = 20
_CIRCLE_SHOWN = 6  # nodes
_COPIES = 8  # of the model, that the library may hold at a time


@dataclass(frozen=True)
class Understood:
    """Nodes with functions expanded, every tensor's type and shape, and what contradicts itself on the way."""

    nodes: Sequence[onnx.NodeProto]
    values: Mapping[str, Value]
    flaws: tuple[str, ...]


def understand(model: onnx.ModelProto) -> Understood:
    """Check a model and infer its shapes; where that fails a shape stays unknown, and a flaw says why.

    Raises:
        ModelError: it breaks the ONNX specification, has a tensor of impossible size or without elements, or is too
            much for the library.
    """
    room_bytes = MEMORY_BYTES + _COPIES * model.ByteSize()
    answer = onnx.ModelProto.FromString(contained(lambda: _ask(model), memory_bytes=room_bytes))
    nodes = answer.graph.node if model.functions else model.graph.node
    items = (*answer.graph.value_info, *answer.graph.input, *answer.graph.output)
    _require_elements(nodes, items)
    values = {item.name: value_of(item) for item in items if item.type.HasField("tensor_type")}
    opset = next((item.version for item in model.opset_import if item.domain in STANDARD_DOMAINS), 0)
    stored = {tensor.name: Value(tensor.name, dtype_name(tensor.data_type), None) for tensor in model.graph.initializer}
    flaws = islice(
        chain(filter(None, [answer.doc_string]), type_flaws(nodes, opset, {**stored, **values})), _MOST_FLAWS
    )
    return Understood(nodes, values, tuple(flaws))


def _require_elements(nodes: Iterable[onnx.NodeProto], items: Iterable[onnx.ValueInfoProto]) -> None:
    """Refuse a tensor that holds nothing, unless windows larger than their image leave it: a rule says their sizes."""
    sizes = {item.name: item.type.tensor_type.shape.dim for item in items}
    stated = {name: dims for name, dims in sizes.items() if all(dim.HasField("dim_value") for dim in dims)}
    empty = {name for name, dims in stated.items() if len(dims) > 1 and any(dim.dim_value == 0 for dim in dims)}
    for node in nodes:
        for name in empty.intersection(node.output):
            if plain_name(node.op_type) in WINDOWED:
                return
            require_elements(name, [dim.dim_value for dim in stated[name]])


def _ask(model: onnx.ModelProto) -> bytes:
    """Return a serialized model with what is new: shapes, the nodes if functions were expanded, a flaw as its text."""
    _check(model)
    answer = onnx.ModelProto()
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
        answer.graph.node.extend(model.graph.node)
    inferred, answer.doc_string = _infer(_counted_as_runtimes(with_standard_shapes(model)))
    for field in ("value_info", "input", "output"):
        getattr(answer.graph, field).extend(_drop_shape_of_many(item) for item in getattr(inferred.graph, field))
    content: bytes = answer.SerializeToString()
    return content


def _check(model: onnx.ModelProto) -> None:
    known = onnx.defs.onnx_opset_version()
    for item in model.opset_import:
        if item.domain in STANDARD_DOMAINS and item.version > known:
            raise ModelError(f"it needs opset {item.version}, the installed onnx library knows up to {known}")
    _require_no_cycle(model.graph)
    tensors = [item.type.tensor_type for item in model.graph.output if item.type.HasField("tensor_type")]
    shapeless = [tensor for tensor in tensors if not tensor.HasField("shape")]
    for tensor in shapeless:  # the checker wants the field, runtimes do without
        tensor.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(f"it breaks the ONNX specification: {_line(error)}") from error
    for tensor in shapeless:
        tensor.ClearField("shape")


def _require_no_cycle(graph: onnx.GraphProto) -> None:
    """The specification calls nodes in a wrong order and nodes that wait for each other by one name; these differ."""
    nodes = [node.name or f"{node.op_type} {number}" for number, node in enumerate(graph.node)]
    writers = {tensor: number for number, node in enumerate(graph.node) for tensor in node.output if tensor}
    reads = {
        number: {writers[name] for name in node.input if name in writers} for number, node in enumerate(graph.node)
    }
    try:
        TopologicalSorter(reads).prepare()
    except CycleError as error:
        circle = [nodes[number] for number in error.args[1]]
        shown = circle if len(circle) <= _CIRCLE_SHOWN else [*circle[:_CIRCLE_SHOWN], "..."]
        raise ModelError(f"its nodes form a cycle: {' -> '.join(shown)}") from error


def _counted_as_runtimes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with pools whose windows inference counts as runtimes do, without the sizes that it would say.

    A file may state sizes that were inferred; what it states otherwise stays, to be compared.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    changed = [node for node in copy.graph.node if count_as_runtimes(node)]
    if not changed:
        return model
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    _forget_shapes((*bare.graph.value_info, *bare.graph.output))
    inferred = _infer(bare)[0].graph
    said = {item.name: item.type.tensor_type.shape for item in (*inferred.value_info, *inferred.output)}
    stated = (*copy.graph.value_info, *copy.graph.output)
    _forget_shapes(item for item in stated if item.type.tensor_type.shape == said.get(item.name))
    return copy


def _forget_shapes(items: Iterable[onnx.ValueInfoProto]) -> None:
    for item in items:
        if item.type.HasField("tensor_type"):
            item.type.tensor_type.ClearField("shape")


def _infer(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """Return the model with shapes, and the first contradiction that inference meets."""
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True), ""
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        flaw = _line(error)
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True), flaw
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return model, flaw


def _drop_shape_of_many(item: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    if len(item.type.tensor_type.shape.dim) > MOST_DIMS:
        item.type.tensor_type.ClearField("shape")
    return item


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_FLAW else f"{text[:_LONGEST_FLAW]}..."
