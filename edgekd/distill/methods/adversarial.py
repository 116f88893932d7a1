"""A discriminator that tells the teacher's embeddings from the student's, and a student that deceives it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.errors import RecipeError


class ReversedGradient(torch.autograd.Function):
    """Identity forward; backward the gradient is multiplied by -strength."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:  # noqa: ANN401 - torch gives its context no type
        """Return `values` as they are."""
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - as above
        """Turn the gradient round."""
        return -ctx.strength * gradient, None


@register
class Adversarial(Method):
    """-mean(log D(z_t) + log(1 - D(W z_s + b))) / 2: D descends it, while W, b and the student climb it.

    D is linear, leaky ReLU, linear, sigmoid at the teacher's width. Both sides learn in one backward pass: the gradient
    is multiplied by -strength between D and the student. D that only guesses has a loss of log 2.
    Gradient reversal: Y. Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016,
    https://arxiv.org/abs/1505.07818.
    """

    name = "adversarial"
    source = (
        "Z. Shen et al., MEAL: Multi-Model Ensemble via Adversarial Learning, AAAI 2019, "
        "https://arxiv.org/abs/1812.02425"
    )
    teaches_head = False

    def __init__(self, dims: Dims, *, strength: float = 1.0) -> None:
        super().__init__(dims)
        if not 0 < strength < float("inf"):
            raise RecipeError(f"adversarial: strength is {strength}; it must be above 0")
        self.strength = strength
        self.projection = nn.Linear(dims.student, dims.teacher)
        self.discriminator = nn.Sequential(
            nn.Linear(dims.teacher, dims.teacher), nn.LeakyReLU(0.2), nn.Linear(dims.teacher, 1)
        )

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the discriminator's mean over both halves of the batch, in nats."""
        reversed_: Tensor = ReversedGradient.apply(self.projection(student.embedding), self.strength)
        of_teacher, of_student = self.discriminator(teacher.embedding), self.discriminator(reversed_)  # (b, 1)
        # -log sigmoid(u) = softplus(-u), -log(1 - sigmoid(u)) = softplus(u)
        return (functional.softplus(-of_teacher) + functional.softplus(of_student)).mean() / 2
