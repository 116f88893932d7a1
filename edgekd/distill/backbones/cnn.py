"""The convolutional teacher and student of a study of triplet losses on CIFAR-10."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from edgekd.distill.backbones.base import Backbone, Request, register
from edgekd.distill.backbones.imagenet import from_files
from edgekd.errors import RecipeError

DEFAULT_SIZE = 32
DROP = 0.5  # as printed
MAX_SIZE = 256
POOLINGS = 3  # 32 pixels become 4, as the printed 2048 = 128 x 4 x 4 inputs of the first linear layer tell


@register("cnn5")
@from_files
def cnn5(request: Request) -> Backbone:
    """Build the teacher, `cnn5` for images of 32x32 pixels or `cnn5:SIZE`: five convolutions, two linear layers.

    The source prints the layers and not their order: here each convolution is followed by BatchNorm and ReLU, the
    second, fourth and fifth by 2x2 max pooling, each linear layer by ReLU and dropout. The embedding has 128 numbers.

    Source: Sashank S., slides of a course project on triplet losses for distillation (no date, no URL), after H. Oki
    et al., Triplet Loss for Knowledge Distillation, IJCNN 2020, https://arxiv.org/abs/2004.08116.
    """
    return _build(request, channels=(32, 32, 64, 64, 128), pooled=(2, 4, 5), hidden=(512, 128), norm=True)


@register("cnn3")
@from_files
def cnn3(request: Request) -> Backbone:
    """Build the student, `cnn3` for images of 32x32 pixels or `cnn3:SIZE`: three convolutions, one linear layer.

    As `cnn5`, without BatchNorm and with a max pooling after every convolution. The embedding has 128 numbers.

    Source: as `cnn5`.
    """
    return _build(request, channels=(32, 32, 64), pooled=(1, 2, 3), hidden=(128,), norm=False)


def _build(
    request: Request, *, channels: Sequence[int], pooled: Sequence[int], hidden: Sequence[int], norm: bool
) -> Backbone:
    size = _size(request)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (before, width) in enumerate(pairwise((request.in_channels, *channels)), start=1):
        layers[f"conv{index}"] = nn.Conv2d(before, width, 3, padding=1)
        if norm:
            layers[f"norm{index}"] = nn.BatchNorm2d(width)
        layers[f"relu{index}"] = nn.ReLU()
        if index in pooled:
            layers[f"maxpool{index}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    side = size // 2**POOLINGS
    for index, (inputs, outputs) in enumerate(pairwise((channels[-1] * side * side, *hidden)), start=1):
        layers[f"fc{index}"] = nn.Linear(inputs, outputs)
        layers[f"fc{index}_relu"] = nn.ReLU()
        layers[f"fc{index}_drop"] = nn.Dropout(request.drop or DROP)
    return Backbone(
        nn.Sequential(layers),
        in_channels=request.in_channels,
        embedding_dim=hidden[-1],
        min_size=2**POOLINGS,
        layers=[f"maxpool{index}" for index in pooled],
        image_size=size,
    )


def _size(request: Request) -> int:
    text = request.argument or str(DEFAULT_SIZE)
    if not text.isdecimal() or not 2**POOLINGS <= int(text) <= MAX_SIZE:
        name = request.spec.partition(":")[0]
        raise RecipeError(
            f"backbone '{request.spec}': '{text}' is not the height of its images, {2**POOLINGS} to {MAX_SIZE} pixels; "
            f"for example {name}:{DEFAULT_SIZE}"
        )
    return int(text)
