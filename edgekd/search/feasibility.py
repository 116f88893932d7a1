"""Whether a profile holds a candidate: `verify`'s rules on its exported file, before it is trained and after."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgekd.data import Splits
from edgekd.profile import HardwareProfile
from edgekd.recipe import Recipe
from edgekd.run import Run
from edgekd.search.onnx_files import write_trained, write_untrained
from edgekd.verify import Report, verify

TRAINED_FILE = "model.onnx"


@dataclass(frozen=True)
class Refusal:
    """A rule of `verify` that a candidate fails, and its first finding."""

    rule: str
    message: str


def examine_untrained(recipe: Recipe, profile: HardwareProfile, splits: Splits) -> Report:
    """Return what `verify` says of the recipe's student with random weights, without running it.

    Raises:
        EdgekdError: as `write_untrained`.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "untrained.onnx"
        write_untrained(recipe, profile, splits, file)
        return verify(file, profile, static=True)


def examine_trained(run: Run, profile: HardwareProfile, splits: Splits) -> Report:
    """Write a trained candidate into its run folder; return what `verify` says of the file, without running it.

    Raises:
        EdgekdError: as `write_trained`.
    """
    file = run.folder / TRAINED_FILE
    write_trained(run, splits, file)
    return verify(file, profile, static=True)


def refusals(report: Report) -> tuple[Refusal, ...]:
    """Return each rule that fails, once."""
    found: dict[str, str] = {}
    for finding in report.findings:
        if finding.status == "fail":
            found.setdefault(finding.rule, finding.message)
    return tuple(Refusal(rule, message) for rule, message in found.items())


def listed(found: Iterable[Refusal]) -> str:
    """Return refusals as one line."""
    return "; ".join(f"{refusal.rule}: {refusal.message}" for refusal in found)
