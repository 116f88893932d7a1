"""All of `edgekd search`: one worker, from opening the search to its results."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgekd.data import Splits
from edgekd.distill.engine import TrainingError
from edgekd.distill.pipeline import load_data
from edgekd.distill.session import Session, Stopped
from edgekd.errors import ModelError, RunError, UsageError
from edgekd.files import sha256_file, write_text
from edgekd.profile import HardwareProfile, load_profile
from edgekd.recipe import Recipe, to_toml
from edgekd.run import RUNS_FOLDER
from edgekd.search import training
from edgekd.search.board import Board, Claim
from edgekd.search.candidates import candidate_recipe, require_searchable, require_startable, with_student
from edgekd.search.feasibility import examine_trained, examine_untrained, listed, refusals, requirements_of
from edgekd.search.folder import Folder, comparable, open_folder, require_journal
from edgekd.search.page import results_page
from edgekd.search.results import REFUSED_BY, RESULT, Measured, Outcome, ShotRow, outcome_of
from edgekd.search.space import Space, space_of
from edgekd.search.storage import open_storage, open_study, require_fingerprints
from edgekd.verify import Report, Requirement

MARGIN_S = 2.0  # between two candidates


@dataclass(frozen=True)
class Place:
    """Where a search is kept: its folder, its storage and its name there; None leaves each to the recipe."""

    folder: Path | None = None
    storage: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Searched:
    """What one worker leaves: the results of all so far, the files, and why it stopped early, if it did."""

    folder: Folder
    outcome: Outcome
    stopped: Stopped | None


@dataclass(frozen=True)
class Work:
    """What a worker needs for every candidate."""

    recipe: Recipe
    profile: HardwareProfile
    require: tuple[Requirement, ...]
    splits: Splits
    space: Space
    folder: Folder
    board: Board
    session: Session
    skip_bad: bool

    def give_up(self) -> None:
        """Stop where the time is up or a signal came.

        Raises:
            Stopped: it is.
        """
        if reason := self.session.deadline.reason(MARGIN_S):
            raise Stopped(f"{reason} between two candidates", by_signal=bool(self.session.deadline.signalled))


def run_search(
    recipe: Recipe, place: Place, session: Session, *, skip_bad: bool = False, chosen: Collection[str] = ()
) -> Searched:
    """Search as one of any number of workers, until there are as many trained candidates as the recipe asks for.

    `chosen` are the dotted keys that were asked for by themselves, not as part of a file: no method changes them.
    Each call with the same recipe and folder, or storage and name, goes on with the same search.

    Raises:
        EdgekdError: profile, images, recipe, storage or folder are wrong; the message says what to change.
        ModelError: all candidates were refused.
    """
    if session.world > 1:
        raise UsageError("a search has one process a worker: start `edgekd search` several times, in the same folder")
    profile, require = load_profile(recipe.profile), requirements_of(recipe)
    splits = load_data(recipe, session, skip_bad=skip_bad)
    space = space_of(recipe.search, profile, splits.train.height, splits.train.width)
    first = [space.choices_of(student) for student in recipe.search.first]
    require_searchable(recipe, space.smallest)
    require_startable(recipe, splits, space.smallest, chosen)
    folder = open_folder(place.folder or RUNS_FOLDER / default_name(recipe), recipe, lambda: None)
    if place.storage is None:
        require_journal(folder)
    storage = open_storage(place.storage or folder.journal)
    fingerprints = {"images": splits.val.fingerprint, "profile": profile.sha256}
    with session.deadline.catching_signals(), folder.working() as worker:
        with folder.deciding(lambda: None):
            study = open_study(storage, place.name or default_name(recipe), recipe, fingerprints)
            board = Board(study, storage, folder, worker)
            for choices in first:
                board.queue(choices)
        session.reporter.note(f"search folder {folder.path}")
        stopped = _work_through(Work(recipe, profile, require, splits, space, folder, board, session, skip_bad))
    outcome = outcome_of(study.study_name, profile.name, board.trials())
    _write_results(recipe, folder, outcome)
    if not stopped:
        _require_any(outcome)
    return Searched(folder, outcome, stopped)


def default_name(recipe: Recipe) -> str:
    """Return `search-data-profile-hash`: the same recipe finds its search again, however many trials it asks for."""
    data, profile = recipe.data.spec.partition(":")[0], Path(recipe.profile).stem
    return f"search-{data}-{profile}-{comparable(recipe).sha256[:8]}"


def _work_through(work: Work) -> Stopped | None:
    """Work on one candidate after the other; return why not to the end, None at the end."""
    try:
        while True:
            work.give_up()
            claim = work.board.claim(work.space, work.recipe.seed, work.give_up)
            if claim is None:
                return None
            _try(work, claim)
    except Stopped as stopped:
        return stopped


def _try(work: Work, claim: Claim) -> None:
    """Examine, train, examine again and measure one candidate; record what came of it.

    Raises:
        Stopped: the candidate is left to whoever goes on.
        EdgekdError: what is wrong with all candidates.
    """
    name = f"candidate {claim.number} ({claim.candidate})"
    recipe = with_student(work.recipe, claim.candidate)
    untrained = examine_untrained(recipe, work.profile, work.splits, work.require)
    if _refused(work, claim, untrained, name):
        return
    teacher = training.train_teacher(
        work.recipe, work.space.smallest, work.folder, work.session, work.give_up, skip_bad=work.skip_bad
    )
    if teacher:
        require_fingerprints(work.board.study, {"teacher": sha256_file(teacher)})
    work.session.reporter.note(f"{name}: {untrained.params.total:,} parameters, training")
    try:
        _train(work, claim, teacher, name)
    except (TrainingError, ModelError, RunError) as error:
        work.board.fail(claim.number, str(error))
        work.session.reporter.note(f"{name}: {error}")


def _train(work: Work, claim: Claim, teacher: Path | None, name: str) -> None:
    began = time.monotonic()
    recipe = candidate_recipe(work.recipe, claim.candidate, teacher)
    folder = work.folder.trial(claim.number)
    run = training.train_candidate(recipe, folder, work.session, skip_bad=work.skip_bad)
    report = examine_trained(run, work.profile, work.splits, work.require)
    if _refused(work, claim, report, f"{name}, trained"):
        return
    score = training.validate(run, work.splits.val, work.recipe.search.episodes)
    measured = _measured(report, score, time.monotonic() - began)
    training.forget_copies(run)
    work.board.finish(claim.number, score.mean, {RESULT: measured.model_dump(mode="json")})
    work.session.reporter.note(f"{name}: {100 * score.mean:.2f} +- {100 * score.ci95:.2f} % on validation classes")


def _refused(work: Work, claim: Claim, report: Report, name: str) -> bool:
    found = refusals(report)
    if found:
        work.board.refuse(claim.number, {REFUSED_BY: {refusal.rule: refusal.message for refusal in found}})
        work.session.reporter.note(f"{name}: refused by {listed(found)}")
    return bool(found)


def _measured(report: Report, score: training.Score, seconds: float) -> Measured:
    return Measured(
        parameters=report.params.total,
        weight_bytes=report.memory.weight_bytes,
        peak_activation_bytes=report.memory.peak_activation_bytes,
        macs=report.macs,
        mean=score.mean,
        ci95=score.ci95,
        by_shot=tuple(ShotRow.model_validate(vars(accuracy)) for accuracy in score.by_shot),
        seconds=seconds,
    )


def _write_results(recipe: Recipe, folder: Folder, outcome: Outcome) -> None:
    write_text(folder.results, outcome.model_dump_json(indent=1) + "\n")
    write_text(folder.page, results_page(outcome, recipe))
    if outcome.trials:
        write_text(folder.best, to_toml(with_student(recipe, outcome.trials[0].candidate)))


def _require_any(outcome: Outcome) -> None:
    """Refuse to call a search done that nothing came of.

    Raises:
        ModelError: with the rules that refused the candidates, or why none could be trained.
    """
    if outcome.trials or outcome.running:
        return
    rules = [f"{row.rule} refused {row.candidates}, for example: {row.message}" for row in outcome.refusals]
    reasons = "; ".join([*rules, *outcome.errors[:1]])
    raise ModelError(
        f"{outcome.profile} holds none of {outcome.refused + outcome.failed} candidates: {reasons}; lower the bounds "
        "of [search] (width, embedding, depth), or choose another profile"
    )
