"""The tables of the zoo's students and teachers, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from edgekd.manifest import AccuracyRow, StageResult
from edgekd.report.card_parts import accuracy_cell
from edgekd.report.markdown import table
from edgekd.zoo import CARD, TEACHERS, ZooModel, ZooTeacher


def zoo_table(models: Iterable[ZooModel], folder: str) -> str:
    """Return the rows of each student; `folder` is where the table's links find the zoo, with a slash or empty."""
    header = ("model", "data", "protocol", "teacher", "from scratch", "float student", "INT8 deployed", "parameters")
    rows = [row for model in models for row in _zoo_rows(model, folder)]
    return "\n".join(table((*header, "INT8 bytes"), rows))


def teacher_table(teachers: Iterable[ZooTeacher]) -> str:
    """Return one row for each teacher of the zoo."""
    header = ("teacher", "data", "backbone", "parameters", "accuracy in float", "licence of the data")
    return "\n".join(table(header, [_teacher_row(teacher) for teacher in teachers]))


def _teacher_row(teacher: ZooTeacher) -> tuple[str, ...]:
    from edgekd.data.registry import DATASETS

    result, data = teacher.result, teacher.run.recipe.data.spec
    (shown,) = _protocols(result.accuracy) or [[]]
    return (
        f"[`{teacher.name}`]({TEACHERS}/{teacher.name}/{CARD})",
        f"`{data}`",
        f"`{result.backbone}`",
        f"{result.parameters:,}",
        f"{_protocol_name(shown)}: {accuracy_cell(shown)}",
        DATASETS[data].licence,
    )


def _zoo_rows(model: ZooModel, folder: str) -> Iterator[tuple[str, ...]]:
    """Yield a row for each number of classes; what was measured of the file alone has no other stage."""
    report = model.report
    stages = (model.stage("teach"), model.stage("scratch"), model.float_student)
    ends = (f"{report.params.total:,}", f"{report.memory.weight_bytes:,}")
    starts = (f"[`{model.name}`]({folder}{model.name}/{CARD})", (model.about or ("",))[0].rstrip("."))
    for shown in _protocols(model.accuracy) or [[]]:
        yield (
            *starts,
            _protocol_name(shown),
            *(accuracy_cell(_like(stage, shown)) for stage in stages),
            f"**{accuracy_cell(shown)}**" if shown else "",
            *ends,
        )
        starts, ends = ("", ""), ("", "")


def _protocols(rows: Sequence[AccuracyRow]) -> list[list[AccuracyRow]]:
    """Return the rows of each number of classes that was measured, the first one first, by shots."""
    ways = dict.fromkeys(row.way for row in rows)
    return [sorted((row for row in rows if row.way == way), key=lambda row: row.shot) for way in ways]


def _protocol_name(rows: Sequence[AccuracyRow]) -> str:
    return f"{rows[0].way}-way {'/'.join(str(row.shot) for row in rows)}-shot" if rows else ""


def _like(stage: StageResult | None, shown: Sequence[AccuracyRow]) -> list[AccuracyRow]:
    found = {(row.way, row.shot): row for row in (stage.accuracy if stage else ())}
    return [found[key] for row in shown if (key := (row.way, row.shot)) in found]
