"""A student that ends in a teacher's maps: another backbone, then a projector, then the global mean."""

from __future__ import annotations

import re
from collections import OrderedDict

from torch import nn

from edgekd.distill.backbones.base import MAX_WIDTH, Backbone, Request, build_backbone, register
from edgekd.distill.backbones.imagenet import from_files
from edgekd.errors import RecipeError

ARGUMENT = re.compile(r"(?P<width>\d{1,5})/(?P<reduction>\d{1,5}):(?P<inner>.+)")
PREFIX = re.compile(r"projected[:-]\d{1,5}/\d{1,5}:")
FORM = "projected:WIDTH/REDUCTION:BACKBONE, for example projected:192/8:conv4-64"


def prefix_of(spec: str) -> str:
    """Return "projected:WIDTH/REDUCTION:" where `spec` begins so, else ""."""
    match = PREFIX.match(spec)
    return match[0] if match else ""


def with_projector(spec: str, width: int, reduction: int) -> str:
    """Return the spec of the backbone `spec` with a projector; one that has this projector stays as it is.

    Raises:
        RecipeError: it has another projector.
    """
    wanted, present = f"projected:{width}/{reduction}:", prefix_of(spec)
    if present not in {"", wanted}:
        raise RecipeError(f"backbone '{spec}' has another projector than {wanted}; name {spec.removeprefix(present)}")
    return wanted + spec.removeprefix(present)


def projector(in_channels: int, width: int, reduction: int) -> nn.Sequential:
    """Return 1x1, 3x3 and 1x1 convolutions from `in_channels` to `width` maps, each with BatchNorm and ReLU.

    Between them are width / reduction channels, at least one.
    D. Chen et al., Knowledge Distillation with the Reused Teacher Classifier, CVPR 2022, arXiv 2203.14001.

    Raises:
        RecipeError: the reduction leaves no channel.
    """
    if not 1 <= reduction <= width:
        raise RecipeError(f"a projector to {width} channels has a reduction of 1 to {width}, not {reduction}")
    inside = width // reduction
    layers: list[nn.Module] = []
    for before, after, kernel in ((in_channels, inside, 1), (inside, inside, 3), (inside, width, 1)):
        conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


@register("projected", example="projected:192/8:conv4-64")
@from_files
def projected(request: Request) -> Backbone:
    """Build `projected:WIDTH/REDUCTION:BACKBONE`: BACKBONE to its last map, a projector, a global mean.

    It is one backbone of ordinary layers, so that it is counted, quantized and exported like any other; its last layer
    is the projected map. BACKBONE must be a chain of layers that ends in pooling and flattening, as Conv4 is.
    """
    asked = ARGUMENT.fullmatch(request.argument)
    if asked is None or not 1 <= int(asked["width"]) <= MAX_WIDTH:
        raise RecipeError(f"backbone '{request.spec}' is not of the form {FORM}")
    inner = build_backbone(asked["inner"], request.in_channels, drop=request.drop)
    layers = OrderedDict(inner.body.named_children())
    if list(map(type, layers.values()))[-2:] != [nn.AdaptiveAvgPool2d, nn.Flatten]:
        raise RecipeError(f"backbone '{request.spec}': {asked['inner']} does not end in pooling and flattening")
    (flatten, flattening), (pool, pooling) = layers.popitem(), layers.popitem()
    width = int(asked["width"])
    layers["projector"] = projector(inner.embedding_dim, width, int(asked["reduction"]))
    return Backbone(
        nn.Sequential(layers | {pool: pooling, flatten: flattening}),
        in_channels=request.in_channels,
        embedding_dim=width,
        min_size=inner.min_size,
        layers=[*inner.layers, "projector"],
    )
