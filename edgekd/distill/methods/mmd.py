"""Maximum mean discrepancy between the channels of two networks' maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.distill.methods.layers import common_size, paired_layers
from edgekd.errors import RecipeError

KernelName = Literal["linear", "polynomial", "gaussian"]
Kernel = Callable[[Tensor, Tensor], Tensor]


def linear(a: Tensor, b: Tensor) -> Tensor:
    """Return a . b for all pairs of a (n, i, d) and b (n, j, d): (n, i, j)."""
    return a @ b.transpose(1, 2)


def polynomial(a: Tensor, b: Tensor) -> Tensor:
    """Return (a . b)^2 for all pairs: degree 2, no constant."""
    return linear(a, b).square()


def gaussian_of(a: Tensor, b: Tensor) -> Kernel:
    """Return exp(-||x - y||^2 / (2 sigma^2)), sigma^2 the mean squared distance of a and b, held constant."""
    variance = _squared_distances(a, b).mean((1, 2), keepdim=True).detach()
    return lambda x, y: torch.exp(-_squared_distances(x, y) / (2 * variance.clamp(min=1e-6)))


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    return (a.square().sum(2)[:, :, None] + b.square().sum(2)[:, None, :] - 2 * linear(a, b)).clamp(min=0)


def squared_mmd(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    """Return mean k(a, a') + mean k(b, b') - 2 mean k(a, b) of samples a (n, i, d) and b (n, j, d), averaged over n."""
    return kernel(a, a).mean() + kernel(b, b).mean() - 2 * kernel(a, b).mean()


@register
class NeuronSelectivity(Method):
    """Sum over layers of the squared MMD between the channels of an image's student map and its teacher map.

    A sample is one channel's map, flattened and divided by its L2 norm; the mean is over images. Kernels: "polynomial"
    (x . y)^2, the paper's best, "linear" x . y, "gaussian" exp(-||x - y||^2 / 2 sigma^2) with sigma^2 the mean squared
    distance between the image's student and teacher channels. The numbers of channels may differ. Maps of different
    height or width are averaged to the smaller one. The paper weighs it by 50 beside cross-entropy: "ce + 50 mmd".
    """

    name = "mmd"
    source = (
        "Z. Huang and N. Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017, "
        "https://arxiv.org/abs/1707.01219"
    )
    teaches_head = False

    def __init__(
        self,
        dims: Dims,
        *,
        layers: tuple[int, ...] = (4,),
        teacher_layers: tuple[int, ...] = (),
        kernel: KernelName = "polynomial",
    ) -> None:
        super().__init__(dims)
        if kernel not in get_args(KernelName):
            raise RecipeError(f"mmd: kernel is '{kernel}'; it is one of {', '.join(get_args(KernelName))}")
        self.student_layers, self.teacher_layers = paired_layers(self.name, dims, layers, teacher_layers)
        self.kernel: KernelName = kernel

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the sum over the layers of the mean over the batch."""
        pairs = zip(self.student_layers, self.teacher_layers, strict=True)
        return torch.stack([self._discrepancy(student.maps[s], teacher.maps[t]) for s, t in pairs]).sum()

    def _discrepancy(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = (functional.normalize(maps.flatten(2), dim=2) for maps in common_size(student, teacher))
        kernels = {"linear": linear, "polynomial": polynomial}
        kernel = kernels[self.kernel] if self.kernel in kernels else gaussian_of(ours, theirs)
        with torch.autocast(ours.device.type, enabled=False):  # the means nearly cancel
            return squared_mmd(ours, theirs, kernel)  # samples (b, channels, h * w)
