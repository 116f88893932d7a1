"""Rules on how much there is: parameters, weight bytes, layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgekd.profile import Cap, HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.rules.base import Finding, Status, rule, shown, unsaid
from edgekd.verify.rules.hints import chain_of, chain_text, too_many, widest

_NOUNS = {"params": "parameters", "layers": "layers"}


@rule("parameters", "params")
def parameters(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The network has no more parameters than the target holds."""
    hidden = [node.name for node in facts.costs.unweighed]
    found, cap = _judge(profile, "params", profile.params, facts.costs.parameters, hidden=hidden), profile.params.max
    if found.status == "fail" and cap is not None:
        hint = widest(facts, lambda weights, biases: weights + biases <= cap)
        hint = hint or too_many(facts, facts.costs.parameters - cap, "parameters")
        found = found.model_copy(update={"hint": hint})
    yield found


@rule("constants-counted")
def constants_counted(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:  # noqa: ARG001 - on the file alone
    """Every large constant that an operator reads is counted among the parameters."""
    for name in facts.costs.uncounted:
        shape, readers = facts.graph.value(name).shape, facts.graph.consumers.get(name, ())
        size = "of a size that the file does not tell" if shape is None else f"of {math.prod(shape):,} elements"
        message = f"{readers[0].name} reads the constant '{name}' {size}, which is in no count of parameters and bytes"
        yield Finding(status="unknown", message=message, node=readers[0].name, attribute="constant", value=name)


@rule("layers", "layers")
def layers(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The network has no more layers with weights than the target runs."""
    found = _judge(profile, "layers", profile.layers, len(facts.layers))
    chain = chain_of(facts)
    if found.status == "fail" and profile.layers.max and chain:
        fewer, width = replace(chain[0], layers=profile.layers.max), chain[1]
        found = found.model_copy(update={"hint": chain_text(fewer, width)})
    yield found


def _judge(profile: HardwareProfile, section: str, cap: Cap, total: int, *, hidden: Sequence[str] = ()) -> Finding:
    """Compare a count with a cap; `hidden` are operators whose share the file does not tell."""
    key, noun = f"{section}.max", _NOUNS[section]
    if cap.max is None and not cap.unlimited:
        return unsaid(profile, key, f"{total:,} {noun}", total)
    status: Status = "unknown" if hidden else "pass"
    message = (
        f"{total:,} {noun}, limited by memory only" if cap.max is None else f"{total:,} {noun} of at most {cap.max:,}"
    )
    if hidden:
        message += f", without those of {shown(hidden)}, which the file does not tell"
    if cap.max is not None and total > cap.max:
        status, message = "fail", f"{total:,} {noun} exceed the cap of {cap.max:,} by {total - cap.max:,}"
    return Finding(
        status=status, message=message, attribute=key, value=total, limit=cap.max, source=profile.source(key)
    )
