"""What a worker does with a candidate that the profile holds: teacher, short training, export, validation accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgekd import fewshot
from edgekd.data import ImageSet
from edgekd.distill.embed import embed
from edgekd.distill.pipeline import run_distillation, run_teaching
from edgekd.distill.quantizing import load_quantized
from edgekd.distill.session import Session, Silent
from edgekd.distill.stages import TEACHER_FILE
from edgekd.export import export_run
from edgekd.profile import HardwareProfile
from edgekd.recipe import Recipe
from edgekd.run import Run
from edgekd.search.candidates import has_teacher, teaching_recipe
from edgekd.search.folder import Folder
from edgekd.search.space import Candidate
from edgekd.verify import Report, verify

STUDENT_FILE = "model.onnx"


@dataclass(frozen=True)
class Score:
    """Few-shot accuracy on the validation classes: that of each shot, and their mean with its interval, in 0..1.

    `ci95` is the mean of the intervals' half widths, which bounds that of the mean whatever the shots have in common.
    """

    mean: float
    ci95: float
    by_shot: tuple[fewshot.Accuracy, ...]


def train_teacher(
    recipe: Recipe,
    stand_in: Candidate,
    folder: Folder,
    session: Session,
    give_up: Callable[[], None],
    *,
    skip_bad: bool,
) -> Path | None:
    """Return the weights that all candidates learn from, None where their method wants none.

    One worker trains them, or goes on where another died; the others wait.

    Raises:
        EdgekdError, Stopped: as `run_teaching`.
    """
    if not has_teacher(recipe):
        return None
    with folder.teaching(give_up):
        run = run_teaching(teaching_recipe(recipe, stand_in), folder.teacher, session, skip_bad=skip_bad)
        return run.stage_file("teach").resolve()


def train_candidate(recipe: Recipe, folder: Path, session: Session, *, skip_bad: bool) -> Run:
    """Train a candidate by its short recipe in its own run folder, or go on with it.

    Raises:
        EdgekdError, Stopped: as `run_distillation`.
    """
    return run_distillation(recipe, folder, replace(session, reporter=Silent()), skip_bad=skip_bad)


def examine_trained(run: Run, profile: HardwareProfile) -> Report:
    """Export a trained candidate and return what `verify` says of the file, without running it.

    Raises:
        ModelError: the file does not compute what was trained.
    """
    exported = export_run(run, run.folder / STUDENT_FILE)
    return verify(exported.path, profile, static=True)


def validate(run: Run, images: ImageSet, episodes: int, session: Session) -> Score:
    """Measure the quantized student of a run on the validation images, by the recipe's protocols and head."""
    recipe = run.recipe
    network, _ = load_quantized(run, images.channels)
    embeddings = embed(network.to(session.device), images.images)
    base_mean = np.array(run.manifest.base_mean, np.float32)
    way, settings = min(recipe.validation.way, images.n_classes), recipe.validation
    found = tuple(
        fewshot.evaluate(
            embeddings,
            images.labels,
            fewshot.Protocol(way, shot, settings.query, episodes),
            recipe.test.head,
            base_mean,
        )
        for shot in settings.shots
    )
    return Score(
        mean=float(np.mean([accuracy.mean for accuracy in found])),
        ci95=float(np.mean([accuracy.ci95 for accuracy in found])),
        by_shot=found,
    )


def forget_copies(run: Run) -> None:
    """Delete a trained candidate's own copy of the teacher: many of them would fill the disk."""
    (run.folder / TEACHER_FILE).unlink(missing_ok=True)
