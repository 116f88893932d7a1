"""What is put together for the page of a run's plots."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.inspection import Activations, Inspection, agreements, calibration, pictures
from edgekd.measures import ActivationError, activation_error, confusion, soft_targets

RANDOM = np.random.default_rng(0)
LABELS = np.repeat(np.arange(4), 12).astype(np.int64)
NAMES = ("a", "b", "c", "d")
TEACHER = 3 * np.eye(4)[LABELS] + RANDOM.normal(0, 0.2, (48, 4))
STUDENT = TEACHER[:, :3] + RANDOM.normal(0, 0.2, (48, 3))
LOGITS = TEACHER + RANDOM.normal(0, 2, (48, 4))


def inspection(*, head: bool = True, width: int = 3) -> Inspection:
    stages = (
        Activations("teach", TEACHER, LOGITS if head else None),
        Activations("distill", RANDOM.normal(size=(48, width)) if width != 3 else STUDENT, None),
    )
    return Inspection(LABELS, NAMES, stages, LOGITS, LABELS if head else None)


def test_a_stage_is_confused_by_its_head_or_by_the_nearest_class() -> None:
    by_head, nearest = pictures(inspection(), shot=2, head="cosine", seed=0)
    assert (by_head.stage, by_head.of_head, nearest.stage, nearest.of_head) == ("teach", True, "distill", False)
    np.testing.assert_array_equal(by_head.confusion, confusion(LABELS, LOGITS.argmax(axis=1), 4))
    assert nearest.confusion.sum(axis=1).tolist() == [10] * 4
    assert by_head.points.shape == nearest.points.shape == (48, 2)
    np.testing.assert_array_equal(by_head.labels, LABELS)
    assert by_head.names == NAMES


def test_students_are_compared_with_the_teacher() -> None:
    (found,) = agreements(inspection(), seed=0)
    assert found == ("distill", activation_error(STUDENT, TEACHER, 0))
    ((_, reason),) = agreements(inspection(width=30), seed=0)
    assert isinstance(reason, str)
    assert "48 images are too few" in reason
    alone = Inspection(LABELS, NAMES, (Activations("distill", STUDENT, None),), None, None)
    assert agreements(alone, seed=0) == []
    assert isinstance(found[1], ActivationError)


def test_at_the_best_temperature_the_nll_is_the_entropy() -> None:
    found = calibration(inspection(), (1.0, 4.0))
    assert found is not None
    assert found.best is not None
    assert (found.images, found.rows) == (48, soft_targets(LOGITS, LABELS, (1.0, 4.0)))
    # d NLL / d(1/T) = E[softmax mean of u] - E[u_y] = 0 makes both the same
    assert found.best.nll == pytest.approx(found.best.entropy, abs=1e-4)
    others = [row.nll for row in found.rows if row.nll is not None]
    assert found.best.nll is not None
    assert found.best.nll < min(others)


@pytest.mark.parametrize(("sign", "end", "temperature"), [(1, "cold", 0.01), (-1, "hot", 1000.0)])
def test_an_nll_that_falls_to_the_end_of_the_search_says_so(sign: int, end: str, temperature: float) -> None:
    logits = sign * 3.0 * np.eye(4)[LABELS]  # every image is named right, or none
    found = calibration(Inspection(LABELS, NAMES, (), logits, LABELS), (1.0,))
    assert found is not None
    assert found.best is not None
    assert (found.end, found.best.temperature) == (end, temperature)
    inside = calibration(inspection(), (1.0,))
    assert inside is not None
    assert inside.end == ""


def test_novel_classes_leave_the_entropy_alone() -> None:
    found = calibration(inspection(head=False), (1.0,))
    assert found is not None
    assert found.best is None
    assert found.rows[0].nll is None
    assert calibration(Inspection(LABELS, NAMES, (), None, None), (1.0,)) is None
