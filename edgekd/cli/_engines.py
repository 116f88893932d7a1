"""What each engine and arithmetic makes of a file, as a table and lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from edgekd.report.wording import certificate_line, sqnr_line
from edgekd.verify.report import Report


def engines_table(report: Report) -> Table:
    """A row for each engine: its accuracies with their intervals, and how its integers differ."""
    shots = sorted({(row.way, row.shot) for row in report.accuracy})
    names = dict.fromkeys([*(row.engine for row in report.accuracy), *(row.engine for row in report.engines)])
    accuracies = {(row.engine, row.way, row.shot): row for row in report.accuracy}
    differences = {row.engine: row for row in report.engines}
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("engine", no_wrap=True)
    for heading in (*(f"{way}-way {shot}-shot %" for way, shot in shots), "differing %", "max LSB"):
        table.add_column(heading, justify="right")
    for name in names:
        rows = [accuracies.get((name, *shot)) for shot in shots]
        cells = [f"{100 * row.mean:.2f} ± {100 * row.ci95:.2f}" if row else "" for row in rows]
        other = differences.get(name)
        table.add_row(
            escape(name), *cells, f"{100 * other.differing:.3f}" if other else "", str(other.max_lsb) if other else ""
        )
    return table


def arithmetic_lines(report: Report) -> Iterator[str]:
    """The widest accumulator, the certificate, and the layer that loses most to quantization."""
    if report.accumulators:
        widest = max(report.accumulators, key=lambda row: row.bits)
        limit = "" if widest.limit_bits is None else f", the target has {widest.limit_bits}"
        lost = sum(row.overflows or 0 for row in report.accumulators)
        overflows = f"; {lost:,} sums overflowed" if lost else ""
        yield f"accumulators: {widest.bits} bits hold every sum, at {widest.node}{limit}{overflows}"
    if report.certificate:
        yield certificate_line(report.certificate)
    if report.sqnr:
        yield sqnr_line(report.sqnr)
