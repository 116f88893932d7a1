"""MobileNet-v2 of torchvision, without its classifier."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import nn

from edgekd.distill.backbones.base import Backbone, Request, register
from edgekd.distill.backbones.imagenet import load_imagenet, see_imagenet
from edgekd.errors import RecipeError

if TYPE_CHECKING:
    from torchvision.models import MobileNetV2

ARGUMENT = re.compile(r"(?P<small>small)?-?(?P<width>\d*\.?\d+)?")
LAYERS = ("features.1", "features.3", "features.6", "features.13", "features.18")  # the ends of each resolution
MAX_WIDTH = 16.0
ONE_WIDTH = "there are pretrained weights for width 1 only"


@register("mobilenetv2")
def mobilenetv2(request: Request) -> Backbone:
    """Build `mobilenetv2`, `mobilenetv2:0.5` (a width multiplier), `mobilenetv2:small` or `mobilenetv2:small-0.5`.

    `small` is for images of at most about 40 pixels: the stem and the first strided block keep the resolution.

    Source: M. Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018,
    https://arxiv.org/abs/1801.04381.
    """
    import torchvision

    small, width = _parse(request)
    network: MobileNetV2 = torchvision.models.MobileNetV2(width_mult=width, dropout=request.drop)
    if request.pretrained:
        load_imagenet(request, network, "mobilenet_v2")
    elif request.in_channels != 3:
        _replace_stem(network, request.in_channels)
    if small:
        _keep_resolution(network)
    network.classifier = nn.Sequential(network.classifier[0], nn.Identity())
    body, layers = see_imagenet(request, network, LAYERS)
    return Backbone(
        body,
        in_channels=request.in_channels,
        embedding_dim=network.last_channel,
        layers=layers,
        unpublished="" if width == 1 else ONE_WIDTH,
    )


def _parse(request: Request) -> tuple[bool, float]:
    match = ARGUMENT.fullmatch(request.argument)
    width = float(match["width"] or 1) if match else 0.0
    if match is None or not 0 < width <= MAX_WIDTH:
        raise RecipeError(
            f"backbone '{request.spec}': '{request.argument}' is not a width multiplier such as 0.5, 'small', or both "
            "as in 'small-0.5'"
        )
    if request.pretrained and request.fetch and width != 1:
        raise RecipeError(f"backbone '{request.spec}': {ONE_WIDTH}")
    return bool(match["small"]), width


def _replace_stem(network: MobileNetV2, in_channels: int) -> None:
    first = network.get_submodule("features.0.0")
    assert isinstance(first, nn.Conv2d)
    stem = nn.Conv2d(in_channels, first.out_channels, kernel_size=3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")
    network.set_submodule("features.0.0", stem)


def _keep_resolution(network: MobileNetV2) -> None:
    strided = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.stride == (2, 2)]
    for conv in strided[:2]:
        conv.stride = (1, 1)
