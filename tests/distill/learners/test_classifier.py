from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from edgekd.distill.learners.classifier import ClassifierBaseline
from edgekd.distill.tasks import Classifier
from edgekd.recipe import Learning

Draw = Callable[[int], torch.Tensor]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("n", [1, 5])
def test_loss_is_cross_entropy_with_smoothed_labels(plain: Classifier, images: Draw, n: int, smoothing: float) -> None:
    labels = torch.arange(n) % 4
    loss, terms = ClassifierBaseline(plain, Learning(label_smoothing=smoothing))(images(n).float(), labels)
    weight, bias = plain.head.weight.detach().numpy(), plain.head.bias.detach().numpy()
    losses = []
    for x, label in zip(images(n).numpy().reshape(n, 3), labels.tolist(), strict=True):
        logits = weight @ x + bias
        target = (1 - smoothing) * np.eye(4)[label] + smoothing / 4
        losses.append(-target @ (logits - np.log(np.exp(logits).sum())))
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert list(terms) == ["ce"]


def test_it_trains_the_head_too(plain: Classifier, images: Draw) -> None:
    learner = ClassifierBaseline(plain, Learning())
    learner(images(4).float(), torch.arange(4))[0].backward()
    assert learner.trains_head
    assert plain.head.weight.grad is not None
