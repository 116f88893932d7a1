"""Hints: a middle layer of the student guided by one of the teacher."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekd.distill.methods.base import Dims, MapShape, Method, Outputs, Samples, register
from edgekd.distill.methods.places import Places


@register
class FitNet(Method):
    """1/2 mean((r(v_s) - v_t)^2) over every element, then over the layers; r is a trained convolution.

    The regressor has no padding, and a kernel that takes the student's map to the size of the teacher's. `layers` is
    the middle one by default, as is `teacher_layers`. Here the hint acts beside the other terms of a sum, or alone in
    the first of two phases; it is a mean where the source has a sum, so that a weight does not depend on the map's
    size; and a teacher's map that is the larger one is pooled adaptively to the student's: the source leaves it open.
    """

    name = "fitnet"
    source = "A. Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, https://arxiv.org/abs/1412.6550"
    teaches_head = False

    def __init__(self, dims: Dims, *, layers: tuple[int, ...] = (), teacher_layers: tuple[int, ...] = ()) -> None:
        super().__init__(dims)
        if not layers:
            layers = (_middle(dims.student_maps),)
            teacher_layers = teacher_layers or (_middle(dims.teacher_maps),)
        self.places = Places.of(self.name, layers, teacher_layers)
        self.student_layers, self.teacher_layers = self.places.student, self.places.teacher
        self.regressors = nn.ModuleList(_regressor(mine, theirs) for mine, theirs in self.places.shapes(dims))

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the mean over the batch, the teacher's channels and positions, and the layers."""
        losses = []
        for regressor, (mine, theirs) in zip(self.regressors, self.places.features(student, teacher), strict=True):
            guided = regressor(mine)
            losses.append(0.5 * functional.mse_loss(guided, functional.adaptive_avg_pool2d(theirs, guided.shape[2:])))
        return torch.stack(losses).mean()


def _middle(maps: Mapping[int, MapShape]) -> int:
    return (len(maps) + 1) // 2


def _regressor(student: tuple[int, ...], teacher: tuple[int, ...]) -> nn.Module:
    height, width = (max(1, mine - theirs + 1) for mine, theirs in zip(student[1:], teacher[1:], strict=True))
    return nn.Conv2d(student[0], teacher[0], (height, width))
