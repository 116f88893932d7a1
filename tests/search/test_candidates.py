from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.errors import RecipeError
from edgekd.recipe import Recipe, load_recipe
from edgekd.search.candidates import candidate_recipe, has_teacher, require_searchable, teaching_recipe, with_student
from edgekd.search.space import Candidate

CANDIDATE = Candidate(student="convnet:8-16/1", weight_bits=4)


def test_a_candidate_has_the_schedule_of_the_recipe_squeezed() -> None:
    recipe = load_recipe(
        None,
        [
            "distill.epochs=10",
            "distill.warmup_epochs=2.5",
            "distill.milestones=[4, 8]",
            "quantize.epochs=2",
            "search.epochs=2",
            "search.quantize_epochs=0.5",
        ],
    )
    short = candidate_recipe(recipe, CANDIDATE, Path("/t/teacher.safetensors"))
    assert (short.distill.epochs, short.distill.warmup_epochs, short.distill.milestones) == (2, 0.5, (0.8, 1.6))
    assert (short.quantize.epochs, short.quantize.weight_bits) == (0.5, 4)
    assert short.student.backbone == "convnet:8-16/1"
    assert short.teacher.weights == Path("/t/teacher.safetensors")
    assert not any((short.baseline.enabled, short.meta.enabled, short.test.enabled))
    assert short.distill.lr == recipe.distill.lr


def test_a_candidate_trains_no_teacher_again() -> None:
    recipe = load_recipe(
        None, ["teacher.generations=3", "teacher.rotation=1", "teacher.pretrained=true", "teacher.freeze_epochs=1"]
    )
    teacher = candidate_recipe(recipe, CANDIDATE, Path("/t")).teacher
    assert (teacher.generations, teacher.rotation, teacher.freeze_epochs, teacher.pretrained) == (1, 0, 0, True)
    assert teaching_recipe(recipe, CANDIDATE).teacher == recipe.teacher


def test_heads_stay_of_the_kind_that_the_recipe_names() -> None:
    recipe = load_recipe(None, ["teacher.classifier=cosine", "student.classifier=cosine"])
    short = candidate_recipe(recipe, CANDIDATE, Path("/t"))
    assert (short.teacher.classifier, short.student.classifier) == ("cosine", "cosine")
    assert with_student(recipe, CANDIDATE).student.classifier == "cosine"


def test_no_epochs_stay_none() -> None:
    recipe = load_recipe(None, ["distill.epochs=0", "quantize.epochs=0", "search.quantize_epochs=0"])
    short = candidate_recipe(recipe, CANDIDATE, None)
    assert (short.distill.epochs, short.quantize.epochs) == (0, 0)


@pytest.mark.parametrize(
    ("method", "expected"), [("ce + kd", True), ("ce", False), ("ce + dml", False), ("feature_mse", True)]
)
def test_which_methods_share_a_teacher(method: str, expected: bool) -> None:
    assert has_teacher(load_recipe(None, [f"distill.method={method}"])) is expected


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("quantize.enabled=false", "leave out --no-quantize"),
        ("assistant.backbone=resnet12:8", "without --assistant resnet12:8"),
        ("distill.method=ce + takd", "or takd"),
        ("distill.method=ce + self", "changes the teacher with the student"),
        ("distill.method=ce + kdd", "Did you mean 'kd'"),
    ],
)
def test_what_cannot_be_searched(assignment: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        require_searchable(load_recipe(None, [assignment]), CANDIDATE)


def test_the_best_recipe_is_the_user_s_with_another_student() -> None:
    recipe = load_recipe(None, ["distill.epochs=50", "search.trials=7"])
    best = with_student(recipe, CANDIDATE)
    assert best.distill == recipe.distill
    assert best.search == Recipe().search
