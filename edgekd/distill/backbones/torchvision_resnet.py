"""ResNet-18 and ResNet-50 of torchvision, without their classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from edgekd.distill.backbones.base import Backbone, Request, register
from edgekd.distill.backbones.imagenet import load_imagenet, see_imagenet
from edgekd.errors import RecipeError

if TYPE_CHECKING:
    from torchvision.models import ResNet


@register("resnet18")
def resnet18(request: Request) -> Backbone:
    """Build `resnet18`, or `resnet18:small` for images of at most about 40 pixels.

    Source: K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016, https://arxiv.org/abs/1512.03385.
    """
    return _build(request, "resnet18")


@register("resnet50")
def resnet50(request: Request) -> Backbone:
    """Build `resnet50`, or `resnet50:small` for images of at most about 40 pixels.

    Source: as `resnet18`.
    """
    return _build(request, "resnet50")


def _build(request: Request, name: str) -> Backbone:
    import torchvision

    request.refuse("drop")
    if request.argument not in {"", "small"}:
        raise RecipeError(f"backbone '{request.spec}': write '{name}', or '{name}:small' for small images")
    network: ResNet = getattr(torchvision.models, name)()
    if request.pretrained:
        load_imagenet(request, network, name)
    elif request.in_channels != 3:
        network.conv1 = _stem(request.in_channels, kernel=7, stride=2)
    if request.argument == "small":
        _shrink_stem(network, 3 if request.pretrained else request.in_channels)
    embedding_dim = network.fc.in_features
    network.fc = nn.Identity()
    body, layers = see_imagenet(request, network, [f"layer{index}" for index in range(1, 5)])
    return Backbone(body, in_channels=request.in_channels, embedding_dim=embedding_dim, layers=layers)


def _shrink_stem(network: ResNet, in_channels: int) -> None:
    """Keep the resolution of small images: 3x3 at stride 1, no max pooling, as He et al. section 4.2 on CIFAR-10."""
    network.conv1 = _stem(in_channels, kernel=3, stride=1)
    network.maxpool = nn.Identity()


def _stem(in_channels: int, kernel: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, 64, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
