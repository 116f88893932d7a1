from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from optuna.trial import TrialState

from edgekd.profile import HardwareProfile
from edgekd.recipe import Recipe, Search
from edgekd.search.board import Board, Claim, claimed, trained
from edgekd.search.folder import open_folder
from edgekd.search.space import Space, space_of
from edgekd.search.storage import open_storage, open_study

CAPPED = HardwareProfile.from_text('name = "capped"\n[params]\nmax = 1000\n')
WIDE = Search(trials=4, depth=(2, 4), width=(8, 128), embedding=(8, 128), startup_trials=2)
NARROW = Search(trials=5, refused=6, depth=(1, 1), poolings=(1, 1), embedding=(8, 16))  # two candidates in all


def nobody_waits() -> None:
    raise AssertionError("a lock was not free")


def space(bounds: Search = WIDE) -> Space:
    return space_of(bounds, CAPPED, 32, 32)


class Host:
    """Workers of one folder and one storage."""

    def __init__(self, folder: Path, storage: str | Path) -> None:
        self.folder = open_folder(folder, Recipe(), nobody_waits)
        self.storage = storage
        self.stack = ExitStack()

    def worker(self) -> Board:
        storage = open_storage(self.storage)
        name = self.stack.enter_context(self.folder.working())
        return Board(open_study(storage, "s", Recipe(), {}), storage, self.folder, name)

    def die(self) -> None:
        self.stack.close()


@pytest.fixture(params=["journal", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    return tmp_path / "study.journal" if request.param == "journal" else f"sqlite:///{tmp_path / 'study.db'}"


def claim(board: Board, bounds: Search = WIDE, seed: int = 0) -> Claim:
    claimed = board.claim(space(bounds), seed, nobody_waits)
    assert claimed is not None
    return claimed


def search_through(board: Board, bounds: Search, scores: dict[str, float]) -> list[Claim]:
    """Work alone until there is no more to do; a candidate without a score is refused."""
    done = []
    while (claimed := board.claim(space(bounds), 0, nobody_waits)) is not None:
        done.append(claimed)
        score = scores.get(claimed.candidate.student, len(claimed.candidate.student) / 100)
        if score < 0:
            board.refuse(claimed.number, {})
        else:
            board.finish(claimed.number, score, {})
    return done


def test_workers_get_different_candidates_and_no_more_than_there_are(tmp_path: Path, storage: str | Path) -> None:
    host = Host(tmp_path / "a", storage)
    a, b = host.worker(), host.worker()
    claims = [claim(a), claim(b), claim(a), claim(b)]
    assert [found.number for found in claims] == [0, 1, 2, 3]
    assert len({found.candidate.student for found in claims}) == 4
    assert a.claim(space(), 0, nobody_waits) is None
    b.refuse(1, {"refused_by": {"parameters": "too many"}})
    assert claim(a).number == 4
    host.die()


def test_what_is_queued_is_tried_first_and_once(tmp_path: Path, storage: str | Path) -> None:
    host, students = Host(tmp_path / "a", storage), ("convnet:64-8/2", "convnet:8-16-8/3")
    for _ in range(2):  # every worker queues them
        board = host.worker()
        for student in students:
            board.queue(space().choices_of(student))
    claims = [claim(board), claim(host.worker()), claim(board)]
    assert tuple(found.candidate.student for found in claims[:2]) == students
    assert claims[2].candidate.student not in students
    assert [found.number for found in claims] == [0, 1, 2]
    host.die()


def test_what_a_dead_worker_had_in_hand_is_gone_on_with(tmp_path: Path, storage: str | Path) -> None:
    host = Host(tmp_path / "a", storage)
    first = host.worker()
    claims = [claim(first), claim(first)]
    first.finish(0, 0.5, {})
    host.die()
    second = host.worker()
    assert claim(second) == claims[1]
    assert claim(second).number == 2  # the worker that took it over lives
    host.die()


def test_what_another_host_has_in_hand_is_left_to_it(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    one, other = Host(tmp_path / "a", storage), Host(tmp_path / "b", storage)
    assert claim(one.worker()).number == 0
    one.die()
    assert claim(other.worker()).number == 1
    assert claim(one.worker()).number == 0


def test_a_trial_that_never_had_a_candidate_holds_no_place(tmp_path: Path, storage: str | Path) -> None:
    host = Host(tmp_path / "a", storage)
    board = host.worker()
    board.study.ask()
    assert not claimed(board.trials()[0])
    assert [claim(board).number for _ in range(4)] == [1, 2, 3, 4]
    host.die()


def test_a_search_that_was_interrupted_makes_up_the_same_candidates(tmp_path: Path) -> None:
    bounds = WIDE.model_copy(update={"trials": 7})
    whole = Host(tmp_path / "whole", tmp_path / "whole.journal")
    expected = search_through(whole.worker(), bounds, {})
    parts = Host(tmp_path / "parts", tmp_path / "parts.journal")
    found = search_through(parts.worker(), bounds.model_copy(update={"trials": 4}), {})
    lost = claim(parts.worker(), bounds)
    parts.die()
    found += search_through(parts.worker(), bounds, {})
    assert found == expected
    assert lost == expected[4]


def test_other_seeds_search_elsewhere(tmp_path: Path) -> None:
    a, b = (Host(tmp_path / name, tmp_path / f"{name}.journal").worker() for name in "ab")
    assert claim(a, seed=0).candidate != claim(b, seed=1).candidate


def test_a_small_space_ends_and_repeats_cost_nothing(tmp_path: Path) -> None:
    board = Host(tmp_path / "a", tmp_path / "study.journal").worker()
    done = search_through(board, NARROW, {"convnet:8/1": 0.25, "convnet:16/1": 0.5})
    assert sorted(found.candidate.student for found in done) == ["convnet:16/1", "convnet:8/1"]
    trials = board.trials()
    repeats = [trial for trial in trials if "same_as" in trial.user_attrs]
    assert sum(map(trained, trials)) == 2
    assert all(trial.value == trials[trial.user_attrs["same_as"]].value for trial in repeats)
    assert not any(trained(trial) for trial in trials[-NARROW.refused :])


def test_repeats_of_what_was_refused_are_refused(tmp_path: Path) -> None:
    board = Host(tmp_path / "a", tmp_path / "study.journal").worker()
    done = search_through(board, NARROW, {"convnet:8/1": -1, "convnet:16/1": -1})
    assert len(done) == 2
    assert {trial.state for trial in board.trials()} == {TrialState.PRUNED}
    assert len(board.trials()) == NARROW.refused


def test_a_failed_candidate_takes_no_place(tmp_path: Path) -> None:
    host = Host(tmp_path / "a", tmp_path / "study.journal")
    board = host.worker()
    board.fail(claim(board).number, "the loss is nan")
    assert board.trials()[0].user_attrs["error"] == "the loss is nan"
    assert [claim(board).number for _ in range(4)] == [1, 2, 3, 4]
    host.die()
