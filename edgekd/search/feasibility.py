"""Whether a profile holds a candidate: `verify`'s rules on its exported file, before it is trained and after."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekd import __version__, passes
from edgekd.data import Splits
from edgekd.distill.methods import adapt_recipe
from edgekd.distill.pipeline import data_ref
from edgekd.distill.untrained import untrained_student
from edgekd.export import IR_VERSION, Origin, Student, manifest_of, to_integer_onnx
from edgekd.files import write_bytes
from edgekd.profile import HardwareProfile
from edgekd.recipe import Recipe
from edgekd.verify import Report, verify


@dataclass(frozen=True)
class Refusal:
    """A rule of `verify` that a candidate fails, and its first finding."""

    rule: str
    message: str


def examine_untrained(recipe: Recipe, profile: HardwareProfile, splits: Splits) -> Report:
    """Return what `verify` says of the recipe's student with random weights, without running it.

    Raises:
        RecipeError, ModelError, DataError: there is no such student, or none that can be exported.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "untrained.onnx"
        _export(adapt_recipe(recipe), profile, splits, file)
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


def _export(recipe: Recipe, profile: HardwareProfile, splits: Splits, file: Path) -> None:
    """Write the file that `edgekd export` would, but for the weights; nothing else of it will change by training."""
    made = untrained_student(recipe, profile, splits)
    model = to_integer_onnx(made.network, splits.train)
    student = Student(made.network, made.reference, made.scheme, np.zeros(0, np.float32))
    manifest = manifest_of(Origin(recipe, data_ref(recipe, splits)), student, splits.train, model)
    passes.stamp(model, manifest.to_metadata(), __version__, IR_VERSION)
    write_bytes(file, model.SerializeToString())
