from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.calibrated_mse import CalibratedMSE
from edgekd.distill.methods.feature_mse import FeatureMSE


def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = FeatureMSE(dims).double()
    weight, bias = method.projection.weight.detach().numpy(), method.projection.bias.detach().numpy()
    error = student.embedding.numpy() @ weight.T + bias - teacher.embedding.numpy()
    assert method(student, teacher, samples).item() == pytest.approx(float(np.mean(error**2)))


def test_it_is_the_calibrated_error_at_beta_one(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    plain, calibrated = FeatureMSE(dims).double(), CalibratedMSE(dims, beta=1.0).double()
    calibrated.load_state_dict(plain.state_dict())
    torch.testing.assert_close(plain(student, teacher, samples), calibrated(student, teacher, samples))


def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = FeatureMSE(dims).double()

    def loss(embedding: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = method(Outputs(embedding, student.logits), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.embedding.requires_grad_(),))


def test_no_error_has_no_loss(dims: Dims, student: Outputs, samples: Samples) -> None:
    method = FeatureMSE(dims).double()
    mapped = Outputs(method.projection(student.embedding), student.logits)
    assert method(student, mapped, samples).item() == 0
