from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekd.data import load_splits
from edgekd.distill.checkpoint import Snapshot, load_snapshot, save_snapshot
from edgekd.distill.pipeline import run_distillation
from edgekd.distill.session import Session, Silent, Stopped, open_session
from edgekd.errors import ModelError, RecipeError, RunError
from edgekd.recipe import Recipe, load_recipe
from edgekd.run import Run
from edgekd.search import training
from edgekd.search.results import Outcome
from edgekd.search.worker import Place, Searched, run_search
from edgekd.verify import verify


class Watcher(Silent):
    """Remembers what is said; stops the session after so many notes."""

    def __init__(self, stop_after: int = 1000) -> None:
        self.notes: list[str] = []
        self.stop_after = stop_after
        self.session: Session | None = None

    def note(self, text: str) -> None:
        self.notes.append(text)
        if len(self.notes) >= self.stop_after and self.session:
            self.session.deadline.signalled = "enough"


def session(watcher: Watcher | None = None) -> Session:
    opened = open_session("fp32", 0, None, watcher, cpu=True)
    if watcher:
        watcher.session = opened
    return opened


def search(recipe: Recipe, folder: Path, watcher: Watcher | None = None) -> Searched:
    return run_search(recipe, Place(folder), session(watcher))


def facts(outcome: Outcome) -> list[tuple[int, str, int, float]]:
    return [(row.number, str(row.candidate), row.measured.parameters, row.measured.mean) for row in outcome.trials]


def of_trials(recipe: Recipe, trials: int) -> Recipe:
    return recipe.model_copy(update={"search": recipe.search.model_copy(update={"trials": trials})})


def capped(folder: Path, recipe: Path, cap: int) -> Recipe:
    """Return the recipe under a profile of its own."""
    profile = folder / "tight.toml"
    profile.write_text(f'name = "tight"\n[params]\nmax = {cap}\n')
    return load_recipe(recipe, [f"profile={profile}"])


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, search_toml: str) -> Recipe:
    path = tmp_path_factory.mktemp("recipe") / "search.toml"
    path.write_text(search_toml)
    return load_recipe(path)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> Searched:
    return search(recipe, tmp_path_factory.mktemp("whole") / "s")


def test_a_search_ends_with_results_and_a_recipe_of_the_best(searched: Searched, recipe: Recipe) -> None:
    outcome, folder = searched.outcome, searched.folder
    assert len(outcome.trials) == 2
    assert searched.stopped is None
    assert Outcome.model_validate_json(folder.results.read_text()) == outcome
    best, first = load_recipe(folder.best), outcome.trials[0].candidate
    assert best.student.backbone == first.student
    assert best.quantize.weight_bits == 8
    unsearched = best.model_copy(update={"student": recipe.student, "search": recipe.search})
    quantize = best.quantize.model_copy(update={"weight_bits": None})
    assert unsearched.model_copy(update={"quantize": quantize}) == recipe


def test_sizes_are_those_of_the_file_and_accuracy_is_of_validation_episodes(searched: Searched) -> None:
    for row in searched.outcome.trials:
        measured = row.measured
        report = verify(searched.folder.trial(row.number) / "model.onnx", static=True)
        assert measured.parameters == report.params.total
        assert measured.weight_bytes == report.memory.weight_bytes
        assert measured.macs == report.macs
        assert [(shot.shot, shot.query, shot.episodes) for shot in measured.by_shot] == [(1, 5, 50), (2, 5, 50)]
        assert measured.mean == pytest.approx(sum(shot.mean for shot in measured.by_shot) / 2)
        assert 0.2 < measured.mean <= 1


def test_no_test_image_is_looked_at(searched: Searched) -> None:
    folders = [searched.folder.teacher, *(searched.folder.trial(row.number) for row in searched.outcome.trials)]
    for folder in folders:
        stages = Run.open(folder).manifest.stages
        assert stages
        assert not any(record.result.accuracy or record.result.classification for record in stages.values())


def test_all_candidates_learn_from_one_teacher(searched: Searched) -> None:
    assert (searched.folder.teacher / "teacher.safetensors").exists()
    for row in searched.outcome.trials:
        run = Run.open(searched.folder.trial(row.number))
        assert run.recipe.teacher.weights == (searched.folder.teacher / "teacher.safetensors").resolve()
        assert "teach" not in {line["stage"] for line in run.metrics()}
        assert not (run.folder / "teacher.safetensors").exists()
        assert run.recipe.distill.epochs == 0.5


def test_a_finished_search_is_not_done_again(searched: Searched, recipe: Recipe) -> None:
    watcher = Watcher()
    again = search(recipe, searched.folder.path, watcher)
    assert again.outcome == searched.outcome
    assert watcher.notes[-1] == f"search folder {searched.folder.path}"


def test_an_interrupted_search_ends_as_one_that_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searched: Searched, recipe: Recipe
) -> None:
    stopped = search(recipe, tmp_path / "s", Watcher(stop_after=4))  # the first candidate is being trained
    assert stopped.stopped is not None
    assert not stopped.outcome.trials
    assert not stopped.folder.best.exists()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "validate", die)
        with pytest.raises(KeyboardInterrupt):
            search(of_trials(recipe, 1), tmp_path / "s")
    ended = search(recipe, tmp_path / "s")
    assert facts(ended.outcome) == facts(searched.outcome)


