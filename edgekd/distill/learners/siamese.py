"""One network for three images: two of a class nearer than two of different classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgekd.distill.learners.base import TRIPLETS, Learner, Measure, register
from edgekd.distill.tasks import Classifier, Loss
from edgekd.recipe import Learning
from edgekd.siamese import DRAWN, triplet_accuracy


def triplet_accuracy_on_sphere(embeddings: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> float:
    """Return the share of triplets in order, by the distance that the loss knows: between unit embeddings."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return triplet_accuracy(embeddings / np.where(norms > 0, norms, 1), labels)


@register
class SiameseNetwork(Learner):
    """max(|a - p|^2 - |a - n|^2 + margin, 0) over embeddings scaled to unit length; triplets are drawn at random.

    A siamese network after G. Koch et al., Siamese Neural Networks for One-shot Image Recognition, 2015, with this loss
    in place of its pairs.
    """

    name = "siamese"
    source = (
        "F. Schroff et al., FaceNet: A Unified Embedding for Face Recognition and Clustering, CVPR 2015, "
        "https://arxiv.org/abs/1503.03832"
    )
    unit = TRIPLETS
    measures = {"triplet_accuracy": Measure(triplet_accuracy_on_sphere, DRAWN)}  # noqa: RUF012 - a ClassVar of the base

    def __init__(self, classifier: Classifier, settings: Learning) -> None:
        super().__init__(classifier, settings)
        self.backbone = classifier.backbone
        self.margin = settings.margin

    def forward(self, images: Tensor, labels: Tensor) -> Loss:  # noqa: ARG002 - one signature
        """Return the loss of images (triplets * 3, c, h, w): anchor, positive, negative, and so on."""
        return self.loss(self.backbone(images).float())

    def loss(self, embedding: Tensor) -> Loss:
        """Return the mean over the triplets of embeddings (triplets * 3, d).

        The second term is the share of this batch's triplets in which the positive is nearer.
        """
        unit = functional.normalize(embedding, dim=-1).reshape(-1, 3, embedding.shape[1])
        anchor, positive, negative = unit.unbind(1)  # (triplets, d) each
        near, far = (anchor - positive).square().sum(1), (anchor - negative).square().sum(1)
        loss = functional.relu(near - far + self.margin).mean()
        return loss, {"triplet": loss, "triplet_accuracy": (near < far).float().mean()}
