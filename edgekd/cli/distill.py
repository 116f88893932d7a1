"""`edgekd distill`: from images and a hardware profile to a quantized student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekd.cli._recipe_options import data_options, learner_names, run_options, teacher_options


@click.command()
@data_options
@teacher_options
@click.option(
    "--teacher-weights", type=click.Path(path_type=Path), help="A teacher.safetensors of another run: do not train one."
)
@click.option(
    "--assistant",
    metavar="BACKBONE",
    help="Distill this network first, and the student from it; auto takes one of middle size, none has none.  [default: none]",
)
@click.option(
    "--student",
    metavar="BACKBONE",
    help="Student, for example conv4-64, conv4:48-64-64-96.  [default: auto, the widest Conv4 that fits]",
)
@click.option("--method", metavar="SUM", help='Distillation loss, for example "ce + 0.5 kd".')
@click.option(
    "--meta",
    metavar="NAME",
    help=f"How the student is fine-tuned after distilling: {', '.join(learner_names())}.  [default: meta_baseline]",
)
@click.option("--no-meta", is_flag=True, help="Do not fine-tune after distilling.")
@click.option("--no-baseline", is_flag=True, help="Do not train the student from scratch for comparison.")
@click.option("--ptq", is_flag=True, help="Quantize by calibration only, without quantization-aware training.")
@click.option("--pot", is_flag=True, help="Quantize with power-of-two scales only.")
@click.option("--no-quantize", is_flag=True, help="End with the float student: to compare methods, not to export.")
@run_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - click hands over options of any type
    """Train a teacher, distill a student that fits the profile, quantize it.

    The same command in the same folder goes on with an unfinished run and does nothing to a finished one.
    """
    if options["meta"] and options["no_meta"]:
        raise click.UsageError("--meta says how to fine-tune, --no-meta not to; choose one of them")
    from edgekd.cli._launch import launch

    launch(ctx, options, "distill")
