"""Differences of scores, and which of them are beyond noise."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from edgekd.comparison_scores import Score
from edgekd.significance import LEVEL, holm, welch_test, z_test

DISTILLED = "distilled"  # with a head, if there is to be one


class Difference(BaseModel):
    """`mean` of the first minus that of the second, at a stage each; `p` and `p_holm` None where nothing can be told.

    `test`: "welch" over the seeds where both have several, else "z" from the intervals of the episodes or images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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


def differences_of(scores: Sequence[Score], base: str | None) -> tuple[Difference, ...]:
    """Compare settings pair by pair, or with `base` alone; p-values are corrected over everything that is compared."""
    return _corrected([_difference(*pair) for pair in _pairs(scores, base)])


def _pairs(scores: Sequence[Score], base: str | None) -> Iterator[tuple[Score, Score]]:
    """Yield what is compared: settings at what they reached alike, and distilled with scratch within a setting.

    Not the same weights with themselves: settings that differ in what comes later share the stages before.
    """
    reached = reached_by(scores)
    for a, b in itertools.combinations(scores, 2):
        if a.measure != b.measure or sorted(a.weights) == sorted(b.weights):
            continue
        at = reached[a.setting, a.stage], reached[b.setting, b.stage]
        if a.setting == b.setting and at == ("scratch", DISTILLED):
            yield b, a
        elif at[0] == at[1] and a.setting != b.setting and base in {None, a.setting, b.setting}:
            yield (a, b) if b.setting == base else (b, a)


def reached_by(scores: Sequence[Score]) -> dict[tuple[str, str], str]:
    """Return what each (setting, stage) reached: `DISTILLED` where it ends with the whole student, else the stage.

    Of a method without labels that is the head which is trained after distilling, of the others distilling.
    """
    headed = {score.setting for score in scores if score.stage == "head"}
    ends = {score.setting: "head" if score.setting in headed else "distill" for score in scores}
    return {
        (score.setting, score.stage): DISTILLED if score.stage == ends[score.setting] else score.stage
        for score in scores
    }


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
