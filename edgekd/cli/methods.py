"""`edgekd methods`: the distillation terms that a sum can hold, with their options and sources."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli._listing import first_paragraph, wrapped

if TYPE_CHECKING:
    from edgekd.distill.methods import Method

LEGEND = """\
u logits, z embeddings, p probabilities, y labels, T temperature; index s the student, t the teacher.
A weighted sum: --method "ce + 0.3 kd"; an option: --set distill.options.kd.temperature=2"""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the distillation terms for `edgekd distill --method`."""
    from edgekd.cli._extras import require_training

    require_training()
    from edgekd.distill.methods import METHODS

    facts = [_facts(METHODS[name]) for name in sorted(METHODS)]
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for fact in facts:
        click.echo(f"{click.style(fact['name'], bold=True)}  {fact['summary']}")
        click.echo("\n".join(wrapped(_lines(fact))) + "\n")
    click.echo(LEGEND)


def _facts(method: type[Method]) -> dict[str, Any]:
    """Return what the command says of one term; `options` maps each option's name to its default."""
    options = {
        name: parameter.default
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return {
        "name": method.name,
        "summary": first_paragraph(inspect.getmodule(method)),
        "loss": first_paragraph(method),
        "options": options,
        "source": method.source,
        "uses_teacher": method.uses_teacher,
        "uses_labels": method.uses_labels,
        "online": method.online,
    }


def _lines(fact: dict[str, Any]) -> Iterable[str]:
    yield fact["loss"]
    if fact["options"]:
        yield "options: " + ", ".join(f"{name} = {json.dumps(default)}" for name, default in fact["options"].items())
    yield f"source: {fact['source']}"
