"""The certificate "bit-exact everywhere": given only where every implementation that adds exactly must agree.

What is proven: with scales that are powers of two and every partial sum below 2^24, float32 computes each sum and each
product with a multiplier exactly, in any order, and so does integer arithmetic. What is left is one rounding, half to
even, of the same exact number. A target that rounds otherwise agrees only where nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekd.verify.integer.bounds import FLOAT32_EXACT, Reach, added_reach, reach_of, signed_bits
from edgekd.verify.integer.kernels.moving import Entry
from edgekd.verify.integer.requant import Accumulator, Arithmetic
from edgekd.verify.integer.steps import Accumulate, AddTerms, Move, Program, Step
from edgekd.verify.integer.values import RefusedError
from edgekd.verify.results import Certificate

_LARGEST_EXPONENT = 100  # beyond it a product of scales may leave float32's normal numbers


def certify(
    program: Program, arithmetic: Arithmetic, accumulator: Accumulator, *, saturate: bool = True
) -> Certificate:
    """Prove that onnxruntime at every optimization level and the target's arithmetic agree, or say all that is missing.

    onnxruntime is covered only where its kernels add exactly: without VNNI its 8-bit sums of uint8 and int8 may not.
    """
    reasons = [f"{step.node}: {reason}" for step in program.steps for reason in _missing(step, arithmetic, accumulator)]
    if not saturate:
        reasons.append("the target does not saturate, onnxruntime does")
    return Certificate(bit_exact=not reasons, reasons=tuple(dict.fromkeys(reasons)))


def refused(refusal: RefusedError) -> Certificate:
    """Return the certificate of a file that is not computed in integers."""
    return Certificate(bit_exact=False, reasons=(str(refusal),))


def _missing(step: Step, arithmetic: Arithmetic, accumulator: Accumulator) -> Iterator[str]:
    if isinstance(step, Move):
        yield from _entry(step)
    elif isinstance(step, AddTerms):
        yield from _addition(step, arithmetic)
    else:
        yield from _sums(step, arithmetic, accumulator)


def _entry(step: Move) -> Iterator[str]:
    if isinstance(step.settings, Entry) and np.frexp(step.settings.scale)[0] != 0.5:
        yield "the scale of the pixels is not a power of two"


def _sums(step: Accumulate, arithmetic: Arithmetic, accumulator: Accumulator) -> Iterator[str]:
    if not _powers_of_two(*step.multiplier.factors, step.multiplier.output):
        yield "a scale is not a power of two"
        return
    reach = reach_of(step)
    if reach.magnitude >= FLOAT32_EXACT:
        yield f"partial sums reach {reach.magnitude}, not below 2^24 = {FLOAT32_EXACT}"
    if _overflows(reach, accumulator):
        yield f"sums of {signed_bits(reach.low, reach.high)} bits do not fit the target's {accumulator.bits}"
    yield from _ties(step, arithmetic)


def _ties(step: Accumulate, arithmetic: Arithmetic) -> Iterator[str]:
    """Sums times 2^k / count: where that can lie half way between integers, implementations may differ."""
    exponents = np.asarray(np.frexp(step.multiplier.as_float64())[1]) - 1
    twos, odd = _split(step.multiplier.count)
    # 2^k * sum / (2^a * m) is half an odd number for some integer sum exactly where a - k - 1 >= 0.
    ties = np.any(twos - exponents >= 1)
    if ties and np.any(odd > 1):
        yield f"the average of {int(step.multiplier.count.max())} elements is rounded after an inexact division"
    elif ties and not arithmetic.half_even:
        yield f"the target {arithmetic.sentence}: sums half way between integers differ from onnxruntime's"
    elif ties and step.kernel == "Mul" and step.output.zero_point % 2:
        yield "an odd zero point: implementations round with or without it"
    elif np.any(odd > 1) and not arithmetic.half_even:
        yield "the target divides an average in steps of its own"


def _addition(step: AddTerms, arithmetic: Arithmetic) -> Iterator[str]:
    scales = [item.format.scale for item in step.inputs if item.format]
    if not _powers_of_two(*scales, step.scale):
        yield "a scale is not a power of two"
        return
    magnitude = added_reach(step)
    if magnitude is None or magnitude >= FLOAT32_EXACT:
        yield f"terms of such different scales reach {magnitude}, not below 2^24 = {FLOAT32_EXACT}"
    if min(float(scale.min()) for scale in scales) >= step.scale:
        return  # nothing is rounded
    if arithmetic.name != "ort":
        yield f"the target's addition ({arithmetic.name}) rounds in steps of its own"
    elif step.output.zero_point % 2:
        yield "an odd zero point: implementations round with or without it"


def _powers_of_two(*scales: np.ndarray | np.float32) -> bool:
    return all(_is_power(np.asarray(scale, np.float64)) for scale in scales)


def _is_power(scale: np.ndarray) -> bool:
    mantissas, exponents = np.frexp(scale)
    return bool(np.all(mantissas == 0.5) and np.all(np.abs(exponents) <= _LARGEST_EXPONENT))


def _split(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a and m of count = 2^a * m, m odd."""
    lowest = count & -count
    return np.frexp(lowest.astype(np.float64))[1] - 1, count // lowest


def _overflows(reach: Reach, accumulator: Accumulator) -> bool:
    return accumulator.bits is not None and signed_bits(reach.low, reach.high) > accumulator.bits
