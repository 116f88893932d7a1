"""`edgekd models`: the released students and teachers, and a copy of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgekd.manifest import AccuracyRow
    from edgekd.zoo import ZooModel, ZooTeacher


@click.group()
def command() -> None:
    """List the students and teachers that come with edgekd, or copy one."""


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


@command.command("teachers")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_teachers(*, as_json: bool) -> None:
    """List the teachers with what they were trained on and what they reach, in float, as their runs say."""
    from edgekd.zoo import find_teacher, teacher_names

    teachers = [find_teacher(name) for name in teacher_names()]
    if as_json:
        click.echo(json.dumps([_taught(teacher) for teacher in teachers], indent=2))
    else:
        _print_teachers(teachers)


@command.command("get")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to copy it to.  [default: NAME]")
def get(name: str, out: Path | None) -> None:
    """Copy student NAME: ONNX file, golden vectors, recipe, report and card; or teacher NAME: its run and weights."""
    from edgekd.zoo import MODEL, RECIPE, TEACHER_WEIGHTS, ZooModel, copy_model, find_released

    found, folder = find_released(name), out or Path(name)
    copy_model(found, folder)
    click.echo(f"copied {name} to {folder}")
    if isinstance(found, ZooModel):
        click.echo(f"Next: edgekd verify {folder / MODEL}")
    else:
        recipe, weights = folder / RECIPE, folder / TEACHER_WEIGHTS
        trained = " --set teacher.new_head=false --set teacher.freeze_epochs=0" if found.earlier else ""
        click.echo(f"Next: edgekd distill --recipe {recipe} --teacher-weights {weights}{trained}")


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
        sizes = (f"{number:,}" for number in (report.params.total, report.memory.weight_bytes, report.macs))
        cells = _cells(model.accuracy, protocols)
        verdict = f"{report.verdict} ({report.profile.name})"
        table.add_row(model.name, model.manifest.data.spec, *sizes, *cells, verdict)
    open_console(markup=False).print(table)


def _taught(teacher: ZooTeacher) -> dict[str, Any]:
    result, record = teacher.result, teacher.run.manifest.stages["teach"]
    return {
        "name": teacher.name,
        "folder": str(teacher.folder),
        "data": teacher.run.recipe.data.spec,
        "sha256": record.sha256,
        "backbone": result.backbone,
        "parameters": result.parameters,
        "accuracy": [row.model_dump() for row in result.accuracy],
    }


def _print_teachers(teachers: list[ZooTeacher]) -> None:
    from rich.table import Table

    from edgekd.cli._console import open_console

    protocols = sorted({_protocol(row) for teacher in teachers for row in teacher.result.accuracy})
    table = Table(box=None, header_style="bold")
    for heading in ("teacher", "data", "backbone"):
        table.add_column(heading, no_wrap=True)
    for heading in ("parameters", *(f"{way}-way {shot}-shot %" for way, shot in protocols)):
        table.add_column(heading, justify="right")
    for teacher in teachers:
        result = teacher.result
        cells = _cells(result.accuracy, protocols)
        table.add_row(teacher.name, teacher.run.recipe.data.spec, result.backbone, f"{result.parameters:,}", *cells)
    open_console(markup=False).print(table)


def _cells(rows: Sequence[AccuracyRow], protocols: Sequence[tuple[int, int]]) -> list[str]:
    found = {_protocol(row): f"{100 * row.mean:.2f} ± {100 * row.ci95:.2f}" for row in rows}
    return [found.get(protocol, "") for protocol in protocols]


def _protocol(row: AccuracyRow) -> tuple[int, int]:
    return row.way, row.shot
