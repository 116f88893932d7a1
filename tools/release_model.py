"""Make models/NAME of a finished run: export, full verify, recipe, card; then the tables of models and teachers.

    python tools/release_model.py runs/omniglot omniglot-conv4 --about "Omniglot, all of it, 28x28"

The first `--about` says in a few words what the student was trained on, further ones what else to know. `--pot` exports
powers of two. `--way 20` measures 20-way episodes too. `--search runs/search-...` adds the search that found the
student. `--teacher` releases the teacher of a run instead, as models/teachers/NAME. Paths of this machine stay out of
recipe and manifest: the data are named alone, and must be where `edgekd data list` looks for them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import onnx
from pydantic import ValidationError

from edgekd.errors import EdgekdError, UsageError
from edgekd.export import export_run
from edgekd.files import write_bytes, write_text
from edgekd.manifest import Manifest, StageResult
from edgekd.passes import stamp
from edgekd.profile import profile_names
from edgekd.recipe import Recipe, load_recipe, to_toml
from edgekd.report.card import model_card
from edgekd.report.released import EPISODES, full_report
from edgekd.report.teacher_card import teacher_card
from edgekd.run import Run
from edgekd.run_manifest import StageRecord
from edgekd.search.results import Outcome
from edgekd.zoo import (
    CARD,
    EARLIER,
    GOLDEN,
    MODEL,
    RECIPE,
    REPORT,
    SEARCH_FILES,
    SEARCH_PAGE,
    SEARCH_RECIPE,
    SEARCH_RESULTS,
    TEACHER,
    TEACHER_WEIGHTS,
    TEACHERS,
    ZooModel,
    ZooTeacher,
    numbered,
    recipe_file,
)

MODELS = Path(__file__).parent.parent / "models"


def bare(spec: str) -> str:
    """Return the name of an image set without its path.

    Raises:
        UsageError: it has no name of its own, so that nobody else could find it.
    """
    name = spec.partition(":")[0]
    if name == "folder":
        raise UsageError(f"{spec} is a folder of this machine; a released student needs data that others can have")
    return name


def released_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe without paths of this machine.

    Raises:
        UsageError: it rests on a profile or on data that are not public.
    """
    if recipe.profile not in profile_names():
        raise UsageError(f"profile {recipe.profile} does not come with edgekd")
    images = recipe.distill.images
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"spec": bare(recipe.data.spec)}),
            "distill": recipe.distill.model_copy(update={"images": bare(images) if images else None}),
            "teacher": recipe.teacher.model_copy(update={"weights": file_name(recipe.teacher.weights)}),
            "student": recipe.student.model_copy(update={"weights": file_name(recipe.student.weights)}),
        }
    )


def file_name(path: Path | None) -> Path | None:
    """Return the path without its folders."""
    return Path(path.name) if path else None


def released_manifest(manifest: Manifest) -> Manifest:
    """Return the manifest with the data's name in the place of their path."""
    name = bare(manifest.data.spec)
    data = manifest.data.model_copy(update={"spec": name})
    lineage = tuple(_renamed(stage, name) for stage in manifest.lineage)
    return manifest.model_copy(update={"data": data, "lineage": lineage})


def _renamed(stage: StageResult, name: str) -> StageResult:
    accuracy = tuple(row.model_copy(update={"dataset": name}) for row in stage.accuracy)
    found = stage.classification
    return stage.model_copy(
        update={"accuracy": accuracy, "classification": found and found.model_copy(update={"dataset": name})}
    )


def release(run: Run, folder: Path, about: tuple[str, ...], *, pot: bool) -> None:
    """Write model.onnx, golden.npz and recipe.toml, and those of the teacher where it comes from runs of its own.

    Raises:
        EdgekdError: the run is not finished, or cannot be released.
    """
    recipe = to_toml(released_recipe(run.recipe))
    with tempfile.TemporaryDirectory() as name:
        done = export_run(run, Path(name) / MODEL, power_of_two=pot)
        model, golden = onnx.load(done.path), done.golden.read_bytes()
    stamp(model, released_manifest(done.manifest).to_metadata(), done.manifest.edgekd, model.ir_version)
    write_bytes(folder / MODEL, model.SerializeToString())
    write_bytes(folder / GOLDEN, golden)
    write_text(folder / RECIPE, "".join(f"# {line}\n" for line in about) + recipe)
    write_recipes(folder, TEACHER, recipes_of_teacher(run.recipe))


def write_recipes(folder: Path, stem: str, recipes: Sequence[Recipe]) -> None:
    """Write the recipes of what came before, the first one first; those of an earlier release go.

    Raises:
        UsageError: one rests on a profile or on data that are not public.
    """
    texts = [to_toml(released_recipe(recipe)) for recipe in recipes]
    for stale in numbered(folder, stem)[len(texts) :]:
        (folder / stale).unlink()
    for number, text in enumerate(texts, start=1):
        write_text(folder / recipe_file(stem, number), text)


