"""Rules on the attributes of operators: each speaks of some limits that a profile's entries state."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.rules.base import Finding, rule
from edgekd.verify.rules.entries import UNLISTED, Assessment, assess
from edgekd.verify.rules.limit_hints import limit_hint
from edgekd.verify.rules.misses import Miss


@rule("kernel", "ops")
def kernel(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target runs windows of this size."""
    yield from _of(facts, profile, "kernel")


@rule("stride", "ops")
def stride(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target moves windows by this stride."""
    yield from _of(facts, profile, "stride")


@rule("padding", "ops")
def padding(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target pads images this far."""
    yield from _of(facts, profile, "padding")


@rule("dilation", "ops")
def dilation(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target spreads windows by this dilation."""
    yield from _of(facts, profile, "dilation")


@rule("groups", "ops")
def groups(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target runs convolutions with these groups: one, one a channel, or any."""
    yield from _of(facts, profile, "groups")


@rule("channels", "ops")
def channels(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target takes this many channels, with a bias, and in a pool of its own."""
    yield from _of(facts, profile, "channels")


@rule("dimensions", "ops")
def dimensions(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target runs operators on tensors of this many dimensions."""
    yield from _of(facts, profile, "dimensions")


@rule("image-size", "ops")
def image_size(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target takes images of this height and width, and flattens images of this size."""
    yield from _of(facts, profile, "image-size")


@rule("weight-sum", "ops")
def weight_sum(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The absolute weights of an output channel add up to no more than the target's arithmetic holds."""
    yield from _of(facts, profile, "weight-sum")


@rule("batch", "ops")
def batch(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target runs this many images at once."""
    yield from _of(facts, profile, "batch")


@rule("inputs", "ops")
def inputs(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target joins this many tensors at once."""
    yield from _of(facts, profile, "inputs")


@rule(UNLISTED, "ops")
def limits_stated(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The profile states every limit of each operator that the network uses."""
    yield from _of(facts, profile, UNLISTED)


def _of(facts: Facts, profile: HardwareProfile, name: str) -> Iterator[Finding]:
    """Yield every failure, what is unknown once an operator, and one line where all nodes with limits pass."""
    found = [(item, node) for node in assess(facts, profile) for item in node.findings.get(name, ())]
    unknown = {item.attribute: item for item, _ in reversed(found) if item.status == "unknown"}
    failures = [(item, node) for item, node in found if item.status == "fail"]
    failed = [_with_hint(facts, item, node, profile) if facts.hinted else item for item, node in failures]
    yield from failed
    yield from reversed(list(unknown.values()))
    if found and not failed and not unknown:
        nodes = len({item.node for item, _ in found})
        source = next((item.source for item, _ in found if item.source), None)
        message = f"{name} of {nodes} operators within limits"
        yield Finding(status="pass", message=message, attribute="ops", source=source)


def _with_hint(facts: Facts, failure: Finding, node: Assessment, profile: HardwareProfile) -> Finding:
    key, limits = str(failure.attribute).rpartition(".")[2], node.entry.limits()
    miss = Miss(facts, node.use, limits[key], limits, profile.ops or ())
    return failure.model_copy(update={"hint": limit_hint(key, miss)})
