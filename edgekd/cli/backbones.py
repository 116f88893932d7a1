"""`edgekd backbones`: the networks that can teach and be taught, with their sizes and sources."""

from __future__ import annotations

import json
from typing import Any

import click

CHANNELS = 3  # of the images that the sizes are given for


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the backbones for --teacher, --student and --assistant."""
    from edgekd.cli._extras import require_training

    require_training()
    from edgekd.cli._listing import wrapped
    from edgekd.distill.backbones import BACKBONES

    facts = [_facts(name) for name in sorted(BACKBONES)]
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for fact in facts:
        click.echo(f"{click.style(fact['name'], bold=True)}  {fact['example']}: {_sizes(fact)}")
        lines = [fact["summary"], *([f"source: {fact['source']}"] if fact["source"] else [])]
        click.echo("\n".join(wrapped(lines)) + "\n")
    click.echo("Parameters are trained ones, of images with three channels, without a classifier.")


def _facts(name: str) -> dict[str, Any]:
    """Return what the command says of one backbone; sizes are those of an example where a bare name says too little."""
    from edgekd.cli._listing import first_paragraph, source_of
    from edgekd.distill.backbones import BACKBONES, EXAMPLES, outline, trained_parameters

    example = EXAMPLES.get(name, name)
    backbone = outline(example, CHANNELS)
    return {
        "name": name,
        "summary": first_paragraph(BACKBONES[name]),
        "example": example,
        "parameters": trained_parameters(backbone),
        "embedding_dim": backbone.embedding_dim,
        "layers": len(backbone.layers),
        "min_size": backbone.min_size,
        "source": source_of(BACKBONES[name]),
    }


def _sizes(fact: dict[str, Any]) -> str:
    from edgekd.text import counted

    layers = counted(fact["layers"], "layer", "layers")
    return f"{fact['parameters']:,} parameters, embedding of {fact['embedding_dim']:,}, {layers}"
