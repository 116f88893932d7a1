"""A reporter that stops training at a chosen step, as a signal would."""

from __future__ import annotations

from edgekd.distill.session import Session, Silent


class StopAt(Silent):
    """Asks the session to stop after a number of steps."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.session: Session | None = None

    def step(self, images: int) -> None:
        self.left -= 1
        if self.left == 0 and self.session:
            self.session.deadline.signalled = "enough"
