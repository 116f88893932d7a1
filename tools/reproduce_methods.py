"""Train every recipe of `models/recipes/methods` on every set of `models/recipes/sets`, and write the table of results.

Usage: python tools/reproduce_methods.py --data mnist:FOLDER --data cifar10:FOLDER --data omniglot:FOLDER --work FOLDER
Each result is written when its run ends; the same command goes on where it stopped. `--table` only writes the page.
Exit codes: 0 all is done, or as much as `--minutes` allowed; 1 a run failed, the others were made; 2 usage.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from edgekd.distill.inspect import inspect_run
from edgekd.distill.methods import adapt_recipe, needs_of
from edgekd.distill.pipeline import run_distillation, run_teaching
from edgekd.distill.session import Silent, open_session
from edgekd.errors import EdgekdError, unknown
from edgekd.files import write_text
from edgekd.manifest import StageResult
from edgekd.measures import activation_error
from edgekd.recipe import Recipe, load_recipe
from edgekd.run import Run, load_images
from edgekd.significance import LEVEL, holm, welch_test

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "models" / "recipes"
RESULTS, PAGE = RECIPES / "results.jsonl", RECIPES / "README.md"
SCRATCH, PLAIN = "scratch", "kd"  # what every method is compared with
SEEDS = (0, 1, 2)
# The student's embedding takes the place of the teacher's: R2 says how well.
REGRESSIONS = ("feature_mse-direct", "feature_mse-direct-fast", "feature_mse-direct-adamw")
# Each set by its recipe, with the methods that run on it; None: all but those made for one set.
SETS: Mapping[str, tuple[str, ...] | None] = {
    "mnist": None,
    "cifar10": None,
    "omniglot": None,
    "mnist-mlp": (SCRATCH, PLAIN, "rkd-da", "triplet", "triplet-kd-rkd", "triplet-kd-rkd-collapse"),
    "cifar10-features": (SCRATCH, PLAIN, *REGRESSIONS, "feature_bce", "feature_bce-fast", "feature_bce-adamw"),
}
Job = tuple[str, str, int]  # set, method, seed
SPECIAL = {*REGRESSIONS, "feature_bce-fast", "feature_bce-adamw"}
INTRODUCTION = """# Distillation methods, compared

Written by `python tools/reproduce_methods.py`, which trains each recipe of `models/recipes/methods` on each set of
`models/recipes/sets` (they state the schedule: short ones, the same for every method) with the seeds 0, 1 and 2.
One of them:

    edgekd distill --recipe models/recipes/sets/mnist.toml --recipe models/recipes/methods/kd.toml --data mnist:FOLDER

A cell is the mean of the seeds ± their standard deviation in points (%), and in brackets the difference to the student
from scratch and to plain soft targets (`kd`). **Bold** differences are beyond noise: Welch's t-test over the seeds,
corrected after Holm for all comparisons of a column, p < 0.05. That is strict for three seeds: what is not bold may be
real all the same. MNIST and CIFAR-10: accuracy of the head on test images. Omniglot: 20-way 1-shot on unseen alphabets.
The schedules are far from those of the papers, and no method was tuned.

`triplet-kd-rkd-collapse`: a published sum of triplets, soft targets and relations fell to 52 to 59 % where the student
from scratch had 80 to 95 %. Its formulas, read as printed, add up all pairs and triples of a batch and divide distances
by their sum: beside a cross-entropy of the same batch the angles then weigh b^2 times what they do as means, and the
distances next to nothing. RKD does not change when the logits are turned, moved or scaled, so it cannot say which logit
belongs to which class, and a student whose angles outweigh all else guesses. With the weights of its paper on means
(`triplet-kd-rkd`) the same sum learns. Omniglot bears this out: there no head is asked, embeddings alone are compared,
and the sum as printed comes out ahead of the student from scratch. What the published code did is not known.

`cifar10-features`: a published regression of ReLU features failed (R2 far below 0, accuracy of guessing), and binary
cross-entropy to a sigmoid connector in its place worked. Here it is the step, not the loss: with plain SGD at the
published rate of 0.001 neither comes far, cross-entropy less than regression, since a mean over d dimensions divides
the gradient by d and the schedule ends first. At a hundred times the rate (`-fast`), or by AdamW, whose steps do not
depend on the scale of the loss (`-adamw`), both work. That cross-entropy works where regression fails was not found.

`at` and `crd` lose on MNIST by their weights, not by clipping (seed 0 without `clip_norm`: 91.9 % and, with all other
images as negatives, 81.9 %). The published 1000 of `at` weighs a mean over 64 positions and more; the maps compared
here have 49, 9 and 1, so that it outweighs the labels, and `at-light` has 10. `crd` asks this student, an embedding of
8 numbers, to tell 8,000 images apart; its term stays near 12 nats beside a cross-entropy of 0.3, and `crd-light` takes
a tenth of it.

