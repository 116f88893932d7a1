"""How a network starts: from random, published or given weights, and with a head that learns alone at first."""

from __future__ import annotations

import time
from typing import TypeVar

from edgekd.distill.checkpoint import load_network
from edgekd.distill.context import Context, load_classifier
from edgekd.distill.engine import Stage, fit
from edgekd.distill.feed import feed_of
from edgekd.distill.finishing import finish_stage
from edgekd.distill.start_weights import load_backbone
from edgekd.distill.tasks import Classifier
from edgekd.distill.teacher_tasks import HeadTask
from edgekd.recipe import Recipe, Schedule, Start

START_FILE = "start.safetensors"

_S = TypeVar("_S", bound=Schedule)


def has_start(recipe: Recipe) -> bool:
    """Return whether the student starts with weights that are not random."""
    return recipe.student.weights is not None or bool(recipe.student.pretrained)


def starts_with_head(start: Start) -> bool:
    """Return whether the head of a network is a trained one at its start."""
    return start.freeze_epochs > 0 or (start.weights is not None and not start.new_head)


def start(context: Context) -> None:
    """Take the weights that the recipe names for the student, and train a head on them for as long as it says."""
    began, recipe = time.monotonic(), context.run.recipe
    settings = recipe.student
    student = new_network(context, "student", settings).to(context.session.device)
    if settings.weights and not settings.new_head:
        load_network(settings.weights, student)
    if settings.freeze_epochs:
        fit_head(context, "start", student, recipe.head.model_copy(update={"epochs": settings.freeze_epochs}))
    headed = starts_with_head(settings)
    finish_stage(context, "start", student, file=START_FILE, spec=settings.backbone, began=began, head=headed)


def student_at_start(context: Context) -> Classifier:
    """Return the student that scratch training and distilling begin with."""
    recipe = context.run.recipe
    if has_start(recipe):
        return load_classifier(context, "start", recipe.student.backbone)
    return context.classifier(recipe.student.backbone, "student")


def new_network(context: Context, name: str, settings: Start) -> Classifier:
    """Return a classifier with a new head on random, published or given weights.

    Raises:
        ModelError: published weights cannot be had.
        RunError: the file cannot be read, or holds another architecture.
    """
    classifier = context.classifier(settings.backbone, name, fetch=settings.weights is None)
    if settings.weights and settings.new_head:
        load_backbone(settings.weights, classifier.backbone)
    return classifier


def fit_head(
    context: Context, name: str, classifier: Classifier, schedule: Schedule, label_smoothing: float = 0.0
) -> None:
    """Train the head on the frozen backbone; no validation, which looks at embeddings alone."""
    feed = feed_of(context, name, schedule)
    classifier.backbone.requires_grad_(requires_grad=False)
    task = HeadTask(classifier, label_smoothing)
    stage = Stage(name, task, feed.labelled, schedule, feed.steps_per_epoch, schedule.batch_size)
    fit(stage, context.run, context.session)
    classifier.backbone.requires_grad_(requires_grad=True)


def finetuning(schedule: _S, start: Start) -> _S:
    """Return the schedule of the whole network, gentler where its head was trained before."""
    factor = start.finetune_factor if start.freeze_epochs else 1.0
    return schedule.model_copy(update={"lr": schedule.lr * factor})
