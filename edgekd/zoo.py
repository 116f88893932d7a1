"""The zoo: released students and teachers, a folder each; where they lie, what their files say, how to copy one.

models/<name>/  recipe.toml  model.onnx  golden.npz  report.json  card.md
                teacher.toml where the teacher was trained in a run of its own; teacher-2.toml, ... where others went on
                search.toml  search.json  search.md where the student was found by a search
models/teachers/<name>/  teacher.safetensors  recipe.toml  manifest.json  metrics.jsonl  card.md
                a run folder of `edgekd teach`, without paths of the machine that it ran on; where it began with the
                weights of other runs, their recipes too, the first one first: earlier.toml, earlier-2.toml, ...
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from edgekd.errors import ModelError, StorageError, UsageError, unknown
from edgekd.files import write_together, writer_of
from edgekd.manifest import AccuracyRow, Manifest, StageResult
from edgekd.recipe import Recipe, load_recipe
from edgekd.run import Run
from edgekd.run_manifest import StageRecord
from edgekd.schema import explain

if TYPE_CHECKING:
    from edgekd.verify import Report

WHEEL_FOLDER = Path(__file__).parent / "_models"
CHECKOUT_FOLDER = Path(__file__).parent.parent / "models"

RECIPE, MODEL, GOLDEN, REPORT, CARD = FILES = ("recipe.toml", "model.onnx", "golden.npz", "report.json", "card.md")
SEARCH_RECIPE, SEARCH_RESULTS, SEARCH_PAGE = "search.toml", "search.json", "search.md"
SEARCH_FILES = (SEARCH_RECIPE, SEARCH_RESULTS, SEARCH_PAGE)
TEACHERS, TEACHER_WEIGHTS = "teachers", "teacher.safetensors"
TEACHER, EARLIER = "teacher", "earlier"  # stems of the recipes of what came before
TEACHER_FILES = (TEACHER_WEIGHTS, RECIPE, "manifest.json", "metrics.jsonl", CARD)
MAIN_ENGINE = "onnxruntime"
_FLOAT_STAGES = ("student", "meta", "head", "distill")  # the latest first
_LISTED = re.compile(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", re.MULTILINE)  # a file of a card


@dataclass(frozen=True)
class ZooModel:
    """A released student: its folder and what the files in it say."""

    name: str
    folder: Path

    @cached_property
    def report(self) -> Report:
        """What `edgekd verify` wrote when the student was released.

        Raises:
            ModelError: it is missing or damaged.
        """
        from edgekd.verify import Report

        path = self.folder / REPORT
        try:
            return Report.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            what = f"{path} is not a report of edgekd verify"
            reason = explain(Report, error, what) if isinstance(error, ValidationError) else f"{what}: {error}"
            raise ModelError(reason) from error

    @cached_property
    def manifest(self) -> Manifest:
        """What the ONNX file says about itself.

        Raises:
            ModelError: it cannot be read, or edgekd did not write it.
        """
        from edgekd.verify.reading import read_graph

        path = self.folder / MODEL
        manifest = Manifest.from_metadata(read_graph(path).metadata)
        if manifest is None:
            raise ModelError(f"{path} has no manifest: edgekd did not export it")
        return manifest

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that repeats it.

        Raises:
            RecipeError: it is missing or damaged.
        """
        return load_recipe(self.folder / RECIPE)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files."""
        searched = (name for name in SEARCH_FILES if (self.folder / name).exists())
        return (*FILES, *self.teacher_recipes, *searched)

    @property
    def teacher_recipes(self) -> tuple[str, ...]:
        """The files of the recipes that trained the teacher, in the order of training; none if the run's own did."""
        return numbered(self.folder, TEACHER)

    @property
    def about(self) -> tuple[str, ...]:
        """What the recipe's first comment lines say: what was trained on, in short, then anything else to know."""
        return _first_comments(self.folder / RECIPE)

    @property
    def accuracy(self) -> tuple[AccuracyRow, ...]:
        """The accuracy of the file in onnxruntime, for every protocol that was measured."""
        return tuple(row for row in self.report.accuracy if row.engine == MAIN_ENGINE)

    @property
    def float_student(self) -> StageResult | None:
        """The stage whose network was quantized."""
        stages = {stage.stage: stage for stage in self.report.lineage}
        return next((stages[name] for name in _FLOAT_STAGES if name in stages), None)

    def stage(self, name: str) -> StageResult | None:
        """Return one step on the way to the file, None where there was no such step."""
        return next((stage for stage in self.report.lineage if stage.stage == name), None)


