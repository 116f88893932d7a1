"""What a few-shot learner is: what it trains on, and one loss over a batch of that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgekd.distill.batches import episode_rows, require_batch, shuffled_rows, triplet_rows
from edgekd.distill.tasks import Classifier, Loss
from edgekd.errors import RecipeError, unknown
from edgekd.recipe import Learning, Recipe, Schedule, section_of


@dataclass(frozen=True)
class Measure:
    """A share of `trials` draws: `share` maps embeddings (n, d) and labels (n,) to it; higher is better."""

    share: Callable[[NDArray[np.floating[Any]], NDArray[np.integer[Any]]], float]
    trials: int


@dataclass(frozen=True)
class Draw:
    """Which training images each step sees: `rows(step)` (images_per_step,); those of one unit stand together."""

    rows: Callable[[int], Tensor]
    steps_per_epoch: int
    images_per_step: int


@dataclass(frozen=True)
class Unit:
    """What a learner's batch is counted in, and drawn in by `draw(labels, settings, seed, stage)`.

    `batch_size` is how many make a batch where the recipe leaves it open. `draw` raises DataError where the training
    set has too few classes or images.
    """

    name: str
    batch_size: int
    draw: Callable[[Tensor, Learning, int, str], Draw]


class Learner(nn.Module, ABC):
    """Trains the backbone of a classifier, and its head too where `trains_head`.

    It holds only what it trains as submodules. unit: what its batches are made of. measures: figures of its own, taken
    on the validation images beside the few-shot accuracy that the best weights are chosen by, and on the test images of
    every stage.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    unit: ClassVar[Unit]
    trains_head: ClassVar[bool] = False
    measures: ClassVar[Mapping[str, Measure]] = {}

    @abstractmethod
    def __init__(self, classifier: Classifier, settings: Learning) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, images: Tensor, labels: Tensor) -> Loss:
        """Return the loss, a scalar, of normalized images (b, c, h, w) with labels (b,), and its terms."""


def _draw_images(labels: Tensor, settings: Schedule, seed: int, stage: str) -> Draw:
    n, batch_size = len(labels), settings.batch_size
    require_batch(n, batch_size, section_of(stage))
    return Draw(shuffled_rows(n, batch_size, seed, stage), n // batch_size, batch_size)


def _draw_episodes(labels: Tensor, settings: Learning, seed: int, stage: str) -> Draw:
    images = settings.batch_size * settings.way * (settings.shot + settings.query)
    return Draw(episode_rows(labels, settings, seed, stage), settings.batches_per_epoch, images)


def _draw_triplets(labels: Tensor, settings: Learning, seed: int, stage: str) -> Draw:
    rows = triplet_rows(labels, settings.batch_size, seed, stage)
    return Draw(rows, settings.batches_per_epoch, 3 * settings.batch_size)


IMAGES = Unit("images", 64, _draw_images)
EPISODES = Unit("episodes", 4, _draw_episodes)
TRIPLETS = Unit("triplets", 32, _draw_triplets)


class EpisodeLearner(Learner):
    """A learner whose images are whole episodes, class by class, the support images of a class before its queries."""

    unit = EPISODES

    def __init__(self, classifier: Classifier, settings: Learning) -> None:
        super().__init__(classifier, settings)
        self.way, self.shot, self.query = settings.way, settings.shot, settings.query

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return support (episodes, way, shot, ...) and query (episodes, way, query, ...) of values (images, ...)."""
        grouped = values.reshape(-1, self.way, self.shot + self.query, *values.shape[1:])
        return grouped[:, :, : self.shot], grouped[:, :, self.shot :]

    def targets(self, each: int, device: torch.device) -> Tensor:
        """Return the class (way * each,) within the episode of `each` images a class."""
        return torch.arange(self.way, device=device).repeat_interleave(each)


class MetricLearner(EpisodeLearner):
    """A learner of episodes whose queries are told apart by how near they are to the support embeddings."""

    def __init__(self, classifier: Classifier, settings: Learning) -> None:
        super().__init__(classifier, settings)
        self.backbone = classifier.backbone

    @abstractmethod
    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Return logits (e, queries, way) of support (e, way, shot, d) and query (e, queries, d) in e episodes."""

    def forward(self, images: Tensor, labels: Tensor) -> Loss:  # noqa: ARG002 - one signature
        """Return the mean cross-entropy over all queries, in nats."""
        support, query = self.split(self.backbone(images).float())
        logits = self.logits(support, query.flatten(1, 2))
        targets = self.targets(self.query, logits.device).repeat(len(logits))
        loss = functional.cross_entropy(logits.flatten(0, 1), targets)
        return loss, {"episode_ce": loss}


_L = TypeVar("_L", bound=Learner)
LEARNERS: dict[str, type[Learner]] = {}


def register(learner: type[_L]) -> type[_L]:
    """Make a learner known under its `name`."""
    LEARNERS[learner.name] = learner
    return learner


def find_learner(name: str) -> type[Learner]:
    """Return the learner of that name.

    Raises:
        RecipeError: there is none; the message names the nearest.
    """
    if name not in LEARNERS:
        raise RecipeError(unknown("learner", name, LEARNERS))
    return LEARNERS[name]


def measures_of(recipe: Recipe) -> dict[str, Measure]:
    """Return the measures of the learners that the recipe names, by name.

    Raises:
        RecipeError: there is no such learner.
    """
    named = [recipe.teacher.learner, *([recipe.meta.learner] if recipe.meta.enabled else [])]
    return {name: measure for learner in named for name, measure in find_learner(learner).measures.items()}


def build_learner(classifier: Classifier, settings: Learning) -> Learner:
    """Return the learner that `settings` names, over `classifier`.

    Raises:
        RecipeError: there is none of that name.
    """
    return find_learner(settings.learner)(classifier, settings)
