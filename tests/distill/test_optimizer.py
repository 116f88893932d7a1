from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from edgekd.distill.optimizer import build_optimizer, compress, learning_rate, load_optimizer_tensors, optimizer_tensors
from edgekd.recipe import Schedule


def test_cosine_ends_at_zero_and_is_half_way_in_the_middle() -> None:
    schedule = Schedule(epochs=10, lr=0.2, warmup_epochs=0)
    assert [learning_rate(schedule, epoch) for epoch in (0, 5, 10)] == pytest.approx([0.2, 0.1, 0.0])


def test_step_multiplies_at_each_milestone() -> None:
    schedule = Schedule(epochs=160, lr=0.025, schedule="step", milestones=(70, 100, 130), gamma=0.1, warmup_epochs=0)
    assert [learning_rate(schedule, epoch) for epoch in (69, 70, 100, 159)] == pytest.approx(
        [0.025, 0.0025, 0.00025, 0.000025]
    )


def test_warmup_is_linear() -> None:
    schedule = Schedule(epochs=100, lr=1.0, warmup_epochs=2)
    assert learning_rate(schedule, 1) == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi / 100)))


@pytest.mark.parametrize("kind", ["cosine", "step"])
@pytest.mark.parametrize("share", [0.5, 0.3, 1.0])
def test_a_compressed_schedule_is_the_whole_one_run_through_faster(kind: str, share: float) -> None:
    values = {"epochs": 10, "schedule": kind, "milestones": (4, 7), "warmup_epochs": 2, "lr": 0.2}
    schedule = Schedule.model_validate(values)
    compressed = compress(schedule, share)
    assert compressed.epochs == pytest.approx(10 * share)
    whole = [learning_rate(schedule, epoch / 8) for epoch in range(80)]
    fast = [learning_rate(compressed, share * epoch / 8) for epoch in range(80)]
    assert fast == pytest.approx(whole)


def test_only_matrices_are_decayed() -> None:
    groups = build_optimizer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), Schedule()).param_groups
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0]
    assert [[parameter.ndim for parameter in group["params"]] for group in groups] == [[4], [1, 1, 1]]


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_state_survives_as_tensors(kind: str) -> None:
    def network() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(3, 2)

    a, b = network(), network()
    schedule = Schedule.model_validate({"optimizer": kind, "lr": 0.1})
    first, second = build_optimizer(a, schedule), build_optimizer(b, schedule)
    x = torch.randn(5, 3)

    def step(net: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    step(a, first)
    b.load_state_dict(a.state_dict())
    load_optimizer_tensors(second, {name: value.clone() for name, value in optimizer_tensors(first).items()})
    step(a, first)
    step(b, second)
    assert torch.equal(a.weight, b.weight)


def test_inverse_sqrt_shrinks_with_the_epochs() -> None:
    schedule = Schedule(epochs=200, lr=0.6, schedule="inverse_sqrt", warmup_epochs=0)
    assert [learning_rate(schedule, epoch) for epoch in (0, 3, 8, 99)] == pytest.approx([0.6, 0.3, 0.2, 0.06])
