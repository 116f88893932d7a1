"""What a teacher said, kept: bit for bit the same training as if it were asked again, and half of the asking saved."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from edgekd.distill import distilling
from edgekd.distill.answers import Answers, kept_answers
from edgekd.distill.backbones import build_backbone
from edgekd.distill.checkpoint import load_snapshot
from edgekd.distill.context import Context, look
from edgekd.distill.methods import Outputs
from edgekd.distill.pipeline import run_distillation
from edgekd.distill.session import Session, Stopped, open_session
from edgekd.distill.tasks import Classifier
from edgekd.errors import RecipeError, StorageError
from edgekd.recipe import load_recipe
from tests.distill.stopping import StopAt

SHORT = ["teacher.epochs=1", "teacher.backbone=conv4-4", "student.backbone=conv4-4", "test.episodes=10"]
BARE = ["baseline.enabled=false", "meta.enabled=false", "quantize.enabled=false", "validation.episodes=10"]
STEPS = 4  # an epoch


def outputs(rows: int) -> Outputs:
    return Outputs(torch.randn(rows, 3), torch.randn(rows, 2))


def never() -> Outputs:
    raise AssertionError("the teacher is asked again")


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    table, said = Answers(tmp_path / "new" / "table", 8, 3, 2), outputs(4)
    assert table.of(slice(4, 8), lambda: said) is said
    for answers in (table, Answers(tmp_path / "new" / "table", 8, 3, 2)):
        found = answers.of(slice(4, 8), never)
        assert torch.equal(found.embedding, said.embedding)
        assert torch.equal(found.logits, said.logits)


def test_rows_that_were_not_all_written_are_asked_for(tmp_path: Path) -> None:
    table = Answers(tmp_path / "table", 8, 3, 2)
    table.of(slice(0, 3), lambda: outputs(3))
    said = outputs(4)
    assert table.of(slice(0, 4), lambda: said) is said
    assert torch.equal(table.of(slice(2, 4), never).logits, said.logits[2:])


def test_a_full_disk_is_told_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def full(path: Path, *args: Any, **kwargs: Any) -> object:
        if path.name == "table":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageError, match=r"take 2 MB in .*table: No space left on device; lower distill.views"):
        Answers(tmp_path / "table", 100_000, 3, 2)


def session(stop_at: int = 0) -> Session:
    reporter = StopAt(stop_at)
    reporter.session = open_session("fp32", 0, None, reporter, cpu=True)
    return reporter.session


def test_kept_answers_change_nothing_and_are_asked_for_once(
    tmp_path: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs of views in five: 2 x 4 batches are asked about; asked about all 20 anew, the student is the same."""
    recipe = load_recipe(tiny_recipe, [*SHORT, *BARE, "distill.epochs=5", "distill.views=2"])
    asked: list[int] = []

    def counted(*args: Any) -> Outputs:
        asked.append(1)
        return look(*args)

    monkeypatch.setattr("edgekd.distill.answers.look", counted)
    kept = run_distillation(recipe, tmp_path / "kept", session())
    assert len(asked) == 2 * STEPS
    assert not list(kept.folder.glob("checkpoint-*"))

    def forgetful(context: Any, _name: str, teacher: Any, _steps: int) -> Any:
        return lambda _, pixels: look(context, teacher, pixels)

    monkeypatch.setattr(distilling, "kept_answers", forgetful)
    again = run_distillation(recipe, tmp_path / "again", session())
    a, b = (load_snapshot(run.stage_file("distill")).tensors for run in (kept, again))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_another_student_asks_nothing_again(tmp_path: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one teacher and the same images; other images, or other changes of them, have answers of their own."""
    asked: list[int] = []

    def counted(*args: Any) -> Outputs:
        asked.append(1)
        return look(*args)

    monkeypatch.setattr("edgekd.distill.answers.look", counted)

    def distilled(name: str, *assignments: str, answers: Path | None = tmp_path / "answers") -> Path:
        recipe = load_recipe(tiny_recipe, [*SHORT, *BARE, "distill.epochs=3", "distill.views=2", *assignments])
        opened = open_session("fp32", 0, cpu=True, answers=answers)
        return run_distillation(recipe, tmp_path / name, opened).stage_file("distill")

    teacher = f"teacher.weights={distilled('first').parent / 'teacher.safetensors'}"
    assert len(asked) == 2 * STEPS
    second = distilled("second", teacher, "student.backbone=conv4-8")
    assert len(asked) == 2 * STEPS
    plain = distilled("plain", teacher, "student.backbone=conv4-8", answers=None)
    assert len(asked) == 4 * STEPS
    a, b = (load_snapshot(file).tensors for file in (second, plain))
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    for number, other in enumerate(("augment.flip=true", "seed=1", "distill.batch_size=16")):
        before = len(asked)
        distilled(f"other-{number}", teacher, other)
        assert len(asked) > before, other


@pytest.mark.parametrize("stop_at", [STEPS + 3, STEPS + 11])
def test_a_stopped_run_ends_bit_identical(tmp_path: Path, tiny_recipe: Path, stop_at: int) -> None:
    recipe = load_recipe(tiny_recipe, [*SHORT, *BARE, "distill.epochs=4", "distill.views=2", "teacher.batch_size=32"])
    whole = run_distillation(recipe, tmp_path / "whole", session())
    with pytest.raises(Stopped, match="in stage 'distill' at step"):
        run_distillation(recipe, tmp_path / "parts", session(stop_at))
    parts = run_distillation(recipe, tmp_path / "parts", session())
    a, b = (load_snapshot(run.stage_file("distill")).tensors for run in (whole, parts))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


@dataclass(frozen=True)
class OneOf(Session):
    """Seen as the first of several processes."""

    processes: int = 1

    @property
    def world(self) -> int:
        return self.processes


def test_other_processes_have_other_rows(tmp_path: Path, tiny_recipe: Path) -> None:
    """A run that goes on with another number of processes takes no answer for that about another image."""
    recipe = load_recipe(tiny_recipe, [*SHORT, *BARE, "distill.epochs=0"])
    alone = session()
    run = run_distillation(recipe, tmp_path / "run", alone)
    teacher = Classifier(build_backbone("conv4-4", 3), 2)
    asked: list[int] = []

    def ask(processes: int, rows: int) -> None:
        context = Context(run, OneOf(**vars(alone), processes=processes), *[cast("Any", None)] * 2)
        kept_answers(context, "distill", teacher, STEPS)(1, torch.zeros(rows, 3, 16, 16))
        asked.append(len(list(run.folder.glob("checkpoint-distill/answers-*"))))

    for processes in (1, 2, 1):
        ask(processes, recipe.distill.batch_size // processes)
    assert asked == [1, 2, 2]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("ce", "distill.views saves asking a trained teacher, and method 'ce' has none"),
        ("dml", "distill.views saves asking a trained teacher, and method 'dml' has none"),
        ("ce + at", "compares maps of layers, and distill.views keeps embeddings and logits"),
    ],
)
def test_methods_that_have_nothing_to_keep_are_refused(
    tmp_path: Path, tiny_recipe: Path, method: str, message: str
) -> None:
    recipe = load_recipe(tiny_recipe, [*SHORT, f"distill.method={method}", "distill.views=2"])
    with pytest.raises(RecipeError, match=message):
        run_distillation(recipe, tmp_path / "run", session())
