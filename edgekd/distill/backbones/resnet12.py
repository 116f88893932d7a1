"""ResNet-12: the teacher of most few-shot studies."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from edgekd.distill.backbones.base import Backbone, Request, parse_widths, register
from edgekd.distill.backbones.imagenet import from_files

DEFAULT_BASE = "64"
WIDE = (64, 160, 320, 640)
SLOPE = 0.1  # of the leaky ReLU


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions beside a 1x1 shortcut, then leaky ReLU and 2x2 max pooling."""

    def __init__(self, in_channels: int, width: int, drop: float) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv_norm(in_channels, width, 3), nn.LeakyReLU(SLOPE),
            *_conv_norm(width, width, 3), nn.LeakyReLU(SLOPE),
            *_conv_norm(width, width, 3),
        )  # fmt: skip
        self.shortcut = nn.Sequential(*_conv_norm(in_channels, width, 1))
        self.out = nn.Sequential(nn.LeakyReLU(SLOPE), nn.MaxPool2d(2), nn.Dropout(drop))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, in_channels, h, w) to (b, width, h // 2, w // 2)."""
        y: Tensor = self.out(self.residual(x) + self.shortcut(x))
        return y


@register("resnet12")
@from_files
def resnet12(request: Request) -> Backbone:
    """Build `resnet12` (64-128-256-512, 8.0M parameters), `resnet12:24` (24-48-96-192) or `resnet12:A-B-C-D`.

    Source: Y. Chen et al., Meta-Baseline: Exploring Simple Meta-Learning for Few-Shot Learning, ICCV 2021,
    https://arxiv.org/abs/2003.04390; its code has no dropout. Element-wise dropout after each block:
    Y. Tian et al., Rethinking Few-Shot Image Classification, ECCV 2020, https://arxiv.org/abs/2003.11539.
    """
    asked = request if request.argument else Request(request.spec, DEFAULT_BASE, request.in_channels, request.drop)
    return _build(asked, parse_widths(asked, growth=(1, 2, 4, 8)))


@register("resnet12-wide")
@from_files
def resnet12_wide(request: Request) -> Backbone:
    """Build ResNet-12 with 64-160-320-640 channels (12.4M parameters).

    Source: K. Lee et al., Meta-Learning with Differentiable Convex Optimization, CVPR 2019,
    https://arxiv.org/abs/1904.03758.
    """
    request.refuse("argument")
    return _build(request, WIDE)


def _build(request: Request, widths: tuple[int, ...]) -> Backbone:
    blocks = [ResidualBlock(before, after, request.drop) for before, after in pairwise((request.in_channels, *widths))]
    body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Backbone(
        body,
        in_channels=request.in_channels,
        embedding_dim=widths[-1],
        min_size=16,
        layers=[str(index) for index in range(len(blocks))],
    )


def _conv_norm(in_channels: int, width: int, kernel: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv = nn.Conv2d(in_channels, width, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="leaky_relu")
    return conv, nn.BatchNorm2d(width)
