"""`edgekd learners`: how a network can learn its embeddings, with sources."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgekd.distill.learners import Learner


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the few-shot learners for --learner (the teacher) and --meta (the student)."""
    from edgekd.cli._extras import require_training

    require_training()
    from edgekd.cli._listing import wrapped
    from edgekd.distill.learners import LEARNERS

    facts = [_facts(LEARNERS[name]) for name in sorted(LEARNERS)]
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for fact in facts:
        click.echo(f"{click.style(fact['name'], bold=True)}  {fact['batch_size']} {fact['unit']} a batch")
        own = [f"measured by: {', '.join(fact['measures'])}"] if fact["measures"] else []
        click.echo("\n".join(wrapped([fact["summary"], *own, f"source: {fact['source']}"])) + "\n")


def _facts(learner: type[Learner]) -> dict[str, Any]:
    from edgekd.cli._listing import first_paragraph

    return {
        "name": learner.name,
        "summary": first_paragraph(learner),
        "unit": learner.unit.name,
        "batch_size": learner.unit.batch_size,
        "trains_head": learner.trains_head,
        "measures": sorted(learner.measures),
        "source": learner.source,
    }
