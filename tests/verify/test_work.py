"""No engine is begun that would take too long: what is estimated, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgekd.fewshot import Protocol
from edgekd.verify.facts import Facts
from edgekd.verify.work import (
    Duration,
    episodes_duration,
    onnxruntime_duration,
    runs_of,
    simulator_duration,
)

Analyse = Callable[[Any], Facts]


def test_onnxruntime_is_opened_once_and_run_for_every_image(analyse: Analyse, qcdq: type[Any]) -> None:
    """Three dequantizers, Conv, Relu, Quantize, Dequantize of 1x3x8x8 to 1x4x8x8, and a 2x2 pool."""
    facts = analyse(qcdq(3, 8).conv(4).pool())
    nodes, macs = 8, 64 * 4 * 27
    assert (len(facts.graph.nodes), facts.costs.macs) == (nodes, macs)
    once, twice = (onnxruntime_duration(facts, images).seconds for images in (1, 2))
    opening = 2 * once - twice
    assert opening == pytest.approx(1.2e-6 * nodes**2)
    constants = (2 * 192 + 2) + (2 * 108 + 2) + (2 * 4 + 2)  # read and written, a scale and a zero point each
    layer, relu, quantizers, pool = 192 + 108 + 4 + 256, 2 * 256, 2 * (2 * 256 + 2), 256 + 64 * 4
    elements = constants + layer + relu + quantizers + pool
    assert twice - once == pytest.approx(nodes * 5e-6 + macs / 2e10 + elements / 1e9)


def test_a_fixed_batch_is_filled(analyse: Analyse, qcdq: type[Any]) -> None:
    assert runs_of(analyse(qcdq(batch=4).conv(4)).graph, 9) == 3
    assert runs_of(analyse(qcdq(batch="n").conv(4)).graph, 9) == 9


def test_the_simulator_counts_its_steps(analyse: Analyse, qcdq: type[Any]) -> None:
    short, long = (analyse(qcdq(3, 8).conv(4, kernel=1).quantize().quantize()) for _ in range(2))
    assert simulator_duration(short, 100).seconds == simulator_duration(long, 100).seconds
    assert simulator_duration(short, 100).seconds > 100 * 3 * 1e-4


def test_episodes_count_every_drawn_embedding() -> None:
    found = episodes_duration([Protocol(5, 1, 15, 1_000, 0), Protocol(5, 5, 15, 1_000, 0)], 64)
    assert found.seconds == pytest.approx((80_000 + 100_000) * 64 / 2e8)


@pytest.mark.parametrize(("seconds", "raised"), [(120.5, 130), (99.7, 100), (7.1, 8), (4_811, 4_900)])
def test_what_would_raise_the_bound_is_said(seconds: float, raised: int) -> None:
    duration = Duration(seconds, "it")
    found = duration.excess("rule", 5)
    assert found is not None
    assert (found.status, found.limit) == ("unknown", 5)
    assert found.message.endswith(f"--most-seconds {raised} raises it")
    assert duration.excess("rule", raised) is None
