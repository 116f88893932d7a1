"""The card of a released teacher, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgekd.report.card_parts import card_of, kind_of_classes, licence_line, protocol_line, stage_table, where_line
from edgekd.zoo import RECIPE, TEACHER_WEIGHTS, ZooTeacher


def teacher_card(teacher: ZooTeacher) -> str:
    """Return the card of a released teacher.

    Raises:
        EdgekdError: a file of the teacher is missing or damaged.
    """
    return card_of(teacher, _data(teacher), _accuracy(teacher), _distilling(teacher), _repeating(teacher))


def _data(teacher: ZooTeacher) -> Iterator[str]:
    from edgekd.data.registry import DATASETS

    data = teacher.run.manifest.data
    entry = DATASETS[data.spec]
    yield from ("## Data", "", f"`{data.spec}` ({entry.summary}).")
    yield f"Measured on its {data.split} split: {data.n_classes} classes ({kind_of_classes(novel=data.novel)});"
    yield from (f"SHA-256 of the split `{data.fingerprint}`.", "", licence_line(entry.licence), "")


def _accuracy(teacher: ZooTeacher) -> Iterator[str]:
    result = teacher.result
    yield from ("## Accuracy", "", f"{protocol_line(result.accuracy[0])}, in float; mean ± 95 % interval, %.", "")
    yield from stage_table([result])


def _distilling(teacher: ZooTeacher) -> Iterator[str]:
    yield from ("## To distill from it", "", where_line(teacher.run.recipe.data.spec), "")
    yield from (f"    edgekd models get {teacher.name}", f"    {teacher.distill_command(Path(teacher.name))}", "")


def _repeating(teacher: ZooTeacher) -> Iterator[str]:
    yield from ("## To repeat it", "")
    name, weights = teacher.name, ""
    for recipe in (*teacher.earlier, RECIPE):
        run = f"runs/{name}" if recipe == RECIPE else f"runs/{name}-{Path(recipe).stem}"
        yield f"    edgekd teach --recipe {name}/{recipe}{weights} --run {run}"
        weights = f" --teacher-weights {run}/{TEACHER_WEIGHTS}"
    yield ""
