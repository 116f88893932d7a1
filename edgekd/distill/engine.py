"""The one training loop: any stage is a task, a source of batches, a schedule and a way to validate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from edgekd.distill.checkpoint import Snapshot, load_snapshot, load_weights, save_snapshot
from edgekd.distill.embed import DivergedError
from edgekd.distill.optimizer import (
    build_optimizer,
    learning_rate,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)
from edgekd.distill.seeding import derive_seed
from edgekd.distill.session import Session, Stopped
from edgekd.errors import EdgekdError, RunError
from edgekd.recipe import Schedule, section_of
from edgekd.run import Run

CHECKPOINT_EVERY_S = 60.0

Batch = Mapping[str, Any]
Loss = tuple[Tensor, dict[str, Tensor]]


class TrainingError(EdgekdError):
    """Training cannot go on: the loss or the embeddings are not numbers."""


@dataclass(frozen=True)
class Stage:
    """What to train: `task(**batch(step))` returns (loss, its terms).

    `validate` returns the score of the task as it is (higher is better); the weights of the best score are kept.
    `starts_trained`: the task is a result already, so the weights it starts with compete too.
    `measure` returns further figures of the task as it is; they are recorded, nothing more.
    `partial`: the loss may not reach every parameter; those it does not reach stay as they are, undecayed.
    """

    name: str
    task: nn.Module
    batch: Callable[[int], Batch]
    schedule: Schedule
    steps_per_epoch: int
    images_per_step: int
    validate: Callable[[], float] | None = None
    validate_every_epochs: float = 1.0
    starts_trained: bool = False
    measure: Callable[[], Mapping[str, float]] = dict
    partial: bool = False

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole schedule."""
        return math.ceil(self.schedule.epochs * self.steps_per_epoch)


