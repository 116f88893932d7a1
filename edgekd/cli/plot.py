"""`edgekd plot`: what the networks of a run make of its test images, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgekd.run import Run

_file = click.Path(path_type=Path)


@click.command()
@click.argument("folder", metavar="[RUN]", required=False, type=_file)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="STAGE",
    help="Any stage with a network, from teach to quantize; may be repeated.  [default: all that are finished]",
)
@click.option("--output", "-o", type=_file, help="Page to write.  [default: plots.html in the run folder]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which images, and the map.")
def command(folder: Path | None, stages: tuple[str, ...], output: Path | None, seed: int) -> None:
    """Draw a run's test embeddings (t-SNE) and confusions; measure its students against the teacher.

    RUN is the latest under runs/ where none is named. With the page come R2, MSE and MAE between the embeddings of
    student and teacher, and how well calibrated the teacher's soft targets are at each temperature.
    """
    from edgekd.cli._extras import require_training
    from edgekd.run import Run, latest_run

    require_training()
    run = Run.open(folder) if folder else latest_run()
    path = output or run.folder / "plots.html"
    _write(run, stages, path, seed)
    click.echo(f"wrote {path}")


def _write(run: Run, stages: tuple[str, ...], path: Path, seed: int) -> None:
    from edgekd.cli._outputs import require_writable
    from edgekd.distill.inspect import inspect_run
    from edgekd.files import write_text
    from edgekd.inspection import agreements, calibration, pictures
    from edgekd.measures import TEMPERATURES
    from edgekd.report.inspection import inspection_page
    from edgekd.run import load_images

    require_writable({"output": path}, ())
    inspection = inspect_run(run, load_images(run), stages)
    shot, head = max(run.recipe.test.shots), run.recipe.test.head
    page = inspection_page(
        list(pictures(inspection, shot=shot, head=head, seed=seed)),
        agreements(inspection, seed),
        calibration(inspection, TEMPERATURES),
        title=f"Inside {run.folder.name}",
        shot=shot,
        head=head,
    )
    write_text(path, page)
