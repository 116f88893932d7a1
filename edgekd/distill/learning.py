"""Training a network by a few-shot learner: the batches that the learner draws, its loss, its measures."""

from __future__ import annotations

from torch import nn

from edgekd.distill.batches import TrainingImages
from edgekd.distill.context import Context
from edgekd.distill.engine import Stage, fit
from edgekd.distill.feed import Feed
from edgekd.distill.learners import build_learner
from edgekd.distill.tasks import Classifier
from edgekd.distill.validating import validation_of
from edgekd.recipe import Learning


def learn(
    context: Context,
    name: str,
    classifier: Classifier,
    settings: Learning,
    *,
    task: nn.Module | None = None,
    starts_trained: bool = False,
) -> bool:
    """Train `classifier` by the learner that `settings` names; return whether its head was trained too.

    `task` takes the place of the learner's own loss, on the same batches.
    """
    learner = build_learner(classifier, settings)
    images = TrainingImages.load(context.splits.train, context.run.recipe.augment, context.session)
    draw = learner.unit.draw(images.labels, settings, context.run.recipe.seed, name)
    feed = Feed(name, images, draw.rows, draw.steps_per_epoch, settings)
    context.session.local_slice(settings.batch_size)  # whole episodes and triplets go to each process
    headed = classifier if learner.trains_head else None
    stage = Stage(
        name,
        task or learner,
        feed.labelled,
        settings,
        draw.steps_per_epoch,
        draw.images_per_step,
        validation_of(context, classifier.backbone, classifier=headed, measures=learner.measures),
        starts_trained=starts_trained,
        unit_images=draw.images_per_step // settings.batch_size,
    )
    fit(stage, context.run, context.session)
    return learner.trains_head
