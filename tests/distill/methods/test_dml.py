from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgekd.distill.methods import Dims, Outputs, Samples, adapt_recipe, build_method, needs_of
from edgekd.distill.methods.dml import MutualLearning
from edgekd.errors import RecipeError
from edgekd.recipe import load_recipe

Array = NDArray[np.float64]


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def _divergence(p: Array, q: Array) -> float:
    return float(np.mean([np.sum(a * (np.log(a) - np.log(b))) for a, b in zip(p, q, strict=True)]))


def _cross_entropy(q: Array, labels: Array) -> float:
    return float(np.mean([-np.log(row[label]) for row, label in zip(q, labels, strict=True)]))


def test_value(dims: Dims, student: Outputs, teacher: Outputs, samples: Samples) -> None:
    p_s, p_t = _softmax(student.logits.numpy()), _softmax(teacher.logits.numpy())
    expected = _divergence(p_t, p_s) + _divergence(p_s, p_t) + _cross_entropy(p_t, samples.labels.numpy())
    assert float(MutualLearning(dims)(student, teacher, samples)) == pytest.approx(expected)


def test_each_network_learns_with_the_other_held_still(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    """The gradient of KL(p || softmax(u)) and of CE(y, u) is softmax(u) - p and softmax(u) - onehot(y), over b."""
    p_s, p_t = _softmax(student.logits.numpy()), _softmax(teacher.logits.numpy())
    onehot = np.eye(dims.classes)[samples.labels.numpy()]
    inputs = (student.logits.requires_grad_(), teacher.logits.requires_grad_())
    of_student, of_peer = torch.autograd.grad(MutualLearning(dims)(student, teacher, samples), inputs)
    np.testing.assert_allclose(of_student.numpy(), (p_s - p_t) / 3, atol=1e-12)
    np.testing.assert_allclose(of_peer.numpy(), (p_t - p_s + p_t - onehot) / 3, atol=1e-12)


def test_with_ce_it_is_symmetric_in_the_networks(
    dims: Dims, student: Outputs, teacher: Outputs, samples: Samples
) -> None:
    method = build_method("ce + dml", dims)
    one, _ = method(student, teacher, samples)
    two, _ = method(teacher, student, samples)
    torch.testing.assert_close(one, two)


def test_twins_have_the_labels_alone(dims: Dims, teacher: Outputs, samples: Samples) -> None:
    expected = _cross_entropy(_softmax(teacher.logits.numpy()), samples.labels.numpy())
    assert float(MutualLearning(dims)(teacher, teacher, samples)) == pytest.approx(expected)


def test_its_peer_learns_at_the_same_time() -> None:
    needs = needs_of("ce + dml")
    assert (needs.teacher, needs.labels, needs.online) == (True, True, True)
    with pytest.raises(RecipeError, match="choose one of them"):
        needs_of("ce + kd + dml")


def test_a_trained_teacher_would_go_unused() -> None:
    recipe = load_recipe(None, ["distill.method=ce + dml", "teacher.weights=/x.safetensors"])
    with pytest.raises(RecipeError, match="leave out --teacher-weights"):
        adapt_recipe(recipe)
