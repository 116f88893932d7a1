"""`edgekd verify`: does this file fit, and how accurate is it?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli._grouped import Decorator, GroupedCommand, option

if TYPE_CHECKING:
    from rich.console import Console

    from edgekd.verify import Report, Request, Requirement, Unverified

    Entry = Report | Unverified

EXIT_CODES = {"pass": 0, "fail": 1, "unknown": 0}
EXIT_FIX = 2
_MEASURING_NAMES = (
    "data",
    "split",
    "way",
    "shots",
    "query",
    "episodes",
    "seed",
    "head",
    "size",
    "skip_bad",
    "most_seconds",
)
LOG_WIDTH = 120  # columns
EXIT_UNKNOWN = 3
SEVERITY = (0, EXIT_UNKNOWN, 1, EXIT_FIX)  # of several files the worst exit code counts

_check, _measure = option("What is checked"), option("How accuracy is measured")
_gate, _write = option("What decides the exit code"), option("What is written")
_file = click.Path(path_type=Path)


def _apply(*declarations: Decorator) -> Decorator:
    """Return one decorator for several, in the order in which the help shows them."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for declaration in reversed(declarations):
            function = declaration(function)
        return function

    return decorate


_checks = _apply(
    _check("--profile", metavar="NAME|FILE", help="Hardware profile.  [default: the one the file was exported for]"),
    _check("--static", is_flag=True, help="Check the file only; do not measure accuracy."),
    _check(
        "--requant",
        multiple=True,
        metavar="NAME",
        help="Integer arithmetic to simulate: ort, xnnpack, tflm or shift; may be given several times.  "
        "[default: the profile's]",
    ),
)
_measuring = _apply(
    _measure("--data", metavar="SPEC", help="Image set to measure on.  [default: the known set that the file names]"),
    _measure("--split", help="train, val or test.  [default: the manifest's, else test]"),
    _measure("--way", type=int, help="Classes in an episode.  [default: as the file's lineage was measured, else 5]"),
    _measure(
        "--shot",
        "shots",
        type=int,
        multiple=True,
        help="May be given several times.  [default: as the file's lineage was measured, else 1 and 5]",
    ),
    _measure("--query", type=int, help="Query images of each class.  [default: as the file's lineage, else 15]"),
    _measure("--episodes", default=10_000, show_default=True),
    _measure("--seed", default=0, show_default=True, help="Seed of the episodes."),
    _measure("--head", help="cosine, euclid, centred or logistic.  [default: as the file's lineage, else cosine]"),
    _measure("--size", type=int, help="Resize images to SIZE x SIZE pixels.  [default: the size of the graph's input]"),
    _measure(
        "--pixels",
        default="edgekd",
        show_default=True,
        metavar="NAME",
        help="How pixels enter a float input: edgekd is (pixel - 128) / 128, unit is pixel / 255, imagenet then "
        "takes off the mean and divides by the deviation of each channel, raw is 0..255.",
    ),
    _measure(
        "--most-seconds",
        default=120.0,
        show_default=True,
        metavar="S",
        help="Run no engine that would take longer, as estimated from MACs, elements, nodes and images, or from the "
        "first image: accuracy by it is then unknown, and a finding says so.",
    ),
    _measure("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and say which."),
)
_gating = _apply(
    _gate(
        "--require",
        multiple=True,
        metavar="TEXT",
        help='A limit of your own, such as "accuracy[5w5s] >= 0.60"; may be given several times. accuracy is the mean '
        "of every engine measured, accuracy_low the lower end of its interval. Exit 3 where it cannot be decided.",
    ),
    _gate("--strict", is_flag=True, help="Exit 3 where the verdict is unknown, not only a --require."),
)
_writing = _apply(
    _write("--json", type=_file, metavar="FILE", help="The report as JSON; - is stdout, here and below."),
    _write("--html", type=_file, metavar="FILE", help="A page with plots, all in one file."),
    _write("--sarif", type=_file, metavar="FILE", help="SARIF 2.1.0, as code scanning reads it."),
    _write("--junit", type=_file, metavar="FILE", help="JUnit XML, as any CI shows it."),
)


