"""Relations between the images of a batch: distances of pairs, angles of triplets."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from edgekd.distill.methods.base import Dims, Method, Outputs, Samples, register
from edgekd.errors import RecipeError


def differences(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return x_i - x_j (b, b, d) of points (b, d) and its norm (b, b), whose gradient is 0 where two points are one."""
    difference = points[:, None, :] - points[None, :, :]
    squared = difference.square().sum(2)
    apart = squared > 0
    return difference, torch.where(apart, squared, 1).sqrt() * apart


def relative_distances(distances: Tensor) -> Tensor:
    """Divide distances (b, b) by the mean of those above 0; all stay 0 where there are none."""
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / torch.where(mean > 0, mean, 1)


def cosines(difference: Tensor, distances: Tensor) -> Tensor:
    """Return cos of the angle at x_j between x_i and x_k, as (j, i, k); 0 where two of the points are one."""
    directions = difference * (distances > 0)[:, :, None] / torch.where(distances > 0, distances, 1)[:, :, None]
    # Row j holds x_j - x_i: both directions of an angle at x_j turned round leave their product.
    return directions @ directions.transpose(1, 2)


@register
class Relational(Method):
    """distance * mean Huber(psi_D(s), psi_D(t)) + angle * mean Huber(psi_A(s), psi_A(t)): RKD-D, RKD-A and RKD-DA.

    psi_D(i, j) = ||x_i - x_j|| / mu with mu the batch's mean distance between different points; psi_A(i, j, k) = cosine
    of the angle at x_j; Huber(d) = d^2 / 2 up to 1, |d| - 1/2 beyond. Means over all b^2 pairs and b^3 triplets.
    Turning, moving or scaling either network's points changes nothing, so the widths may differ; and so RKD cannot say
    which logit belongs to which class, and a student whose RKD outweighs all else is good at it and guesses classes.
    Sums over the batch in the place of the means do that: they are b^2 and b^3 times larger.

    The weights are the paper's for classification, 25 and 50; for metric learning it has 1 and 2. One of them at 0
    leaves the other alone. `on` = "logits" compares predictions instead of embeddings. Some texts divide distances by
    their sum instead of mu: psi_D is then b^2 times smaller and its Huber loss b^4 times, so RKD-D vanishes.
    Several processes relate the images of each one's share of the batch.
    """

    name = "rkd"
    source = "W. Park et al., Relational Knowledge Distillation, CVPR 2019, https://arxiv.org/abs/1904.05068"
    teaches_head = False

    def __init__(
        self,
        dims: Dims,
        *,
        distance: float = 25.0,
        angle: float = 50.0,
        on: Literal["embedding", "logits"] = "embedding",
    ) -> None:
        super().__init__(dims)
        for option, weight in (("distance", distance), ("angle", angle)):
            if not 0 <= weight < float("inf"):
                raise RecipeError(f"rkd: {option} is {weight}; a weight is at least 0")
        if distance == angle == 0:
            raise RecipeError("rkd: distance and angle are both 0; leave the term out instead")
        if on not in {"embedding", "logits"}:
            raise RecipeError(f"rkd: on is '{on}'; it is embedding or logits")
        self.distance, self.angle, self.on = distance, angle, on

    def forward(self, student: Outputs, teacher: Outputs, _samples: Samples) -> Tensor:
        """Return the weighted sum of both means; a batch of one has no relations and gives 0."""
        ours, theirs = getattr(student, self.on), getattr(teacher, self.on)
        with torch.autocast(ours.device.type, enabled=False):  # differences of near points need the digits
            return self._loss(*differences(ours), *differences(theirs))

    def _loss(self, ours: Tensor, our_distances: Tensor, theirs: Tensor, their_distances: Tensor) -> Tensor:
        far = functional.smooth_l1_loss(relative_distances(our_distances), relative_distances(their_distances))
        if not self.angle:
            return self.distance * far
        turned = functional.smooth_l1_loss(cosines(ours, our_distances), cosines(theirs, their_distances))
        return self.distance * far + self.angle * turned
