from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.distill.backbones import Backbone, build_backbone
from edgekd.distill.mixing import draw_mix
from edgekd.distill.tasks import Classifier, LabelTask
from edgekd.distill.teacher_tasks import HeadTask, StrongLabelTask, in_all_rotations

CLASSES = 3


def linear_classifier(side: int = 4) -> Classifier:
    """Without layers, so that mixup stays at the input, where a reference can mix too."""
    torch.manual_seed(1)
    body = nn.Sequential(nn.Flatten(), nn.Linear(2 * side * side, 5), nn.Tanh())
    return Classifier(Backbone(body, in_channels=2, embedding_dim=5), CLASSES)


def batch(rows: int = 4, side: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(rows, 2, side, side, generator=generator)
    return images, torch.arange(rows) % CLASSES


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return logits.exp().sum().log() - target @ logits


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    p = 1 / (1 + torch.exp(-logits))
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def one_hot(index: int, size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)[index]


def reference(
    task: StrongLabelTask, images: Tensor, labels: Tensor, *, share: float = 1.0, order: list[int] | None = None
) -> Tensor:
    """The loss by loops over rotated, mixed images and their one-hot targets, in double."""
    task, images = copy.deepcopy(task).double(), images.double()
    quarters = range(4) if task.rotation else range(1)
    rows = [
        (image.rot90(quarter, (1, 2)), int(label), quarter)
        for quarter in quarters
        for image, label in zip(images, labels, strict=True)
    ]
    order = order or list(range(len(rows)))
    losses = []
    for (x, y, turn), (x2, y2, turn2) in zip(rows, [rows[i] for i in order], strict=True):
        logits = task.classifier.head(task.classifier.backbone((share * x + (1 - share) * x2)[None]))[0]
        loss = cross_entropy(logits, share * one_hot(y, CLASSES) + (1 - share) * one_hot(y2, CLASSES))
        if task.rotation_head is not None:
            turns = share * one_hot(turn, 4) + (1 - share) * one_hot(turn2, 4)
            loss = loss + task.rotation * binary_cross_entropy(task.rotation_head(logits), turns)
        losses.append(loss)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("rows", [4, 1])
@pytest.mark.parametrize(("rotation", "mixup"), [(1.5, 0.0), (0.0, 2.0), (0.5, 2.0)], ids=["rotation", "mixup", "both"])
def test_loss_and_gradient_are_those_of_loops(rows: int, rotation: float, mixup: float) -> None:
    task = StrongLabelTask(linear_classifier(), rotation=rotation, mixup=mixup)
    images, labels = batch(rows)
    torch.manual_seed(5)
    loss, terms = task(images.requires_grad_(), labels)
    (gradient,) = torch.autograd.grad(loss, images)
    torch.manual_seed(5)
    mix = draw_mix(mixup, 0, rows * (4 if rotation else 1)) if mixup else None
    share, order = (mix.share, mix.order.tolist()) if mix else (1.0, None)
    expected = reference(task, images, labels, share=share, order=order)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, images)[0], rtol=1e-4, atol=1e-6)
    assert set(terms) == ({"ce", "rotation"} if rotation else {"ce"})


def test_rotations_are_quarter_turns_of_every_image() -> None:
    images, labels = batch(2)
    turned, repeated, quarters = in_all_rotations(images, labels)
    assert quarters.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert repeated.tolist() == labels.tolist() * 4
    for row, quarter in enumerate(quarters.tolist()):
        assert np.array_equal(turned[row], np.rot90(images[row % 2], quarter, (1, 2)))


def test_the_rotation_error_does_not_see_which_way_the_batch_is_turned() -> None:
    task = StrongLabelTask(linear_classifier(), rotation=1.0)
    images, labels = batch()
    first, turned = task(images, labels)[1], task(torch.rot90(images, 1, (2, 3)), labels)[1]
    assert first["ce"].item() == pytest.approx(turned["ce"].item(), rel=1e-5)


def test_without_either_it_is_the_plain_loss() -> None:
    classifier, (images, labels) = linear_classifier(), batch()
    strong, plain = StrongLabelTask(classifier, label_smoothing=0.1), LabelTask(classifier, 0.1)
    assert torch.equal(strong(images, labels)[0], plain(images, labels)[0])


def test_the_rotation_head_is_no_part_of_the_classifier() -> None:
    task = StrongLabelTask(linear_classifier(), rotation=1.0)
    assert task.rotation_head is not None
    assert (task.rotation_head.in_features, task.rotation_head.out_features) == (CLASSES, 4)
    assert not any("rotation" in name for name in task.classifier.state_dict())


@pytest.mark.parametrize("spec", ["conv4-4", "resnet12:2"])
def test_real_backbones_are_mixed_at_any_layer(spec: str) -> None:
    task = StrongLabelTask(Classifier(build_backbone(spec, 3), CLASSES), rotation=1.0, mixup=2.0)
    for seed in range(6):
        torch.manual_seed(seed)
        loss, _ = task(torch.randn(2, 3, 16, 16), torch.tensor([0, 2]))
        loss.backward()
        assert math.isfinite(float(loss))


def test_a_head_alone_learns_on_a_backbone_that_stays() -> None:
    torch.manual_seed(0)
    classifier = Classifier(build_backbone("conv4-4", 3), CLASSES)
    task = HeadTask(classifier).train()
    assert not any(module.training for module in classifier.backbone.modules())
    assert classifier.head.training
    before = {name: value.clone() for name, value in classifier.backbone.state_dict().items()}
    images, labels = torch.randn(5, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1])
    loss, _ = task(images, labels)
    loss.backward()
    logits = classifier.eval()(images).logits
    expected = -(logits.softmax(1).log()[torch.arange(5), labels]).mean()
    torch.testing.assert_close(loss, expected)
    assert classifier.head.weight.grad is not None
    assert all(parameter.grad is None for parameter in classifier.backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in classifier.backbone.state_dict().items())
