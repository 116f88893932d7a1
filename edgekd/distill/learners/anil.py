"""MAML in which almost nothing adapts in the inner loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from edgekd.distill.learners.base import EpisodeLearner, register
from edgekd.distill.learners.maml import Weights, adapt
from edgekd.distill.tasks import Classifier, Loss
from edgekd.recipe import Learning


@register
class ANIL(EpisodeLearner):
    """Cross-entropy on the queries after `inner_steps` steps of size `inner_lr` of the head alone, second order.

    The backbone embeds each image once: BatchNorm sees all episodes of the batch together, as the learners without an
    inner loop do. The loss through the steps is fp32.
    """

    name = "anil"
    source = (
        "A. Raghu et al., Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML, ICLR 2020, "
        "https://arxiv.org/abs/1909.09157"
    )

    def __init__(self, classifier: Classifier, settings: Learning) -> None:
        super().__init__(classifier, settings)
        self.backbone = classifier.backbone
        self.head = nn.Linear(classifier.backbone.embedding_dim, settings.way)
        self.inner_lr, self.inner_steps = settings.inner_lr, settings.inner_steps

    def forward(self, images: Tensor, labels: Tensor) -> Loss:  # noqa: ARG002 - one signature
        """Return the mean over all queries of all episodes, in nats."""
        support, query = self.split(self.backbone(images).float())
        with torch.autocast(images.device.type, enabled=False):
            losses = [self.query_loss(*episode) for episode in zip(support, query, strict=True)]
        loss = torch.stack(losses).mean()
        return loss, {"episode_ce": loss}

    def query_loss(self, support: Tensor, query: Tensor) -> Tensor:
        """Return the loss of queries (way, query, d) after learning from support (way, shot, d)."""

        def support_loss(weights: Weights) -> Tensor:
            return self._loss(weights, support)

        start = dict(self.head.named_parameters())
        adapted = adapt(support_loss, start, lr=self.inner_lr, steps=self.inner_steps, second_order=True)
        return self._loss(adapted, query)

    def _loss(self, weights: Weights, embedding: Tensor) -> Tensor:
        logits = functional_call(self.head, dict(weights), embedding.flatten(0, 1))
        return functional.cross_entropy(logits, self.targets(embedding.shape[1], embedding.device))
