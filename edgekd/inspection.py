"""What is looked at in a trained run: maps of embeddings, confusions, agreement with the teacher, its soft targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError
from edgekd.measures import (
    COLDEST,
    HOTTEST,
    ActivationError,
    SoftTargets,
    activation_error,
    best_temperature,
    confusion,
    soft_targets,
)
from edgekd.projection import few_classes, few_images, nearest_class_confusion, tsne

TEACHER = "teach"

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Activations:
    """A stage's embeddings (n, d) of test images; `logits` (n, classes) where its head knows their classes."""

    stage: str
    embeddings: Floats
    logits: Floats | None


@dataclass(frozen=True)
class Inspection:
    """Labels (n,) of test images, what each stage makes of these, and the teacher's logits on validation images.

    `teacher_labels` is None where the validation classes are novel: no logit stands for them.
    """

    labels: Integers
    class_names: tuple[str, ...]
    stages: tuple[Activations, ...]
    teacher_logits: Floats | None
    teacher_labels: Integers | None


@dataclass(frozen=True)
class Picture:
    """One stage: its map (n, 2) of images with labels (n,), and its confusion, the truth by row.

    `of_head`: the confusion is that of its own head over all test classes; else of `names` alone, by the nearest class.
    """

    stage: str
    points: Floats
    labels: Integers
    names: tuple[str, ...]
    confusion: Integers
    confused_names: tuple[str, ...]
    of_head: bool


@dataclass(frozen=True)
class Calibration:
    """The teacher's soft targets by temperature, and the temperature of least NLL where the classes are known."""

    images: int
    rows: tuple[SoftTargets, ...]
    best: SoftTargets | None

    @property
    def end(self) -> str:
        """Which end of the search is the best, if one is."""
        return {COLDEST: "cold", HOTTEST: "hot"}.get(self.best.temperature, "") if self.best else ""


def pictures(inspection: Inspection, *, shot: int, head: str, seed: int) -> Iterator[Picture]:
    """Yield a picture a stage, all of the same images; `head` and `shot` are for classes that no head of its own knows.

    Raises:
        DataError: too few images.
    """
    classes = few_classes(inspection.labels, seed)
    rows = few_images(inspection.labels, classes, seed)
    names = tuple(inspection.class_names[label] for label in classes)
    for found in inspection.stages:
        logits, labels = found.logits, inspection.labels
        if logits is not None:
            counts = confusion(labels, logits.argmax(axis=1), logits.shape[1])
        else:
            counts = nearest_class_confusion(found.embeddings, labels, classes, shot=shot, head=head, seed=seed)
        yield Picture(
            stage=found.stage,
            points=tsne(found.embeddings[rows], seed),
            labels=np.searchsorted(classes, labels[rows]).astype(np.int64),
            names=names,
            confusion=counts,
            confused_names=names if logits is None else inspection.class_names,
            of_head=logits is not None,
        )


def agreements(inspection: Inspection, seed: int) -> list[tuple[str, ActivationError | str]]:
    """Return, for each student, how its embeddings differ from the teacher's, or why that cannot be measured."""
    teacher = next((found for found in inspection.stages if found.stage == TEACHER), None)
    students = [found for found in inspection.stages if found.stage != TEACHER]
    if teacher is None:
        return []
    return [(student.stage, _agreement(student.embeddings, teacher.embeddings, seed)) for student in students]


def _agreement(student: Floats, teacher: Floats, seed: int) -> ActivationError | str:
    try:
        return activation_error(student, teacher, seed)
    except DataError as error:
        return str(error)


def calibration(inspection: Inspection, temperatures: Sequence[float]) -> Calibration | None:
    """Measure the teacher's soft targets on validation images; None where there is no teacher."""
    logits, labels = inspection.teacher_logits, inspection.teacher_labels
    if logits is None:
        return None
    best = None if labels is None else soft_targets(logits, labels, [best_temperature(logits, labels)])[0]
    return Calibration(len(logits), soft_targets(logits, labels, temperatures), best)
