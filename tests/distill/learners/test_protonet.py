from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from edgekd.distill.learners.protonet import PrototypicalNetwork
from edgekd.distill.tasks import Classifier
from edgekd.recipe import Learning

Draw = Callable[[int], torch.Tensor]


@pytest.mark.parametrize(("episodes", "shot"), [(1, 1), (2, 3)])
def test_loss_is_that_of_squared_distances_to_the_class_means(
    plain: Classifier, images: Draw, episodes: int, shot: int
) -> None:
    way, query = 3, 2
    x = images(episodes * way * (shot + query))
    loss, _ = PrototypicalNetwork(plain, Learning(way=way, shot=shot, query=query))(x.float(), x)
    losses = []
    for episode in x.numpy().reshape(episodes, way, shot + query, 3):
        means = [sum(episode[c, :shot]) / shot for c in range(way)]
        for label in range(way):
            for q in episode[label, shot:]:
                distances = np.array([sum((a - b) ** 2 for a, b in zip(q, m, strict=True)) for m in means])
                losses.append(distances[label] + np.log(np.exp(-distances).sum()))
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_translation_of_all_embeddings_changes_nothing(plain: Classifier, images: Draw) -> None:
    learner, x = PrototypicalNetwork(plain, Learning(way=3, shot=2, query=2)), images(12).float()
    torch.testing.assert_close(learner(x + 2, x)[0], learner(x, x)[0])
