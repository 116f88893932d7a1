"""The stages of a run, each a function from what earlier stages left on disk to the next file.

`STAGES` lists them in order; a stage is added by writing its function and its line there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.data import Splits
from edgekd.distill import quantize
from edgekd.distill.assistant import as_student
from edgekd.distill.augment import normalize
from edgekd.distill.backbones import Backbone, build_backbone
from edgekd.distill.checkpoint import load_network, load_snapshot, load_weights
from edgekd.distill.context import Context, finish_stage, load_classifier, look, still, supervised, validated_stage
from edgekd.distill.engine import Batch, Stage, fit
from edgekd.distill.learning import learn
from edgekd.distill.methods import Needs, Samples, needs_of
from edgekd.distill.phases import build_terms, connect, distilled_stage, has_head, head
from edgekd.distill.tasks import Classifier, DistillTask, LabelTask, QuantizeTask
from edgekd.distill.teaching import forget_parts, marks, train_teacher
from edgekd.manifest import QuantScheme
from edgekd.recipe import Recipe, Schedule, followed
from edgekd.run import Run

TEACHER_FILE, STUDENT_FILE, INT8_FILE = "teacher.safetensors", "student.safetensors", "student-int8.safetensors"
UNKNOWN = -1  # the label of images that have none; no loss takes it for a class


def teach(context: Context) -> None:
    """Train the teacher, or take the weights the recipe names."""
    began, spec = time.monotonic(), context.run.recipe.teacher.backbone
    classifier = train_teacher(context)
    finish_stage(context, "teach", classifier, file=TEACHER_FILE, spec=spec, began=began, values=marks(context))
    forget_parts(context)


def scratch(context: Context) -> None:
    """Train the student on labels alone, at the distillation's schedule: what distilling is compared with."""
    recipe = context.run.recipe
    task = LabelTask(context.classifier(recipe.student.backbone, "student"))
    spec = recipe.student.backbone
    _train_on_labels(context, "scratch", task, recipe.distill, file="scratch.safetensors", spec=spec)


def assist(context: Context) -> None:
    """Distill the assistant from the teacher."""
    recipe = as_student(context.run.recipe)
    _distill(context, "assist", recipe, start="assistant", file="assistant.safetensors")


def distill(context: Context) -> None:
    """Train the student to follow the teacher or its assistant, or beside a teacher that learns at the same time."""
    _distill(context, "distill", context.run.recipe, start="student", file="distilled.safetensors")


def _distill(context: Context, name: str, recipe: Recipe, *, start: str, file: str) -> None:
    """Distill the student of `recipe`, whose first weights are drawn under the name `start`, in stage `name`."""
    session = context.session
    needs = needs_of(recipe.distill.method, recipe.distill.options)
    student, teacher = context.classifier(recipe.student.backbone, start), _teacher(context, recipe, needs)
    methods = build_terms(context, recipe, name, student.backbone, (teacher or student).backbone)
    if needs.prepared:
        prepared = methods.preparation()
        load_network(context.run.stage_file("connect"), prepared)
        prepared.requires_grad_(False)
    methods.begin(student, teacher or student)
    task = DistillTask(student, methods, peer=teacher if needs.online else None)
    unlabelled = context.unlabelled if name == "distill" else None
    images, rows, steps = supervised(context, name, recipe.distill, unlabelled)
    total = max(1, math.ceil(recipe.distill.epochs * steps))

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
        schedule=recipe.distill,
        steps_per_epoch=steps,
        images_per_step=recipe.distill.batch_size,
        backbone=student.backbone,
        classifier=student if needs.head else None,
        partial=not needs.labels,
    )
    _fit_and_finish(context, stage, student, file=file, spec=recipe.student.backbone, head=needs.head)


def _teacher(context: Context, recipe: Recipe, needs: Needs) -> Classifier | None:
    """Return the teacher: trained and still, or new where it learns with the student; None where no term wants one."""
    if not needs.teacher:
        return None
    if needs.online:
        return context.classifier(recipe.teacher.backbone, "peer")
    return still(context, *followed(recipe))


def meta(context: Context) -> None:
    """Fine-tune the distilled student by the recipe's learner."""
    recipe, began = context.run.recipe, time.monotonic()
    student = load_classifier(context, distilled_stage(recipe), recipe.student.backbone)
    # A learner that trains no head moves the backbone away from the one there is.
    with_head, spec = learn(context, "meta", student, recipe.meta, starts_trained=True), recipe.student.backbone
    finish_stage(context, "meta", student, file=STUDENT_FILE, spec=spec, began=began, head=with_head)


def keep_distilled(context: Context) -> None:
    """Without fine-tuning on episodes, the distilled student is the float student."""
    recipe = context.run.recipe
    student = load_classifier(context, distilled_stage(recipe), recipe.student.backbone).to(context.session.device)
    spec, headed = recipe.student.backbone, needs_of(recipe.distill.method, recipe.distill.options).head
    headed = headed or has_head(recipe)
    finish_stage(context, "student", student, file=STUDENT_FILE, spec=spec, began=time.monotonic(), head=headed)


