"""The page of a verification: the verdict and why, what the file costs, how accurate it is. One HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekd.report import verification_figures as figures
from edgekd.report.templates import render
from edgekd.report.wording import (
    certificate_line,
    estimate_line,
    live_set,
    region_line,
    rule_sentence,
    sqnr_line,
    versions_line,
    weights_by_width,
)

if TYPE_CHECKING:
    from edgekd.verify.report import Report, Unverified
    from edgekd.verify.rules import Finding

    Entries = Sequence[Report | Unverified]

_TEMPLATE = "verification.html.j2"
_ORDER = ("fail", "unknown", "pass")


@dataclass(frozen=True)
class Section:
    """One report as the page shows it: figures as SVG or None, findings the worst first."""

    report: Report
    figures: Mapping[str, str | None]
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]


def verification_page(entries: Entries) -> str:
    """Return one HTML page for all files; nothing in it is loaded from elsewhere."""
    from edgekd.verify.report import Report

    reports = [entry for entry in entries if isinstance(entry, Report)]
    failed = [entry for entry in entries if not isinstance(entry, Report)]
    many = len(entries) > 1 or bool(failed)
    sections = [_section(report, f"{number}-" if many else "") for number, report in enumerate(reports, 1)]
    return render(
        _TEMPLATE,
        title=f"Verification of {len(entries)} files" if many else f"Verification of {reports[0].model.path}",
        many=many,
        sections=sections,
        failed=failed,
        most_tensors=figures.MOST_TENSORS,
        most_layers=figures.MOST_LAYERS,
        certificate_line=certificate_line,
        estimate_line=estimate_line,
        live_set=live_set,
        sqnr_line=sqnr_line,
        rule_sentence=rule_sentence,
        region_line=region_line,
        versions_line=versions_line,
        weights_by_width=weights_by_width,
    )


def _section(report: Report, prefix: str) -> Section:
    return Section(
        report=report,
        figures={
            "memory": figures.memory_plan(report, prefix),
            "layers": figures.layers(report, prefix),
            "engines": figures.engines(report, prefix),
            "sqnr": figures.sqnr(report, prefix),
        },
        findings=tuple(sorted(report.findings, key=lambda finding: _ORDER.index(finding.status))),
        counts={status: sum(finding.status == status for finding in report.findings) for status in _ORDER},
    )
