"""`ort` and `xnnpack`: one float32 multiplication, rounded once, half to even.

Sources: onnxruntime, onnxruntime/core/mlas/lib (quantize.cpp, qladd.cpp), https://github.com/microsoft/onnxruntime;
XNNPACK, https://github.com/google/XNNPACK. Both were compared bit by bit with the real kernels (tests/verify/integer).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekd.verify.integer.requant.base import Arithmetic, Sums, Term, divide_like_tflite, register
from edgekd.verify.integer.values import Multiplier

_ADD_BITS = 20  # precision of XNNPACK's addition, below the larger of the two multipliers


def requantize(sums: Sums, multiplier: Multiplier) -> Sums:
    """Return rint(float32(sum) * multiplier)."""
    factors, values = multiplier.as_float32(), sums.astype(np.float32, copy=False)
    steps = np.multiply(values, factors, out=values) if factors.ndim <= values.ndim else values * factors
    return np.asarray(np.rint(steps, out=steps))


def average_like_ort(sums: Sums, multiplier: Multiplier, _zero_point: int) -> Sums:
    """Return rint(float32(sum) * multiplier), the count in the multiplier."""
    return requantize(sums, multiplier)


def average_like_litert(sums: Sums, multiplier: Multiplier, zero_point: int) -> Sums:
    """Average pooling (one scale for input and output) is TensorFlow Lite's; XNNPACK computes other means."""
    if np.all(multiplier.as_float64() == 1):
        return divide_like_tflite(sums, multiplier, zero_point)
    return requantize(sums, multiplier)


def add_in_float(terms: Sequence[Term], output: np.float32) -> Sums:
    """Return rint((a * scale_a + b * scale_b) / scale_out), every operation in float32."""
    real = terms[0].values.astype(np.float32) * terms[0].scale
    for term in terms[1:]:
        real = real + term.values.astype(np.float32) * term.scale
    steps = real / output
    return np.asarray(np.rint(steps, out=steps))


def add_fixed_point(terms: Sequence[Term], output: np.float32) -> Sums:
    """Add with integer multipliers of 21 bits and one right shift, rounded half up."""
    ratios = [np.asarray(term.scale / output, np.float32) for term in terms]
    largest = max(float(np.max(ratio)) for ratio in ratios)
    shift = _ADD_BITS - (int(np.frexp(largest)[1]) - 1)
    total = np.zeros((), np.int64)
    for term, ratio in zip(terms, ratios, strict=True):
        factor = np.rint(np.ldexp(ratio.astype(np.float64), shift)).astype(np.int64)
        total = total + term.values.astype(np.int64) * factor
    if shift <= 0:
        return (total << -shift).astype(np.float64)
    return ((total + (1 << (shift - 1))) >> shift).astype(np.float64)


ORT = register(
    Arithmetic(
        "ort",
        "multiplies by a float32 and rounds once, half to even, as onnxruntime does",
        requantize,
        average_like_ort,
        add_in_float,
        half_even=True,
    )
)
XNNPACK = register(
    Arithmetic(
        "xnnpack",
        "multiplies by a float32 and rounds once, half to even, as XNNPACK does",
        requantize,
        average_like_litert,
        add_fixed_point,
        half_even=True,
    )
)
