"""`shift`: multiplies by a power of two and rounds half up, floor(x + 0.5), as the MAX7800x and ESP-DL do.

There is no multiplier but 2^k: scales that need another one are refused, because no target was found that says which
power of two it would take instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekd.verify.integer.requant.base import Arithmetic, Sums, Term, UnfitError, register
from edgekd.verify.integer.values import Multiplier


def requantize(sums: Sums, multiplier: Multiplier) -> Sums:
    """Return floor(sum * 2^k + 0.5).

    Raises:
        UnfitError: a multiplier that is not a power of two.
    """
    exponents = multiplier.exponents()
    if exponents is None:
        raise UnfitError("a shift multiplies by powers of two, and these scales (or an average's count) are none")
    # Exact in float64: below 2^53 a power of two changes the exponent alone, and 0.5 needs one bit more.
    steps = sums.astype(np.float64) * np.ldexp(1.0, exponents)
    steps += 0.5
    return np.asarray(np.floor(steps, out=steps))


def average(sums: Sums, multiplier: Multiplier, _zero_point: int) -> Sums:
    """Shift the sum; a count that is no power of two is refused as `requantize` does."""
    return requantize(sums, multiplier)


def add(terms: Sequence[Term], output: np.float32) -> Sums:
    """Align the terms on the finest scale by left shifts, add, shift the sum.

    Raises:
        UnfitError: a scale that is not a power of two.
    """
    finest = np.float32(min(float(np.min(term.scale)) for term in terms))
    total: Sums = np.zeros((), np.float64)
    for term in terms:
        total = total + requantize(term.values, Multiplier((term.scale,), finest, np.array(1)))
    return requantize(total, Multiplier((np.asarray(finest),), output, np.array(1)))


SHIFT = register(
    Arithmetic(
        "shift",
        "shifts by a power of two and rounds half up",
        requantize,
        average,
        add,
        half_even=False,
    )
)
