"""How a report looks in a terminal: findings, memory, the table from teacher to deployed file, the verdict last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgekd.cli._lineage import gains, stages_table
from edgekd.verify.report import LiveTensor, Report
from edgekd.verify.rules import Finding

COLOURS = {"pass": "green", "fail": "bold red", "unknown": "yellow"}


def print_report(console: Console, report: Report) -> None:
    """Print everything; the verdict is the last line."""
    console.print(
        f"[bold]{escape(report.model.path)}[/bold]  {report.model.flavour}, profile {escape(report.profile.name)}",
        soft_wrap=True,
    )
    console.print(_findings_table(report.findings))
    for line in [*_memory_lines(report), *(f"warning: {text}" for text in report.warnings)]:
        console.print(escape(line), soft_wrap=True)
    console.print(stages_table(report.lineage))
    if line := gains(report.lineage):
        console.print(line, soft_wrap=True)
    counts = ", ".join(f"{_count(report.findings, status)} {status}" for status in COLOURS)
    colour = COLOURS[report.verdict]
    console.print(f"verdict: [{colour}]{report.verdict}[/{colour}] ({counts})", soft_wrap=True)


def _findings_table(findings: Sequence[Finding]) -> Table:
    """Failures first, then what is unknown, then what passed."""
    table = Table("", "rule", "finding", box=None, header_style="bold", pad_edge=False)
    for status in ("fail", "unknown", "pass"):
        for finding in findings:
            if finding.status == status:
                mark = f"[{COLOURS[status]}]{status}[/{COLOURS[status]}]"
                source = f"\n[dim]{escape(finding.source)}[/dim]" if finding.source and status == "fail" else ""
                table.add_row(mark, finding.rule, escape(finding.message) + source)
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