@dataclass(frozen=True)
class ZooTeacher:
    """A released teacher: its folder, a run that holds the stage "teach" alone."""

    name: str
    folder: Path

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files."""
        return (*TEACHER_FILES, *self.earlier)

    @property
    def about(self) -> tuple[str, ...]:
        """What the recipe's first comment lines say: what it is, then how it was trained."""
        return _first_comments(self.folder / RECIPE)

    @property
    def earlier(self) -> tuple[str, ...]:
        """The files of the recipes of the runs that its weights began with, in the order of training."""
        return numbered(self.folder, EARLIER)

    def distill_command(self, folder: Path) -> str:
        """Return the command that distills from the copy of it in a folder."""
        trained = " --set teacher.new_head=false --set teacher.freeze_epochs=0" if self.earlier else ""
        return f"edgekd distill --recipe {folder / RECIPE} --teacher-weights {folder / TEACHER_WEIGHTS}{trained}"

    @cached_property
    def run(self) -> Run:
        """The run that trained it, as far as it was released.

        Raises:
            RunError: a file of it is missing or damaged.
        """
        return Run.open(self.folder)

    @property
    def record(self) -> StageRecord:
        """What its run says about its training.

        Raises:
            RunError: a file of the run is missing or damaged.
            ModelError: the run trained no teacher.
        """
        record = self.run.manifest.stages.get("teach")
        if record is None:
            raise ModelError(f"{self.folder} is a run that trained no teacher")
        return record

    @property
    def result(self) -> StageResult:
        """Its backbone, size and accuracy; errors as `record`."""
        return self.record.result


def _first_comments(recipe: Path) -> tuple[str, ...]:
    try:
        lines = recipe.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{recipe} cannot be read: {error}") from error
    return tuple(line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines))


def recipe_file(stem: str, number: int) -> str:
    """Return the file's name of the recipe of a first training, a second, and so on."""
    return f"{stem}.toml" if number == 1 else f"{stem}-{number}.toml"


def numbered(folder: Path, stem: str) -> tuple[str, ...]:
    """Return the names of the recipes in a folder that `recipe_file` named, in their order."""
    names = (recipe_file(stem, number) for number in count(1))
    return tuple(takewhile(lambda name: (folder / name).exists(), names))


def zoo_folder() -> Path:
    """Return the folder of the released students: in a checkout `models`, else the one installed with the package."""
    return WHEEL_FOLDER if WHEEL_FOLDER.is_dir() else CHECKOUT_FOLDER


def zoo_names() -> list[str]:
    """Return the names of the released students, sorted: every folder that has a file of one, be it whole or not."""
    return _names_in(zoo_folder(), FILES)


def find_model(name: str) -> ZooModel:
    """Return a released student.

    Raises:
        ModelError: there is none of that name (with the nearest one).
    """
    if name not in zoo_names():
        raise ModelError(unknown("model", name, zoo_names()))
    return ZooModel(name, zoo_folder() / name)


def teacher_names() -> list[str]:
    """Return the names of the released teachers, sorted: every folder that has a file of one, be it whole or not."""
    return _names_in(zoo_folder() / TEACHERS, TEACHER_FILES)


def _names_in(folder: Path, files: Sequence[str]) -> list[str]:
    return sorted({path.parent.name for name in files for path in folder.glob(f"*/{name}")})


def find_teacher(name: str) -> ZooTeacher:
    """Return a released teacher.

    Raises:
        ModelError: there is none of that name (with the nearest one).
    """
    if name not in teacher_names():
        raise ModelError(unknown("teacher", name, teacher_names()))
    return ZooTeacher(name, zoo_folder() / TEACHERS / name)


def find_released(name: str) -> ZooModel | ZooTeacher:
    """Return a released student or teacher.

    Raises:
        ModelError: there is none of that name (with the nearest one).
    """
    if name in teacher_names():
        return find_teacher(name)
    if name not in zoo_names():
        raise ModelError(unknown("model", name, [*zoo_names(), *teacher_names()]))
    return find_model(name)


def copy_model(model: ZooModel | ZooTeacher, folder: Path) -> None:
    """Copy the files of a released network into a folder, made where it is not there.

    Raises:
        UsageError: another file of one of these names is there already.
        ModelError: a file of the network is missing, or not the one that its card lists.
        StorageError: the folder cannot be written.
    """
    content = {folder / name: data for name, data in files_of(model).items()}
    try:
        others = [path.name for path, data in content.items() if path.exists() and path.read_bytes() != data]
    except OSError as error:
        raise StorageError(f"cannot write {error.filename}: {error.strerror}") from error
    if others:
        raise UsageError(f"{folder} has another {others[0]} already; name another folder with --out")
    write_together({path: writer_of(data) for path, data in content.items()})


def files_of(model: ZooModel | ZooTeacher) -> dict[str, bytes]:
    """Return what each file of a released network holds, as its card lists it.

    Raises:
        ModelError: one is missing, or another.
    """
    restore = "get it from the repository again, or install edgekd anew"
    try:
        content = {name: (model.folder / name).read_bytes() for name in model.files}
    except OSError as error:
        raise ModelError(f"{model.folder} is not whole: {error.strerror} ({error.filename}); {restore}") from error
    listed = dict(_LISTED.findall(content[CARD].decode(errors="replace")))
    for name, data in content.items():
        if name != CARD and hashlib.sha256(data).hexdigest() != listed.get(name):
            raise ModelError(
                f"{model.folder / name} is damaged: its SHA-256 is not the one that {CARD} lists; {restore}"
            )
    return content
