from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgekd.distill.methods import Dims, Outputs, Samples, needs_of
from edgekd.distill.methods.ce import CrossEntropy
from edgekd.distill.methods.kd import SoftTargets
from edgekd.distill.methods.kd_labels import LabelledTargets
from edgekd.errors import RecipeError


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def _reference(student: Outputs, teacher: Outputs, samples: Samples, balance: float, temperature: float) -> float:
    losses = []
    for u_s, u_t, y in zip(student.logits.numpy(), teacher.logits.numpy(), samples.labels.tolist(), strict=True):
        hard = -np.log(_softmax(u_s)[y])
        soft = -np.sum(_softmax(u_t / temperature) * np.log(_softmax(u_s / temperature)))
        losses.append(balance * hard + (1 - balance) * temperature**2 * soft)
    return float(np.mean(losses))


@pytest.mark.parametrize(("balance", "temperature"), [(0.0, 1.0), (0.1, 1.0), (0.7, 3.0), (1.0, 1.0)])
def test_value(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, *, balance: float, temperature: float
) -> None:
    loss = LabelledTargets(dims, balance=balance, temperature=temperature)(student, teacher, samples)
    assert float(loss) == pytest.approx(_reference(student, teacher, samples, balance, temperature))


def test_defaults_are_those_of_the_source(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    loss = LabelledTargets(dims)(student, teacher, samples)
    assert float(loss) == pytest.approx(_reference(student, teacher, samples, 0.1, 1.0))


def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    def loss(logits: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = LabelledTargets(dims, temperature=2.0)(
            Outputs(student.embedding, logits), teacher, samples
        )
        return result

    assert torch.autograd.gradcheck(loss, (student.logits.requires_grad_(),))


def test_it_pulls_as_weighted_labels_and_soft_targets_do(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    """Cross-entropy and divergence differ by the teacher's entropy, which has no gradient."""
    logits = student.logits.requires_grad_()
    method, labels, soft = LabelledTargets(dims, balance=0.3, temperature=2.0), CrossEntropy(dims), SoftTargets(dims)
    soft.temperature = 2.0
    (gradient,) = torch.autograd.grad(method(student, teacher, samples), logits)
    (of_labels,) = torch.autograd.grad(labels(student, teacher, samples), logits)
    (of_soft,) = torch.autograd.grad(soft(student, teacher, samples), logits)
    torch.testing.assert_close(gradient, 0.3 * of_labels + 0.7 * of_soft)


def test_it_needs_labels_and_a_teacher() -> None:
    needs = needs_of("kd_labels")
    assert (needs.teacher, needs.labels, needs.online) == (True, True, False)


@pytest.mark.parametrize(
    ("option", "value"), [("balance", -0.1), ("balance", 1.1), ("balance", float("nan")), ("temperature", 0.0)]
)
def test_impossible_options_are_refused(dims: Dims, option: str, value: float) -> None:
    with pytest.raises(RecipeError, match=f"kd_labels: {option} is {value}"):
        LabelledTargets(dims, **{option: value})
