from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekd.distill import engine
from edgekd.distill.embed import DivergedError
from edgekd.distill.engine import Batch, Stage, TrainingError, clear_checkpoint, fit
from edgekd.distill.seeding import generator
from edgekd.distill.session import Session, Silent, Stopped, open_session
from edgekd.distill.training import Loop, Progress, Validation
from edgekd.errors import RunError, StorageError
from edgekd.manifest import DataRef
from edgekd.recipe import Recipe, Schedule
from edgekd.run import Run

DATA = DataRef(spec="glyphs", split="test", fingerprint="0" * 64, n_classes=5, novel=True, seed=0)


class Regression(nn.Module):
    """A little network with dropout and BatchNorm, so that all kinds of state are in play."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.net(x) - y).square().mean()
        return loss, {"mse": loss}


class StopAfter(Silent):
    """A reporter that asks the deadline to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left, self.session = steps, None

    def step(self, images: int) -> None:
        self.left -= 1
        if self.left == 0 and self.session:
            self.session.deadline.signalled = "enough"


def make_run(folder: Path) -> Run:
    return Run.create(folder, Recipe(), DATA, {})


def make_stage(task: nn.Module, batch: Callable[[int], Batch] | None = None, epochs: float = 4) -> Stage:
    def draw(step: int) -> Batch:
        x = torch.randn(16, 4, generator=generator(0, "batch", step))
        return {"x": x, "y": x.sum(1, keepdim=True)}

    def validate() -> float:
        task.eval()
        x = torch.randn(64, 4, generator=generator(1, "val"))
        with torch.no_grad():
            return -float((task.net(x) - x.sum(1, keepdim=True)).square().mean())  # type: ignore[operator]

    return Stage("toy", task, batch or draw, Schedule(epochs=epochs, lr=0.01), 5, 16, Validation(validate))


def make_session(reporter: Silent | None = None) -> Session:
    return open_session("fp32", 0, None, reporter, cpu=True)


def new_task() -> Regression:
    torch.manual_seed(7)
    return Regression()


def test_training_lowers_the_loss_and_writes_a_line_for_each_epoch(tmp_path: Path) -> None:
    run, task = make_run(tmp_path / "run"), new_task()
    score = fit(make_stage(task), run, make_session())
    lines = run.metrics()
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert score == max(line["val_accuracy"] for line in lines)
    assert lines[0]["terms"].keys() == {"mse"}


def test_the_best_weights_are_kept_not_the_last(tmp_path: Path) -> None:
    run, task = make_run(tmp_path / "run"), new_task()
    seen: list[dict[str, Tensor]] = []
    scores = iter([0.1, 0.9, 0.5, 0.2])

    def validate() -> float:
        seen.append({name: value.clone() for name, value in task.state_dict().items()})
        return next(scores)

    stage = make_stage(task)
    fit(Stage(stage.name, task, stage.batch, stage.schedule, 5, 16, Validation(validate)), run, make_session())
    assert all(torch.equal(value, seen[1][name]) for name, value in task.state_dict().items())


def patient_stage(task: Regression, scores: list[float], patience: float, asked: list[int]) -> Stage:
    """Six epochs of five steps, with given scores; `asked` gets the number of each validation."""

    def validate() -> float:
        asked.append(len(asked))
        return scores[asked[-1]]

    schedule = Schedule(epochs=6, lr=0.01, patience=patience)
    return dataclasses.replace(make_stage(task), schedule=schedule, validation=Validation(validate))


@pytest.mark.parametrize(
    ("scores", "patience", "epochs"),
    [
        ([0.1, 0.9, 0.5, 0.2, 1.0, 0.0], 2, 4),
        ([0.1, 0.9, 0.5, 0.9, 1.0, 0.0], 2, 4),
        ([0.1, 0.9, 0.5, 0.2, 1.0, 0.0], 3, 6),
        ([0.1, 0.9, 0.5, 0.2, 0.1, 0.0], 0, 6),
        ([0.5, 0.4, 0.6, 0.5, 0.1, 0.0], 0.5, 2),
        ([0.1, 0.2, 0.6, 0.5, 0.1, 0.0], 3, 6),
    ],
    ids=["two-worse", "equal-is-not-better", "better-in-time", "off", "less-than-an-epoch", "at-its-end-anyway"],
)
def test_training_stops_where_no_better_score_comes(
    tmp_path: Path, scores: list[float], patience: float, epochs: int
) -> None:
    run, asked = make_run(tmp_path / "run"), list[int]()
    best = fit(patient_stage(new_task(), scores, patience, asked), run, make_session())
    lines = run.metrics()
    assert [line["step"] for line in lines] == [5 * number for number in range(1, epochs + 1)]
    assert [bool(line.get("stopped_early")) for line in lines] == [False] * (epochs - 1) + [epochs < 6]
    assert best == max(scores[:epochs])


