"""Against softmax regression on a linear embedding, whose inner gradients are written down in NumPy.

Tolerances are those of fp32: a classifier's outputs are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edgekd.distill.backbones import Backbone, build_backbone
from edgekd.distill.learners.anil import ANIL
from edgekd.distill.learners.fomaml import FirstOrderMAML
from edgekd.distill.learners.maml import MAML
from edgekd.distill.tasks import Classifier
from edgekd.recipe import Learning

Draw = Callable[[int], torch.Tensor]
Floats = NDArray[np.float64]
Weights = tuple[Floats, Floats, Floats]  # body (2, 3), head (way, 2), bias (way,)

WAY, SHOT, QUERY, LR, STEPS = 3, 2, 2, 0.3, 3
SETTINGS = Learning(way=WAY, shot=SHOT, query=QUERY, inner_lr=LR, inner_steps=STEPS)


def loss_and_gradients(weights: Weights, x: Floats, labels: Floats) -> tuple[float, Weights]:
    """Cross-entropy of softmax(W A x + b) and its derivatives by hand."""
    body, head, bias = weights
    z = x @ body.T
    logits = z @ head.T + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    error = (p - np.eye(len(bias))[labels.astype(int)]) / len(x)
    loss = -np.log(p[np.arange(len(x)), labels.astype(int)]).mean()
    return float(loss), ((error @ head).T @ x, error.T @ z, error.sum(0))


def outer_loss(weights: Weights, x: Floats, *, body_adapts: bool) -> float:
    return loss_and_gradients(adapted(weights, x, body_adapts=body_adapts), *part(x, SHOT, None))[0]


def part(x: Floats, start: int | None, end: int | None) -> tuple[Floats, Floats]:
    """Return the images of one episode (way, shot + query, 3) from `start` to `end` in each class, and labels."""
    chosen = x[:, start:end]
    return chosen.reshape(-1, 3), np.repeat(np.arange(WAY), chosen.shape[1]).astype(float)


def adapted(weights: Weights, x: Floats, *, body_adapts: bool) -> Weights:
    body, head, bias = weights
    for _ in range(STEPS):
        _, (d_body, d_head, d_bias) = loss_and_gradients((body, head, bias), *part(x, None, SHOT))
        body, head, bias = body - LR * d_body * body_adapts, head - LR * d_head, bias - LR * d_bias
    return body, head, bias


def finite_differences(weights: Weights, x: Floats, *, body_adapts: bool) -> list[Floats]:
    gradients = []
    for index, weight in enumerate(weights):
        gradient = np.zeros_like(weight)
        for place in np.ndindex(weight.shape):
            values = []
            for step in (1e-5, -1e-5):
                moved = [w.copy() for w in weights]
                moved[index][place] += step
                values.append(outer_loss((moved[0], moved[1], moved[2]), x, body_adapts=body_adapts))
            gradient[place] = (values[0] - values[1]) / 2e-5
        gradients.append(gradient)
    return gradients


def parameters(learner: MAML | ANIL) -> list[torch.Tensor]:
    network = learner.network if isinstance(learner, MAML) else learner
    backbone, head = network.backbone, network.head
    assert isinstance(backbone, nn.Module)
    assert isinstance(head, nn.Linear)
    return [*backbone.parameters(), head.weight, head.bias]


def weights_of(learner: MAML | ANIL) -> Weights:
    body, head, bias = (parameter.detach().numpy().copy() for parameter in parameters(learner))
    return body, head, bias


def query_loss(learner: MAML | ANIL, x: torch.Tensor) -> torch.Tensor:
    episode = x.reshape(WAY, SHOT + QUERY, 3, 1, 1)
    if isinstance(learner, ANIL):
        episode = learner.backbone(x).reshape(WAY, SHOT + QUERY, -1)
    return learner.query_loss(episode[:, :SHOT], episode[:, SHOT:])


@pytest.mark.parametrize("kind", [MAML, FirstOrderMAML, ANIL])
def test_the_loss_is_that_of_the_queries_after_the_inner_steps(
    linear: Classifier, images: Draw, kind: type[MAML | ANIL]
) -> None:
    learner, x = kind(linear, SETTINGS).double(), images(WAY * (SHOT + QUERY))
    episode = x.numpy().reshape(WAY, SHOT + QUERY, 3)
    expected = outer_loss(weights_of(learner), episode, body_adapts=kind is not ANIL)
    assert query_loss(learner, x).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", [MAML, ANIL])
def test_the_gradient_goes_through_the_inner_steps(linear: Classifier, images: Draw, kind: type[MAML | ANIL]) -> None:
    learner, x = kind(linear, SETTINGS).double(), images(WAY * (SHOT + QUERY))
    torch.autograd.backward(query_loss(learner, x))
    episode = x.numpy().reshape(WAY, SHOT + QUERY, 3)
    expected = finite_differences(weights_of(learner), episode, body_adapts=kind is MAML)
    for parameter, gradient in zip(parameters(learner), expected, strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad.numpy(), gradient, rtol=1e-5, atol=1e-7)


def test_the_first_order_gradient_is_that_at_the_adapted_weights(linear: Classifier, images: Draw) -> None:
    learner, x = FirstOrderMAML(linear, SETTINGS).double(), images(WAY * (SHOT + QUERY))
    torch.autograd.backward(query_loss(learner, x))
    episode = x.numpy().reshape(WAY, SHOT + QUERY, 3)
    _, expected = loss_and_gradients(
        adapted(weights_of(learner), episode, body_adapts=True), *part(episode, SHOT, None)
    )
    for parameter, gradient in zip(parameters(learner), expected, strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad.numpy(), gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [MAML, FirstOrderMAML, ANIL])
def test_the_loss_is_the_mean_over_the_episodes(linear: Classifier, images: Draw, kind: type[MAML | ANIL]) -> None:
    learner, x = kind(linear, SETTINGS).float(), images(24).float()
    alone = [query_loss(learner, episode) for episode in (x[:12], x[12:])]
    loss, terms = learner(x, torch.zeros(24))
    torch.testing.assert_close(loss, (alone[0] + alone[1]) / 2)
    assert list(terms) == ["episode_ce"]


def conv4(width: int) -> tuple[Backbone, torch.Tensor]:
    torch.manual_seed(0)
    return build_backbone(f"conv4-{width}", 3), torch.randn(WAY * (SHOT + QUERY), 3, 16, 16)


@pytest.mark.parametrize("kind", [MAML, FirstOrderMAML])
def test_running_statistics_are_those_of_the_unadapted_weights(kind: type[MAML]) -> None:
    backbone, x = conv4(4)
    alone, _ = conv4(4)
    learner = kind(Classifier(backbone, 5), SETTINGS)
    learner(x, x)[0].backward()
    with torch.no_grad():
        alone(x)  # in training mode, once
    for (name, found), (_, expected) in zip(backbone.named_buffers(), alone.named_buffers(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)


def test_frozen_batchnorm_keeps_its_statistics() -> None:
    backbone, x = conv4(4)
    learner = MAML(Classifier(backbone, 5), SETTINGS).eval()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    learner(x, x)[0].backward()
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())


@pytest.mark.parametrize("kind", [MAML, FirstOrderMAML, ANIL])
def test_bf16_autocast_leaves_the_inner_loop_in_fp32(kind: type[MAML | ANIL]) -> None:
    backbone, x = conv4(8)
    learner = kind(Classifier(backbone, 5), SETTINGS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = learner(x, x)
    loss.backward()
    assert loss.dtype == torch.float32
    gradients = [parameter.grad for parameter in learner.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("kind", [MAML, FirstOrderMAML, ANIL])
def test_weights_that_are_frozen_do_not_adapt(images: Draw, linear: Classifier, kind: type[MAML | ANIL]) -> None:
    linear.backbone.requires_grad_(requires_grad=False)
    learner = kind(linear, SETTINGS).double()
    torch.autograd.backward(query_loss(learner, images(12)))
    body, head, bias = parameters(learner)
    assert body.grad is None
    assert head.grad is not None
    assert bias.grad is not None
