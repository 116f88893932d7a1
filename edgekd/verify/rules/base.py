"""What a rule is and what it finds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts

Status = Literal["pass", "fail", "unknown"]
_MOST_SHOWN = 5
Scalar = bool | int | float | str | None


class Finding(BaseModel):
    """What one rule says about the file, or about one node of it.

    `value` is what the file has, `limit` what the target allows, `source` where that limit is stated, `hint` what would
    make a failure pass, where that can be computed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    rule: str = ""
    status: Status
    message: str
    node: str | None = None
    attribute: str | None = None
    value: Scalar = None
    limit: Scalar = None
    source: str | None = None
    hint: str | None = None


Rule = Callable[[Facts, HardwareProfile], Iterable[Finding]]
RULES: dict[str, Rule] = {}
KEYS: dict[str, tuple[str, ...]] = {}
SCALES_RULE, WEIGHTS_RULE = "valid-scales", "finite-weights"  # a file that fails them computes nothing anywhere


def rule(name: str, *keys: str) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule `name`; its docstring is the sentence that the user reads.

    `keys` are those of the profile that it needs to decide; none for a rule on the file alone.
    """

    def register(check: Rule) -> Rule:
        RULES[name], KEYS[name] = check, keys
        return check

    return register


def sentence(name: str) -> str:
    """Return what the rule demands: the first line of its docstring."""
    return (inspect.getdoc(RULES[name]) or "").partition("\n")[0]


def check_all(facts: Facts, profile: HardwareProfile) -> tuple[Finding, ...]:
    """Apply every rule, in the order of their names, and return all findings at once."""
    return tuple(_checked(facts, profile))


def _checked(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    for name in sorted(RULES):
        for finding in RULES[name](facts, profile):
            yield finding.model_copy(update={"rule": name})


def unsaid(profile: HardwareProfile, key: str, has: str, value: Scalar = None) -> Finding:
    """Return the finding of a rule that cannot decide: `key` is absent from the profile, the file `has` this."""
    message = f"'{profile.name}' does not say {key}; the file has {has}"
    return Finding(status="unknown", message=message, attribute=key, value=value)


def shown(nodes: Sequence[str]) -> str:
    """Return the names of nodes, the first few where there are many."""
    return ", ".join(nodes[:_MOST_SHOWN]) + (f" and {len(nodes) - _MOST_SHOWN} more" * (len(nodes) > _MOST_SHOWN))
