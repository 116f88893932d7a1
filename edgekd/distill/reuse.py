"""Stages of another run that a recipe would make in the same way: taken over, not trained again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edgekd.distill.learners import measures_of
from edgekd.distill.session import Session
from edgekd.distill.stages import FEEDS, MADE_WITH, fed_by
from edgekd.errors import RunError
from edgekd.files import write_atomic, write_text
from edgekd.recipe import Recipe, differing_keys
from edgekd.run import Run

# What all stages depend on in a recipe, and what each depends on beside that and what the stages before it need.
COMMON = {"seed", "precision", "data", "augment", "validation", "test"}
READS = {
    "teach": {"teacher"},
    "assist": {"assistant"},
    "start": {"student", "head"},
    "scratch": {"student", "distill"},
    "connect": {"student", "connect", "distill"},
    "distill": {"student", "distill"},
    "head": {"head"},
    "meta": {"meta"},
    "student": set(),
    "quantize": {"quantize", "profile"},
}


def begun(folder: Path) -> bool:
    """Return whether there is a run in `folder` that has finished a stage: it goes on with its own."""
    return (folder / "manifest.json").exists() and bool(Run.open(folder).manifest.stages)


def reuse_stages(run: Run, source: Run, stages: Collection[str], session: Session) -> None:
    """Take over `stages` of `source`, in the main process; all know of it in the end."""
    if session.is_main and stages:
        take_over(run, source, stages)
        session.reporter.note(f"taken over from {source.folder}: {', '.join(stages)}")
        if not source.manifest.complete:
            session.reporter.note(f"{source.folder} is not finished: what it has not made is trained here")
    session.accelerator.wait_for_everyone()
    if not session.is_main:
        run.manifest = Run.open(run.folder).manifest


def reusable(source: Run, recipe: Recipe, stages: Collection[str], fingerprints: tuple[str, str]) -> list[str]:
    """Return which of `stages` are finished in `source` and would be made in the same way by the resolved `recipe`.

    `fingerprints` are those of the test images and of the images to distill on, "" where the recipe names none.

    Raises:
        RunError: there is none; the message says what differs.
    """
    differing = _differences(source, recipe, fingerprints)
    changed = {key.partition(".")[0] for key in differing}
    lost = {MADE_WITH.get(name, name) for name in source.lost_stages()}
    gone = lost.union(*map(fed_by, lost))
    found = []
    for name in source.manifest.stages:
        stage = MADE_WITH.get(name, name)
        if stage in stages and stage not in gone and not changed & (COMMON | read_by(stage)):
            found.append(name)
    if not found:
        why = f"{', '.join(differing)} differ" if differing else "no stage that is wanted is finished there"
        raise RunError(f"nothing of {source.folder} can be reused: {why}; change less, or leave out --reuse")
    return found


def read_by(stage: str) -> set[str]:
    """Return the keys and sections that the result of `stage` depends on, beside those that all depend on."""
    return READS[stage].union(*(read_by(name) for name, later in FEEDS.items() if stage in later))


def take_over(run: Run, source: Run, stages: Collection[str]) -> None:
    """Copy files, metrics and results of the finished `stages` of `source` into `run`, which has none of its own.

    Raises:
        RunError: a file of `source` is not the one that its stage wrote.
        StorageError: the files cannot be written.
    """
    for name in stages:
        origin = source.stage_file(name)
        write_atomic(run.folder / origin.name, partial(shutil.copyfile, origin))
    own = [line for line in run.metrics() if _stage(line) not in stages]
    taken = [line for line in source.metrics() if _stage(line) in stages]
    write_text(run.metrics_path, "".join(json.dumps(line) + "\n" for line in (*taken, *own)))
    run.adopt({name: source.manifest.stages[name] for name in stages})


def _stage(line: Mapping[str, Any]) -> str:
    """Return the stage that a line of metrics is of; what follows a hyphen is a part of it."""
    return str(line["stage"]).partition("-")[0]


def _differences(source: Run, recipe: Recipe, fingerprints: tuple[str, str]) -> list[str]:
    """Return the dotted keys in which the recipes differ, and those whose images or measures do."""
    data = source.manifest.data.fingerprint, source.manifest.unlabelled
    images = [key for key, a, b in zip(("data", "distill.images"), data, fingerprints, strict=True) if a != b]
    if measures_of(source.recipe).keys() != measures_of(recipe).keys():
        images.append("test.measures (the learners' own)")
    return sorted({*differing_keys(source.recipe, recipe), *images})
