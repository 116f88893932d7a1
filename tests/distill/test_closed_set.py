"""Runs on a set whose test classes are those of training: trained for, and measured by, the head's accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekd.data import Splits, load_splits
from edgekd.distill.checkpoint import load_network
from edgekd.distill.context import Context
from edgekd.distill.embed import embed, head_accuracy, head_logits, validation_score
from edgekd.distill.pipeline import run_distillation, stage_names
from edgekd.distill.resolve import resolve
from edgekd.distill.scheme import resolve_scheme
from edgekd.distill.session import open_session
from edgekd.distill.tasks import Classifier
from edgekd.distill.validating import validation_of
from edgekd.errors import RecipeError, RunError
from edgekd.export import export_run
from edgekd.measures import classification
from edgekd.profile import load_profile
from edgekd.recipe import load_recipe
from edgekd.run import Run

FLOAT = ("meta.enabled=false", "quantize.enabled=false", "distill.epochs=1", "teacher.epochs=1")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, tiny_toml: str, closed_folder: Path) -> Run:
    """A finished run of teach, scratch and distill alone."""
    folder = tmp_path_factory.mktemp("closed-run")
    (folder / "tiny.toml").write_text(tiny_toml)
    recipe = load_recipe(folder / "tiny.toml", [f'data.spec="folder:{closed_folder}"', *FLOAT])
    return run_distillation(recipe, folder / "run", open_session("fp32", 0, None, None, cpu=True))


def images_of(run: Run) -> Splits:
    return load_splits(run.recipe.data.spec)


def network_of(context: Context, stage: str) -> Classifier:
    spec = context.run.recipe.teacher.backbone if stage == "teach" else context.run.recipe.student.backbone
    network = context.classifier(spec, stage)
    load_network(context.run.stage_file(stage), network)
    return network


def context_of(run: Run, *changes: str) -> Context:
    recipe = load_recipe(run.folder / "recipe.toml", changes)
    scheme = resolve_scheme(load_profile(recipe.profile), recipe.quantize)
    session = open_session("fp32", 0, None, None, cpu=True)
    return Context(Run(run.folder, recipe, run.manifest), session, images_of(run), scheme)


def test_without_quantizing_the_run_ends_with_the_distilled_student(compared: Run) -> None:
    assert compared.manifest.complete
    assert list(compared.manifest.stages) == ["teach", "scratch", "distill"]
    assert stage_names(load_recipe(None, ["quantize.enabled=false"])) == ["teach", "scratch", "distill", "meta"]


def test_every_float_stage_is_measured_by_its_head(compared: Run) -> None:
    context, test = context_of(compared), images_of(compared).test
    for stage, record in compared.manifest.stages.items():
        network = network_of(context, stage)
        predicted = head_logits(network, embed(network.backbone, test.images)).argmax(axis=1)
        spec = compared.recipe.data.spec
        expected = classification(test.labels, predicted, classes=5, dataset=spec, split="test")
        assert record.result.classification == expected
        assert (expected.images, expected.classes) == (50, 5)
        assert [row.shot for row in record.result.accuracy] == [1, 5]


def test_the_best_epoch_is_chosen_by_what_is_measured(compared: Run) -> None:
    val = images_of(compared).val
    for changes, by_head in (
        ([], True),
        (["validation.measure=accuracy"], True),
        (["validation.measure=few_shot"], False),
    ):
        context = context_of(compared, *changes)
        network = network_of(context, "teach").eval()
        validation = validation_of(context, network.backbone, classifier=network)
        logits = network.head(torch.tensor(embed(network.backbone, val.images)))
        accuracy = float((logits.argmax(1).numpy() == val.labels).mean())
        few_shot = validation_score(network.backbone, val, context.run.recipe.validation, bf16=False)
        assert validation.score() == (accuracy if by_head else few_shot)
        assert head_accuracy(network, val, bf16=False) == accuracy != few_shot


def test_the_curve_holds_shares_of_validation_images(compared: Run) -> None:
    for line in compared.metrics():
        assert float(50 * line["val_accuracy"]).is_integer()


def test_a_head_that_nothing_trains_is_not_asked(tmp_path: Path, compared: Run) -> None:
    changes = ["distill.method=feature_mse", "baseline.enabled=false", "quantize.enabled=true", "quantize.epochs=0"]
    changes.append("head.enabled=false")
    weights = f"teacher.weights={compared.stage_file('teach')}"
    recipe = load_recipe(compared.folder / "recipe.toml", [*changes, weights])
    run = run_distillation(recipe, tmp_path / "run", open_session("fp32", 0, None, None, cpu=True))
    assert list(run.manifest.stages) == ["teach", "distill", "student", "quantize"]
    assert run.manifest.stages["teach"].result == compared.manifest.stages["teach"].result
    for stage in ("distill", "student", "quantize"):
        assert run.manifest.stages[stage].result.classification is None


def test_novel_classes_have_no_head(tmp_path: Path, tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["validation.measure=accuracy"])
    with pytest.raises(RecipeError, match=r"they are novel; set it to few_shot"):
        run_distillation(recipe, tmp_path / "run", open_session("fp32", 0, None, None, cpu=True))
    assert not (tmp_path / "run").exists()


def test_what_was_not_quantized_is_not_exported(tmp_path: Path, compared: Run) -> None:
    with pytest.raises(
        RunError, match=r"quantize\.enabled=true --run ANOTHER --teacher-weights .*teacher\.safetensors"
    ):
        export_run(compared, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_student_that_cannot_be_quantized_can_be_compared(closed_folder: Path) -> None:
    splits = load_splits(f"folder:{closed_folder}")
    recipe = load_recipe(None, ["student.backbone=resnet12:4", "quantize.enabled=false"])
    assert resolve(recipe, load_profile("tu_accel_150k"), splits).student.backbone == "resnet12:4"
