"""Stages of another run: those that would come out the same are taken over, to the byte, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgekd.distill.pipeline import run_distillation, run_teaching
from edgekd.distill.reuse import COMMON, READS, read_by
from edgekd.distill.session import Session, open_session
from edgekd.distill.stages import STAGES
from edgekd.errors import RunError
from edgekd.recipe import Recipe, load_recipe
from edgekd.run import Run
from tests.distill.stopping import StopAt

BRIEF = ["teacher.epochs=1", "teacher.backbone=conv4-4", "student.backbone=conv4-4", "test.episodes=10"]
TINY = [*BRIEF, "distill.epochs=1", "meta.epochs=0", "validation.episodes=10", "quantize.method=ptq"]


def session() -> Session:
    return open_session("fp32", 0, None, StopAt(0), cpu=True)


def test_every_stage_and_section_has_its_place() -> None:
    assert READS.keys() == STAGES.keys()
    sections = set().union(*READS.values()) | COMMON
    assert Recipe.model_fields.keys() - sections == {"baseline", "search"}  # whether, not how
    assert read_by("quantize") == sections - COMMON - {"baseline"}
    assert read_by("scratch") == {"student", "head", "distill"}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_toml: str) -> Run:
    folder = tmp_path_factory.mktemp("first")
    (folder / "tiny.toml").write_text(tiny_toml)
    return run_distillation(load_recipe(folder / "tiny.toml", TINY), folder / "run", session())


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        (["quantize.scale=power_of_two"], {"quantize"}),
        (["meta.enabled=false", "baseline.enabled=false"], {"student", "quantize"}),
        (["distill.epochs=2"], {"scratch", "distill", "meta", "quantize"}),
        (["quantize.enabled=false"], set()),
    ],
)
def test_only_what_differs_is_made_anew(
    first: Run, tiny_recipe: Path, tmp_path: Path, changes: list[str], anew: set[str]
) -> None:
    """And it comes out as if all had been trained."""
    recipe = load_recipe(tiny_recipe, [*TINY, *changes])
    run = run_distillation(recipe, tmp_path / "run", session(), reuse=first.folder)
    made = {
        name
        for name, record in run.manifest.stages.items()
        if name not in first.manifest.stages or record.seconds != first.manifest.stages[name].seconds
    }
    assert made == anew
    whole = run_distillation(recipe, tmp_path / "whole", session())
    assert {name: record.sha256 for name, record in run.manifest.stages.items()} == {
        name: record.sha256 for name, record in whole.manifest.stages.items()
    }
    keys = "stage", "step", "loss"
    lines = [[[line[key] for key in keys] for line in each.metrics()] for each in (run, whole)]
    assert sorted(lines[0]) == sorted(lines[1])
    assert run.manifest.complete


def test_a_run_that_goes_on_keeps_its_own(first: Run, tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe, [*TINY, "seed=1"])
    own = run_teaching(recipe, tmp_path / "run", session()).manifest.stages["teach"].sha256
    with pytest.raises(RunError, match="seed differ"):
        run_distillation(recipe, tmp_path / "other", session(), reuse=first.folder)
    assert not (tmp_path / "other").exists()
    done = run_distillation(recipe, tmp_path / "run", session(), reuse=first.folder)
    assert done.manifest.stages["teach"].sha256 == own


def test_lost_files_and_what_rests_on_them_are_made_anew(first: Run, tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe, TINY)
    source = run_distillation(recipe, tmp_path / "source", session(), reuse=first.folder)
    source.stage_file("distill").write_bytes(b"")
    run = run_distillation(recipe, tmp_path / "run", session(), reuse=source.folder)
    same = {name for name, record in run.manifest.stages.items() if record == first.manifest.stages[name]}
    assert same == {"teach", "scratch"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["augment.pad_fraction=0.3"], "augment.pad_fraction differ"),
        (["validation.episodes=11"], "validation.episodes differ"),
        (["teacher.learner=siamese"], "teacher.learner, test.measures (the learners' own) differ"),
    ],
)
def test_a_run_of_which_nothing_fits_is_refused(
    first: Run, tiny_recipe: Path, tmp_path: Path, changes: list[str], why: str
) -> None:
    message = f"nothing of {first.folder} can be reused: {why}; change less, or leave out --reuse"
    with pytest.raises(RunError, match=re.escape(message)):
        run_distillation(load_recipe(tiny_recipe, [*TINY, *changes]), tmp_path / "run", session(), reuse=first.folder)
    with pytest.raises(RunError, match="is not a run folder"):
        run_distillation(load_recipe(tiny_recipe, TINY), tmp_path / "run", session(), reuse=tmp_path)
