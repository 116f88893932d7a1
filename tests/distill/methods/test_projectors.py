from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.distill.methods.projectors import PROJECTORS, Aligned, Alignment, BatchNorm, Projection, Shape
from edgekd.errors import RecipeError

TRAINED = ["linear", "mlp", "conv"]


def features(shape: Shape, n: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def align(student: Shape, teacher: Shape, projection: Projection, n: int = 4) -> Aligned:
    torch.manual_seed(0)
    aligned = Alignment(student, teacher, projection)(features(student, n), features(teacher, n, seed=1))
    assert isinstance(aligned, Aligned)
    return aligned


@pytest.mark.parametrize(
    ("direction", "width", "expected"), [("up", 0, 9), ("down", 0, 4), ("middle", 0, 6), ("middle", 7, 7)]
)
@pytest.mark.parametrize("projector", TRAINED)
def test_both_sides_come_to_one_width(projector: str, direction: str, width: int, expected: int) -> None:
    projection = Projection(projector, direction, width)
    pairs: list[tuple[Shape, Shape]] = [((4, 6, 5), (9, 3, 8))]
    pairs += [((4,), (9,))] if projector != "conv" else []
    for student, teacher in pairs:
        aligned = align(student, teacher, projection)
        assert aligned.student.shape == aligned.teacher.shape
        assert aligned.student.shape[1:] == (expected, 3, 5)[: len(student)]
        assert (float(aligned.reconstruction.detach()) > 0) == (direction != "up")


@pytest.mark.parametrize(("before", "after"), [((6, 4), (3, 2)), ((2, 6), (4, 3)), ((5, 5), (5, 5))])
def test_maps_are_pooled_to_the_smaller_size(before: tuple[int, int], after: tuple[int, int]) -> None:
    aligned = align((3, *before), (3, *after), Projection("none"))
    for mapped, maps in ((aligned.student, features((3, *before))), (aligned.teacher, features((3, *after), seed=1))):
        (height, width), values = mapped.shape[2:], maps.numpy()
        for row in range(height):  # bins of adaptive pooling: floor(i H / h) to ceil((i + 1) H / h)
            top, bottom = row * values.shape[2] // height, -(-(row + 1) * values.shape[2] // height)
            for column in range(width):
                left, right = column * values.shape[3] // width, -(-(column + 1) * values.shape[3] // width)
                expected = values[:, :, top:bottom, left:right].mean((2, 3))
                np.testing.assert_allclose(mapped[:, :, row, column].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_no_projector_leaves_features_alone() -> None:
    aligned = align((5,), (5,), Projection("none"))
    torch.testing.assert_close(aligned.student, features((5,)))
    torch.testing.assert_close(aligned.teacher, features((5,), seed=1))
    assert float(aligned.reconstruction) == 0


def test_a_linear_projector_of_maps_is_that_of_embeddings_at_each_position() -> None:
    alignment = Alignment((3, 2, 2), (4, 2, 2), Projection("linear"))
    maps = features((3, 2, 2))
    weight, bias = alignment.parameters()
    expected = torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], maps) + bias[:, None, None]
    torch.testing.assert_close(alignment(maps, features((4, 2, 2))).student, expected)


@pytest.mark.parametrize("direction", ["up", "down", "middle"])
@pytest.mark.parametrize("projector", TRAINED)
def test_a_batch_of_one_value_a_channel_can_be_trained_on(projector: str, direction: str) -> None:
    torch.manual_seed(0)
    alignment = Alignment((3, 1, 1), (6, 1, 1), Projection(projector, direction)).train()
    student = features((3, 1, 1), n=1).requires_grad_()
    aligned = alignment(student, features((6, 1, 1), n=1, seed=1))
    ((aligned.student - aligned.teacher).square().mean() + aligned.reconstruction).backward()
    gradients = [student.grad, *(parameter.grad for parameter in alignment.parameters())]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


def test_batchnorm_is_the_usual_one_wherever_there_is_a_variance() -> None:
    ours, usual = BatchNorm(3), nn.BatchNorm2d(3)
    for maps in (features((3, 1, 1), n=2), features((3, 2, 1), n=1)):
        torch.testing.assert_close(ours(maps), usual(maps))
    torch.testing.assert_close(ours.state_dict(), usual.state_dict())
    single = features((3, 1, 1), n=1)
    torch.testing.assert_close(ours(single), usual.eval()(single))  # by running statistics
    torch.testing.assert_close(ours.state_dict(), usual.state_dict())  # and does not change them