def quantize_student(context: Context) -> None:
    """Fold BatchNorm, calibrate, and train the quantized student towards the float one's embeddings."""
    recipe = context.run.recipe
    folded = quantize.fold_batchnorm(float_student_of(context.run, context.splits.train.channels))
    images = calibration_images(context.splits, recipe.quantize.calibration_images, recipe.seed)
    calibration = quantize.calibrate_backbone(folded, images, context.scheme)
    quantized = quantize.quantize_backbone(folded, context.scheme, calibration)
    began = time.monotonic()
    with quantize.quiet_brevitas():
        fit(_guided_stage(context, quantized, folded.to(context.session.device)), context.run, context.session)
        finish_stage(
            context,
            "quantize",
            quantized,
            file=INT8_FILE,
            spec=recipe.student.backbone,
            began=began,
            values={"scheme": context.scheme.model_dump(), "calibration": calibration.to_json()},
            size=quantize.quantized_size(quantized, context.scheme),
        )


def load_quantized(run: Run, in_channels: int) -> tuple[nn.Module, QuantScheme]:
    """Rebuild the quantized student of a finished run, in evaluation mode on the CPU.

    Raises:
        RunError: the stage is not finished or its file is damaged.
    """
    path = run.stage_file("quantize")
    snapshot = load_snapshot(path)
    scheme = QuantScheme.model_validate(snapshot.values["scheme"])
    folded = quantize.fold_batchnorm(build_backbone(run.recipe.student.backbone, in_channels))
    quantized = quantize.quantize_backbone(
        folded, scheme, quantize.Calibration.from_json(snapshot.values["calibration"])
    )
    load_weights(quantized, snapshot.part("network"), path)
    return quantized.eval(), scheme


def float_student_of(run: Run, in_channels: int) -> Backbone:
    """Load the float student's backbone: fine-tuned on episodes where the recipe asks for it, else as distilled.

    Raises:
        RunError: the stage is not finished or its file is damaged.
    """
    backbone = build_backbone(run.recipe.student.backbone, in_channels)
    path = run.stage_file("meta" if run.recipe.meta.enabled else "student")
    network = load_snapshot(path).part("network")
    prefix = "backbone."
    load_weights(
        backbone, {name[len(prefix) :]: value for name, value in network.items() if name.startswith(prefix)}, path
    )
    return backbone


def calibration_images(splits: Splits, count: int, seed: int) -> Tensor:
    """Return `count` normalized training images (n, c, h, w), without augmentation, spread over the classes."""
    rows = np.random.default_rng(seed).permutation(len(splits.train.images))[:count]
    return normalize(torch.tensor(splits.train.images[np.sort(rows)]))


STAGES: dict[str, Callable[[Context], None]] = {
    "teach": teach,
    "assist": assist,
    "scratch": scratch,
    "connect": connect,
    "distill": distill,
    "head": head,
    "meta": meta,
    "student": keep_distilled,
    "quantize": quantize_student,
}

# Which stages read the file that a stage writes.
FEEDS = {
    "teach": ("assist", "connect", "distill"),
    "assist": ("connect", "distill"),
    "connect": ("distill",),
    "distill": ("head", "meta", "student"),
    "head": ("meta", "student"),
    "meta": ("quantize",),
    "student": ("quantize",),
}


def fed_by(stage: str) -> set[str]:
    """Return every stage whose result rests on that of `stage`."""
    direct = FEEDS.get(stage, ())
    return {*direct, *(later for name in direct for later in fed_by(name))}


def _guided_stage(context: Context, quantized: nn.Module, guide: nn.Module) -> Stage:
    """Quantization-aware training towards the embeddings of `guide`; calibration alone is a schedule of no epochs."""
    settings = context.run.recipe.quantize
    images, rows, steps = supervised(context, "quantize", settings)

    def batch(step: int) -> Batch:
        pixels, _ = images.take(rows(step), "quantize", step)
        with torch.no_grad():
            return {"images": pixels, "target": guide(pixels)}

    return validated_stage(
        context,
        "quantize",
        QuantizeTask(quantized),
        batch=batch,
        schedule=settings if settings.method == "qat" else settings.model_copy(update={"epochs": 0}),
        steps_per_epoch=steps,
        images_per_step=settings.batch_size,
        backbone=quantized,
        starts_trained=True,
        bf16=False,
    )


def _train_on_labels(context: Context, name: str, task: LabelTask, schedule: Schedule, *, file: str, spec: str) -> None:
    images, rows, steps = supervised(context, name, schedule)

    def batch(step: int) -> Batch:
        pixels, labels = images.take(rows(step), name, step)
        return {"images": pixels, "labels": labels}

    stage = validated_stage(
        context,
        name,
        task,
        batch=batch,
        schedule=schedule,
        steps_per_epoch=steps,
        images_per_step=schedule.batch_size,
        backbone=task.classifier.backbone,
        classifier=task.classifier,
    )
    _fit_and_finish(context, stage, task.classifier, file=file, spec=spec)


def _fit_and_finish(
    context: Context, stage: Stage, network: Classifier, *, file: str, spec: str, head: bool = True
) -> None:
    began = time.monotonic()
    fit(stage, context.run, context.session)
    finish_stage(context, stage.name, network, file=file, spec=spec, began=began, head=head)