@click.command(cls=GroupedCommand)
@click.argument("model", type=_file, metavar="MODEL.onnx|FOLDER")
@_checks
@_measuring
@_gating
@_writing
@click.pass_context
def command(ctx: click.Context, /, model: Path, **options: Any) -> None:  # noqa: ANN401 - click hands over any type
    """Check MODEL.onnx, or every ONNX file below FOLDER, against a hardware profile; measure few-shot accuracy.

    Any ONNX file will do; one that edgekd exported names its own profile, images and protocol. Exit code: 0 pass or
    unknown, 1 fail, 2 something to fix in the command or a file, 3 unknown with --strict or where a --require could not
    be decided; of several files the worst.
    """
    from edgekd.cli._outputs import STDOUT, require_writable, targets_of, write_outputs
    from edgekd.cli._verdict import print_failures, print_report, print_summary
    from edgekd.errors import DataError, ModelError
    from edgekd.verify import Report, Unverified, shown_error, shown_path

    targets = targets_of(options)
    many, paths = _paths(model)
    require_writable(targets, paths)
    strict = options.pop("strict")
    try:
        entries = _verified(paths, options, many=many, ignored=_measuring_options(ctx))
    except (ModelError, DataError) as error:  # of a single file
        if model.exists():  # else the command is wrong, not a file
            damaged = Unverified(path=shown_path(model), error=shown_error(error))
            write_outputs([damaged], targets, many=many, strict=strict)
        raise
    console = _console(stderr=STDOUT in targets.values())
    for entry in entries:
        if isinstance(entry, Report):
            (print_failures if many else print_report)(console, entry)
    if many:
        print_summary(console, entries)
    _print_errors(entries)
    write_outputs(entries, targets, many=many, strict=strict)
    ctx.exit(max((exit_code(entry, strict=strict) for entry in entries), key=SEVERITY.index))


def _measuring_options(ctx: click.Context) -> list[str]:
    """Return the options given that say how accuracy is measured, as they are written."""
    from click.core import ParameterSource

    names = {*_MEASURING_NAMES, "requant"}
    given = [item for item in ctx.command.params if item.name in names and item.name]
    chosen = (item for item in given if ctx.get_parameter_source(str(item.name)) is ParameterSource.COMMANDLINE)
    return [item.opts[0] for item in chosen]


def exit_code(entry: Entry, *, strict: bool) -> int:
    """Return what one file alone would make the command exit with."""
    from edgekd.verify import Unverified, undecided

    if isinstance(entry, Unverified) or entry.errors:
        return EXIT_FIX
    if entry.verdict == "unknown" and (strict or undecided(entry)):
        return EXIT_UNKNOWN
    return EXIT_CODES[entry.verdict]


def _print_errors(entries: Sequence[Entry]) -> None:
    from edgekd.verify import Report

    for entry in entries:
        for text in entry.errors if isinstance(entry, Report) else ():
            click.echo(f"Error: {text}", err=True)


def _paths(model: Path) -> tuple[bool, tuple[Path, ...]]:
    from edgekd.verify import find_models

    return (True, find_models(model)) if model.is_dir() else (False, (model,))


def _verified(
    paths: Sequence[Path], options: dict[str, Any], *, many: bool, ignored: Sequence[str] = ()
) -> list[Entry]:
    """Verify the files; of a single one an error goes on to the user."""
    from edgekd.verify import parse, verify, verify_each

    profile, static = options.pop("profile"), options.pop("static")
    require = [parse(text) for text in options.pop("require")]
    request = _request(options, require)
    notices = _console(stderr=True)
    if static and ignored:
        notices.print(f"--static measures nothing: {', '.join(ignored)} ignored", markup=False, soft_wrap=True)
    settings: dict[str, Any] = {"static": static, "options": request, "require": require, "notify": _notify(notices)}
    return (
        _each(notices, paths, verify_each(paths, profile, **settings))
        if many
        else _each(notices, paths, (verify(path, profile, **settings) for path in paths))
    )


def _request(options: dict[str, Any], require: Sequence[Requirement]) -> Request:
    """Turn the options into a request, and refuse at once what no file could serve."""
    from edgekd.verify import Request
    from edgekd.verify.requirements import complete

    request = Request(**options)
    complete(request, require).check()
    return request


def _each(console: Console, paths: Sequence[Path], entries: Iterator[Entry]) -> list[Entry]:
    """Collect the entries, one a path, and say on a terminal which file is being verified."""
    from edgekd.cli._watch import watching

    found: list[Entry] = []
    for number, path in enumerate(paths, 1):
        count = f" ({number} of {len(paths)})" if len(paths) > 1 else ""
        with watching(console, f"verifying {path}{count}"):
            found.append(next(entries))
    return found


def _console(*, stderr: bool) -> Console:
    """Return where to print; a log is no terminal and has room for whole tables."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = LOG_WIDTH
    return console


def _notify(console: Console) -> Callable[[str], None]:
    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    return say
