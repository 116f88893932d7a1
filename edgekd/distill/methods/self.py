"""Soft targets of a teacher that is the student's twin."""

from __future__ import annotations

from collections.abc import Mapping

from edgekd.distill.methods.base import Dims, register
from edgekd.distill.methods.kd import SoftTargets
from edgekd.recipe import Recipe


@register
class BornAgain(SoftTargets):
    """`kd` at T = 1 from a teacher of the student's own architecture, trained on labels before it: one generation.

    The student's backbone takes the place of whatever teacher the recipe names.
    """

    name = "self"
    source = "T. Furlanello et al., Born-Again Neural Networks, ICML 2018, https://arxiv.org/abs/1805.04770"

    def __init__(self, dims: Dims, *, temperature: float = 1.0) -> None:
        super().__init__(dims, temperature=temperature)

    @classmethod
    def adapt(cls, recipe: Recipe, options: Mapping[str, object]) -> Recipe:  # noqa: ARG003 - the hook's signature
        """Give the teacher the student's backbone."""
        teacher = recipe.teacher.model_copy(update={"backbone": recipe.student.backbone})
        return recipe.model_copy(update={"teacher": teacher})
