from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.adversarial import Adversarial
from edgekd.errors import RecipeError


def _probability(method: Adversarial, embedding: list[float]) -> float:
    """D(z) by loops: linear, leaky ReLU, linear, sigmoid."""
    first, last = method.discriminator[0], method.discriminator[2]
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(last, torch.nn.Linear)
    hidden = []
    for row, offset in zip(first.weight.tolist(), first.bias.tolist(), strict=True):
        value = sum(w * z for w, z in zip(row, embedding, strict=True)) + offset
        hidden.append(value if value > 0 else 0.2 * value)
    score = sum(w * h for w, h in zip(last.weight.tolist()[0], hidden, strict=True)) + last.bias.item()
    return 1 / (1 + math.exp(-score))


def _reference(method: Adversarial, student: Outputs, teacher: Outputs) -> float:
    weight, bias = method.projection.weight.tolist(), method.projection.bias.tolist()
    terms = []
    for z_s, z_t in zip(student.embedding.tolist(), teacher.embedding.tolist(), strict=True):
        mapped = [sum(w * z for w, z in zip(row, z_s, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        terms.append(math.log(_probability(method, z_t)) + math.log(1 - _probability(method, mapped)))
    return -sum(terms) / len(terms) / 2


@pytest.fixture
def method(dims: Dims) -> Adversarial:
    torch.manual_seed(5)
    return Adversarial(dims).double()


def test_value(method: Adversarial, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    assert method(student, teacher, samples).item() == pytest.approx(_reference(method, student, teacher))


def _slope(method: Adversarial, tensor: Tensor, student: Outputs, teacher: Outputs) -> Tensor:
    """Finite differences of the reference over each element of `tensor`, which is changed in place."""
    slopes = torch.zeros_like(tensor)
    values, slots = tensor.detach().view(-1), slopes.view(-1)
    for index in range(len(values)):
        before = values[index].item()
        values[index] = before + 1e-6
        above = _reference(method, student, teacher)
        values[index] = before - 1e-6
        slots[index] = (above - _reference(method, student, teacher)) / 2e-6
        values[index] = before
    return slopes


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_gradients_are_the_discriminators_and_the_students_turned_round(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, strength: float
) -> None:
    method = Adversarial(dims, strength=strength).double()
    embedding = student.embedding.requires_grad_()
    method(student, teacher, samples).backward()
    for parameter in method.discriminator.parameters():
        torch.testing.assert_close(parameter.grad, _slope(method, parameter, student, teacher), rtol=1e-4, atol=1e-8)
    for turned in (embedding, method.projection.weight, method.projection.bias):
        slope = _slope(method, turned, student, teacher)
        torch.testing.assert_close(turned.grad, -strength * slope, rtol=1e-4, atol=1e-8)


def test_a_step_of_the_discriminator_lowers_the_loss_and_one_of_the_student_raises_it(
    method: Adversarial, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    embedding = student.embedding.requires_grad_()
    before = method(student, teacher, samples)
    before.backward()
    assert embedding.grad is not None
    moved = dataclasses.replace(student, embedding=(embedding - 0.01 * embedding.grad).detach())
    assert method(moved, teacher, samples) > before
    torch.optim.SGD(method.discriminator.parameters(), 0.01).step()
    assert method(student, teacher, samples) < before


def test_a_discriminator_that_guesses_has_log_2(
    method: Adversarial, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    for parameter in method.discriminator.parameters():
        torch.nn.init.zeros_(parameter)
    assert method(student, teacher, samples).item() == pytest.approx(math.log(2))


def test_the_order_of_the_batch_changes_nothing(
    method: Adversarial, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    turned = dataclasses.replace(student, embedding=student.embedding.flip(0))
    torch.testing.assert_close(method(turned, teacher, samples), method(student, teacher, samples))


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_strength_is_refused(dims: Dims, strength: float) -> None:
    with pytest.raises(RecipeError, match="adversarial: strength is"):
        Adversarial(dims, strength=strength)
