from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from edgekd.distill.rate import Meter, matrix_rate

CPU = torch.device("cpu")


def test_a_meter_counts_images_since_the_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 20.0, 24.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    meter = Meter(CPU)
    meter.step(64)
    meter.step(64)
    assert meter.reading() == {"images_per_s": 64.0}
    meter.start()
    meter.step(8)
    assert meter.reading() == {"images_per_s": 2.0}
    assert not meter.wants_flops, "a CPU's share is not reported"


def test_the_arithmetic_of_a_step_is_that_of_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, the gradient of the weights, and but for the first layer the gradient of the input: one cost each."""
    meter = Meter(CPU)
    meter.matrix_rate = 1e9
    assert meter.wants_flops
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)
    with meter.counting():
        second(first(torch.randn(2, 3, 8, 8)).mean((2, 3))).sum().backward()
    conv = 2 * 2 * (8 * 8 * 4) * (3 * 3 * 3)
    linear = 2 * 2 * 4 * 5
    assert meter.flops_per_step == 2 * conv + 3 * linear
    assert not meter.wants_flops
    meter.step(2)
    meter.step(2)
    began = meter.began
    monkeypatch.setattr(time, "monotonic", lambda: began + 0.5)
    found = meter.reading()
    assert found["images_per_s"] == 8.0
    assert found["matrix_share"] == pytest.approx(4 * meter.flops_per_step / 1e9, abs=1e-4)
    assert found["tflops"] == pytest.approx(4 * meter.flops_per_step / 1e12, abs=1e-3)


def test_a_matrix_rate_is_measured() -> None:
    assert 1e6 < matrix_rate(CPU, dtype=torch.float32, size=64, seconds=0.01) < 1e14
