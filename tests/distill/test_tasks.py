from __future__ import annotations

import torch
from torch import nn

from edgekd.distill.backbones import Backbone
from edgekd.distill.tasks import Classifier, LabelTask, QuantizeTask


def test_label_task_is_cross_entropy() -> None:
    torch.manual_seed(0)
    classifier = Classifier(Backbone(nn.Flatten(), in_channels=3, embedding_dim=12), 3)
    images, labels = torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 1])
    logits = classifier(images).logits
    expected = -(logits.softmax(1).log()[torch.arange(4), labels]).mean()
    assert torch.allclose(LabelTask(classifier)(images, labels)[0], expected)


def test_quantize_loss_is_zero_for_the_same_direction() -> None:
    x = torch.randn(3, 6)
    assert float(QuantizeTask(nn.Identity())(x, 2.5 * x)[0]) < 1e-6
    assert abs(float(QuantizeTask(nn.Identity())(x, -x)[0]) - 2) < 1e-6
