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
Add = Callable[[Sequence[Term], np.float32], Sums]


@dataclass(frozen=True)
class Arithmetic:
    """How one kind of target rounds.

    `requantize` makes steps of the output from sums, `average` from sums of averaged elements, `add` from terms of
    different scales; all before zero point and range. `half_even` = rounds once, ties to the even integer.
    """

    name: str
    sentence: str
    requantize: Round
    average: Round
    add: Add
    half_even: bool


ARITHMETICS: dict[str, Arithmetic] = {}


def register(arithmetic: Arithmetic) -> Arithmetic:
    """Add an arithmetic to those that can be asked for by name."""
    ARITHMETICS[arithmetic.name] = arithmetic
    return arithmetic


def finish(steps: Sums | Integers, output: Output, *, saturate: bool = True) -> Integers:
    """Add the zero point and bring the integers into the output's range.

    An activation always clamps; where the target does not saturate, what the type cannot hold wraps around.
    """
    low, high = output.low, output.high
    shifted = steps + np.asarray(output.zero_point, steps.dtype) if output.zero_point else steps
    if saturate:
        clamped = np.maximum(np.minimum(shifted, shifted.dtype.type(high)), shifted.dtype.type(low))
        return clamped.astype(output.dtype)
    wide = shifted.astype(np.int64)
    wide = np.maximum(wide, low) if low > output.type_low else wide
    wide = np.minimum(wide, high) if high < output.type_high else wide
    span = output.type_high - output.type_low + 1
    return ((wide - output.type_low) % span + output.type_low).astype(output.dtype)
