"""Projectors: layers that bring a student's and a teacher's features to one width, trained with the student.

Features are embeddings (b, d), of shape (d,), or maps (b, c, h, w), of shape (c, h, w). A projector maps the student up
to the teacher's width, the teacher down to the student's, or both to a width in the middle.

A teacher's side that is trained to be easy to follow ends in a constant, which any student follows. So it never is:
it is the encoder of an autoencoder, a paraphraser, which learns from its reconstruction of the teacher alone; what the
student follows is cut off from the gradient. J. Kim et al., Paraphrasing Complex Network: Network Compression via
Factor Transfer, NeurIPS 2018, https://arxiv.org/abs/1802.04977; unlike there, it learns beside the student.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import RecipeError, unknown

Shape = tuple[int, ...]  # (d,) or (channels, height, width)
Build = Callable[[int, int, bool], nn.Module]  # width before, width after, whether it maps maps

DIRECTIONS = ("up", "down", "middle")
CONV_REDUCTION = 2  # of a conv projector's inner width, as in SimKD

PROJECTORS: dict[str, Build] = {}
_B = TypeVar("_B", bound=Build)


@dataclass(frozen=True)
class Projection:
    """What a term asks for; `width` is the one in the middle, 0 the geometric mean of both."""

    projector: str = "linear"
    direction: str = "up"
    width: int = 0


@dataclass(frozen=True)
class Aligned:
    """Both sides' features in one shape, and the scalar loss of the teacher's side, 0 where it has no layers."""

    student: Tensor
    teacher: Tensor
    reconstruction: Tensor


def _projector(build: _B) -> _B:
    PROJECTORS[build.__name__.removeprefix("_")] = build
    return build


@_projector
def _none(before: int, after: int, maps: bool) -> nn.Module:
    """Nothing."""
    if before != after:
        what = "channels" if maps else "dimensions"
        raise RecipeError(f"projector none cannot take {before} {what} to {after}; take linear")
    return nn.Identity()


@_projector
def _linear(before: int, after: int, maps: bool) -> nn.Module:
    """One linear map, at each position of a map."""
    return nn.Conv2d(before, after, 1) if maps else nn.Linear(before, after)


@_projector
def _mlp(before: int, after: int, maps: bool) -> nn.Module:
    """Two linear maps with ReLU between, at each position of a map; as wide inside as its wider end."""
    inner = max(before, after)
    return nn.Sequential(_linear(before, inner, maps), nn.ReLU(), _linear(inner, after, maps))


@_projector
def _conv(before: int, after: int, maps: bool) -> nn.Module:
    """1x1, 3x3 and 1x1 convolutions with BatchNorm and ReLU between; the last is bare, as features may be negative.

    D. Chen et al., Knowledge Distillation with the Reused Teacher Classifier, CVPR 2022, arXiv 2203.14001.
    """
    if not maps:
        raise RecipeError(
            "projector conv needs maps, and embeddings are compared: name layers, for feature_mse with --set "
            '"distill.options.feature_mse.layers=[4]", or take linear or mlp'
        )
    inner = max(1, after // CONV_REDUCTION)
    return nn.Sequential(
        nn.Conv2d(before, inner, 1, bias=False),
        BatchNorm(inner),
        nn.ReLU(),
        nn.Conv2d(inner, inner, 3, padding=1, bias=False),
        BatchNorm(inner),
        nn.ReLU(),
        nn.Conv2d(inner, after, 1),
    )


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm that uses its running statistics where a batch has one value a channel, which has no variance."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalize maps (b, c, h, w)."""
        if not self.training or len(maps) * maps.shape[2] * maps.shape[3] > 1:
            return super().forward(maps)
        return functional.batch_norm(maps, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class Paraphraser(nn.Module):
    """An autoencoder of the teacher's features; its code is what the student follows."""

    def __init__(self, build: Build, before: int, after: int, maps: bool) -> None:
        super().__init__()
        self.encoder = build(before, after, maps)
        self.decoder = build(after, before, maps)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the code, detached, and the mean squared error of the reconstruction."""
        code = self.encoder(features)
        return code.detach(), functional.mse_loss(self.decoder(code), features)


class Alignment(nn.Module):
    """Brings a student's features and a teacher's, of the shapes given, to one shape.

    Maps of different size are pooled adaptively to the smaller one before anything else.

    Raises:
        RecipeError: an unknown projector or direction, or widths that the projector cannot bring together.
    """

    def __init__(self, student: Shape, teacher: Shape, projection: Projection) -> None:
        super().__init__()
        build, maps = find_projector(projection.projector), len(student) > 1
        self.pool = _pool(student, teacher) if maps else nn.Identity()
        common = _common_width(projection, student[0], teacher[0])
        self.student = nn.Identity() if projection.direction == "down" else build(student[0], common, maps)
        self.teacher = None if projection.direction == "up" else Paraphraser(build, teacher[0], common, maps)

    def forward(self, student: Tensor, teacher: Tensor) -> Aligned:
        """Return both in one shape; only the reconstruction trains the teacher's side."""
        student, teacher = self.pool(student), self.pool(teacher)
        mapped = self.student(student)
        if self.teacher is None:
            return Aligned(mapped, teacher, teacher.new_zeros(()))
        return Aligned(mapped, *self.teacher(teacher))


def find_projector(name: str) -> Build:
    """Return the builder of a projector.

    Raises:
        RecipeError: there is none of this name.
    """
    if name not in PROJECTORS:
        raise RecipeError(unknown("projector", name, PROJECTORS))
    return PROJECTORS[name]


def _pool(student: Shape, teacher: Shape) -> nn.Module:
    height, width = (min(pair) for pair in zip(student[1:], teacher[1:], strict=True))
    return nn.AdaptiveAvgPool2d((height, width))


def _common_width(projection: Projection, student: int, teacher: int) -> int:
    direction, width = projection.direction, projection.width
    if direction not in DIRECTIONS:
        raise RecipeError(unknown("direction of a projector", direction, DIRECTIONS))
    if projection.projector == "none" and direction != "up":
        raise RecipeError(
            f"projector none maps neither side, so that direction = '{direction}' means nothing; take linear"
        )
    if width < 0 or (width and direction != "middle"):
        raise RecipeError(f"width is {width}; it is above 0, and only direction = 'middle' takes one")
    middle = width or max(1, round(math.sqrt(student * teacher)))
    return {"up": teacher, "down": student, "middle": middle}[direction]
