"""Soft targets."""

from __future__ import annotations

from torch import Tensor

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.distill.methods.divergence import kl_divergence
from edgekd.errors import RecipeError


@register
class SoftTargets(Method):
    """T^2 KL(softmax(u_t / T) || softmax(u_s / T)): the factor keeps the gradient's size as T grows."""

    name = "kd"
    source = "G. Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531"

    def __init__(self, dims: Dims, *, temperature: float = 4.0) -> None:
        super().__init__(dims)
        if not temperature > 0:
            raise RecipeError(f"{self.name}: temperature is {temperature}; it must be above 0")
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the mean over the batch, in nats times T^2."""
        divergence = kl_divergence(teacher.logits / self.temperature, student.logits / self.temperature)
        return self.temperature**2 * divergence
