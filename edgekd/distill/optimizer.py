"""Optimizers, their learning-rate schedules, and their state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from edgekd.recipe import Schedule

SCHEDULES: dict[str, Callable[[float, Schedule], float]] = {}

_S = TypeVar("_S", bound=Schedule)


def _register(function: Callable[[float, Schedule], float]) -> Callable[[float, Schedule], float]:
    SCHEDULES[function.__name__] = function
    return function


@_register
def cosine(epoch: float, schedule: Schedule) -> float:
    """Half a cosine from 1 to 0. Loshchilov & Hutter, SGDR, ICLR 2017, arXiv 1608.03983."""
    return 0.5 * (1 + math.cos(math.pi * epoch / max(schedule.epochs, 1e-9)))


@_register
def step(epoch: float, schedule: Schedule) -> float:
    """Multiply by gamma at each milestone (in epochs)."""
    return float(schedule.gamma ** sum(epoch >= milestone for milestone in schedule.milestones))


@_register
def inverse_sqrt(epoch: float, _schedule: Schedule) -> float:
    """1 / sqrt(1 + epoch): steps that shrink without an end in sight."""
    return 1 / math.sqrt(1 + epoch)


def learning_rate(schedule: Schedule, epoch: float) -> float:
    """Return the learning rate at a fractional epoch, warm-up included."""
    warmup = min(1.0, epoch / schedule.warmup_epochs) if schedule.warmup_epochs else 1.0
    return schedule.lr * max(warmup, 0.01) * SCHEDULES[schedule.schedule](epoch, schedule)


def compress(schedule: _S, share: float) -> _S:
    """Return the whole schedule, warm-up and milestones included, in `share` of its epochs.

    Source: J. Cho & B. Hariharan, On the Efficacy of Knowledge Distillation, ICCV 2019, arXiv 1910.01348.
    """
    scaled = {
        "epochs": share * schedule.epochs,
        "warmup_epochs": share * schedule.warmup_epochs,
        "milestones": tuple(share * milestone for milestone in schedule.milestones),
    }
    return schedule.model_copy(update=scaled)


def build_optimizer(task: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """Return the schedule's optimizer over the trainable parameters.

    Biases and normalization (one-dimensional) are not decayed.
    AdamW: I. Loshchilov & F. Hutter, Decoupled Weight Decay Regularization, ICLR 2019, arXiv 1711.05101.
    """
    trainable = [parameter for parameter in task.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=schedule.lr)
    nesterov = schedule.nesterov and schedule.momentum > 0
    return torch.optim.SGD(groups, lr=schedule.lr, momentum=schedule.momentum, nesterov=nesterov)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's tensors as `index.name`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value for index, slot in state.items() for name, value in slot.items() if value is not None
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
