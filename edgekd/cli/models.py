"""`edgekd models`: the released students, and a copy of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgekd.manifest import AccuracyRow
    from edgekd.zoo import ZooModel


@click.group()
def command() -> None:
    """List the students that come with edgekd, or copy one."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_models(*, as_json: bool) -> None:
    """List the students with what they take and what they reach: INT8 in onnxruntime, as their reports say."""
    from edgekd.zoo import find_model, zoo_names

    models = [find_model(name) for name in zoo_names()]
    if as_json:
        click.echo(json.dumps([_facts(model) for model in models], indent=2))
    else:
        _print_models(models)


@command.command("get")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to copy it to.  [default: NAME]")
def get(name: str, out: Path | None) -> None:
    """Copy student NAME: the ONNX file, golden vectors, recipe, report and card."""
    from edgekd.zoo import MODEL, copy_model, find_model

    model, folder = find_model(name), out or Path(name)
    copy_model(model, folder)
    click.echo(f"copied {name} to {folder}")
    click.echo(f"Next: edgekd verify {folder / MODEL}")


def _facts(model: ZooModel) -> dict[str, Any]:
    report = model.report
    return {
        "name": model.name,
        "folder": str(model.folder),
        "about": " ".join(model.about),
        "data": model.manifest.data.spec,
        "sha256": report.model.sha256,
        "profile": report.profile.name,
        "verdict": report.verdict,
        "parameters": report.params.total,
        "weight_bytes": report.memory.weight_bytes,
        "macs": report.macs,
        "accuracy": [row.model_dump() for row in model.accuracy],
    }


def _print_models(models: list[ZooModel]) -> None:
    from rich.table import Table

    from edgekd.cli._console import open_console

    protocols = sorted({_protocol(row) for model in models for row in model.accuracy})
    table = Table(box=None, header_style="bold")
    for heading in ("model", "data"):
        table.add_column(heading, no_wrap=True)
    for heading in ("parameters", "bytes", "MACs", *(f"{way}-way {shot}-shot %" for way, shot in protocols)):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for model in models:
        report = model.report
        found = {_protocol(row): f"{100 * row.mean:.2f} ± {100 * row.ci95:.2f}" for row in model.accuracy}
        sizes = (f"{number:,}" for number in (report.params.total, report.memory.weight_bytes, report.macs))
        cells = (found.get(protocol, "") for protocol in protocols)
        verdict = f"{report.verdict} ({report.profile.name})"
        table.add_row(model.name, model.manifest.data.spec, *sizes, *cells, verdict)
    open_console(markup=False).print(table)


def _protocol(row: AccuracyRow) -> tuple[int, int]:
    return row.way, row.shot
