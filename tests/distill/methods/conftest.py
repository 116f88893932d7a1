"""Two networks' outputs in double precision, as the finite differences of the gradient checks need."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from edgekd.distill.methods import Dims, MapShape, Outputs, Samples

STUDENT_MAPS: Mapping[int, MapShape] = {1: (2, 6, 5), 2: (3, 3, 2), 3: (3, 1, 1)}
TEACHER_MAPS: Mapping[int, MapShape] = {1: (4, 4, 4), 2: (5, 2, 2), 3: (3, 1, 1), 4: (2, 5, 5)}


@pytest.fixture
def dims() -> Dims:
    return Dims(student=3, teacher=4, classes=5, student_maps=STUDENT_MAPS, teacher_maps=TEACHER_MAPS)


@pytest.fixture
def samples() -> Samples:
    return Samples(labels=torch.tensor([4, 0, 2]), rows=torch.tensor([6, 1, 3]), progress=0.25)


def _outputs(seed: int, dim: int, classes: int, shapes: Mapping[int, MapShape]) -> Outputs:
    random = torch.Generator().manual_seed(seed)
    embedding = torch.randn(3, dim, generator=random, dtype=torch.float64)
    logits = 3 * torch.randn(3, classes, generator=random, dtype=torch.float64)
    maps = {layer: torch.randn(3, *shape, generator=random, dtype=torch.float64) for layer, shape in shapes.items()}
    return Outputs(embedding, logits, maps)


@pytest.fixture
def student(dims: Dims) -> Outputs:
    return _outputs(1, dims.student, dims.classes, dims.student_maps)


@pytest.fixture
def teacher(dims: Dims) -> Outputs:
    return _outputs(2, dims.teacher, dims.classes, dims.teacher_maps)
