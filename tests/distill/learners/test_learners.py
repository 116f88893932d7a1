"""What holds for every learner, and for the registry."""

from __future__ import annotations

import pytest
import torch

from edgekd.cli._recipe_options import learner_names
from edgekd.distill.backbones import build_backbone
from edgekd.distill.batches import triplet_rows
from edgekd.distill.learners import EPISODES, IMAGES, LEARNERS, TRIPLETS, build_learner, find_learner
from edgekd.distill.tasks import Classifier
from edgekd.errors import DataError, RecipeError
from edgekd.recipe import Learning

LABELS = torch.arange(6).repeat_interleave(8)


def test_the_names() -> None:
    assert sorted(LEARNERS) == [
        "anil",
        "classifier",
        "fomaml",
        "maml",
        "matching",
        "meta_baseline",
        "protonet",
        "siamese",
    ]


def test_the_command_line_lists_them() -> None:
    assert learner_names() == sorted(LEARNERS)


@pytest.mark.parametrize("name", LEARNERS)
def test_each_has_its_own_file_and_a_source(name: str) -> None:
    learner = LEARNERS[name]
    assert learner.__module__ == f"edgekd.distill.learners.{name}"
    assert any(year in learner.source for year in map(str, range(2010, 2100)))


def test_an_unknown_one_is_named_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"unknown learner 'protonets'\. Did you mean 'protonet'.*Known: anil, "):
        find_learner("protonets")


def test_units() -> None:
    units = {name: learner.unit for name, learner in LEARNERS.items()}
    assert {name for name, unit in units.items() if unit is IMAGES} == {"classifier"}
    assert {name for name, unit in units.items() if unit is TRIPLETS} == {"siamese"}
    assert {name for name, unit in units.items() if unit is EPISODES} == set(LEARNERS) - {"classifier", "siamese"}


@pytest.mark.parametrize("name", LEARNERS)
def test_each_trains_a_real_backbone_on_what_it_draws(name: str) -> None:
    torch.manual_seed(0)
    settings = Learning(learner=name, batch_size=2, way=3, query=2, batches_per_epoch=7)
    classifier = Classifier(build_backbone("conv4-4", 1), 6)
    learner = build_learner(classifier, settings)
    draw = learner.unit.draw(LABELS, settings, 0, "teach")
    rows = draw.rows(4)
    assert len(rows) == draw.images_per_step == {"images": 2, "episodes": 18, "triplets": 6}[learner.unit.name]
    assert draw.steps_per_epoch == (24 if name == "classifier" else 7)
    loss, terms = learner(torch.randn(len(rows), 1, 16, 16), LABELS[rows])
    loss.backward()
    assert loss.shape == ()
    assert all(torch.isfinite(value) for value in (loss, *terms.values()))
    missing = [name for name, parameter in learner.named_parameters() if parameter.grad is None]
    assert not missing  # several processes would wait for them
    assert (classifier.head.weight.grad is not None) == learner.trains_head


def test_triplets_are_two_of_a_class_and_one_of_another() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    rows = torch.stack([triplet_rows(labels, 50, 0, "teach")(step) for step in range(4)]).reshape(-1, 3)
    anchor, positive, negative = rows.unbind(1)
    assert (labels[anchor] == labels[positive]).all()
    assert (anchor != positive).all()
    assert (labels[anchor] != labels[negative]).all()
    assert set(anchor.tolist()) == {0, 1, 2, 4, 5}  # class 1 has one image
    assert set(negative.tolist()) == set(range(6))


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("protonet", [0] * 20, "need 5 classes of 16 images; 1 of 1 have them; lower teacher.way or teacher.query"),
        ("maml", [0, 1, 2, 3, 4] * 3, "0 of 5 have them.*or --set teacher.learner=classifier"),
        ("siamese", [0] * 20, "triplets need two classes, .*there are 1 classes"),
        ("siamese", [0, 1, 2], "0 with two images; --set teacher.learner=classifier"),
        ("classifier", [0, 1], "2 training images are fewer than one batch of 8"),
    ],
)
def test_too_little_data_is_refused(name: str, labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_learner(name).unit.draw(torch.tensor(labels), Learning(batch_size=8, way=5), 0, "teach")
