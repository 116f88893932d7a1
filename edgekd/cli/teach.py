"""`edgekd teach`: a teacher alone, by any few-shot learner."""

from __future__ import annotations

from typing import Any

import click

from edgekd.cli._recipe_options import data_options, run_options, student_options, teacher_options


@click.command()
@data_options
@teacher_options
@student_options
@run_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - click hands over options of any type
    """Train a teacher and nothing else.

    The run's teacher.safetensors is what `edgekd distill --teacher-weights` takes. `edgekd distill` with the same
    options goes on with the run itself: those of what comes after the teacher are kept for it.
    """
    from edgekd.cli._launch import launch

    launch(ctx, options, "teach")
