from __future__ import annotations

import torch
from torch import nn

from edgekd.distill.backbones import Backbone
from edgekd.distill.methods import Outputs, Samples
from edgekd.distill.tasks import Classifier, HeadTask, LabelTask, PrepareTask, QuantizeTask


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


def test_head_task_is_cross_entropy_of_the_head() -> None:
    torch.manual_seed(0)
    head, embedding, labels = nn.Linear(5, 3), torch.randn(4, 5), torch.tensor([0, 2, 1, 1])
    expected = -((embedding @ head.weight.T + head.bias).softmax(1).log()[torch.arange(4), labels]).mean()
    torch.testing.assert_close(HeadTask(head)(embedding, labels)[0], expected)


def test_parts_to_prepare_are_added_up() -> None:
    class Part(nn.Module):
        def forward(self, teacher: Outputs, samples: Samples) -> torch.Tensor:
            return teacher.embedding.sum() + samples.labels.sum()

    teacher, samples = Outputs(torch.ones(2, 3), torch.ones(2, 4)), Samples(torch.tensor([1, 2]), torch.tensor([0, 1]))
    loss, terms = PrepareTask(nn.ModuleDict({"one": Part(), "two": Part()}))(teacher, samples)
    assert float(loss) == 18
    assert {name: float(value) for name, value in terms.items()} == {"one": 9, "two": 9}
