"""Around distilling: what a method prepares on the teacher before, and the head that a method without labels lacks."""

from __future__ import annotations

import time

import torch

from edgekd.distill.backbones import Backbone
from edgekd.distill.context import Context, look, still
from edgekd.distill.engine import Batch, Stage, fit
from edgekd.distill.feed import feed_of
from edgekd.distill.finishing import finish_stage
from edgekd.distill.methods import Samples, WeightedMethods, build_method, needs_of
from edgekd.distill.resolve import dims_of
from edgekd.distill.seeding import derive_seed
from edgekd.distill.tasks import HeadTask, PrepareTask
from edgekd.recipe import Recipe, followed


def build_terms(context: Context, recipe: Recipe, stage: str, student: Backbone, teacher: Backbone) -> WeightedMethods:
    """Build the sum of terms of a stage, whose own layers start from the seed alone."""
    images = context.unlabelled if stage == "distill" else None
    torch.manual_seed(derive_seed(recipe.seed, stage, "method"))
    dims = dims_of(student, teacher, context.splits.train, images)
    return build_method(recipe.distill.method, dims, recipe.distill.options)


def connect(context: Context) -> None:
    """Train what the method's terms prepare on the outputs of the teacher, which is still."""
    recipe, session = context.run.recipe, context.session
    schedule, teacher = recipe.connect, still(context, *followed(recipe))
    student = context.backbone(recipe.student.backbone, "student")
    parts = build_terms(context, recipe, "distill", student, teacher.backbone).preparation()
    feed = feed_of(context, "connect", schedule)

    def batch(step: int) -> Batch:
        chosen = feed.rows(step)
        pixels, labels = feed.take(step)
        local = chosen[session.local_slice(len(chosen))].to(labels.device)
        return {"teacher": look(context, teacher, pixels), "samples": Samples(labels, local)}

    began = time.monotonic()
    stage = Stage("connect", PrepareTask(parts), batch, schedule, feed.steps_per_epoch, schedule.batch_size)
    fit(stage, context.run, session)
    spec = teacher.backbone.spec
    finish_stage(context, "connect", parts, file="connector.safetensors", spec=spec, began=began, embeds=False)


def head(context: Context) -> None:
    """Train a new linear head on the embeddings of the distilled student, whose backbone is still."""
    recipe = context.run.recipe
    schedule, student = recipe.head, still(context, "distill", recipe.student.backbone)
    torch.manual_seed(derive_seed(recipe.seed, "head", "weights"))
    student.head.reset_parameters()
    feed = feed_of(context, "head", schedule)

    def batch(step: int) -> Batch:
        pixels, labels = feed.take(step)
        return {"embedding": look(context, student, pixels).embedding, "labels": labels}

    stage = Stage("head", HeadTask(student.head), batch, schedule, feed.steps_per_epoch, schedule.batch_size)
    began = time.monotonic()
    fit(stage, context.run, context.session)
    finish_stage(context, "head", student, file="headed.safetensors", spec=recipe.student.backbone, began=began)


def has_head(recipe: Recipe) -> bool:
    """Return whether a new head follows distilling: no term of the method taught one."""
    return recipe.head.enabled and not needs_of(recipe.distill.method, recipe.distill.options).head


def distilled_stage(recipe: Recipe) -> str:
    """Return the stage that ends with the whole distilled student."""
    return "head" if has_head(recipe) else "distill"
