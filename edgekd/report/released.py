"""The full report of a released student: every engine, all episodes, and further ways."""

from __future__ import annotations

from pathlib import Path

from edgekd.errors import UsageError
from edgekd.verify import Report, Request, verify
from edgekd.zoo import MODEL

EPISODES = 10_000


def full_report(folder: Path, episodes: int, more_ways: tuple[int, ...]) -> Report:
    """Verify the file in full; accuracy of `more_ways` classes an episode is added to that of its own protocol.

    Raises:
        EdgekdError: the data are not at hand, or not those that the run was measured on.
    """
    report = verify(folder / MODEL, options=Request(episodes=episodes))
    stale = [item.message for item in report.findings if item.rule == "data-fingerprint" and item.status != "pass"]
    if stale or report.errors or not report.accuracy:
        raise UsageError("; ".join((*stale, *report.errors)) or "no accuracy was measured")
    others = [verify(folder / MODEL, options=Request(episodes=episodes, way=way)) for way in more_ways]
    rows = (*report.accuracy, *(row for other in others for row in other.accuracy))
    path = f"{folder.parent.name}/{folder.name}/{MODEL}"
    return report.model_copy(update={"accuracy": rows, "model": report.model.model_copy(update={"path": path})})
