"""The certificate of bit-exactness: which arithmetics are proven to give the integers of onnxruntime.

What is proven: with scales that are powers of two and every partial sum below 2^24, float32 computes each sum and each
product with a multiplier exactly, in any order, and so does integer arithmetic. What is left is one rounding of the
same exact number: onnxruntime at every optimization level and `ort` round it half to even. Another arithmetic agrees
where nothing can lie half way between integers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekd.verify.graph import once_each
from edgekd.verify.integer.bounds import FLOAT32_EXACT, Reach, added_reach, reach_of, signed_bits, widest
from edgekd.verify.integer.kernels.moving import Entry
from edgekd.verify.integer.kernels.window import Window
from edgekd.verify.integer.requant import ARITHMETICS, Accumulator, Arithmetic
from edgekd.verify.integer.steps import Accumulate, AddTerms, Move, Program, Step
from edgekd.verify.integer.values import Output, RefusedError
from edgekd.verify.results import Certificate

_LARGEST_EXPONENT = 100  # beyond it a product of scales may leave float32's normal numbers
_AVERAGES = frozenset({"ReduceSum", "SumPool"})
# Where implementations add the zero point in float32, some before they round and some after.
_FLOAT_ZERO_POINTS = frozenset({*_AVERAGES, "Mul"})
_INEXACT_STEPS = 8  # float32 operations of an average, each wrong by half a unit in the last place, and a margin
_WORD = 2**31  # what q31 shifts left must stay below it


def certify(
    program: Program, arithmetic: Arithmetic, accumulator: Accumulator, *, saturate: bool = True
) -> Certificate:
    """Prove that onnxruntime at every optimization level and the target's arithmetic agree, or say all that is missing.

    The certificate also names every arithmetic for which this is proven. onnxruntime is covered only where its kernels
    add exactly: without VNNI its 8-bit sums of uint8 and int8 may not.
    """
    common = [f"{step.node}: {reason}" for step in program.steps for reason in _missing(step, accumulator)]
    if not saturate:
        common.append("the target does not saturate, onnxruntime does")
    own = {name: _own(program, item) for name, item in ARITHMETICS.items()}
    own.setdefault(arithmetic.name, _own(program, arithmetic))
    proven = tuple(name for name in own if not common and not own[name])
    reasons = tuple(dict.fromkeys([*common, *own[arithmetic.name]]))
    unproven = tuple(name for name in own if name not in proven)
    return Certificate(bit_exact=not reasons, reasons=reasons, arithmetics=proven, unproven=unproven)


def refused(refusal: RefusedError) -> Certificate:
    """Return the certificate of a file that is not computed in integers."""
    return Certificate(bit_exact=False, reasons=(str(refusal),))


def _own(program: Program, arithmetic: Arithmetic) -> list[str]:
    """What keeps one arithmetic from what onnxruntime computes, where that is exact but for one rounding."""
    found = []
    for step in program.steps:
        if isinstance(step, Accumulate):
            found += [f"{step.node}: {reason}" for reason in _rounded_otherwise(step, arithmetic)]
        elif isinstance(step, AddTerms) and arithmetic.name != "ort" and _rounds(step):
            found.append(f"{step.node}: the target's addition ({arithmetic.name}) rounds in steps of its own")
    return found


def _missing(step: Step, accumulator: Accumulator) -> Iterator[str]:
    """What keeps onnxruntime itself from one answer at every optimization level."""
    if isinstance(step, Move):
        yield from _entry(step)
    elif isinstance(step, AddTerms):
        yield from _addition(step)
    else:
        yield from _sums(step, accumulator)


def _entry(step: Move) -> Iterator[str]:
    if isinstance(step.settings, Entry) and np.frexp(step.settings.scale)[0] != 0.5:
        yield "the scale of the pixels is not a power of two"


def _sums(step: Accumulate, accumulator: Accumulator) -> Iterator[str]:
    if not _scaled_by_powers(step):
        yield "a scale is not a power of two"
        return
    reach = reach_of(step)
    if reach.magnitude >= FLOAT32_EXACT:
        yield f"partial sums reach {reach.magnitude}, not below 2^24 = {FLOAT32_EXACT}"
    if _overflows(reach, accumulator):
        yield f"sums of {signed_bits(reach.low, reach.high)} bits do not fit the target's {accumulator.bits}"
    yield from _windows(step)
    yield from _averaged(step)
    yield from _zero_point(step, reach)


def _windows(step: Accumulate) -> Iterator[str]:
    """Windows whose elements the 8-bit kernels of onnxruntime count unlike its float kernels."""
    window = step.settings
    if step.kernel != "SumPool" or not isinstance(window, Window):
        return
    if window.ceil_mode:
        yield "an average with ceil_mode: onnxruntime's fused kernel may count other elements"
    padded = any(window.pads) or window.auto_pad.startswith("SAME")
    if padded and np.all(step.multiplier.count == window.taps):
        yield "an average that counts its padding: onnxruntime's fused kernel may take it for the zero point or for 0"


def _averaged(step: Accumulate) -> Iterator[str]:
    """A count that is no power of two divides inexactly: harmless where the exact quotient is far from half way."""
    _, odd = _split(step.multiplier.count)
    if np.all(odd == 1):
        return
    count = int(step.multiplier.count.max())
    if _can_tie(step):
        yield f"the average of {count} elements is rounded after an inexact division"
    elif 2 * int(odd.max()) * _INEXACT_STEPS * _largest_step(step.output) >= FLOAT32_EXACT:
        yield f"the average of {count} elements may come as near to half way as float32's division is inexact"


def _zero_point(step: Accumulate, reach: Reach) -> Iterator[str]:
    zero = step.output.zero_point
    if step.kernel not in _FLOAT_ZERO_POINTS or not zero:
        return
    if zero % 2 and _can_tie(step):
        yield "an odd zero point: implementations round with or without it"
    grid = 1 / float(np.min(step.multiplier.as_float64() / step.multiplier.count))
    if np.all(_split(step.multiplier.count)[1] == 1) and reach.magnitude + abs(zero) * max(grid, 1) >= FLOAT32_EXACT:
        yield "the zero point is finer than float32 adds to these sums"


@once_each
def _can_tie(step: Accumulate) -> bool:
    """Say whether some sum, times 2^k / (2^a * m), lies half way between integers: exactly where a - k - 1 >= 0."""
    exponents = np.asarray(np.frexp(step.multiplier.as_float64())[1]) - 1
    twos, _ = _split(step.multiplier.count)
    return bool(np.any(twos - exponents >= 1))


def _rounded_otherwise(step: Accumulate, arithmetic: Arithmetic) -> Iterator[str]:
    if not _scaled_by_powers(step):
        return  # said before
    if _can_tie(step) and not arithmetic.half_even:
        yield f"the target {arithmetic.sentence}: sums half way between integers differ from onnxruntime's"
    elif _can_tie(step) and arithmetic.name != "ort" and step.kernel in _AVERAGES:
        yield f"the target's average ({arithmetic.name}) rounds half way away from zero"
    elif np.any(_split(step.multiplier.count)[1] > 1) and not arithmetic.half_even:
        yield "the target divides an average in steps of its own"
    elif arithmetic.name == "tflm" and 2 * reach_of(step).magnitude * step.multiplier.as_float64().max() >= _WORD:
        yield "the target shifts its sums out of 32 bits"


def _addition(step: AddTerms) -> Iterator[str]:
    scales = _scales(step)
    if not _powers_of_two(*scales, step.scale):
        yield "a scale is not a power of two"
        return
    magnitude = added_reach(step)
    if magnitude is None or magnitude >= FLOAT32_EXACT:
        yield f"terms of such different scales reach {magnitude}, not below 2^24 = {FLOAT32_EXACT}"
    elif _uncentred_reach(step) >= FLOAT32_EXACT:
        yield "the zero points are finer than float32 adds to these terms"
    if _rounds(step) and step.output.zero_point % 2:
        yield "an odd zero point: implementations round with or without it"


def _rounds(step: AddTerms) -> bool:
    return min(float(scale.min()) for scale in _scales(step)) < float(step.scale)


def _scales(step: AddTerms) -> list[np.ndarray]:
    return [item.format.scale for item in step.inputs if item.format]


def _uncentred_reach(step: AddTerms) -> float:
    """Magnitude, on the finest grid, of terms and zero points that are scaled apart, as onnxruntime's kernel does."""
    scales = [float(scale.item()) for scale in _scales(step)]
    finest = min(*scales, float(step.scale))
    total = abs(step.output.zero_point) * float(step.scale) / finest
    for item, scale in zip(step.inputs, scales, strict=True):
        low, high = widest(item)
        total += (max(-low, high) + 2 * abs(int(item.zero_point.max()))) * scale / finest
    return total


def _largest_step(output: Output) -> int:
    return max(abs(output.type_low), abs(output.type_high)) + abs(output.zero_point)


@once_each
def _scaled_by_powers(step: Accumulate) -> bool:
    return _powers_of_two(*step.multiplier.factors, step.multiplier.output)


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
