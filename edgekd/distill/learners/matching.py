"""Attention over the support images, trained as it is used."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgekd.distill.learners.base import MetricLearner, register
from edgekd.distill.tasks import Classifier
from edgekd.recipe import Learning


@register
class MatchingNetwork(MetricLearner):
    """P(y | q) = sum of softmax_i(tau cos(q, s_i)) over the support images i of class y; tau is `temperature`.

    Without the full context embeddings (the LSTMs over the support set): an embedding must not depend on the other
    images if it is to ship. The paper's tau is 1, with which the loss cannot fall below log(1 + (way - 1) e^-2).
    """

    name = "matching"
    source = (
        "O. Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016, https://arxiv.org/abs/1606.04080"
    )

    def __init__(self, classifier: Classifier, settings: Learning) -> None:
        super().__init__(classifier, settings)
        self.temperature = settings.temperature

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Return log P(class | query)."""
        keys = functional.normalize(support, dim=-1).flatten(1, 2)  # (episodes, way * shot, d)
        cosines = functional.normalize(query, dim=-1) @ keys.transpose(1, 2)
        attention = functional.log_softmax(self.temperature * cosines, dim=-1)  # (episodes, queries, way * shot)
        return attention.reshape(*attention.shape[:2], *support.shape[1:3]).logsumexp(3)
