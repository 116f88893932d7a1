from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekd.distill.methods import Dims, Outputs, Samples, adapt_recipe
from edgekd.distill.methods.takd import AssistantTargets
from edgekd.errors import RecipeError
from edgekd.recipe import load_recipe


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, temperature: float) -> None:
    losses = []
    for u_a, u_s in zip(teacher.logits.numpy() / temperature, student.logits.numpy() / temperature, strict=True):
        p, q = np.exp(u_a) / np.exp(u_a).sum(), np.exp(u_s) / np.exp(u_s).sum()
        losses.append(temperature**2 * np.sum(p * np.log(p / q)))
    loss = AssistantTargets(dims, temperature=temperature)(student, teacher, samples)
    assert float(loss) == pytest.approx(np.mean(losses))


def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    def loss(logits: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = AssistantTargets(dims)(Outputs(student.embedding, logits), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.logits.requires_grad_(),))


def test_the_assistant_itself_has_none(dims: Dims, teacher: Outputs, samples: Samples) -> None:
    assert float(AssistantTargets(dims)(teacher, teacher, samples)) == pytest.approx(0, abs=1e-12)


def test_it_asks_for_an_assistant() -> None:
    adapted = adapt_recipe(load_recipe(None, ["distill.method=ce + takd"]))
    assert adapted.assistant.backbone == "auto"


def test_it_keeps_the_one_that_is_named() -> None:
    recipe = load_recipe(None, ["distill.method=ce + takd", "assistant.backbone=conv4-96"])
    assert adapt_recipe(recipe) == recipe


def test_it_cannot_be_without() -> None:
    with pytest.raises(RecipeError, match="the assistant is none: write kd"):
        adapt_recipe(load_recipe(None, ["distill.method=ce + takd", "assistant.backbone=none"]))


def test_impossible_temperature_is_refused(dims: Dims) -> None:
    with pytest.raises(RecipeError, match="takd: temperature"):
        AssistantTargets(dims, temperature=0.0)
