"""How large a network is, and which students a hardware profile can hold.

Two counts are in use and differ by the BatchNorm; each is computed here and nowhere else.

trained:  every learned number, BatchNorm scales and shifts included; its running statistics are not learned.
deployed: BatchNorm is folded, and each convolution and linear layer has its weights and one bias an output channel.
          Layers of other kinds cannot be folded and count all they have.
conv4-64 with 3 channels: 113,088 trained, 112,576 deployed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, takewhile

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgekd.distill.backbones.base import Backbone, build_backbone
from edgekd.distill.backbones.projected import prefix_of
from edgekd.errors import ModelError
from edgekd.profile import load_profile
from edgekd.profile_toml import profile_names

BIAS_BYTES = 4  # a bias is int32 in every integer scheme here
WIDTH_STEP = 8  # accelerators process channels in groups of eight or more
LARGEST = 1_000_000_000  # parameters: 4 GB of weights, and training takes several times that


def trained_parameters(module: nn.Module) -> int:
    """Count the numbers that training changes."""
    return sum(parameter.numel() for parameter in module.parameters())


def deployed_parameters(module: nn.Module) -> int:
    """Count weights and biases after BatchNorm is folded."""
    return sum(weights + biases for weights, biases in _deployed_layers(module))


def deployed_bytes(module: nn.Module, weight_bits: int = 8) -> int:
    """Return the bytes of the deployed weights, packed into whole bytes a layer, and of int32 biases."""
    return sum(-(-weights * weight_bits // 8) + biases * BIAS_BYTES for weights, biases in _deployed_layers(module))


def widest_student(family: str, cap: int, in_channels: int) -> str:
    """Return the spec of the widest `family`, a multiple of 8 wide, with at most `cap` deployed parameters.

    Raises:
        ModelError: not even the narrowest fits.
    """
    fitting = list(
        takewhile(lambda width: _size(f"{family}-{width}", in_channels) <= cap, count(WIDTH_STEP, WIDTH_STEP))
    )
    if not fitting:
        narrowest = f"{family}-{WIDTH_STEP}"
        raise ModelError(f"no {family} fits in {cap:,} parameters; {narrowest} has {_size(narrowest, in_channels):,}")
    return f"{family}-{fitting[-1]}"


def require_fit(backbone: Backbone, cap: int | None, profile_name: str, added: int = 0) -> None:
    """Refuse a student with more deployed parameters than the profile holds; a `cap` of None is not known to be any.

    `added` are those that quantizing puts on top, for a pooling that must be a sum.

    Raises:
        ModelError: with both numbers, the widest Conv4 that fits, and a profile that has no such cap.
    """
    size = deployed_parameters(backbone)
    if cap is None or size + added <= cap:
        return
    has = f"{backbone.spec} has {size:,} parameters"
    if added:
        has += f", and pooling by sums, which power-of-two scales need at this image size, adds {added:,}"
    excess = f"{has}; {profile_name} holds {cap:,}: {size + added - cap:,} too many"
    narrower = _what_fits(f"{prefix_of(backbone.spec)}conv4", cap - added, backbone.in_channels)
    raise ModelError(f"{excess}; {narrower}; {_without_cap(profile_name)}")


def require_buildable(spec: str, in_channels: int) -> Backbone:
    """Return the outline of a network, refusing what is far larger than any that is trained here.

    Raises:
        RecipeError: as `build_backbone`.
        ModelError: it has more than a billion parameters: a mistyped width must not exhaust the memory.
    """
    backbone = outline(spec, in_channels)
    if (size := deployed_parameters(backbone)) > LARGEST:
        raise ModelError(f"{spec} has {size:,} parameters; networks of more than {LARGEST:,} are not built")
    return backbone


def _what_fits(family: str, cap: int, in_channels: int) -> str:
    try:
        widest = widest_student(family, cap, in_channels)
    except ModelError as error:
        return str(error)
    return f"{widest} ({_size(widest, in_channels):,}) fits"


def _without_cap(profile_name: str) -> str:
    """Say how a student of any size is trained: the cap is the profile's, whether it is quantized or not."""
    free = next((name for name in profile_names() if load_profile(name).params.max is None), None)
    example = f", as {free} is" if free else ""
    return (
        f"to train it all the same, as a float student too, name a --profile without the cap of {profile_name}{example}"
    )


def _deployed_layers(module: nn.Module) -> Iterator[tuple[int, int]]:
    """Yield (weights, biases) of each layer with parameters; what is not a weight is counted with the biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            yield layer.weight.numel(), layer.weight.shape[0]
        elif not isinstance(layer, _BatchNorm):
            yield 0, sum(parameter.numel() for parameter in layer.parameters(recurse=False))


def _size(spec: str, in_channels: int) -> int:
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        return deployed_parameters(build_backbone(spec, in_channels))


def outline(spec: str, in_channels: int) -> Backbone:
    """Build a backbone without the memory of its weights, for its sizes alone.

    Raises:
        RecipeError: as `build_backbone`.
    """
    with torch.device("meta"):
        return build_backbone(spec, in_channels)
