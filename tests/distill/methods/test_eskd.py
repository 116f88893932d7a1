from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgekd.distill.methods import Dims, Outputs, Samples, adapt_recipe, build_method
from edgekd.distill.methods.eskd import EarlyStopped
from edgekd.distill.methods.kd import SoftTargets
from edgekd.errors import RecipeError
from edgekd.recipe import load_recipe


def _reference(student: Outputs, teacher: Outputs, temperature: float) -> float:
    p = (teacher.logits / temperature).exp()
    q = (student.logits / temperature).exp()
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    return float(temperature**2 * (p * (p / q).log()).sum() / len(p))


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.49])
def test_value_before_the_end(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, progress: float
) -> None:
    loss = EarlyStopped(dims, temperature=2.0)(student, teacher, replace(samples, progress=progress))
    assert float(loss) == pytest.approx(_reference(student, teacher, 2.0))


@pytest.mark.parametrize(("until", "progress"), [(0.5, 0.5), (0.5, 0.9), (0.1, 0.1)])
def test_nothing_after_it(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples, *, until: float, progress: float
) -> None:
    loss = EarlyStopped(dims, until=until)(student, teacher, replace(samples, progress=progress))
    assert loss.shape == ()
    assert loss.dtype == student.logits.dtype
    assert float(loss) == 0


def test_to_the_end_it_is_kd(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    last = replace(samples, progress=0.999)
    expected = SoftTargets(dims)(student, teacher, last)
    torch.testing.assert_close(EarlyStopped(dims, until=1.0)(student, teacher, last), expected)


def test_gradient(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    def loss(logits: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = EarlyStopped(dims)(Outputs(student.embedding, logits), teacher, samples)
        return result

    assert torch.autograd.gradcheck(loss, (student.logits.requires_grad_(),))


def test_the_rest_of_the_sum_goes_on(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    logits = student.logits.requires_grad_()
    late = replace(samples, progress=0.8)
    total, values = build_method("ce + eskd", dims)(student, teacher, late)
    alone, _ = build_method("ce", dims)(student, teacher, late)
    torch.testing.assert_close(torch.autograd.grad(total, logits), torch.autograd.grad(alone, logits))
    assert float(values["eskd"]) == 0


def test_alone_it_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"ends part-way and would leave no loss; .*'ce \+ eskd'"):
        adapt_recipe(load_recipe(None, ["distill.method=eskd"]))
    fine = load_recipe(None, ["distill.method=ce + eskd"])
    assert adapt_recipe(fine) == fine


@pytest.mark.parametrize("until", [0.0, -0.1, 1.1, float("nan")])
def test_impossible_until_is_refused(dims: Dims, until: float) -> None:
    with pytest.raises(RecipeError, match="until"):
        EarlyStopped(dims, until=until)


def test_impossible_temperature_names_this_term(dims: Dims) -> None:
    with pytest.raises(RecipeError, match="eskd: temperature"):
        EarlyStopped(dims, temperature=0.0)