@pytest.mark.parametrize("direction", ["down", "middle"])
@pytest.mark.parametrize("projector", TRAINED)
def test_the_teachers_side_learns_from_its_reconstruction_alone(projector: str, direction: str) -> None:
    torch.manual_seed(0)
    alignment = Alignment((3, 2, 2), (6, 2, 2), Projection(projector, direction))
    aligned = alignment(features((3, 2, 2)), features((6, 2, 2), seed=1))
    assert not aligned.teacher.requires_grad
    assert alignment.teacher is not None
    aligned.reconstruction.backward()
    assert all(parameter.grad is not None for parameter in alignment.teacher.parameters())
    assert all(parameter.grad is None for parameter in alignment.student.parameters())


def _trained(
    alignment: Alignment, teacher: torch.Tensor, student: torch.Tensor, *, cut_off: bool, steps: int
) -> torch.Tensor:
    """Return the teacher's code (b, width) after training; without `cut_off` the code learns to be followed too."""
    assert alignment.teacher is not None
    optimizer = torch.optim.Adam(alignment.parameters(), lr=0.05)
    for _ in range(steps):
        aligned = alignment(student, teacher)
        code = aligned.teacher if cut_off else alignment.teacher.encoder(teacher)
        loss = (aligned.student - code).square().mean() + (aligned.reconstruction if cut_off else 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        code = alignment.teacher.encoder(teacher)
    assert isinstance(code, torch.Tensor)
    return code


@pytest.mark.parametrize("projector", ["linear", "mlp"])
def test_both_sides_cannot_meet_in_a_constant(projector: str) -> None:
    """The student's features say nothing here, so meeting in a constant is all that following could reach."""
    teacher, student = features((6,), n=32, seed=1), torch.zeros(32, 3)
    spread = {}
    for cut_off in (True, False):
        torch.manual_seed(0)
        alignment = Alignment((3,), (6,), Projection(projector, "middle", 4))
        spread[cut_off] = float(_trained(alignment, teacher, student, cut_off=cut_off, steps=60).var(0).mean())
    assert spread[False] < 1e-3
    assert spread[True] > 0.1


def test_the_trivial_solution_is_no_minimum() -> None:
    """At zero the loss is the teacher's power; next to it, the way leads out, to the best linear reconstruction."""
    torch.manual_seed(0)
    teacher = features((6,), n=64, seed=1)
    teacher -= teacher.mean(0)
    alignment = Alignment((3,), (6,), Projection("linear", "middle", 4))
    for parameter in alignment.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        at_zero = alignment(torch.zeros(64, 3), teacher)
    assert float((at_zero.student - at_zero.teacher).abs().max()) == 0
    assert float(at_zero.reconstruction) == pytest.approx(float(teacher.square().mean()))
    for parameter in alignment.parameters():
        nn.init.normal_(parameter, std=1e-3)
    _trained(alignment, teacher, torch.zeros(64, 3), cut_off=True, steps=200)
    discarded = np.linalg.svd(teacher.numpy(), compute_uv=False)[4:]  # Eckart & Young: what rank 4 must leave out
    best = float((discarded**2).sum() / teacher.numel())
    found = alignment(torch.zeros(64, 3), teacher).reconstruction.detach()
    assert float(found) == pytest.approx(best, rel=0.05)


@pytest.mark.parametrize(
    ("student", "teacher", "projection", "message"),
    [
        ((3,), (5,), Projection("lineer"), "unknown projector 'lineer'. Did you mean 'linear'"),
        ((3,), (5,), Projection("linear", "upp"), "unknown direction of a projector 'upp'. Did you mean 'up'"),
        ((3,), (5,), Projection("none"), "none cannot take 3 dimensions to 5; take linear"),
        ((3, 2, 2), (5, 2, 2), Projection("none"), "none cannot take 3 channels to 5; take linear"),
        ((5,), (5,), Projection("none", "down"), "direction = 'down' means nothing; take linear"),
        ((3,), (5,), Projection("conv"), "conv needs maps, .*feature_mse.layers=.*, or take linear or mlp"),
        ((3,), (5,), Projection("linear", "up", 4), "width is 4; .* only direction = 'middle' takes one"),
        ((3,), (5,), Projection("linear", "middle", -1), "width is -1; it is above 0"),
    ],
)
def test_what_cannot_be_aligned(student: Shape, teacher: Shape, projection: Projection, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Alignment(student, teacher, projection)


def test_projectors_are_known_by_name() -> None:
    assert sorted(PROJECTORS) == ["conv", "linear", "mlp", "none"]
