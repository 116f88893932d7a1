"""Heads over the training classes: what turns embeddings into logits while a network learns. None is deployed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekd.recipe import HeadKind

START_SCALE = 10.0


class LinearHead(nn.Linear):
    """Logits w.z + b of embeddings (b, d)."""

    def take_means(self, means: Tensor) -> None:
        """Make the logits those of the nearest of the class means (classes, d).

        2 m.z - |m|^2 = |z|^2 - |z - m|^2 for each mean m: J. Snell et al., Prototypical Networks for Few-shot Learning,
        NeurIPS 2017, section 2.4, arXiv 1703.05175.
        """
        self.weight.copy_(2 * means)
        self.bias.copy_(-means.square().sum(1))


class CosineHead(nn.Linear):
    """Logits s cos(w, z) of embeddings (b, d), s > 0 learned: what a nearest class mean by cosine looks at.

    Source: S. Gidaris & N. Komodakis, Dynamic Few-Shot Visual Learning without Forgetting, CVPR 2018,
    https://arxiv.org/abs/1804.09458; its cosine classifier with a learned scale, here 10 at the start.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.scale = nn.Parameter(torch.tensor(START_SCALE))

    def forward(self, embedding: Tensor) -> Tensor:
        """Return logits (b, classes), fp32: bf16 has too few digits for angles."""
        with torch.autocast(embedding.device.type, enabled=False):
            cosines = functional.linear(
                functional.normalize(embedding.float(), dim=1), functional.normalize(self.weight, dim=1)
            )
            return self.scale * cosines

    def take_means(self, means: Tensor) -> None:
        """Make the logits those of the class mean (classes, d) that is nearest by cosine."""
        self.weight.copy_(means)


def head_in(tensors: Mapping[str, Tensor]) -> HeadKind:
    """Return the kind of head that a classifier's tensors are of."""
    return "cosine" if "head.scale" in tensors else "linear"


HEADS: dict[HeadKind, type[LinearHead | CosineHead]] = {"linear": LinearHead, "cosine": CosineHead}
