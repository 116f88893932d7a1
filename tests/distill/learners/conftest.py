"""Networks small enough that a test can write them down: images (b, 3, 1, 1) whose pixels are the embedding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from edgekd.distill.backbones import Backbone
from edgekd.distill.tasks import Classifier

DIM = 3


@pytest.fixture
def plain() -> Classifier:
    """A classifier that embeds an image as its own pixels."""
    return Classifier(Backbone(nn.Flatten(), in_channels=DIM, embedding_dim=DIM), 4)


@pytest.fixture
def linear() -> Classifier:
    """A classifier in double precision whose embedding is a linear map of the pixels."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(DIM, 2, bias=False))
    return Classifier(Backbone(body, in_channels=DIM, embedding_dim=2), 4).double()


@pytest.fixture
def images() -> Callable[[int], torch.Tensor]:
    """Return n seeded images."""

    def draw(n: int) -> torch.Tensor:
        return torch.randn(n, DIM, 1, 1, generator=torch.Generator().manual_seed(n), dtype=torch.float64)

    return draw
