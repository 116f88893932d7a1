"""How a report looks in a terminal: findings, memory, the table from teacher to deployed file, the verdict last."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgekd.cli._engines import arithmetic_lines, engines_table
from edgekd.cli._lineage import SHOWN, gains, stages_table
from edgekd.report.wording import estimate_line, live_set, region_line, versions_line, weights_by_width
from edgekd.verify.accuracy import FINGERPRINT_RULE
from edgekd.verify.report import Report, Unverified, collect
from edgekd.verify.requirements import undecided
from edgekd.verify.rules import Finding

COLOURS = {"fail": "bold red", "pass": "green", "unknown": "yellow"}
MOST_NAMES = 12  # of nodes with the same finding


def print_failures(console: Console, report: Report) -> None:
    """Print a file's name and what failed, nothing where nothing did: the short form for one file among several."""
    failures = [finding for finding in report.findings if finding.status == "fail"]
    if failures:
        console.print(f"[bold]{escape(report.model.path)}[/bold]", soft_wrap=True)
        console.print(_findings_table(failures))


def print_report(console: Console, report: Report) -> None:
    """Print everything; the verdict is the last line."""
    console.print(
        f"[bold]{escape(report.model.path)}[/bold]  {report.model.flavour}, profile {escape(report.profile.name)}",
        soft_wrap=True,
    )
    console.print(_findings_table(report.findings))
    _print_lines(console, [*_memory_lines(report), *(f"estimate: {estimate_line(row)}" for row in report.estimates)])
    if report.pixels:
        _print_lines(console, [f"pixels enter as {report.pixels}"])
    if len({row.engine for row in report.accuracy}) > 1 or report.engines:
        console.print(engines_table(report))
    _print_lines(console, [*arithmetic_lines(report), *(f"warning: {text}" for text in _warnings(report))])
    if report.params.total or report.accuracy or len(report.lineage) > 1:
        this = "this file" if report.model.flavour == "float" else "INT8 deployed"
        console.print(stages_table(report.lineage, this))
    if any(stage.stage in SHOWN for stage in report.lineage[:-1]):
        console.print("* as the file says, not measured here")
    if line := gains(report.lineage if _same_images(report) else report.lineage[:-1]):
        console.print(f"by what the file says: {line}", soft_wrap=True)
    console.print(f"[dim]{escape(versions_line(report.environment))}[/dim]", soft_wrap=True)
    console.print(f"verdict: {_coloured(report.verdict)} ({_counts(report)})", soft_wrap=True)


def print_summary(console: Console, entries: Sequence[Report | Unverified]) -> None:
    """Print a line for each of several files, by its path in their common folder; for damaged ones what is wrong."""
    root = os.path.commonpath([os.path.dirname(_path(entry)) for entry in entries])  # noqa: PTH120 - of text
    headings = ("", "file", "parameters", "weights", "peak", "findings")
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for entry in entries:
        path = escape(os.path.relpath(_path(entry), root or "."))
        if isinstance(entry, Unverified):
            table.add_row("[bold red]error[/bold red]", path, "", "", "", escape(entry.error))
        else:
            peak = entry.memory.peak_activation_bytes
            table.add_row(
                _coloured(entry.verdict),
                path,
                f"{entry.params.total:,}",
                f"{entry.memory.weight_bytes:,} B",
                "unknown" if peak is None else f"{peak:,} B",
                _counts(entry),
            )
    console.print(escape(root or "."), soft_wrap=True)
    console.print(table)
    console.print(f"verdict: {_coloured(collect(entries).verdict)} ({len(entries)} files)")


def _path(entry: Report | Unverified) -> str:
    return entry.path if isinstance(entry, Unverified) else entry.model.path


def _print_lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(escape(line), soft_wrap=True)


def _same_images(report: Report) -> bool:
    """Say whether the deployed file, last in the lineage, was measured on the images of the stages before it."""
    return all(finding.status == "pass" for finding in report.findings if finding.rule == FINGERPRINT_RULE)


def _findings_table(findings: Sequence[Finding]) -> Table:
    """Failures first, with each hint and the source of each limit once; then what passed, then what is unknown."""
    table = Table("", "rule", "finding", box=None, header_style="bold", pad_edge=False)
    cited: set[str | None] = {None, ""}
    hinted: set[tuple[str, str]] = set()
    for finding, more in _folded(sorted(findings, key=lambda item: list(COLOURS).index(item.status))):
        text = escape(finding.message)
        if more:
            text += f"\nand {len(more)} more like it: {escape(_names(more))}"
        if finding.hint and (finding.rule, finding.hint) not in hinted:
            hinted.add((finding.rule, finding.hint))
            text += f"\n[bold]would pass:[/bold] {escape(finding.hint)}"
        if finding.status == "fail" and finding.source not in cited:
            cited.add(finding.source)
            text += f"\n[dim]{escape(finding.source or '')}[/dim]"
        table.add_row(_coloured(finding.status), finding.rule, text)
    return table


def _folded(findings: Sequence[Finding]) -> Iterator[tuple[Finding, tuple[Finding, ...]]]:
    """One rule's findings in a row with the same hint and limit as one: the first, with those like it."""
    for _, group in itertools.groupby(findings, key=_kind):
        first, *more = group
        yield first, tuple(more)


def _kind(finding: Finding) -> tuple[object, ...]:
    """What findings have in common that are shown as one; those on the whole file stand alone."""
    alone = finding.message if finding.node is None else ""
    return finding.status, finding.rule, finding.value, finding.limit, finding.hint, alone


def _names(findings: Sequence[Finding]) -> str:
    names = ", ".join(str(finding.node) for finding in findings[:MOST_NAMES])
    return f"{names}, ..." if len(findings) > MOST_NAMES else names


def _memory_lines(report: Report) -> list[str]:
    memory = report.memory
    least = "at least " if report.params.unknown else ""
    lines = [
        f"weights {least}{memory.weight_bytes:,} B, {least}{report.params.total:,} parameters, {report.macs:,} MACs"
    ]
    lines.append(f"  parameters: {report.params.convention}")
    if memory.weights:
        lines.append(f"  {weights_by_width(memory)}")
    lines += [f"  {region_line(row)}" for row in memory.regions]
    if memory.peak_activation_bytes is not None:
        where = f" at {memory.peak_node}" if memory.peak_node else ""
        lines.append(f"activations: peak {memory.peak_activation_bytes:,} B{where} ({memory.planner})")
        lines.append(f"  live there: {live_set(memory)} = {memory.lower_bound_bytes:,} B")
        lines.append(f"  {memory.peak_activation_bytes_fused:,} B with each convolution fused with its pool")
    return lines


def _warnings(report: Report) -> Iterable[str]:
    """The report's own, and what a requirement that could not be decided means for the exit code."""
    yield from report.warnings
    if undecided(report):
        yield "a requirement could not be decided: the exit code is 3, with or without --strict"


def _coloured(status: str) -> str:
    return f"[{COLOURS[status]}]{status}[/{COLOURS[status]}]"


def _counts(report: Report) -> str:
    statuses = [finding.status for finding in report.findings]
    return ", ".join(f"{sum(item == status for item in statuses)} {status}" for status in ("pass", "unknown", "fail"))
