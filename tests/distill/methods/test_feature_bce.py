from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.feature_bce import FeatureBCE
from edgekd.errors import RecipeError


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def _linear(layer: object, inputs: list[float]) -> list[float]:
    assert isinstance(layer, nn.Linear)
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [sum(w * z for w, z in zip(row, inputs, strict=True)) + offset for row, offset in rows]


def _reference(method: FeatureBCE, student: Outputs, teacher: Outputs) -> float:
    losses = []
    for z_s, z_t in zip(student.embedding.tolist(), teacher.embedding.tolist(), strict=True):
        wanted = [_sigmoid(u) for u in _linear(method.connector.attributes, z_t)]
        found = [_sigmoid(u) for u in _linear(method.projector, z_s)]
        pairs = zip(wanted, found, strict=True)
        losses += [-(p * math.log(q) + (1 - p) * math.log(1 - q)) for p, q in pairs]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("attributes", [0, 2, 7])
def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, attributes: int) -> None:
    method = FeatureBCE(dims, attributes=attributes).double()
    assert method.connector.attributes.out_features == (attributes or dims.teacher)
    assert method(student, teacher, samples).item() == pytest.approx(_reference(method, student, teacher))


def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = FeatureBCE(dims, projector="mlp").double()

    def loss(embedding: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = method(Outputs(embedding, student.logits), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.embedding.requires_grad_(),))


def test_the_students_own_embedding_can_end_in_the_sigmoid(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    """Without a projector the gradient of the logits is (p_s - p_t) / elements: none where both agree."""
    method = FeatureBCE(dims, attributes=dims.student, projector="none").double()
    embedding = student.embedding.requires_grad_()
    (gradient,) = torch.autograd.grad(method(student, teacher, samples), embedding)
    wanted = method.connector.probabilities(teacher.embedding)
    torch.testing.assert_close(gradient, (embedding.sigmoid() - wanted) / embedding.numel())


def test_distilling_leaves_the_connector_alone(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    method = FeatureBCE(dims).double()
    method(student, teacher, samples).backward()
    assert all(parameter.grad is None for parameter in method.connector.parameters())


def test_the_connector_learns_the_teachers_task(dims: Dims, teacher: Outputs, samples: Samples) -> None:
    connector = FeatureBCE(dims, attributes=2).double().prepare_task()
    losses = []
    for z_t, label in zip(teacher.embedding.tolist(), samples.labels.tolist(), strict=True):
        attributes = [_sigmoid(u) for u in _linear(connector.attributes, z_t)]
        logits = _linear(connector.head, attributes)
        losses.append(math.log(sum(math.exp(u) for u in logits)) - logits[label])
    loss = connector(teacher, samples)
    assert loss.item() == pytest.approx(sum(losses) / len(losses))
    loss.backward()
    assert all(parameter.grad is not None for parameter in connector.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": -1}, "attributes is -1"),
        ({"projector": "conv"}, "conv needs maps"),
        ({"projector": "none"}, "none cannot take 3 dimensions to 4"),
        ({"projector": "cnv"}, "unknown projector 'cnv'. Did you mean 'conv'"),
    ],
)
def test_what_is_refused(dims: Dims, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        FeatureBCE(dims, **options)  # type: ignore[arg-type]  # options of every kind