def release_teacher(run: Run, folder: Path, about: tuple[str, ...]) -> None:
    """Write the run as far as it trained a teacher: weights, recipe, metrics, manifest, card.

    Raises:
        EdgekdError: it has trained none, or cannot be released.
    """
    weights, recipe = run.stage_file("teach").read_bytes(), released_recipe(run.recipe)
    record, name = run.manifest.stages["teach"], bare(run.recipe.data.spec)
    taught = StageRecord(
        file=TEACHER_WEIGHTS, sha256=record.sha256, seconds=record.seconds, result=_renamed(record.result, name)
    )
    changes = {
        "recipe_sha256": recipe.sha256,
        "data": run.manifest.data.model_copy(update={"spec": name}),
        "stages": {"teach": taught},
        "base_mean": (),
        "complete": False,
    }
    lines = [line for line in run.metrics() if str(line["stage"]).partition("-")[0] == "teach"]
    write_recipes(folder, EARLIER, recipes_of_teacher(run.recipe))
    write_bytes(folder / TEACHER_WEIGHTS, weights)
    write_text(folder / RECIPE, "".join(f"# {line}\n" for line in about) + to_toml(recipe))
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_text(folder / "manifest.json", run.manifest.model_copy(update=changes).model_dump_json(indent=1) + "\n")
    write_text(folder / CARD, teacher_card(ZooTeacher(folder.name, folder)))


def recipes_of_teacher(recipe: Recipe) -> list[Recipe]:
    """Return the recipes of the runs that trained the teacher, the first one first; none for weights of no run."""
    weights = recipe.teacher.weights
    if weights is None or not (weights.parent / "manifest.json").exists():
        return []
    own = Run.open(weights.parent).recipe
    released = numbered(weights.parent, EARLIER)
    earlier = [load_recipe(weights.parent / name) for name in released] if released else recipes_of_teacher(own)
    return [*earlier, own]


def add_search(search: Path, folder: Path, student: str) -> None:
    """Write search.toml, search.json and search.md of the search that found `student`.

    Raises:
        EdgekdError: there is no search, or another student is its best.
    """
    recipe = load_recipe(search / "search.toml")
    try:
        results, page = (search / "results.json").read_text(), (search / "results.md").read_text()
        outcome = Outcome.model_validate_json(results)
    except (OSError, ValidationError) as error:
        raise UsageError(f"{search} holds no finished search: {str(error).splitlines()[0]}") from error
    best = outcome.trials[0].candidate.student if outcome.trials else "none"
    if best != student:
        raise UsageError(f"the best student of {search} is {best}, and the run trained {student}")
    write_text(folder / SEARCH_RECIPE, to_toml(released_recipe(recipe)))
    write_text(folder / SEARCH_RESULTS, results)
    write_text(folder / SEARCH_PAGE, page)


def release_student(
    run: Run,
    folder: Path,
    about: tuple[str, ...],
    *,
    search: Path | None,
    pot: bool,
    episodes: int,
    ways: tuple[int, ...],
) -> str:
    """Write every file of the student's folder; return the verdict on it.

    Raises:
        EdgekdError: the run is not finished or cannot be released, or its data are not at hand.
    """
    for stale in SEARCH_FILES:
        (folder / stale).unlink(missing_ok=True)
    if search:
        add_search(search, folder, run.recipe.student.backbone)
    release(run, folder, about, pot=pot)
    report = full_report(folder, episodes, ways)
    write_text(folder / REPORT, report.to_json())
    write_text(folder / CARD, model_card(ZooModel(folder.name, folder)))
    return report.verdict


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--about", multiple=True, required=True, help="What it was trained on; further lines follow.")
@click.option("--pot", is_flag=True, help="Export power-of-two scales.")
@click.option("--way", "ways", type=int, multiple=True, help="Measure episodes of so many classes too.")
@click.option("--search", type=click.Path(path_type=Path), help="Folder of the search that found the student.")
@click.option("--teacher", is_flag=True, help="Release its teacher alone, to distill from.")
@click.option("--episodes", default=EPISODES, show_default=True)
@click.option("--into", type=click.Path(path_type=Path), default=MODELS, help="Zoo to add it to.  [default: models/]")
def main(
    run_folder: Path,
    name: str,
    *,
    about: tuple[str, ...],
    ways: tuple[int, ...],
    search: Path | None,
    episodes: int,
    into: Path,
    pot: bool,
    teacher: bool,
) -> None:
    """Make the folder NAME of the finished run in RUN."""
    folder = into / TEACHERS / name if teacher else into / name
    try:
        run = Run.open(run_folder)
        if teacher:
            release_teacher(run, folder, about)
        else:
            verdict = release_student(run, folder, about, search=search, pot=pot, episodes=episodes, ways=ways)
            print(f"{folder}: verdict {verdict}")
    except EdgekdError as error:
        sys.exit(f"Error: {error}")
    if into == MODELS:
        subprocess.run([sys.executable, Path(__file__).with_name("model_cards.py")], check=True)


if __name__ == "__main__":
    main()
