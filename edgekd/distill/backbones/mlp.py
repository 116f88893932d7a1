"""Multilayer perceptrons: linear layers over all pixels of an image."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from edgekd.distill.backbones.base import MAX_WIDTH, Backbone, Request, register
from edgekd.distill.backbones.imagenet import from_files
from edgekd.errors import RecipeError

MAX_INPUTS = 3 * 256 * 256


@register("mlp", example="mlp:3072-1200-1200")
@from_files
def mlp(request: Request) -> Backbone:
    """Build `mlp:INPUTS-HIDDEN-...`: linear layers with ReLU; INPUTS counts height x width x channels.

    The last hidden layer is the embedding, for the classifier is not part of a backbone: the published teacher
    784-1200-1200-10 is `mlp:784-1200-1200`, its student 784-400-10 is `mlp:784-400`. There are no maps to look at.

    Source: H. Oki et al., Triplet Loss for Knowledge Distillation, IJCNN 2020, https://arxiv.org/abs/2004.08116; the
    teacher is that of G. Hinton et al., Distilling the Knowledge in a Neural Network, 2015,
    https://arxiv.org/abs/1503.02531.
    """
    inputs, *hidden = _widths(request)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for index, (before, width) in enumerate(pairwise((inputs, *hidden)), start=1):
        layers |= {f"fc{index}": nn.Linear(before, width), f"relu{index}": nn.ReLU()}
        if request.drop:
            layers[f"drop{index}"] = nn.Dropout(request.drop)
    body = nn.Sequential(layers)
    return Backbone(body, in_channels=request.in_channels, embedding_dim=hidden[-1], inputs=inputs)


def _widths(request: Request) -> list[int]:
    parts = request.argument.split("-")
    limits = (MAX_INPUTS, *[MAX_WIDTH] * (len(parts) - 1))
    legal = all(part.isdecimal() and 0 < int(part) <= most for part, most in zip(parts, limits, strict=True))
    if not legal or len(parts) < 2:
        raise RecipeError(
            f"backbone '{request.spec}': write its inputs, height x width x channels, and the width of each hidden "
            "layer, joined by '-': for example mlp:784-400"
        )
    return [int(part) for part in parts]
