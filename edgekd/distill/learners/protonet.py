"""Nearest class mean by squared Euclidean distance, trained as it is used."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgekd.distill.learners.base import EpisodeLearner, register
from edgekd.distill.tasks import Classifier, Loss
from edgekd.recipe import Learning


@register
class PrototypicalNetwork(EpisodeLearner):
    """Logits -|q - mean_k s_k|^2 between a query and the class means."""

    name = "protonet"
    source = (
        "J. Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017, https://arxiv.org/abs/1703.05175"
    )

    def __init__(self, classifier: Classifier, settings: Learning) -> None:
        super().__init__(classifier, settings)
        self.backbone = classifier.backbone

    def forward(self, images: Tensor, labels: Tensor) -> Loss:  # noqa: ARG002 - one signature
        """Return the mean cross-entropy over all queries, in nats."""
        support, query = self.split(self.backbone(images).float())
        prototypes = support.mean(2)  # (episodes, way, d)
        differences = query.flatten(1, 2)[:, :, None] - prototypes[:, None]  # (episodes, way * query, way, d)
        logits = -differences.square().sum(-1)
        targets = self.targets(self.query, logits.device).repeat(len(logits))
        loss = functional.cross_entropy(logits.flatten(0, 1), targets)
        return loss, {"episode_ce": loss}
