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
from edgekd.recipe import Augment, Meta


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


def episode_rows(labels: Tensor, meta: Meta, seed: int, stage: str) -> Callable[[int], Tensor]:
    """Return step -> rows (episodes * way * (shot + query),) of training episodes, class by class within an episode.

    Raises:
        DataError: too few classes, or too few images in one.
    """
    by_class = [torch.nonzero(labels.cpu() == label).flatten() for label in sorted(set(labels.tolist()))]
    each = meta.shot + meta.query
    usable = [rows for rows in by_class if len(rows) >= each]
    if len(usable) < meta.way:
        raise DataError(
            f"{meta.way}-way {meta.shot}-shot training episodes with {meta.query} queries need "
            f"{meta.way} classes of {each} images; {len(usable)} of {len(by_class)} have them; "
            f"lower meta.way or meta.query, or set meta.enabled=false"
        )

    def rows(step: int) -> Tensor:
        random = generator(seed, stage, "episodes", step)
        return torch.cat([_episode(usable, meta.way, each, random) for _ in range(meta.batch_size)])

    return rows


def _episode(by_class: list[Tensor], way: int, each: int, random: torch.Generator) -> Tensor:
    chosen = torch.randperm(len(by_class), generator=random)[:way].tolist()
    return torch.cat([by_class[c][torch.randperm(len(by_class[c]), generator=random)[:each]] for c in chosen])
