"""ConvNet-9: a plain network of nine convolutions, of which only the outline is known."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from itertools import pairwise

from torch import nn

from edgekd.distill.backbones.base import Backbone, Request, parse_widths, register
from edgekd.distill.backbones.imagenet import from_files

DEFAULT_BASE = "196"
CONVOLUTIONS = 3  # in each of the three groups


@register("convnet9")
@from_files
def convnet9(request: Request) -> Backbone:
    """Build `convnet9` (196-392-784), `convnet9:16` (16-32-64) or `convnet9:A-B-C`.

    Three groups of three 3x3 convolutions with BatchNorm and ReLU, each group closed by 2x2 max pooling; then a global
    mean. The source prints nine convolutions, three max poolings and 18M trained parameters and no more: widths,
    kernels, BatchNorm and the global mean are chosen here, and the default widths give those 18M.

    Source: R. Jagtap, M. Shinde, P. Patil, R. Deshpande, Learning Relevant Information through Knowledge Distillation
    for Small Dataset, Purdue University (manuscript, no date, no URL).
    """
    asked = request if request.argument else replace(request, argument=DEFAULT_BASE)
    widths = parse_widths(asked, growth=(1, 2, 4))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for group, (before, width) in enumerate(pairwise((request.in_channels, *widths)), start=1):
        layers |= _group(group, before, width, request.drop)
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return Backbone(
        nn.Sequential(layers),
        in_channels=request.in_channels,
        embedding_dim=widths[-1],
        min_size=8,
        layers=[f"maxpool{group}" for group in range(1, len(widths) + 1)],
    )


def _group(group: int, in_channels: int, width: int, drop: float) -> dict[str, nn.Module]:
    layers: dict[str, nn.Module] = {}
    for index, before in enumerate((in_channels, *[width] * (CONVOLUTIONS - 1)), start=1):
        conv = nn.Conv2d(before, width, kernel_size=3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # bias=True, so there is one
        name = f"{group}_{index}"
        layers |= {f"conv{name}": conv, f"norm{name}": nn.BatchNorm2d(width), f"relu{name}": nn.ReLU()}
    layers[f"maxpool{group}"] = nn.MaxPool2d(2)
    if drop:
        layers[f"drop{group}"] = nn.Dropout(drop)
    return layers
