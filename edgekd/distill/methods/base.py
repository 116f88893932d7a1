"""What a distillation term is: one loss between what a student and a teacher give out for the same images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from torch import Tensor, nn


@dataclass(frozen=True)
class Outputs:
    """What a network gives out: embedding (b, d), logits (b, classes), and intermediate maps by name if asked for."""

    embedding: Tensor
    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Dims:
    """Sizes a term may need for layers of its own: both embeddings and the classes."""

    student: int
    teacher: int
    classes: int


class Method(nn.Module, ABC):
    """One term. Options are keyword arguments of the constructor, whose defaults are the source's.

    A term may have parameters of its own (a map between embeddings); they are trained with the student, then dropped.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    uses_teacher: ClassVar[bool] = True

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.dims = dims

    @abstractmethod
    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, averaged over the batch; `labels` (b,)."""


_M = TypeVar("_M", bound=Method)
METHODS: dict[str, type[Method]] = {}


def register(method: type[_M]) -> type[_M]:
    """Make a term known under its `name`."""
    METHODS[method.name] = method
    return method
