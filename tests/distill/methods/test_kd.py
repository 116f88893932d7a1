from __future__ import annotations

import math

import pytest
import torch

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.kd import SoftTargets
from edgekd.errors import RecipeError


def _softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(u / temperature) for u in logits]
    return [power / sum(powers) for power in powers]


def _reference(teacher: list[list[float]], student: list[list[float]], temperature: float) -> float:
    total = 0.0
    for u_t, u_s in zip(teacher, student, strict=True):
        p, q = _softmax(u_t, temperature), _softmax(u_s, temperature)
        total += sum(p_c * math.log(p_c / q_c) for p_c, q_c in zip(p, q, strict=True))
    return temperature**2 * total / len(teacher)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, temperature: float) -> None:
    loss = SoftTargets(dims, temperature=temperature)(student, teacher, samples)
    assert float(loss) == pytest.approx(_reference(teacher.logits.tolist(), student.logits.tolist(), temperature))


def test_default_temperature(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    loss = SoftTargets(dims)(student, teacher, samples)
    assert float(loss) == pytest.approx(_reference(teacher.logits.tolist(), student.logits.tolist(), 4.0))


def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    def loss(logits: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = SoftTargets(dims)(Outputs(student.embedding, logits), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.logits.requires_grad_(),))


def test_gradient_keeps_its_size_as_the_temperature_grows(dims: Dims, student: Outputs, teacher: Outputs) -> None:
    logits = student.logits.requires_grad_()
    unused = torch.zeros(3, dtype=torch.int64)
    for temperature in (100.0, 1000.0):
        loss = SoftTargets(dims, temperature=temperature)(Outputs(student.embedding, logits), teacher, unused)
        (gradient,) = torch.autograd.grad(loss, logits)
        # Hinton et al., equation 4: for large T it tends to the difference of centred logits over the classes.
        difference = (logits - logits.mean(1, keepdim=True)) - (teacher.logits - teacher.logits.mean(1, keepdim=True))
        torch.testing.assert_close(gradient, difference / (dims.classes * len(logits)), atol=0.02, rtol=0)


def test_the_teacher_itself_has_none(dims: Dims, teacher: Outputs, samples: Samples) -> None:
    assert float(SoftTargets(dims)(teacher, teacher, samples)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_impossible_temperature_is_refused(dims: Dims, temperature: float) -> None:
    with pytest.raises(RecipeError, match="temperature"):
        SoftTargets(dims, temperature=temperature)
