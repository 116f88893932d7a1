"""Rules on how much there is: parameters, weight bytes, layers."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.rules.base import Finding, Status, rule, unsaid


@rule("parameters")
def parameters(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The network has no more parameters than the target holds."""
    total, cap = facts.costs.parameters, profile.params.max
    if cap is None:
        yield unsaid(profile, "params.max", f"{total:,} parameters", total)
        return
    status, message = _against_cap(total, cap, [node.name for node in facts.graph.nodes if node.has_subgraph])
    yield Finding(
        status=status,
        message=message,
        attribute="params.max",
        value=total,
        limit=cap,
        source=profile.source("params.max"),
    )


def _against_cap(total: int, cap: int, hidden: list[str]) -> tuple[Status, str]:
    """Compare with the cap; `hidden` are operators with graphs of their own, whose parameters are not in the total."""
    if total > cap:
        return "fail", f"{total:,} parameters exceed the cap of {cap:,} by {total - cap:,}"
    if hidden:
        return "unknown", f"{total:,} parameters of at most {cap:,}, without those inside {', '.join(hidden)}"
    return "pass", f"{total:,} parameters of at most {cap:,}"


@rule("layers")
def layers(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The network has no more layers with weights than the target runs."""
    count, most = len(facts.layers), profile.layers.max
    if most is None:
        yield unsaid(profile, "layers.max", f"{count} layers", count)
        return
    yield Finding(
        status="pass" if count <= most else "fail",
        message=f"{count} layers of at most {most}",
        attribute="layers.max",
        value=count,
        limit=most,
        source=profile.source("layers.max"),
    )
