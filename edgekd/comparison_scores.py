"""Scores of settings: what the runs of one recipe reached at a stage, by each measure that they have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from edgekd.comparison_settings import Group
from edgekd.manifest import AccuracyRow, StageResult
from edgekd.text import spelled

BY_HEAD = "accuracy"


class Measure(NamedTuple):
    """A test protocol of episodes; without a head it is the accuracy by the stage's head, or a learner's `own`."""

    split: str = ""
    head: str = ""
    way: int = 0
    shot: int = 0
    query: int = 0
    own: str = ""


class Score(BaseModel):
    """What a setting scored at a stage, by one measure; fractions in 0..1.

    `values` and `ci95s` hold a number a run, `mean` is over the runs, `std` (n - 1) where there are several; `weights`
    the SHA-256 of each run's file of the stage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: str
    stage: str
    backbone: str
    parameters: int
    measure: str
    values: tuple[float, ...]
    ci95s: tuple[float, ...]
    weights: tuple[str, ...]
    mean: float
    std: float | None

    @property
    def error(self) -> float:
        """The standard error of the mean as far as the test episodes or images cause it."""
        return math.sqrt(sum((ci95 / 1.96) ** 2 for ci95 in self.ci95s)) / len(self.ci95s)


def _measured(result: StageResult) -> dict[Measure, tuple[float, float]]:
    found = {_measure(row): (row.mean, row.ci95) for row in result.accuracy}
    if result.classification:
        found[Measure()] = (result.classification.accuracy, result.classification.ci95)
    return found | {Measure(own=row.name): (row.mean, row.ci95) for row in result.measures}


def _measure(row: AccuracyRow) -> Measure:
    return Measure(row.split, row.head, row.way, row.shot, row.query)


def titles_of(results: Sequence[StageResult]) -> dict[Measure, str]:
    """What to call each measure: as much of the protocol as tells them apart."""
    measures = sorted({measure for result in results for measure in _measured(result)})
    shown = [len({measure[place] for measure in measures if measure.head}) > 1 for place in (0, 1, 4)]
    return {measure: _title(measure, shown) for measure in measures}


def _title(measure: Measure, shown: Sequence[bool]) -> str:
    if not measure.head:
        return spelled(measure.own) or BY_HEAD
    parts = [
        f"{measure.way}-way {measure.shot}-shot",
        measure.split,
        f"head {measure.head}",
        f"{measure.query} queries",
    ]
    return ", ".join(part for part, keep in zip(parts, (True, *shown), strict=True) if keep)


def scores_of(group: Group, stage: str, titles: dict[Measure, str]) -> Iterator[Score]:
    """Yield a score for each measure that any run of the setting has at this stage."""
    records = [run.manifest.stages[stage] for run in group.runs if stage in run.manifest.stages]
    tables = [_measured(record.result) for record in records]
    for measure, title in titles.items():
        having = [record for record, table in zip(records, tables, strict=True) if measure in table]
        found = [table[measure] for table in tables if measure in table]
        if found:
            values = tuple(mean for mean, _ in found)
            yield Score(
                setting=group.name,
                stage=stage,
                backbone=having[0].result.backbone,
                parameters=having[0].result.parameters,
                measure=title,
                values=values,
                ci95s=tuple(ci95 for _, ci95 in found),
                weights=tuple(record.sha256 for record in having),
                mean=fmean(values),
                std=stdev(values) if len(values) > 1 else None,
            )
