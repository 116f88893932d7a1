"""One stage in training: what it is made of, how far it is, and how that reaches the disk and comes back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.distill.checkpoint import Snapshot, load_snapshot, load_weights, save_snapshot
from edgekd.distill.embed import DivergedError
from edgekd.distill.memory import Batch
from edgekd.distill.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors
from edgekd.distill.rate import Meter
from edgekd.distill.session import Session
from edgekd.errors import EdgekdError, RunError
from edgekd.recipe import Schedule, section_of
from edgekd.run import Run

UNREAD = 16  # losses that may wait on a GPU: reading each would make it wait for the next step's launch


class TrainingError(EdgekdError):
    """Training cannot go on: loss, weights or embeddings are no numbers, or a device's memory is too small."""


@dataclass(frozen=True)
class Validation:
    """`score` of the task as it is, higher is better; further `figures`, which are recorded, nothing more."""

    score: Callable[[], float]
    figures: Callable[[], Mapping[str, float]] = dict
    every_epochs: float = 1.0


@dataclass(frozen=True)
class Stage:
    """What to train: `task(**batch(step))` returns (loss, its terms).

    The weights of the best `validation` are kept; without one the last are.
    `starts_trained`: the task is a result already, so the weights it starts with compete too.
    `partial`: the loss may not reach every parameter; those it does not reach stay as they are, undecayed.
    `unit_images`: so many images of a batch belong together (an episode). `compiles`: torch.compile can take the task.
    """

    name: str
    task: nn.Module
    batch: Callable[[int], Batch]
    schedule: Schedule
    steps_per_epoch: int
    images_per_step: int
    validation: Validation | None = None
    starts_trained: bool = False
    partial: bool = False
    unit_images: int = 1
    compiles: bool = True

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole schedule."""
        return math.ceil(self.schedule.epochs * self.steps_per_epoch)


@dataclass
class Progress:
    """Everything a resumed loop needs beside the weights; `unread` losses (step, loss, terms) are no part of the sums.

    `parts`: in how many parts a batch is computed, since the memory holds no larger ones.
    """

    step: int = 0
    best_score: float = -math.inf
    best_step: int = 0
    stopped_early: bool = False
    parts: int = 1
    best: dict[str, Tensor] = field(default_factory=dict)
    loss_sum: float = 0.0
    term_sums: dict[str, float] = field(default_factory=dict)
    window: int = 0
    unread: list[tuple[int, Tensor, dict[str, Tensor]]] = field(default_factory=list)

    def add(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Note the loss of the step that is being made; it is read later."""
        self.unread.append((self.step, loss.detach(), {name: value.detach() for name, value in terms.items()}))

    def read(self) -> tuple[int, float] | None:
        """Add every unread loss to the sums; return the step and value of the first that is no finite number."""
        if not self.unread:
            return None
        flat = torch.cat([value.reshape(1) for _, loss, terms in self.unread for value in (loss, *terms.values())])
        values = iter(flat.tolist())  # waits for the device once
        bad = None
        for step, _, terms in self.unread:
            loss = next(values)
            if bad is None and not math.isfinite(loss):
                bad = step, loss
            self.window += 1
            self.loss_sum += loss
            for name in terms:
                self.term_sums[name] = self.term_sums.get(name, 0.0) + next(values)
        self.unread.clear()
        return bad

    def take_means(self) -> dict[str, Any]:
        """Return the mean loss and terms since the last time, and begin anew."""
        count = max(self.window, 1)
        means = {
            "loss": self.loss_sum / count,
            "terms": {name: total / count for name, total in self.term_sums.items()},
        }
        self.loss_sum, self.term_sums, self.window = 0.0, {}, 0
        return means

    def values(self) -> dict[str, Any]:
        """Return all but the tensors."""
        sums = {"loss_sum": self.loss_sum, "term_sums": self.term_sums, "window": self.window}
        best = {"best_score": self.best_score, "best_step": self.best_step, "stopped_early": self.stopped_early}
        return {"step": self.step, **best, **sums, "parts": self.parts}


