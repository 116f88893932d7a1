"""Weights that torchvision trained on ImageNet, and the pixels that such weights were trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import wraps
from http.client import HTTPException
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor, nn

from edgekd.data.preprocess import INPUT_OFFSET, INPUT_SCALE
from edgekd.distill.backbones.base import Backbone, Builder, Request
from edgekd.errors import ModelError, RecipeError
from edgekd.files import sha256_file

MEAN = (0.485, 0.456, 0.406)  # of ImageNet in RGB, pixels in 0..1
STD = (0.229, 0.224, 0.225)
NOT_PUBLISHED = "there are no pretrained weights for it"


class ImageNetInput(nn.Module):
    """Turn (pixel - 128) / 128 into (pixel / 255 - mean) / std, and grayscale into three equal channels."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> None:
        super().__init__()
        means, stds = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * INPUT_SCALE * stds), persistent=False)
        self.register_buffer("shift", (INPUT_OFFSET / 255 - means) / stds, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (b, 1 or 3, h, w) to (b, 3, h, w)."""
        return images * self.scale + self.shift


def see_imagenet(request: Request, network: nn.Module, layers: Sequence[str]) -> tuple[nn.Module, list[str]]:
    """Put the change of pixels before a pretrained network; return the body and the names of its layers.

    Raises:
        RecipeError: pretrained weights for images of neither 1 nor 3 channels.
    """
    if not request.pretrained:
        return network, list(layers)
    if request.in_channels not in {1, 3}:
        raise RecipeError(
            f"backbone '{request.spec}': pretrained weights take 1 or 3 channels, not {request.in_channels}"
        )
    return nn.Sequential(ImageNetInput(), network), [f"1.{layer}" for layer in layers]


def from_files(builder: Builder) -> Builder:
    """Have a builder whose networks nobody published weights for put ImageNet's pixels before weights of a file.

    Raises:
        RecipeError: such weights are to be fetched.
    """

    @wraps(builder)
    def build(request: Request) -> Backbone:
        if request.pretrained and request.fetch:
            raise RecipeError(f"backbone '{request.spec}': {NOT_PUBLISHED}")
        inner = builder(replace(request, in_channels=3, pretrained=False) if request.pretrained else request)
        inner.unpublished = NOT_PUBLISHED
        return _behind_imagenet(request, inner) if request.pretrained else inner

    return build


def _behind_imagenet(request: Request, inner: Backbone) -> Backbone:
    body, layers = see_imagenet(request, inner.body, inner.layers)
    return Backbone(
        body,
        in_channels=request.in_channels,
        embedding_dim=inner.embedding_dim,
        min_size=inner.min_size,
        layers=layers,
        image_size=inner.image_size,
        inputs=inner.inputs and inner.inputs // 3 * request.in_channels,
        unpublished=inner.unpublished,
    )


def load_imagenet(request: Request, network: nn.Module, name: str) -> None:
    """Load torchvision's ImageNet weights of its model `name`, where the request wants them fetched.

    Raises:
        ModelError: they cannot be had.
    """
    import torchvision

    if not request.fetch:
        return
    weights = torchvision.models.get_model_weights(name).DEFAULT
    _require_whole(Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(weights.url).name)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, HTTPException) as error:  # RuntimeError: cut off, so that its hash is another
        raise ModelError(f"the ImageNet weights of {name} could not be fetched from {weights.url}: {error}") from error
    # Auxiliary heads that some models train beside their classifier have no place in the network here.
    network.load_state_dict({key: value for key, value in state.items() if not key.startswith("AuxLogits.")})


def _require_whole(cached: Path) -> None:
    """Refuse a file from an earlier download that is not what its name says: torch.hub looks at new ones only.

    Raises:
        ModelError: naming the file.
    """
    named = re.search(r"-([0-9a-f]{8,})\.", cached.name)
    if named and cached.is_file() and not sha256_file(cached).startswith(named[1]):
        raise ModelError(f"{cached} is damaged, perhaps by a download that was broken off: delete it and try again")