On the 771 training characters of Omniglot what sets each image beside its teacher's output, or pairs of images beside
its teacher's pairs, gains most. `adversarial` and `mmd` compare whole batches, not images, and say nothing of which
image is which; `adversarial` scatters most of all. The hardest of 128 negatives is nearly the same character:
`triplet-hard` falls together, as FaceNet warns; random ones do not.
"""


@dataclass(frozen=True)
class Result:
    """One run: the accuracy of its student, a fraction in 0..1, and that of the teacher where there is one."""

    data: str
    method: str
    seed: int
    accuracy: float
    ci95: float
    teacher: float | None
    parameters: int
    seconds: float
    r2: float | None = None


def read_results() -> list[Result]:
    """Return what is there."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return [Result(**json.loads(line)) for line in lines]


def jobs(data: Sequence[str], chosen: Sequence[str], seeds: Sequence[int]) -> Iterator[Job]:
    """Yield (set, method, seed) of the sets whose `data` are at hand, seed by seed: an early stop compares all."""
    sets = [name for name in SETS if load_recipe(RECIPES / "sets" / f"{name}.toml").data.spec in data]
    for seed in seeds:
        for name in sets:
            methods = SETS[name] or [method for method in method_names() if method not in SPECIAL]
            yield from ((name, method, seed) for method in methods if not chosen or method in chosen)


def method_names() -> list[str]:
    """Return the recipes, those that all others are compared with first."""
    names = sorted(path.stem for path in (RECIPES / "methods").glob("*.toml"))
    return [SCRATCH, PLAIN, *(name for name in names if name not in {SCRATCH, PLAIN})]


def recipe_of(data: str, method: str, seed: int, spec: str) -> Recipe:
    """Return the recipe of one run."""
    files = [RECIPES / "sets" / f"{data}.toml", RECIPES / "methods" / f"{method}.toml"]
    return load_recipe(files, [f"data.spec={json.dumps(spec)}", f"seed={seed}"])


def with_shared_teacher(recipe: Recipe, plain: Recipe, work: Path) -> Recipe:
    """Name the teacher's file where it is the plain recipe's; one that a method trains its own way is trained there."""
    adapted = adapt_recipe(recipe.model_copy(update={"student": plain.student}))
    needs = needs_of(recipe.distill.method, recipe.distill.options)
    if adapted.teacher != plain.teacher or needs.online or not needs.teacher:
        return recipe
    folder = work / f"teacher-{plain.seed}"
    session = open_session(plain.precision, plain.seed, reporter=Silent())
    weights = run_teaching(plain, folder, session).stage_file("teach")
    return recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"weights": weights})})


def score(result: StageResult) -> tuple[float, float]:
    """Return the accuracy and its interval: the head's, or that of episodes."""
    if result.classification:
        return result.classification.accuracy, result.classification.ci95
    return result.accuracy[0].mean, result.accuracy[0].ci95


def run(data: str, method: str, seed: int, spec: str, work: Path) -> Result:
    """Train one recipe, or go on with it, and return its result; its folder is removed."""
    began, folder = time.monotonic(), work / data / f"{method}-{seed}"
    recipe, plain = recipe_of(data, method, seed, spec), recipe_of(data, PLAIN, seed, spec)
    recipe = with_shared_teacher(recipe, plain, work / data)
    session = open_session(recipe.precision, seed, reporter=Silent())
    made = run_distillation(recipe, folder, session)
    stages = made.manifest.stages
    last = stages.get("head") or stages["distill"]
    accuracy, ci95 = score(last.result)
    teacher = round(score(stages["teach"].result)[0], 5) if "teach" in stages else None
    r2 = round(agreement(made), 3) if method in REGRESSIONS else None
    shutil.rmtree(folder)
    seconds = round(time.monotonic() - began, 1)
    parameters = last.result.parameters
    return Result(data, method, seed, round(accuracy, 5), round(ci95, 5), teacher, parameters, seconds, r2)


def agreement(made: Run) -> float:
    """Return R2 between the embeddings of the student and those of the teacher, on test images."""
    teacher, student = inspect_run(made, load_images(made), ["teach", "distill"]).stages
    return activation_error(student.embeddings, teacher.embeddings).r2


def table(results: Sequence[Result]) -> str:
    """Return the page."""
    sets = [name for name in SETS if any(row.data == name for row in results)]
    cells = {name: column([row for row in results if row.data == name]) for name in sets}
    heads = [f"{name} (up to {len({row.seed for row in results if row.data == name})} seeds)" for name in sets]
    lines = [f"| method | {' | '.join(heads)} |", f"|---|{'---|' * len(sets)}"]
    lines += [f"| `{name}` | {' | '.join(cells[data].get(name, '') for data in sets)} |" for name in method_names()]
    teachers = [f"{name} {teacher_line([row for row in results if row.data == name])}" for name in sets]
    return f"{INTRODUCTION}\nTeachers: {'; '.join(teachers)}.\n\n" + "\n".join(lines) + "\n"


def teacher_line(rows: Sequence[Result]) -> str:
    """Return the teacher of plain soft targets: mean of the seeds."""
    found = [row.teacher for row in rows if row.method == PLAIN and row.teacher is not None]
    return f"{100 * statistics.fmean(found):.1f} %" if found else "unknown"


