"""The teacher's assistant: which network, and whether it can stand between teacher and student."""

from __future__ import annotations

import math
from bisect import bisect_left

import torch

from edgekd.data import ImageSet
from edgekd.distill.backbones import build_backbone, require_input, trained_parameters
from edgekd.distill.methods import adapt_recipe, needs_of, parse_expression
from edgekd.errors import ModelError, RecipeError
from edgekd.recipe import AUTO, NONE, Assistant, Distill, Recipe, Schedule, Student

WIDTHS = {"resnet12": range(1, 129), "conv4": range(1, 513)}  # of the first block, by family


def resolve_assistant(recipe: Recipe, images: ImageSet) -> Recipe:
    """Put a backbone in the place of `auto`, adapt the recipe to the assistant's method, refuse what cannot work.

    Raises:
        RecipeError: no term looks at a trained teacher, or the assistant's method is none that can teach it.
        ModelError: it is not smaller than the teacher, or is smaller than the student.
        DataError: the images are too small for it.
    """
    if recipe.assistant.backbone in {"", NONE}:
        return recipe.model_copy(update={"assistant": recipe.assistant.model_copy(update={"backbone": ""})})
    _require_trained_teacher(recipe)
    recipe = recipe.model_copy(update={"assistant": _scheduled(recipe.assistant, recipe.distill)})
    if recipe.assistant.backbone == AUTO:
        backbone = _between(recipe, images.channels)
        recipe = recipe.model_copy(update={"assistant": recipe.assistant.model_copy(update={"backbone": backbone})})
    teacher = adapt_recipe(as_student(recipe)).teacher
    recipe = recipe.model_copy(update={"teacher": teacher})
    _require_middle(recipe, images)
    return recipe


def _scheduled(assistant: Assistant, student: Distill) -> Assistant:
    """Return the assistant with the student's schedule, key by key, where it was given none of its own."""
    keys = (student.model_fields_set & Schedule.model_fields.keys()) - assistant.model_fields_set
    return assistant.model_copy(update={key: getattr(student, key) for key in keys})


def as_student(recipe: Recipe) -> Recipe:
    """Return the recipe of a run in which the assistant is the student."""
    assistant = recipe.assistant
    distill = Distill.model_validate(assistant.model_dump(exclude={"backbone"}))
    none = assistant.model_copy(update={"backbone": ""})
    return recipe.model_copy(
        update={"student": Student(backbone=assistant.backbone), "distill": distill, "assistant": none}
    )


def _require_trained_teacher(recipe: Recipe) -> None:
    for what, method in (("method", recipe.distill.method), ("assistant.method", recipe.assistant.method)):
        needs = needs_of(method)
        if not needs.teacher or needs.online:
            why = "trains its teacher at the same time" if needs.teacher else "looks at no teacher"
            raise RecipeError(f"{what} '{method}' {why}, so an assistant has nothing to pass on; leave it out")
    taught = needs_of(recipe.assistant.method, recipe.assistant.options)
    if taught.prepared or not taught.head:
        why = "needs a layer that only the student's distillation prepares" if taught.prepared else "teaches it no head"
        raise RecipeError(f"assistant.method '{recipe.assistant.method}' {why}; write 'ce + kd', or add it to that")
    if any(term.name == "takd" for term in parse_expression(recipe.assistant.method)):
        raise RecipeError("assistant.method holds takd, but an assistant has no assistant of its own; write 'kd'")


def _require_middle(recipe: Recipe, images: ImageSet) -> None:
    spec = recipe.assistant.backbone
    with torch.random.fork_rng():
        require_input(build_backbone(spec, images.channels), images.height, images.width, images.channels)
    size, teacher, student = (
        _size(name, images.channels) for name in (spec, recipe.teacher.backbone, recipe.student.backbone)
    )
    if size >= teacher:
        other, wrong = f"the teacher {recipe.teacher.backbone} {teacher:,}", "must be smaller than its teacher"
    elif size < student:
        other, wrong = f"the student {recipe.student.backbone} {student:,}", "must not be smaller than its student"
    else:
        return
    raise ModelError(
        f"the assistant {spec} has {size:,} trained parameters, {other}: an assistant {wrong}; "
        "name another, or let --assistant auto choose"
    )


def _between(recipe: Recipe, channels: int) -> str:
    """Return the backbone nearest to the geometric mean of both sizes, of the teacher's family where it has one there.

    Raises:
        ModelError: no network of a known family is of such a size.
    """
    student, teacher = (_size(spec, channels) for spec in (recipe.student.backbone, recipe.teacher.backbone))
    middle = math.sqrt(student * teacher)
    for family in sorted(WIDTHS, key=lambda name: not recipe.teacher.backbone.startswith(name)):
        sizes = {spec: _size(spec, channels) for spec in _nearest(family, middle, channels)}
        inside = [spec for spec, size in sizes.items() if student < size < teacher]
        if inside:
            return min(inside, key=lambda spec: abs(math.log(sizes[spec] / middle)))
    raise ModelError(
        f"no assistant lies between the student {recipe.student.backbone} ({student:,} trained parameters) and the "
        f"teacher {recipe.teacher.backbone} ({teacher:,}); take a larger teacher with --teacher"
    )


def _nearest(family: str, size: float, channels: int) -> list[str]:
    """Return the widest network of the family below `size` parameters, and the narrowest that is not."""
    specs = [f"{family}:{width}" for width in WIDTHS[family]]
    place = bisect_left(specs, size, key=lambda spec: _size(spec, channels))
    return specs[max(place - 1, 0) : place + 1]


def _size(spec: str, channels: int) -> int:
    with torch.random.fork_rng():
        return trained_parameters(build_backbone(spec, channels))
