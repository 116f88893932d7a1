"""`tflm`: a 31-bit fixed-point multiplier with two roundings, as TensorFlow Lite Micro and CMSIS-NN compute by default.

The first rounding is that of gemmlowp's saturating rounding doubling high multiply, the second that of a right shift,
half away from zero. Source: B. Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, 2018, https://arxiv.org/abs/1712.05877; https://github.com/google/gemmlowp.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekd.verify.integer.requant.base import Arithmetic, Sums, Term, UnfitError, divide_like_tflite, register
from edgekd.verify.integer.values import Multiplier

_ONE = 1 << 31
_ADD_LEFT_SHIFT = 20  # head room of TFLite's 8-bit addition
_SUM_LIMIT = 2**31
_DOUBLE_LIMIT = 2.0**22  # times 31 bits are the 53 of float64
_SIGN = np.int64(-(2**63))
_BLOCK = 1 << 15  # elements


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
    doubles = _doubles(sums, fixed, exponent)
    for block in _blocks(sums, fixed):
        if _reach(block) + doubles.room <= _DOUBLE_LIMIT:
            _multiply_doubles(block, doubles)
        else:
            block[...] = multiply(_integers(block), fixed, exponent)
    return sums


@dataclass(frozen=True, eq=False)
class _Doubles:
    """Multipliers m / 2^31 * 2^e in float64, 2^(e - 1) where e < 0 and else 0, and the largest 2^-e."""

    factor: NDArray[np.float64]
    offset: NDArray[np.float64]
    room: float


def _doubles(sums: Sums, fixed: NDArray[np.int64], exponent: NDArray[np.int64]) -> _Doubles:
    """Return the multipliers as one row of `sums` takes them: equal strides spare NumPy short loops over channels."""
    if exponent.max() > 0:
        return _Doubles(np.zeros(0), np.zeros(0), math.inf)
    factor = np.ldexp(fixed.astype(np.float64), exponent - 31)
    offset = np.where(exponent < 0, np.ldexp(0.5, exponent), 0.0)
    room = 2.0 ** -int(exponent.min())
    if fixed.size == 1 or sums.ndim < 2 or (fixed.ndim >= 2 and fixed.shape[-2] > 1):
        return _Doubles(factor, offset, room)
    rows = [np.empty_like(sums[..., :1, :], np.float64) for _ in range(2)]
    for row, values in zip(rows, (factor, offset), strict=True):
        row[...] = values
    return _Doubles(rows[0], rows[1], room)


def _multiply_doubles(sums: Sums, by: _Doubles) -> None:
    """Replace sums by floor(p + 1/2 + 2^(e - 1) with the sign of p) of p = sum * m / 2^31 * 2^e: `multiply` in floats.

    Where e is 0 nothing but 1/2 is added. Both roundings are floors of numbers with 2^30 or half of 2^-e added, and the
    second takes 1 off where the first gave less than 0; a floor of a floor is one floor. Where e < 0 and p lies in
    -2^(e - 1)..0 both signs give 0. All are multiples of 2^(e - 31), and below 2^53 of these where
    |sum| + 2^-e <= 2^22, so that float64 is exact.
    """
    wide = sums.astype(np.float64)
    wide *= by.factor
    signed = wide.view(np.int64) & _SIGN
    signed |= by.offset.view(np.int64)
    wide += signed.view(np.float64)
    wide += 0.5
    sums[...] = np.floor(wide, out=wide)


def _blocks(sums: Sums, fixed: NDArray[np.int64]) -> Iterator[Sums]:
    """Give views of a few rows, whose copies of 64 bits stay in a cache; all of `sums` where rows are scaled apart."""
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


def _reach(sums: Sums) -> float:
    return float(max(sums.max(), -sums.min())) if sums.size else 0.0


def _integers(sums: Sums) -> NDArray[np.int64]:
    if _reach(sums) > _SUM_LIMIT:
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
