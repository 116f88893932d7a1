"""How a teacher comes about: its start, its training in parts, and its generations."""

from __future__ import annotations

import torch

from edgekd.distill.checkpoint import load_network, load_snapshot
from edgekd.distill.class_means import set_class_means
from edgekd.distill.context import Context, look
from edgekd.distill.engine import Batch, Stage, clear_checkpoint, fit
from edgekd.distill.feed import feed_of
from edgekd.distill.learning import learn
from edgekd.distill.methods import Samples, build_method
from edgekd.distill.optimizer import compress
from edgekd.distill.resolve import dims_of
from edgekd.distill.seeding import derive_seed
from edgekd.distill.start_weights import ROTATION
from edgekd.distill.starting import finetuning, fit_head, new_network
from edgekd.distill.tasks import Classifier, DistillTask
from edgekd.distill.teacher_tasks import StrongLabelTask
from edgekd.distill.validating import validation_of
from edgekd.recipe import Teacher

HEAD = "teach-head"  # the part of the stage in which the backbone is frozen
METHOD = "ce + kd"  # between generations


def train_teacher(context: Context) -> Classifier:
    """Return the last generation of the recipe's teacher, on the session's device.

    The first learns from labels, or is the file that the recipe names; each further one begins anew and learns from the
    one before: T. Furlanello et al., Born-Again Neural Networks, ICML 2018, https://arxiv.org/abs/1805.04770.
    Every part has a checkpoint, so that a resumed run repeats none.

    Raises:
        ModelError: published weights cannot be had.
    """
    settings = context.run.recipe.teacher
    if settings.weights and not settings.new_head:
        teacher = context.classifier(settings.backbone, "teach").to(context.session.device)
        load_network(settings.weights, teacher)
    else:
        teacher = new_network(context, "teach", settings)
        if settings.freeze_epochs:
            schedule = settings.model_copy(update={"epochs": settings.freeze_epochs})
            fit_head(context, HEAD, teacher, schedule, settings.label_smoothing)
        _fit_on_labels(context, teacher)
    for generation in range(2, settings.generations + 1):
        teacher = _next_generation(context, teacher, f"teach-{generation}")
    return teacher


def marks(context: Context) -> dict[str, object]:
    """Return what the teacher's file must tell those who load it."""
    settings = context.run.recipe.teacher
    given = settings.weights if settings.weights and not settings.new_head else None
    rotation = load_snapshot(given).values.get(ROTATION) if given else settings.rotation
    return {ROTATION: rotation} if rotation else {}


def forget_parts(context: Context) -> None:
    """Delete the checkpoints of the parts of a finished teacher."""
    if context.session.is_main:
        parts = [f"teach-{generation}" for generation in range(2, context.run.recipe.teacher.generations + 1)]
        for name in (HEAD, *parts):
            clear_checkpoint(context.run, name)


def _fit_on_labels(context: Context, classifier: Classifier) -> None:
    """Train by the recipe's learner; where it trains no head, class means take its place."""
    settings = context.run.recipe.teacher
    torch.manual_seed(derive_seed(context.run.recipe.seed, "teach", "task"))
    task = None
    if settings.rotation or settings.mixup:
        task = StrongLabelTask(
            classifier,
            label_smoothing=settings.label_smoothing,
            rotation=settings.rotation,
            mixup=settings.mixup,
        )
    starts_trained = settings.freeze_epochs > 0
    if not learn(context, "teach", classifier, _finetuning(settings), task=task, starts_trained=starts_trained):
        set_class_means(classifier, context.splits.train)


def _next_generation(context: Context, teacher: Classifier, name: str) -> Classifier:
    """Train a new classifier on labels and on the outputs of `teacher`, the generation before."""
    recipe, session = context.run.recipe, context.session
    teacher = teacher.eval().to(session.device).to(memory_format=torch.channels_last)
    pupil = new_network(context, name, recipe.teacher)
    torch.manual_seed(derive_seed(recipe.seed, name, "method"))
    task = DistillTask(pupil, build_method(METHOD, dims_of(pupil.backbone, teacher.backbone, context.splits.train)))
    schedule = _finetuning(recipe.teacher)
    feed = feed_of(context, name, schedule)

    def batch(step: int) -> Batch:
        chosen = feed.rows(step)
        pixels, labels = feed.take_full(step)
        samples = Samples(labels, chosen[session.local_slice(len(chosen))].to(labels.device))
        return {"images": feed.sized(pixels, step), "samples": samples, "teacher": look(context, teacher, pixels)}

    validation = validation_of(context, pupil.backbone, classifier=pupil)
    stage = Stage(name, task, batch, schedule, feed.steps_per_epoch, schedule.batch_size, validation)
    fit(stage, context.run, context.session)
    return pupil


def _finetuning(settings: Teacher) -> Teacher:
    """Return the schedule of the whole network, compressed as asked."""
    return compress(finetuning(settings, settings), settings.compressed)
