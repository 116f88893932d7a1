"""How training looks in a terminal: a bar for each stage, a line for each epoch, tables at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgekd.manifest import Classification, StageResult
from edgekd.text import spelled

if TYPE_CHECKING:
    from rich.table import Table

# Of a Classification; micro ones equal the accuracy, as each image has one label.
SHARES = ("macro_f1", "macro_precision", "macro_recall", "micro_f1", "micro_precision", "micro_recall")
TITLES = {
    "teach": "teacher",
    "peer": "peer",
    "assist": "assistant",
    "start": "student's start",
    "scratch": "student from scratch",
    "connect": "teacher's connector",
    "distill": "distilled",
    "head": "distilled + head",
    "meta": "distilled + meta",
    "student": "float student",
    "quantize": "INT8 (torch)",
}


class TerminalReporter:
    """Draws progress with rich; without a terminal it prints a plain line for each epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            TextColumn("{task.description:<22}"),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def stage(self, name: str, total_steps: int, done_steps: int) -> None:
        """Start a bar."""
        self.task = self.progress.add_task(TITLES.get(name, name), total=total_steps, completed=done_steps, status="")
        if done_steps:
            self.note(f"{TITLES.get(name, name)}: going on at step {done_steps} of {total_steps}")

    def step(self, images: int) -> None:  # noqa: ARG002 - the bar counts steps
        """Advance the bar."""
        if self.task is not None:
            self.progress.advance(self.task)

    def metrics(self, line: dict[str, Any]) -> None:
        """Show the last epoch."""
        accuracy = f"val {100 * line['val_accuracy']:.1f} %  " if line["val_accuracy"] is not None else ""
        own = "".join(f"{name} {100 * value:.1f} %  " for name, value in line.get("measures", {}).items())
        status = f"loss {line['loss']:.3f}  {accuracy}{own}{line['images_per_s']:.0f} images/s"
        if "matrix_share" in line:
            status += f"  {100 * line['matrix_share']:.0f} % of the bf16 matrix rate"
        if line.get("stopped_early"):
            status += "  stopped early"
        if self.console.is_terminal and self.task is not None:
            total = line["step"] if line.get("stopped_early") else None  # None leaves it
            self.progress.update(self.task, status=status, total=total)
        else:
            self.console.print(
                f"  {TITLES.get(line['stage'], line['stage'])}  epoch {line['epoch']:g}  {status}", highlight=False
            )

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _by_head(found: Classification | None) -> tuple[str, ...]:
    if found is None:
        return "", ""
    return f"{100 * found.accuracy:.2f} ± {100 * found.ci95:.2f}", f"{100 * found.macro_f1:.2f}"


def _by_own(result: StageResult, names: Iterable[str]) -> list[str]:
    cells = {row.name: f"{100 * row.mean:.2f} ± {100 * row.ci95:.2f}" for row in result.measures}
    return [cells.get(name, "") for name in names]


def print_stages(console: Console, results: Iterable[StageResult]) -> None:
    """Print one row for each stage: size and accuracy."""
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for heading in ("stage", "backbone"):
        table.add_column(heading, no_wrap=True)
    results = list(results)
    by_head = ("accuracy %", "macro F1 %") if any(result.classification for result in results) else ()
    own = list(dict.fromkeys(row.name for result in results for row in result.measures))
    for heading in ("parameters", "bytes", "1-shot %", "5-shot %", *by_head, *(f"{spelled(name)} %" for name in own)):
        table.add_column(heading, justify="right")
    for result in results:
        cells = {row.shot: f"{100 * row.mean:.2f} ± {100 * row.ci95:.2f}" for row in result.accuracy}
        sizes = (f"{result.parameters:,}", f"{result.weight_bytes:,}")
        table.add_row(
            TITLES.get(result.stage, result.stage),
            result.backbone,
            *sizes,
            cells.get(1, ""),
            cells.get(5, ""),
            *(_by_head(result.classification) if by_head else ()),
            *_by_own(result, own),
        )
    console.print(table)
    if by_head:
        console.print(_shares(results))


def _shares(results: Iterable[StageResult]) -> Table:
    """One row for each stage that was measured by its head: what each share of the images or classes is."""
    from rich.table import Table

    table = Table("by its head, %", box=None, header_style="bold")
    for kind in SHARES:
        table.add_column(spelled(kind).replace("f1", "F1"), justify="right")
    for result in results:
        if result.classification:
            shares = (f"{100 * getattr(result.classification, kind):.2f}" for kind in SHARES)
            table.add_row(TITLES.get(result.stage, result.stage), *shares)
    return table
