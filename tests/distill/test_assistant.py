from __future__ import annotations

import numpy as np
import pytest

from edgekd.data import ImageSet
from edgekd.distill.assistant import as_student, resolve_assistant
from edgekd.distill.backbones import build_backbone, trained_parameters
from edgekd.errors import DataError, ModelError, RecipeError
from edgekd.recipe import Recipe, followed, load_recipe


def images(size: int = 16, channels: int = 3) -> ImageSet:
    return ImageSet("train", np.zeros((2, size, size, channels), np.uint8), np.arange(2), ("a", "b"))


def recipe(teacher: str, student: str, *assignments: str, assistant: str = "auto") -> Recipe:
    backbones = (f"teacher.backbone={teacher}", f"student.backbone={student}", f"assistant.backbone={assistant}")
    return load_recipe(None, [*backbones, *assignments])


def size(spec: str, channels: int = 3) -> int:
    return trained_parameters(build_backbone(spec, channels))


@pytest.mark.parametrize(
    ("teacher", "student", "family", "channels"),
    [
        ("resnet12:24", "conv4-72", "resnet12", 3),
        ("resnet12:24", "conv4-72", "resnet12", 1),
        ("resnet12:4", "conv4-8", "resnet12", 3),
        ("resnet18", "conv4-64", "resnet12", 3),
        ("timm:mobilenetv2_035", "conv4-64", "resnet12", 3),
        ("conv4-64", "conv4-16", "conv4", 3),
        ("conv4-10", "conv4-8", "conv4", 3),
    ],
)
def test_auto_lies_in_the_middle_for_any_teacher(teacher: str, student: str, family: str, channels: int) -> None:
    resolved = resolve_assistant(recipe(teacher, student), images(channels=channels))
    chosen = resolved.assistant.backbone
    sizes = [size(spec, channels) for spec in (student, chosen, teacher)]
    assert sizes == sorted(set(sizes))
    assert chosen.startswith(family)
    assert resolve_assistant(resolved, images(channels=channels)) == resolved


def test_auto_is_near_the_geometric_mean() -> None:
    chosen = size(resolve_assistant(recipe("resnet12:24", "conv4-72"), images()).assistant.backbone)
    assert chosen == pytest.approx((size("resnet12:24") * size("conv4-72")) ** 0.5, rel=0.1)


@pytest.mark.parametrize(("teacher", "student"), [("conv4-8", "conv4-8"), ("conv4-8", "conv4-64")])
def test_auto_needs_room_between_them(teacher: str, student: str) -> None:
    with pytest.raises(ModelError, match=f"between the student {student} .* the teacher {teacher} .*larger teacher"):
        resolve_assistant(recipe(teacher, student), images())


def test_it_is_trained_as_the_student_where_nothing_else_is_said() -> None:
    asked = recipe(
        "resnet12:4", "conv4-8", "distill.epochs=30", "distill.lr=0.1", "distill.method=kd", "assistant.lr=0.2"
    )
    resolved = resolve_assistant(asked, images())
    assert (resolved.assistant.epochs, resolved.assistant.lr, resolved.assistant.method) == (30, 0.2, "ce + kd")
    written = Recipe.model_validate(resolved.model_dump())  # with every key set
    assert resolve_assistant(written, images()) == resolved


def test_none_is_no_assistant() -> None:
    named = resolve_assistant(recipe("resnet12:4", "conv4-8", assistant="none"), images())
    assert named == recipe("resnet12:4", "conv4-8", assistant="")


def test_none_changes_nothing() -> None:
    without = recipe("resnet12:4", "conv4-8", assistant="")
    assert resolve_assistant(without, images()) == without


@pytest.mark.parametrize(
    ("assistant", "message"),
    [
        ("resnet12:4", "resnet12:4 has 31,800 trained parameters, the teacher resnet12:4 31,800: .* must be smaller"),
        ("conv4-7", r"the student conv4-8 2,040: an assistant must not be smaller than its student.*--assistant auto"),
    ],
)
def test_one_of_a_wrong_size_is_refused(assistant: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve_assistant(recipe("resnet12:4", "conv4-8", assistant=assistant), images())


def test_one_of_the_students_size_is_allowed() -> None:
    same = recipe("resnet12:4", "conv4-8", assistant="conv4-8")
    assert resolve_assistant(same, images()) == same


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("distill.method=ce", "method 'ce' looks at no teacher"),
        ("distill.method=ce + dml", "method 'ce \\+ dml' trains its teacher at the same time"),
        ("assistant.method=ce", "assistant.method 'ce' looks at no teacher"),
        ("assistant.method=dml", "assistant.method 'dml' trains its teacher"),
        ("assistant.method=ce + takd", "no assistant of its own"),
        ("assistant.method=eskd", "would leave no loss"),
        ("assistant.method=ce + kdd", "unknown method 'kdd'"),
    ],
)
def test_methods_that_cannot_go_through_one_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        resolve_assistant(recipe("resnet12:4", "conv4-8", assignment), images())


def test_images_too_small_for_it() -> None:
    with pytest.raises(DataError, match="8x8 are too small"):
        resolve_assistant(recipe("resnet18", "conv4-8", assistant="conv4-9"), images(8))


def test_its_method_may_ask_something_of_the_teacher() -> None:
    resolved = resolve_assistant(recipe("resnet12:4", "conv4-8", "assistant.method=dfkd"), images())
    assert resolved.teacher.rotation == 1.0


def test_it_is_distilled_as_a_student_of_the_teacher() -> None:
    options = ("assistant.method=kd", "assistant.options.kd.temperature=2", "assistant.epochs=3", "assistant.lr=0.5")
    full = recipe("resnet12:4", "conv4-8", *options, assistant="conv4-9")
    own = as_student(full)
    assert followed(full) == ("assist", "conv4-9")
    assert followed(own) == ("teach", "resnet12:4")
    assert own.student.backbone == "conv4-9"
    assert (own.distill.method, own.distill.options) == ("kd", {"kd": {"temperature": 2}})
    assert (own.distill.epochs, own.distill.lr, own.distill.batch_size) == (3, 0.5, full.assistant.batch_size)
    assert own.teacher == full.teacher