def test_a_stage_that_stopped_early_is_not_trained_on(tmp_path: Path) -> None:
    run, asked = make_run(tmp_path / "run"), list[int]()
    scores = [0.3, 0.2, 0.1, 0.9, 0.9, 0.9]
    fit(patient_stage(new_task(), scores, 2, asked), run, make_session())
    again = new_task()
    assert fit(patient_stage(again, scores, 2, asked), run, make_session()) == 0.3
    assert len(asked) == 3
    assert len(run.metrics()) == 3


@pytest.mark.parametrize("stop_at", [5, 10, 12, 15], ids=lambda step: f"after-{step}")
def test_patience_counts_on_after_a_stop(tmp_path: Path, stop_at: int) -> None:
    scores = [0.3, 0.2, 0.25, 0.1, 0.9, 0.9]
    whole_run, whole = make_run(tmp_path / "whole"), new_task()
    fit(patient_stage(whole, scores, 3, []), whole_run, make_session())

    run, asked = make_run(tmp_path / "parts"), list[int]()
    reporter = StopAfter(stop_at)
    session = make_session(reporter)
    reporter.session = session  # type: ignore[assignment]
    with pytest.raises(Stopped):
        fit(patient_stage(new_task(), scores, 3, asked), run, session)
    resumed = Regression()
    fit(patient_stage(resumed, scores, 3, asked), run, make_session())
    assert len(asked) == 4
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())
    kept = [{k: v for k, v in line.items() if k != "images_per_s"} for line in run.metrics()]
    assert kept == [{k: v for k, v in line.items() if k != "images_per_s"} for line in whole_run.metrics()]


@pytest.mark.parametrize("stop_at", [1, 7, 13], ids=lambda step: f"after-{step}")
def test_a_stopped_and_resumed_run_is_bit_identical(tmp_path: Path, stop_at: int) -> None:
    whole_run, whole = make_run(tmp_path / "whole"), new_task()
    fit(make_stage(whole), whole_run, make_session())

    run, task = make_run(tmp_path / "parts"), new_task()
    reporter = StopAfter(stop_at)
    session = make_session(reporter)
    reporter.session = session  # type: ignore[assignment]
    with pytest.raises(Stopped, match=f"step {stop_at} of 20"):
        fit(make_stage(task), run, session)
    resumed = Regression()  # other weights: all must come from the checkpoint
    fit(make_stage(resumed), run, make_session())

    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())
    without_speed = [{k: v for k, v in line.items() if k != "images_per_s"} for line in run.metrics()]
    assert without_speed == [{k: v for k, v in line.items() if k != "images_per_s"} for line in whole_run.metrics()]


