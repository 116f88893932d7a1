"""Manifold mixup: the images of a batch mixed in pairs, at the input or at one of the backbone's layers.

V. Verma et al., Manifold Mixup: Better Representations by Interpolating Hidden States, ICML 2019,
https://arxiv.org/abs/1806.05236.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekd.distill.backbones import Backbone


@dataclass(frozen=True)
class Mix:
    """One draw for a whole batch: each row becomes share * row + (1 - share) * the row that `order` (b,) pairs it with.

    `layer` counts from 1 as the backbone's; 0 is its input.
    """

    layer: int
    share: float
    order: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Mix the rows of `values` (b, ...)."""
        return self.share * values + (1 - self.share) * values[self.order.to(values.device)]


def draw_mix(alpha: float, layers: int, rows: int) -> Mix:
    """Draw a layer out of 0 to `layers`, a share from Beta(alpha, alpha) and pairs, from torch's own generator."""
    layer = int(torch.randint(layers + 1, ()))
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    return Mix(layer, share, torch.randperm(rows))


@contextmanager
def mixing(backbone: Backbone, mix: Mix) -> Iterator[None]:
    """Mix what enters the backbone, or what its layer gives out, in each forward pass within."""

    def enter(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (mix(inputs[0]), *inputs[1:])

    def leave(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return mix(output)

    handle = (
        backbone.layer(mix.layer).register_forward_hook(leave)
        if mix.layer
        else backbone.register_forward_pre_hook(enter)
    )
    try:
        yield
    finally:
        handle.remove()
