"""How fast training is: images a second, and on a GPU the share of what its matrix units can do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

SIZE = 8192  # of the square matrices that the rate is measured on; smaller ones do not fill a large GPU
SECONDS = 0.1  # of measuring


class Meter:
    """Counts images and steps since the last reading, and the arithmetic of a step where that is known.

    `flops_per_step` are operations of convolutions and matrix products, forward and backward, an addition and a
    multiplication counted apart; `matrix_rate` is the device's in FLOP/s.
    """

    def __init__(self, device: torch.device) -> None:
        self.flops_per_step = 0
        self.matrix_rate = matrix_rate(device) if device.type == "cuda" else 0.0
        self.start()

    def start(self) -> None:
        """Begin to count anew."""
        self.began, self.images, self.steps = time.monotonic(), 0, 0

    def restart(self) -> None:
        """Begin anew, and count the arithmetic of the next step again: images may have grown."""
        self.flops_per_step = 0
        self.start()

    def step(self, images: int) -> None:
        """Count one step over so many images."""
        self.images += images
        self.steps += 1

    @property
    def wants_flops(self) -> bool:
        """Whether the arithmetic of a step is still to be counted; a CPU's share would say little."""
        return bool(self.matrix_rate) and not self.flops_per_step

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the arithmetic of the step inside."""
        with FlopCounterMode(display=False) as counter:
            yield
        self.flops_per_step = counter.get_total_flops()
        self.start()  # counting slows down, so this step is no measurement

    def reading(self) -> dict[str, Any]:
        """Return `images_per_s`, and where it is known `tflops` and its share of the matrix rate.

        Meaningful once the device has finished what it was given.
        """
        elapsed_s = max(time.monotonic() - self.began, 1e-9)
        found: dict[str, Any] = {"images_per_s": round(self.images / elapsed_s, 1)}
        if self.flops_per_step:
            flops_per_s = self.flops_per_step * self.steps / elapsed_s
            found["tflops"] = round(flops_per_s / 1e12, 3)
            found["matrix_share"] = round(flops_per_s / self.matrix_rate, 4)
        return found


@cache
def matrix_rate(
    device: torch.device, *, dtype: torch.dtype = torch.bfloat16, size: int = SIZE, seconds: float = SECONDS
) -> float:
    """Measure the FLOP/s of products of square matrices on a device: what a data sheet's peak comes down to."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    torch.mm(a, b)
    _finish(device)
    began, products = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        torch.mm(a, b)
        _finish(device)
        products += 1
    return 2 * size**3 * products / (time.perf_counter() - began)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
