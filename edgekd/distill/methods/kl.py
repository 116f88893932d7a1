"""Divergence from a teacher that is sharpened while the student is not."""

from __future__ import annotations

from torch import Tensor

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.distill.methods.divergence import kl_divergence
from edgekd.errors import RecipeError


@register
class SharpenedTargets(Method):
    """KL(softmax(u_t / tau) || softmax(u_s)): tau below 1 sharpens the teacher, tau = 1 compares the plain predictions.

    A reconstruction from the text "a temperature tau is used to control the softmax over the output of the teacher".
    """

    name = "kl"
    source = "P. Vunderink et al., Meta-Baseline reproduced and distilled to Conv4, TU Delft CS4240, 2024"

    def __init__(self, dims: Dims, *, tau: float = 0.25) -> None:
        super().__init__(dims)
        if not tau > 0:
            raise RecipeError(f"kl: tau is {tau}; it must be above 0")
        self.tau = tau

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the mean over the batch, in nats."""
        return kl_divergence(teacher.logits / self.tau, student.logits)
