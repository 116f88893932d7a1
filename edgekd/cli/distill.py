"""`edgekd distill`: from images and a hardware profile to a quantized student."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgekd.run import Run

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}

# Options that set a key of the recipe: option name -> dotted key.
RECIPE_OPTIONS = {
    "profile": "profile",
    "data": "data.spec",
    "size": "data.size",
    "channels": "data.channels",
    "teacher": "teacher.backbone",
    "teacher_weights": "teacher.weights",
    "assistant": "assistant.backbone",
    "student": "student.backbone",
    "method": "distill.method",
    "seed": "seed",
    "precision": "precision",
}


def parse_duration_s(_ctx: click.Context, _param: click.Parameter, text: str | None) -> float | None:
    """Read "90s", "20m" or "1.5h" as seconds."""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS_S else (text, "s")
    try:
        seconds = float(number) * UNITS_S[unit]
    except ValueError:
        seconds = -1
    if not seconds > 0:
        raise click.BadParameter(f"'{text}' is not a duration such as 90s, 20m or 1.5h")
    return seconds


@click.command()
@click.option(
    "--profile", metavar="NAME|FILE", help="Hardware profile (`edgekd profiles list`).  [default: tu_accel_150k]"
)
@click.option(
    "--data", metavar="SPEC", help="Image set: NAME, NAME:PATH or folder:PATH (`edgekd data list`).  [default: glyphs]"
)
@click.option("--size", type=int, help="Resize images to SIZE x SIZE pixels.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Convert images to grayscale or RGB.")
@click.option(
    "--teacher",
    metavar="BACKBONE",
    help="Teacher, for example resnet12, resnet12:24, resnet18, timm:NAME.  [default: resnet12:24]",
)
@click.option(
    "--teacher-weights", type=click.Path(path_type=Path), help="A teacher.safetensors of another run: do not train one."
)
@click.option(
    "--assistant",
    metavar="BACKBONE",
    help="Distill this network first, and the student from it; auto takes one of middle size.  [default: none]",
)
@click.option(
    "--student",
    metavar="BACKBONE",
    help="Student, for example conv4-64, conv4:48-64-64-96.  [default: auto, the widest Conv4 that fits]",
)
@click.option("--method", metavar="SUM", help='Distillation loss, for example "ce + 0.5 kd".')
@click.option("--recipe", type=click.Path(path_type=Path), help="TOML file with any keys of a run's recipe.toml.")
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set one key of the recipe, for example distill.epochs=30.",
)
@click.option("--ptq", is_flag=True, help="Quantize by calibration only, without quantization-aware training.")
@click.option("--pot", is_flag=True, help="Quantize with power-of-two scales only.")
@click.option("--no-baseline", is_flag=True, help="Do not train the student from scratch for comparison.")
@click.option("--no-meta", is_flag=True, help="Do not fine-tune on episodes after distilling.")
@click.option("--seed", type=int, help="Seed of everything random.  [default: 0]")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="Arithmetic of float training.  [default: auto]"
)
@click.option("--run", "folder", type=click.Path(path_type=Path), help="Run folder.  [default: runs/DATA-STUDENT-HASH]")
@click.option(
    "--time-budget",
    metavar="DURATION",
    callback=parse_duration_s,
    help="Stop cleanly in time (90s, 20m, 1h); the same command goes on.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and say which.")
@click.option("--cpu", is_flag=True, help="Do not use a GPU.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    recipe: Path | None,
    assignments: tuple[str, ...],
    folder: Path | None,
    time_budget: float | None,
    skip_bad: bool,
    cpu: bool,
    **options: Any,  # noqa: ANN401 - click hands over options of any type
) -> None:
    """Train a teacher, distill a student that fits the profile, quantize it.

    The same command in the same folder goes on with an unfinished run and does nothing to a finished one.
    """
    began = time.monotonic()
    from rich.console import Console

    from edgekd.cli import EXIT_INTERRUPTED
    from edgekd.cli._extras import require_training
    from edgekd.cli._training import TerminalReporter, print_stages
    from edgekd.recipe import load_recipe

    resolved = load_recipe(recipe, [*assignments, *_assignments(options)])
    require_training()
    from edgekd.distill.pipeline import run_distillation
    from edgekd.distill.session import Stopped, open_session

    console = Console()
    with TerminalReporter(console) as reporter:
        session = open_session(resolved.precision, resolved.seed, time_budget, reporter, cpu=cpu)
        session.deadline.started = began  # importing torch took some of the budget already
        if not session.is_main:
            console.quiet = True
        try:
            run = run_distillation(resolved, folder, session, skip_bad=skip_bad)
        except Stopped as stopped:
            console.print(f"Stopped: {stopped}. Everything is saved; the same command goes on.", soft_wrap=True)
            ctx.exit(EXIT_INTERRUPTED if stopped.by_signal else 0)
    if session.is_main:
        print_stages(console, (record.result for record in run.manifest.stages.values()))
        _print_end(console, run, _write_page(run))


def _assignments(options: dict[str, Any]) -> list[str]:
    """Translate options into `key=value` assignments of the recipe."""
    given = [
        f"{RECIPE_OPTIONS[name]}={_toml(value)}"
        for name, value in options.items()
        if name in RECIPE_OPTIONS and value is not None
    ]
    flags = {
        "ptq": 'quantize.method="ptq"',
        "pot": 'quantize.scale="power_of_two"',
        "no_baseline": "baseline.enabled=false",
        "no_meta": "meta.enabled=false",
    }
    return given + [assignment for flag, assignment in flags.items() if options[flag]]


def _toml(value: object) -> str:
    import json

    text = str(value)
    return text if isinstance(value, int) or text in {"1", "3"} else json.dumps(text)


def _write_page(run: Run) -> Path:
    from edgekd.files import write_text
    from edgekd.report.page import training_page

    page = run.folder / "report.html"
    results = [record.result for record in run.manifest.stages.values()]
    write_text(page, training_page(run.metrics(), results, title=run.folder.name))
    return page


def _print_end(console: Any, run: Run, page: Path) -> None:  # noqa: ANN401 - rich is imported late
    console.print(f"Run folder {run.folder}, page of plots {page}", soft_wrap=True, highlight=False)
    console.print("Next: edgekd export --int8", highlight=False)
