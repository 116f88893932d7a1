"""Regression of the teacher's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.distill.methods.discrepancy import find_discrepancy
from edgekd.distill.methods.places import Places
from edgekd.distill.methods.projectors import Alignment, Projection


@register
class FeatureMSE(Method):
    """mean((P f_s - f_t)^2) over every element, then over the layers; P is a trained projector, W z_s + b by default.

    `layers` (none: the embeddings), and `teacher_layers` where the teacher's have other numbers; `projector` none,
    linear, mlp or conv; `direction` up, down or middle, `width` that of the middle; `loss` mse, l1, cosine or ce
    (between softmaxes over the channels). Where the teacher's side is projected, its reconstruction error is added.
    """

    name = "feature_mse"
    source = "A. Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, https://arxiv.org/abs/1412.6550"
    teaches_head = False

    def __init__(
        self,
        dims: Dims,
        *,
        layers: tuple[int, ...] = (),
        teacher_layers: tuple[int, ...] = (),
        projector: str = "linear",
        direction: str = "up",
        width: int = 0,
        loss: str = "mse",
    ) -> None:
        super().__init__(dims)
        self.places = Places.of(self.name, layers, teacher_layers)
        self.student_layers, self.teacher_layers = self.places.student, self.places.teacher
        self.discrepancy = find_discrepancy(loss)
        projection = Projection(projector, direction, width)
        self.alignments = nn.ModuleList(
            Alignment(mine, theirs, projection) for mine, theirs in self.places.shapes(dims)
        )

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the mean over the layers."""
        losses = []
        for alignment, features in zip(self.alignments, self.places.features(student, teacher), strict=True):
            aligned = alignment(*features)
            losses.append(self.discrepancy(aligned.student, aligned.teacher) + aligned.reconstruction)
        return torch.stack(losses).mean()
