"""Cycles, time and energy that follow from a profile's rates: estimates, never measurements of the file.

cycles = MACs / rate, ms = cycles / clock, mJ = MACs x energy a MAC. Only MACs are counted: pools, additions, copies and
waiting for memory come on top, so a peak rate gives the least that is possible, a measured one a likelier figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.results import Estimate

Range = tuple[float, float]
KINDS: tuple[Literal["peak", "measured"], ...] = ("peak", "measured")


def estimates_of(facts: Facts, profile: HardwareProfile) -> tuple[Estimate, ...]:
    """Return an estimate for every rate the profile gives; none where the MACs of an operator are not known."""
    if facts.costs.unknown or not facts.costs.macs:
        return ()
    return tuple(row for kind in KINDS for row in _of_kind(facts.costs.macs, profile, kind))


def _of_kind(macs: int, profile: HardwareProfile, kind: Literal["peak", "measured"]) -> Iterator[Estimate]:
    rates: dict[str, Range | None] = {
        "peak": profile.compute.macs_per_cycle_peak,
        "measured": profile.compute.macs_per_cycle_measured,
    }
    energies: dict[str, Range | None] = {
        "peak": profile.compute.energy_pj_per_mac_peak,
        "measured": profile.compute.energy_pj_per_mac_measured,
    }
    rate, energy, clock = rates[kind], energies[kind], profile.compute.clock_hz
    if rate:
        source = profile.source(f"compute.macs_per_cycle_{kind}")
        cycles = _divided((macs, macs), rate)
        yield _row("cycles", kind, cycles, source)
        if clock:
            seconds = _divided(cycles, clock)
            both = " | ".join(dict.fromkeys(filter(None, (source, profile.source("compute.clock_hz")))))
            yield _row("ms", kind, (seconds[0] * 1e3, seconds[1] * 1e3), both)
    if energy:
        source = profile.source(f"compute.energy_pj_per_mac_{kind}")
        yield _row("mj", kind, (macs * energy[0] * 1e-9, macs * energy[1] * 1e-9), source)


def _divided(amount: Range, speed: Range) -> Range:
    """The least amount at the highest speed, and the other way round."""
    return amount[0] / speed[1], amount[1] / speed[0]


def _row(
    quantity: Literal["cycles", "ms", "mj"], kind: Literal["peak", "measured"], values: Range, source: str
) -> Estimate:
    return Estimate(quantity=quantity, kind=kind, low=values[0], high=values[1], source=source)
