"""Two networks' outputs in double precision, as the finite differences of the gradient checks need."""

from __future__ import annotations

import pytest
import torch

from edgekd.distill.methods import Dims, Outputs, Samples


@pytest.fixture
def dims() -> Dims:
    return Dims(student=3, teacher=4, classes=5)


@pytest.fixture
def samples() -> Samples:
    return Samples(labels=torch.tensor([4, 0, 2]), rows=torch.tensor([6, 1, 3]), progress=0.25)


def _outputs(seed: int, dim: int, classes: int) -> Outputs:
    random = torch.Generator().manual_seed(seed)
    embedding = torch.randn(3, dim, generator=random, dtype=torch.float64)
    return Outputs(embedding, 3 * torch.randn(3, classes, generator=random, dtype=torch.float64))


@pytest.fixture
def student(dims: Dims) -> Outputs:
    return _outputs(1, dims.student, dims.classes)


@pytest.fixture
def teacher(dims: Dims) -> Outputs:
    return _outputs(2, dims.teacher, dims.classes)
