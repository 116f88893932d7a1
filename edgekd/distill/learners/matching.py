"""Attention over the support images, trained as it is used."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgekd.distill.learners.base import EpisodeLearner, register
from edgekd.distill.tasks import Classifier, Loss
from edgekd.recipe import Learning


@register
class MatchingNetwork(EpisodeLearner):
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
        self.backbone = classifier.backbone
        self.temperature = settings.temperature

    def forward(self, images: Tensor, labels: Tensor) -> Loss:  # noqa: ARG002 - one signature
        """Return -log P(label | query), averaged over all queries, in nats."""
        support, query = self.split(functional.normalize(self.backbone(images).float(), dim=-1))
        keys, queries = support.flatten(1, 2), query.flatten(1, 2)  # (e, way * shot, d), (e, way * query, d)
        attention = functional.log_softmax(self.temperature * queries @ keys.transpose(1, 2), dim=-1)
        log_p = attention.reshape(*attention.shape[:2], self.way, self.shot).logsumexp(
            3
        )  # (episodes, way * query, way)
        targets = self.targets(self.query, log_p.device).repeat(len(log_p))
        loss = functional.nll_loss(log_p.flatten(0, 1), targets)
        return loss, {"episode_ce": loss}
