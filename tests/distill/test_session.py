from __future__ import annotations

import os
import signal

import pytest

from edgekd.distill.session import Deadline, open_session
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
