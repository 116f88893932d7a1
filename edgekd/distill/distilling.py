"""The stages that distill: the student, and before it an assistant."""

from __future__ import annotations

import math
import time

import torch

from edgekd.distill.assistant import as_student
from edgekd.distill.checkpoint import load_network
from edgekd.distill.context import Context, finish_stage, look, still, supervised, validated_stage
from edgekd.distill.engine import Batch, fit
from edgekd.distill.methods import Needs, Samples, needs_of
from edgekd.distill.phases import build_terms
from edgekd.distill.starting import finetuning, starts_with_head, student_at_start
from edgekd.distill.tasks import Classifier, DistillTask
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
    session, schedule = context.session, finetuning(recipe.distill, recipe.student)
    needs = needs_of(recipe.distill.method, recipe.distill.options)
    teacher = _teacher(context, recipe, needs)
    methods = build_terms(context, recipe, name, student.backbone, (teacher or student).backbone)
    if needs.prepared:
        prepared = methods.preparation()
        load_network(context.run.stage_file("connect"), prepared)
        prepared.requires_grad_(False)
    methods.begin(student, teacher or student)
    task = DistillTask(student, methods, peer=teacher if needs.online else None)
    unlabelled = context.unlabelled if name == "distill" else None
    images, rows, steps = supervised(context, name, schedule, unlabelled)
    total = max(1, math.ceil(schedule.epochs * steps))

    def batch(step: int) -> Batch:
        chosen = rows(step)
        pixels, labels = images.take(chosen, name, step)
        labels = labels if unlabelled is None else torch.full_like(labels, UNKNOWN)
        samples = Samples(labels, chosen[session.local_slice(len(chosen))].to(labels.device), step / total)
        if teacher is None or needs.online:
            return {"images": pixels, "samples": samples}
        return {
            "images": pixels,
            "samples": samples,
            "teacher": look(context, teacher, pixels, methods.teacher_layers),
        }

    stage = validated_stage(
        context,
        name,
        task,
        batch=batch,
        schedule=schedule,
        steps_per_epoch=steps,
        images_per_step=schedule.batch_size,
        backbone=student.backbone,
        classifier=student if needs.head else None,
        starts_trained=starts_with_head(recipe.student),
        partial=not needs.labels,
    )
    began = time.monotonic()
    fit(stage, context.run, session)
    if teacher is not None and needs.online:
        finish_stage(context, PEER, teacher, file=PEER_FILE, spec=recipe.teacher.backbone, began=began)
    finish_stage(context, name, student, file=file, spec=recipe.student.backbone, began=began, head=needs.head)


def _teacher(context: Context, recipe: Recipe, needs: Needs) -> Classifier | None:
    """Return the teacher: trained and still, or new where it learns with the student; None where no term wants one."""
    if not needs.teacher:
        return None
    if needs.online:
        return context.classifier(recipe.teacher.backbone, PEER)
    return still(context, *followed(recipe))
