"""`edgekd verify`: does this file fit, and how accurate is it?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgekd.verify import Report

EXIT_CODES = {"pass": 0, "fail": 1, "unknown": 0}
EXIT_UNKNOWN_STRICT = 3
STDOUT = Path("-")


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@click.option("--profile", metavar="NAME|FILE", help="Hardware profile.  [default: the one the file was exported for]")
@click.option("--static", is_flag=True, help="Check the file only; do not measure accuracy.")
@click.option("--data", metavar="SPEC", help="Image set to measure on.  [default: the one in the file's manifest]")
@click.option("--split", help="train, val or test.  [default: the manifest's, else test]")
@click.option("--way", default=5, show_default=True, help="Classes in an episode.")
@click.option(
    "--shot", "shots", type=int, multiple=True, default=(1, 5), show_default=True, help="May be given several times."
)
@click.option("--query", default=15, show_default=True, help="Query images of each class in an episode.")
@click.option("--episodes", default=10_000, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Seed of the episodes.")
@click.option("--head", default="cosine", show_default=True, help="cosine, euclid, centred or logistic.")
@click.option("--size", type=int, help="Resize images to SIZE x SIZE pixels.  [default: the size of the graph's input]")
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and say which.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the report as JSON; - is stdout.",
)
@click.option("--strict", is_flag=True, help="Exit 3 where the verdict is unknown.")
@click.pass_context
def command(ctx: click.Context, /, model: Path, json_path: Path | None, **options: Any) -> None:  # noqa: ANN401 - click's
    """Check MODEL.onnx against a hardware profile and measure its few-shot accuracy.

    Any ONNX file will do; one that edgekd exported names its own profile and images. Exit code: 0 pass or unknown,
    1 fail, 2 something to fix in the command or a file, 3 unknown with --strict.
    """
    from rich.console import Console

    from edgekd.cli._verdict import print_report
    from edgekd.verify import Options, verify

    strict, profile, static = options.pop("strict"), options.pop("profile"), options.pop("static")
    console = Console(stderr=json_path == STDOUT, highlight=False)
    report = verify(model, profile, static=static, options=Options(**options), notify=_notify)
    if json_path:
        _write_json(report, json_path)
    print_report(console, report)
    ctx.exit(EXIT_UNKNOWN_STRICT if strict and report.verdict == "unknown" else EXIT_CODES[report.verdict])


def _notify(line: str) -> None:
    click.echo(line, err=True)


def _write_json(report: Report, path: Path) -> None:
    from edgekd.files import write_text

    if path == STDOUT:
        click.echo(report.to_json(), nl=False)
    else:
        write_text(path, report.to_json())