def test_where_all_are_refused_the_rule_is_named_and_nothing_is_trained(tmp_path: Path, search_recipe: Path) -> None:
    tight = capped(tmp_path, search_recipe, 100)
    tight = tight.model_copy(update={"search": tight.search.model_copy(update={"refused": 3})})
    with pytest.raises(ModelError, match=r"tight holds none of .* parameters refused .* exceed the cap of 100 by"):
        search(tight, tmp_path / "s")
    assert not (tmp_path / "s" / "teacher").exists()
    assert not (tmp_path / "s" / "best.toml").exists()
    results = json.loads((tmp_path / "s" / "results.json").read_text())
    assert results["refusals"][0]["rule"] == "parameters"
    assert not list((tmp_path / "s").glob("trials/*"))


def test_only_what_the_profile_holds_is_trained(tmp_path: Path, search_recipe: Path) -> None:
    outcome = search(of_trials(capped(tmp_path, search_recipe, 1600), 1), tmp_path / "s").outcome
    assert len(outcome.trials) == 1
    assert outcome.refused > 0
    assert outcome.refusals[0].rule == "parameters"
    assert outcome.trials[0].measured.parameters <= 1600


def test_what_a_requirement_fails_is_not_trained(tmp_path: Path, search_recipe: Path) -> None:
    recipe = load_recipe(search_recipe, ['search.require=["macs < 1000"]', "search.refused=3"])
    with pytest.raises(ModelError, match=r"require refused \d+, for example: macs is .*; required < "):
        search(recipe, tmp_path / "search")
    assert not list((tmp_path / "search").glob("trials/*/*.safetensors"))


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("macs", r"search\.require 'macs' does not read like"),
        ("mac < 1", r"search\.require 'mac < 1': unknown quantity 'mac'"),
        ("accuracy[5w5s] >= 0.5", r"search\.require: .*require what the file alone tells"),
    ],
)
def test_a_requirement_that_decides_nothing_is_refused(
    tmp_path: Path, search_recipe: Path, requirement: str, message: str
) -> None:
    recipe = load_recipe(search_recipe, [f'search.require=["{requirement}"]'])
    with pytest.raises(RecipeError, match=message):
        search(recipe, tmp_path / "search")


def test_a_candidate_that_diverges_is_recorded_and_left(tmp_path: Path, recipe: Recipe) -> None:
    distill = recipe.distill.model_copy(update={"lr": 1e30, "warmup_epochs": 0.0, "clip_norm": 0.0})
    bounds = recipe.search.model_copy(update={"refused": 2})
    with pytest.raises(ModelError, match="stage 'distill' diverged"):
        search(recipe.model_copy(update={"distill": distill, "search": bounds}), tmp_path / "s")


def test_hosts_of_one_storage_share_a_teacher_or_are_refused(
    tmp_path: Path, searched: Searched, recipe: Recipe
) -> None:
    database = f"sqlite:///{tmp_path / 'shared.db'}"
    weights = searched.folder.teacher / "teacher.safetensors"
    other = tmp_path / "other.safetensors"
    snapshot = load_snapshot(weights)
    tensors = {name: tensor + 1 for name, tensor in snapshot.tensors.items()}
    save_snapshot(other, Snapshot(tensors, snapshot.values))

    def taught_by(path: Path | None, trials: int) -> Recipe:
        teacher = recipe.teacher.model_copy(update={"weights": path})
        return of_trials(recipe, trials).model_copy(update={"teacher": teacher})

    run_search(taught_by(None, 1), Place(tmp_path / "a", database), session())
    both = run_search(taught_by(weights, 2), Place(tmp_path / "b", database), session()).outcome
    assert facts(both) == sorted(
        [row for row in facts(searched.outcome) if row[0] in {found[0] for found in facts(both)}],
        key=lambda row: -row[3],
    )
    with pytest.raises(RunError, match="began with another teacher"):
        run_search(taught_by(other, 3), Place(tmp_path / "c", database), session())


def test_the_recipes_own_students_are_tried_first(tmp_path: Path, search_recipe: Path) -> None:
    student = "convnet:16-8/2"
    recipe = load_recipe(search_recipe, [f'search.first=["{student}"]', "search.trials=1"])
    found = search(recipe, tmp_path / "search").outcome
    assert [row.candidate.student for row in found.trials] == [student]
    strange = load_recipe(search_recipe, ['search.first=["conv4-8"]'])
    with pytest.raises(RecipeError, match=r"search\.first: 'conv4-8' is not written"):
        search(strange, tmp_path / "strange")
    assert not (tmp_path / "strange").exists()


def test_the_best_recipe_trains_in_full(tmp_path: Path, searched: Searched) -> None:
    best = load_recipe(searched.folder.best, ["meta.enabled=false", "baseline.enabled=false"])
    run = run_distillation(best, tmp_path / "run", session())
    assert run.manifest.complete
    assert run.manifest.stages["quantize"].result.accuracy
    assert run.recipe.student.backbone == searched.outcome.trials[0].candidate.student


def test_time_that_is_up_stops_before_a_candidate(tmp_path: Path, recipe: Recipe) -> None:
    spent = open_session("fp32", 0, 0.001, Watcher(), cpu=True)
    searched = run_search(recipe, Place(tmp_path / "s"), spent)
    assert isinstance(searched.stopped, Stopped)
    assert "time budget" in str(searched.stopped)


def test_validation_images_decide_and_test_images_do_not(searched: Searched) -> None:
    splits = load_splits(load_recipe(searched.folder.path / "search.toml").data.spec)
    assert splits.val.fingerprint != splits.test.fingerprint
    number = searched.outcome.trials[0].number
    run = Run.open(searched.folder.trial(number))
    assert training.validate(run, splits.val, 50).mean == searched.outcome.trials[0].measured.mean
