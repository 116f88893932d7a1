"""How far an exported file may be from the integers of the network that was trained."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.cpu import cpu_flags, sums_int8_exactly
from edgekd.manifest import QuantScheme


@dataclass(frozen=True)
class Bound:
    """The most LSB by which an integer may differ, and the largest share of integers that may."""

    max_lsb: int
    max_share: float

    @classmethod
    def of(cls, scheme: QuantScheme, *, integers: bool) -> Bound:
        """Return the bound for kernels that sum `integers`, or the same numbers in fp32.

        Scales that are powers of two leave nothing to round differently. Others do where a requantized sum lies next to
        the middle between two integers; sums in fp32 are rounded themselves, so more of them fall on the other side. A
        later layer may make two steps of one: `tools/bench_parity.py` finds small networks that differ by as much.
        """
        if scheme.scale == "power_of_two":
            return cls(0, 0.0)
        return cls(2, 0.01 if integers else 0.02)

    @classmethod
    def of_onnxruntime(cls, scheme: QuantScheme) -> Bound:
        """Return the bound for edgekd's own sessions: with signed activations they sum integers on some CPUs only."""
        return cls.of(scheme, integers=scheme.relu_unsigned or sums_int8_exactly(cpu_flags()))

    def allows(self, lsb: int, share: float) -> bool:
        """Say whether a share of the integers may differ, by so many LSB at most."""
        return lsb <= self.max_lsb and share <= self.max_share

    def __str__(self) -> str:
        if self.max_lsb == 0:
            return "every golden integer comes out, bit for bit"
        return f"golden integers come out within {self.max_lsb} LSB, at least {1 - self.max_share:.0%} of them exactly"
