"""Conv4: four 3x3 convolutions, the student that fits where a residual network does not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from edgekd.distill.backbones.base import Backbone, Request, parse_widths, register
from edgekd.distill.backbones.imagenet import from_files

DEFAULT_WIDTH = "64"
SIGNED = "signed"


@register("conv4")
@from_files
def conv4(request: Request) -> Backbone:
    """Build `conv4-WIDTH` or `conv4:A-B-C-D`: 4 x (convolution, BatchNorm, ReLU, 2x2 max pooling), then a global mean.

    Every layer is a module called once, so that a quantizer can replace layers by type. Pooling rounds down (28, 14, 7,
    3, 1), hence 16 pixels at least. The embedding is pooled: D numbers, not a flattened map.

    Source: O. Vinyals et al., Matching Networks for One Shot Learning, 2016, https://arxiv.org/abs/1606.04080.
    """
    asked = request if request.argument else Request(request.spec, DEFAULT_WIDTH, request.in_channels, request.drop)
    widths = parse_widths(asked, growth=(1, 1, 1, 1))
    return build_blocks(request, widths, poolings=len(widths))


def build_blocks(request: Request, widths: Sequence[int], poolings: int, *, signed: bool = False) -> Backbone:
    """Build one block for each of `widths`, the first `poolings` of which pool, and a global mean behind them.

    `signed`: the last block has no ReLU, and what is left of the mean of each number of the embedding over the training
    images is taken away, its variance made 1. Quantizing folds that into the last convolution: nothing is added.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    maps: list[str] = []
    for index, (before, after) in enumerate(pairwise((request.in_channels, *widths)), start=1):
        act, pooled = SIGNED if signed and index == len(widths) else "relu", index <= poolings
        layers |= _block(index, before, after, request.drop, act=act, pooled=pooled)
        maps.append(f"{'maxpool' if pooled else act}{index}")
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    if signed:
        layers["standardize"] = nn.BatchNorm2d(widths[-1], affine=False)
    layers["flatten"] = nn.Flatten()
    return Backbone(
        nn.Sequential(layers),
        in_channels=request.in_channels,
        embedding_dim=widths[-1],
        min_size=2**poolings,
        layers=maps,
        signed=signed,
    )


def _block(
    index: int, in_channels: int, width: int, drop: float, *, act: str, pooled: bool
) -> OrderedDict[str, nn.Module]:
    conv = nn.Conv2d(in_channels, width, kernel_size=3, padding=1)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # bias=True, so there is one
    rectifier: nn.Module = nn.Identity() if act == SIGNED else nn.ReLU()  # where activations are rounded to integers
    layers: dict[str, nn.Module] = {"conv": conv, "norm": nn.BatchNorm2d(width), act: rectifier}
    if pooled:
        layers["maxpool"] = nn.MaxPool2d(2)
    if drop:
        layers["drop"] = nn.Dropout(drop)
    return OrderedDict((f"{kind}{index}", layer) for kind, layer in layers.items())
