"""Shapes and types of every tensor of an ONNX graph, with a symbolic batch bound to 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

from edgekd.errors import ModelError
from edgekd.verify.bounds import LARGEST_DIM, LARGEST_TENSOR, shown_count
from edgekd.verify.graph import SymbolicDim, Value
from edgekd.verify.operators import FAKE_QUANTIZERS

# Operators that ONNX does not define, each with one of the same output shape and the inputs that it takes.
_STAND_INS: Mapping[str, tuple[str, tuple[int, ...] | slice]] = {
    **dict.fromkeys(FAKE_QUANTIZERS, ("Identity", (0,))),
    "FusedConv": ("Conv", (0, 1, 2)),
    "FusedGemm": ("Gemm", (0, 1, 2)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QGemm": ("Gemm", (0, 3, 6)),
    "QLinearConcat": ("Concat", slice(2, None, 3)),
    **{name: (name, slice(None)) for name in ("QuantizeLinear", "DequantizeLinear")},
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearLeakyRelu": ("LeakyRelu", (0,)),
    "QLinearSigmoid": ("Sigmoid", (0,)),
}
_QGEMM_OUTPUT_SCALE = 7
_NUMPY_NAMES = {"float": "float32", "double": "float64", "undefined": ""}


def bind_batch(graph: onnx.GraphProto, inputs: Sequence[onnx.ValueInfoProto]) -> list[SymbolicDim]:
    """Set a symbolic first dimension of each input to 1, wherever it occurs; return every symbolic dimension.

    Raises:
        ModelError: a dimension that no tensor can have.
    """
    for item in (*graph.input, *graph.output, *graph.value_info):
        _require_positive(item)
    symbolic = [dim for item in inputs for dim in _symbolic_dims(item)]
    batch_names = {dim.label for dim in symbolic if dim.axis == 0}
    open_batch = {dim.tensor for dim in symbolic if dim.axis == 0}
    for item in inputs:
        if item.name in open_batch:
            item.type.tensor_type.shape.dim[0].dim_value = 1
    for item in (*graph.input, *graph.output, *graph.value_info):
        for dim in item.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param in batch_names:
                dim.dim_value = 1
    return symbolic


def dtype_name(elem_type: int) -> str:
    """Return the NumPy-style name of an ONNX element type: float32, int8, uint4; empty for none that ONNX knows."""
    if elem_type not in onnx.TensorProto.DataType.values():
        return ""
    name: str = onnx.TensorProto.DataType.Name(elem_type).lower()
    return _NUMPY_NAMES.get(name, name)


def _require_positive(item: onnx.ValueInfoProto) -> None:
    for axis, dim in enumerate(item.type.tensor_type.shape.dim):
        if dim.dim_value < 0:
            raise ModelError(
                f"'{item.name}' has a negative dimension, {dim.dim_value}, on axis {axis}: "
                "give it a size, or a name (dim_param) where it is open"
            )


def _symbolic_dims(item: onnx.ValueInfoProto) -> list[SymbolicDim]:
    tensor = item.type.tensor_type
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.dim_value > LARGEST_DIM:
            raise ModelError(f"input '{item.name}' has an impossible dimension, {dim.dim_value}")
        if dim.HasField("dim_value") and dim.dim_value == 0:
            raise ModelError(f"input '{item.name}' has dimension 0 on axis {axis}: it holds nothing")
    dims = enumerate(tensor.shape.dim)
    return [SymbolicDim(item.name, axis, dim.dim_param or "?") for axis, dim in dims if dim.dim_value == 0]


def with_standard_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which operators that ONNX does not define are replaced by those of the same shape."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if any(map(_leaves_floats, copy.graph.node)):
        nodes = [part for node in copy.graph.node for part in _cast_to_float(node)]
        del copy.graph.node[:]
        copy.graph.node.extend(nodes)
    for node in copy.graph.node:
        if node.domain and node.op_type in _STAND_INS:
            op, inputs = _STAND_INS[node.op_type]
            if isinstance(inputs, slice):
                inputs = tuple(range(*inputs.indices(len(node.input))))
            kept = [node.input[index] for index in inputs if index < len(node.input)]
            node.op_type, node.domain = op, ""
            del node.input[:]
            node.input.extend(kept)
    return copy


def _leaves_floats(node: onnx.NodeProto) -> bool:
    """Say whether the node is a QGemm without a scale of its output, which then is not quantized."""
    return bool(node.domain) and node.op_type == "QGemm" and not any(node.input[_QGEMM_OUTPUT_SCALE:])


def _cast_to_float(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return the node, and a cast behind it where it leaves floats: its stand-in has the type of its input."""
    if not _leaves_floats(node):
        return [node]
    output = node.output[0]
    node.output[0] = f"{output}/integer"
    return [node, onnx.helper.make_node("Cast", [node.output[0]], [output], to=onnx.TensorProto.FLOAT)]


def value_of(item: onnx.ValueInfoProto) -> Value:
    """Return the type and shape of a tensor as ONNX states them.

    Raises:
        ModelError: it has more elements than any memory.
    """
    tensor = item.type.tensor_type
    dims = tuple(dim.dim_value for dim in tensor.shape.dim)
    known = tensor.HasField("shape") and all(
        dim.HasField("dim_value") and dim.dim_value > 0 for dim in tensor.shape.dim
    )
    if known and math.prod(dims) > LARGEST_TENSOR:
        raise ModelError(f"'{item.name}' is of an impossible size: {shown_count(math.prod(dims))} elements")
    return Value(item.name, dtype_name(tensor.elem_type), dims if known else None)
