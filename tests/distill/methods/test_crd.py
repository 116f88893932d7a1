from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.distill.methods import Dims, Outputs, Samples, needs_of
from edgekd.distill.methods.crd import Contrastive
from edgekd.errors import RecipeError

Vectors = list[list[float]]


def _unit(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    return [value / length for value in vector]


def _embedded(layer: torch.nn.Linear, embedding: Tensor) -> Vectors:
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [
        _unit([sum(w * z for w, z in zip(row, vector, strict=True)) + b for row, b in zip(weight, bias, strict=True)])
        for vector in embedding.tolist()
    ]


def _dot(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def _direction(
    anchors: Vectors,
    positives: Vectors,
    memory: Vectors,
    *,
    rows: list[int],
    drawn: list[int],
    temperature: float,
    alike: Sequence[Collection[int]] = ((), (), ()),
) -> float:
    """Noise-contrastive estimation with the noise of this batch; the last one drawn goes where none is the own row.

    alike: the rows of each anchor's class; the negatives of other classes then count for all k.
    """
    k = len(drawn) - 1
    every = [math.exp(_dot(v, p) / temperature) for v, p in zip(anchors, positives, strict=True)]
    every += [math.exp(_dot(v, memory[row]) / temperature) for v in anchors for row in drawn]
    noise = k * sum(every) / len(every)
    total = 0.0
    for anchor, positive, own, same in zip(anchors, positives, rows, alike, strict=True):
        others = [row for row in drawn if row != own][:k]
        assert len(others) == k
        negatives = [row for row in others if row not in same]
        close = math.exp(_dot(anchor, positive) / temperature)
        total -= math.log(close / (close + noise))
        for row in negatives:
            value = math.exp(_dot(anchor, memory[row]) / temperature)
            total -= k / len(negatives) * math.log(1 - value / (value + noise))
    return total / len(anchors)


def _reference(
    method: Contrastive,
    student: Outputs,
    teacher: Outputs,
    rows: list[int],
    temperature: float,
    *,
    alike: Sequence[Collection[int]] = ((), (), ()),
) -> float:
    ours, theirs = (
        _embedded(method.embed_student, student.embedding),
        _embedded(method.embed_teacher, teacher.embedding),
    )
    drawn = method._draw().tolist()
    memories = method.memory_teacher.tolist(), method.memory_student.tolist()
    there = _direction(ours, theirs, memories[0], rows=rows, drawn=drawn, temperature=temperature, alike=alike)
    back = _direction(theirs, ours, memories[1], rows=rows, drawn=drawn, temperature=temperature, alike=alike)
    return there + back


@pytest.fixture
def method(dims: Dims) -> Contrastive:
    torch.manual_seed(11)
    return Contrastive(dims, size=6, nce_k=4, temperature=0.5).double()


def test_value(method: Contrastive, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        expected = _reference(method, student, teacher, samples.rows.tolist(), 0.5)
        assert method.eval()(student, teacher, samples).item() == pytest.approx(expected)


def test_images_of_a_class_are_no_negatives_of_each_other(
    method: Contrastive, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    method.labels[:] = torch.tensor([4, 0, 2, 2, -1, 0, 4, 4])  # the samples are of classes 4, 0 and 2
    alike = [(0, 6, 7), (1, 5), (2, 3)]
    for seed in range(3):
        torch.manual_seed(seed)
        expected = _reference(method, student, teacher, samples.rows.tolist(), 0.5, alike=alike)
        assert method.eval()(student, teacher, samples).item() == pytest.approx(expected)


def test_without_labels_or_with_any_negative_every_other_image_is_one(
    method: Contrastive, dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    method.labels[:] = torch.tensor([4, 0, 2, 2, -1, 0, 4, 4])
    anything = Contrastive(dims, size=6, nce_k=4, temperature=0.5, negatives="any").double()
    anything.load_state_dict(method.state_dict())
    torch.manual_seed(0)
    expected = _reference(method, student, teacher, samples.rows.tolist(), 0.5)
    unlabelled = Samples(torch.full((3,), -1), samples.rows)
    for which, given in ((method, unlabelled), (anything, samples)):
        torch.manual_seed(0)
        assert which.eval()(student, teacher, given).item() == pytest.approx(expected)


def test_the_class_of_an_image_is_remembered_once_it_was_seen(
    method: Contrastive, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    method(student, teacher, samples)
    assert method.labels.tolist() == [-1, 0, -1, 2, -1, -1, 4, -1]


def test_only_negatives_by_class_need_labels() -> None:
    assert needs_of("crd").labels
    assert not needs_of("crd", {"crd": {"negatives": "any"}}).labels


def test_defaults_are_the_papers_and_take_every_other_image_of_a_small_set(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    method = Contrastive(dims).double()
    assert (method.embed_student.out_features, method.momentum, method.negatives) == (128, 0.5, 7)
    expected = _reference(method, student, teacher, samples.rows.tolist(), 0.07)
    assert method(student, teacher, samples).item() == pytest.approx(expected)
    assert Contrastive(Dims(3, 4, 5, images=20_000)).negatives == 16384


def test_gradient(method: Contrastive, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    def loss(embedding: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
        parameters = {"embed_student.weight": ours, "embed_teacher.weight": theirs}
        result: Tensor = torch.func.functional_call(
            method, parameters, (Outputs(embedding, student.logits), teacher, samples)
        )
        return result

    method(student, teacher, samples)  # from now on the noise is a constant
    method.eval()
    inputs = (student.embedding.requires_grad_(), method.embed_student.weight, method.embed_teacher.weight)
    assert torch.autograd.gradcheck(loss, inputs)


def test_the_memories_move_towards_the_embeddings_in_training_only(
    method: Contrastive, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    before = method.memory_student.tolist()
    method.eval()(student, teacher, samples)
    assert method.memory_student.tolist() == before
    assert math.isnan(method.noise_student)
    method.train()(student, teacher, samples)
    for row, new in zip(samples.rows.tolist(), _embedded(method.embed_student, student.embedding), strict=True):
        mixed = _unit([0.5 * old + 0.5 * value for old, value in zip(before[row], new, strict=True)])
        assert method.memory_student[row].tolist() == pytest.approx(mixed)
    untouched = [row for row in range(8) if row not in samples.rows.tolist()]
    assert [method.memory_student[row].tolist() for row in untouched] == [before[row] for row in untouched]


def test_all_state_is_saved(method: Contrastive, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    def step(which: Contrastive, number: int) -> Tensor:
        torch.manual_seed(number)
        loss: Tensor = which(student, teacher, samples)
        return loss.detach()

    step(method, 0)
    resumed = Contrastive(method.dims, size=6, nce_k=4, temperature=0.5).double()
    resumed.load_state_dict(method.state_dict())
    assert torch.equal(step(method, 1), step(resumed, 1))
    assert torch.equal(method.memory_teacher, resumed.memory_teacher)


def test_what_else_was_drawn_does_not_change_the_negatives(method: Contrastive) -> None:
    torch.manual_seed(3)
    first = method._draw()
    torch.rand(5)
    assert torch.equal(method._draw(), first)
    torch.manual_seed(4)
    assert not torch.equal(method._draw(), first)


def test_the_order_of_the_batch_changes_nothing(
    method: Contrastive, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    order = [2, 0, 1]
    both = [Outputs(outputs.embedding[order], outputs.logits[order]) for outputs in (student, teacher)]
    turned = Samples(samples.labels[order], samples.rows[order])
    torch.testing.assert_close(method.eval()(*both, turned), method.eval()(student, teacher, samples))


def test_the_scale_of_an_embedding_hardly_matters(dims: Dims, student: Outputs, teacher: Outputs) -> None:
    method = Contrastive(dims)
    vast = Outputs(1e30 * student.embedding.float(), student.logits)
    loss = method(
        vast, Outputs(teacher.embedding.float(), teacher.logits), Samples(torch.zeros(3).long(), torch.arange(3))
    )
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("dims", "options", "message"),
    [
        (Dims(3, 4, 5, images=1), {}, "one training image"),
        (Dims(3, 4, 5, images=9), {"size": 0}, "size is 0"),
        (Dims(3, 4, 5, images=9), {"nce_k": 0}, "nce_k is 0"),
        (Dims(3, 4, 5, images=9), {"temperature": 0.0}, "temperature is 0.0"),
        (Dims(3, 4, 5, images=9), {"momentum": 1.0}, "momentum is 1.0"),
        (Dims(3, 4, 5, images=9), {"negatives": "all"}, "negatives is 'all'; it is other_classes or any"),
    ],
)
def test_impossible_options_are_refused(dims: Dims, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=rf"crd: .*{message}"):
        Contrastive(dims, **options)
