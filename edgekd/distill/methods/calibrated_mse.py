"""Embedding regression whose error is calibrated towards a Gaussian."""

from __future__ import annotations

from torch import Tensor, nn

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.errors import RecipeError


@register
class CalibratedMSE(Method):
    """mean(e'^2) with e = W z_s + b - z_t and e' = sign(e) |e|^beta, over every element; W and b are trained.

    A reconstruction: the equations are not public in full. beta = 1 is the plain squared error; below 1, large errors
    count less. |e|^(2 beta) has a finite slope at 0 only from beta = 0.5 on.
    """

    name = "calibrated_mse"
    source = (
        "B. Zhou et al., Enhancing Few-Shot Learning in Lightweight Models via Dual-Faceted Knowledge Distillation, "
        "Sensors 24(6), 2024, https://doi.org/10.3390/s24061815"
    )
    teaches_head = False

    def __init__(self, dims: Dims, *, beta: float = 0.8) -> None:
        super().__init__(dims)
        if not 0.5 <= beta <= 1:
            raise RecipeError(f"calibrated_mse: beta is {beta}; it lies in 0.5 <= beta <= 1")
        self.beta = beta
        self.projection = nn.Linear(dims.student, dims.teacher)

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the mean over the batch and the teacher's dimensions."""
        error = self.projection(student.embedding) - teacher.embedding  # (b, teacher)
        loss: Tensor = error.abs().pow(2 * self.beta).mean()  # e'^2 = |e|^(2 beta)
        return loss
