from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from edgekd.distill.learners.siamese import SiameseNetwork, triplet_accuracy_on_sphere
from edgekd.distill.tasks import Classifier
from edgekd.recipe import Learning
from edgekd.siamese import triplet_accuracy

Draw = Callable[[int], torch.Tensor]


@pytest.mark.parametrize("triplets", [1, 6])
@pytest.mark.parametrize("margin", [0.2, 1.5])
def test_loss_is_the_hinge_of_squared_distances(plain: Classifier, images: Draw, triplets: int, margin: float) -> None:
    x = images(3 * triplets)
    loss, terms = SiameseNetwork(plain, Learning(margin=margin))(x.float(), x)
    losses, near = [], []
    for triplet in x.numpy().reshape(triplets, 3, 3):
        a, p, n = (row / np.sqrt((row**2).sum()) for row in triplet)
        d_p, d_n = ((a - p) ** 2).sum(), ((a - n) ** 2).sum()
        losses.append(max(d_p - d_n + margin, 0))
        near.append(d_p < d_n)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert terms["triplet_accuracy"].item() == pytest.approx(np.mean(near))


def test_gradient(plain: Classifier, images: Draw) -> None:
    learner = SiameseNetwork(plain, Learning(margin=0.5))
    embedding = images(12).flatten(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: learner.loss(z)[0], (embedding,))


def test_triplets_far_enough_apart_cost_nothing(plain: Classifier) -> None:
    x = torch.tensor([[1.0, 0, 0], [2.0, 0, 0], [0, 1.0, 0]])[:, :, None, None].requires_grad_()
    loss, terms = SiameseNetwork(plain, Learning())(x, x)
    loss.backward()
    assert loss.item() == 0
    assert terms["triplet_accuracy"].item() == 1
    assert x.grad is not None
    assert torch.count_nonzero(x.grad) == 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_embeddings_all_alike_cost_the_margin(plain: Classifier, value: float) -> None:
    x = torch.full((6, 3, 1, 1), value, requires_grad=True)
    loss, terms = SiameseNetwork(plain, Learning(margin=0.3))(x, x)
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert terms["triplet_accuracy"].item() == 0
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_its_own_measure_sees_directions_only() -> None:
    random = np.random.default_rng(0)
    embeddings, labels = random.normal(size=(40, 3)), np.repeat(np.arange(4), 10)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    scaled = embeddings * random.uniform(0.1, 10, (40, 1))
    assert triplet_accuracy_on_sphere(scaled, labels) == triplet_accuracy(unit, labels)
    assert triplet_accuracy_on_sphere(np.zeros((40, 3)), labels) == 0
