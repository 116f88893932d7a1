from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekd.distill.methods import METHODS, Dims, Outputs, Samples, adapt_recipe
from edgekd.errors import RecipeError
from edgekd.recipe import load_recipe

BornAgain = METHODS["self"]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, temperature: float) -> None:
    losses = []
    for u_t, u_s in zip(teacher.logits.numpy() / temperature, student.logits.numpy() / temperature, strict=True):
        p, q = np.exp(u_t) / np.exp(u_t).sum(), np.exp(u_s) / np.exp(u_s).sum()
        losses.append(temperature**2 * np.sum(p * np.log(p / q)))
    options = {} if temperature == 1 else {"temperature": temperature}  # 1 is the source's
    assert float(BornAgain(dims, **options)(student, teacher, samples)) == pytest.approx(np.mean(losses))


def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    def loss(logits: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = BornAgain(dims)(Outputs(student.embedding, logits), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.logits.requires_grad_(),))


def test_the_teacher_itself_has_none(dims: Dims, teacher: Outputs, samples: Samples) -> None:
    assert float(BornAgain(dims)(teacher, teacher, samples)) == pytest.approx(0, abs=1e-12)


def test_the_teacher_is_the_student_once_more() -> None:
    recipe = load_recipe(None, ["distill.method=ce + self", "student.backbone=conv4-16", "teacher.epochs=3"])
    adapted = adapt_recipe(recipe)
    assert adapted.teacher == recipe.teacher.model_copy(update={"backbone": "conv4-16"})
    assert adapt_recipe(adapted) == adapted


def test_impossible_temperature_is_refused(dims: Dims) -> None:
    with pytest.raises(RecipeError, match="self: temperature"):
        BornAgain(dims, temperature=0.0)  # type: ignore[call-arg]  # the class is found by its name


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("teacher.weights=/x.safetensors", "leave out --teacher-weights"),
        ("assistant.backbone=auto", "nothing lies between .* leave out --assistant"),
    ],
)
def test_choices_that_leave_no_twin_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        adapt_recipe(load_recipe(None, ["distill.method=ce + self", "student.backbone=conv4-16", assignment]))
