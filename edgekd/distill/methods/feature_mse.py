"""Plain embedding regression."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register


@register
class FeatureMSE(Method):
    """mean((W z_s + b - z_t)^2) over every element; W and b are trained."""

    name = "feature_mse"
    source = "A. Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, https://arxiv.org/abs/1412.6550"
    teaches_head = False

    def __init__(self, dims: Dims) -> None:
        super().__init__(dims)
        self.projection = nn.Linear(dims.student, dims.teacher)

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the mean over the batch and the teacher's dimensions."""
        return functional.mse_loss(self.projection(student.embedding), teacher.embedding)
