"""The findings of reports as SARIF 2.1.0: a failure is an error, what cannot be decided a warning, a remark a note.

What passed is no result, because code scanning shows every result as an alert; the rules that were applied are listed.
Source: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0, 2020,
https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from edgekd import __version__
from edgekd.files import sha256_bytes
from edgekd.report.wording import rule_sentence

if TYPE_CHECKING:
    from edgekd.verify.report import Report, Unverified
    from edgekd.verify.rules import Finding

    Entries = Sequence[Report | Unverified]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
REMARK = "remark"  # the rule id of what a report warns of; it decides nothing

_LEVELS: Mapping[str, str] = {"fail": "error", "unknown": "warning"}
_STATED = ("attribute", "value", "limit", "source")


def sarif_log(entries: Entries) -> str:
    """Return one SARIF log with one run for all files; a file that could not be verified is a notification."""
    from edgekd.verify.report import Report

    reports = [entry for entry in entries if isinstance(entry, Report)]
    failed = [entry for entry in entries if not isinstance(entry, Report)]
    rules = _rule_ids(reports)
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "edgekd",
                "version": __version__,
                "rules": [{"id": name, "shortDescription": {"text": rule_sentence(name)}} for name in rules],
            }
        },
        "invocations": [
            {
                "executionSuccessful": not failed and not any(report.errors for report in reports),
                "toolExecutionNotifications": [_notification(entry) for entry in failed],
            }
        ],
        "artifacts": [
            {"location": {"uri": _uri(report.model.path)}, "hashes": {"sha-256": report.model.sha256}}
            for report in reports
        ],
        "results": [result for report in reports for result in _results(report, rules)],
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule_ids(reports: Sequence[Report]) -> list[str]:
    return [*sorted({finding.rule for report in reports for finding in report.findings}), REMARK]


def _results(report: Report, rules: Sequence[str]) -> Iterator[dict[str, Any]]:
    for finding in report.findings:
        if finding.status in _LEVELS:
            yield _result(report, finding, rules)
    for text in report.warnings:
        yield {
            "ruleId": REMARK,
            "ruleIndex": rules.index(REMARK),
            "level": "note",
            "message": {"text": text},
            "locations": [_location(report.model.path, None)],
        }


def _result(report: Report, finding: Finding, rules: Sequence[str]) -> dict[str, Any]:
    stated = {key: value for key in _STATED if (value := getattr(finding, key)) not in {None, ""}}
    hint = f" Would pass: {finding.hint}" if finding.hint else ""
    key = "\0".join([finding.rule, finding.node or "", finding.attribute or ""])
    return {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "level": _LEVELS[finding.status],
        "message": {"text": finding.message + hint},
        "locations": [_location(report.model.path, finding.node)],
        "partialFingerprints": {"ruleNodeAttribute/v1": sha256_bytes(key.encode())},
        "properties": {"status": finding.status, "profile": report.profile.name, **stated},
    }


def _location(path: str, node: str | None) -> dict[str, Any]:
    """The model file, and the operator in it; a model has no lines, but viewers want one."""
    place: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(path)}, "region": {"startLine": 1}},
    }
    if node:
        place["logicalLocations"] = [{"name": node, "fullyQualifiedName": node, "kind": "member"}]
    return place


def _notification(entry: Unverified) -> dict[str, Any]:
    return {"level": "error", "message": {"text": entry.error}, "locations": [_location(entry.path, None)]}


def _uri(path: str) -> str:
    """A file URI of an absolute path; a relative one stays relative, to the folder that the command ran in."""
    return Path(path).as_uri() if Path(path).is_absolute() else quote(Path(path).as_posix())
