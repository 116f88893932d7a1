"""Whether there are images enough for batches and episodes: who has few is told at once about every setting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial

import numpy as np
import torch

from edgekd.data import ImageSet, Splits
from edgekd.distill.batches import require_batch
from edgekd.distill.learners import find_learner
from edgekd.errors import DataError
from edgekd.recipe import Learning, Recipe, section_of
from edgekd.text import counted


def require_enough(recipe: Recipe, splits: Splits, stages: Collection[str], distilled: int) -> None:
    """Refuse what asks for more images than there are; `distilled` is how many are distilled on.

    Raises:
        DataError: a line for each setting that asks for too many, with a value that would do.
    """
    found: dict[str, None] = {}
    for check in _checks(recipe, splits, stages, distilled):
        try:
            check()
        except DataError as error:
            found[str(error)] = None
    if found:
        raise DataError("\n".join(found))


def _checks(recipe: Recipe, splits: Splits, stages: Collection[str], distilled: int) -> Iterator[Callable[[], None]]:
    """Yield the checks of batches, training episodes, validation and test."""
    labels = torch.tensor(splits.train.labels)
    if "teach" in stages and not recipe.teacher.weights:
        yield partial(_require_units, labels, recipe.teacher, recipe.seed, "teach")
    if "meta" in stages:
        yield partial(_require_units, labels, recipe.meta, recipe.seed, "meta")
    started = {"start"} if recipe.student.freeze_epochs else set()
    for stage in sorted({"assist", "connect", "distill", "head", "quantize", *started} & set(stages)):
        section, n = section_of(stage), distilled if stage == "distill" else len(labels)
        yield partial(require_batch, n, getattr(recipe, section).batch_size, section)
    validation, test, way = recipe.validation, recipe.test, min(recipe.validation.way, splits.val.n_classes)
    yield partial(_require_episodes, splits.val, way, validation.shots, validation.query, "validation")
    if test.enabled:
        way = test.way_among(splits.test.n_classes)
        yield partial(_require_episodes, splits.test, way, test.shots, test.query, "test")


def _require_units(labels: torch.Tensor, settings: Learning, seed: int, stage: str) -> None:
    find_learner(settings.learner).unit.draw(labels, settings, seed, stage)


def _require_episodes(images: ImageSet, way: int, shots: tuple[int, ...], query: int, section: str) -> None:
    shot, least = max(shots), int(np.bincount(images.labels).min())
    needed = query + shot
    if way >= 2 and images.n_classes >= way and least >= needed:
        return
    if images.n_classes < 2:
        raise DataError(
            f"{images.name} has one class, and few-shot {section} tells two apart at least: bring six classes or more, "
            "or train, val and test folders; or folders train and test of the same classes, which are a closed set"
        )
    if least < 2:
        raise DataError(
            f"{images.name} has a class of one image, and few-shot {section} needs two of each at least: one to learn "
            "from, one to ask about"
        )
    fitting = [k for k in shots if k < least] or [1]
    changes = {"way": str(images.n_classes)} if images.n_classes < way else {}
    if fitting != list(shots):
        changes["shots"] = f"[{','.join(map(str, fitting))}]"
    if query > least - max(fitting):
        changes["query"] = str(least - max(fitting))
    advice = " ".join(f"--set {section}.{key}={value}" for key, value in changes.items())
    has = f"{counted(images.n_classes, 'class', 'classes')}, the smallest with {counted(least, 'image', 'images')}"
    raise DataError(
        f"{way}-way {shot}-shot with {query} queries needs {way} {section} classes of {needed} images; "
        f"{images.name} has {has}; "
        f"lower {section}.way, {section}.shots or {section}.query, for example {advice}"
    )
