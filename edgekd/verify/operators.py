"""What kind of operator each ONNX name is: the one table that costs, memory and rules read."""

from __future__ import annotations

from enum import Enum

from edgekd.verify.graph import Flavour, Graph, Node


class Kind(Enum):
    """What an operator does to its data."""

    LAYER = "multiplies activations by weights"
    QUANTIZER = "changes the number format, no values are computed"
    VIEW = "renames the same bytes"
    UNARY = "computes each element from one element, possible in place"
    MOVE = "copies elements, unchanged"
    POOL = "reduces windows of an image"
    COMBINE = "computes from several tensors or whole axes, without weights"


# QONNX and Brevitas quantizers: float in, float out, on an integer grid.
FAKE_QUANTIZERS = frozenset({"Quant", "IntQuant", "BipolarQuant", "Trunc", "FloatQuant"})

_NAMES = {
    Kind.LAYER: "Conv ConvTranspose Gemm MatMul QLinearConv QLinearMatMul QGemm ConvInteger MatMulInteger "
    "FusedConv FusedGemm",
    Kind.QUANTIZER: "QuantizeLinear DequantizeLinear " + " ".join(sorted(FAKE_QUANTIZERS)),
    Kind.VIEW: "Flatten Reshape Squeeze Unsqueeze Identity Dropout",
    Kind.UNARY: "Relu Clip LeakyRelu PRelu Sigmoid HardSigmoid HardSwish Tanh Elu Selu Celu Softplus Abs Neg Exp Log "
    "Sqrt Reciprocal Floor Ceil Round Sign Erf Gelu Cast BatchNormalization QLinearLeakyRelu QLinearSigmoid",
    Kind.MOVE: "Transpose Slice Split Concat Pad DepthToSpace SpaceToDepth Gather Expand Tile QLinearConcat",
    Kind.POOL: "MaxPool AveragePool GlobalMaxPool GlobalAveragePool QLinearAveragePool QLinearGlobalAveragePool",
    Kind.COMBINE: "Add Sub Mul Div Min Max Pow Sum Mean Where Equal Less Greater And Or Not Softmax LogSoftmax "
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL2 ArgMax ArgMin TopK Resize Upsample LRN LpNormalization "
    "InstanceNormalization LayerNormalization GroupNormalization Shape Size Range ConstantOfShape QLinearAdd "
    "QLinearMul",
}
_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}

# Every output element is one of the input's integers (or zero), so that the result needs no new scale.
_ON_GRID = frozenset({"MaxPool", "GlobalMaxPool", "Relu"})

# Deployed under another name than the file uses: the same operator on integers, or fused with its activation.
_PLAIN_NAMES = {
    "ConvInteger": "Conv",
    "MatMulInteger": "MatMul",
    "QGemm": "Gemm",
    "FusedConv": "Conv",
    "FusedGemm": "Gemm",
}


def kind_of(node: Node) -> Kind | None:
    """Return the kind of an operator, None where edgekd does not know it."""
    known = node.domain in _DOMAINS or node.op in FAKE_QUANTIZERS
    return _KINDS.get(node.op) if known and not node.has_subgraph else None


def plain_name(op: str) -> str:
    """Return the name a profile lists an operator under: `Conv` for `QLinearConv`."""
    return _PLAIN_NAMES.get(op, op.removeprefix("QLinear"))


def stays_on_grid(node: Node) -> bool:
    """Say whether a quantized input makes a quantized output, with the same scale and zero point."""
    return kind_of(node) in {Kind.VIEW, Kind.MOVE} or node.op in _ON_GRID


def flavour_of(graph: Graph) -> Flavour:
    """Return how a file writes quantization.

    qonnx: fake quantizers on floats. qoperator: operators on integers (QLinearConv). qcdq: quantize - clip - dequantize
    as Brevitas exports it and edgekd after it. qdq: quantize - dequantize around float operators. float: none of these.
    """
    ops = {node.op for node in graph.nodes}
    if ops & FAKE_QUANTIZERS:
        return "qonnx"
    if any(op.startswith("QLinear") for op in ops) or ops & {"QGemm", "ConvInteger", "MatMulInteger"}:
        return "qoperator"
    if "DequantizeLinear" in ops:
        return "qcdq" if "edgekd" in graph.metadata or _clips_integers(graph) else "qdq"
    return "float"


def _clips_integers(graph: Graph) -> bool:
    return any(node.op == "Clip" and graph.value(node.outputs[0]).is_integer for node in graph.nodes)
