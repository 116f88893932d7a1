"""Runs side by side: what each stage scored, where the recipes differ, and which differences are beyond noise.

A setting is one recipe, whatever its seed; runs of one setting are its repetitions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Literal

from pydantic import BaseModel, ConfigDict

from edgekd.comparison_settings import Group, Setting, group_runs, run_names, settings_of
from edgekd.errors import UsageError, unknown
from edgekd.manifest import AccuracyRow, StageResult
from edgekd.run import Run
from edgekd.significance import LEVEL, holm, welch_test, z_test
from edgekd.text import escaped

BY_HEAD = "accuracy"
Measure = tuple[str, str, int, int, int]  # split, head, way, shot, query; or ("", "", 0, 0, 0): the head's accuracy


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_Frozen):
    """What a setting scored at a stage, by one measure; fractions in 0..1.

    `values` and `ci95s` hold a number a run, `mean` is over the runs, `std` (n - 1) where there are several; `weights`
    the SHA-256 of each run's file of the stage.
    """

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


class Difference(_Frozen):
    """`mean` of the first minus that of the second, at a stage each; `p` and `p_holm` None where nothing can be told.

    `test`: "welch" over the seeds where both have several, else "z" from the intervals of the episodes or images.
    """

    measure: str
    first: str
    first_stage: str
    second: str
    second_stage: str
    difference: float
    test: Literal["welch", "z"]
    p: float | None
    p_holm: float | None = None

    @property
    def beyond_noise(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.p_holm is not None and self.p_holm < LEVEL


class Comparison(_Frozen):
    """Everything `edgekd compare` says."""

    data: str
    settings: tuple[Setting, ...]
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def measures(self) -> list[str]:
        """The measures that any setting has, in order."""
        return list(dict.fromkeys(score.measure for score in self.scores))

    @property
    def stages(self) -> list[str]:
        """The stages that any setting has, in order."""
        return list(dict.fromkeys(score.stage for score in self.scores))


def compare_runs(runs: Sequence[Run], *, stages: Sequence[str] = (), against: Run | None = None) -> Comparison:
    """Compare runs on the same test images, at `stages` (all where empty).

    Settings are compared pair by pair at each stage, or with that of `against` alone; and within each setting, the
    distilled student with the one from scratch. p-values are corrected over everything that is compared.

    Raises:
        UsageError: the same run twice, other test images, a stage that no run has, or no finished stage at all.
    """
    _require_distinct(runs)
    _require_same_images(runs)
    groups = group_runs(runs)
    stages = _checked_stages(runs, stages)
    titles = _titles([record.result for run in runs for record in run.manifest.stages.values()])
    scores = tuple(score for stage in stages for group in groups for score in _scores(group, stage, titles))
    if not scores:
        raise UsageError(f"nothing was measured yet: no finished stage in {', '.join(run_names(runs))}")
    base = next((group.name for group in groups if against in group.runs), None)
    data = runs[0].manifest.data
    return Comparison(
        data=escaped(f"{data.spec.partition(':')[0]} ({data.split}, {data.n_classes} classes)"),
        settings=settings_of(groups),
        scores=scores,
        differences=_corrected([_difference(*pair) for pair in _pairs(scores, base)]),
        notes=tuple(_notes(runs, groups, scores, titles)),
    )


def _require_distinct(runs: Sequence[Run]) -> None:
    for a, b in itertools.combinations(runs, 2):
        if a.folder.resolve() == b.folder.resolve():
            raise UsageError(f"{b.folder} is named twice")
        if a.recipe == b.recipe:
            raise UsageError(
                f"{a.folder} and {b.folder} have one recipe and one seed, {a.recipe.seed}: a run repeated says nothing "
                "about noise; leave one out"
            )


def _require_same_images(runs: Sequence[Run]) -> None:
    first = runs[0].manifest.data
    for run in runs[1:]:
        data = run.manifest.data
        if data.fingerprint != first.fingerprint:
            raise UsageError(
                f"{runs[0].folder} is measured on {escaped(first.spec)} (test images {first.fingerprint[:12]}) and "
                f"{run.folder} on {escaped(data.spec)} ({data.fingerprint[:12]}): their scores cannot be compared"
            )


def _checked_stages(runs: Sequence[Run], wanted: Sequence[str]) -> list[str]:
    """Return the stages to show, in the order of the longest run."""
    known = list(dict.fromkeys(stage for run in _longest_first(runs) for stage in run.manifest.stages))
    for stage in wanted:
        if stage not in known:
            raise UsageError(unknown("stage", stage, known))
    return [stage for stage in known if not wanted or stage in wanted]


def _longest_first(runs: Sequence[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: -len(run.manifest.stages))


def _measured(result: StageResult) -> dict[Measure, tuple[float, float]]:
    found = {_measure(row): (row.mean, row.ci95) for row in result.accuracy}
    if result.classification:
        found["", "", 0, 0, 0] = (result.classification.accuracy, result.classification.ci95)
    return found


def _measure(row: AccuracyRow) -> Measure:
    return row.split, row.head, row.way, row.shot, row.query


def _titles(results: Sequence[StageResult]) -> dict[Measure, str]:
    """What to call each measure: as much of the protocol as tells them apart."""
    measures = sorted({measure for result in results for measure in _measured(result)})
    shown = [len({measure[place] for measure in measures if measure[1]}) > 1 for place in (0, 1, 4)]
    return {measure: _title(measure, shown) for measure in measures}


def _title(measure: Measure, shown: Sequence[bool]) -> str:
    split, head, way, shot, query = measure
    if not head:
        return BY_HEAD
    parts = [f"{way}-way {shot}-shot", split, f"head {head}", f"{query} queries"]
    return ", ".join(part for part, keep in zip(parts, (True, *shown), strict=True) if keep)


def _scores(group: Group, stage: str, titles: dict[Measure, str]) -> Iterator[Score]:
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


def _pairs(scores: Sequence[Score], base: str | None) -> Iterator[tuple[Score, Score]]:
    """Yield what is compared: settings at one stage, and distilled with scratch within a setting.

    Not the same weights with themselves: settings that differ in what comes later share the stages before.
    """
    for a, b in itertools.combinations(scores, 2):
        if a.measure != b.measure or sorted(a.weights) == sorted(b.weights):
            continue
        if a.setting == b.setting and (a.stage, b.stage) == ("scratch", "distill"):
            yield b, a
        elif a.stage == b.stage and a.setting != b.setting and base in {None, a.setting, b.setting}:
            yield (a, b) if b.setting == base else (b, a)


def _difference(a: Score, b: Score) -> Difference:
    welch = len(a.values) > 1 and len(b.values) > 1
    return Difference(
        measure=a.measure,
        first=a.setting,
        first_stage=a.stage,
        second=b.setting,
        second_stage=b.stage,
        difference=a.mean - b.mean,
        test="welch" if welch else "z",
        p=welch_test(a.values, b.values) if welch else z_test(a.mean, a.error, b.mean, b.error),
    )


def _corrected(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    told = [difference.p for difference in differences if difference.p is not None]
    corrected = iter(holm(told))
    return tuple(
        difference if difference.p is None else difference.model_copy(update={"p_holm": next(corrected)})
        for difference in differences
    )


def _notes(
    runs: Sequence[Run], groups: Sequence[Group], scores: Sequence[Score], titles: dict[Measure, str]
) -> Iterator[str]:
    for group in groups:
        if len({run.recipe.teacher.weights for run in group.runs}) > 1:
            yield f"{group.name}: each seed was taught by a teacher file of its own; they count as one setting"
    for run, name in zip(runs, run_names(runs), strict=True):
        if not run.manifest.complete:
            done = ", ".join(run.manifest.stages) or "no stage"
            yield f"{name} is not finished: it has {done}; to go on: {escaped(run.resume_command)}"
    if len({run.manifest.edgekd for run in runs}) > 1 or len({run.manifest.versions.get("torch") for run in runs}) > 1:
        yield "the runs were made with different versions of edgekd or torch"
    for stage, measure in dict.fromkeys((score.stage, score.measure) for score in scores):
        without = {score.setting for score in scores if score.stage == stage}
        without -= {score.setting for score in scores if (score.stage, score.measure) == (stage, measure)}
        if without and len(titles) > 1:
            yield f"{', '.join(sorted(without))}: {stage} was not measured by {measure}, another test protocol"
