"""Soft targets of a teacher assistant."""

from __future__ import annotations

from collections.abc import Mapping

from edgekd.distill.methods.base import register
from edgekd.distill.methods.kd import SoftTargets
from edgekd.errors import RecipeError
from edgekd.recipe import AUTO, NONE, Recipe


@register
class AssistantTargets(SoftTargets):
    """T^2 KL(softmax(u_a / T) || softmax(u_s / T)), a the assistant: of middle size, itself distilled from the teacher.

    Any term goes through an assistant where the recipe names one (`assistant.backbone`); this one asks for it.
    """

    name = "takd"
    source = (
        "S. Mirzadeh et al., Improved Knowledge Distillation via Teacher Assistant, AAAI 2020, "
        "https://arxiv.org/abs/1902.03393"
    )

    @classmethod
    def adapt(cls, recipe: Recipe, options: Mapping[str, object]) -> Recipe:  # noqa: ARG003 - the hook's signature
        """Ask for an assistant where the recipe leaves it open."""
        if recipe.assistant.backbone == NONE:
            raise RecipeError("takd passes on what an assistant learned, but the assistant is none: write kd instead")
        if recipe.assistant.backbone:
            return recipe
        return recipe.model_copy(update={"assistant": recipe.assistant.model_copy(update={"backbone": AUTO})})
