"""What all workers of a search share: an Optuna study of candidates, who works on which, and what came of them.

T. Akiba et al., Optuna: A Next-generation Hyperparameter Optimization Framework, KDD 2019, arXiv 1907.10902.
Its sampler: J. Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011 (tree-structured Parzen).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from edgekd.recipe import Search
from edgekd.search.folder import Folder
from edgekd.search.space import Candidate, Space

SAME_AS, CANDIDATE, FOLDER, WORKER = "same_as", "candidate", "folder", "worker"


@dataclass(frozen=True)
class Claim:
    """A candidate that this worker works on, under the number of its trial."""

    number: int
    candidate: Candidate


class Board:
    """The study, as one worker sees it."""

    def __init__(self, study: optuna.Study, storage: optuna.storages.BaseStorage, folder: Folder, worker: str) -> None:
        self.study, self.folder, self.worker = study, folder, worker
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(study.study_name)

    def queue(self, choices: Mapping[str, int]) -> None:
        """Have the candidate of these choices tried before others, once."""
        self.study.enqueue_trial(dict(choices), skip_if_exists=True)

    def claim(self, space: Space, seed: int, while_waiting: Callable[[], None]) -> Claim | None:
        """Return what to work on: what a worker of this folder left when it died, else something new, else None.

        A search of one worker makes up the same candidates from the same seed, whether it is interrupted or not.
        """
        with self.folder.deciding(while_waiting):
            if left := self._left_behind():
                return left
            while not self._enough(space.bounds):
                claim, before = self._new(space, seed)
                if before is None:
                    return claim
                self._repeat(claim, before)
        return None

    def finish(self, number: int, score: float, facts: Mapping[str, Any]) -> None:
        """Record a trained candidate, with its score on the validation classes in 0..1."""
        self._note(number, facts)
        self.study.tell(number, score)

    def refuse(self, number: int, facts: Mapping[str, Any]) -> None:
        """Record a candidate that the profile refuses."""
        self._note(number, facts)
        self.study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """Record a candidate that could not be trained."""
        self._note(number, {"error": reason})
        self.study.tell(number, state=TrialState.FAIL)

    def trials(self) -> list[FrozenTrial]:
        """Return every trial, as it is now, by number."""
        return self.study.get_trials(deepcopy=False)

    def _left_behind(self) -> Claim | None:
        mine = [trial for trial in self.trials() if claimed(trial) and trial.user_attrs[FOLDER] == self.folder.identity]
        for trial in mine:
            worker = trial.user_attrs[WORKER]
            if not self.folder.works(worker):
                self._note(trial.number, {WORKER: self.worker})
                self.folder.forget(worker)
                return Claim(trial.number, Candidate.model_validate(trial.user_attrs[CANDIDATE]))
        return None

    def _enough(self, bounds: Search) -> bool:
        trials = self.trials()
        taken = [trial for trial in trials if trained(trial) or claimed(trial)]
        ended = [trial for trial in reversed(trials) if trial.state.is_finished()]
        in_vain = sum(1 for _ in takewhile(lambda trial: not trained(trial), ended))
        return len(taken) >= bounds.trials or in_vain >= bounds.refused

    def _new(self, space: Space, seed: int) -> tuple[Claim, FrozenTrial | None]:
        """Return a new candidate, and the trial that had it before, if one had."""
        trial = self.study.ask()
        # Seeded by the trial's number: a resumed search goes on as one that never stopped, and no two hosts draw alike.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=_seed(seed, trial.number), n_startup_trials=space.bounds.startup_trials, multivariate=False
        )
        candidate = space.suggest(trial)
        facts = {CANDIDATE: candidate.model_dump(), WORKER: self.worker, FOLDER: self.folder.identity}
        before = next((old for old in self.trials() if old.user_attrs.get(CANDIDATE) == facts[CANDIDATE]), None)
        self._note(trial.number, facts)
        return Claim(trial.number, candidate), before

    def _repeat(self, claim: Claim, before: FrozenTrial) -> None:
        """Give a candidate that was there before the result that it had; one that is not done yet counts as refused."""
        self._note(claim.number, {SAME_AS: before.number})
        if before.state == TrialState.COMPLETE:
            self.study.tell(claim.number, before.value)
        else:
            self.study.tell(claim.number, state=TrialState.PRUNED)

    def _note(self, number: int, facts: Mapping[str, Any]) -> None:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        for key, value in facts.items():
            self._storage.set_trial_user_attr(trial_id, key, value)


def trained(trial: FrozenTrial) -> bool:
    """Say whether a trial was trained to its end, and not one like it before."""
    return trial.state == TrialState.COMPLETE and SAME_AS not in trial.user_attrs


def claimed(trial: FrozenTrial) -> bool:
    """Say whether a worker has a trial in hand; one that died without a candidate left nothing to go on with."""
    return trial.state == TrialState.RUNNING and FOLDER in trial.user_attrs


def _seed(seed: int, number: int) -> int:
    """Return 32 bits that depend on both."""
    return int.from_bytes(hashlib.sha256(f"{seed}/search/{number}".encode()).digest()[:4], "big")
