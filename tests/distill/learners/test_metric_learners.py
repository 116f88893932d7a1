"""What the learners of episodes with a metric have in common."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from edgekd.distill.learners import LEARNERS, MetricLearner
from edgekd.distill.tasks import Classifier
from edgekd.recipe import Learning

Draw = Callable[[int], torch.Tensor]
METRIC = sorted(name for name, learner in LEARNERS.items() if issubclass(learner, MetricLearner))
SETTINGS = Learning(way=3, shot=2, query=2)


def build(name: str, classifier: Classifier, settings: Learning = SETTINGS) -> MetricLearner:
    learner = LEARNERS[name](classifier, settings)
    assert isinstance(learner, MetricLearner)
    return learner


def test_which_they_are() -> None:
    assert METRIC == ["matching", "meta_baseline", "protonet"]


@pytest.mark.parametrize("name", METRIC)
def test_gradients(name: str, plain: Classifier, images: Draw) -> None:
    learner = build(name, plain).double()
    targets = torch.arange(3).repeat_interleave(2).repeat(2)

    def loss(support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(learner.logits(support, query).flatten(0, 1), targets)

    support = images(12).reshape(2, 3, 2, 3).requires_grad_()
    query = images(13)[:12].reshape(2, 6, 3).requires_grad_()
    assert torch.autograd.gradcheck(loss, (support, query))


@pytest.mark.parametrize("name", METRIC)
def test_the_loss_is_the_mean_over_the_episodes(name: str, plain: Classifier, images: Draw) -> None:
    learner, both = build(name, plain), images(24).float()
    whole, (first, second) = learner(both, both)[0], (learner(part, part)[0] for part in (both[:12], both[12:]))
    torch.testing.assert_close(whole, (first + second) / 2)


@pytest.mark.parametrize("name", METRIC)
def test_the_order_of_support_images_and_queries_does_not_matter(name: str, plain: Classifier, images: Draw) -> None:
    learner, x = build(name, plain), images(12).float()
    swapped = x.reshape(3, 4, 3, 1, 1)[:, [1, 0, 3, 2]].flatten(0, 1)
    torch.testing.assert_close(learner(swapped, swapped)[0], learner(x, x)[0])


@pytest.mark.parametrize("name", METRIC)
def test_the_order_of_the_classes_does_not_matter(name: str, plain: Classifier, images: Draw) -> None:
    learner, x = build(name, plain), images(12).float()
    turned = x.reshape(3, 4, 3, 1, 1)[[2, 0, 1]].flatten(0, 1)
    torch.testing.assert_close(learner(turned, turned)[0], learner(x, x)[0])


@pytest.mark.parametrize("name", METRIC)
def test_embeddings_all_alike_or_zero_are_guessed(name: str, plain: Classifier) -> None:
    for value in (0.0, 1.5):
        x = torch.full((12, 3, 1, 1), value, requires_grad=True)
        loss, _ = build(name, plain)(x, x)
        loss.backward()
        assert loss.item() == pytest.approx(torch.tensor(3.0).log().item(), rel=1e-5)
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", METRIC)
def test_only_the_backbone_is_trained(name: str, plain: Classifier) -> None:
    names = {name for name, _ in build(name, plain).named_parameters()}
    assert names == ({"temperature"} if name == "meta_baseline" else set())
