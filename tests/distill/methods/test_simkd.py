from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.distill.backbones import build_backbone
from edgekd.distill.methods import Dims, Outputs, Samples, adapt_recipe
from edgekd.distill.methods.simkd import SimKD
from edgekd.distill.tasks import Classifier
from edgekd.errors import RecipeError
from edgekd.recipe import Recipe, load_recipe

SHIPPED = ("distill.method=simkd", "distill.options.simkd.ships=true")


def _convolved(maps: np.ndarray, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> np.ndarray:
    """Convolution with zero padding, BatchNorm by the running statistics, ReLU; by loops."""
    weight, pad = conv.weight.detach().numpy(), conv.kernel_size[0] // 2
    _, height, width = maps.shape
    padded = np.pad(maps, ((0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((len(weight), height, width))
    for channel, kernel in enumerate(weight):
        for y in range(height):
            for x in range(width):
                value = (kernel * padded[:, y : y + 2 * pad + 1, x : x + 2 * pad + 1]).sum()
                assert norm.running_mean is not None
                assert norm.running_var is not None
                shifted = value - norm.running_mean[channel].item()
                scaled = shifted / np.sqrt(norm.running_var[channel].item() + norm.eps)
                out[channel, y, x] = max(0, scaled * norm.weight[channel].item() + norm.bias[channel].item())
    return out


def _reference(method: SimKD, student: Tensor, teacher: Tensor) -> float:
    assert isinstance(method.projector, nn.Sequential)
    squares = []
    for ours, theirs in zip(student.detach().numpy(), teacher.numpy(), strict=True):
        projected = np.stack([ours[..., :2].mean(2), ours[..., 1:].mean(2)], axis=2)  # 2x3 maps beside 2x2
        for index in (0, 3, 6):
            conv, norm = method.projector[index], method.projector[index + 1]
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            projected = _convolved(projected, conv, norm)
        squares.append((projected - theirs) ** 2)
    return float(np.mean(squares))


@pytest.fixture
def method(dims: Dims) -> SimKD:
    torch.manual_seed(2)
    made = SimKD(dims).double().eval()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias)
            nn.init.uniform_(layer.weight, 0.5, 2)
            assert layer.running_mean is not None
            nn.init.normal_(layer.running_mean)
    return made


def test_value(method: SimKD, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    expected = _reference(method, student.maps[4], teacher.maps[4])
    assert method(student, teacher, samples).item() == pytest.approx(expected)


def test_gradient_of_the_map_and_the_projector(
    method: SimKD, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    def loss(maps: Tensor, weight: Tensor) -> Tensor:
        outputs = (dataclasses.replace(student, maps={4: maps}), teacher, samples)
        result: Tensor = torch.func.functional_call(method, {"projector.0.weight": weight}, outputs)
        return result

    weight = method.get_parameter("projector.0.weight")
    assert torch.autograd.gradcheck(loss, (student.maps[4].requires_grad_(), weight))


def test_it_looks_at_the_last_maps_and_nothing_else(
    method: SimKD, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    assert (method.student_layers, method.teacher_layers) == ((4,), (4,))
    others = [
        Outputs(0 * outputs.embedding, 0 * outputs.logits, {4: outputs.maps[4]}) for outputs in (student, teacher)
    ]
    assert torch.equal(method(*others, samples), method(student, teacher, samples))


@pytest.mark.parametrize(("reduction", "weights"), [(2, 1_146_880), (8, 113_920)])
def test_the_projector_has_the_published_size(reduction: int, weights: int) -> None:
    dims = Dims(64, 640, 5, student_maps={4: (64, 5, 5)}, teacher_maps={4: (640, 5, 5)})
    projector = SimKD(dims, reduction=reduction).projector
    convolutions = [layer for layer in projector.modules() if isinstance(layer, nn.Conv2d)]
    # 64 x 640/r + 640/r x 640/r x 9 + 640/r x 640
    assert sum(layer.weight.numel() for layer in convolutions) == weights


def test_where_the_projector_ships_the_student_already_has_it(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    shipped = dataclasses.replace(dims, student_maps={5: (4, 2, 2)})
    method = SimKD(shipped, ships=True)
    assert not list(method.parameters())
    maps = {5: teacher.maps[4].flip(0)}
    expected = float(((maps[5].numpy() - teacher.maps[4].numpy()) ** 2).mean())
    assert method(dataclasses.replace(student, maps=maps), teacher, samples).item() == pytest.approx(expected)
    with pytest.raises(RecipeError, match="the teacher's 4 channels, not 3"):
        SimKD(dims, ships=True)


def test_the_teachers_head_is_reused_where_the_projector_ships(dims: Dims) -> None:
    shipped = dataclasses.replace(dims, student_maps={4: (4, 2, 2)})
    student = Classifier(build_backbone("projected:4/2:conv4-8", 3), 5)
    teacher = Classifier(build_backbone("conv4-4", 3), 5)
    SimKD(shipped, ships=True).begin(student, teacher)
    assert torch.equal(student.head.weight, teacher.head.weight)
    assert torch.equal(student.head.bias, teacher.head.bias)
    assert not any(parameter.requires_grad for parameter in student.head.parameters())
    images = torch.randn(2, 3, 16, 16)
    maps = student.eval()(images, (5,))
    torch.testing.assert_close(maps.logits, teacher.head(maps.maps[5].mean((2, 3))))


def test_by_default_both_heads_stay(dims: Dims) -> None:
    student, teacher = (Classifier(build_backbone("conv4-4", 3), 5) for _ in range(2))
    before = student.head.weight.clone()
    SimKD(dims).begin(student, teacher)
    assert torch.equal(student.head.weight, before)
    assert student.head.weight.requires_grad


@pytest.mark.parametrize(
    ("assignments", "spec"),
    [
        (["distill.method=simkd", "student.backbone=conv4-64"], "conv4-64"),
        ([*SHIPPED, "student.backbone=conv4-64"], "projected:192/2:conv4-64"),
        ([*SHIPPED, "student.backbone=conv4-64", "distill.options.simkd.reduction=8"], "projected:192/8:conv4-64"),
        ([*SHIPPED, "student.backbone=projected:192/2:conv4-64"], "projected:192/2:conv4-64"),
        ([*SHIPPED, "student.backbone=conv4:8-8-8-8", "teacher.backbone=resnet18"], "projected:512/2:conv4:8-8-8-8"),
    ],
)
def test_the_students_backbone_has_the_projector_that_ships(assignments: list[str], spec: str) -> None:
    recipe = adapt_recipe(load_recipe(None, assignments))
    assert recipe.student.backbone == spec
    assert adapt_recipe(recipe) == recipe


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        ([*SHIPPED, "student.backbone=projected:192/8:conv4-64"], "another projector than projected:192/2:"),
        ([*SHIPPED, "distill.options.simkd.reduction=half"], "simkd: reduction is 'half'"),
        ([*SHIPPED, "distill.options.simkd.shipped=true"], "unknown option of simkd 'shipped'. Did you mean 'ships'"),
    ],
)
def test_contradictions_are_refused(assignments: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        adapt_recipe(load_recipe(None, assignments))


@pytest.mark.parametrize("reduction", [0, -1, 5])
def test_a_projector_without_channels_is_refused(dims: Dims, reduction: int) -> None:
    with pytest.raises(RecipeError, match=f"a reduction of 1 to 4, not {reduction}"):
        SimKD(dims, reduction=reduction)


def test_networks_without_maps_are_refused() -> None:
    with pytest.raises(RecipeError, match="simkd: the student has no layers that can be looked at"):
        SimKD(Dims(3, 4, 5))


def test_the_recipe_stays_without_the_option() -> None:
    assert adapt_recipe(Recipe()) == Recipe()
