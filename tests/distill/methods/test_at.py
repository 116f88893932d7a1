from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.at import AttentionTransfer
from edgekd.errors import RecipeError


def _attention(maps: NDArray[np.float64], p: float) -> NDArray[np.float64]:
    attention = np.zeros((len(maps), maps.shape[2] * maps.shape[3]))
    for image, channels in enumerate(maps):
        for channel in channels:
            attention[image] += np.abs(channel.reshape(-1)) ** p
        attention[image] /= np.sqrt((attention[image] ** 2).sum())
    return attention


def _reference(student: Outputs, teacher: Outputs, layers: tuple[int, ...], p: float) -> float:
    return float(
        sum(
            ((_attention(student.maps[layer].numpy(), p) - _attention(teacher.maps[layer].numpy(), p)) ** 2).mean()
            for layer in layers
        )
    )


@pytest.mark.parametrize(("layers", "p"), [((2, 3), 2.0), ((1,), 1.0), ((1, 2, 3), 4.0)])
def test_value(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, *, layers: tuple[int, ...], p: float
) -> None:
    method = AttentionTransfer(dims, layers=layers, p=p)
    assert method(student, teacher, samples).item() == pytest.approx(_reference(student, teacher, layers, p))


def test_defaults(dims: Dims) -> None:
    method = AttentionTransfer(dims)
    assert method.student_layers == method.teacher_layers == (2, 3, 4)
    assert method.p == 2


def test_a_wider_map_is_averaged_to_the_others_width(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    ours = student.maps[4]  # (3, 3, 2, 3) beside (3, 4, 2, 2): columns 0, 1 and 1, 2 are averaged
    narrow = torch.stack([(ours[..., 0] + ours[..., 1]) / 2, (ours[..., 1] + ours[..., 2]) / 2], dim=3)
    expected = _reference(Outputs(student.embedding, student.logits, {4: narrow}), teacher, (4,), 2)
    assert AttentionTransfer(dims, layers=(4,))(student, teacher, samples).item() == pytest.approx(expected)


def test_layers_of_the_teacher_can_be_others(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    shifted = Outputs(teacher.embedding, teacher.logits, {2: teacher.maps[1], 3: teacher.maps[2]})
    named = AttentionTransfer(dims, layers=(2, 3), teacher_layers=(1, 2))
    assert named.teacher_layers == (1, 2)
    plain = AttentionTransfer(dims, layers=(2, 3))
    torch.testing.assert_close(named(student, teacher, samples), plain(student, shifted, samples))


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, p: float) -> None:
    method = AttentionTransfer(dims, layers=(2, 4), p=p)

    def loss(two: Tensor, four: Tensor) -> Tensor:
        result: Tensor = method(dataclasses.replace(student, maps={2: two, 4: four}), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.maps[2].requires_grad_(), student.maps[4].requires_grad_()))


@pytest.mark.parametrize("scale", [1e-3, 7.0])
def test_a_positive_scale_of_either_map_changes_nothing(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, scale: float
) -> None:
    method = AttentionTransfer(dims)
    expected = method(student, teacher, samples)
    for grown in (
        (dataclasses.replace(student, maps={k: scale * v for k, v in student.maps.items()}), teacher),
        (student, dataclasses.replace(teacher, maps={k: scale * v for k, v in teacher.maps.items()})),
    ):
        torch.testing.assert_close(method(*grown, samples), expected)


def test_the_order_of_channels_and_their_signs_change_nothing(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    method = AttentionTransfer(dims, layers=(1,))
    turned = dataclasses.replace(teacher, maps={1: -teacher.maps[1].flip(1)})
    torch.testing.assert_close(method(student, turned, samples), method(student, teacher, samples))


def test_equal_maps_have_no_loss(dims: Dims, student: Outputs, samples: Samples) -> None:
    assert AttentionTransfer(dims)(student, student, samples).item() == 0


def test_dead_maps_have_a_finite_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    dead = torch.zeros_like(student.maps[1], requires_grad=True)
    loss = AttentionTransfer(dims, layers=(1,))(dataclasses.replace(student, maps={1: dead}), teacher, samples)
    loss.backward()
    assert dead.grad is not None
    assert torch.isfinite(dead.grad).all()


@pytest.mark.parametrize("p", [0.0, 0.5, float("nan")])
def test_impossible_p_is_refused(dims: Dims, p: float) -> None:
    with pytest.raises(RecipeError, match="at: p is"):
        AttentionTransfer(dims, p=p)
