"""The command line: parse, call, print, set the exit code. Nothing else in edgekd prints or exits.

Exit codes: 0 pass, 1 the verdict is fail, 2 something the user can fix, 3 unknown under `--strict`, or
a `--require` that could not be decided, 75 a time budget is used up and the same command goes on, 130 interrupted.
A command is a module of this package with a click command named `command`; it appears by being there.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import click

from edgekd import __version__
from edgekd.errors import EdgekdError

EXIT_FIX = 2
EXIT_UNFINISHED = 75  # EX_TEMPFAIL of sysexits.h: try again later
EXIT_INTERRUPTED = 130


def stopped_code(*, by_signal: bool) -> int:
    """Return how a command ends whose work was stopped before its end and can go on."""
    return EXIT_INTERRUPTED if by_signal else EXIT_UNFINISHED


class Commands(click.Group):
    """Finds its commands among the modules of this package."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the command names, sorted."""
        names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
        return sorted(name for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command for one that does not exist."""
        from edgekd.errors import unknown

        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            ctx.fail(unknown("command", args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edgekd")
def cli() -> None:
    """Distill a teacher into a student that fits your accelerator, quantize it, export INT8 ONNX, verify the file."""


def main() -> None:
    """Run the command line and exit."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_FIX)
    except EdgekdError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_FIX)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted. What was saved before is untouched; the same command goes on.", err=True)
        sys.exit(EXIT_INTERRUPTED)
