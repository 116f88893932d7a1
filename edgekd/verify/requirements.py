"""Requirements on a report, such as `accuracy[5w5s] >= 0.60`: each becomes a finding of the rule `require`.

The conventions: `accuracy` is the mean over the episodes and `accuracy_low` the lower end of its 95 % interval, both
fractions. A requirement that names no engine must hold for every engine that was measured. What was not measured is
unknown, never pass.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgekd.errors import UsageError, unknown
from edgekd.manifest import AccuracyRow
from edgekd.verify.quantities import PROTOCOL_FILTERS, QUANTITIES, Filters, Quantity, Reading
from edgekd.verify.report import Report, verdict_of
from edgekd.verify.request import Request
from edgekd.verify.rules import Finding

RULE = "require"
EXAMPLE = "accuracy[5w5s] >= 0.60"

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}
_UNITS = {"": 1.0, "%": 0.01, "KiB": 1024.0, "MiB": 1024.0**2}
_SHAPE = re.compile(
    r"\s*(?P<name>[^\s\[\]<>=]+)\s*(?:\[(?P<filters>[^\]]*)\])?\s*(?P<sign>[<>=!]+)\s*(?P<limit>.+?)\s*"
)
_NUMBER = re.compile(r"(?P<digits>[-+]?[\d_]*\.?[\d_]+(?:[eE][-+]?\d+)?)\s*(?P<unit>%|KiB|MiB|)")
_PROTOCOL = re.compile(r"(?P<way>\d+)w(?P<shot>\d+)s")


@dataclass(frozen=True)
class Requirement:
    """One requirement; `text` is as the user wrote it."""

    text: str
    name: str
    quantity: Quantity
    filters: Filters
    sign: str
    limit: float

    def holds(self, value: float) -> bool:
        """Say whether a value meets the limit."""
        return _OPERATORS[self.sign](value, self.limit)

    def worst(self, readings: Sequence[Reading]) -> Reading:
        """The reading that is furthest on the wrong side."""
        return (min if ">" in self.sign else max)(readings, key=lambda reading: reading.value)


def parse(text: str) -> Requirement:
    """Read `QUANTITY [FILTERS] OPERATOR NUMBER`.

    Raises:
        UsageError: it does not read so, with the nearest legal name.
    """
    match = _SHAPE.fullmatch(text)
    if not match:
        raise UsageError(f"--require '{text}' does not read like {EXAMPLE}")
    name, sign = match["name"], match["sign"]
    if name not in QUANTITIES:
        raise UsageError(f"--require '{text}': {unknown('quantity', name, QUANTITIES)}")
    if sign not in _OPERATORS:
        raise UsageError(f"--require '{text}': unknown comparison '{sign}'. Known: {', '.join(_OPERATORS)}")
    quantity = QUANTITIES[name]
    limit = _limit(text, match["limit"])
    if quantity.fraction and not 0 <= limit <= 1:
        raise UsageError(f"--require '{text}': {name} is a fraction in 0..1: write 0.60 or 60%")
    return Requirement(text.strip(), name, quantity, _filters(text, name, quantity, match["filters"]), sign, limit)


def _limit(text: str, number: str) -> float:
    match = _NUMBER.fullmatch(number)
    try:
        value = float(match["digits"]) * _UNITS[match["unit"]] if match else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"--require '{text}': '{number}' is not a number such as 0.60, 60%, 150_000 or 512KiB")
    return value


def _filters(text: str, name: str, quantity: Quantity, written: str | None) -> Filters:
    """Read "5w5s, engine=integer:tflm" as what a reading must be of."""
    found: dict[str, str | int] = {}
    for item in filter(None, (part.strip() for part in (written or "").split(","))):
        protocol, (key, equals, value) = _PROTOCOL.fullmatch(item), (part.strip() for part in item.partition("="))
        if protocol and "shot" in quantity.filters:
            found |= {"way": int(protocol["way"]), "shot": int(protocol["shot"])}
        elif not quantity.filters:
            raise UsageError(f"--require '{text}': {name} takes nothing in brackets")
        elif key not in set(quantity.filters) - {"way", "shot"}:
            raise UsageError(f"--require '{text}': {unknown('filter', key, quantity.filters)}")
        elif not equals or not value or (key == "query" and not value.isdecimal()):
            raise UsageError(f"--require '{text}': '{item}' does not read like {key}=VALUE")
        else:
            found[key] = int(value) if key == "query" else value
    if "shot" in quantity.filters and "shot" not in found:
        raise UsageError(f"--require '{text}': say of which episodes, for example {name}[5w5s]")
    return found


def complete(request: Request, requirements: Iterable[Requirement]) -> Request:
    """Return the request with what the requirements need measured: their shots, protocol and integer engines.

    Raises:
        UsageError: two of them, or one and the request, want another way, query or head: that takes two runs.
    """
    for item in requirements:
        for key in PROTOCOL_FILTERS:
            wanted, asked = item.filters.get(key), getattr(request, key)
            if wanted is not None and asked not in {None, wanted}:
                raise UsageError(f"--require '{item.text}' is of {key} {wanted}, but this run measures {key} {asked}")
            request = request if wanted is None else _with(request, key, wanted)
        request = _with(request, "more_shots", (*request.more_shots, *_value(item, "shot")))
        kind, _, requant = str(item.filters.get("engine", "")).partition(":")
        if kind == "integer" and requant:
            request = _with(request, "more_requant", (*request.more_requant, requant))
    return request


def _with(request: Request, key: str, value: Any) -> Request:  # noqa: ANN401 - of the field's own type
    return replace(request, **{key: value})


def _value(item: Requirement, key: str) -> list[int]:
    return [int(item.filters[key])] if key in item.filters else []


def judged(report: Report, requirements: Sequence[Requirement]) -> Report:
    """Return the report with a finding for each requirement, and the verdict that follows."""
    if not requirements:
        return report
    findings = (*report.findings, *(_finding(item, report) for item in requirements))
    return report.model_copy(update={"findings": findings, "verdict": verdict_of(findings)})


def undecided(report: Report) -> bool:
    """Say whether a requirement could not be decided: a gate that did not measure must not let pass."""
    return any(finding.rule == RULE and finding.status == "unknown" for finding in report.findings)


def _finding(item: Requirement, report: Report) -> Finding:
    readings = item.quantity.read(report, item.filters)
    label = item.text.partition(item.sign)[0].strip()
    common: dict[str, Any] = {"rule": RULE, "attribute": label, "limit": item.limit, "source": f"--require {item.text}"}
    required = f"required {item.sign} {item.quantity.show(item.limit)}"
    if not readings:
        message = f"{label} is not known ({_instead(item, report)}); {required}"
        return Finding(status="unknown", message=message, **common)
    worst = item.worst(readings)
    message = f"{label} is {item.quantity.show(worst.value)}{worst.note}; {required}"
    return Finding(status="pass" if item.holds(worst.value) else "fail", message=message, value=worst.value, **common)


def _instead(item: Requirement, report: Report) -> str:
    """Say what there is in place of what was not measured."""
    if "shot" not in item.filters:
        return item.quantity.absent
    rows = [f"{row.way}w{row.shot}s, {_origin(row)}" for row in report.accuracy]
    return f"measured: {'; '.join(rows)}" if rows else "no accuracy was measured"


def _origin(row: AccuracyRow) -> str:
    return f"engine={row.engine}, head={row.head}, dataset={row.dataset}, query={row.query}"
