"""Runs side by side: what each stage scored, where the recipes differ, and which differences are beyond noise.

A setting is one recipe, whatever its seed; runs of one setting are its repetitions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from edgekd.comparison_differences import Difference, differences_of, reached_by
from edgekd.comparison_scores import Measure, Score, scores_of, titles_of
from edgekd.comparison_settings import Group, Setting, group_runs, run_names, settings_of
from edgekd.errors import UsageError, unknown
from edgekd.run import Run
from edgekd.text import counted, escaped

__all__ = ["Comparison", "Difference", "Score", "compare_runs"]


class Comparison(BaseModel):
    """Everything `edgekd compare` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    distilled student, with its head where that is trained later, with the one from scratch. p-values are corrected over
    everything that is compared.

    Raises:
        UsageError: the same run twice, other test images, a stage that no run has, or no finished stage at all.
    """
    _require_distinct(runs)
    _require_same_images(runs)
    groups = group_runs(runs)
    stages = _checked_stages(runs, stages)
    titles = titles_of([record.result for run in runs for record in run.manifest.stages.values()])
    scores = tuple(score for stage in stages for group in groups for score in scores_of(group, stage, titles))
    if not scores:
        raise UsageError(f"nothing was measured yet: no finished stage in {', '.join(run_names(runs))}")
    base = next((group.name for group in groups if against in group.runs), None)
    data = runs[0].manifest.data
    return Comparison(
        data=escaped(f"{data.spec.partition(':')[0]} ({data.split}, {counted(data.n_classes, 'class', 'classes')})"),
        settings=settings_of(groups),
        scores=scores,
        differences=differences_of(scores, base),
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
    yield from _unmeasured(scores, {title: measure for measure, title in titles.items()})


def _unmeasured(scores: Sequence[Score], measures: Mapping[str, Measure]) -> Iterator[str]:
    """Say which settings lack a measure that others have of the same thing, and why."""
    reached = reached_by(scores)
    placed = [(reached[score.setting, score.stage], score) for score in scores]
    for place, measure in dict.fromkeys((place, score.measure) for place, score in placed):
        here = [score for at, score in placed if at == place]
        having = {score.setting for score in here if score.measure == measure}
        without = sorted({score.setting for score in here} - having)
        if without:
            stages = " or ".join(dict.fromkeys(score.stage for score in here if score.setting in without))
            yield f"{', '.join(without)}: {stages} was not measured by {measure}: {_reason(measures[measure])}"


def _reason(measure: Measure) -> str:
    if measure.own:
        return "it is that of another learner"
    return "another test protocol" if measure.head else "no head was trained there"
