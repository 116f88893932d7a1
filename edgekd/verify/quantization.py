"""How the tensors that meet in a layer are quantized, read backwards from the layer through quantizers and views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekd.verify.graph import FLOAT_BITS, Array, Graph, Node, dtype_bits
from edgekd.verify.operators import FAKE_QUANTIZERS, Kind, kind_of, stays_on_grid

_OUTPUT_SCALE = {"QLinearConv": 6, "QLinearMatMul": 6, "QGemm": 7}  # input that holds it
_PASSED_BY_CONSTANTS = frozenset({"Clip", "Transpose", "Cast"})


@dataclass(frozen=True, eq=False)
class Quantization:
    """`real = scale * (integer - zero_point)`; `scale` is None where the file gives none (integer-only operators).

    `node` says where in the file it is stated.
    """

    node: str
    bits: int
    signed: bool
    scale: Array | None
    zero_point: Array | None

    @property
    def per_channel(self) -> bool:
        """True where there is more than one scale."""
        return self.scale is not None and self.scale.size > 1

    @property
    def symmetric(self) -> bool:
        """True where every zero point is 0, or the middle of an unsigned type, which is 0 of the signed one."""
        if self.zero_point is None:
            return True
        middle = 0 if self.signed else 2 ** (self.bits - 1)
        return bool(np.all(np.isin(self.zero_point.astype(np.int64), (0, middle))))

    @property
    def valid_scale(self) -> bool:
        """True where every scale is a positive number."""
        return self.scale is None or bool(np.all(np.isfinite(self.scale) & (self.scale.astype(np.float64) > 0)))

    @property
    def power_of_two(self) -> bool:
        """True where every scale is 2^k."""
        if self.scale is None or not self.valid_scale:
            return False
        mantissa, _ = np.frexp(self.scale.astype(np.float64))
        return bool(np.all(mantissa == 0.5))


@dataclass(frozen=True)
class Stored:
    """A constant as a device stores it: `bits` an element, after the quantizers between the file and its use."""

    tensor: str
    elements: int
    bits: int


def quantization_of(graph: Graph, tensor: str) -> Quantization | None:
    """Return how `tensor` is quantized where it is read; None where it is a float."""
    node = graph.producers.get(tensor)
    if node is None or graph.value(tensor).is_integer:
        return _plain_integer(graph, tensor)
    if node.op == "DequantizeLinear":
        return dequantized(graph, node)
    if node.op in FAKE_QUANTIZERS:
        return fake_quantized(graph, node)
    if stays_on_grid(node):
        sources = node.inputs if node.op == "Concat" else node.inputs[:1]
        found = [quantization_of(graph, source) for source in sources]
        return found[0] if all(found) else None
    return None


def dequantized(graph: Graph, node: Node) -> Quantization:
    """Return the quantization that a DequantizeLinear node states."""
    return _linear(graph, node, node.input(0))


def quantized(graph: Graph, node: Node) -> Quantization:
    """Return the quantization that a QuantizeLinear node states."""
    return _linear(graph, node, node.outputs[0])


def fake_quantized(graph: Graph, node: Node) -> Quantization:
    """Return the quantization that a QONNX Quant or BipolarQuant node states.

    Source: A. Pappalardo et al., QONNX: Representing Arbitrary-Precision Quantized Neural Networks, 2022,
    https://arxiv.org/abs/2206.07527.
    """
    bipolar = node.op == "BipolarQuant"
    widths = graph.constant(node.input(3))
    bits = 1 if bipolar else 32 if widths is None else int(np.ceil(np.max(widths.astype(np.float64))))
    zero_point = None if bipolar else graph.constant(node.input(2))
    return Quantization(node.name, bits, bool(node.int("signed", 1)), graph.constant(node.input(1)), zero_point)


def stated_beside(graph: Graph, node: Node, operand: int) -> Quantization | None:
    """Return the quantization that a QLinear operator states in the two inputs after `operand`."""
    return _linear(graph, node, node.input(operand), operand + 1)


def states_output(graph: Graph, node: Node) -> Quantization | None:
    """Return the quantization that a QLinear layer states for its output; None for any other operator."""
    scale = _OUTPUT_SCALE.get(node.op)
    return None if scale is None else _linear(graph, node, node.outputs[0], scale)


def stored_constant(graph: Graph, tensor: str) -> Stored | None:
    """Return the constant that `tensor` comes from through quantizers, views and clips; None where it is computed."""
    bits: int | None = None
    while tensor not in graph.constants:
        node = graph.producers.get(tensor)
        if node is None or not _passes_constant(node):
            return None
        if bits is None and node.op == "DequantizeLinear":
            bits = dequantized(graph, node).bits
        elif bits is None and node.op in FAKE_QUANTIZERS:
            bits = fake_quantized(graph, node).bits
        tensor = node.input(0)
    return Stored(tensor, graph.constants[tensor].size, bits or graph.value(tensor).bits)


def integer_bits(graph: Graph, tensor: str, dtype: str) -> int:
    """Return the width of an integer tensor: that of its type, or less where a Clip on the way leaves less.

    Brevitas writes 4-bit weights as int8 in -7..7 behind a Clip.
    """
    bits = dtype_bits(dtype) or FLOAT_BITS
    node = graph.producers.get(tensor)
    while node is not None and (node.op == "Clip" or kind_of(node) is Kind.VIEW):
        low, high = graph.constant(node.input(1)), graph.constant(node.input(2))
        if node.op == "Clip" and low is not None and high is not None:
            bits = min(bits, bits_for(int(low), int(high)))
        node = graph.producers.get(node.input(0))
    return bits


def bits_for(low: int, high: int) -> int:
    """Return the width of the narrowest integer (signed where `low` is negative) that holds low..high."""
    if low < 0:
        return max((-low - 1).bit_length(), max(high, 0).bit_length()) + 1
    return max(high.bit_length(), 1)


def _linear(graph: Graph, node: Node, integer: str, scale: int = 1) -> Quantization:
    """Read `node`'s inputs at `scale` (and the zero point behind it) as the format of the tensor `integer`."""
    zero_point = graph.constant(node.input(scale + 1))
    dtype = graph.value(integer).dtype or ("uint8" if zero_point is None else str(zero_point.dtype))
    return Quantization(
        node=node.name,
        bits=integer_bits(graph, integer, dtype),
        signed=not dtype.startswith("u"),
        scale=graph.constant(node.input(scale)),
        zero_point=zero_point,
    )


def _plain_integer(graph: Graph, tensor: str) -> Quantization | None:
    value = graph.value(tensor)
    if not value.is_integer:
        return None
    return Quantization(tensor, value.bits, not value.dtype.startswith("u"), None, None)


def _passes_constant(node: Node) -> bool:
    return kind_of(node) in {Kind.QUANTIZER, Kind.VIEW} or node.op in _PASSED_BY_CONSTANTS
