from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.mmd import KernelName, NeuronSelectivity
from edgekd.errors import RecipeError

KERNELS: tuple[KernelName, ...] = ("linear", "polynomial", "gaussian")
Vectors = list[list[float]]


def _dot(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def _squared_distance(x: list[float], y: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def _channels(maps: Tensor) -> Vectors:
    flat: Vectors = maps.flatten(1).tolist()
    return [[value / math.sqrt(_dot(channel, channel)) for value in channel] for channel in flat]


def _discrepancy(ours: Vectors, theirs: Vectors, kernel: KernelName) -> float:
    across = [_squared_distance(x, y) for x in ours for y in theirs]
    variance = sum(across) / len(across)

    def k(x: list[float], y: list[float]) -> float:
        if kernel == "gaussian":
            return math.exp(-_squared_distance(x, y) / (2 * variance))
        return _dot(x, y) ** (2 if kernel == "polynomial" else 1)

    def mean(a: Vectors, b: Vectors) -> float:
        return sum(k(x, y) for x in a for y in b) / (len(a) * len(b))

    return mean(ours, ours) + mean(theirs, theirs) - 2 * mean(ours, theirs)


def _reference(student: Outputs, teacher: Outputs, layers: tuple[int, ...], kernel: KernelName) -> float:
    total = 0.0
    for layer in layers:
        images = list(zip(student.maps[layer], teacher.maps[layer], strict=True))
        total += sum(_discrepancy(_channels(s), _channels(t), kernel) for s, t in images) / len(images)
    return total


@pytest.mark.parametrize("kernel", KERNELS)
def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, kernel: KernelName) -> None:
    method = NeuronSelectivity(dims, layers=(1, 3), kernel=kernel)
    expected = _reference(student, teacher, (1, 3), kernel)
    assert method(student, teacher, samples).item() == pytest.approx(expected)


def test_defaults_are_the_last_layer_and_the_polynomial_kernel(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    ours = student.maps[4]  # (3, 3, 2, 3) beside (3, 4, 2, 2)
    narrow = torch.stack([(ours[..., 0] + ours[..., 1]) / 2, (ours[..., 1] + ours[..., 2]) / 2], dim=3)
    expected = _reference(Outputs(student.embedding, student.logits, {4: narrow}), teacher, (4,), "polynomial")
    assert NeuronSelectivity(dims)(student, teacher, samples).item() == pytest.approx(expected)


@pytest.mark.parametrize("kernel", ["linear", "polynomial"])
def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, kernel: KernelName) -> None:
    method = NeuronSelectivity(dims, layers=(4,), kernel=kernel)

    def loss(maps: Tensor) -> Tensor:
        result: Tensor = method(dataclasses.replace(student, maps={4: maps}), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.maps[4].requires_grad_(),))


def test_gradient_of_the_gaussian_kernel_holds_its_width_constant(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    """Finite differences of a reference whose sigma stays that of the first point."""
    method = NeuronSelectivity(dims, layers=(3,), kernel="gaussian")
    maps = student.maps[3].requires_grad_()
    (gradient,) = torch.autograd.grad(method(student, teacher, samples), maps)

    def unit(values: Tensor) -> Tensor:
        flat = values.flatten(2)
        return flat / flat.square().sum(2, keepdim=True).sqrt()

    theirs = unit(teacher.maps[3])
    variance = torch.cdist(unit(maps.detach()), theirs).square().mean((1, 2), keepdim=True)

    def reference(values: Tensor) -> float:
        ours = unit(values)
        pairs = ((ours, ours, 1), (theirs, theirs, 1), (ours, theirs, -2))
        parts = [w * torch.exp(-torch.cdist(a, b).square() / (2 * variance)).mean() for a, b, w in pairs]
        return float(torch.stack(parts).sum())

    for index in ((0, 0, 0, 0), (1, 1, 2, 3), (2, 0, 1, 2)):
        step = torch.zeros_like(maps)
        step[index] = 1e-5
        slope = (reference(maps.detach() + step) - reference(maps.detach() - step)) / 2e-5
        assert gradient[index].item() == pytest.approx(slope, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
def test_equal_samples_have_none(dims: Dims, student: Outputs, samples: Samples, kernel: KernelName) -> None:
    shuffled = dataclasses.replace(student, maps={4: student.maps[4].flip(1)})
    loss = NeuronSelectivity(dims, kernel=kernel)(student, shuffled, samples)
    assert loss.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_is_symmetric_and_not_negative(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, kernel: KernelName
) -> None:
    method = NeuronSelectivity(dims, kernel=kernel)
    loss = method(student, teacher, samples)
    torch.testing.assert_close(loss, method(teacher, student, samples))
    assert loss > 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_scale_of_a_channel_changes_nothing(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, kernel: KernelName
) -> None:
    method = NeuronSelectivity(dims, kernel=kernel)
    scale = torch.tensor([0.1, 3.0, 20.0], dtype=torch.float64)[:, None, None]
    grown = dataclasses.replace(student, maps={4: student.maps[4] * scale})
    torch.testing.assert_close(method(grown, teacher, samples), method(student, teacher, samples))


@pytest.mark.parametrize("kernel", KERNELS)
def test_dead_channels_have_a_finite_gradient(
    dims: Dims, student: Outputs, samples: Samples, kernel: KernelName
) -> None:
    dead = torch.zeros_like(student.maps[4], requires_grad=True)
    both = dataclasses.replace(student, maps={4: dead}), dataclasses.replace(student, maps={4: dead.detach()})
    NeuronSelectivity(dims, kernel=kernel)(*both, samples).backward()
    assert dead.grad is not None
    assert torch.isfinite(dead.grad).all()


def test_unknown_kernel_is_refused(dims: Dims) -> None:
    with pytest.raises(RecipeError, match="mmd: kernel is 'cubic'; it is one of linear, polynomial, gaussian"):
        NeuronSelectivity(dims, kernel="cubic")  # type: ignore[arg-type]
