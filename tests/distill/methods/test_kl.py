from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.kd import SoftTargets
from edgekd.distill.methods.kl import SharpenedTargets
from edgekd.errors import RecipeError


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def _reference(teacher: Outputs, student: Outputs, tau: float) -> float:
    rows = zip(teacher.logits.detach().numpy(), student.logits.detach().numpy(), strict=True)
    pairs = [(_softmax(u_t / tau), _softmax(u_s)) for u_t, u_s in rows]
    return float(np.mean([np.sum(p * (np.log(p) - np.log(q))) for p, q in pairs]))


@pytest.mark.parametrize("tau", [0.25, 1.0, 2.0])
def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, tau: float) -> None:
    loss = SharpenedTargets(dims, tau=tau)(student, teacher, samples)
    assert float(loss) == pytest.approx(_reference(teacher, student, tau))


def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    def loss(logits: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = SharpenedTargets(dims)(Outputs(student.embedding, logits), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.logits.requires_grad_(),))


def test_zero_for_a_student_as_sharp_as_the_sharpened_teacher(dims: Dims, teacher: Outputs, samples: Samples) -> None:
    sharp = Outputs(teacher.embedding, teacher.logits / 0.25)
    assert float(SharpenedTargets(dims)(sharp, teacher, samples)) == pytest.approx(0, abs=1e-12)


def test_at_one_it_is_kd_at_one(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    plain = SharpenedTargets(dims, tau=1.0)(student, teacher, samples)
    torch.testing.assert_close(plain, SoftTargets(dims, temperature=1.0)(student, teacher, samples))


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan")])
def test_impossible_tau_is_refused(dims: Dims, tau: float) -> None:
    with pytest.raises(RecipeError, match="tau"):
        SharpenedTargets(dims, tau=tau)
