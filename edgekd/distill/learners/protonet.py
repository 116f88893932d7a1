"""Nearest class mean by squared Euclidean distance, trained as it is used."""

from __future__ import annotations

from torch import Tensor

from edgekd.distill.learners.base import MetricLearner, register


@register
class PrototypicalNetwork(MetricLearner):
    """Logits -|q - mean_k s_k|^2 between a query and the class means."""

    name = "protonet"
    source = (
        "J. Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017, https://arxiv.org/abs/1703.05175"
    )

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Return minus the squared distances."""
        differences = query[:, :, None] - support.mean(2)[:, None]  # (episodes, queries, way, d)
        return -differences.square().sum(-1)
