"""A candidate as an ONNX file with its manifest: all that `verify` is given of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekd import __version__, passes
from edgekd.data import Splits
from edgekd.distill.methods import adapt_recipe
from edgekd.distill.pipeline import data_ref
from edgekd.distill.quantizing import load_quantized
from edgekd.distill.untrained import untrained_student
from edgekd.export import IR_VERSION, Origin, Student, manifest_of, to_integer_onnx
from edgekd.files import write_bytes
from edgekd.profile import HardwareProfile
from edgekd.recipe import Recipe
from edgekd.run import Run


def write_untrained(recipe: Recipe, profile: HardwareProfile, splits: Splits, file: Path) -> None:
    """Write the recipe's student with random weights: training changes these and nothing else of the file.

    Raises:
        RecipeError, ModelError, DataError: there is no such student, or none that can be exported.
        StorageError: the file cannot be written.
    """
    recipe = adapt_recipe(recipe)
    made = untrained_student(recipe, profile, splits)
    student = Student(made.network, made.reference, made.scheme, np.zeros(0, np.float32))
    _write(student, Origin(recipe, data_ref(recipe, splits)), splits, file)


def write_trained(run: Run, splits: Splits, file: Path) -> None:
    """Write the quantized student of a finished run; not compared with the trained network, as what ships is.

    Raises:
        RunError: the run is not finished, or its file is damaged.
        StorageError: the file cannot be written.
    """
    network, scheme = load_quantized(run, splits.train.channels)
    student = Student(network, network, scheme, np.array(run.manifest.base_mean, np.float32))
    lineage = tuple(record.result for record in run.manifest.stages.values())
    _write(student, Origin(run.recipe, run.manifest.data, lineage), splits, file)


def _write(student: Student, origin: Origin, splits: Splits, file: Path) -> None:
    model = to_integer_onnx(student.network, splits.train)
    manifest = manifest_of(origin, student, splits.train, model)
    passes.stamp(model, manifest.to_metadata(), __version__, IR_VERSION)
    write_bytes(file, model.SerializeToString())
