"""Intermediate maps of a backbone, taken by hooks, so that its forward knows nothing of who looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from edgekd.distill.backbones import Backbone
from edgekd.distill.methods import LayerShapes


@contextmanager
def recording(backbone: Backbone, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Give a dictionary that each forward pass within fills with the maps (b, c, h, w) of `layers`, counted from 1.

    Raises:
        RecipeError: the backbone has no such layer.
    """
    maps: dict[int, Tensor] = {}

    def keep(layer: int) -> None:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            maps[layer] = output

        handles.append(backbone.layer(layer).register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        for layer in layers:
            keep(layer)
        yield maps
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def map_shapes(backbone: Backbone, height: int, width: int) -> LayerShapes:
    """Return (channels, height, width) of each layer's map for images of `height` x `width` pixels."""
    was_training, weight = backbone.training, next(backbone.parameters())
    backbone.eval()
    with recording(backbone, range(1, len(backbone.layers) + 1)) as maps:
        backbone(torch.zeros(1, backbone.in_channels, height, width, device=weight.device))
    backbone.train(was_training)
    shapes = {layer: (int(m.shape[1]), int(m.shape[2]), int(m.shape[3])) for layer, m in maps.items()}
    return LayerShapes(backbone.spec, shapes)
