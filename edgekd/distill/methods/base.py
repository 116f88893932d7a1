"""What a distillation term is: one loss between what a student and a teacher give out for the same images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeVar

from torch import Tensor, nn

from edgekd.distill.backbones.base import missing_layer

if TYPE_CHECKING:
    from edgekd.distill.tasks import Classifier
    from edgekd.recipe import Recipe

MapShape = tuple[int, int, int]  # channels, height, width


class LayerShapes(dict[int, MapShape]):
    """The shape of each layer's map of the backbone `spec`, counted from 1.

    Raises:
        RecipeError: asked for a layer that the backbone does not have.
    """

    def __init__(self, spec: str, shapes: Mapping[int, MapShape]) -> None:
        super().__init__(shapes)
        self.spec = spec

    def __missing__(self, layer: int) -> MapShape:
        raise missing_layer(f"backbone '{self.spec}'", layer, len(self))


@dataclass(frozen=True)
class Outputs:
    """What a network gives out: embedding (b, d), logits (b, classes), and maps (b, c, h, w) of the layers asked for.

    Layers count from 1, in the order of the backbone's `layers`.
    """

    embedding: Tensor
    logits: Tensor
    maps: Mapping[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Samples:
    """What is known of the images of a batch beside their pixels.

    labels (b,); rows (b,): the place of each image in the training set; progress: 0 at the first step of the stage,
    towards 1 at its last.
    """

    labels: Tensor
    rows: Tensor
    progress: float = 0.0


@dataclass(frozen=True)
class Dims:
    """Sizes a term may need for layers of its own: both embeddings, classes, training images, both networks' maps.

    The maps of a backbone raise a RecipeError for a layer that it does not have.
    """

    student: int
    teacher: int
    classes: int
    images: int = 1
    student_maps: Mapping[int, MapShape] = field(default_factory=dict)
    teacher_maps: Mapping[int, MapShape] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """One term. Options are keyword arguments of the constructor, whose defaults are the source's.

    A term may have parameters of its own (a map between embeddings); they are trained with the student, then dropped.

    uses_teacher: whether it looks at the teacher. uses_labels: whether it looks at the labels; a sum in which no term
    does trains on images alone. online: the teacher learns at the same time, from its own start; the loss trains both.
    holds_ce: whether the student's cross-entropy with the labels is part of it: a sum holds that once.
    teaches_head: whether the student's head classifies afterwards; where no term of a sum does, it stays as it began.
    student_layers, teacher_layers: the layers whose maps it needs, set by the constructor.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    uses_teacher: ClassVar[bool] = True
    uses_labels: ClassVar[bool] = False
    online: ClassVar[bool] = False
    holds_ce: ClassVar[bool] = False
    teaches_head: ClassVar[bool] = True
    student_layers: tuple[int, ...] = ()
    teacher_layers: tuple[int, ...] = ()

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.dims = dims

    @abstractmethod
    def forward(self, student: Outputs, teacher: Outputs, samples: Samples) -> Tensor:
        """Return the loss, a scalar, averaged over the batch."""

    @classmethod
    def adapt(cls, recipe: Recipe, options: Mapping[str, object]) -> Recipe:  # noqa: ARG003 - for terms that need it
        """Return the recipe with what this term needs elsewhere in it (a teacher trained in a certain way).

        Raises:
            RecipeError: the recipe asks for the contrary.
        """
        return recipe

    def prepare_task(self) -> nn.Module | None:
        """Return the part of this term that is trained before distilling and held still then; None where there is none.

        Its forward takes a trained teacher's `Outputs` and the `Samples`, and returns the loss that trains it.
        """
        return None

    @classmethod
    def teaches(cls, options: Mapping[str, object]) -> bool:  # noqa: ARG003 - for terms whose options decide
        """Return whether the student's head classifies after training by this term."""
        return cls.teaches_head

    @classmethod
    def needs_labels(cls, options: Mapping[str, object]) -> bool:  # noqa: ARG003 - for terms whose options decide
        """Return whether this term looks at the labels."""
        return cls.uses_labels

    @classmethod
    def remark(cls, marks: Mapping[str, object]) -> str:  # noqa: ARG003 - for terms that look at them
        """Return what is lost with a teacher from a file with these marks; "" for nothing."""
        return ""

    def begin(self, student: Classifier, teacher: Classifier) -> None:
        """Look at both networks once, before the first step, and change the student's start where the term says so."""


_M = TypeVar("_M", bound=Method)
METHODS: dict[str, type[Method]] = {}


def register(method: type[_M]) -> type[_M]:
    """Make a term known under its `name`."""
    METHODS[method.name] = method
    return method
