"""`edgekd models`: the released students and teachers, and a copy of one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgekd.errors import EdgekdError, ModelError

if TYPE_CHECKING:
    from edgekd.zoo import ZooModel, ZooTeacher

Facts = Mapping[str, Any]
_Z = TypeVar("_Z", "ZooModel", "ZooTeacher")


@click.group()
def command() -> None:
    """List the students and teachers that come with edgekd, or copy one."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with intervals, MACs, bytes and hashes.")
def list_models(*, as_json: bool) -> None:
    """List the students with what they reach: INT8 in onnxruntime, and the verdict of the profile they are made for."""
    from edgekd.zoo import find_model, zoo_names

    _list([find_model(name) for name in zoo_names()], _facts, _print_models, as_json=as_json)


@command.command("teachers")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with intervals and hashes.")
def list_teachers(*, as_json: bool) -> None:
    """List the teachers with what they reach, in float, as their runs say."""
    from edgekd.zoo import find_teacher, teacher_names

    _list([find_teacher(name) for name in teacher_names()], _taught, _print_teachers, as_json=as_json)


@command.command("get")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to copy it to.  [default: NAME]")
def get(name: str, out: Path | None) -> None:
    """Copy student NAME: ONNX file, golden vectors, recipe, report and card; or teacher NAME: its run and weights."""
    from edgekd.zoo import MODEL, ZooModel, copy_model, find_released

    found, folder = find_released(name), out or Path(name)
    copy_model(found, folder)
    click.echo(f"copied {name} to {folder}")
    if isinstance(found, ZooModel):
        click.echo(f"Next: edgekd verify {folder / MODEL} --data {found.manifest.data.spec}:PATH")
    else:
        click.echo(f"Next: {found.distill_command(folder)}")


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


def _print_models(found: Iterable[Facts]) -> None:
    heads = ("model", "parameters", "verdict")
    _print_table(heads, found, lambda row: (row["name"], row["parameters"], row["verdict"]))


def _taught(teacher: ZooTeacher) -> dict[str, Any]:
    record = teacher.record
    return {
        "name": teacher.name,
        "folder": str(teacher.folder),
        "about": " ".join(teacher.about),
        "data": teacher.run.recipe.data.spec,
        "sha256": record.sha256,
        "backbone": record.result.backbone,
        "parameters": record.result.parameters,
        "accuracy": [row.model_dump() for row in record.result.accuracy],
    }


def _print_teachers(found: Iterable[Facts]) -> None:
    _print_table(("teacher", "backbone"), found, lambda row: (row["name"], row["backbone"]))


def _list(
    networks: Sequence[_Z], facts: Callable[[_Z], Facts], show: Callable[[Iterable[Facts]], None], *, as_json: bool
) -> None:
    """Print what is whole.

    Raises:
        ModelError: after that: there is none, or files of some are missing or damaged.
    """
    from edgekd.zoo import files_of, zoo_folder

    found, damaged = [], []
    for network in networks:
        try:
            files_of(network)
            found.append(facts(network))
        except EdgekdError as error:
            damaged.append(str(error))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        show(found)
    if damaged or not found:
        raise ModelError("\n".join(damaged) or f"there are none in {zoo_folder()}")


def _print_table(heads: Sequence[str], found: Iterable[Facts], cells: Callable[[Facts], Sequence[Any]]) -> None:
    """Print a line for each number of classes that accuracy was measured for; it fits into 80 columns."""
    from rich.table import Table

    from edgekd.cli._console import open_console

    rows = [(cells(facts), _accuracies(facts["accuracy"])) for facts in found]
    shots = sorted({shot for _, accuracies in rows for means in accuracies.values() for shot in means})
    table = Table(box=None, header_style="bold")
    for head in heads:
        table.add_column(head, no_wrap=True, justify="right" if head == "parameters" else "left")
    for head in ("way", *(f"{shot}-shot %" for shot in shots)):
        table.add_column(head, justify="right")
    for first, accuracies in rows:
        texts = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in first]
        for way, means in accuracies.items():
            table.add_row(*texts, str(way), *(f"{100 * means[shot]:.2f}" if shot in means else "" for shot in shots))
            texts = [""] * len(texts)
    open_console(markup=False).print(table)


def _accuracies(rows: Iterable[Facts]) -> dict[int, dict[int, float]]:
    """Return means by way and shot."""
    found: dict[int, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row["way"], {})[row["shot"]] = row["mean"]
    return found
