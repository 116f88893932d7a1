"""Conv4 of any depth, with any number of its blocks pooled: what a search of students varies."""

from __future__ import annotations

from edgekd.distill.backbones.base import MAX_WIDTH, Backbone, Request, register
from edgekd.distill.backbones.conv4 import SIGNED, build_blocks
from edgekd.distill.backbones.imagenet import from_files
from edgekd.errors import RecipeError

MAX_DEPTH = 16


@register("convnet", example="convnet:48-64-64-96/3")
@from_files
def convnet(request: Request) -> Backbone:
    """Build `convnet:A-B-...[/POOLINGS][/signed]`: the blocks of `conv4`, one a width, then a global mean.

    Only the first POOLINGS blocks pool, all of them where it is left out: `convnet:64-64-64-64/3` is Conv4 without its
    fourth pooling. Images have 2^POOLINGS pixels at least. `signed`: no ReLU in the last block, and an embedding of
    mean 0 and variance 1 over the training images, so that cosines use both signs; the file has no operator for it.

    Source: as `conv4`; depth and width traded under a cap: K. Simonyan & A. Zisserman, Very Deep Convolutional Networks
    for Large-Scale Image Recognition, 2014, https://arxiv.org/abs/1409.1556; no last ReLU: S. Hou et al., Learning a
    Unified Classifier Incrementally via Rebalancing, CVPR 2019; the last normalization: H. Luo et al., Bag of Tricks
    and A Strong Baseline for Deep Person Re-identification, CVPR Workshops 2019, https://arxiv.org/abs/1903.07071.
    """
    text, *options = request.argument.split("/")
    signed = options[-1:] == [SIGNED]
    poolings = options[: len(options) - signed]
    if len(poolings) > 1:
        raise RecipeError(
            f"backbone '{request.spec}' is not convnet:A-B-..., with /POOLINGS or /{SIGNED} or both in this order"
        )
    widths = _widths(request, text)
    return build_blocks(
        request, widths, _poolings(request, poolings[0], len(widths)) if poolings else len(widths), signed=signed
    )


def _widths(request: Request, text: str) -> tuple[int, ...]:
    parts = text.split("-")
    if len(parts) > MAX_DEPTH or not all(part.isdecimal() and 0 < int(part) <= MAX_WIDTH for part in parts):
        raise RecipeError(
            f"backbone '{request.spec}': '{text}' is not 1 to {MAX_DEPTH} widths joined by '-', for example "
            f"convnet:48-64-64-96/3; a width is 1 to {MAX_WIDTH} channels"
        )
    return tuple(map(int, parts))


def _poolings(request: Request, text: str, depth: int) -> int:
    if not text.isdecimal() or int(text) > depth:
        raise RecipeError(
            f"backbone '{request.spec}': '{text}' is not how many of its {depth} blocks pool; write 0 to {depth}"
        )
    return int(text)
