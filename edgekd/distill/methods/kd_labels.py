"""Soft targets and labels, balanced by one number."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.errors import RecipeError


@register
class LabelledTargets(Method):
    """a CE(y, u_s) + (1 - a) T^2 CE(softmax(u_t / T), u_s / T), with a the balance.

    It holds the labels' loss already. The source uses T = 1, where the factor T^2 is 1.
    """

    name = "kd_labels"
    source = (
        "R. Jagtap et al., Learning Relevant Information through Knowledge Distillation for Small Dataset, Purdue; "
        "G. Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531"
    )
    uses_labels = True
    holds_ce = True

    def __init__(self, dims: Dims, *, balance: float = 0.1, temperature: float = 1.0) -> None:
        super().__init__(dims)
        if not 0 <= balance <= 1:
            raise RecipeError(f"kd_labels: balance is {balance}; it lies in 0 <= balance <= 1")
        if not temperature > 0:
            raise RecipeError(f"kd_labels: temperature is {temperature}; it must be above 0")
        self.balance, self.temperature = balance, temperature

    def forward(self, student: Outputs, teacher: Outputs, samples: Samples) -> Tensor:
        """Return the mean over the batch, in nats (those of the soft targets times T^2)."""
        probabilities = functional.softmax(teacher.logits / self.temperature, dim=1)
        soft = self.temperature**2 * functional.cross_entropy(student.logits / self.temperature, probabilities)
        return self.balance * functional.cross_entropy(student.logits, samples.labels) + (1 - self.balance) * soft
