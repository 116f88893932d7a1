"""Post-training calibration: what range of values an activation quantizer should cover."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor, nn

VALUES_PER_LAYER = 1_000_000
CANDIDATES = 60


@torch.no_grad()
def observe(
    network: nn.Module, images: Tensor, watched: tuple[type[nn.Module], ...], pooled: type[nn.Module]
) -> tuple[dict[str, Tensor], dict[str, tuple[int, int, int]]]:
    """Run images (n, c, h, w); return an even sample of each watched module's outputs.

    And the shape (c, h, w) before each pooling.
    """
    samples: dict[str, list[Tensor]] = defaultdict(list)
    shapes: dict[str, tuple[int, int, int]] = {}
    batches = torch.split(images, 64)

    def hook(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        values = output.flatten()
        stride = max(1, len(values) * len(batches) // VALUES_PER_LAYER)
        samples[name].append(values[::stride].float().cpu())
        if isinstance(module, pooled):
            _, channels, height, width = inputs[0].shape
            shapes[name] = (channels, height, width)

    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: hook(name, m, i, o))
        for name, module in network.named_modules()
        if isinstance(module, watched)
    ]
    try:
        for batch in batches:
            network(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in samples.items()}, shapes


def float_threshold(values: Tensor, steps: int) -> float:
    """Return the clipping threshold with the least squared rounding and clipping error on a grid of `steps` steps."""
    top = float(values.abs().max())
    if top == 0:
        return 1.0  # a dead layer: any grid is exact
    candidates = [top * fraction / CANDIDATES for fraction in range(CANDIDATES // 6, CANDIDATES + 1)]
    return min(candidates, key=lambda threshold: squared_error(values, threshold, steps))


def power_of_two_threshold(values: Tensor, steps: int) -> float:
    """As `float_threshold`, among powers of two."""
    top = next_power_of_two(float(values.abs().max()) or 1.0)
    candidates = [top * 2.0**-shift for shift in range(6)]
    return min(candidates, key=lambda threshold: squared_error(values, threshold, steps))


def next_power_of_two(value: float) -> float:
    """Return the least power of two that is not below `value`."""
    return float(2.0 ** math.ceil(math.log2(value)))


def squared_error(values: Tensor, threshold: float, steps: int) -> float:
    """Return the mean squared error of rounding `values` to `steps` steps below `threshold` and clipping above."""
    scale = threshold / steps
    rounded = (values / scale).round().clamp(-steps, steps - 1) * scale
    return float((rounded - values).square().mean())
