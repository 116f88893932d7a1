"""Any image model of timm, without its classifier."""

from __future__ import annotations

from contextlib import nullcontext
from http.client import HTTPException
from typing import Any

from safetensors import SafetensorError
from torch import nn

from edgekd.distill.backbones.base import Backbone, Request, register
from edgekd.distill.backbones.imagenet import ImageNetInput
from edgekd.distill.hub import quick_hub
from edgekd.errors import ModelError, RecipeError, unknown

NEAR = 4  # names shown for one that is wrong


@register("timm", example="timm:resnetv2_50")
def timm_model(request: Request) -> Backbone:
    """Build `timm:NAME`, pooled to one vector.

    Source: R. Wightman, PyTorch Image Models, 2019, https://github.com/huggingface/pytorch-image-models.
    """
    import timm

    if not timm.is_model(request.argument):
        raise RecipeError(_no_such_model(request.argument))
    network = _create(request)
    body: nn.Module = network
    if request.pretrained:
        body = nn.Sequential(ImageNetInput(network.pretrained_cfg["mean"], network.pretrained_cfg["std"]), network)
    # Some models put a layer between the pooled features and the classifier; what it gives out is the embedding.
    embedding_dim = int(getattr(network, "head_hidden_size", None) or network.num_features)
    layers = _layers(network, "1." if request.pretrained else "")
    return Backbone(body, in_channels=request.in_channels, embedding_dim=embedding_dim, layers=layers)


def _layers(network: nn.Module, prefix: str) -> list[str]:
    """Return the modules that timm itself names as the ends of stages, where they are modules of this network."""
    known = dict(network.named_modules())
    names = [str(info["module"]) for info in getattr(network, "feature_info", ())]
    return [prefix + name for name in names if name in known]


def _create(request: Request) -> Any:  # noqa: ANN401 - timm's models share attributes but no class
    import timm

    if request.pretrained and request.in_channels not in {1, 3}:
        raise RecipeError(
            f"backbone '{request.spec}': pretrained weights take 1 or 3 channels, not {request.in_channels}"
        )
    in_chans = 3 if request.pretrained else request.in_channels
    fetched = request.pretrained and request.fetch
    try:
        with quick_hub() if fetched else nullcontext():
            return timm.create_model(
                request.argument, pretrained=fetched, num_classes=0, in_chans=in_chans, drop_rate=request.drop
            )
    except (OSError, RuntimeError, HTTPException, SafetensorError) as error:
        raise ModelError(f"backbone '{request.spec}' cannot be built: {error}") from error


def _no_such_model(name: str) -> str:
    import timm

    if not name:
        return "backbone 'timm' is not of the form timm:NAME, for example timm:resnetv2_50"
    refusal = unknown("timm model", name, timm.list_models(), shown=NEAR).rstrip(".")
    return f"{refusal}; timm.list_models() has them all"
