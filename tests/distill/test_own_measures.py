"""Results beside the few-shot accuracy: what a learner is judged by, and the peer of mutual learning."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.cli._console import open_console
from edgekd.cli._training import print_stages
from edgekd.cli.compare import command
from edgekd.data import load_splits
from edgekd.distill.embed import embed
from edgekd.distill.inspect import load_stage
from edgekd.distill.learners.siamese import triplet_accuracy_on_sphere
from edgekd.distill.pipeline import run_distillation
from edgekd.measures import share_ci95
from edgekd.recipe import load_recipe
from edgekd.report.page import training_page
from edgekd.run import Run
from tests.distill.test_pipeline import Watcher, session

SHORT = [
    "distill.epochs=1",
    "meta.enabled=false",
    "quantize.enabled=false",
    "baseline.enabled=false",
    "test.episodes=20",
]
QUICK = ["teacher.backbone=conv4-8", "teacher.epochs=1", "teacher.batches_per_epoch=2", "teacher.batch_size=4"]


def shown(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    print_stages(open_console(), [record.result for record in run.manifest.stages.values()])
    return capsys.readouterr().out


def test_every_stage_has_the_measure_of_its_learner_on_test_images(
    tmp_path: Path, tiny_recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher()
    recipe = load_recipe(tiny_recipe, [*SHORT, *QUICK, "teacher.learner=siamese"])
    run = run_distillation(recipe, tmp_path / "run", session(watcher))
    splits = load_splits(recipe.data.spec)
    for stage, record in run.manifest.stages.items():
        (found,) = record.result.measures
        embeddings = embed(load_stage(run, stage, splits).backbone, splits.test.images)
        assert found.mean == triplet_accuracy_on_sphere(embeddings, splits.test.labels)
        assert (found.name, found.split, found.trials) == ("triplet_accuracy", "test", 10_000)
        assert found.ci95 == share_ci95(found.mean, 10_000)
        cell = f"{100 * found.mean:.2f} ± {100 * found.ci95:.2f}"
        assert cell in shown(run, capsys, monkeypatch)
    assert any("triplet_accuracy" in note for note in watcher.notes)
    page = training_page(run.metrics(), [record.result for record in run.manifest.stages.values()])
    assert "By the learners' own measures" in page
    assert page.count("triplet accuracy") == len(run.manifest.stages) == 2
    assert Run.open(run.folder).manifest == run.manifest


def test_the_peer_of_mutual_learning_has_a_result(
    tmp_path: Path, tiny_recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny_recipe, [*SHORT, *QUICK, "distill.method=ce + dml"])
    run = run_distillation(recipe, tmp_path / "run", session())
    assert list(run.manifest.stages) == ["peer", "distill"]
    peer = run.manifest.stages["peer"].result
    assert (peer.backbone, [row.shot for row in peer.accuracy]) == ("conv4-8", [1, 5])
    assert "peer" in shown(run, capsys, monkeypatch)
    command.main([str(run.folder)], standalone_mode=False)
    assert "peer" in capsys.readouterr().out

    before = run.stage_file("peer").read_bytes()
    run.stage_file("peer").unlink()
    watcher = Watcher()
    again = run_distillation(recipe, tmp_path / "run", session(watcher))
    assert "peer.safetensors is missing or damaged: stage 'distill' runs again" in watcher.notes[1]
    assert again.stage_file("peer").read_bytes() == before
    assert again.manifest == run.manifest.model_copy(update={"stages": again.manifest.stages})
