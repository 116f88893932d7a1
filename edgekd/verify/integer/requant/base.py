"""What an arithmetic is: how sums become integers of the output, and the registry of those that are simulated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekd.verify.integer.values import Integers, Multiplier, Output, Scales

Sums = NDArray[np.floating]  # exact integers: float32 below 2^24, float64 below 2^53


class UnfitError(Exception):
    """An arithmetic that has no answer for these scales."""


@dataclass(frozen=True, eq=False)
class Term:
    """One summand of an addition: integers without their zero point, a step of which is worth `scale`."""

    values: Sums
    scale: Scales


Round = Callable[[Sums, Multiplier], Sums]
Average = Callable[[Sums, Multiplier, int], Sums]
Add = Callable[[Sequence[Term], np.float32], Sums]


@dataclass(frozen=True)
class Arithmetic:
    """How one kind of target rounds.

    `requantize` makes steps of the output from sums, `average` from sums of averaged elements (and the zero point),
    `add` from terms of different scales; all without zero point and range, and all may overwrite what they are given:
    fresh memory costs more than the arithmetic. `half_even` = rounds once, ties to the even integer.
    """

    name: str
    sentence: str
    requantize: Round
    average: Average
    add: Add
    half_even: bool


def divide_like_tflite(sums: Sums, multiplier: Multiplier, zero_point: int) -> Sums:
    """Return the average of integers with their zero point, half away from zero: TensorFlow Lite's average pooling.

    Only where input and output have one format; the result is without the zero point again.
    """
    count = multiplier.count
    values = sums.astype(np.int64) + count * zero_point
    away = np.sign(values) * ((np.abs(values) + count // 2) // count)
    return np.asarray(away - zero_point, np.float64)


ARITHMETICS: dict[str, Arithmetic] = {}


def register(arithmetic: Arithmetic) -> Arithmetic:
    """Add an arithmetic to those that can be asked for by name."""
    ARITHMETICS[arithmetic.name] = arithmetic
    return arithmetic


def finish(steps: Sums, output: Output, *, saturate: bool = True) -> Integers:
    """Add the zero point and bring the integers into the output's range; `steps` is overwritten.

    An activation always clamps; where the target does not saturate, what the type cannot hold wraps around.
    """
    low, high = output.low, output.high
    if output.zero_point:
        steps += output.zero_point
    if saturate:
        return np.clip(steps, low, high, out=steps).astype(output.dtype)
    wide = steps.astype(np.int64)
    wide = np.maximum(wide, low) if low > output.type_low else wide
    wide = np.minimum(wide, high) if high < output.type_high else wide
    span = output.type_high - output.type_low + 1
    return ((wide - output.type_low) % span + output.type_low).astype(output.dtype)
