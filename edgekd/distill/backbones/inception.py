"""Inception-v3 of torchvision, without its classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from edgekd.distill.backbones.base import Backbone, Request, register
from edgekd.distill.backbones.imagenet import load_imagenet, see_imagenet

if TYPE_CHECKING:
    from torchvision.models import Inception3

MIN_SIZE = 75  # what its stem and two reductions leave something of
LAYERS = ("maxpool1", "maxpool2", "Mixed_5d", "Mixed_6e", "Mixed_7c")


@register("inceptionv3")
def inceptionv3(request: Request) -> Backbone:
    """Build `inceptionv3`, without the auxiliary classifier.

    Source: C. Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016,
    https://arxiv.org/abs/1512.00567.
    """
    import torchvision

    request.refuse("argument")
    # The published weights were trained on pixels in -1..1; `transform_input` makes those of ImageNet's statistics.
    network: Inception3 = torchvision.models.Inception3(
        aux_logits=False, transform_input=request.pretrained, init_weights=False, dropout=request.drop
    )
    if request.pretrained:
        load_imagenet(request, network, "inception_v3")
    else:
        _initialize(network, request.in_channels)
    network.fc = nn.Identity()
    body, layers = see_imagenet(request, network, LAYERS)
    return Backbone(body, in_channels=request.in_channels, embedding_dim=2048, min_size=MIN_SIZE, layers=layers)


def _initialize(network: Inception3, in_channels: int) -> None:
    """Draw weights as He et al. do: torchvision's truncated normal takes half a minute."""
    if in_channels != 3:
        network.Conv2d_1a_3x3.conv = nn.Conv2d(in_channels, 32, 3, stride=2, bias=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