def test_lines_beyond_the_checkpoint_are_not_written_twice(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    fit(make_stage(new_task(), epochs=1), run, make_session())
    clear_checkpoint(run, "toy")
    with run.metrics_path.open("a") as stream:
        stream.write('{"stage": "toy", "st')  # cut off by a crash
    fit(make_stage(new_task(), epochs=1), run, make_session())
    assert [json.loads(line)["step"] for line in run.metrics_path.read_text().splitlines()] == [5]


def poisoned_at(bad: int, value: float = float("nan")) -> Callable[[int], Batch]:
    """Return the batches of the toy stage, with targets of no finite loss at step `bad`."""
    stage = make_stage(new_task())

    def draw(step: int) -> Batch:
        batch = dict(stage.batch(step))
        return batch | {"y": batch["y"] * value} if step == bad else batch

    return draw


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_nan_stops_with_the_step_and_leaves_the_weights(tmp_path: Path, value: float) -> None:
    run, task = make_run(tmp_path / "run"), new_task()
    with pytest.raises(
        TrainingError,
        match=r"'toy' diverged after step 3: the loss is (nan|inf); there is no checkpoint yet; .*--set toy\.lr=0\.003",
    ):
        fit(make_stage(task, poisoned_at(3, value)), run, make_session())
    assert all(value.isfinite().all() for value in task.parameters())


def test_the_last_good_checkpoint_is_kept_named_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = new_task()
    fit(make_stage(whole), make_run(tmp_path / "whole"), make_session())

    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", -1.0)  # after each step
    run = make_run(tmp_path / "run")
    with pytest.raises(
        TrainingError, match="after step 7: the loss is nan; the last good checkpoint, of step 7, is kept"
    ):
        fit(make_stage(new_task(), poisoned_at(7)), run, make_session())
    resumed = Regression()
    fit(make_stage(resumed), run, make_session())
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_the_end_of_a_short_epoch_leaves_a_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(TrainingError, match="after step 8: the loss is nan; the last good checkpoint, of step 5, is"):
        fit(make_stage(new_task(), poisoned_at(8)), run, make_session())
    assert (run.folder / "checkpoint-toy" / "state.safetensors").exists()


@pytest.mark.parametrize(("lr", "advice"), [(1e9, "0.003"), (0.003, "0.001")])
def test_after_a_divergence_a_rate_is_named_that_may_do(tmp_path: Path, lr: float, advice: str) -> None:
    stage = dataclasses.replace(make_stage(new_task(), poisoned_at(0)), schedule=Schedule(epochs=1, lr=lr))
    with pytest.raises(TrainingError, match=rf"in another --run folder: --set toy\.lr={advice}$"):
        fit(stage, make_run(tmp_path / "run"), make_session())


class Noting(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(("scores", "told"), [([0.5, 0.4], True), ([0.5, 0.6], False)])
def test_training_that_made_nothing_better_is_told(tmp_path: Path, scores: list[float], told: bool) -> None:
    left, noting = iter(scores), Noting()
    stage = make_stage(new_task(), epochs=1)
    fit(
        dataclasses.replace(stage, validation=Validation(lambda: next(left)), starts_trained=True),
        make_run(tmp_path / "run"),
        make_session(noting),
    )
    assert ("toy: no epoch was better on validation than the weights it began with: kept" in noting.notes) is told


class Rooted(Regression):
    """A finite loss whose gradient is not: the square root of nothing."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (0 * (self.net(x) - y)).square().sum().sqrt()
        return loss, {"root": loss}


def test_weights_that_are_no_numbers_never_replace_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(7)
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", -1.0)
    run = make_run(tmp_path / "run")
    with pytest.raises(
        TrainingError, match="diverged after step 1: a weight is no finite number; there is no checkpoint"
    ):
        fit(make_stage(Rooted()), run, make_session())
    assert not (run.folder / "checkpoint-toy").exists()


def test_of_losses_read_together_the_first_bad_one_is_named() -> None:
    progress = Progress()
    for step in range(5):
        progress.add(torch.tensor(float("nan") if step == 3 else 1.0), {"a": torch.tensor(2.0)})
        progress.step += 1
    bad = progress.read()
    assert bad is not None
    assert (bad[0], str(bad[1])) == (3, "nan")
    assert progress.unread == []
    assert (progress.window, progress.term_sums) == (5, {"a": 10.0})


@pytest.mark.parametrize("waiting", [0, 3, 100])
def test_the_means_do_not_depend_on_when_losses_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    plain = make_run(tmp_path / "plain")
    fit(make_stage(new_task()), plain, make_session())
    read = Loop.read_losses
    monkeypatch.setattr(Loop, "read_losses", lambda self, **given: read(self, waiting=waiting if given else 0))
    later, task = make_run(tmp_path / "later"), new_task()
    fit(make_stage(task), later, make_session())
    assert [{**line, "images_per_s": 0} for line in later.metrics()] == [
        {**line, "images_per_s": 0} for line in plain.metrics()
    ]
    worse = make_run(tmp_path / "worse")
    with pytest.raises(TrainingError, match="diverged after step 3: the loss is nan"):
        fit(make_stage(new_task(), poisoned_at(3)), worse, make_session())
    assert not (worse.folder / "checkpoint-toy").exists()


def test_compiled_training_is_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend that changes nothing gives the same weights, under the task's plain names."""
    plain, compiled = new_task(), new_task()
    fit(make_stage(plain), make_run(tmp_path / "plain"), make_session())
    calls = list[nn.Module]()
    compile_eagerly = partial(torch.compile, backend="eager")

    def spied(model: nn.Module) -> object:
        calls.append(model)
        return compile_eagerly(model)

    monkeypatch.setattr(torch, "compile", spied)
    session = open_session("fp32", 0, cpu=True, compile_networks=True)
    fit(make_stage(compiled), make_run(tmp_path / "compiled"), session)
    fit(dataclasses.replace(make_stage(new_task()), compiles=False), make_run(tmp_path / "not"), session)
    assert len(calls) == 1
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_the_time_of_compiling_is_not_taken_for_that_of_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, compiled: bool
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)
    stage = make_stage(new_task())

    def slow_at_first(step: int) -> Batch:
        time.sleep(2.2 * (step == 0))
        return stage.batch(step)

    session = open_session("fp32", 0, 8.0, cpu=True, compile_networks=compiled)
    slow = dataclasses.replace(stage, batch=slow_at_first, validation=None)
    if compiled:
        fit(slow, make_run(tmp_path / "run"), session)
    else:
        with pytest.raises(Stopped, match="at step 1 of 20"):
            fit(slow, make_run(tmp_path / "run"), session)


def test_embeddings_that_are_not_finite_stop_the_stage(tmp_path: Path) -> None:
    def validate() -> float:
        raise DivergedError("3 of 4 embeddings are not finite numbers")

    stage = dataclasses.replace(make_stage(new_task()), name="teach", validation=Validation(validate))
    with pytest.raises(TrainingError, match=r"stage 'teach' diverged after step 5: 3 of 4 .*--set teacher\.lr="):
        fit(stage, make_run(tmp_path / "run"), make_session())


def test_a_budget_without_a_step_says_so(tmp_path: Path) -> None:
    session = open_session("fp32", 0, 1e-6, cpu=True)
    with pytest.raises(Stopped, match=r"0 s is used up before stage 'toy', without one step: give it more time$"):
        fit(make_stage(new_task()), make_run(tmp_path / "run"), session)


def test_a_budget_that_ends_between_stages_did_its_work(tmp_path: Path) -> None:
    run, session = make_run(tmp_path / "run"), open_session("fp32", 0, 1000, cpu=True)
    fit(make_stage(new_task()), run, session)
    session.deadline.budget_s = 1e-6
    with pytest.raises(Stopped, match=r"0 s is used up before stage 'next'$"):
        fit(dataclasses.replace(make_stage(new_task()), name="next"), run, session)


def test_a_signal_between_stages_asks_for_no_time(tmp_path: Path) -> None:
    session = make_session()
    session.deadline.signalled = "stopped by SIGINT"
    with pytest.raises(Stopped, match=r"^stopped by SIGINT before stage 'toy'$") as stop:
        fit(make_stage(new_task()), make_run(tmp_path / "run"), session)
    assert stop.value.by_signal


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    run, task = make_run(tmp_path / "run"), new_task()
    fit(make_stage(task), run, make_session())
    path = run.folder / "checkpoint-toy" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"checkpoint-toy/state.safetensors is truncated.*delete it"):
        fit(make_stage(new_task()), run, make_session())


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run")
    fit(make_stage(new_task(), epochs=1), run, make_session())
    path = run.folder / "checkpoint-toy" / "state.safetensors"
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgekd.files._write_all", full)
    with pytest.raises(StorageError, match="No space left on device"):
        fit(make_stage(new_task(), epochs=2), run, make_session())
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".*.tmp"))


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    fit(make_stage(new_task()), run, make_session())
    run.recipe = Recipe(seed=1)
    with pytest.raises(RunError, match="another recipe"):
        fit(make_stage(new_task()), run, make_session())


def test_frozen_batchnorm_keeps_its_statistics(tmp_path: Path) -> None:
    run, task = make_run(tmp_path / "run"), new_task()
    stage = make_stage(task)
    frozen = Schedule(epochs=1, lr=0.01, freeze_batchnorm=True)
    fit(Stage(stage.name, task, stage.batch, frozen, 5, 16), run, make_session())
    norm = task.net[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert torch.equal(norm.running_mean, torch.zeros(8))  # type: ignore[arg-type]


def test_further_figures_are_recorded_with_each_epoch(tmp_path: Path) -> None:
    run, task = make_run(tmp_path / "run"), new_task()
    validation = Validation(lambda: 0.0, lambda: {"training": float(task.training)})
    stage = dataclasses.replace(make_stage(task, epochs=2), validation=validation)
    fit(stage, run, make_session())
    assert [set(line["measures"]) for line in run.metrics()] == [{"training"}, {"training"}]
    plain = make_run(tmp_path / "plain")
    fit(make_stage(new_task(), epochs=1), plain, make_session())
    assert all("measures" not in line for line in plain.metrics())
