"""How a teacher comes about: its start, its training in parts, and its generations."""

from __future__ import annotations

import torch

from edgekd.distill.checkpoint import load_network
from edgekd.distill.class_means import set_class_means
from edgekd.distill.context import Context, look, supervised, validated_stage
from edgekd.distill.engine import Batch, Stage, clear_checkpoint, fit
from edgekd.distill.learning import learn
from edgekd.distill.methods import Samples, build_method
from edgekd.distill.optimizer import compress
from edgekd.distill.resolve import dims_of
from edgekd.distill.seeding import derive_seed
from edgekd.distill.tasks import Classifier, DistillTask
from edgekd.distill.teacher_tasks import HeadTask, StrongLabelTask
from edgekd.distill.teacher_weights import PRETRAINED, load_backbone
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
    images, rows, steps = supervised(context, HEAD, schedule)

    def batch(step: int) -> Batch:
        pixels, labels = images.take(rows(step), HEAD, step)
        return {"images": pixels, "labels": labels}

    classifier.backbone.requires_grad_(requires_grad=False)
    task = HeadTask(classifier, settings.label_smoothing)
    fit(Stage(HEAD, task, batch, schedule, steps, schedule.batch_size), context.run, context.session)
    classifier.backbone.requires_grad_(requires_grad=True)


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
    pupil = _start(context, name)
    torch.manual_seed(derive_seed(recipe.seed, name, "method"))
    task = DistillTask(pupil, build_method(METHOD, dims_of(pupil.backbone, teacher.backbone, context.splits.train)))
    schedule = _finetuning(recipe.teacher)
    images, rows, steps = supervised(context, name, schedule)

    def batch(step: int) -> Batch:
        chosen = rows(step)
        pixels, labels = images.take(chosen, name, step)
        samples = Samples(labels, chosen[session.local_slice(len(chosen))].to(labels.device))
        return {"images": pixels, "samples": samples, "teacher": look(context, teacher, pixels)}

    stage = validated_stage(
        context,
        name,
        task,
        batch=batch,
        schedule=schedule,
        steps_per_epoch=steps,
        images_per_step=schedule.batch_size,
        backbone=pupil.backbone,
        classifier=pupil,
    )
    fit(stage, context.run, context.session)
    return pupil


def _finetuning(settings: Teacher) -> Teacher:
    """Return the schedule of the whole network: compressed as asked, gentler where its head was trained before."""
    factor = settings.finetune_factor if settings.freeze_epochs else 1.0
    return compress(settings.model_copy(update={"lr": settings.lr * factor}), settings.compressed)
