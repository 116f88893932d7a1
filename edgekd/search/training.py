"""What a worker does with a candidate that the profile holds: teacher, short training, validation accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgekd import fewshot
from edgekd.data import ImageSet
from edgekd.distill.pipeline import run_distillation, run_teaching
from edgekd.distill.session import Session, Silent
from edgekd.distill.stages import TEACHER_FILE
from edgekd.recipe import Recipe
from edgekd.run import Run
from edgekd.runtime import Embedder
from edgekd.search.candidates import has_teacher, teaching_recipe
from edgekd.search.feasibility import TRAINED_FILE
from edgekd.search.folder import Folder
from edgekd.search.space import Candidate


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
        run = _taught(recipe, folder)
        if run is None:
            run = run_teaching(teaching_recipe(recipe, stand_in), folder.teacher, session, skip_bad=skip_bad)
        return run.stage_file("teach").resolve()


def _taught(recipe: Recipe, folder: Folder) -> Run | None:
    """Return the run of the teacher where it is done; None where there is still something to do, or to refuse."""
    if not (folder.teacher / "manifest.json").exists():
        return None
    run = Run.open(folder.teacher)
    done = "teach" in run.manifest.stages and not run.lost_stages()
    return run if done and run.recipe.teacher.weights == recipe.teacher.weights else None


def train_candidate(recipe: Recipe, folder: Path, session: Session, *, skip_bad: bool) -> Run:
    """Train a candidate by its short recipe in its own run folder, or go on with it.

    Raises:
        EdgekdError, Stopped: as `run_distillation`.
    """
    return run_distillation(recipe, folder, replace(session, reporter=Silent()), skip_bad=skip_bad)


def validate(run: Run, images: ImageSet, episodes: int) -> Score:
    """Measure a candidate's exported file in onnxruntime on the validation images, by the recipe's protocols and head.

    Raises:
        ModelError: onnxruntime cannot run the file.
        DataError: too few images or classes, or embeddings that are not finite.
    """
    embedder, settings = Embedder(run.folder / TRAINED_FILE), run.recipe.validation
    embeddings = embedder.embed(images.images)
    protocols = [
        fewshot.Protocol(min(settings.way, images.n_classes), shot, settings.query, episodes) for shot in settings.shots
    ]
    found = tuple(
        fewshot.evaluate(embeddings, images.labels, protocol, run.recipe.test.head, embedder.base_mean)
        for protocol in protocols
    )
    return Score(
        mean=float(np.mean([accuracy.mean for accuracy in found])),
        ci95=float(np.mean([accuracy.ci95 for accuracy in found])),
        by_shot=found,
    )


def forget_copies(run: Run) -> None:
    """Delete a trained candidate's own copy of the teacher: many of them would fill the disk."""
    (run.folder / TEACHER_FILE).unlink(missing_ok=True)
