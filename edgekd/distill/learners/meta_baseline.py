"""Nearest class mean by cosine, trained as it is used."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekd.distill.learners.base import EpisodeLearner, register
from edgekd.distill.tasks import Classifier, Loss
from edgekd.recipe import Learning


@register
class MetaBaseline(EpisodeLearner):
    """Logits tau cos(q, mean_k s_k) between a query and the class means; tau is learned from `temperature` on."""

    name = "meta_baseline"
    source = "Y. Chen et al., Meta-Baseline, ICCV 2021, https://arxiv.org/abs/2003.04390"

    def __init__(self, classifier: Classifier, settings: Learning) -> None:
        super().__init__(classifier, settings)
        self.backbone = classifier.backbone
        self.temperature = nn.Parameter(torch.tensor(settings.temperature))

    def forward(self, images: Tensor, labels: Tensor) -> Loss:  # noqa: ARG002 - one signature
        """Return the mean cross-entropy over all queries, in nats."""
        support, query = self.split(self.backbone(images).float())
        prototypes = functional.normalize(support.mean(2), dim=-1)  # (episodes, way, d)
        queries = functional.normalize(query.flatten(1, 2), dim=-1)  # (episodes, way * query, d)
        logits = self.temperature * queries @ prototypes.transpose(1, 2)
        targets = self.targets(self.query, logits.device).repeat(len(logits))
        loss = functional.cross_entropy(logits.flatten(0, 1), targets)
        return loss, {"episode_ce": loss}
