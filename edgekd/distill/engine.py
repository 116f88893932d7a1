"""The one training loop: any stage is a task, a source of batches, a schedule and a way to validate."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable

import torch
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from edgekd.distill.memory import Batch, parts_of, ran_out, release, remember, rows_in
from edgekd.distill.optimizer import learning_rate, set_learning_rate
from edgekd.distill.seeding import derive_seed
from edgekd.distill.session import Session, Stopped
from edgekd.distill.training import UNREAD, Loop, Stage, TrainingError
from edgekd.recipe import section_of
from edgekd.run import Run

__all__ = ["Batch", "Stage", "TrainingError", "clear_checkpoint", "fit"]

CHECKPOINT_EVERY_S = 60.0
SAVING_SHARE = 0.05  # of the time, at most, for checkpoints at the end of short epochs

Loss = tuple[Tensor, dict[str, Tensor]]
Model = Callable[..., Loss]


def fit(stage: Stage, run: Run, session: Session) -> float:
    """Train `stage` to its end, from its checkpoint if there is one, and leave the best weights in `stage.task`.

    Returns the best validation score (NaN without validation). The checkpoint stays until `clear_checkpoint`.

    Raises:
        Stopped: the deadline came or a signal; everything is saved.
        TrainingError: a loss or a weight is NaN or infinite, or a device's memory is too small; the last good
            checkpoint is kept.
        RunError: the checkpoint is damaged or another recipe's.
        StorageError: the disk is full; the last good checkpoint is kept.
    """
    loop = Loop(stage, run, session)
    if session.is_main:
        run.drop_metrics_after(stage.name, loop.progress.step)
        session.reporter.stage(stage.name, stage.total_steps, loop.progress.step)
    if not loop.done:
        _train_in_memory(loop)
        session.accelerator.free_memory()
    if loop.progress.best:
        stage.task.load_state_dict(loop.progress.best)
    if stage.starts_trained and loop.progress.step and loop.progress.best and not loop.progress.best_step:
        session.reporter.note(f"{stage.name}: no epoch was better on validation than the weights it began with: kept")
    return loop.progress.best_score if loop.progress.best else math.nan


def clear_checkpoint(run: Run, stage: str) -> None:
    """Delete the checkpoint of a stage whose result is on disk, and what lies beside it."""
    folder = run.folder / f"checkpoint-{stage}"
    if folder.exists():
        shutil.rmtree(folder)


def _train_in_memory(loop: Loop) -> None:
    """Train; memory that runs out where a smaller part of the batch is no help is something the user can fix."""
    try:
        _train(loop)
    except RuntimeError as error:
        if not ran_out(error):
            raise
        section, batch_size = section_of(loop.stage.name), loop.stage.schedule.batch_size
        raise TrainingError(
            f"stage '{loop.stage.name}': the memory of {loop.session.device} ran out at step {loop.progress.step}; "
            f"try --set {section}.batch_size={max(1, batch_size // 2)}, or a smaller network"
        ) from error


def _train(loop: Loop) -> None:
    stage, session, progress = loop.stage, loop.session, loop.progress
    plain, model = _prepared(stage, session)
    every_epochs = stage.validation.every_epochs if stage.validation else 1.0
    every = max(1, round(every_epochs * stage.steps_per_epoch))
    if stage.starts_trained and progress.step == 0:
        loop.validate()
    step_s, compiling = 0.0, session.compile and stage.compiles
    loop.meter.start()
    while not loop.done:
        _stop_if_due(loop, margin_s=3 * step_s + loop.validation_s + 2.0)
        began = time.monotonic()
        lr = learning_rate(stage.schedule, progress.step / stage.steps_per_epoch)
        set_learning_rate(loop.optimizer, lr)
        if loop.meter.wants_flops:
            _counted_step(loop, plain)
        else:
            _step(loop, model)
        # Compiling takes longer than many steps, and comes once.
        step_s, compiling = 0.0 if compiling else max(0.9 * step_s, time.monotonic() - began), False
        if progress.step % every == 0 or progress.step == stage.total_steps:
            loop.read_losses()
            loop.close_window(progress.step / stage.steps_per_epoch, lr)
            wait_s = min(CHECKPOINT_EVERY_S, loop.saving_s / SAVING_SHARE)
        else:
            wait_s = CHECKPOINT_EVERY_S
        if time.monotonic() - loop.saved_at > wait_s or loop.done:
            loop.read_losses()
            loop.save()
    _stop_if_due(loop, margin_s=5 * loop.validation_s)  # what measuring the result takes, roughly


def _prepared(stage: Stage, session: Session) -> tuple[Model, Model]:
    """Return what runs the task on all processes at the session's precision: as it is, and compiled where asked for.

    The task keeps its plain names.
    """
    # A parameter without a gradient would otherwise be waited for by all processes, for ever.
    handler = DistributedDataParallelKwargs(find_unused_parameters=True) if stage.partial else None
    session.accelerator.ddp_handler = handler
    model = session.accelerator.prepare_model(stage.task)
    return model, torch.compile(model) if session.compile and stage.compiles else model


def _counted_step(loop: Loop, model: Model) -> None:
    parts = loop.progress.parts
    with loop.meter.counting():
        _step(loop, model)
    if loop.progress.parts != parts:  # some of the arithmetic was done twice
        loop.meter.flops_per_step = 0


def _step(loop: Loop, model: Model) -> None:
    stage, progress = loop.stage, loop.progress
    _training_mode(stage.task, freeze_batchnorm=stage.schedule.freeze_batchnorm)
    loss, terms = _loss_with_gradients(loop, model)
    progress.add(loss, terms)
    loop.read_losses(waiting=0 if loop.session.device.type == "cpu" else UNREAD)
    if stage.schedule.clip_norm:
        nn.utils.clip_grad_norm_(stage.task.parameters(), stage.schedule.clip_norm)
    loop.optimizer.step()
    progress.step += 1
    loop.session.deadline.worked = True
    loop.meter.step(stage.images_per_step)
    if loop.session.is_main:
        loop.session.reporter.step(stage.images_per_step)


def _loss_with_gradients(loop: Loop, model: Model) -> Loss:
    """Compute the gradients of the step's batch, in twice as many parts whenever the device's memory runs out."""
    seed = derive_seed(loop.session.seed, loop.stage.name, "step", loop.progress.step)
    torch.manual_seed(seed)
    batch = loop.stage.batch(loop.progress.step)
    put_back = remember(loop.stage.task)
    while True:
        try:
            return _accumulate(loop, model, batch)
        except RuntimeError as error:
            if not ran_out(error) or not _can_halve(loop, batch):
                raise
        release(loop.stage.task)
        put_back()
        _halve(loop, batch)
        torch.manual_seed(seed)


def _accumulate(loop: Loop, model: Model, batch: Batch) -> Loss:
    loop.optimizer.zero_grad(set_to_none=True)
    losses = []
    for share, part in parts_of(batch, loop.progress.parts, loop.stage.unit_images):
        loss, terms = model(**part)
        loop.session.accelerator.backward(loss if share == 1 else share * loss)
        losses.append((share, loss.detach(), {name: value.detach() for name, value in terms.items()}))
    if len(losses) == 1:
        return losses[0][1:]
    total = torch.stack([share * loss for share, loss, _ in losses]).sum()
    names = losses[0][2]
    return total, {name: torch.stack([share * terms[name] for share, _, terms in losses]).sum() for name in names}


def _can_halve(loop: Loop, batch: Batch) -> bool:
    """Whether smaller parts are there; of several processes one alone cannot change its parts."""
    return loop.session.world == 1 and 2 * loop.progress.parts <= rows_in(batch) // loop.stage.unit_images


def _halve(loop: Loop, batch: Batch) -> None:
    loop.progress.parts *= 2
    n, parts = rows_in(batch), loop.progress.parts
    loop.session.reporter.note(
        f"stage '{loop.stage.name}': the memory of {loop.session.device} ran out at step {loop.progress.step}; a batch "
        f"of {n} goes on in {parts} parts of {n // parts}, gradients summed: the same batch, but BatchNorm statistics "
        "and losses between images are each part's own"
    )


def _training_mode(task: nn.Module, *, freeze_batchnorm: bool) -> None:
    task.train()
    if freeze_batchnorm:
        for module in task.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _stop_if_due(loop: Loop, margin_s: float) -> None:
    reason = loop.session.deadline.reason(margin_s)
    if loop.session.share(float(bool(reason))):
        loop.read_losses()
        loop.save()
        by_signal = bool(loop.session.deadline.signalled)
        raise Stopped(f"{reason or 'the main process stopped'} {_place(loop)}", by_signal=by_signal)


def _place(loop: Loop) -> str:
    """Say where training stops; a time budget in which not one step was made is too small."""
    stage, step, deadline = loop.stage, loop.progress.step, loop.session.deadline
    place = f"in stage '{stage.name}' at step {step} of {stage.total_steps}" if step else f"before stage '{stage.name}'"
    if deadline.budget_s is None or deadline.signalled or deadline.worked:
        return place
    return f"{place}, without one step: give it more time"
