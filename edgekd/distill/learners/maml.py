"""Weights from which a few gradient steps on a support set go far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from edgekd.distill.learners.base import EpisodeLearner, register
from edgekd.distill.tasks import Classifier, Loss
from edgekd.recipe import Learning

Weights = Mapping[str, Tensor]


def adapt(loss: Callable[[Weights], Tensor], weights: Weights, *, lr: float, steps: int, second_order: bool) -> Weights:
    """Return `weights` after gradient steps down `loss`; with `second_order`, gradients flow through the steps."""
    for _ in range(steps):
        gradients = torch.autograd.grad(
            loss(weights), list(weights.values()), create_graph=second_order, materialize_grads=True
        )
        weights = {
            name: value - lr * gradient for (name, value), gradient in zip(weights.items(), gradients, strict=True)
        }
    return weights


@register
class MAML(EpisodeLearner):
    """Cross-entropy on the queries after `inner_steps` steps of size `inner_lr` on the support set, per episode.

    All trainable weights of backbone and head adapt; the head is one of `way` classes, learned as the start of every
    episode. BatchNorm uses the statistics of the images at hand, support or query, as the authors' code does. Its
    running statistics are those of the weights before they adapt, over all images of the batch: these weights embed
    images afterwards. Always fp32, as second derivatives are small.
    """

    name = "maml"
    source = (
        "C. Finn et al., Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, ICML 2017, "
        "https://arxiv.org/abs/1703.03400"
    )
    second_order: ClassVar[bool] = True

    def __init__(self, classifier: Classifier, settings: Learning) -> None:
        super().__init__(classifier, settings)
        self.network = Classifier(classifier.backbone, settings.way)
        self.inner_lr, self.inner_steps = settings.inner_lr, settings.inner_steps

    def forward(self, images: Tensor, labels: Tensor) -> Loss:  # noqa: ARG002 - one signature
        """Return the mean over all queries of all episodes, in nats."""
        with torch.autocast(images.device.type, enabled=False):
            with torch.no_grad():
                self.network.backbone(images.float())  # updates the running statistics
            support, query = self.split(images.float())
            losses = [self.query_loss(*episode) for episode in zip(support, query, strict=True)]
        loss = torch.stack(losses).mean()
        return loss, {"episode_ce": loss}

    def query_loss(self, support: Tensor, query: Tensor) -> Tensor:
        """Return the loss of queries (way, query, c, h, w) after learning from support (way, shot, c, h, w)."""
        start = {name: value for name, value in self.network.named_parameters() if value.requires_grad}

        def support_loss(weights: Weights) -> Tensor:
            return self._loss(weights, support)

        adapted = adapt(support_loss, start, lr=self.inner_lr, steps=self.inner_steps, second_order=self.second_order)
        return self._loss(adapted, query)

    def _loss(self, weights: Weights, images: Tensor) -> Tensor:
        buffers = {name: value.clone() for name, value in self.network.named_buffers()}  # to be updated and dropped
        logits = functional_call(self.network, {**weights, **buffers}, images.flatten(0, 1)).logits
        return functional.cross_entropy(logits, self.targets(images.shape[1], images.device))
