"""Whether a profile holds a candidate: `verify`'s rules on its exported file, before it is trained and after."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekd.data import Splits
from edgekd.errors import RecipeError, UsageError
from edgekd.profile import HardwareProfile
from edgekd.recipe import Recipe
from edgekd.run import Run
from edgekd.search.onnx_files import write_trained, write_untrained
from edgekd.verify import Report, Requirement, parse, verify
from edgekd.verify.requirements import RULE

TRAINED_FILE = "model.onnx"


@dataclass(frozen=True)
class Refusal:
    """A rule of `verify` that a candidate fails, and its first finding."""

    rule: str
    message: str


def requirements_of(recipe: Recipe) -> tuple[Requirement, ...]:
    """Return what the search asks of every candidate beyond the profile.

    Raises:
        RecipeError: one does not read like a requirement of `edgekd verify --require`.
    """
    try:
        return tuple(parse(text) for text in recipe.search.require)
    except UsageError as error:
        raise RecipeError(str(error).replace("--require", "search.require", 1)) from error


def examine_untrained(
    recipe: Recipe, profile: HardwareProfile, splits: Splits, require: Sequence[Requirement] = ()
) -> Report:
    """Return what `verify` says of the recipe's student with random weights, without running it.

    Raises:
        EdgekdError: as `write_untrained`.
        RecipeError: a file that was not run does not tell what is required.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "untrained.onnx"
        write_untrained(recipe, profile, splits, file)
        report = verify(file, profile, static=True, require=require)
    for finding in report.findings:
        if finding.rule == RULE and finding.status == "unknown":
            raise RecipeError(
                f"search.require: {finding.message}; require what the file alone tells, such as macs, weight_bytes or "
                "peak_activation_bytes"
            )
    return report


def examine_trained(run: Run, profile: HardwareProfile, splits: Splits, require: Sequence[Requirement] = ()) -> Report:
    """Write a trained candidate into its run folder; return what `verify` says of the file, without running it.

    Raises:
        EdgekdError: as `write_trained`.
    """
    file = run.folder / TRAINED_FILE
    write_trained(run, splits, file)
    return verify(file, profile, static=True, require=require)


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
