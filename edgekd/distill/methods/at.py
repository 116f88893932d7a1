"""Attention maps: where a layer is active, whatever its channels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.distill.methods.layers import common_size, paired_layers
from edgekd.errors import RecipeError


@register
class AttentionTransfer(Method):
    """Sum over layers of mean((Q_s - Q_t)^2), Q = F / ||F||_2 of each image, F (h, w) = sum over channels of |A|^p.

    The mean runs over images and positions, as in the authors' code, which weighs it by 1000 beside cross-entropy: "ce
    + 1000 at"; its smallest maps have 64 positions, and over fewer the same weight outweighs the labels. Maps of
    different height or width are averaged to the smaller one. `teacher_layers` names the teacher's layers where they
    are counted differently.
    """

    name = "at"
    source = (
        "S. Zagoruyko and N. Komodakis, Paying More Attention to Attention: Improving the Performance of Convolutional "
        "Neural Networks via Attention Transfer, ICLR 2017, https://arxiv.org/abs/1612.03928"
    )
    teaches_head = False

    def __init__(
        self, dims: Dims, *, layers: tuple[int, ...] = (2, 3, 4), teacher_layers: tuple[int, ...] = (), p: float = 2.0
    ) -> None:
        super().__init__(dims)
        if not p >= 1:
            raise RecipeError(f"at: p is {p}; it must be at least 1")
        self.student_layers, self.teacher_layers = paired_layers(self.name, dims, layers, teacher_layers)
        self.p = p

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the sum over the layers of the mean over the batch and positions."""
        pairs = zip(self.student_layers, self.teacher_layers, strict=True)
        return torch.stack([self._difference(student.maps[s], teacher.maps[t]) for s, t in pairs]).sum()

    def _difference(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = (self._attention(maps) for maps in common_size(student, teacher))
        return functional.mse_loss(ours, theirs)

    def _attention(self, maps: Tensor) -> Tensor:
        """Return the normalized attention (b, h * w) of maps (b, c, h, w)."""
        return functional.normalize(maps.abs().pow(self.p).mean(1).flatten(1), dim=1)  # the mean divides out
