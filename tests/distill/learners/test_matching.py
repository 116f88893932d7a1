from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from edgekd.distill.learners.matching import MatchingNetwork
from edgekd.distill.tasks import Classifier
from edgekd.recipe import Learning

Draw = Callable[[int], torch.Tensor]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))


@pytest.mark.parametrize("tau", [1.0, 10.0])
@pytest.mark.parametrize(("episodes", "shot"), [(1, 1), (2, 3)])
def test_loss_is_that_of_attention_over_the_support(
    plain: Classifier, images: Draw, episodes: int, shot: int, tau: float
) -> None:
    way, query = 3, 2
    x = images(episodes * way * (shot + query))
    learner = MatchingNetwork(plain, Learning(way=way, shot=shot, query=query, temperature=tau))
    losses = []
    for episode in x.numpy().reshape(episodes, way, shot + query, 3):
        for label in range(way):
            for q in episode[label, shot:]:
                attention = np.array([[math.exp(tau * cosine(q, s)) for s in episode[c, :shot]] for c in range(way)])
                losses.append(-math.log(attention[label].sum() / attention.sum()))
    assert learner(x.float(), x)[0].item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_logits_are_log_probabilities_that_ignore_lengths(plain: Classifier, images: Draw) -> None:
    learner = MatchingNetwork(plain, Learning(way=3))
    support, query = images(6).reshape(1, 3, 2, 3), images(4).reshape(1, 4, 3)
    found = learner.logits(support, query)
    torch.testing.assert_close(found.exp().sum(2), torch.ones(1, 4, dtype=torch.float64))
    torch.testing.assert_close(learner.logits(3 * support, 0.1 * query), found)


def test_the_least_loss_at_the_papers_temperature(plain: Classifier) -> None:
    learner = MatchingNetwork(plain, Learning(way=2, shot=1, query=1, temperature=1))
    apart = torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None, None, None] * torch.ones(4, 3, 1, 1)
    assert learner(apart, apart)[0].item() == pytest.approx(math.log(1 + math.exp(-2)))
