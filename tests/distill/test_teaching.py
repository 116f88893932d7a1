"""Teachers and students by other learners than the default, from the recipe to the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.data import ImageSet
from edgekd.distill.backbones import Backbone
from edgekd.distill.checkpoint import load_snapshot
from edgekd.distill.class_means import set_class_means
from edgekd.distill.embed import embed
from edgekd.distill.learners import LEARNERS
from edgekd.distill.pipeline import run_distillation, run_teaching
from edgekd.distill.resolve import resolve
from edgekd.distill.session import Session, open_session
from edgekd.distill.tasks import Classifier
from edgekd.errors import DataError, EdgekdError, RecipeError
from edgekd.profile import load_profile
from edgekd.recipe import Recipe, load_recipe
from tests.distill.test_pipeline import blank

QUICK = [
    "teacher.backbone=conv4-8",
    "teacher.epochs=1",
    "teacher.batches_per_epoch=2",
    "teacher.query=3",
    "teacher.inner_steps=1",
]


def session() -> Session:
    return open_session("fp32", 0, cpu=True)


@pytest.mark.parametrize("learner", LEARNERS)
def test_each_learner_teaches(tmp_path: Path, tiny_recipe: Path, learner: str) -> None:
    recipe = load_recipe(tiny_recipe, [*QUICK, f"teacher.learner={learner}", "teacher.batch_size=4"])
    run = run_teaching(recipe, tmp_path / "run", session())
    assert list(run.manifest.stages) == ["teach"]
    assert not run.manifest.complete
    (line,) = run.metrics()
    own = {"triplet_accuracy"} if learner == "siamese" else set()
    assert set(line.get("measures", {})) == own
    assert {row.name for row in run.manifest.stages["teach"].result.measures} == own
    network = load_snapshot(run.stage_file("teach")).part("network")
    assert all(torch.isfinite(value).all() for value in network.values())
    assert network["head.weight"].shape == (8, 8)


def test_distilling_goes_on_from_a_teacher_of_any_learner(tmp_path: Path, tiny_recipe: Path) -> None:
    rest = ["distill.epochs=1", "meta.learner=anil", "baseline.enabled=false", "quantize.method=ptq"]
    recipe = load_recipe(tiny_recipe, [*QUICK, "teacher.learner=protonet", "teacher.batch_size=2", *rest])
    taught = run_teaching(recipe, tmp_path / "run", session())
    run = run_distillation(recipe, tmp_path / "run", session())
    assert run.manifest.complete
    assert run.manifest.stages["teach"] == taught.manifest.stages["teach"]
    weights = [QUICK[0], f"teacher.weights={taught.stage_file('teach')}"]
    other = run_teaching(load_recipe(tiny_recipe, weights), tmp_path / "other", session())
    assert other.manifest.stages["teach"].result.accuracy == taught.manifest.stages["teach"].result.accuracy


def test_a_teacher_without_a_head_tells_classes_by_their_means() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 2, 2, 1), dtype=np.uint8)
    labels = np.array([0, 1, 2, 2] * 3)
    classifier = Classifier(Backbone(nn.Sequential(nn.Flatten(), nn.Linear(4, 4)), in_channels=1, embedding_dim=4), 3)
    set_class_means(classifier, ImageSet("x", pixels, labels, ("a", "b", "c")))
    z = torch.randn(5, 4)
    embeddings = torch.tensor(embed(classifier.backbone, pixels))
    means = torch.stack([embeddings[labels == label].mean(0) for label in range(3)])
    expected = torch.softmax(-((z[:, None] - means) ** 2).sum(2), dim=1)
    torch.testing.assert_close(classifier.head(z).softmax(1), expected, rtol=1e-4, atol=1e-5)


def test_the_batch_size_left_open_is_the_learners() -> None:
    def resolved(*assignments: str) -> Recipe:
        return resolve(load_recipe(None, assignments), load_profile("tu_accel_150k"), blank(32))

    assert (resolved().teacher.batch_size, resolved().meta.batch_size) == (64, 4)
    assert resolved("teacher.learner=siamese").teacher.batch_size == 32
    assert resolved("meta.learner=classifier").meta.batch_size == 64
    assert resolved("teacher.learner=maml", "teacher.batch_size=9").teacher.batch_size == 9


@pytest.mark.parametrize(
    ("assignments", "error", "message"),
    [
        (["teacher.learner=protonets"], RecipeError, r"unknown learner 'protonets'\. Did you mean 'protonet'"),
        (["meta.learner=mamll"], RecipeError, r"unknown learner 'mamll'\. Did you mean 'maml'"),
        (["teacher.learner=maml"], DataError, "need 5 classes of 17 images; .*try --set teacher.query=14"),
        (["teacher.learner=matching", "teacher.way=9", "teacher.query=1"], DataError, "9 classes of 3 images; 8 of 8"),
        (["meta.learner=classifier", "meta.batch_size=500"], DataError, "one batch of 500; try --set meta.batch_size"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_what_a_learner_cannot_do_is_refused_before_training(
    tmp_path: Path, tiny_recipe: Path, assignments: list[str], error: type[EdgekdError], message: str
) -> None:
    few = ["teacher.shot=2", *assignments]
    with pytest.raises(error, match=message):
        run_distillation(load_recipe(tiny_recipe, few), tmp_path / "run", session())
    assert not (tmp_path / "run").exists()


def test_teaching_asks_nothing_of_later_stages(tmp_path: Path, tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, [*QUICK, "meta.query=16", "distill.batch_size=1000"])
    assert run_teaching(recipe, tmp_path / "run", session()).manifest.stages
    with pytest.raises(DataError, match=r"meta\.query"):
        run_distillation(load_recipe(tiny_recipe, [*QUICK, "meta.query=16"]), tmp_path / "other", session())


@pytest.mark.parametrize("head", ["cosine", "euclid", "centred", "logistic"])
def test_each_head_measures_a_teacher(tmp_path: Path, tiny_recipe: Path, head: str) -> None:
    recipe = load_recipe(tiny_recipe, [*QUICK, f"test.head={head}", "test.episodes=4"])
    (record,) = run_teaching(recipe, tmp_path / "run", session()).manifest.stages.values()
    assert [(row.head, row.shot) for row in record.result.accuracy] == [(head, 1), (head, 5)]
