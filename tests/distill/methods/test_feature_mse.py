from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.calibrated_mse import CalibratedMSE
from edgekd.distill.methods.feature_mse import FeatureMSE
from edgekd.errors import RecipeError

Array = NDArray[np.float64]


@pytest.fixture
def dims() -> Dims:
    """Layers of different sizes on the two sides."""
    ours = {1: (2, 6, 5), 2: (3, 3, 2), 3: (3, 1, 1)}
    theirs = {1: (4, 4, 4), 2: (5, 2, 2), 3: (3, 1, 1), 4: (2, 5, 5)}
    return Dims(student=3, teacher=4, classes=5, student_maps=ours, teacher_maps=theirs)


def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = FeatureMSE(dims).double()
    weight, bias = (parameter.detach().numpy() for parameter in method.parameters())
    error = student.embedding.numpy() @ weight.T + bias - teacher.embedding.numpy()
    assert method(student, teacher, samples).item() == pytest.approx(float(np.mean(error**2)))


def test_it_is_the_calibrated_error_at_beta_one(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    plain, calibrated = FeatureMSE(dims).double(), CalibratedMSE(dims, beta=1.0).double()
    calibrated.load_state_dict(dict(zip(calibrated.state_dict(), plain.state_dict().values(), strict=True)))
    torch.testing.assert_close(plain(student, teacher, samples), calibrated(student, teacher, samples))


def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = FeatureMSE(dims).double()

    def loss(embedding: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = method(Outputs(embedding, student.logits), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.embedding.requires_grad_(),))


def test_no_error_has_no_loss(dims: Dims, student: Outputs, samples: Samples) -> None:
    method = FeatureMSE(dims).double()
    weight, bias = method.parameters()
    mapped = Outputs(student.embedding @ weight.T + bias, student.logits)
    assert method(student, mapped, samples).item() == 0


def _reference(loss: str, student: Array, teacher: Array) -> float:
    """The loss between maps (b, c, h, w), written from the formulas over vectors (b * h * w, c)."""
    f_s, f_t = (np.moveaxis(maps, 1, 3).reshape(-1, maps.shape[1]) for maps in (student, teacher))
    if loss == "mse":
        return float(np.mean((f_s - f_t) ** 2))
    if loss == "l1":
        return float(np.mean(np.abs(f_s - f_t)))
    values = []
    for s, t in zip(f_s, f_t, strict=True):
        if loss == "cosine":
            values.append(1 - s @ t / np.sqrt((s @ s) * (t @ t)))
        else:
            p, q = np.exp(t) / np.exp(t).sum(), np.exp(s) / np.exp(s).sum()
            values.append(-np.sum(p * np.log(q)))
    return float(np.mean(values))


@pytest.mark.parametrize("loss", ["mse", "l1", "cosine", "ce"])
def test_losses_between_maps(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, loss: str) -> None:
    """Layer 3 has the same shape in both networks; its value is the mean with that of layer 1, projected and pooled."""
    alone = FeatureMSE(dims, layers=(3,), projector="none", loss=loss).double()
    expected = _reference(loss, student.maps[3].numpy(), teacher.maps[3].numpy())
    assert alone(student, teacher, samples).item() == pytest.approx(expected)
    method = FeatureMSE(dims, layers=(3, 1), loss=loss).double()
    values = []
    for layer, alignment in zip((3, 1), method.alignments, strict=True):
        aligned = alignment(student.maps[layer], teacher.maps[layer])
        values.append(_reference(loss, aligned.student.detach().numpy(), aligned.teacher.numpy()))
    assert method(student, teacher, samples).item() == pytest.approx(float(np.mean(values)))
    assert (method.student_layers, method.teacher_layers) == ((3, 1), (3, 1))


@pytest.mark.parametrize("direction", ["up", "down", "middle"])
@pytest.mark.parametrize("projector", ["linear", "mlp", "conv"])
@pytest.mark.parametrize("loss", ["mse", "cosine", "ce"])
def test_gradients_of_maps(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, *, loss: str, projector: str, direction: str
) -> None:
    torch.manual_seed(0)
    method = FeatureMSE(
        dims, layers=(2,), teacher_layers=(4,), projector=projector, direction=direction, loss=loss
    ).double()

    def value(maps: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = method(Outputs(student.embedding, student.logits, {2: maps}), teacher, samples)
        return result

    assert torch.autograd.gradcheck(value, (student.maps[2].requires_grad_(),))
    assert method.teacher_layers == (4,)


@pytest.mark.parametrize("loss", ["mse", "l1", "cosine"])
def test_equal_features_have_no_loss(dims: Dims, student: Outputs, samples: Samples, loss: str) -> None:
    method = FeatureMSE(dims, layers=(3,), projector="none", loss=loss)
    assert method(student, student, samples).item() == pytest.approx(0, abs=1e-12)


def test_cosine_ignores_the_scale(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = FeatureMSE(dims, layers=(3,), projector="none", loss="cosine")
    scaled = Outputs(student.embedding, student.logits, {3: 7 * student.maps[3]})
    torch.testing.assert_close(method(scaled, teacher, samples), method(student, teacher, samples))


def test_the_reconstruction_of_a_projected_teacher_is_added(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    method = FeatureMSE(dims, direction="down").double()
    weight, bias, back, offset = (parameter.detach().numpy() for parameter in method.parameters())
    code = teacher.embedding.numpy() @ weight.T + bias
    error = np.mean((student.embedding.numpy() - code) ** 2)
    error += np.mean((code @ back.T + offset - teacher.embedding.numpy()) ** 2)
    assert method(student, teacher, samples).item() == pytest.approx(float(error))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "l3"}, "unknown loss between features 'l3'. Did you mean 'l1'"),
        ({"layers": (1, 2), "teacher_layers": (1,)}, "are compared one by one; give as many"),
        ({"teacher_layers": (1,)}, r"layers \[\] and teacher_layers \[1\]"),
        ({"projector": "conv"}, "conv needs maps"),
        ({"projector": "none"}, "none cannot take 3 dimensions to 4"),
    ],
)
def test_what_is_refused(dims: Dims, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        FeatureMSE(dims, **options)  # type: ignore[arg-type]  # options of every kind
