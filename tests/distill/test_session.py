from __future__ import annotations

import os
import signal

import pytest
import torch

from edgekd.distill.session import Deadline, _mixed_precision, open_session, tune
from edgekd.errors import UsageError


def test_a_process_may_open_sessions_of_several_precisions() -> None:
    for precision, name in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        session = open_session(precision, 0, cpu=True)
        assert session.accelerator.mixed_precision == name
        assert (session.device.type, session.rank, session.world, session.is_main) == ("cpu", 0, 1, True)


def test_one_process_has_the_whole_batch() -> None:
    assert open_session("fp32", 0, cpu=True).local_slice(10) == slice(0, 10)


def test_a_batch_that_cannot_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session("fp32", 0, cpu=True)
    monkeypatch.setattr(type(session), "world", 3)
    with pytest.raises(UsageError, match="a batch of 10 cannot be shared equally by 3 processes"):
        session.local_slice(10)


def test_a_deadline_leaves_the_margin() -> None:
    assert Deadline().reason(1e9) == ""
    assert Deadline(100).reason(50) == ""
    assert Deadline(100).reason(101) == "the time budget of 100 s is used up"


def test_signals_become_a_reason_to_stop_and_a_second_one_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    deadline = Deadline()
    with deadline.catching_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert deadline.reason(0) == "stopped by SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_gpu_without_bf16_units_trains_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch calls supported may be emulated, which is slower than fp32."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert _mixed_precision("auto", cpu=False) == "no"
    assert _mixed_precision("bf16", cpu=False) == "bf16"


def test_a_gpu_gets_its_kernels_tried_and_fp32_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    tune(torch.device("cpu"))
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == (False, True)
    tune(torch.device("cuda"))
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == (True, False)
