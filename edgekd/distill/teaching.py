"""How a teacher comes about: its start, its training in parts, and its generations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from edgekd.distill.checkpoint import load_network
from edgekd.distill.context import Context, supervised, validated_stage
from edgekd.distill.engine import Batch, Stage, clear_checkpoint, fit
from edgekd.distill.methods import Outputs, Samples, build_method
from edgekd.distill.resolve import dims_of
from edgekd.distill.seeding import derive_seed
from edgekd.distill.tasks import Classifier, DistillTask, LabelTask
from edgekd.distill.teacher_tasks import HeadTask, StrongLabelTask
from edgekd.distill.teacher_weights import PRETRAINED, load_backbone
from edgekd.recipe import Schedule, Teacher

HEAD = "teach-head"  # the part of the stage in which the backbone is frozen
METHOD = "ce + kd"  # between generations


@dataclass(frozen=True)
class _Part:
    """What is trained on which batches, and how."""

    name: str
    task: nn.Module
    batch: Callable[[int], Batch]
    schedule: Schedule
    steps_per_epoch: int


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
        teacher = _start(context, "teach")
        _fit_head(context, teacher)
        _fit_on_labels(context, teacher)
    for generation in range(2, settings.generations + 1):
        teacher = _next_generation(context, teacher, f"teach-{generation}")
    return teacher


def marks(context: Context) -> dict[str, object]:
    """Return what the teacher's file must tell those who load it."""
    return {PRETRAINED: True} if context.run.recipe.teacher.pretrained else {}


def forget_parts(context: Context) -> None:
    """Delete the checkpoints of the parts of a finished teacher."""
    if context.session.is_main:
        parts = [f"teach-{generation}" for generation in range(2, context.run.recipe.teacher.generations + 1)]
        for name in (HEAD, *parts):
            clear_checkpoint(context.run, name)


def _start(context: Context, name: str) -> Classifier:
    """Return a classifier with a new head on random, published or given weights."""
    settings = context.run.recipe.teacher
    classifier = context.classifier(settings.backbone, name, fetch=settings.weights is None)
    if settings.weights and settings.new_head:
        load_backbone(settings.weights, classifier.backbone)
    return classifier


def _fit_head(context: Context, classifier: Classifier) -> None:
    """Train the head on the frozen backbone; no validation, which looks at embeddings alone."""
    settings = context.run.recipe.teacher
    if not settings.freeze_epochs:
        return
    schedule = settings.model_copy(update={"epochs": settings.freeze_epochs})
    batch, steps = _labelled(context, HEAD, schedule)
    classifier.backbone.requires_grad_(requires_grad=False)
    task = HeadTask(classifier, settings.label_smoothing)
    fit(Stage(HEAD, task, batch, schedule, steps, schedule.batch_size), context.run, context.session)
    classifier.backbone.requires_grad_(requires_grad=True)


def _fit_on_labels(context: Context, classifier: Classifier) -> None:
    settings = context.run.recipe.teacher
    torch.manual_seed(derive_seed(context.run.recipe.seed, "teach", "task"))
    task: LabelTask | StrongLabelTask = LabelTask(classifier, settings.label_smoothing)
    if settings.rotation or settings.mixup:
        task = StrongLabelTask(
            classifier,
            label_smoothing=settings.label_smoothing,
            rotation=settings.rotation,
            mixup=settings.mixup,
        )
    schedule = _finetuning(settings)
    batch, steps = _labelled(context, "teach", schedule)
    frozen_before = settings.freeze_epochs > 0
    _fit(context, _Part("teach", task, batch, schedule, steps), classifier, starts_trained=frozen_before)


def _next_generation(context: Context, teacher: Classifier, name: str) -> Classifier:
    """Train a new classifier on labels and on the outputs of `teacher`, the generation before."""
    recipe, session = context.run.recipe, context.session
    teacher = teacher.eval().to(session.device).to(memory_format=torch.channels_last)
    pupil = _start(context, name)
    torch.manual_seed(derive_seed(recipe.seed, name, "method"))
    task = DistillTask(pupil, build_method(METHOD, dims_of(pupil.backbone, teacher.backbone, context.splits.train)))
    schedule = _finetuning(recipe.teacher)
    images, rows, steps = supervised(context, name, schedule)

    def batch(step: int) -> Batch:
        chosen = rows(step)
        pixels, labels = images.take(chosen, name, step)
        samples = Samples(labels, chosen[session.local_slice(len(chosen))].to(labels.device))
        with torch.no_grad(), session.accelerator.autocast():
            taught: Outputs = teacher(pixels)
        return {"images": pixels, "samples": samples, "teacher": taught}

    _fit(context, _Part(name, task, batch, schedule, steps), pupil)
    return pupil


def _finetuning(settings: Teacher) -> Schedule:
    """Return the schedule of the whole network: gentler where its head was trained alone before."""
    factor = settings.finetune_factor if settings.freeze_epochs else 1.0
    return settings.model_copy(update={"lr": settings.lr * factor})


def _labelled(context: Context, name: str, schedule: Schedule) -> tuple[Callable[[int], Batch], int]:
    """Return step -> batch, and steps per epoch."""
    images, rows, steps = supervised(context, name, schedule)

    def batch(step: int) -> Batch:
        pixels, labels = images.take(rows(step), name, step)
        return {"images": pixels, "labels": labels}

    return batch, steps


def _fit(context: Context, part: _Part, classifier: Classifier, *, starts_trained: bool = False) -> None:
    stage = validated_stage(
        context,
        part.name,
        part.task,
        batch=part.batch,
        schedule=part.schedule,
        steps_per_epoch=part.steps_per_epoch,
        images_per_step=part.schedule.batch_size,
        backbone=classifier.backbone,
        starts_trained=starts_trained,
    )
    fit(stage, context.run, context.session)
