"""`edgekd distill`: from images and a hardware profile to a quantized student."""

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
    """Train a teacher, distill a student that fits the profile, quantize it.

    The same command in the same folder goes on with an unfinished run and does nothing to a finished one.
    """
    from edgekd.cli._launch import launch

    launch(ctx, options, "distill")
