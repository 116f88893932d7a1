from __future__ import annotations

import math

import pytest
import torch

from edgekd.distill.methods import Dims, Outputs, Samples, adapt_recipe, build_method
from edgekd.distill.methods.dfkd import DualFaceted
from edgekd.errors import RecipeError
from edgekd.recipe import load_recipe


def _softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(u / temperature) for u in logits]
    return [power / sum(powers) for power in powers]


def _reference(method: DualFaceted, student: Outputs, teacher: Outputs, samples: Samples, t: float) -> float:
    """CE + a1 T^2 KL + a2 mean(e'^2), image by image."""
    weight, bias = method.features.projection.weight.tolist(), method.features.projection.bias.tolist()
    cross_entropy, divergence, squares = 0.0, 0.0, []
    for b, label in enumerate(samples.labels.tolist()):
        u_s, u_t = student.logits[b].tolist(), teacher.logits[b].tolist()
        cross_entropy -= math.log(_softmax(u_s, 1.0)[label])
        divergence += sum(p * math.log(p / q) for p, q in zip(_softmax(u_t, t), _softmax(u_s, t), strict=True))
        for row, offset, target in zip(weight, bias, teacher.embedding[b].tolist(), strict=True):
            e = sum(w * z for w, z in zip(row, student.embedding[b].tolist(), strict=True)) + offset - target
            squares.append(math.copysign(abs(e) ** method.features.beta, e) ** 2)
    n = len(samples.labels)
    return cross_entropy / n + method.a1 * t**2 * divergence / n + method.a2 * sum(squares) / len(squares)


@pytest.mark.parametrize(
    ("a1", "a2", "beta", "temperature"), [(0.3, 0.5, 0.8, 4.0), (1.0, 0.0, 1.0, 1.0), (0.0, 2.0, 0.5, 2.0)]
)
def test_value(
    dims: Dims,
    student: Outputs,
    teacher: Outputs,
    samples: Samples,
    *,
    a1: float,
    a2: float,
    beta: float,
    temperature: float,
) -> None:
    method = DualFaceted(dims, a1=a1, a2=a2, beta=beta, temperature=temperature).double()
    expected = _reference(method, student, teacher, samples, temperature)
    assert method(student, teacher, samples).item() == pytest.approx(expected)


def test_defaults(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = DualFaceted(dims).double()
    assert (method.a1, method.a2, method.features.beta) == (0.3, 0.5, 0.8)
    assert method(student, teacher, samples).item() == pytest.approx(_reference(method, student, teacher, samples, 4.0))


def test_it_is_the_sum_of_three_terms(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = DualFaceted(dims).double()
    terms = build_method("ce + 0.3 kd + 0.5 calibrated_mse", dims).double()
    terms.load_state_dict(
        {f"methods.calibrated_mse.{name}": value for name, value in method.features.state_dict().items()}
    )
    torch.testing.assert_close(method(student, teacher, samples), terms(student, teacher, samples)[0])


def test_gradient_of_both_facets_and_the_map(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    method = DualFaceted(dims).double()

    def loss(embedding: torch.Tensor, logits: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        outputs = (Outputs(embedding, logits), teacher, samples)
        result: torch.Tensor = torch.func.functional_call(method, {"features.projection.weight": weight}, outputs)
        return result

    inputs = (student.embedding.requires_grad_(), student.logits.requires_grad_(), method.features.projection.weight)
    assert torch.autograd.gradcheck(loss, inputs)


def test_its_teacher_learns_rotations() -> None:
    def rotation(*assignments: str) -> float:
        return adapt_recipe(load_recipe(None, ["distill.method=dfkd", *assignments])).teacher.rotation

    assert rotation() == 1.0
    assert rotation("teacher.rotation=2.0") == 2.0
    assert rotation("teacher.weights=/x.safetensors") == 0.0, "a teacher from disk is not trained"
    assert rotation("teacher.weights=/x.safetensors", "teacher.new_head=true") == 1.0, "this one is"
    assert DualFaceted.remark({"rotation": 0.5}) == ""
    assert "wants a teacher that learned rotations" in DualFaceted.remark({})


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("a1", -0.1, "dfkd: a1"),
        ("a2", float("nan"), "dfkd: a2"),
        ("beta", 0.4, "beta is 0.4"),
        ("temperature", 0.0, "temperature is 0"),
    ],
)
def test_impossible_options_are_refused(dims: Dims, option: str, value: float, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        DualFaceted(dims, **{option: value})
