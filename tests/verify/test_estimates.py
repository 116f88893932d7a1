"""Estimates by arithmetic: one convolution 3 -> 4 with a 3x3 window on 8x8 images is 4 x 64 x 27 = 6,912 MACs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgekd.profile import HardwareProfile, load_profile
from edgekd.verify.estimates import estimates_of
from edgekd.verify.facts import Facts
from edgekd.verify.results import Estimate

Analyse = Callable[[Any], Facts]
MACS = 6_912


@pytest.fixture
def facts(qcdq: type[Any], analyse: Analyse) -> Facts:
    return analyse(qcdq().conv(4))


def rows(facts: Facts, **compute: Any) -> dict[tuple[str, str], Estimate]:
    sources = [{"keys": ["compute"], "text": "page 7"}]
    profile = HardwareProfile.model_validate({"name": "toy", "compute": compute, "sources": sources})
    return {(row.kind, row.quantity): row for row in estimates_of(facts, profile)}


def test_cycles_time_and_energy_of_one_figure(facts: Facts) -> None:
    found = rows(facts, clock_hz=1e6, macs_per_cycle_peak=4, energy_pj_per_mac_peak=2)
    assert found["peak", "cycles"].low == found["peak", "cycles"].high == MACS / 4
    assert found["peak", "ms"].high == pytest.approx(MACS / 4 / 1e6 * 1e3)
    assert found["peak", "mj"].low == pytest.approx(MACS * 2e-12 * 1e3)
    assert {row.source for row in found.values()} == {"page 7"}
    assert not [kind for kind, _ in found if kind == "measured"]


def test_a_range_gives_a_range_the_fast_end_with_the_fast_clock(facts: Facts) -> None:
    found = rows(facts, clock_hz=[1e6, 4e6], macs_per_cycle_measured=[2, 8], energy_pj_per_mac_measured=[1, 3])
    assert (found["measured", "cycles"].low, found["measured", "cycles"].high) == (MACS / 8, MACS / 2)
    assert found["measured", "ms"].low == pytest.approx(MACS / 8 / 4e6 * 1e3)
    assert found["measured", "ms"].high == pytest.approx(MACS / 2 / 1e6 * 1e3)
    assert found["measured", "mj"].high == pytest.approx(MACS * 3e-12 * 1e3)


def test_what_is_unknown_is_absent(facts: Facts, qcdq: type[Any], analyse: Analyse) -> None:
    assert rows(facts) == {}
    assert rows(facts, clock_hz=1e6) == {}
    assert set(rows(facts, macs_per_cycle_peak=4)) == {("peak", "cycles")}
    strange = analyse(qcdq().conv(4).op("Magic", domain="custom"))
    assert rows(strange, clock_hz=1e6, macs_per_cycle_peak=4) == {}, "an operator without a cost"


def test_shipped_rates_of_a_conv4_at_84(conv4: Callable[..., Any], analyse: Analyse) -> None:
    """97,164,288 MACs at 117 MAC/cycle and 50 MHz take 16.6 ms on the MAX78000, as measured on another network."""
    facts = analyse(conv4(width=64, size=84))
    found = {(row.kind, row.quantity): row for row in estimates_of(facts, load_profile("max78000"))}
    assert found["measured", "ms"].low == pytest.approx(97_164_288 / 117 / 50e6 * 1e3)
    assert "openreview.net" in found["measured", "ms"].source
    assert ("peak", "ms") not in found
    both = {row.kind for row in estimates_of(facts, load_profile("gap8"))}
    assert both == {"peak", "measured"}
    assert estimates_of(facts, load_profile("tu_accel_150k")) == ()
