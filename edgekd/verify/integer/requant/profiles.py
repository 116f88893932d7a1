"""Which arithmetic a hardware profile describes, and how wide its accumulators are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekd.profile import HardwareProfile, Requant

Overflow = Literal["wrap", "saturate"]

# (multiplier, rounding, double rounding); a single rounding need not be stated.
_NAMES: dict[tuple[str | None, str | None, bool], str] = {
    ("fp32", "half_even", False): "ort",
    ("q31", "half_away", True): "tflm",
    ("shift", "half_up", False): "shift",
}


@dataclass(frozen=True)
class Accumulator:
    """Registers that hold the sums: `bits` is None where unknown, then nothing overflows.

    Only the whole sum, with its bias, is brought into range: partial sums are not, which is exact where it wraps and
    where the target adds in full resolution and saturates at the end.
    """

    bits: int | None = None
    overflow: Overflow = "wrap"


def arithmetic_name(requant: Requant) -> str | None:
    """Return the name of the arithmetic that a profile describes, None where it does not say or none is known."""
    return _NAMES.get((requant.multiplier, requant.rounding, bool(requant.double_rounding)))


def accumulator_of(profile: HardwareProfile) -> Accumulator:
    """Return a profile's accumulators; they wrap where it does not say."""
    return Accumulator(profile.accumulator_bits, profile.accumulator_overflow or "wrap")
