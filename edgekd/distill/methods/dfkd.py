"""Dual-faceted distillation: logits and calibrated embeddings of a teacher that also learned rotations."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.distill.methods.calibrated_mse import CalibratedMSE
from edgekd.distill.methods.kd import SoftTargets
from edgekd.errors import RecipeError
from edgekd.recipe import Recipe


@register
class DualFaceted(Method):
    """CE(y, u_s) + a1 T^2 KL(softmax(u_t / T) || softmax(u_s / T)) + a2 mean(e'^2), with e' as in `calibrated_mse`.

    A reconstruction: the equations are not public in full, and T is not given. It holds the labels' loss already. The
    teacher is to learn rotations too: where the study has CE(classes) + CE(rotations), it is trained here as SKD-Gen0,
    by a binary cross-entropy of each rotation, weighed by the recipe's `teacher.rotation`.
    """

    name = "dfkd"
    source = CalibratedMSE.source
    uses_labels = True
    holds_ce = True

    def __init__(
        self, dims: Dims, *, a1: float = 0.3, a2: float = 0.5, beta: float = 0.8, temperature: float = 4.0
    ) -> None:
        super().__init__(dims)
        for name, weight in (("a1", a1), ("a2", a2)):
            if not weight >= 0:
                raise RecipeError(f"dfkd: {name} is {weight}; a weight is 0 or more")
        self.a1, self.a2 = a1, a2
        self.soft_targets = SoftTargets(dims, temperature=temperature)
        self.features = CalibratedMSE(dims, beta=beta)

    def forward(self, student: Outputs, teacher: Outputs, samples: Samples) -> Tensor:
        """Return the mean over the batch."""
        soft: Tensor = self.soft_targets(student, teacher, samples)
        features: Tensor = self.features(student, teacher, samples)
        return functional.cross_entropy(student.logits, samples.labels) + self.a1 * soft + self.a2 * features

    @classmethod
    def adapt(cls, recipe: Recipe, options: Mapping[str, object]) -> Recipe:  # noqa: ARG003 - the hook's signature
        """Have the teacher learn rotations, where it is trained and the recipe gives them no weight."""
        teacher = recipe.teacher
        if teacher.rotation or (teacher.weights and not teacher.new_head):
            return recipe
        return recipe.model_copy(update={"teacher": teacher.model_copy(update={"rotation": 1.0})})

    @classmethod
    def remark(cls, marks: Mapping[str, object]) -> str:
        """Say that the self-supervised half of the teacher's knowledge is not there."""
        if marks.get("rotation"):
            return ""
        return (
            "dfkd wants a teacher that learned rotations, and the file does not tell of any: what is left is "
            "ce + kd + calibrated_mse from a plain teacher; leave out --teacher-weights to have one trained"
        )
