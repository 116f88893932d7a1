from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.triplet import TripletDistillation
from edgekd.errors import RecipeError

Negatives = Literal["random", "hard"]
LABELS = torch.tensor([4, 0, 4])
BOTH: tuple[Negatives, ...] = ("random", "hard")


@pytest.fixture
def samples() -> Samples:
    """Images 0 and 2 have one negative, 1 has two."""
    return Samples(LABELS, torch.tensor([6, 1, 3]))


def _reference(ours: Tensor, theirs: Tensor, labels: list[int], chosen: dict[int, int], **options: float) -> float:
    s, t, power = ours.tolist(), theirs.tolist(), options["power"]
    losses = []
    for anchor, negative in chosen.items():
        assert labels[anchor] != labels[negative]
        pull = math.dist(t[anchor], s[anchor]) ** power
        push = math.dist(t[anchor], s[negative]) ** power
        losses.append(max(0.0, options["margin"] + pull - push))
    return sum(losses) / len(losses) if losses else 0.0


def _nearest(ours: Tensor, theirs: Tensor, labels: list[int]) -> dict[int, int]:
    s, t = ours.tolist(), theirs.tolist()
    chosen = {}
    for anchor, label in enumerate(labels):
        others = [index for index, other in enumerate(labels) if other != label]
        if others:
            _, chosen[anchor] = min((math.dist(t[anchor], s[index]), index) for index in others)
    return chosen


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("margin", [0.0, 5.0, 40.0])
def test_hard_negatives(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, *, margin: float, squared: bool
) -> None:
    method = TripletDistillation(dims, negatives="hard", squared=squared, margin=margin)
    chosen = _nearest(student.logits, teacher.logits, LABELS.tolist())
    power = 2 if squared else 1
    expected = _reference(student.logits, teacher.logits, LABELS.tolist(), chosen, margin=margin, power=power)
    assert method(student, teacher, samples).item() == pytest.approx(expected)


@pytest.mark.parametrize("squared", [False, True])
def test_random_negatives_are_each_of_the_possible_ones(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, *, squared: bool
) -> None:
    method = TripletDistillation(dims, squared=squared, margin=30)
    power = 2 if squared else 1
    possible = [
        _reference(student.logits, teacher.logits, LABELS.tolist(), {0: 1, 1: one, 2: 1}, margin=30, power=power)
        for one in (0, 2)
    ]
    torch.manual_seed(0)
    drawn = [method(student, teacher, samples).item() for _ in range(40)]
    counts = [sum(math.isclose(loss, value) for loss in drawn) for value in possible]
    assert sum(counts) == 40
    assert min(counts) > 10


def test_the_seed_decides_the_draw(dims: Dims) -> None:
    logits = torch.randn(64, 5)
    many = Samples(torch.arange(64) % 5, torch.arange(64))
    outputs = (Outputs(logits, logits), Outputs(logits, logits.flip(0)), many)
    method, found = TripletDistillation(dims), []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append(method(*outputs).item())
    assert found[0] == found[1] != found[2]


def test_defaults(dims: Dims, student: Outputs, teacher: Outputs) -> None:
    two = Samples(torch.tensor([1, 2]), torch.tensor([0, 1]))
    first = [Outputs(outputs.embedding[:2], outputs.logits[:2]) for outputs in (student, teacher)]
    expected = _reference(first[0].logits, first[1].logits, [1, 2], {0: 1, 1: 0}, margin=5, power=1)
    assert TripletDistillation(dims)(*first, two).item() == pytest.approx(expected)


@pytest.mark.parametrize(("negatives", "squared"), list(itertools.product(BOTH, (False, True))))
def test_gradient(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, *, negatives: Negatives, squared: bool
) -> None:
    method = TripletDistillation(dims, negatives=negatives, squared=squared, margin=30)

    def loss(logits: Tensor) -> Tensor:
        torch.manual_seed(0)
        result: Tensor = method(dataclasses.replace(student, logits=logits), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.logits.requires_grad_(),))


def test_embeddings_of_the_same_width(student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = TripletDistillation(Dims(3, 3, 5), on="embedding", negatives="hard")
    narrow = dataclasses.replace(teacher, embedding=teacher.embedding[:, :3])
    chosen = _nearest(student.embedding, narrow.embedding, LABELS.tolist())
    expected = _reference(student.embedding, narrow.embedding, LABELS.tolist(), chosen, margin=5, power=1)
    assert method(student, narrow, samples).item() == pytest.approx(expected)


@pytest.mark.parametrize("negatives", BOTH)
def test_the_order_of_the_batch_and_a_shift_of_both_change_nothing(
    dims: Dims, student: Outputs, teacher: Outputs, negatives: Negatives
) -> None:
    method, two = TripletDistillation(dims, negatives=negatives), Samples(torch.tensor([1, 2, 2]), torch.arange(3))
    order = [1, 2, 0]  # with labels 1, 2, 2 the draw of image 0 is the only one; the hardest does not depend on it
    if negatives == "random":
        two, order = Samples(torch.tensor([1, 2]), torch.arange(2)), [1, 0]
    pair = [outputs.logits[: len(order)] for outputs in (student, teacher)]
    expected = method(*(Outputs(x, x) for x in pair), two)
    turned = Samples(two.labels[order], two.rows)
    torch.testing.assert_close(method(*(Outputs(x[order], x[order]) for x in pair), turned), expected)
    torch.testing.assert_close(method(*(Outputs(x + 7, x + 7) for x in pair), two), expected)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("negatives", BOTH)
@pytest.mark.parametrize("labels", [[2, 2, 2], [2]])
def test_a_batch_without_negatives_is_zero_with_a_gradient(
    dims: Dims, student: Outputs, teacher: Outputs, *, labels: list[int], negatives: Negatives, squared: bool
) -> None:
    n, logits = len(labels), student.logits.requires_grad_()
    method = TripletDistillation(dims, negatives=negatives, squared=squared)
    first = (Outputs(student.embedding[:n], logits[:n]), Outputs(teacher.embedding[:n], teacher.logits[:n]))
    loss = method(*first, Samples(torch.tensor(labels), torch.arange(n)))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.count_nonzero(logits.grad) == 0


def test_a_student_that_is_the_teacher_has_a_finite_gradient(dims: Dims, student: Outputs, samples: Samples) -> None:
    logits = student.logits.requires_grad_()
    both = dataclasses.replace(student, logits=logits), dataclasses.replace(student, logits=logits.detach())
    TripletDistillation(dims, margin=100)(*both, samples).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("dims", "options", "message"),
    [
        (Dims(3, 4, 1), {}, "the training set has one class"),
        (Dims(3, 4, 5), {"on": "embedding"}, "embeddings of 3 and 4 numbers have no distance; use on = 'logits'"),
        (Dims(3, 4, 5), {"margin": -1.0}, "margin is -1.0"),
        (Dims(3, 4, 5), {"negatives": "soft"}, "negatives is 'soft'"),
        (Dims(3, 4, 5), {"on": "maps"}, "on is 'maps'"),
    ],
)
def test_what_cannot_work_is_refused(dims: Dims, options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=rf"triplet: .*{message}"):
        TripletDistillation(dims, **options)  # type: ignore[arg-type]
