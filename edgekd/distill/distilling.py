"""The stages that distill: the student, and before it an assistant."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekd.distill.answers import kept_answers
from edgekd.distill.assistant import as_student
from edgekd.distill.checkpoint import load_network
from edgekd.distill.context import Context, look, still
from edgekd.distill.engine import Batch, Stage, fit
from edgekd.distill.feed import feed_of
from edgekd.distill.finishing import finish_stage
from edgekd.distill.methods import Needs, Outputs, Samples, WeightedMethods, needs_of
from edgekd.distill.phases import build_terms
from edgekd.distill.starting import finetuning, starts_with_head, student_at_start
from edgekd.distill.tasks import Classifier, DistillTask
from edgekd.distill.validating import validation_of
from edgekd.recipe import Recipe, followed

PEER, PEER_FILE = "peer", "peer.safetensors"  # the teacher that learns beside the student, at the student's best epoch
UNKNOWN = -1  # the label of images that have none; no loss takes it for a class


def assist(context: Context) -> None:
    """Distill the assistant from the teacher."""
    recipe = as_student(context.run.recipe)
    student = context.classifier(recipe.student.backbone, "assistant")
    _distill(context, "assist", recipe, student, file="assistant.safetensors")


def distill(context: Context) -> None:
    """Train the student to follow the teacher or its assistant, or beside a teacher that learns at the same time."""
    _distill(context, "distill", context.run.recipe, student_at_start(context), file="distilled.safetensors")


def _distill(context: Context, name: str, recipe: Recipe, student: Classifier, *, file: str) -> None:
    """Distill the student of `recipe` in stage `name`."""
    began, needs = time.monotonic(), needs_of(recipe.distill.method, recipe.distill.options)
    teacher = _teacher(context, recipe, needs)
    methods = _prepared_terms(context, name, recipe, student, teacher)
    stage = _distilling(context, name, recipe, Trio(student, teacher, methods), needs)
    fit(stage, context.run, context.session)
    if teacher is not None and needs.online:
        finish_stage(context, PEER, teacher, file=PEER_FILE, spec=recipe.teacher.backbone, began=began)
    finish_stage(context, name, student, file=file, spec=recipe.student.backbone, began=began, head=needs.head)


@dataclass(frozen=True)
class Trio:
    """Who takes part in distilling; the teacher is None where no term wants one."""

    student: Classifier
    teacher: Classifier | None
    methods: WeightedMethods


def _prepared_terms(
    context: Context, name: str, recipe: Recipe, student: Classifier, teacher: Classifier | None
) -> WeightedMethods:
    """Build the terms of the loss, with what was prepared for them, at the start of their work."""
    methods = build_terms(context, recipe, name, student.backbone, (teacher or student).backbone)
    if needs_of(recipe.distill.method, recipe.distill.options).prepared:
        prepared = methods.preparation()
        load_network(context.run.stage_file("connect"), prepared)
        prepared.requires_grad_(False)
    methods.begin(student, teacher or student)
    return methods


def _distilling(context: Context, name: str, recipe: Recipe, trio: Trio, needs: Needs) -> Stage:
    """Return the stage: a teacher that is still is asked about each batch, one that learns is part of the task."""
    schedule, student = finetuning(recipe.distill, recipe.student), trio.student
    peer, teacher = (trio.teacher, None) if needs.online else (None, trio.teacher)
    unlabelled = context.unlabelled if name == "distill" else None
    feed = feed_of(context, name, schedule, unlabelled)
    total = max(1, math.ceil(schedule.epochs * feed.steps_per_epoch))
    views = schedule.views * feed.steps_per_epoch
    ask = _asking(context, name, teacher, trio.methods.teacher_layers, views) if teacher else None

    def batch(step: int) -> Batch:
        drawn = step % views if views else step
        chosen = feed.rows(drawn)
        pixels, labels = feed.take_full(drawn)
        labels = labels if unlabelled is None else torch.full_like(labels, UNKNOWN)
        local = chosen[context.session.local_slice(len(chosen))].to(labels.device)
        asked = {"teacher": ask(drawn, pixels)} if ask else {}
        return {"images": feed.sized(pixels, step), "samples": Samples(labels, local, step / total), **asked}

    return Stage(
        name,
        DistillTask(student, trio.methods, peer=peer),
        batch,
        schedule,
        feed.steps_per_epoch,
        schedule.batch_size,
        validation_of(context, student.backbone, classifier=student if needs.head else None),
        starts_trained=starts_with_head(recipe.student),
        partial=not needs.labels,
    )


def _asking(
    context: Context, name: str, teacher: Classifier, layers: Sequence[int], views: int
) -> Callable[[int, Tensor], Outputs]:
    """Return what asks a still teacher about the pixels of a step; where steps come again, once about each."""
    if not views:
        return lambda _, pixels: look(context, teacher, pixels, layers)
    return kept_answers(context, name, teacher, views)


def _teacher(context: Context, recipe: Recipe, needs: Needs) -> Classifier | None:
    """Return the teacher: trained and still, or new where it learns with the student; None where no term wants one."""
    if not needs.teacher:
        return None
    if needs.online:
        return context.classifier(recipe.teacher.backbone, PEER)
    return still(context, *followed(recipe))