def column(rows: Sequence[Result]) -> Mapping[str, str]:
    """Return the cell of each method."""
    scores: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: row.seed):
        scores.setdefault(row.method, []).append(100 * row.accuracy)
    beyond = noticed(scores)
    return {method: cell(method, scores, beyond) + r2_text(rows, method) for method in scores}


def r2_text(rows: Sequence[Result], method: str) -> str:
    """Return the mean R2 of a method's seeds where it was measured."""
    found = [row.r2 for row in rows if row.method == method and row.r2 is not None]
    return f", R2 {statistics.fmean(found):.2f}" if found else ""


def noticed(scores: Mapping[str, Sequence[float]]) -> set[tuple[str, str]]:
    """Return the pairs (method, compared with) whose difference is beyond noise."""
    pairs = [
        (method, other)
        for other in (SCRATCH, PLAIN)
        for method in scores
        if method != other and min(len(scores[method]), len(scores.get(other, ()))) > 1
    ]
    tested = [(pair, welch_test(scores[pair[0]], scores[pair[1]])) for pair in pairs]
    known = [(pair, p) for pair, p in tested if p is not None]
    return {pair for (pair, _), p in zip(known, holm([p for _, p in known]), strict=True) if p < LEVEL}


def cell(method: str, scores: Mapping[str, Sequence[float]], beyond: set[tuple[str, str]]) -> str:
    """Return mean ± spread (difference to scratch, to plain soft targets)."""
    own = scores[method]
    spread = f" ± {statistics.stdev(own):.1f}" if len(own) > 1 else ""
    differences = [
        difference(statistics.fmean(own) - statistics.fmean(scores[other]), bold=(method, other) in beyond)
        if other in scores and other != method
        else "-"
        for other in (SCRATCH, PLAIN)
    ]
    return f"{statistics.fmean(own):.1f}{spread} ({', '.join(differences)})"


def difference(points: float, *, bold: bool) -> str:
    """Return a signed difference."""
    return f"**{points:+.1f}**" if bold else f"{points:+.1f}"


def wanted(specs: Sequence[str], chosen: Sequence[str], seeds: int) -> list[Job]:
    """Return the runs that the options ask for, done or not.

    Raises:
        UsageError: a name is unknown, no set is given, or nothing is to run.
    """
    known = {load_recipe(RECIPES / "sets" / f"{name}.toml").data.spec for name in SETS}
    names = [spec.partition(":")[0] for spec in specs]
    messages = [unknown("set", name, known) for name in names if name not in known]
    messages += [unknown("method", name, method_names()) for name in chosen if name not in method_names()]
    if not specs:
        messages = ["say with --data NAME:PATH where a set lies, or --table to write the page alone"]
    found = [] if messages else list(jobs(names, chosen, range(seeds)))
    if not found:
        raise click.UsageError("; ".join(messages) or f"{', '.join(names)} does not run {', '.join(chosen)}")
    return found


def train(todo: Sequence[Job], specs: Sequence[str], work: Path, minutes: float) -> list[str]:
    """Run what has no result yet and write each; return what failed."""
    by_name = {spec.partition(":")[0]: spec for spec in specs}
    done = {(row.data, row.method, row.seed) for row in read_results()}
    began, failed = time.monotonic(), []
    for data, method, seed in (job for job in todo if job not in done):
        if time.monotonic() - began > 60 * minutes:
            break
        try:
            result = run(data, method, seed, by_name[data.partition("-")[0]], work)
        except EdgekdError as error:
            click.echo(f"{data} {method} {seed}: {error}", err=True)
            failed.append(f"{data} {method} {seed}")
            continue
        with RESULTS.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        click.echo(f"{data} {method} seed {seed}: {100 * result.accuracy:.1f} % in {result.seconds:.0f} s")
    return failed


@click.command()
@click.option("--data", "specs", multiple=True, metavar="NAME:PATH", help="Where a set lies; one option a set.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/methods"), show_default=True)
@click.option("--only", "chosen", multiple=True, metavar="METHOD", help="Run these recipes only.")
@click.option("--seeds", type=click.IntRange(min=1), default=len(SEEDS), show_default=True)
@click.option("--minutes", type=float, default=600, show_default=True, help="Start no run after this time.")
@click.option("--table", "only_table", is_flag=True, help="Write the page from the results there are.")
@click.option("--check", is_flag=True, help="Only say whether the page is that of the results.")
def main(
    specs: tuple[str, ...],
    work: Path,
    chosen: tuple[str, ...],
    seeds: int,
    minutes: float,
    *,
    only_table: bool,
    check: bool,
) -> None:
    """Run what is missing, then write the page."""
    if check:
        if PAGE.read_text() != table(read_results()):
            raise click.ClickException(f"{PAGE} is not of these results; run tools/reproduce_methods.py --table")
        return
    failed = [] if only_table else train(wanted(specs, chosen, seeds), specs, work.resolve(), minutes)
    write_text(PAGE, table(read_results()))
    click.echo(f"wrote {PAGE}")
    if failed:
        raise click.ClickException(f"{len(failed)} failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
