"""How a released student is repeated: the commands of its card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgekd.recipe import load_recipe
from edgekd.report.card_parts import where_line
from edgekd.zoo import (
    MODEL,
    RECIPE,
    SEARCH_PAGE,
    SEARCH_RECIPE,
    TEACHER_WEIGHTS,
    ZooModel,
    ZooTeacher,
    find_teacher,
    teacher_names,
)


def repeat_section(model: ZooModel) -> Iterator[str]:
    """Yield the commands that train, export and verify a released student again, and that check its file."""
    run, pot = f"runs/{model.name}", " --pot" if _exported_with_pot(model) else ""
    yield from ("## To repeat it", "")
    yield from _commands_of_twin(model, twin) if (twin := _twin_of(model)) else _commands(model)
    yield f"    edgekd export --int8{pot} --run {run} --output {MODEL}"
    ways = sorted({row.way for row in model.accuracy} - {model.recipe.test.way})
    yield from (f"    edgekd verify {MODEL}", *(f"    edgekd verify {MODEL} --way {way}" for way in ways), "")
    if not twin and (released := _released_teacher(model)):
        given = f"`--teacher-weights {released.name}/{TEACHER_WEIGHTS}`"
        yield f"Its teacher is in the zoo: after `edgekd models get {released.name}`, {given} spares"
        yield from ("training it.", "")
    for name, weights in _foreign_weights(model):
        yield from (f"The recipe names weights of the {name}, `{weights}`, which are no part of the zoo.", "")
    yield "Another machine or version gives other bits, and so other figures: floating point is not fixed."
    yield from ("", "To check this file, on the same data:", "", f"    edgekd models get {model.name}")
    yield from (f"    edgekd verify {model.name}/{MODEL} --data {model.manifest.data.spec}:PATH", "")


def _commands_of_twin(model: ZooModel, twin: ZooModel) -> Iterator[str]:
    """What quantizes the float student of another model of the zoo again."""
    run, trained = f"runs/{model.name}", f"runs/{twin.name}"
    yield f"The float student is that of `{twin.name}`: after the commands of its card, quantizing is all that is left."
    yield from (f"(`{RECIPE}` trains all of it in one run.)", "")
    yield from (where_line(model.manifest.data.spec), "")
    yield f"    edgekd distill --recipe {trained}/{RECIPE} --pot --reuse {trained} --run {run}"


def _commands(model: ZooModel) -> Iterator[str]:
    """What trains the student from the beginning."""
    yield from (where_line(model.manifest.data.spec), "", f"    edgekd models get {model.name}", "")
    if SEARCH_PAGE in model.files:
        yield from (
            f"The student was the best of a search, whose results are in `{SEARCH_PAGE}`; the search itself:",
            "",
        )
        yield from (f"    edgekd search --recipe {model.name}/{SEARCH_RECIPE} --run runs/{model.name}-search", "")
        yield from ("Then:", "")
    teacher = ""
    for name in model.teacher_recipes:
        run = f"runs/{model.name}-{Path(name).stem}"
        yield f"    edgekd teach --recipe {model.name}/{name}{teacher} --run {run}"
        teacher = f" --teacher-weights {run}/{model.recipe.teacher.weights}"
    yield f"    edgekd distill --recipe {model.name}/{RECIPE}{teacher} --run runs/{model.name}"


def _twin_of(model: ZooModel) -> ZooModel | None:
    """The model of the same zoo that has the same float student with scales that are no powers of two."""
    quantize = model.recipe.quantize
    if quantize.scale != "power_of_two":
        return None
    for path in sorted(model.folder.parent.glob(f"*/{RECIPE}")):
        other = ZooModel(path.parent.name, path.parent)
        same = other.recipe.model_copy(update={"quantize": quantize}) == model.recipe
        if same and other.recipe.quantize.scale != quantize.scale and other.float_student == model.float_student:
            return other
    return None


def _released_teacher(model: ZooModel) -> ZooTeacher | None:
    """The teacher of the zoo that the recipes of this student's teacher trained, None where there is none."""
    if not model.teacher_recipes:
        return None
    trained = load_recipe(model.folder / model.teacher_recipes[-1])
    return next((teacher for name in teacher_names() if (teacher := find_teacher(name)).run.recipe == trained), None)


def _foreign_weights(model: ZooModel) -> Iterator[tuple[str, Path]]:
    """The weights that a network begins with and that no recipe of the zoo trains."""
    first = load_recipe(model.folder / model.teacher_recipes[0]) if model.teacher_recipes else model.recipe
    sections = {"teacher": first.teacher, "student": model.recipe.student}
    yield from ((name, section.weights) for name, section in sections.items() if section.weights)


def _exported_with_pot(model: ZooModel) -> bool:
    """Whether the run has float scales and the file powers of two: `edgekd export --pot` made it."""
    from edgekd.profile import load_profile

    if model.manifest.quantization.scale != "power_of_two" or model.recipe.quantize.scale == "power_of_two":
        return False
    profile = load_profile(model.recipe.profile)
    own = {profile.weights.scale, profile.activations.scale}
    return model.recipe.quantize.scale == "float" or "power_of_two" not in own
