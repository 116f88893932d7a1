"""Options that `distill` and `teach` share, and how options become keys of the recipe."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path

import click

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}

Decorator = Callable[[Callable[..., None]], Callable[..., None]]

# Options that set a key of the recipe: option name -> dotted key.
RECIPE_OPTIONS = {
    "profile": "profile",
    "data": "data.spec",
    "size": "data.size",
    "channels": "data.channels",
    "teacher": "teacher.backbone",
    "teacher_weights": "teacher.weights",
    "learner": "teacher.learner",
    "assistant": "assistant.backbone",
    "student": "student.backbone",
    "student_weights": "student.weights",
    "method": "distill.method",
    "meta": "meta.learner",
    "trials": "search.trials",
    "seed": "seed",
    "precision": "precision",
}

# Flags that set a key: option name -> assignment.
RECIPE_FLAGS = {
    "ptq": 'quantize.method="ptq"',
    "pot": 'quantize.scale="power_of_two"',
    "no_baseline": "baseline.enabled=false",
    "no_meta": "meta.enabled=false",
    "no_quantize": "quantize.enabled=false",
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


def learner_names() -> list[str]:
    """Return the learners there are, by their files: importing them would load torch."""
    folder = Path(__file__).parents[1] / "distill" / "learners"
    return [module.name for module in pkgutil.iter_modules([str(folder)]) if module.name != "base"]


def assignments_of(options: Mapping[str, object]) -> list[str]:
    """Translate options into `key=value` assignments of the recipe."""
    given = [
        f"{RECIPE_OPTIONS[name]}={_toml(value)}"
        for name, value in options.items()
        if name in RECIPE_OPTIONS and value is not None
    ]
    return given + [assignment for flag, assignment in RECIPE_FLAGS.items() if options.get(flag)]


def _toml(value: object) -> str:
    import json

    text = str(value)
    return text if isinstance(value, int) or text in {"1", "3"} else json.dumps(text)


def _together(*decorators: Decorator) -> Decorator:
    """Return one decorator in which the first of `decorators` comes first in the help."""
    return lambda function: reduce(lambda inner, decorator: decorator(inner), reversed(decorators), function)


data_options = _together(
    click.option(
        "--profile", metavar="NAME|FILE", help="Hardware profile (`edgekd profiles list`).  [default: tu_accel_150k]"
    ),
    click.option(
        "--data",
        metavar="SPEC",
        help="Image set: NAME, NAME:PATH or folder:PATH (`edgekd data list`).  [default: glyphs]",
    ),
    click.option("--size", type=int, help="Resize images to SIZE x SIZE pixels."),
    click.option("--channels", type=click.Choice(["1", "3"]), help="Convert images to grayscale or RGB."),
)

teacher_options = _together(
    click.option(
        "--teacher",
        metavar="BACKBONE",
        help="Teacher, for example resnet12, resnet18, timm:NAME (`edgekd backbones`).  [default: resnet12:24]",
    ),
    click.option(
        "--teacher-weights",
        type=click.Path(path_type=Path),
        help="A teacher.safetensors of another run: do not train one.",
    ),
    click.option(
        "--learner",
        metavar="NAME",
        help=f"How the teacher learns: {', '.join(learner_names())}.  [default: classifier]",
    ),
)

student_options = _together(
    click.option(
        "--assistant",
        metavar="BACKBONE",
        help="Distill this network first, and the student from it; auto takes one of middle size.  [default: none]",
    ),
    click.option(
        "--student",
        metavar="BACKBONE",
        help="Student, for example conv4-64, conv4:48-64-64-96.  [default: auto, the widest Conv4 that fits]",
    ),
    click.option(
        "--student-weights",
        type=click.Path(path_type=Path),
        help="A float student of another run to start from; with --set student.new_head=true its backbone alone.",
    ),
    click.option(
        "--method", metavar="SUM", help='Distillation loss, for example "ce + 0.5 kd"; `edgekd methods` lists terms.'
    ),
    click.option(
        "--meta",
        metavar="NAME",
        help=f"How the student is fine-tuned after distilling: {', '.join(learner_names())}.  [default: meta_baseline]",
    ),
    click.option("--no-meta", is_flag=True, help="Do not fine-tune after distilling."),
    click.option("--no-baseline", is_flag=True, help="Do not train the student from scratch for comparison."),
    click.option("--ptq", is_flag=True, help="Quantize by calibration only, without quantization-aware training."),
    click.option("--pot", is_flag=True, help="Quantize with power-of-two scales only."),
    click.option(
        "--reuse",
        metavar="RUN",
        type=click.Path(path_type=Path),
        help="Take over from this run the stages that would come out the same: to quantize, fine-tune or distill anew.",
    ),
    click.option(
        "--answers",
        metavar="FOLDER",
        type=click.Path(path_type=Path, file_okay=False),
        help="With distill.views: keep what the teacher says here, so that other students need not ask it again.",
    ),
    click.option("--no-quantize", is_flag=True, help="End with the float student: to compare methods, not to export."),
)

run_options = _together(
    click.option(
        "--recipe",
        type=click.Path(path_type=Path),
        multiple=True,
        help="TOML file with any keys of a run's recipe.toml; of several, the later wins.",
    ),
    click.option(
        "--set",
        "assignments",
        metavar="KEY=VALUE",
        multiple=True,
        help="Set one key of the recipe, for example distill.epochs=30, teacher.schedule=step (cosine, step, "
        "inverse_sqrt), test.head=euclid (centred, cosine, euclid, logistic).",
    ),
    click.option("--seed", type=int, help="Seed of everything random.  [default: 0]"),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16"]),
        help="Arithmetic of float training.  [default: auto]",
    ),
    click.option(
        "--run", "folder", type=click.Path(path_type=Path), help="Run folder.  [default: runs/DATA-STUDENT-HASH]"
    ),
    click.option(
        "--time-budget",
        metavar="DURATION",
        callback=parse_duration_s,
        help="Stop cleanly in time (90s, 20m, 1h), with exit code 75 where work is left; the same command goes on.",
    ),
    click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and say which."),
    click.option("--cpu", is_flag=True, help="Do not use a GPU."),
    click.option("--compile", is_flag=True, help="Train through torch.compile: faster in long stages on a GPU."),
)
