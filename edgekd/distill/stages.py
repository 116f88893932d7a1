"""The stages of a run, each a function from what earlier stages left on disk to the next file.

`STAGES` lists them in order; a stage is added by writing its function and its line there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edgekd.distill.context import Context, load_classifier
from edgekd.distill.distilling import PEER, assist, distill
from edgekd.distill.engine import Stage, fit
from edgekd.distill.feed import feed_of
from edgekd.distill.finishing import finish_stage
from edgekd.distill.learning import learn
from edgekd.distill.methods import needs_of
from edgekd.distill.phases import connect, distilled_stage, has_head, head
from edgekd.distill.quantizing import quantize_student
from edgekd.distill.starting import finetuning, start, starts_with_head, student_at_start
from edgekd.distill.tasks import LabelTask
from edgekd.distill.teaching import forget_parts, marks, train_teacher
from edgekd.distill.validating import validation_of

TEACHER_FILE, STUDENT_FILE = "teacher.safetensors", "student.safetensors"


def teach(context: Context) -> None:
    """Train the teacher, or take the weights the recipe names."""
    began, spec = time.monotonic(), context.run.recipe.teacher.backbone
    classifier = train_teacher(context)
    finish_stage(context, "teach", classifier, file=TEACHER_FILE, spec=spec, began=began, values=marks(context))
    forget_parts(context)


def scratch(context: Context) -> None:
    """Train the student on labels alone, at the distillation's schedule: what distilling is compared with."""
    recipe, began = context.run.recipe, time.monotonic()
    spec, schedule = recipe.student.backbone, finetuning(recipe.distill, recipe.student)
    classifier = student_at_start(context)
    feed = feed_of(context, "scratch", schedule)
    stage = Stage(
        "scratch",
        LabelTask(classifier),
        feed.labelled,
        schedule,
        feed.steps_per_epoch,
        schedule.batch_size,
        validation_of(context, classifier.backbone, classifier=classifier),
        starts_trained=starts_with_head(recipe.student),
    )
    fit(stage, context.run, context.session)
    finish_stage(context, "scratch", classifier, file="scratch.safetensors", spec=spec, began=began)


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


STAGES: dict[str, Callable[[Context], None]] = {
    "teach": teach,
    "assist": assist,
    "start": start,
    "scratch": scratch,
    "connect": connect,
    "distill": distill,
    "head": head,
    "meta": meta,
    "student": keep_distilled,
    "quantize": quantize_student,
}

MADE_WITH = {PEER: "distill"}  # results that are made in another stage

# Which stages read the file that a stage writes.
FEEDS = {
    "teach": ("assist", "connect", "distill"),
    "assist": ("connect", "distill"),
    "connect": ("distill",),
    "start": ("scratch", "distill"),
    "distill": ("head", "meta", "student"),
    "head": ("meta", "student"),
    "meta": ("quantize",),
    "student": ("quantize",),
}


def fed_by(stage: str) -> set[str]:
    """Return every stage whose result rests on that of `stage`."""
    direct = FEEDS.get(stage, ())
    return {*direct, *(later for name in direct for later in fed_by(name))}
