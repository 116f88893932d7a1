"""How the tensors that meet in a layer are quantized, read backwards from the layer through quantizers and views."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgekd.errors import ModelError
from edgekd.verify.graph import FLOAT_BITS, Array, Graph, Node, dtype_bits, once_each
from edgekd.verify.operators import FAKE_QUANTIZERS, Kind, kind_of, stays_on_grid

_MOST_BITS = 64
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
        return bool(np.all(np.isin(self.zero_point.astype(np.float64), (0, middle))))

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
    """A constant as a device stores it: `bits` an element, after the quantizers between the file and its use.

    `tensor` is one of the file's own, of `shape`, or what constants are computed into, which the file does not hold.
    """

    tensor: str
    shape: tuple[int, ...]
    bits: int

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


def quantization_of(graph: Graph, tensor: str) -> Quantization | None:
    """Return how `tensor` is quantized where it is read; None where it is a float."""
    return _quantizations(graph).get(tensor) or _plain_integer(graph, tensor)


@once_each
def _quantizations(graph: Graph) -> Mapping[str, Quantization | None]:
    """How each float is quantized, in one pass: operators that stay on a grid hand their input's on."""
    found: dict[str, Quantization | None] = {}
    for node in graph.nodes:
        stated: Quantization | None = None
        if node.op == "DequantizeLinear":
            stated = dequantized(graph, node)
        elif node.op in FAKE_QUANTIZERS:
            stated = fake_quantized(graph, node)
        elif stays_on_grid(node):
            sources = node.inputs if node.op == "Concat" else node.inputs[:1]
            formats = [found.get(source) or _plain_integer(graph, source) for source in sources]
            stated = formats[0] if formats and all(formats) else None
        found.update((name, stated) for name in node.outputs if not graph.value(name).is_integer)
    return found


def dequantized(graph: Graph, node: Node) -> Quantization:
    """Return the quantization that a DequantizeLinear node states."""
    return _linear(graph, node, node.input(0))


def quantized(graph: Graph, node: Node) -> Quantization:
    """Return the quantization that a QuantizeLinear node states."""
    return _linear(graph, node, node.outputs[0])


def fake_quantized(graph: Graph, node: Node) -> Quantization:
    """Return the quantization that a QONNX Quant or BipolarQuant node states.

    Raises:
        ModelError: the bit width is not a positive number.

    Source: A. Pappalardo et al., QONNX: Representing Arbitrary-Precision Quantized Neural Networks, 2022,
    https://arxiv.org/abs/2206.07527.
    """
    bipolar = node.op == "BipolarQuant"
    bits = 1 if bipolar else _stated_bits(graph, node)
    zero_point = None if bipolar else graph.numbers(node.input(2))
    return Quantization(node.name, bits, bool(node.int("signed", 1)), graph.numbers(node.input(1)), zero_point)


def _stated_bits(graph: Graph, node: Node) -> int:
    """Return the width at a fake quantizer's fourth input, rounded up: it may be a fraction."""
    widths = graph.numbers(node.input(3))
    if widths is None:
        return FLOAT_BITS
    widest = float(np.max(widths.astype(np.float64), initial=0))
    if not 0 < widest <= _MOST_BITS:
        raise ModelError(f"{node.name} has a bit width of {widest:g}, which no number has")
    return math.ceil(widest)


def stated_beside(graph: Graph, node: Node, operand: int) -> Quantization | None:
    """Return the quantization that a QLinear operator states in the two inputs after `operand`."""
    return _linear(graph, node, node.input(operand), operand + 1)


def states_output(graph: Graph, node: Node) -> Quantization | None:
    """Return the quantization that a QLinear layer states for its output; None for any other operator."""
    scale = _OUTPUT_SCALE.get(node.op)
    return None if scale is None else _linear(graph, node, node.outputs[0], scale)


def stored_constant(graph: Graph, tensor: str) -> Stored | None:
    """Return the constant that `tensor` comes from through quantizers, views and clips.

    What is computed from constants alone is a constant too, folded as a deployment stores it: the result, not the
    operands. None for what depends on a graph input, or is computed into a shape that is not known.
    """
    return _stored_constants(graph).get(tensor)


@once_each
def _stored_constants(graph: Graph) -> Mapping[str, Stored]:
    """What each tensor stores, in one pass; of several quantizers the last counts."""
    found = {name: Stored(name, array.shape, graph.value(name).bits) for name, array in graph.constants.items()}
    for node in graph.nodes:
        source = found.get(node.input(0)) if _passes_constant(node) else None
        if source is None:
            found |= _folded(graph, node)
            continue
        if node.op == "DequantizeLinear":
            source = replace(source, bits=dequantized(graph, node).bits)
        elif node.op in FAKE_QUANTIZERS:
            source = replace(source, bits=fake_quantized(graph, node).bits)
        found.update((name, source) for name in node.outputs if name)
    return found


def _folded(graph: Graph, node: Node) -> dict[str, Stored]:
    values = [graph.value(name) for name in node.outputs if name in graph.fixed]
    return {value.name: Stored(value.name, value.shape, value.bits) for value in values if value.shape is not None}


def integer_bits(graph: Graph, tensor: str, dtype: str) -> int:
    """Return the width of an integer tensor: that of its type, or less where a Clip on the way leaves less.

    Brevitas writes 4-bit weights as int8 in -7..7 behind a Clip.
    """
    bits = dtype_bits(dtype) or FLOAT_BITS
    return min(bits, _clipped_bits(graph).get(tensor, bits))


@once_each
def _clipped_bits(graph: Graph) -> Mapping[str, int]:
    """The width that clips leave to each tensor behind one, also through views."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node.op != "Clip" and kind_of(node) is not Kind.VIEW:
            continue
        widths = [found[node.input(0)]] if node.input(0) in found else []
        limits = [graph.number(node.input(position)) for position in (1, 2)]
        if node.op == "Clip" and limits[0] is not None and limits[1] is not None:
            widths.append(bits_for(int(limits[0]), int(limits[1])))
        if widths:
            found.update((name, min(widths)) for name in node.outputs if name)
    return found


def bits_for(low: int, high: int) -> int:
    """Return the width of the narrowest integer (signed where `low` is negative) that holds low..high."""
    if low < 0:
        return max((-low - 1).bit_length(), max(high, 0).bit_length()) + 1
    return max(high.bit_length(), 1)


def _linear(graph: Graph, node: Node, integer: str, scale: int = 1) -> Quantization:
    """Read `node`'s inputs at `scale` (and the zero point behind it) as the format of the tensor `integer`."""
    zero_point = graph.numbers(node.input(scale + 1))
    dtype = graph.value(integer).dtype or ("uint8" if zero_point is None else str(zero_point.dtype))
    return Quantization(
        node=node.name,
        bits=integer_bits(graph, integer, dtype),
        signed=not dtype.startswith("u"),
        scale=graph.numbers(node.input(scale)),
        zero_point=zero_point,
    )


def _plain_integer(graph: Graph, tensor: str) -> Quantization | None:
    value = graph.value(tensor)
    if not value.is_integer:
        return None
    return Quantization(tensor, value.bits, not value.dtype.startswith("u"), None, None)


def _passes_constant(node: Node) -> bool:
    return kind_of(node) in {Kind.QUANTIZER, Kind.VIEW} or node.op in _PASSED_BY_CONSTANTS
