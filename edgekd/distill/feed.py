"""The training images of a stage, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from edgekd.data import ImageSet
from edgekd.distill.batches import TrainingImages, shuffled_rows
from edgekd.distill.context import Context
from edgekd.distill.growing import share_of_side, sized
from edgekd.distill.memory import Batch
from edgekd.recipe import Schedule


@dataclass(frozen=True)
class Feed:
    """Batches of augmented images, which depend on the seed, the stage's name and the step only."""

    name: str
    images: TrainingImages
    rows: Callable[[int], Tensor]
    steps_per_epoch: int
    schedule: Schedule

    def take(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the images (b, c, h, w) of a step and their labels (b,), of this process alone."""
        pixels, labels = self.take_full(step)
        return self.sized(pixels, step), labels

    def take_full(self, step: int) -> tuple[Tensor, Tensor]:
        """As `take`, images of full size."""
        return self.images.take(self.rows(step), self.name, step)

    def sized(self, pixels: Tensor, step: int) -> Tensor:
        """Return images of full size as large as the schedule has them at a step."""
        return sized(pixels, share_of_side(self.schedule, step / self.steps_per_epoch))

    def labelled(self, step: int) -> Batch:
        """Return the batch of a task that learns from labels."""
        pixels, labels = self.take(step)
        return {"images": pixels, "labels": labels}


def feed_of(context: Context, stage: str, schedule: Schedule, images: ImageSet | None = None) -> Feed:
    """Return the batches of `stage`: all training images, or all of `images`, shuffled anew for each epoch."""
    chosen, batch_size = images or context.splits.train, schedule.batch_size
    rows = shuffled_rows(len(chosen), batch_size, context.run.recipe.seed, stage)
    loaded = TrainingImages.load(chosen, context.run.recipe.augment, context.session)
    return Feed(stage, loaded, rows, len(chosen) // batch_size, schedule)
