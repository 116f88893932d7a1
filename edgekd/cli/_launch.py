"""Training started from a terminal: the recipe, the session, and what is printed at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import click

from edgekd.cli import stopped_code
from edgekd.cli._console import open_console
from edgekd.cli._extras import require_training
from edgekd.cli._recipe_options import assignments_of
from edgekd.cli._training import TerminalReporter, print_stages
from edgekd.recipe import load_recipe
from edgekd.run import RUNS_FOLDER, Run


def launch(ctx: click.Context, options: Mapping[str, Any], command: Literal["distill", "teach"]) -> None:
    """Train what `command` asks for, show how it goes, print what came of it."""
    if options["meta"] and options["no_meta"]:
        raise click.UsageError("--meta says how to fine-tune, --no-meta not to; choose one of them")
    began = time.monotonic()
    assignments = [*options["assignments"], *assignments_of(options)]
    recipe = load_recipe(options["recipe"], assignments)
    chosen = {text.partition("=")[0].strip() for text in assignments}
    require_training()
    from edgekd.distill.pipeline import run_distillation, run_teaching
    from edgekd.distill.session import Stopped, open_session

    train = run_distillation if command == "distill" else run_teaching
    console = open_console()
    with TerminalReporter(console) as reporter:
        session = open_session(
            recipe.precision,
            recipe.seed,
            options["time_budget"],
            reporter,
            cpu=options["cpu"],
            compile_networks=options["compile"],
            answers=options["answers"],
        )
        session.deadline.started = began  # importing torch took some of the budget already
        if not session.is_main:
            console.quiet = True
        try:
            run = train(
                recipe,
                options["folder"],
                session,
                skip_bad=options["skip_bad"],
                chosen=chosen,
                reuse=options["reuse"],
            )
        except Stopped as stopped:
            console.print(f"Stopped: {stopped}. Everything is saved; the same command goes on.", soft_wrap=True)
            ctx.exit(stopped_code(by_signal=stopped.by_signal))
    if session.is_main:
        print_stages(console, (record.result for record in run.manifest.stages.values()))
        console.print(f"Run folder {run.folder}, page of plots {_write_page(run)}", soft_wrap=True, highlight=False)
        console.print(f"Next: {_next(run, command, options)}", soft_wrap=True, highlight=False)


def _next(run: Run, command: str, options: Mapping[str, Any]) -> str:
    if command == "teach":
        flags = [f" --{name.replace('_', '-')}" for name in ("cpu", "compile", "skip_bad") if options[name]]
        return run.resume_command + "".join(flags)
    folder = quote(str(run.folder))
    if not run.recipe.quantize.enabled:
        return f"edgekd compare {folder} ANOTHER_RUN"
    found = run.folder.absolute().parent == RUNS_FOLDER.absolute()  # `export` takes the last run there
    return "edgekd export --int8" + ("" if found else f" --run {folder}")


def _write_page(run: Run) -> Path:
    from edgekd.files import write_text
    from edgekd.report.page import training_page

    page = run.folder / "report.html"
    results = [record.result for record in run.manifest.stages.values()]
    write_text(page, training_page(run.metrics(), results, title=run.folder.name))
    return page
