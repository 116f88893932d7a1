from __future__ import annotations

import math

import pytest
import torch

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.calibrated_mse import CalibratedMSE
from edgekd.errors import RecipeError


def _reference(method: CalibratedMSE, student: Outputs, teacher: Outputs, beta: float) -> float:
    weight, bias = method.projection.weight.tolist(), method.projection.bias.tolist()
    squares = []
    for z_s, z_t in zip(student.embedding.tolist(), teacher.embedding.tolist(), strict=True):
        for row, offset, target in zip(weight, bias, z_t, strict=True):
            e = sum(w * z for w, z in zip(row, z_s, strict=True)) + offset - target
            calibrated = math.copysign(abs(e) ** beta, e)
            squares.append(calibrated**2)
    return sum(squares) / len(squares)


@pytest.mark.parametrize("beta", [0.5, 0.8, 1.0])
def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, beta: float) -> None:
    method = CalibratedMSE(dims, beta=beta).double()
    assert method(student, teacher, samples).item() == pytest.approx(_reference(method, student, teacher, beta))


def test_default_beta(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = CalibratedMSE(dims).double()
    assert method(student, teacher, samples).item() == pytest.approx(_reference(method, student, teacher, 0.8))


def test_gradient_of_embedding_and_map(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = CalibratedMSE(dims).double()

    def loss(embedding: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        parameters = {"projection.weight": weight, "projection.bias": bias}
        outputs = (Outputs(embedding, student.logits), teacher, samples)
        result: torch.Tensor = torch.func.functional_call(method, parameters, outputs)
        return result

    inputs = (student.embedding.requires_grad_(), method.projection.weight, method.projection.bias)
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("beta", [0.5, 0.8, 1.0])
def test_no_error_has_no_loss_and_a_finite_gradient(
    dims: Dims, student: Outputs, samples: Samples, beta: float
) -> None:
    method = CalibratedMSE(dims, beta=beta).double()
    embedding = student.embedding.requires_grad_()
    mapped = method.projection(embedding).detach()
    loss = method(Outputs(embedding, student.logits), Outputs(mapped, student.logits), samples)
    loss.backward()
    assert loss.item() == 0
    assert embedding.grad is not None
    assert torch.count_nonzero(embedding.grad) == 0


@pytest.mark.parametrize("beta", [0.0, 0.49, 1.1, float("nan")])
def test_impossible_beta_is_refused(dims: Dims, beta: float) -> None:
    with pytest.raises(RecipeError, match="beta"):
        CalibratedMSE(dims, beta=beta)
