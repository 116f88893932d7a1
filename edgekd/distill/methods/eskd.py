"""Soft targets that end part-way."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from edgekd.distill.methods.base import Dims, Outputs, Samples, register
from edgekd.distill.methods.expression import parse_expression
from edgekd.distill.methods.kd import SoftTargets
from edgekd.errors import RecipeError
from edgekd.recipe import Recipe


@register
class EarlyStopped(SoftTargets):
    """`kd` until a share of the stage is over, then nothing: the other terms of the sum finish alone.

    A student too small for its teacher gains from it early and is held back later. The source's other remedy, a teacher
    trained on a compressed schedule, is the recipe's `teacher.compressed`. The default of `until` is not the source's.
    """

    name = "eskd"
    source = (
        "J. Cho & B. Hariharan, On the Efficacy of Knowledge Distillation, ICCV 2019, https://arxiv.org/abs/1910.01348"
    )

    def __init__(self, dims: Dims, *, until: float = 0.5, temperature: float = 4.0) -> None:
        super().__init__(dims, temperature=temperature)
        if not 0 < until <= 1:
            raise RecipeError(f"eskd: until is {until}; it lies in 0 < until <= 1, a share of the stage")
        self.until = until

    def forward(self, student: Outputs, teacher: Outputs, samples: Samples) -> Tensor:
        """Return the mean over the batch, in nats times T^2; a constant 0 from `until` on."""
        if samples.progress >= self.until:
            return student.logits.new_zeros(())
        return super().forward(student, teacher, samples)

    @classmethod
    def adapt(cls, recipe: Recipe, options: Mapping[str, object]) -> Recipe:  # noqa: ARG003 - the hook's signature
        """Refuse a sum of this term alone, which would end without a loss."""
        method = recipe.distill.method
        if all(term.name == cls.name for term in parse_expression(method)):
            raise RecipeError(
                f"method '{method}': eskd ends part-way and would leave no loss; "
                "add a term that goes on, for example 'ce + eskd'"
            )
        return recipe
