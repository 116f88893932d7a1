"""The recipes of a search: of its teacher, of each candidate, and of the best one in full."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from edgekd.data import Splits
from edgekd.distill.methods import adapt_recipe, needs_of
from edgekd.distill.optimizer import compress
from edgekd.distill.resolve import require_trainable, resolve
from edgekd.distill.start_weights import require_weights
from edgekd.errors import RecipeError
from edgekd.profile import HardwareProfile
from edgekd.recipe import NONE, Quantize, Recipe, Schedule, Search, Student, Teacher
from edgekd.search.space import Candidate

_S = TypeVar("_S", bound=Schedule)


def require_searchable(recipe: Recipe, candidate: Candidate) -> None:
    """Refuse a recipe whose candidates could not share a teacher, or would not be deployed; `candidate` is any of them.

    Raises:
        RecipeError: saying what to change.
    """
    if not recipe.quantize.enabled:
        raise RecipeError("a search judges students as they are deployed: leave out --no-quantize (quantize.enabled)")
    if recipe.student.weights or recipe.student.pretrained:
        raise RecipeError("a search makes up its students: leave out student.weights and student.pretrained")
    adapted = adapt_recipe(with_student(recipe, candidate))
    if adapted.assistant.backbone not in {"", NONE}:
        raise RecipeError(
            f"an assistant fits one student, and a search tries many: search with the teacher alone, without "
            f"--assistant {adapted.assistant.backbone} or takd, and add it to best.toml"
        )
    if adapted.teacher.backbone != recipe.teacher.backbone:
        raise RecipeError(
            f"method '{recipe.distill.method}' changes the teacher with the student, and a search has one teacher for "
            "all; choose another --method"
        )


def require_startable(recipe: Recipe, splits: Splits, candidate: Candidate, chosen: Collection[str]) -> None:
    """Refuse a recipe whose teacher or whose smallest `candidate` could not be trained on these images.

    `chosen` are the keys that were asked for by themselves, which no method may change.

    Raises:
        RecipeError, DataError, ModelError, RunError: as a run of that recipe would.
    """
    anything = HardwareProfile(name="anything")  # what the profile holds, `verify` says
    stages = ("teach", "distill") if has_teacher(recipe) else ("distill",)
    resolved = resolve(teaching_recipe(recipe, candidate), anything, splits, chosen)
    require_trainable(resolved, splits, stages)
    if has_teacher(recipe):
        require_weights("teacher", resolved.teacher, splits.train)


def has_teacher(recipe: Recipe) -> bool:
    """Say whether the candidates learn from a teacher that is trained before them."""
    needs = needs_of(recipe.distill.method, recipe.distill.options)
    return needs.teacher and not needs.online


def with_student(recipe: Recipe, candidate: Candidate) -> Recipe:
    """Return the recipe with this student; what the search was told is gone, as training looks at none of it."""
    quantize = recipe.quantize.model_copy(update={"weight_bits": candidate.weight_bits})
    student = Student(backbone=candidate.student, classifier=recipe.student.classifier)
    return recipe.model_copy(update={"student": student, "quantize": quantize, "search": Search()})


def teaching_recipe(recipe: Recipe, candidate: Candidate) -> Recipe:
    """Return the recipe that trains the teacher of all candidates; `candidate` only stands for a student."""
    quantize = recipe.quantize.model_copy(update={"enabled": False})
    return _short(with_student(recipe, candidate)).model_copy(update={"quantize": quantize})


def candidate_recipe(recipe: Recipe, candidate: Candidate, teacher: Path | None) -> Recipe:
    """Return the short recipe of a candidate that learns from the weights in `teacher`, None where there is none."""
    settings = recipe.teacher
    if teacher is not None:
        kept = {"backbone": settings.backbone, "classifier": settings.classifier, "pretrained": settings.pretrained}
        settings = Teacher.model_validate({**kept, "weights": teacher})
    chosen = with_student(recipe, candidate)
    return _short(chosen).model_copy(
        update={
            "teacher": settings,
            "distill": _squeezed(recipe.distill, recipe.search.epochs),
            "quantize": _quantize(chosen.quantize, recipe.search.quantize_epochs),
        }
    )


def _short(recipe: Recipe) -> Recipe:
    """Leave out what no candidate is judged by: above all, no test image is looked at."""
    sections = ("baseline", "meta", "test")
    return recipe.model_copy(
        update={name: getattr(recipe, name).model_copy(update={"enabled": False}) for name in sections}
    )


def _quantize(settings: Quantize, epochs: float) -> Quantize:
    return _squeezed(settings, epochs) if settings.method == "qat" else settings


def _squeezed(schedule: _S, epochs: float) -> _S:
    share = epochs / schedule.epochs if schedule.epochs else 0.0
    return compress(schedule, share)
