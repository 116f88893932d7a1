from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgekd.distill.backbones import Backbone
from edgekd.distill.methods import Outputs, Samples
from edgekd.distill.tasks import Classifier, EpisodeTask, HeadTask, LabelTask, PrepareTask, QuantizeTask


def test_episode_loss_is_cosine_to_the_mean_support_embedding() -> None:
    """Against loops written from the formula: logits = tau cos(q, mean_k s_k)."""
    way, shot, query, tau, episodes, dim = 3, 2, 2, 7.0, 2, 5
    x = torch.randn(episodes * way * (shot + query), dim, generator=torch.Generator().manual_seed(0))
    loss, _ = EpisodeTask(nn.Identity(), way, shot, query, tau)(x)
    grouped = x.numpy().astype(np.float64).reshape(episodes, way, shot + query, dim)
    losses = []
    for episode in grouped:
        means = [episode[c, :shot].mean(0) for c in range(way)]
        for label in range(way):
            for q in episode[label, shot:]:
                logits = np.array([tau * q @ m / np.linalg.norm(q) / np.linalg.norm(m) for m in means])
                losses.append(np.log(np.exp(logits).sum()) - logits[label])
    assert abs(loss.item() - np.mean(losses)) < 1e-5


def test_the_temperature_is_learned() -> None:
    task = EpisodeTask(nn.Linear(4, 4), 2, 1, 1, 10.0)
    task(torch.randn(4, 4))[0].backward()
    assert task.temperature.grad is not None


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
