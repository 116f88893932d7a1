from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.distill.backbones import Backbone
from edgekd.distill.learners.meta_baseline import MetaBaseline
from edgekd.distill.tasks import Classifier
from edgekd.recipe import Learning


@pytest.mark.parametrize("episodes", [1, 2])
def test_loss_is_cosine_to_the_mean_support_embedding(episodes: int) -> None:
    """Against loops written from the formula: logits = tau cos(q, mean_k s_k)."""
    way, shot, query, tau, dim = 3, 2, 2, 7.0, 5
    x = torch.randn(episodes * way * (shot + query), dim, generator=torch.Generator().manual_seed(0))
    classifier = Classifier(Backbone(nn.Identity(), in_channels=1, embedding_dim=dim), 4)
    learner = MetaBaseline(classifier, Learning(way=way, shot=shot, query=query, temperature=tau))
    loss, terms = learner(x, x)
    losses = []
    for episode in x.numpy().astype(np.float64).reshape(episodes, way, shot + query, dim):
        means = [episode[c, :shot].mean(0) for c in range(way)]
        for label in range(way):
            for q in episode[label, shot:]:
                logits = np.array([tau * q @ m / np.linalg.norm(q) / np.linalg.norm(m) for m in means])
                losses.append(np.log(np.exp(logits).sum()) - logits[label])
    assert abs(loss.item() - np.mean(losses)) < 1e-5
    assert list(terms) == ["episode_ce"]


def test_the_temperature_is_learned() -> None:
    backbone = Backbone(nn.Linear(4, 4), in_channels=1, embedding_dim=4)
    learner = MetaBaseline(Classifier(backbone, 2), Learning(way=2, shot=1, query=1))
    x = torch.randn(4, 4)
    learner(x, x)[0].backward()
    assert learner.temperature.item() == 10
    assert learner.temperature.grad is not None
