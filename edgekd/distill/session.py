"""What every stage shares: device, precision and processes (Accelerate), the deadline, and who is told of progress."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from edgekd.distill.allocator import keep_freed_memory
from edgekd.errors import UsageError


class Stopped(Exception):  # noqa: N818 - not an error: the run is whole and goes on later
    """Training stopped cleanly before its end and can be resumed; the message says why.

    `by_signal` tells a signal from a time budget.
    """

    def __init__(self, message: str, *, by_signal: bool) -> None:
        super().__init__(message)
        self.by_signal = by_signal


class Reporter(Protocol):
    """Receives progress; the command line draws it, the library stays silent."""

    def stage(self, name: str, total_steps: int, done_steps: int) -> None:
        """A stage begins or resumes."""

    def step(self, images: int) -> None:
        """One optimizer step over `images` images is done."""

    def metrics(self, line: dict[str, Any]) -> None:
        """An epoch is over; `line` is what metrics.jsonl got."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class Silent:
    """A reporter that says nothing."""

    def stage(self, name: str, total_steps: int, done_steps: int) -> None:
        """Ignore."""

    def step(self, images: int) -> None:
        """Ignore."""

    def metrics(self, line: dict[str, Any]) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""


@dataclass
class Deadline:
    """Says when to stop: a time budget in seconds (None: no limit), or a signal; `worked`: a step was made in it."""

    budget_s: float | None = None
    started: float = field(default_factory=time.monotonic)
    signalled: str = ""
    worked: bool = False

    def reason(self, margin_s: float) -> str:
        """Return why to stop now, or "". `margin_s` is what the next step and the checkpoint need."""
        if self.signalled:
            return self.signalled
        if self.budget_s is not None and time.monotonic() - self.started + margin_s > self.budget_s:
            return f"the time budget of {self.budget_s:.0f} s is used up"
        return ""

    @contextmanager
    def catching_signals(self) -> Iterator[None]:
        """Turn Ctrl-C and SIGTERM into a stop after the current step; a second Ctrl-C stops at once."""

        def on_signal(number: int, _frame: FrameType | None) -> None:
            if self.signalled:
                raise KeyboardInterrupt
            self.signalled = f"stopped by {signal.Signals(number).name}"

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass(frozen=True)
class Session:
    """Where training runs and who watches; `compile`: float training goes through torch.compile.

    `answers`: a folder for what teachers say of training images, so that other runs need not ask again.
    """

    accelerator: Accelerator
    deadline: Deadline
    reporter: Reporter
    seed: int
    compile: bool = False
    answers: Path | None = None

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def rank(self) -> int:
        """This process's number among all."""
        return int(self.accelerator.process_index)

    @property
    def world(self) -> int:
        """How many processes train together."""
        return int(self.accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return bool(self.accelerator.is_main_process)

    def share(self, value: float) -> float:
        """Return the main process's `value` in every process."""
        if self.world == 1:
            return value
        from accelerate.utils import broadcast

        return float(broadcast(torch.tensor(value, dtype=torch.float64, device=self.device)))

    def local_slice(self, n: int) -> slice:
        """Return this process's share of `n` rows of a global batch.

        Raises:
            UsageError: `n` rows cannot be divided equally, so that gradients would not be one process's.
        """
        if n % self.world:
            raise UsageError(
                f"a batch of {n} cannot be shared equally by {self.world} processes; choose a multiple of {self.world}"
            )
        share = n // self.world
        return slice(self.rank * share, (self.rank + 1) * share)


def open_session(
    precision: str,
    seed: int,
    budget_s: float | None = None,
    reporter: Reporter | None = None,
    *,
    cpu: bool = False,
    compile_networks: bool = False,
    answers: Path | None = None,
) -> Session:
    """Start Accelerate with bf16 where it helps (`precision` "auto"), on the device it finds or on the CPU."""
    mixed = _mixed_precision(precision, cpu=cpu or not torch.cuda.is_available())
    # Accelerate keeps one precision and device for a process; without this a second session could not choose its own.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    accelerator = Accelerator(mixed_precision=mixed, cpu=cpu)
    tune(accelerator.device)
    return Session(accelerator, Deadline(budget_s), reporter or Silent(), seed, compile_networks, answers)


def tune(device: torch.device) -> None:
    """Set what the libraries of a device decide for a whole process."""
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # batches keep their shape, so that trying its kernels pays
        torch.backends.cudnn.allow_tf32 = False  # fp32 is asked for where ten bits of mantissa are too few


def _mixed_precision(precision: str, *, cpu: bool) -> str:
    """bf16 pays where the processor multiplies it natively; elsewhere it is emulated and slower."""
    if precision != "auto":
        return "no" if precision == "fp32" else precision
    native = (
        torch.backends.cpu.get_cpu_capability() == "AVX512" and _has_bf16_instructions()
        if cpu
        else torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return "bf16" if native else "no"


def _has_bf16_instructions() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
