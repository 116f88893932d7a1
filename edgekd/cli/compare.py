"""`edgekd compare`: runs side by side, and which differences are beyond noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekd.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from edgekd.comparison import Comparison, Difference
    from edgekd.run import Run

MOST_DIFFERENCES = 20  # in the terminal; above, those beyond noise alone
_file = click.Path(path_type=Path)


@click.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=_file)
@click.option("--stage", "stages", multiple=True, metavar="STAGE", help="Compare this stage only; may be repeated.")
@click.option("--against", type=_file, metavar="RUN", help="Compare every setting with that of this run only.")
@click.option("--json", "json_file", type=_file, metavar="FILE", help="Write everything as JSON; - is stdout.")
@click.option("--html", "html_file", type=_file, metavar="FILE", help="Write one page with plots; - is stdout.")
def command(
    folders: tuple[Path, ...],
    stages: tuple[str, ...],
    against: Path | None,
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Set runs side by side: scores with intervals, where the recipes differ, which differences are beyond noise.

    Runs that differ in the seed alone are one setting: their mean and spread are shown, and settings of several seeds
    are compared by Welch's t-test. A single run a setting is compared by the intervals of its test episodes. All
    p-values are corrected by Holm's procedure.
    """
    from edgekd.cli._outputs import STDOUT, require_writable
    from edgekd.comparison import compare_runs
    from edgekd.run import Run

    targets = {name: path for name, path in (("json", json_file), ("html", html_file)) if path is not None}
    runs = [Run.open(folder) for folder in folders]
    _require_outside(targets.values(), runs)
    require_writable(targets, ())
    comparison = compare_runs(runs, stages=stages, against=_member(runs, against))
    for name, path in targets.items():
        _write(path, comparison.model_dump_json(indent=2) + "\n" if name == "json" else _page(comparison, runs))
    if STDOUT not in targets.values():
        _print(comparison)


def _member(runs: Sequence[Run], folder: Path | None) -> Run | None:
    if folder is None:
        return None
    for run in runs:
        if run.folder.resolve() == folder.resolve():
            return run
    raise UsageError(f"--against {folder} is none of the runs that are compared; add it to them")


def _require_outside(paths: Iterable[Path], runs: Sequence[Run]) -> None:
    own = {run.folder.resolve() / name for run in runs for name in ("manifest.json", "recipe.toml", "metrics.jsonl")}
    for path in paths:
        if path.resolve() in own:
            raise UsageError(f"{path} belongs to a run and would be overwritten")


def _write(path: Path, text: str) -> None:
    from edgekd.cli._outputs import STDOUT
    from edgekd.files import write_text

    if path == STDOUT:
        click.echo(text, nl=False)
    else:
        write_text(path, text)


def _page(comparison: Comparison, runs: Sequence[Run]) -> str:
    from edgekd.report.comparison import comparison_page
    from edgekd.text import escaped

    metrics = {escaped(str(run.folder)): run.metrics() for run in runs}
    return comparison_page(
        comparison, {setting.name: [metrics[folder] for folder in setting.runs] for setting in comparison.settings}
    )


def _print(comparison: Comparison) -> None:
    from edgekd.cli._console import open_console
    from edgekd.report.wording import INTERVALS

    console = open_console(markup=False)
    console.print(f"{comparison.data}, in %", soft_wrap=True)
    console.print(_scores(comparison))
    console.print(INTERVALS, soft_wrap=True)
    for part in _recipes(comparison):
        console.print(part, soft_wrap=isinstance(part, str))
    for part in _differences(comparison.differences, len(comparison.settings)):
        console.print(part, soft_wrap=isinstance(part, str))
    for note in comparison.notes:
        console.print(f"Note: {note}", soft_wrap=True)


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table


def _scores(comparison: Comparison) -> Table:
    from edgekd.report.comparison import score_table
    from edgekd.report.wording import score_cell

    table = _table("setting", "stage", "backbone")
    for heading in ("parameters", *comparison.measures):
        table.add_column(heading, justify="right")
    for first, scores in score_table(comparison):
        cells = [score_cell(score) if score else "" for score in scores]
        table.add_row(first.setting, first.stage, first.backbone, f"{first.parameters:,}", *cells)
    return table


def _recipes(comparison: Comparison) -> Iterator[Table | str]:
    settings, keys = comparison.settings, list(comparison.settings[0].choices)
    if len(keys) == 1 and all(setting.name in setting.choices.values() for setting in settings):
        yield f"\nThe recipes differ in {keys[0]} alone."
        return
    if not keys:
        return
    yield "\nWhere the recipes differ:"
    rows = [["key", *(setting.name for setting in settings)]]
    rows += [[key, *(setting.choices[key] or "-" for setting in settings)] for key in keys]
    table = _table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    yield table


def _differences(differences: Sequence[Difference], settings: int) -> Iterator[Table | str]:
    from edgekd.report.wording import TESTS, difference_cells

    if not differences:
        yield f"\nNothing to test: {_nothing(settings)}."
        return
    beyond = [difference for difference in differences if difference.beyond_noise]
    listed = differences if len(differences) <= MOST_DIFFERENCES else beyond
    yield f"\nBeyond noise (Holm-corrected p < 0.05): {len(beyond)} of {len(differences)} differences" + (
        "; the others are left out here" if len(listed) < len(differences) else ""
    )
    table = _table("first", "second", "at")
    for heading in ("points", "test", "p", "p, Holm", "beyond noise"):
        table.add_column(heading, justify="right")
    for difference in listed:
        table.add_row(*difference_cells(difference))
    if listed:
        yield table
    for name in sorted({difference.test for difference in differences}):
        yield f"{name}: {TESTS[name]}"


def _nothing(settings: int) -> str:
    if settings == 1:
        return "one setting, without a student from scratch beside a distilled one"
    return "no two settings were measured alike at one stage, or their weights there are the same"
