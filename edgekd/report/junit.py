"""The findings of reports as JUnit XML: a suite for each file, a test case for each rule.

A rule that cannot decide is a skipped case, and a failed one where strict or where the user required it; a file that
could not be verified is an error. The form is the one that CI servers read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from edgekd import __version__

if TYPE_CHECKING:
    from edgekd.verify.report import Report, Unverified
    from edgekd.verify.rules import Finding

    Entries = Sequence[Report | Unverified]

# What XML 1.0 cannot hold, not even escaped: a node may be called anything.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
REQUIRE = "require"  # the rule of the user's own limits
_COUNTED = ("failures", "errors", "skipped")


def junit_xml(entries: Entries, *, strict: bool = False) -> str:
    """Return one XML document for all files."""
    from edgekd.verify.report import Report

    root = ET.Element("testsuites", name="edgekd verify")
    for entry in entries:
        root.append(_suite(entry, strict=strict) if isinstance(entry, Report) else _error(entry))
    for name in ("tests", *_COUNTED):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(report: Report, *, strict: bool) -> ET.Element:
    suite = ET.Element("testsuite", name=_clean(report.model.path))
    suite.append(_properties(report))
    for name, findings in _cases(report.findings).items():
        suite.append(_case(report, name, findings, strict=strict))
    if report.warnings:
        ET.SubElement(suite, "system-out").text = _clean("\n".join(report.warnings))
    suite.set("time", f"{report.timings.static_s + (report.timings.accuracy_s or 0):.3f}")
    return _counted(suite)


def _properties(report: Report) -> ET.Element:
    facts = {
        "verdict": report.verdict,
        "profile": report.profile.name,
        "model.sha256": report.model.sha256,
        "edgekd": __version__,
        **report.environment.versions,
    }
    properties = ET.Element("properties")
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=_clean(name), value=_clean(value))
    return properties


def _cases(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings by rule; each requirement of the user is a case of its own."""
    cases: dict[str, list[Finding]] = {}
    for finding in findings:
        name = f"{finding.rule}: {finding.attribute}" if finding.rule == REQUIRE else finding.rule
        cases.setdefault(name, []).append(finding)
    return cases


def _case(report: Report, name: str, findings: Sequence[Finding], *, strict: bool) -> ET.Element:
    case = ET.Element("testcase", name=_clean(name), classname=_clean(report.model.path))
    failed = [finding for finding in findings if finding.status == "fail"]
    unknown = [finding for finding in findings if finding.status == "unknown"]
    counts = strict or findings[0].rule == REQUIRE  # a gate that cannot be decided does not let pass
    if failed or (counts and unknown):
        found = [*failed, *(unknown if counts else ())]
        failure = ET.SubElement(case, "failure", type=found[0].rule, message=_clean(found[0].message))
        failure.text = _clean("\n".join(_line(finding) for finding in found))
    elif unknown:
        ET.SubElement(case, "skipped", message=_clean("; ".join(finding.message for finding in unknown)))
    return case


def _line(finding: Finding) -> str:
    parts = [
        f"{finding.node}: {finding.message}" if finding.node else finding.message,
        f"would pass: {finding.hint}" if finding.hint else "",
        f"source: {finding.source}" if finding.source else "",
    ]
    return "\n  ".join(part for part in parts if part)


def _error(entry: Unverified) -> ET.Element:
    suite = ET.Element("testsuite", name=_clean(entry.path))
    case = ET.SubElement(suite, "testcase", name="verify", classname=_clean(entry.path))
    ET.SubElement(case, "error", type="EdgekdError", message=_clean(entry.error))
    return _counted(suite)


def _counted(suite: ET.Element) -> ET.Element:
    cases = suite.findall("testcase")
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": sum(case.find("error") is not None for case in cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    for name, count in counts.items():
        suite.set(name, str(count))
    return suite


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
