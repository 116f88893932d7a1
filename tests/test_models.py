"""The zoo: every released file is what its report and card say, and computes its golden vectors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekd.bound import Bound
from edgekd.distill.backbones import build_backbone, deployed_parameters
from edgekd.distill.checkpoint import load_network, load_snapshot
from edgekd.distill.tasks import Classifier
from edgekd.files import sha256_file
from edgekd.onnx_session import Optimization, open_session
from edgekd.profile import load_profile, profile_names
from edgekd.recipe import load_recipe
from edgekd.search.page import results_page
from edgekd.search.results import Outcome
from edgekd.verify import verify
from edgekd.verify.integer.golden import golden_path, read_golden
from edgekd.zoo import (
    CARD,
    GOLDEN,
    MODEL,
    SEARCH_PAGE,
    SEARCH_RECIPE,
    SEARCH_RESULTS,
    ZooModel,
    ZooTeacher,
    find_model,
    find_teacher,
    teacher_names,
    zoo_names,
)

ROOT = Path(__file__).parent.parent
TEACHERS = [find_teacher(name) for name in teacher_names()]
ZOO = [find_model(name) for name in zoo_names()]


def each(function: object) -> object:
    return pytest.mark.parametrize("model", ZOO, ids=lambda model: model.name)(function)


def test_there_are_released_models() -> None:
    assert {model.manifest.data.spec for model in ZOO} >= {"miniimagenet", "omniglot"}


@each
def test_a_folder_is_whole_and_its_report_is_about_the_file(model: ZooModel) -> None:
    assert {path.name for path in model.folder.iterdir()} == set(model.files)
    report = model.report
    assert report.model.sha256 == sha256_file(model.folder / MODEL)
    assert report.model.path == f"models/{model.name}/{MODEL}"
    assert {row.shot for row in model.accuracy} == {1, 5}
    assert all(row.episodes == 10_000 and row.split == "test" for row in report.accuracy)
    assert not report.errors


@each
def test_the_verdict_and_the_figures_come_out_again(model: ZooModel) -> None:
    again, report = verify(model.folder / MODEL, static=True), model.report
    assert again.verdict == report.verdict
    assert report.verdict in {"pass", "unknown"}
    assert (again.params, again.macs) == (report.params, report.macs)
    assert again.memory.weight_bytes == report.memory.weight_bytes
    assert again.memory.peak_activation_bytes == report.memory.peak_activation_bytes
    assert again.certificate == report.certificate


@each
def test_golden_vectors_come_out_within_the_bound_that_the_card_states(model: ZooModel) -> None:
    path = golden_path(model.folder / MODEL)
    golden = read_golden(path)
    assert path.name == GOLDEN
    assert golden.sha256 == model.manifest.golden_sha256
    scheme = model.manifest.quantization
    plain = Bound.of(scheme, integers=False)
    assert str(plain) in (model.folder / CARD).read_text()
    bounds: dict[Optimization, Bound] = {"none": plain, "all": Bound.of_onnxruntime(scheme)}
    for level, bound in bounds.items():
        session = open_session(model.folder / MODEL, level)
        found = np.concatenate([session.run(None, {"pixels": row[None]})[0] for row in golden.pixels])
        difference = np.abs(found.astype(int) - golden.embedding)
        assert bound.allows(difference.max(), (difference > 0).mean()), level


@each
def test_the_recipe_names_the_data_alone_and_is_that_of_the_file(model: ZooModel) -> None:
    recipe = model.recipe
    assert recipe.data.spec == model.manifest.data.spec
    assert ":" not in recipe.data.spec
    assert recipe.profile == model.manifest.profile
    assert model.stage("distill") is not None
    assert recipe.student.backbone == model.report.lineage[-1].backbone
    assert model.about[0]


@each
def test_the_profile_has_not_changed_since(model: ZooModel) -> None:
    assert load_profile(model.manifest.profile).sha256 == model.manifest.profile_sha256


@each
def test_a_card_has_the_verdict_of_every_profile_and_the_licence_of_the_data(model: ZooModel) -> None:
    card = (model.folder / CARD).read_text()
    for name in profile_names():
        assert f"| `{name}` | {verify(model.folder / MODEL, name, static=True).verdict} |" in card
    (licence,) = [line for line in card.splitlines() if line.startswith("Licence of the data: ")]
    assert "not known" not in licence


@each
def test_a_search_that_is_shipped_found_this_student(model: ZooModel) -> None:
    if SEARCH_RESULTS not in model.files:
        return
    outcome = Outcome.model_validate_json((model.folder / SEARCH_RESULTS).read_text())
    assert outcome.profile == model.recipe.profile
    assert outcome.trials[0].candidate.student == model.recipe.student.backbone
    page = results_page(outcome, load_recipe(model.folder / SEARCH_RECIPE))
    assert page == (model.folder / SEARCH_PAGE).read_text()


def test_cards_and_tables_are_those_of_the_files() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "model_cards.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("teacher", TEACHERS, ids=lambda teacher: teacher.name)
def test_a_teacher_is_the_file_that_its_run_made(teacher: ZooTeacher) -> None:
    run, result = teacher.run, teacher.result
    assert {path.name for path in teacher.folder.iterdir()} == set(teacher.files)
    assert list(run.manifest.stages) == ["teach"]
    assert not run.lost_stages()
    assert run.manifest.recipe_sha256 == run.recipe.sha256
    assert {row.shot for row in result.accuracy} == {1, 5}
    assert all(row.episodes == 10_000 and row.split == "test" for row in result.accuracy)
    weights = load_snapshot(run.stage_file("teach")).part("network")["head.weight"]
    network = Classifier(build_backbone(result.backbone, 3), len(weights), run.recipe.teacher.classifier)
    load_network(run.stage_file("teach"), network)
    assert result.parameters == deployed_parameters(network.backbone)
