"""Nearest class mean by cosine, trained as it is used."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekd.distill.learners.base import MetricLearner, register
from edgekd.distill.tasks import Classifier
from edgekd.recipe import Learning


@register
class MetaBaseline(MetricLearner):
    """Logits tau cos(q, mean_k s_k) between a query and the class means; tau is learned from `temperature` on."""

    name = "meta_baseline"
    source = "Y. Chen et al., Meta-Baseline, ICCV 2021, https://arxiv.org/abs/2003.04390"

    def __init__(self, classifier: Classifier, settings: Learning) -> None:
        super().__init__(classifier, settings)
        self.temperature = nn.Parameter(torch.tensor(settings.temperature))

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Return tau times the cosines; embeddings are not scaled before their mean."""
        prototypes = functional.normalize(support.mean(2), dim=-1)  # (episodes, way, d)
        return self.temperature * functional.normalize(query, dim=-1) @ prototypes.transpose(1, 2)
