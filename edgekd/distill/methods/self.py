"""Soft targets of a teacher that is the student's twin."""

from __future__ import annotations

from collections.abc import Mapping

from edgekd.distill.methods.base import Dims, register
from edgekd.distill.methods.kd import SoftTargets
from edgekd.errors import RecipeError
from edgekd.recipe import Recipe


@register
class BornAgain(SoftTargets):
    """`kd` at T = 1 from a teacher of the student's own architecture, trained on labels before it: one generation.

    The student's backbone takes the place of the teacher that a recipe names; it is trained here, on no file's weights.
    """

    name = "self"
    source = "T. Furlanello et al., Born-Again Neural Networks, ICML 2018, https://arxiv.org/abs/1805.04770"

    def __init__(self, dims: Dims, *, temperature: float = 1.0) -> None:
        super().__init__(dims, temperature=temperature)

    @classmethod
    def adapt(cls, recipe: Recipe, options: Mapping[str, object]) -> Recipe:  # noqa: ARG003 - the hook's signature
        """Give the teacher the student's backbone.

        Raises:
            RecipeError: there is a trained teacher already, or an assistant, for which two twins leave no room.
        """
        if recipe.teacher.weights:
            raise RecipeError("self trains the student's twin as its teacher; leave out --teacher-weights, or write kd")
        if recipe.assistant.backbone:
            raise RecipeError("self: nothing lies between the student and its twin; leave out --assistant, or write kd")
        teacher = recipe.teacher.model_copy(update={"backbone": recipe.student.backbone})
        return recipe.model_copy(update={"teacher": teacher})
