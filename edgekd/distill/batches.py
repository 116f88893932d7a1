"""Training images resident on the device, and which of them each step sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekd.data import ImageSet
from edgekd.distill import augment
from edgekd.distill.seeding import generator
from edgekd.distill.session import Session
from edgekd.errors import DataError
from edgekd.recipe import Augment, Learning, section_of


@dataclass(frozen=True)
class TrainingImages:
    """A whole split as uint8 (n, height, width, channels) and labels (n,) on the training device."""

    images: Tensor
    labels: Tensor
    augmentation: Augment
    session: Session

    @classmethod
    def load(cls, images: ImageSet, augmentation: Augment, session: Session) -> TrainingImages:
        """Copy `images` to the session's device once."""
        device = session.device
        return cls(
            torch.tensor(images.images).to(device), torch.tensor(images.labels).to(device), augmentation, session
        )

    def take(self, rows: Tensor, *purpose: str | int) -> tuple[Tensor, Tensor]:
        """Return this process's share of the global batch `rows` (b,), augmented.

        Float images (b/p, c, h, w) and labels (b/p,) for p processes.
        Randomness is drawn for the whole batch, so that the images do not depend on the number of processes.
        """
        share = self.session.local_slice(len(rows))
        draws = augment.draw(len(rows), self.augmentation, generator(self.session.seed, "augment", *purpose))
        local = rows[share].to(self.images.device)
        return augment.apply(self.images[local], draws[share]), self.labels[local]


def shuffled_rows(n: int, batch_size: int, seed: int, stage: str) -> Callable[[int], Tensor]:
    """Return step -> rows of a fresh permutation each epoch; the incomplete last batch is left out."""
    steps = n // batch_size
    cached: dict[int, Tensor] = {}

    def rows(step: int) -> Tensor:
        epoch, position = divmod(step, steps)
        if epoch not in cached:
            cached.clear()
            cached[epoch] = torch.randperm(n, generator=generator(seed, stage, "epoch", epoch))
        return cached[epoch][position * batch_size : (position + 1) * batch_size]

    return rows


def episode_rows(labels: Tensor, settings: Learning, seed: int, stage: str) -> Callable[[int], Tensor]:
    """Return step -> rows (episodes * way * (shot + query),) of training episodes, class by class within an episode.

    Raises:
        DataError: too few classes, or too few images in one.
    """
    by_class, each, section = _rows_of_classes(labels), settings.shot + settings.query, section_of(stage)
    usable = [rows for rows in by_class if len(rows) >= each]
    if len(usable) < settings.way:
        largest = sorted(map(len, by_class), reverse=True)[: settings.way]
        query = largest[-1] - settings.shot if len(largest) == settings.way else 0
        change = f"try --set {section}.query={query}" if query > 0 else f"lower {section}.way or {section}.query"
        raise DataError(
            f"{settings.way}-way {settings.shot}-shot training episodes with {settings.query} queries need "
            f"{settings.way} classes of {each} images; {len(usable)} of {len(by_class)} have them; "
            f"{change}, or {_way_out(section)}"
        )

    def rows(step: int) -> Tensor:
        random = generator(seed, stage, "episodes", step)
        return torch.cat([_episode(usable, settings.way, each, random) for _ in range(settings.batch_size)])

    return rows


def triplet_rows(labels: Tensor, batch_size: int, seed: int, stage: str) -> Callable[[int], Tensor]:
    """Return step -> rows (triplets * 3,): anchor, another image of its class, an image of another class; and so on.

    Raises:
        DataError: fewer than two classes, or none with two images.
    """
    by_class = _rows_of_classes(labels)
    pairs = [number for number, rows in enumerate(by_class) if len(rows) >= 2]
    if len(by_class) < 2 or not pairs:
        raise DataError(
            f"training triplets need two classes, one of them with two images; there are {len(by_class)} classes, "
            f"{len(pairs)} with two images; {_way_out(section_of(stage))}"
        )

    def rows(step: int) -> Tensor:
        random = generator(seed, stage, "triplets", step)
        return torch.cat([_triplet(by_class, pairs, random) for _ in range(batch_size)])

    return rows


def require_batch(n: int, batch_size: int, section: str) -> None:
    """Refuse a batch larger than the training set.

    Raises:
        DataError: `n` images do not fill one.
    """
    if n < batch_size:
        raise DataError(
            f"{n} training images are fewer than one batch of {batch_size}; "
            f"try --set {section}.batch_size={max(1, n // 4)}"
        )


def _rows_of_classes(labels: Tensor) -> list[Tensor]:
    return [torch.nonzero(labels.cpu() == label).flatten() for label in sorted(set(labels.tolist()))]


def _way_out(section: str) -> str:
    return "--no-meta" if section == "meta" else f"--set {section}.learner=classifier"


def _episode(by_class: list[Tensor], way: int, each: int, random: torch.Generator) -> Tensor:
    chosen = torch.randperm(len(by_class), generator=random)[:way].tolist()
    return torch.cat([by_class[c][torch.randperm(len(by_class[c]), generator=random)[:each]] for c in chosen])


def _triplet(by_class: list[Tensor], pairs: list[int], random: torch.Generator) -> Tensor:
    """Draw two images of a class in `pairs` and one of another class, classes with equal chances."""
    own = pairs[int(torch.randint(len(pairs), (), generator=random))]
    other = (own + 1 + int(torch.randint(len(by_class) - 1, (), generator=random))) % len(by_class)
    same = by_class[own][torch.randperm(len(by_class[own]), generator=random)[:2]]
    return torch.cat([same, by_class[other][torch.randint(len(by_class[other]), (1,), generator=random)]])
