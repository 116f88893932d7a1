from __future__ import annotations

import dataclasses
import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.rkd import Relational
from edgekd.errors import RecipeError

Points = list[list[float]]


def _huber(error: float) -> float:
    return error**2 / 2 if abs(error) <= 1 else abs(error) - 0.5


def _distances(points: Points) -> list[float]:
    found = [math.dist(a, b) for a in points for b in points]
    positive = [value for value in found if value > 0]
    return [value * len(positive) / sum(positive) for value in found]


def _angles(points: Points) -> list[float]:
    """Cosine at x_j between x_i and x_k; 0 where one of the sides has no length."""

    def cosine(a: list[float], corner: list[float], c: list[float]) -> float:
        u = [x - y for x, y in zip(a, corner, strict=True)]
        v = [x - y for x, y in zip(c, corner, strict=True)]
        length = math.hypot(*u) * math.hypot(*v)
        return sum(x * y for x, y in zip(u, v, strict=True)) / length if length else 0.0

    return [cosine(a, corner, c) for a in points for corner in points for c in points]


def _mean_huber(ours: list[float], theirs: list[float]) -> float:
    return sum(_huber(s - t) for s, t in zip(ours, theirs, strict=True)) / len(ours)


def _reference(ours: Tensor, theirs: Tensor, distance: float, angle: float) -> float:
    s, t = ours.tolist(), theirs.tolist()
    far, turned = _mean_huber(_distances(s), _distances(t)), _mean_huber(_angles(s), _angles(t))
    return distance * far + angle * turned


@pytest.mark.parametrize(("distance", "angle"), [(25.0, 50.0), (1.0, 2.0), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("on", ["embedding", "logits"])
def test_value(
    dims: Dims,
    student: Outputs,
    teacher: Outputs,
    samples: Samples,
    *,
    on: Literal["embedding", "logits"],
    distance: float,
    angle: float,
) -> None:
    method = Relational(dims, distance=distance, angle=angle, on=on)
    expected = _reference(getattr(student, on), getattr(teacher, on), distance, angle)
    assert method(student, teacher, samples).item() == pytest.approx(expected)


def test_defaults_are_the_classification_weights_on_embeddings(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    expected = _reference(student.embedding, teacher.embedding, 25, 50)
    assert Relational(dims)(student, teacher, samples).item() == pytest.approx(expected)


def test_beyond_one_the_loss_is_linear(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    far = torch.tensor([[0.0, 0, 0], [0, 0, 0.01], [0.01, 0, 0], [30.0, 0, 0]], dtype=torch.float64)
    near = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    outputs = (Outputs(far, student.logits), Outputs(near, teacher.logits), samples)
    assert Relational(dims, angle=0)(*outputs).item() == pytest.approx(_reference(far, near, 25, 0))


@pytest.mark.parametrize(("distance", "angle"), [(1.0, 0.0), (0.0, 1.0), (25.0, 50.0)])
def test_gradient(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, *, distance: float, angle: float
) -> None:
    method = Relational(dims, distance=distance, angle=angle)

    def loss(embedding: Tensor) -> Tensor:
        result: Tensor = method(dataclasses.replace(student, embedding=embedding), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.embedding.requires_grad_(),))


def test_moving_scaling_turning_and_reordering_change_nothing(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    method, z = Relational(dims), student.embedding
    expected = method(student, teacher, samples)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(4), dtype=z.dtype))
    for same in (z + 5, 0.01 * z, 40 * z, z @ rotation, -z):
        moved = dataclasses.replace(student, embedding=same)
        torch.testing.assert_close(method(moved, teacher, samples), expected)
    both = [dataclasses.replace(outputs, embedding=outputs.embedding[[2, 0, 1]]) for outputs in (student, teacher)]
    torch.testing.assert_close(method(*both, samples), expected)


def test_equal_relations_have_no_loss(dims: Dims, student: Outputs, samples: Samples) -> None:
    turned = dataclasses.replace(student, embedding=3 - 2 * student.embedding.flip(1))
    assert Relational(dims)(student, turned, samples).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("points", [torch.ones(3, 3), torch.ones(2, 3), torch.zeros(1, 3), torch.zeros(4, 3)])
@pytest.mark.parametrize("who", ["student", "teacher", "both"])
def test_degenerate_batches_have_a_finite_loss_and_gradient(
    dims: Dims, samples: Samples, points: Tensor, who: str
) -> None:
    spread = torch.randn(len(points), 4, generator=torch.Generator().manual_seed(3))
    ours = (points if who != "teacher" else spread).clone().requires_grad_()
    theirs = points if who != "student" else spread
    loss = Relational(dims)(Outputs(ours, ours), Outputs(theirs, theirs), samples)
    loss.backward()
    assert torch.isfinite(loss)
    assert ours.grad is not None
    assert torch.isfinite(ours.grad).all()
    assert (who == "both" or len(points) == 1) == (loss.item() == 0)


def test_a_pair_of_equal_embeddings_in_a_batch(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    twin = student.embedding[[0, 1, 1]].clone().requires_grad_()
    loss = Relational(dims)(dataclasses.replace(student, embedding=twin), teacher, samples)
    loss.backward()
    assert loss.item() == pytest.approx(_reference(twin, teacher.embedding, 25, 50))
    assert twin.grad is not None
    assert torch.isfinite(twin.grad).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": -1.0}, "distance is -1.0"),
        ({"angle": float("nan")}, "angle is nan"),
        ({"distance": 0.0, "angle": 0.0}, "both 0"),
        ({"on": "maps"}, "on is 'maps'; it is embedding or logits"),
    ],
)
def test_impossible_options_are_refused(dims: Dims, options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=rf"rkd: .*{message}"):
        Relational(dims, **options)  # type: ignore[arg-type]
