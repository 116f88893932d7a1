"""`tflm`: a 31-bit fixed-point multiplier with two roundings, as TensorFlow Lite Micro and CMSIS-NN compute by default.

The first rounding is that of gemmlowp's saturating rounding doubling high multiply, the second that of a right shift,
half away from zero. Source: B. Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, 2018, https://arxiv.org/abs/1712.05877; https://github.com/google/gemmlowp.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekd.verify.integer.requant.base import Arithmetic, Sums, Term, UnfitError, divide_like_tflite, register
from edgekd.verify.integer.values import Multiplier

_ONE = 1 << 31
_ADD_LEFT_SHIFT = 20  # head room of TFLite's 8-bit addition
_SUM_LIMIT = 2**31
_BLOCK = 1 << 16  # elements


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Return (m, e) with real = m / 2^31 * 2^e and m in 2^30 .. 2^31 - 1; (0, 0) below 2^-31."""
    mantissa, exponent = math.frexp(real)
    fixed = math.floor(mantissa * _ONE + 0.5)
    if fixed == _ONE:
        fixed, exponent = fixed // 2, exponent + 1
    if exponent < -31:
        return 0, 0
    if exponent > 30:
        raise UnfitError(f"a multiplier of {real:.3g} is beyond 2^30")
    return fixed, exponent


def multiply(sums: NDArray[np.int64], fixed: NDArray[np.int64], exponent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return sums * fixed / 2^31 * 2^exponent, rounded twice; `sums` must fit 32 bits, and are overwritten."""
    left, right = np.maximum(exponent, 0), np.maximum(-exponent, 0)
    high = sums
    if left.any():
        high <<= left
    high *= fixed
    high += 1 << 30
    high >>= 31
    half = (np.int64(1) << right) >> 1
    below = high >> 63  # -1 where negative: half away from zero, so a negative half goes down
    high += below if right.all() else below * (right > 0)
    high += half
    high >>= right
    return high


def requantize(sums: Sums, multiplier: Multiplier) -> Sums:
    """Multiply by the multiplier that double precision gives, in fixed point; `sums` is overwritten."""
    fixed, exponent = _fixed(multiplier.as_float64())
    if exponent.max() > 0:  # a multiplier above 1: what float32 holds exactly could outgrow it
        sums = sums.astype(np.float64)
    for block in _blocks(sums, fixed):
        block[...] = multiply(_integers(block), fixed, exponent)
    return sums


def _blocks(sums: Sums, fixed: NDArray[np.int64]) -> Iterator[Sums]:
    """Give views of a few rows, whose 64-bit copies stay in a cache; all of `sums` where rows are scaled apart."""
    if sums.ndim < 2 or not sums.size or (fixed.ndim >= 2 and fixed.shape[-2] > 1):
        yield sums
        return
    rows = sums.shape[-2]
    step = max(1, _BLOCK * rows // sums.size)
    yield from (sums[..., start : start + step, :] for start in range(0, rows, step))


def average(sums: Sums, multiplier: Multiplier, zero_point: int) -> Sums:
    """Divide first where input and output have one scale (average pooling), else fold the count in (mean)."""
    values, real = _integers(sums), multiplier.as_float64()
    if np.all(real == 1):
        return divide_like_tflite(sums, multiplier, zero_point)
    fixed, exponent = _fixed(real)
    shift = np.minimum(np.frexp(multiplier.count.astype(np.float64))[1] - 1, np.minimum(32, 31 + exponent))
    return multiply(values, (fixed << shift) // multiplier.count, exponent - shift).astype(np.float64)


def add(terms: Sequence[Term], output: np.float32) -> Sums:
    """Rescale both terms to twice the larger scale with 20 bits of head room, add, rescale the sum."""
    twice = 2.0 * max(float(np.max(term.scale)) for term in terms)
    total = np.zeros((), np.int64)
    for term in terms:
        shifted = _integers(term.values) << _ADD_LEFT_SHIFT
        total = total + _scaled(shifted, np.asarray(term.scale.astype(np.float64) / twice))
    return _scaled(total, np.asarray(twice / (2.0**_ADD_LEFT_SHIFT * float(output)))).astype(np.float64)


def _scaled(values: NDArray[np.int64], real: NDArray[np.float64]) -> NDArray[np.int64]:
    return multiply(values, *_fixed(real))


def _fixed(real: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pairs = np.array([quantize_multiplier(value) for value in real.ravel().tolist()], np.int64)
    return pairs[:, 0].reshape(real.shape), pairs[:, 1].reshape(real.shape)


def _integers(sums: Sums) -> NDArray[np.int64]:
    if sums.size and max(sums.max(), -sums.min()) > _SUM_LIMIT:
        raise UnfitError("a sum does not fit the 32 bits that the fixed-point multiplier takes")
    return sums.astype(np.int64)


TFLM = register(
    Arithmetic(
        "tflm",
        "multiplies by a 31-bit fixed-point number and rounds twice, as TensorFlow Lite Micro does",
        requantize,
        average,
        add,
        half_even=False,
    )
)
