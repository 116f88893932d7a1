"""What a backbone is, the registry of their builders, and the text that names one.

A spec is `name` or `name:argument`; `name-argument` means the same, so `conv4-64` is `conv4:64`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from edgekd.errors import DataError, RecipeError, unknown

MAX_WIDTH = 65_536  # far above any network; a mistyped width must not exhaust the memory


class Backbone(nn.Module):
    """A network from normalized images to embeddings; it knows nothing of labels, classes or distillation.

    `min_size` is the smallest height and width in pixels that leaves something to pool. `layers` names the submodules
    of `body` whose outputs (b, c, h, w) are its intermediate maps, from the first block to the last. `image_size`: the
    one height and width it takes, where a layer was built for it; `inputs`: the same of height x width x channels.
    `signed`: its embedding has both signs. `unpublished`: why no weights can be fetched for it, "" where some can.
    """

    def __init__(
        self,
        body: nn.Module,
        *,
        in_channels: int,
        embedding_dim: int,
        min_size: int = 1,
        layers: Sequence[str] = (),
        image_size: int | None = None,
        inputs: int | None = None,
        signed: bool = False,
        unpublished: str = "",
    ) -> None:
        super().__init__()
        self.body = body
        self.in_channels = in_channels
        self.embedding_dim = embedding_dim
        self.min_size = min_size
        self.layers = tuple(layers)
        self.image_size = image_size
        self.inputs = inputs
        self.signed = signed
        self.unpublished = unpublished
        self.spec = ""

    def forward(self, images: Tensor) -> Tensor:
        """Map images (b, in_channels, height, width) to embeddings (b, embedding_dim)."""
        embedding: Tensor = self.body(images)
        return embedding

    def layer(self, number: int) -> nn.Module:
        """Return the submodule whose output is map `number`, counted from 1.

        Raises:
            RecipeError: there is no such layer.
        """
        if not 1 <= number <= len(self.layers):
            raise missing_layer(f"backbone '{self.spec}'", number, len(self.layers))
        return self.body.get_submodule(self.layers[number - 1])


def missing_layer(network: str, number: int, layers: int) -> RecipeError:
    """Return the error for layer `number` of what is called `network` and has `layers` of them."""
    has = f"its layers are 1 to {layers}" if layers else "it has no layers that can be looked at"
    return RecipeError(f"{network} has no layer {number}: {has}")


@dataclass(frozen=True)
class Request:
    """What a builder is asked for; `drop` is the dropout probability, `argument` the text after the name.

    `pretrained`: the network as weights need it that saw ImageNet's pixels; `fetch`: with the published ones.
    """

    spec: str
    argument: str
    in_channels: int
    drop: float = 0.0
    pretrained: bool = False
    fetch: bool = True

    def refuse(self, feature: Literal["argument", "drop"]) -> None:
        """Refuse a feature this backbone does not have.

        Raises:
            RecipeError: the feature was asked for.
        """
        if getattr(self, feature):
            what = {"argument": f"argument '{self.argument}'", "drop": "dropout"}[feature]
            raise RecipeError(f"backbone '{self.spec}': there is no {what} for it")


Builder = Callable[[Request], Backbone]
BACKBONES: dict[str, Builder] = {}
EXAMPLES: dict[str, str] = {}  # a whole spec for images of three channels, where the name alone is none


def register(name: str, *, example: str = "") -> Callable[[Builder], Builder]:
    """Make a builder known under `name`; `example` is a spec where the name alone says too little."""

    def decorate(builder: Builder) -> Builder:
        BACKBONES[name] = builder
        if example:
            EXAMPLES[name] = example
        return builder

    return decorate


def build_backbone(
    spec: str, in_channels: int, *, drop: float = 0.0, pretrained: bool = False, fetch: bool = True
) -> Backbone:
    """Build the backbone that `spec` names, for images of `in_channels` channels.

    `pretrained` builds it for ImageNet's pixels and loads published weights; without `fetch` it only builds.

    Raises:
        RecipeError: an unknown name (with the nearest legal one), or an argument or feature that backbone lacks.
        ModelError: its pretrained weights cannot be had.
    """
    name, argument = _split(spec)
    if in_channels < 1:
        raise RecipeError(f"backbone '{spec}': in_channels is {in_channels}; images have at least one channel")
    if not 0 <= drop < 1:
        raise RecipeError(f"backbone '{spec}': drop is {drop}; a dropout probability lies in 0 <= drop < 1")
    backbone = BACKBONES[name](Request(spec, argument, in_channels, drop, pretrained, fetch))
    backbone.spec = spec
    return backbone


def require_input(backbone: Backbone, height: int, width: int, channels: int) -> None:
    """Refuse images that the backbone cannot take.

    Raises:
        DataError: too small, of another size than the only one it takes, or of another number of channels.
    """
    if min(height, width) < backbone.min_size:
        raise DataError(
            f"images of {height}x{width} are too small for {backbone.spec}, which needs {backbone.min_size} pixels"
        )
    if channels != backbone.in_channels:
        raise DataError(f"images have {channels} channels; {backbone.spec} was built for {backbone.in_channels}")
    only = backbone.image_size
    if only and (height, width) != (only, only):
        raise DataError(f"{backbone.spec} takes images of {only}x{only}, not of {height}x{width}; try --size {only}")
    numbers = height * width * channels
    if backbone.inputs and backbone.inputs != numbers:
        fitting, side = (
            backbone.spec.replace(str(backbone.inputs), str(numbers), 1),
            math.isqrt(backbone.inputs // channels),
        )
        resize = f", or try --size {side}" if side * side * channels == backbone.inputs else ""
        raise DataError(
            f"{backbone.spec} takes {backbone.inputs} numbers, images of {height}x{width}x{channels} have {numbers}; "
            f"write {fitting}{resize}"
        )


def parse_widths(request: Request, growth: tuple[int, ...]) -> tuple[int, ...]:
    """Read the channels of each block: "48-64-64-96" as they stand, a single "24" times `growth`.

    Raises:
        RecipeError: not positive whole numbers, or not one or `len(growth)` of them.
    """
    parts = request.argument.split("-")
    legal = all(part.isdecimal() and 0 < int(part) <= MAX_WIDTH for part in parts)
    if not legal or len(parts) not in {1, len(growth)}:
        raise RecipeError(
            f"backbone '{request.spec}': '{request.argument}' is not one width, nor {len(growth)} joined by '-'; "
            f"a width is 1 to {MAX_WIDTH} channels"
        )
    widths = tuple(map(int, parts))
    return widths if len(widths) > 1 else tuple(widths[0] * factor for factor in growth)


def _split(spec: str) -> tuple[str, str]:
    if spec in BACKBONES:
        return spec, ""
    for separator in ":-":
        name, found, argument = spec.partition(separator)
        if name in BACKBONES and found and argument:
            return name, argument
        if name in BACKBONES and found:
            raise RecipeError(
                f"backbone '{spec}': nothing follows '{separator}'; for example {EXAMPLES.get(name, name)}"
            )
    raise RecipeError(unknown("backbone", spec, BACKBONES))
