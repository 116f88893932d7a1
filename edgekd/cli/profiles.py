"""`edgekd profiles`: the hardware profiles that are there, one in full, a check, a template, the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekd.errors import ProfileError, UsageError

if TYPE_CHECKING:
    from edgekd.profile import HardwareProfile


UNITS = "bytes, bits, hz, px (pixels), pj_per_mac (picojoule); other numbers are counts"


@click.group()
def command() -> None:
    """List, show and check hardware profiles, or start one."""


@command.command("list")
@click.option("--names", is_flag=True, help="Print the names alone, one a line.")
def list_profiles(names: bool) -> None:
    """List the profiles that come with edgekd."""
    from edgekd.profile import profile_names

    if names:
        click.echo("\n".join(profile_names()))
    else:
        _print_profiles()


def _print_profiles() -> None:
    from rich.table import Table

    from edgekd.cli._console import open_console
    from edgekd.profile import load_profile, profile_names

    table = Table("profile", "parameters", "memory", "description", box=None, header_style="bold")
    for name in profile_names():
        profile = load_profile(name)
        table.add_row(profile.name, _cap(profile), _regions(profile), profile.description)
    open_console().print(table)


@command.command("show")
@click.argument("name", metavar="NAME|FILE")
def show(name: str) -> None:
    """Print a profile as TOML that stands alone, with what it extends, and each value's source behind it.

    A key that is not there is unknown. The output is itself a profile.
    """
    from edgekd.profile import load_profile

    profile = load_profile(name)
    click.echo(profile.text(), nl=False)
    if unknown := profile.unknown():
        click.echo(f"\n# unknown: {', '.join(unknown)}")
    click.echo(f"# sha256 {profile.sha256}")


@command.command("check")
@click.argument("file", metavar="NAME|FILE")
def check(file: str) -> None:
    """Check a profile: exit 0 if it is well formed, else 2; numbers without a source and repeated entries are named.

    Of one that extends another, what it replaces, adds, takes away and inherits.
    """
    from edgekd.profile import load_profile
    from edgekd.profile_toml import locate

    profile = load_profile(file)
    for line in _extension_lines(locate(file)):
        click.echo(line)
    for key in profile.unsourced():
        click.echo(f"no source for {key}: list the key under [[sources]]")
    for op in profile.repeated_operators():
        click.echo(f"{op} is listed twice with the same limits: one entry says as much")
    click.echo(f"{file}: profile '{profile.name}' is well formed, {len(profile.unknown())} keys are unknown")


def _extension_lines(path: Path) -> Iterator[str]:
    """Say which file a profile extends, and what became of each of its values."""
    from edgekd.profile_toml import extension_of, hides_shipped

    if hides_shipped(path):
        yield f"{path} hides the profile '{path.stem}' that comes with edgekd from the files beside it that extend it"
    found = extension_of(path)
    if found is None:
        return
    base, change = found
    hides = ", in place of the profile of that name that comes with edgekd" if hides_shipped(base) else ""
    yield f"extends {base}{hides}"
    for name in ("replaced", "added", "removed", "inherited"):
        if keys := getattr(change, name):
            yield f"  {name}: {', '.join(keys)}"


@command.command("new")
@click.argument("name")
@click.option("--force", is_flag=True, help="Take a name that a profile which comes with edgekd has.")
@click.option("--output", type=click.Path(path_type=Path), help="Where to write it.  [default: NAME.toml]")
def new(name: str, output: Path | None, *, force: bool) -> None:
    """Write a template of a profile called NAME: every key commented out, everything unknown."""
    from edgekd.files import require_folder
    from edgekd.profile import is_profile_name, no_profile_name, profile_names
    from edgekd.profile_template import template

    if not is_profile_name(name):
        raise UsageError(no_profile_name(name))
    if name in profile_names() and not force:
        raise UsageError(
            f"'{name}' comes with edgekd, and {name}.toml would take its place for every file beside it that extends "
            f"it: take another name, or --force"
        )
    path = output or Path(f"{name}.toml")
    require_folder(path)
    try:
        with path.open("x") as file:
            file.write(template(name))
    except FileExistsError:
        raise UsageError(f"{path} is there already; name another file with --output") from None
    except OSError as error:
        raise ProfileError(f"cannot write {path}: {error.strerror}") from error
    click.echo(f"wrote {path}: fill it in, then `edgekd profiles check {path}`")


@command.command("schema")
def schema() -> None:
    """Print the JSON schema of a profile, with the units."""
    from edgekd.profile import HardwareProfile

    tree = HardwareProfile.model_json_schema()
    tree["$comment"] = f"The end of a key is its unit: {UNITS}."
    click.echo(json.dumps(tree, indent=2))


def _cap(profile: HardwareProfile) -> str:
    if profile.params.max is not None:
        return f"{profile.params.max:,}"
    return "no cap" if profile.params.unlimited else "unknown"


def _regions(profile: HardwareProfile) -> str:
    return ", ".join(f"{region.name} {region.bytes:,} B" for region in profile.memory.regions) or "unknown"
