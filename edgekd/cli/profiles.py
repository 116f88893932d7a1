"""`edgekd profiles`: the hardware profiles that are there, one in full, and a check of one's own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgekd.profile import HardwareProfile


@click.group()
def command() -> None:
    """List, show and check hardware profiles."""


@command.command("list")
def list_profiles() -> None:
    """List the profiles that come with edgekd."""
    from rich.console import Console
    from rich.table import Table

    from edgekd.profile import load_profile, profile_names

    table = Table("profile", "parameters", "memory", "description", box=None, header_style="bold")
    for name in profile_names():
        profile = load_profile(name)
        table.add_row(profile.name, _cap(profile), _regions(profile), profile.description)
    Console().print(table)


@command.command("show")
@click.argument("name", metavar="NAME|FILE")
def show(name: str) -> None:
    """Show every known value of a profile and where it was read; a key that is not there is unknown."""
    from edgekd.profile import load_profile

    profile = load_profile(name)
    sources: dict[str, int] = {}  # source -> its number
    for key, value in _known(profile.model_dump(exclude={"sources"}, exclude_none=True, exclude_defaults=True)):
        source = profile.source(re.sub(r"\[\d+\]", "", key))
        number = sources.setdefault(source, len(sources) + 1) if source else None
        click.echo(f"{key} = {json.dumps(value)}" + (f"  [{number}]" if number else ""))
    for source, number in sources.items():
        click.echo(f"[{number}] {source}")
    click.echo(f"sha256 {profile.sha256}")


@command.command("check")
@click.argument("file", metavar="NAME|FILE")
def check(file: str) -> None:
    """Check a profile: exit 0 if it is well formed; numbers without a source are named."""
    from edgekd.profile import load_profile

    profile = load_profile(file)
    for key in profile.unsourced():
        click.echo(f"no source for {key}: list the key under [[sources]]")
    click.echo(f"{file}: profile '{profile.name}' is well formed")


def _cap(profile: HardwareProfile) -> str:
    if profile.params.max is not None:
        return f"{profile.params.max:,}"
    return "no cap" if profile.params.unlimited else "unknown"


def _regions(profile: HardwareProfile) -> str:
    return ", ".join(f"{region.name} {region.bytes:,} B" for region in profile.memory.regions) or "unknown"


def _known(value: Any, key: str = "") -> list[tuple[str, object]]:  # noqa: ANN401 - a tree of TOML values
    """Flatten a tree to dotted keys; tables in a list are numbered."""
    if isinstance(value, dict):
        return [pair for name, item in value.items() for pair in _known(item, f"{key}.{name}" if key else name)]
    if isinstance(value, tuple) and value and isinstance(value[0], dict):
        return [pair for index, item in enumerate(value) for pair in _known(item, f"{key}[{index}]")]
    return [(key, list(value) if isinstance(value, tuple) else value)]
