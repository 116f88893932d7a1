"""A folder of the zoo out of a finished run, by the maintainers' command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd import zoo
from edgekd.distill.pipeline import run_distillation
from edgekd.distill.session import open_session
from edgekd.errors import UsageError
from edgekd.recipe import Recipe, load_recipe, to_toml
from edgekd.report.card import model_card
from edgekd.run import Run
from edgekd.search.page import results_page
from edgekd.search.results import Measured, Outcome, TrialRow
from edgekd.search.space import Candidate
from edgekd.zoo import CARD, FILES, REPORT, SEARCH_FILES, ZooModel, copy_model, recipe_file

ROOT = Path(__file__).parents[2]
SHORT = ["teacher.epochs=0", "distill.epochs=1", "meta.enabled=false", "baseline.enabled=false", "quantize.method=ptq"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_toml: str, image_folder: Path) -> Run:
    """A finished run on images that it names by their path."""
    folder = tmp_path_factory.mktemp("released")
    (folder / "tiny.toml").write_text(tiny_toml)
    recipe = load_recipe(folder / "tiny.toml", [f"data.spec=miniimagenet:{image_folder}", *SHORT])
    return run_distillation(recipe, folder / "run", open_session("fp32", 0, cpu=True))


def tool(name: str, folder: Path, data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "EDGEKD_DATA": str(data), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools" / name), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def release(folder: Path, data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return tool("release_model.py", folder, data, *arguments, "--into", str(folder / "zoo"))


@pytest.fixture
def data(tmp_path: Path, image_folder: Path) -> Path:
    """A data folder in which a set's name alone finds the images."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "miniimagenet").symlink_to(image_folder)
    return tmp_path / "data"


