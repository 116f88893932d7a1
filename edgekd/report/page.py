"""The page of a training run: what came out, then how it went. One HTML file without anything outside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.manifest import AccuracyRow, StageResult
from edgekd.report import figures
from edgekd.report.curves import stage_curves
from edgekd.report.svg import PALETTE
from edgekd.report.templates import render

_TEMPLATE = "training.html.j2"


def training_page(
    metrics: Sequence[Mapping[str, Any]],
    rows: Sequence[StageResult],
    title: str = "Training run",
    facts: Mapping[str, str] | None = None,
) -> str:
    """Return the HTML page of a run.

    `metrics` are the lines of metrics.jsonl and `rows` the finished stages in order; either may be empty. `facts`, name
    to value, such as the profile and the seed, are shown under the title.

    Raises:
        RunError: a line of metrics is malformed.
    """
    curves = stage_curves(metrics)
    compared = [_comparable(row, rows) for row in rows]
    shots = sorted({result.shot for row in compared for result in row.accuracy})
    colours = _colours([*(curve.stage for curve in curves), *(row.stage for row in rows)])
    return render(
        _TEMPLATE,
        title=title,
        facts=facts or {},
        rows=compared,
        all_rows=rows,
        own=[row for row in rows if row.measures],
        judged=[row for row in rows if row.classification],
        shots=shots,
        protocol=next((result for row in compared for result in row.accuracy), None),
        curves=curves,
        colours=colours,
        at_shot=figures.at_shot,
        figures={
            "accuracy": figures.accuracy(compared, shots, colours),
            "size": figures.size(compared, shots, colours),
            "validation": figures.validation(curves, colours),
            "loss": figures.loss(curves, colours),
        },
    )


def _comparable(row: StageResult, rows: Sequence[StageResult]) -> StageResult:
    """Keep the accuracies measured as the last stage's first one: other datasets or heads cannot be compared."""
    measured = [of_stage.accuracy[0] for of_stage in rows if of_stage.accuracy]
    if not measured:
        return row
    alike = tuple(result for result in row.accuracy if _protocol(result) == _protocol(measured[-1]))
    return row.model_copy(update={"accuracy": alike})


def _protocol(result: AccuracyRow) -> tuple[str, str, int, int, str]:
    return result.dataset, result.split, result.way, result.query, result.head


def _colours(stages: Sequence[str]) -> dict[str, str]:
    names = dict.fromkeys(stages)
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}
