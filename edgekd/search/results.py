"""What came of a search: the trained candidates, what was refused and by which rule, and which are the best trade."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel, ConfigDict

from edgekd.search.board import CANDIDATE, SAME_AS, claimed, trained
from edgekd.search.space import Candidate

RESULT, REFUSED_BY = "result", "refused_by"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShotRow(_Frozen):
    """Accuracy of one shot on the validation classes; `mean` and `ci95` are fractions in 0..1."""

    way: int
    shot: int
    query: int
    episodes: int
    head: str
    mean: float
    ci95: float


class Measured(_Frozen):
    """What is known of a trained candidate: sizes of its exported file, and its validation accuracy in 0..1.

    Bytes are those of packed weights and int32 biases; `peak_activation_bytes` is None where a size is not known.
    """

    parameters: int
    weight_bytes: int
    peak_activation_bytes: int | None
    macs: int
    mean: float
    ci95: float
    by_shot: tuple[ShotRow, ...]
    seconds: float


class TrialRow(_Frozen):
    """A trained candidate; `front`: no other is as accurate with fewer parameters, or more accurate with as many."""

    number: int
    candidate: Candidate
    measured: Measured
    front: bool


class RefusedRow(_Frozen):
    """How many candidates a rule refused, and what it said of the first of them."""

    rule: str
    candidates: int
    message: str


class Outcome(_Frozen):
    """All results; trials from the most accurate on, rules from the most frequent on.

    A candidate that several rules refuse counts under each. `running` are in the hands of other workers.
    """

    study: str
    profile: str
    trials: tuple[TrialRow, ...]
    refusals: tuple[RefusedRow, ...]
    refused: int
    repeated: int
    failed: int
    running: int
    errors: tuple[str, ...] = ()

    @property
    def front(self) -> tuple[TrialRow, ...]:
        """The Pareto front of accuracy over parameters, smallest first."""
        return tuple(sorted((row for row in self.trials if row.front), key=lambda row: row.measured.parameters))


def outcome_of(study: str, profile: str, trials: Sequence[FrozenTrial]) -> Outcome:
    """Gather the results of a study's trials."""
    repeats = [trial for trial in trials if SAME_AS in trial.user_attrs]
    first = [trial for trial in trials if SAME_AS not in trial.user_attrs]
    failed = [trial for trial in first if trial.state == TrialState.FAIL]
    return Outcome(
        study=study,
        profile=profile,
        trials=tuple(_ranked(trial for trial in first if trained(trial))),
        refusals=tuple(_by_rule(first)),
        refused=sum(trial.state == TrialState.PRUNED for trial in first),
        repeated=len(repeats),
        failed=len(failed),
        running=sum(map(claimed, first)),
        errors=tuple(str(trial.user_attrs.get("error", "")) for trial in failed),
    )


def _ranked(trials: Iterable[FrozenTrial]) -> list[TrialRow]:
    found = [(trial, Measured.model_validate(trial.user_attrs[RESULT])) for trial in trials]
    points = [(measured.parameters, measured.mean) for _, measured in found]
    rows = [
        TrialRow(
            number=trial.number,
            candidate=Candidate.model_validate(trial.user_attrs[CANDIDATE]),
            measured=measured,
            front=not any(_better(other, (measured.parameters, measured.mean)) for other in points),
        )
        for trial, measured in found
    ]
    return sorted(rows, key=lambda row: (-row.measured.mean, row.measured.parameters, row.number))


def _better(other: tuple[int, float], own: tuple[int, float]) -> bool:
    """Say whether another (parameters, accuracy) is nowhere worse and somewhere better."""
    return other[0] <= own[0] and other[1] >= own[1] and other != own


def _by_rule(trials: Iterable[FrozenTrial]) -> list[RefusedRow]:
    said: dict[str, list[str]] = {}
    for trial in trials:
        for rule, message in trial.user_attrs.get(REFUSED_BY, {}).items():
            said.setdefault(rule, []).append(message)
    rows = [RefusedRow(rule=rule, candidates=len(texts), message=texts[0]) for rule, texts in said.items()]
    return sorted(rows, key=lambda row: (-row.candidates, row.rule))