def test_a_student_is_measured_anew(tmp_path: Path, run: Run, data: Path) -> None:
    done = release(
        tmp_path, data, str(run.folder), "tiny", "--about", "Tiny checkers", "--episodes", "100", "--way", "3"
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "zoo" / "tiny"
    before = ZooModel("tiny", folder).report
    rows = tuple(row.model_copy(update={"mean": 0.5}) for row in before.accuracy)
    (folder / REPORT).write_text(before.model_copy(update={"accuracy": rows}).to_json())
    (folder / CARD).write_text("stale")
    options = ["--zoo", str(tmp_path / "zoo"), "--episodes", "100"]
    done = tool("remeasure_models.py", tmp_path, data, "tiny", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"tiny: verdict {before.verdict}, {100 * before.accuracy[0].mean:.2f} / ")
    again = ZooModel("tiny", folder).report
    assert (again.accuracy, again.model) == (before.accuracy, before.model)
    assert (folder / CARD).read_text() == model_card(ZooModel("tiny", folder))
    assert "No such file" in tool("remeasure_models.py", tmp_path, data, "absent", *options).stderr


@pytest.mark.parametrize("pot", [False, True], ids=["float", "pot"])
def test_a_run_becomes_a_folder_of_the_zoo(
    tmp_path: Path, run: Run, image_folder: Path, data: Path, *, pot: bool
) -> None:
    options = ["--about", "Tiny checkers", "--about", "More.", "--episodes", "100", "--way", "3", *["--pot"] * pot]
    done = release(tmp_path, data, str(run.folder), "tiny", *options)
    assert done.returncode == 0, done.stderr
    model = ZooModel("tiny", tmp_path / "zoo" / "tiny")
    assert {path.name for path in model.folder.iterdir()} == set(FILES)
    assert model.about == ("Tiny checkers", "More.")
    assert str(image_folder) not in "".join((model.folder / name).read_text("latin-1") for name in FILES)
    assert model.recipe == run.recipe.model_copy(
        update={"data": run.recipe.data.model_copy(update={"spec": "miniimagenet"})}
    )
    assert {row.way for row in model.accuracy} == {5, 3}
    assert all(row.episodes == 100 for row in model.report.accuracy)
    golden = [item.status for item in model.report.findings if item.rule == "golden-vectors"]
    assert golden == ["pass"]
    assert model.manifest.quantization.scale == ("power_of_two" if pot else "float")
    card = (model.folder / "card.md").read_text()
    assert ("edgekd export --int8 --pot " in card) == pot
    assert ("bit for bit" in card) == pot


def taught_by(run: Run, folder: Path, epochs: int, images: Path | None = None) -> Run:
    """A finished run whose teacher begins with that of another one; `images` are where its data lie."""
    teacher = run.recipe.teacher.model_copy(update={"weights": run.stage_file("teach"), "epochs": epochs})
    data = run.recipe.data.model_copy(update={"spec": f"miniimagenet:{images}"} if images else {})
    recipe = run.recipe.model_copy(update={"teacher": teacher, "data": data})
    return run_distillation(recipe, folder, open_session("fp32", 0, cpu=True))


@pytest.mark.slow
def test_the_recipes_of_a_teacher_from_runs_of_its_own_are_part_of_it(
    tmp_path: Path, run: Run, image_folder: Path, data: Path
) -> None:
    tuned = taught_by(run, tmp_path / "tuned", 1)
    taught = taught_by(tuned, tmp_path / "taught", 7)
    done = release(tmp_path, data, str(taught.folder), "tiny", "--about", "Tiny checkers", "--episodes", "100")
    assert done.returncode == 0, done.stderr
    model = ZooModel("tiny", tmp_path / "zoo" / "tiny")
    assert (
        {path.name for path in model.folder.iterdir()} == set(model.files) == {*FILES, "teacher.toml", "teacher-2.toml"}
    )
    first, second = (load_recipe(model.folder / recipe_file("teacher", number)) for number in (1, 2))
    assert first.teacher == run.recipe.teacher
    assert second.teacher == tuned.recipe.teacher.model_copy(update={"weights": Path("teacher.safetensors")})
    assert first.data.spec == second.data.spec == "miniimagenet"
    card = (model.folder / "card.md").read_text()
    assert "edgekd teach --recipe tiny/teacher.toml --run runs/tiny-teacher\n" in card
    weights = "--teacher-weights runs/tiny-teacher/teacher.safetensors"
    assert f"edgekd teach --recipe tiny/teacher-2.toml {weights} --run runs/tiny-teacher-2\n" in card
    weights = "--teacher-weights runs/tiny-teacher-2/teacher.safetensors"
    assert f"edgekd distill --recipe tiny/recipe.toml {weights} --run runs/tiny\n" in card
    assert "which are no part of the zoo" not in card
    copy_model(model, tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == set(model.files)
    again = release(tmp_path, data, str(run.folder), "tiny", "--about", "Tiny checkers", "--episodes", "100")
    assert again.returncode == 0, again.stderr
    assert {path.name for path in model.folder.iterdir()} == set(FILES)  # nothing of the earlier release stays


@pytest.mark.slow
def test_a_teacher_is_a_run_that_others_distill_from(
    tmp_path: Path, run: Run, image_folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = release(tmp_path, data, str(run.folder), "tiny-teacher", "--about", "Tiny checkers", "--teacher")
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(zoo, "WHEEL_FOLDER", tmp_path / "zoo")
    assert (zoo.teacher_names(), zoo.zoo_names()) == (["tiny-teacher"], [])
    teacher = zoo.find_teacher("tiny-teacher")
    assert {path.name for path in teacher.folder.iterdir()} == set(teacher.files)
    assert str(image_folder) not in "".join((teacher.folder / name).read_text("latin-1") for name in teacher.files)
    assert teacher.run.manifest.recipe_sha256 == teacher.run.recipe.sha256
    assert not teacher.run.lost_stages()
    assert {str(line["stage"]) for line in teacher.run.metrics()} <= {"teach"}
    assert teacher.result.accuracy[0].dataset == "miniimagenet"
    taught = taught_by(teacher.run, tmp_path / "taught", 0, image_folder)
    assert taught.manifest.stages["teach"].result.backbone == teacher.result.backbone
    done = release(tmp_path, data, str(taught.folder), "tiny", "--about", "Tiny checkers", "--episodes", "100")
    assert done.returncode == 0, done.stderr
    card = model_card(ZooModel("tiny", tmp_path / "zoo" / "tiny"))
    assert "after `edgekd models get tiny-teacher`, `--teacher-weights tiny-teacher/teacher.safetensors` spares" in card


@pytest.mark.slow
def test_a_teacher_that_began_with_another_carries_its_recipe(
    tmp_path: Path, run: Run, image_folder: Path, data: Path
) -> None:
    tuned = taught_by(run, tmp_path / "tuned", 1)
    done = release(tmp_path, data, str(tuned.folder), "second", "--about", "Tiny checkers", "--teacher")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "zoo" / "teachers" / "second"
    assert {path.name for path in folder.iterdir()} == {*zoo.TEACHER_FILES, "earlier.toml"}
    teacher = zoo.ZooTeacher("second", folder)
    assert (teacher.files, teacher.earlier) == ((*zoo.TEACHER_FILES, "earlier.toml"), ("earlier.toml",))
    assert load_recipe(folder / "earlier.toml").teacher == run.recipe.teacher
    taught = taught_by(Run.open(folder), tmp_path / "taught", 0, image_folder)
    done = release(tmp_path, data, str(taught.folder), "tiny", "--about", "Tiny checkers", "--episodes", "100")
    assert done.returncode == 0, done.stderr
    model = ZooModel("tiny", tmp_path / "zoo" / "tiny")
    first, second = (load_recipe(model.folder / name) for name in model.teacher_recipes)
    assert first.teacher == run.recipe.teacher
    assert second == Run.open(folder).recipe


def test_a_run_without_a_teacher_releases_none(tmp_path: Path, run: Run, data: Path, image_folder: Path) -> None:
    recipe = load_recipe(run.folder / "recipe.toml", ["distill.method=ce", "quantize.enabled=false"])
    alone = run_distillation(recipe, tmp_path / "alone", open_session("fp32", 0, cpu=True))
    done = release(tmp_path, data, str(alone.folder), "none", "--about", "x", "--teacher")
    assert done.returncode == 1
    assert "has no finished stage 'teach'" in done.stderr
    assert not (tmp_path / "zoo").exists()


def finished_search(folder: Path, recipe: Recipe, student: str) -> Path:
    """Write what a search leaves that found `student`."""
    row = Measured(
        parameters=1, weight_bytes=1, peak_activation_bytes=1, macs=1, mean=0.5, ci95=0.1, by_shot=(), seconds=1
    )  # fmt: skip
    trials = (TrialRow(number=0, candidate=Candidate(student=student, weight_bits=8), measured=row, front=True),)
    outcome = Outcome(
        study="s", profile="p", trials=trials, refusals=(), refused=0, repeated=0, failed=0, running=0
    )  # fmt: skip
    folder.mkdir()
    (folder / "search.toml").write_text(to_toml(recipe))
    (folder / "results.json").write_text(outcome.model_dump_json())
    (folder / "results.md").write_text(results_page(outcome, recipe))
    return folder


def test_the_search_that_found_a_student_is_part_of_it(
    tmp_path: Path, run: Run, image_folder: Path, data: Path
) -> None:
    options = ["--about", "Tiny checkers", "--episodes", "100"]
    search = finished_search(tmp_path / "search", run.recipe, run.recipe.student.backbone)
    done = release(tmp_path, data, str(run.folder), "tiny", *options, "--search", str(search))
    assert done.returncode == 0, done.stderr
    model = ZooModel("tiny", tmp_path / "zoo" / "tiny")
    assert set(model.files) == {*FILES, *SEARCH_FILES}
    assert load_recipe(model.folder / "search.toml").data.spec == "miniimagenet"
    assert "edgekd search --recipe tiny/search.toml --run runs/tiny-search\n" in (model.folder / "card.md").read_text()


def test_a_search_that_found_another_student_is_refused(tmp_path: Path, run: Run, data: Path) -> None:
    search = finished_search(tmp_path / "search", run.recipe, "convnet:8-8/2")
    done = release(tmp_path, data, str(run.folder), "tiny", "--about", "x", "--search", str(search))
    assert done.returncode == 1
    assert f"is convnet:8-8/2, and the run trained {run.recipe.student.backbone}" in done.stderr
    (search / "results.json").write_text("{")
    done = release(tmp_path, data, str(run.folder), "tiny", "--about", "x", "--search", str(search))
    assert f"{search} holds no finished search" in done.stderr
    assert not (tmp_path / "zoo").exists()


def test_data_that_are_not_at_hand_are_named(tmp_path: Path, run: Run) -> None:
    done = release(tmp_path, tmp_path / "nowhere", str(run.folder), "tiny", "--about", "x")
    assert done.returncode == 1
    assert "'miniimagenet' is not at" in done.stderr


def test_folders_of_this_machine_stay_out_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from tools.release_model import released_recipe

    choices = (
        f"data.spec=omniglot:{tmp_path}",
        f"distill.images=mnist:{tmp_path}",
        f"teacher.weights={tmp_path}/teacher.safetensors",
        f"student.weights={tmp_path}/student.safetensors",
    )
    found = released_recipe(load_recipe(None, choices))
    assert (found.data.spec, found.distill.images) == ("omniglot", "mnist")
    assert found.teacher.weights == Path("teacher.safetensors")
    assert found.student.weights == Path("student.safetensors")
    with pytest.raises(UsageError, match=r"profile mine\.toml does not come with edgekd"):
        released_recipe(load_recipe(None, [*choices, "profile=mine.toml"]))
    with pytest.raises(UsageError, match="is a folder of this machine"):
        released_recipe(load_recipe(None, [f"data.spec=folder:{tmp_path}"]))