class Loop:
    """One stage in training: weights, optimizer and progress."""

    def __init__(self, stage: Stage, run: Run, session: Session) -> None:
        self.stage, self.run, self.session = stage, run, session
        stage.task.to(session.device).to(memory_format=torch.channels_last)
        self.progress = Progress()
        self.checkpoint = run.folder / f"checkpoint-{stage.name}" / "state.safetensors"
        self.optimizer = self._restore()
        self.saved_step = self.progress.step if self.checkpoint.exists() else None
        self.saved_at = time.monotonic()
        self.saving_s = 0.0
        self.meter = Meter(session.device)
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
        self.progress = Progress(best=snapshot.part("best"), **values)
        return optimizer

    @property
    def done(self) -> bool:
        """Whether the schedule is at its end, or no better score came within its patience."""
        return self.progress.stopped_early or self.progress.step >= self.stage.total_steps

    def read_losses(self, *, waiting: int = 0) -> None:
        """Look at the losses so far, once more than `waiting` are unread.

        Raises:
            TrainingError: one is NaN or infinite.
        """
        if len(self.progress.unread) <= waiting:
            return
        if bad := self.progress.read():
            raise self.diverged(f"the loss is {bad[1]}", bad[0])

    def save(self) -> None:
        """Write the checkpoint (main process only); weights that are no numbers never take the place of good ones.

        Raises:
            TrainingError: a loss or a weight is NaN or infinite.
            StorageError: the disk is full; the last good checkpoint is kept.
        """
        if not self.session.is_main:
            return
        began = time.monotonic()
        task, progress = self.stage.task, self.progress
        trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
        if not all(bool(parameter.isfinite().all()) for parameter in trained):
            raise self.diverged("a weight is no finite number")
        groups = {"task": task.state_dict(), "optimizer": optimizer_tensors(self.optimizer), "best": progress.best}
        tensors = {f"{group}/{name}": value for group, part in groups.items() for name, value in part.items()}
        save_snapshot(self.checkpoint, Snapshot(tensors, {**progress.values(), "recipe": self.run.recipe.sha256}))
        self.saved_at, self.saved_step = time.monotonic(), progress.step
        self.saving_s = self.saved_at - began

    def close_window(self, epoch: float, lr: float) -> None:
        """Validate, remember the best weights, write one line of metrics."""
        progress, stage = self.progress, self.stage
        speed = self.meter.reading()
        score = self.validate()
        line = {
            "stage": stage.name,
            "step": progress.step,
            "epoch": round(epoch, 3),
            **progress.take_means(),
            "lr": lr,
            "val_accuracy": score,
            **speed,
        }
        if self._out_of_patience():
            progress.stopped_early = line["stopped_early"] = True
        if self.session.is_main:
            if stage.validation and (figures := stage.validation.figures()):
                line["measures"] = dict(figures)
            self.run.append_metrics(line)
            self.session.reporter.metrics(line)
        self.meter.restart()

    def _out_of_patience(self) -> bool:
        patience_steps = self.stage.schedule.patience * self.stage.steps_per_epoch
        if not patience_steps or self.stage.validation is None or self.done:
            return False
        return self.progress.step - self.progress.best_step >= patience_steps

    def validate(self) -> float | None:
        """Return the score, and remember the weights if it is the best so far."""
        if self.stage.validation is None:
            return None
        began = time.monotonic()
        score = self.session.share(self._score(self.stage.validation) if self.session.is_main else 0.0)
        self.validation_s = time.monotonic() - began
        if score > self.progress.best_score:
            self.progress.best_score, self.progress.best_step = score, self.progress.step
            self.progress.best = {name: value.detach().clone() for name, value in self.stage.task.state_dict().items()}
        return score

    def _score(self, validation: Validation) -> float:
        try:
            return validation.score()
        except DivergedError as error:
            raise self.diverged(str(error)) from error

    def diverged(self, what: str, step: int | None = None) -> TrainingError:
        """Return the error for weights or losses that are no numbers after `step`, by default the last."""
        name, schedule = self.stage.name, self.stage.schedule
        kept = "there is no checkpoint yet"
        if self.saved_step is not None:
            kept = f"the last good checkpoint, of step {self.saved_step}, is kept"
        usual: float = type(schedule).model_fields["lr"].default
        lower = usual if usual < schedule.lr else schedule.lr / 3
        return TrainingError(
            f"stage '{name}' diverged after step {self.progress.step if step is None else step}: {what}; {kept}; "
            f"try a lower learning rate than {schedule.lr:g} in another --run folder: "
            f"--set {section_of(name)}.lr={lower:.1g}"
        )
