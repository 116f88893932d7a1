from __future__ import annotations

import math

import pytest
import torch

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.ce import CrossEntropy
from edgekd.errors import RecipeError


def _reference(logits: list[list[float]], labels: list[int], smoothing: float) -> float:
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        normalizer = math.log(sum(math.exp(u) for u in row))
        for index, u in enumerate(row):
            target = (1 - smoothing) * (index == label) + smoothing / len(row)
            total -= target * (u - normalizer)
    return total / len(logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, smoothing: float) -> None:
    loss = CrossEntropy(dims, label_smoothing=smoothing)(student, teacher, samples)
    assert float(loss) == pytest.approx(_reference(student.logits.tolist(), samples.labels.tolist(), smoothing))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, smoothing: float) -> None:
    method = CrossEntropy(dims, label_smoothing=smoothing)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = method(Outputs(student.embedding, logits), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.logits.requires_grad_(),))


def test_a_sure_and_right_student_has_none(dims: Dims, teacher: Outputs, samples: Samples) -> None:
    sure = 100.0 * torch.eye(dims.classes, dtype=torch.float64)[samples.labels]
    loss = CrossEntropy(dims)(Outputs(torch.zeros(3, 3), sure), teacher, samples)
    assert float(loss) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_impossible_smoothing_is_refused(dims: Dims, smoothing: float) -> None:
    with pytest.raises(RecipeError, match="label_smoothing"):
        CrossEntropy(dims, label_smoothing=smoothing)
