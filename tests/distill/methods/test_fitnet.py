from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.fitnet import FitNet
from edgekd.errors import RecipeError

Array = NDArray[np.float64]


@pytest.fixture
def dims() -> Dims:
    """Layers of different sizes on the two sides."""
    ours = {1: (2, 6, 5), 2: (3, 3, 2), 3: (3, 1, 1)}
    theirs = {1: (4, 4, 4), 2: (5, 2, 2), 3: (3, 1, 1), 4: (2, 5, 5)}
    return Dims(student=3, teacher=4, classes=5, student_maps=ours, teacher_maps=theirs)


def _convolved(maps: Array, weight: Array, bias: Array) -> Array:
    """A convolution without padding, by loops over positions."""
    height, width = (size - kernel + 1 for size, kernel in zip(maps.shape[2:], weight.shape[2:], strict=True))
    out = np.empty((len(maps), len(weight), height, width))
    for row in range(height):
        for column in range(width):
            window = maps[:, :, row : row + weight.shape[2], column : column + weight.shape[3]]
            out[:, :, row, column] = np.einsum("bihw,oihw->bo", window, weight) + bias
    return out


def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    """The student's 6x5 maps come to the teacher's 4x4 by a 3x2 kernel."""
    method = FitNet(dims, layers=(1,)).double()
    weight, bias = (parameter.detach().numpy() for parameter in method.parameters())
    assert weight.shape == (4, 2, 3, 2)
    error = _convolved(student.maps[1].numpy(), weight, bias) - teacher.maps[1].numpy()
    assert method(student, teacher, samples).item() == pytest.approx(float(0.5 * np.mean(error**2)))


def test_a_larger_map_of_the_teacher_is_pooled(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    method = FitNet(dims, layers=(3,), teacher_layers=(1,)).double()
    weight, bias = (parameter.detach().numpy() for parameter in method.parameters())
    hint = teacher.maps[1].numpy().mean((2, 3), keepdims=True)
    error = _convolved(student.maps[3].numpy(), weight, bias) - hint
    assert method(student, teacher, samples).item() == pytest.approx(float(0.5 * np.mean(error**2)))


def test_the_middle_layers_are_the_default(dims: Dims) -> None:
    method = FitNet(dims)
    assert (method.student_layers, method.teacher_layers) == ((2,), (2,))
    assert FitNet(dims, teacher_layers=(1,)).teacher_layers == (1,)


def test_layers_are_averaged(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    both = FitNet(dims, layers=(1, 3)).double()
    values = []
    for layer, regressor in zip((1, 3), both.regressors, strict=True):
        assert isinstance(regressor, nn.Conv2d)
        alone = FitNet(dims, layers=(layer,)).double()
        alone.regressors[0] = regressor
        values.append(alone(student, teacher, samples).item())
    assert both(student, teacher, samples).item() == pytest.approx(sum(values) / 2)


def test_gradients_of_map_and_regressor(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = FitNet(dims, layers=(1,)).double()

    def loss(maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        parameters = {"regressors.0.weight": weight, "regressors.0.bias": bias}
        outputs = (Outputs(student.embedding, student.logits, {1: maps}), teacher, samples)
        result: torch.Tensor = torch.func.functional_call(method, parameters, outputs)
        return result

    assert torch.autograd.gradcheck(loss, (student.maps[1].requires_grad_(), *method.parameters()))


def test_no_error_has_no_loss(dims: Dims, student: Outputs, samples: Samples) -> None:
    method = FitNet(dims, layers=(1,)).double()
    hint = {1: method.regressors[0](student.maps[1])}
    assert method(student, Outputs(student.embedding, student.logits, hint), samples).item() == 0


def test_layers_that_cannot_be_paired(dims: Dims) -> None:
    with pytest.raises(RecipeError, match=r"fitnet: layers .* are compared one by one"):
        FitNet(dims, layers=(1, 2), teacher_layers=(1,))