@dataclass
class _Progress:
    """Everything a resumed loop needs beside the weights."""

    step: int = 0
    best_score: float = -math.inf
    best_step: int = 0
    stopped_early: bool = False
    best: dict[str, Tensor] = field(default_factory=dict)
    loss_sum: float = 0.0
    term_sums: dict[str, float] = field(default_factory=dict)
    window: int = 0

    def add(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        self.window += 1
        self.loss_sum += float(loss.detach())
        for name, value in terms.items():
            self.term_sums[name] = self.term_sums.get(name, 0.0) + float(value.detach())

    def values(self) -> dict[str, Any]:
        sums = {"loss_sum": self.loss_sum, "term_sums": self.term_sums, "window": self.window}
        best = {"best_score": self.best_score, "best_step": self.best_step, "stopped_early": self.stopped_early}
        return {"step": self.step, **best, **sums}


class _Loop:
    """One stage in training: weights, optimizer and progress, and how they reach the disk."""

    def __init__(self, stage: Stage, run: Run, session: Session) -> None:
        self.stage, self.run, self.session = stage, run, session
        stage.task.to(session.device).to(memory_format=torch.channels_last)
        self.progress = _Progress()
        self.checkpoint = run.folder / f"checkpoint-{stage.name}" / "state.safetensors"
        self.optimizer = self._restore()
        self.saved_at = self.window_at = time.monotonic()
        self.window_images = 0
        self.validation_s = 0.0

    def _restore(self) -> torch.optim.Optimizer:
        """Continue from the checkpoint where there is one; return the optimizer.

        Weights come first: Brevitas makes new parameters as it loads them, and the optimizer must hold those.
        """
        if not self.checkpoint.exists():
            return build_optimizer(self.stage.task, self.stage.schedule)
        try:
            snapshot = load_snapshot(self.checkpoint)
        except RunError as error:
            raise RunError(f"{error}; delete it to start this stage again") from error
        if snapshot.values.get("recipe") != self.run.recipe.sha256:
            raise RunError(f"{self.checkpoint} belongs to another recipe; delete it to start this stage again")
        load_weights(self.stage.task, snapshot.part("task"), self.checkpoint)
        optimizer = build_optimizer(self.stage.task, self.stage.schedule)
        load_optimizer_tensors(optimizer, snapshot.part("optimizer"))
        values = {key: value for key, value in snapshot.values.items() if key != "recipe"}
        self.progress = _Progress(best=snapshot.part("best"), **values)
        return optimizer

    @property
    def done(self) -> bool:
        """Whether the schedule is at its end, or no better score came within its patience."""
        return self.progress.stopped_early or self.progress.step >= self.stage.total_steps

    def save(self) -> None:
        """Write the checkpoint (main process only)."""
        if not self.session.is_main:
            return
        groups = {
            "task": self.stage.task.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "best": self.progress.best,
        }
        tensors = {f"{group}/{name}": value for group, part in groups.items() for name, value in part.items()}
        save_snapshot(self.checkpoint, Snapshot(tensors, {**self.progress.values(), "recipe": self.run.recipe.sha256}))
        self.saved_at = time.monotonic()

    def close_window(self, epoch: float, lr: float) -> None:
        """Validate, remember the best weights, write one line of metrics."""
        progress, stage = self.progress, self.stage
        elapsed_s = time.monotonic() - self.window_at
        score = self.validate()
        line = {
            "stage": stage.name,
            "step": progress.step,
            "epoch": round(epoch, 3),
            "loss": progress.loss_sum / max(progress.window, 1),
            "terms": {name: total / max(progress.window, 1) for name, total in progress.term_sums.items()},
            "lr": lr,
            "val_accuracy": score,
            "images_per_s": round(self.window_images / max(elapsed_s, 1e-9), 1),
        }
        progress.loss_sum, progress.term_sums, progress.window = 0.0, {}, 0
        if self._out_of_patience():
            progress.stopped_early = line["stopped_early"] = True
        if self.session.is_main:
            if figures := stage.measure():
                line["measures"] = dict(figures)
            self.run.append_metrics(line)
            self.session.reporter.metrics(line)
        self.window_at, self.window_images = time.monotonic(), 0

    def _out_of_patience(self) -> bool:
        patience_steps = self.stage.schedule.patience * self.stage.steps_per_epoch
        if not patience_steps or self.stage.validate is None or self.done:
            return False
        return self.progress.step - self.progress.best_step >= patience_steps

    def validate(self) -> float | None:
        """Return the score, and remember the weights if it is the best so far."""
        if self.stage.validate is None:
            return None
        began = time.monotonic()
        score = self.session.share(self._score() if self.session.is_main else 0.0)
        self.validation_s = time.monotonic() - began
        if score > self.progress.best_score:
            self.progress.best_score, self.progress.best_step = score, self.progress.step
            self.progress.best = {name: value.detach().clone() for name, value in self.stage.task.state_dict().items()}
        return score

    def _score(self) -> float:
        assert self.stage.validate
        try:
            return self.stage.validate()
        except DivergedError as error:
            raise _diverged(self, str(error)) from error


def fit(stage: Stage, run: Run, session: Session) -> float:
    """Train `stage` to its end, from its checkpoint if there is one, and leave the best weights in `stage.task`.

    Returns the best validation score (NaN without validation). The checkpoint stays until `clear_checkpoint`.

    Raises:
        Stopped: the deadline came or a signal; everything is saved.
        TrainingError: the loss is NaN or infinite; the last good checkpoint is kept.
        RunError: the checkpoint is damaged or another recipe's.
        StorageError: the disk is full; the last good checkpoint is kept.
    """
    loop = _Loop(stage, run, session)
    if session.is_main:
        run.drop_metrics_after(stage.name, loop.progress.step)
        session.reporter.stage(stage.name, stage.total_steps, loop.progress.step)
    if not loop.done:
        _train(loop)
        session.accelerator.free_memory()
    if loop.progress.best:
        stage.task.load_state_dict(loop.progress.best)
    return loop.progress.best_score if loop.progress.best else math.nan


def clear_checkpoint(run: Run, stage: str) -> None:
    """Delete the checkpoint of a stage whose result is on disk."""
    folder = run.folder / f"checkpoint-{stage}"
    (folder / "state.safetensors").unlink(missing_ok=True)
    if folder.exists():
        folder.rmdir()


def _train(loop: _Loop) -> None:
    stage, session, progress = loop.stage, loop.session, loop.progress
    # A parameter without a gradient would otherwise be waited for by all processes, for ever.
    handler = DistributedDataParallelKwargs(find_unused_parameters=True) if stage.partial else None
    session.accelerator.ddp_handler = handler
    # The task keeps its plain names; `model` is what runs on all processes at the session's precision.
    model, optimizer = session.accelerator.prepare_model(stage.task), loop.optimizer
    every = max(1, round(stage.validate_every_epochs * stage.steps_per_epoch))
    if stage.starts_trained and progress.step == 0:
        loop.validate()
    step_s = 0.0
    while not loop.done:
        _stop_if_due(loop, margin_s=3 * step_s + loop.validation_s + 2.0)
        began = time.monotonic()
        epoch = progress.step / stage.steps_per_epoch
        lr = learning_rate(stage.schedule, epoch)
        set_learning_rate(optimizer, lr)
        _step(loop, model, optimizer)
        step_s = max(0.9 * step_s, time.monotonic() - began)
        if progress.step % every == 0 or progress.step == stage.total_steps:
            loop.close_window(progress.step / stage.steps_per_epoch, lr)
        if time.monotonic() - loop.saved_at > CHECKPOINT_EVERY_S or loop.done:
            loop.save()
    _stop_if_due(loop, margin_s=5 * loop.validation_s)  # what measuring the result takes, roughly


def _step(loop: _Loop, model: Callable[..., Loss], optimizer: torch.optim.Optimizer) -> None:
    stage, progress = loop.stage, loop.progress
    torch.manual_seed(derive_seed(loop.session.seed, stage.name, "step", progress.step))
    _training_mode(stage.task, freeze_batchnorm=stage.schedule.freeze_batchnorm)
    loss, terms = model(**stage.batch(progress.step))
    if not torch.isfinite(loss.detach()):
        raise _diverged(loop, f"the loss is {float(loss.detach())}")
    optimizer.zero_grad(set_to_none=True)
    loop.session.accelerator.backward(loss)
    if stage.schedule.clip_norm:
        nn.utils.clip_grad_norm_(stage.task.parameters(), stage.schedule.clip_norm)
    optimizer.step()
    progress.step += 1
    loop.session.deadline.worked = True
    progress.add(loss, terms)
    loop.window_images += stage.images_per_step
    if loop.session.is_main:
        loop.session.reporter.step(stage.images_per_step)


def _diverged(loop: _Loop, what: str) -> TrainingError:
    name, schedule = loop.stage.name, loop.stage.schedule
    return TrainingError(
        f"stage '{name}' diverged after step {loop.progress.step}: {what}; the last good checkpoint is kept; "
        f"try a lower learning rate than {schedule.lr:g}: --set {section_of(name)}.lr={schedule.lr / 3:.1g}"
    )


def _training_mode(task: nn.Module, *, freeze_batchnorm: bool) -> None:
    task.train()
    if freeze_batchnorm:
        for module in task.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _stop_if_due(loop: _Loop, margin_s: float) -> None:
    reason = loop.session.deadline.reason(margin_s)
    if loop.session.share(float(bool(reason))):
        loop.save()
        by_signal = bool(loop.session.deadline.signalled)
        raise Stopped(f"{reason or 'the main process stopped'} {_place(loop)}", by_signal=by_signal)


def _place(loop: _Loop) -> str:
    """Say where training stops; a time budget in which not one step was made is too small."""
    stage, step, deadline = loop.stage, loop.progress.step, loop.session.deadline
    place = f"in stage '{stage.name}' at step {step} of {stage.total_steps}" if step else f"before stage '{stage.name}'"
    if deadline.budget_s is None or deadline.signalled or deadline.worked:
        return place
    return f"{place}, without one step: give it more time"
