"""`edgekd search`: the student that does best within a profile's limits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli import stopped_code
from edgekd.cli._recipe_options import data_options, run_options, teacher_options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from edgekd.search.results import Outcome
    from edgekd.search.worker import Searched


@click.command()
@data_options
@teacher_options
@click.option("--method", metavar="SUM", help='Distillation loss, for example "ce + 0.5 kd".')
@click.option("--pot", is_flag=True, help="Quantize with power-of-two scales only.")
@click.option("--ptq", is_flag=True, help="Quantize by calibration only, without quantization-aware training.")
@click.option("--trials", type=int, help="How many candidates are trained, by all workers together.  [default: 20]")
@click.option(
    "--storage", metavar="FILE|URL", help="Where workers meet: a journal file or a database.  [default: in the folder]"
)
@click.option("--name", metavar="NAME", help="The search's name in the storage.  [default: from the recipe]")
@run_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - click hands over options of any type
    """Find the widths, depth and bit-width of the student that does best on validation classes and fits the profile.

    What `edgekd verify` would fail is never trained. The others are distilled briefly, from one teacher, as the section
    [search] of the recipe says. The same command goes on with a search, and several of them, on any number of hosts
    that share the folder, work on it together; a database (--storage) needs no shared folder.
    """
    began = time.monotonic()
    from edgekd.cli._console import open_console
    from edgekd.cli._extras import require_training
    from edgekd.cli._recipe_options import assignments_of
    from edgekd.cli._training import TerminalReporter
    from edgekd.errors import UsageError
    from edgekd.recipe import load_recipe

    for option in ("storage", "name"):
        if options[option] == "":
            raise UsageError(f"--{option} is empty; give it a value, or leave it out")
    assignments = [*options["assignments"], *assignments_of(options)]
    recipe = load_recipe(options["recipe"], assignments)
    chosen = {text.partition("=")[0].strip() for text in assignments}
    require_training("optuna")
    from edgekd.distill.session import open_session
    from edgekd.search.worker import Place, run_search

    console = open_console()
    place = Place(options["folder"], options["storage"], options["name"])
    with TerminalReporter(console) as reporter:
        session = open_session(recipe.precision, recipe.seed, options["time_budget"], reporter, cpu=options["cpu"])
        session.deadline.started = began  # importing torch took some of the budget already
        searched = run_search(recipe, place, session, skip_bad=options["skip_bad"], chosen=chosen)
    _print(console, searched)
    if searched.stopped:
        ctx.exit(stopped_code(by_signal=searched.stopped.by_signal))


def _print(console: Console, searched: Searched) -> None:
    from edgekd.search.page import remarks

    outcome, folder = searched.outcome, searched.folder
    if outcome.trials:
        console.print(_table(outcome))
    for line in remarks(outcome):
        console.print(line, soft_wrap=True, markup=False)
    if searched.stopped:
        console.print(f"Stopped: {searched.stopped}. Everything is saved; the same command goes on.", soft_wrap=True)
    if outcome.trials:
        weights = folder.teacher / "teacher.safetensors"
        taught = f" --teacher-weights {weights}" if weights.exists() else ""
        console.print(f"Results {folder.results}, to read {folder.page}", soft_wrap=True, markup=False)
        console.print(f"Next: edgekd distill --recipe {folder.best}{taught}", soft_wrap=True, markup=False)


def _table(outcome: Outcome) -> Table:
    from rich.table import Table

    from edgekd.search.page import header, rows

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in header(outcome):
        table.add_column(heading, no_wrap=heading == "student", justify="left" if heading == "student" else "right")
    for row in rows(outcome):
        table.add_row(*row)
    return table
