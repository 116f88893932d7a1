"""How a report looks in a terminal: findings, memory, the table from teacher to deployed file, the verdict last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgekd.cli._lineage import gains, stages_table
from edgekd.verify.accuracy import FINGERPRINT_RULE
from edgekd.verify.report import LiveTensor, Report
from edgekd.verify.rules import Finding

COLOURS = {"fail": "bold red", "unknown": "yellow", "pass": "green"}


def print_report(console: Console, report: Report) -> None:
    """Print everything; the verdict is the last line."""
    console.print(
        f"[bold]{escape(report.model.path)}[/bold]  {report.model.flavour}, profile {escape(report.profile.name)}",
        soft_wrap=True,
    )
    console.print(_findings_table(report.findings))
    for line in [*_memory_lines(report), *(f"warning: {text}" for text in report.warnings)]:
        console.print(escape(line), soft_wrap=True)
    console.print(stages_table(report.lineage, "this file" if report.model.flavour == "float" else "INT8 deployed"))
    if line := gains(report.lineage if _same_images(report) else report.lineage[:-1]):
        console.print(line, soft_wrap=True)
    counts = ", ".join(f"{_count(report.findings, status)} {status}" for status in reversed(COLOURS))
    colour = COLOURS[report.verdict]
    console.print(f"verdict: [{colour}]{report.verdict}[/{colour}] ({counts})", soft_wrap=True)


def _same_images(report: Report) -> bool:
    """Say whether the deployed file, last in the lineage, was measured on the images of the stages before it."""
    return all(finding.status == "pass" for finding in report.findings if finding.rule == FINGERPRINT_RULE)


def _findings_table(findings: Sequence[Finding]) -> Table:
    """Failures first, with the source of each limit once; then what is unknown, then what passed."""
    table = Table("", "rule", "finding", box=None, header_style="bold", pad_edge=False)
    cited: set[str | None] = {None, ""}
    for finding in sorted(findings, key=lambda item: list(COLOURS).index(item.status)):
        text = escape(finding.message)
        if finding.status == "fail" and finding.source not in cited:
            cited.add(finding.source)
            text += f"\n[dim]{escape(finding.source or '')}[/dim]"
        colour = COLOURS[finding.status]
        table.add_row(f"[{colour}]{finding.status}[/{colour}]", finding.rule, text)
    return table


def _memory_lines(report: Report) -> list[str]:
    memory = report.memory
    lines = [f"weights {memory.weight_bytes:,} B, {report.params.total:,} parameters, {report.macs:,} MACs"]
    if memory.peak_activation_bytes is not None:
        lines.append(f"activations: peak {memory.peak_activation_bytes:,} B at {memory.peak_node} ({memory.planner})")
        lines.append(f"  live there: {_sum_of(memory.live_at_peak)} = {memory.lower_bound_bytes:,} B")
        lines.append(f"  {memory.peak_activation_bytes_fused:,} B with each convolution fused with its pool")
    return lines


def _sum_of(live: Iterable[LiveTensor]) -> str:
    return " + ".join(f"{item.bytes:,} ({item.tensor}, {' x '.join(map(str, item.shape))})" for item in live)


def _count(findings: Iterable[Finding], status: str) -> int:
    return sum(finding.status == status for finding in findings)
