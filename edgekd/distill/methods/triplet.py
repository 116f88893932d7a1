"""The student's output nearer to the teacher's on the same image than its output on another class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.errors import RecipeError


def random_negatives(different: Tensor) -> Tensor:
    """Return for each row of different (b, b) one of its true columns, drawn uniformly; any where there is none."""
    draws = torch.rand(different.shape).to(different.device)  # drawn on the CPU: the same on every device
    return torch.where(different, draws, -1).argmax(1)


def nearest_negatives(different: Tensor, distances: Tensor) -> Tensor:
    """Return for each row the true column of the smallest distance (b, b); any where there is none."""
    return torch.where(different, distances, float("inf")).argmin(1)


@register
class TripletDistillation(Method):
    """mean max(0, margin + ||t(x_i) - s(x_i)||^q - ||t(x_i) - s(x_j)||^q) with y_j != y_i, x_j of the same batch.

    q = 1, or 2 with `squared` (the paper writes squared norms, a co-author's code has plain ones). `negatives`: x_j is
    drawn at "random" among the other classes, or the nearest of them, "hard" (F. Schroff et al., FaceNet, CVPR 2015).
    Images without a negative in their batch are left out. `on`: the logits, or embeddings of the same width.
    The co-author's code has "kl + ce + 2 triplet", its kl with tau = 1. The gradient of a plain norm has length 1, that
    of a squared one twice the distance: it grows with the teacher's logits and needs a lower learning rate or clipping.
    """

    name = "triplet"
    source = "H. Oki et al., Triplet Loss for Knowledge Distillation, IJCNN 2020, https://arxiv.org/abs/2004.08116"
    uses_labels = True

    def __init__(
        self,
        dims: Dims,
        *,
        margin: float = 5.0,
        negatives: Literal["random", "hard"] = "random",
        squared: bool = False,
        on: Literal["logits", "embedding"] = "logits",
    ) -> None:
        super().__init__(dims)
        if not 0 <= margin < float("inf"):
            raise RecipeError(f"triplet: margin is {margin}; it is at least 0")
        if negatives not in {"random", "hard"} or on not in {"logits", "embedding"}:
            raise RecipeError(
                f"triplet: negatives is '{negatives}' (random or hard), on is '{on}' (logits or embedding)"
            )
        if dims.classes < 2:
            raise RecipeError("triplet: the training set has one class, so no image has a negative; leave triplet out")
        if on == "embedding" and dims.student != dims.teacher:
            raise RecipeError(
                f"triplet: embeddings of {dims.student} and {dims.teacher} numbers have no distance; use on = 'logits'"
            )
        self.margin, self.negatives, self.squared, self.on = margin, negatives, squared, on

    @classmethod
    def teaches(cls, options: Mapping[str, object]) -> bool:
        """Return whether logits are compared."""
        return options.get("on", "logits") == "logits"

    def forward(self, student: Outputs, teacher: Outputs, samples: Samples) -> Tensor:
        """Return the mean over the images that have a negative in the batch; 0 where none has."""
        ours, theirs = getattr(student, self.on), getattr(teacher, self.on)
        different = samples.labels[:, None] != samples.labels[None, :]
        anchors = different.any(1)
        distances = self._distances(theirs[:, None, :] - ours[None, :, :])  # (i, j): t(x_i) to s(x_j)
        chosen = nearest_negatives(different, distances) if self.negatives == "hard" else random_negatives(different)
        excess = self.margin + distances.diagonal() - distances.gather(1, chosen[:, None])[:, 0]
        return (excess.clamp(min=0) * anchors).sum() / anchors.sum().clamp(min=1)

    def _distances(self, difference: Tensor) -> Tensor:
        """Return ||d||^q over the last dimension; the gradient is 0 at 0."""
        squares = difference.square().sum(-1)
        apart = squares > 0
        return squares if self.squared else torch.where(apart, squares, 1).sqrt() * apart
