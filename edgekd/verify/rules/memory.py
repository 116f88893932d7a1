"""Rules on memory: weights and activations in the regions that the profile lists."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.memory import ActivationMemory
from edgekd.verify.planner import Plan
from edgekd.verify.regions import ArenaRoom, arena_room, weight_room
from edgekd.verify.rules.base import Finding, Status, rule, unsaid

_KEY = "memory.regions"


@rule("weight-memory")
def weight_memory(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The weights and biases fit the memory for weights."""
    packed, unpacked = facts.costs.weight_bytes, facts.costs.unpacked_weight_bytes
    room = weight_room(profile)
    if room is None:
        yield unsaid(profile, f"{_KEY} for weights", f"{packed:,} B of weights and biases", packed)
        return
    needed = unpacked if profile.weights.packing == "byte" else packed
    undecided = profile.weights.packing is None and packed <= room < unpacked
    message = f"{needed:,} B of weights and biases, {room:,} B of memory for them"
    if undecided:
        message += f"; only if packed: the profile does not say weights.packing, unpacked they take {unpacked:,} B"
    yield Finding(
        status="unknown" if undecided else "pass" if needed <= room else "fail",
        message=message,
        attribute=_KEY,
        value=needed,
        limit=room,
        source=profile.source(_KEY),
    )


@rule("activation-memory")
def activation_memory(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The activations that are live together fit the memory for activations."""
    memory = facts.memory
    plan = memory.fused if profile.memory.conv_pool_fused else memory.plan
    room = arena_room(profile, facts.costs.weight_bytes)
    if plan is None:
        yield Finding(status="unknown", message=f"sizes not known: {', '.join(memory.unsized[:5])}", attribute=_KEY)
    elif room is None:
        yield unsaid(profile, f"{_KEY} for activations", f"a peak of {plan.peak_bytes:,} B", plan.peak_bytes)
    else:
        status, message = _judge(memory, plan, room, profile.memory.conv_pool_fused)
        yield Finding(
            status=status,
            message=message,
            node=_peak_node(memory, plan),
            attribute=_KEY,
            value=plan.peak_bytes,
            limit=room.bytes,
            source=profile.source(_KEY),
        )


def _judge(memory: ActivationMemory, plan: Plan, room: ArenaRoom, fused: bool | None) -> tuple[Status, str]:
    """Compare a peak with the largest arena; what fusing or splitting could save is unknown where they may exist."""
    peak, largest = plan.peak_bytes, f"{room.region}, the largest region for activations ({room.bytes:,} B)"
    if peak <= room.bytes:
        return "pass", f"peak {peak:,} B fits {largest}"
    message = f"peak {peak:,} B exceeds {largest}, by {peak - room.bytes:,} B"
    if room.can_split and peak <= room.total_bytes:
        return "unknown", f"{message}; spread over all regions ({room.total_bytes:,} B) it may fit"
    if not fused and memory.fused and memory.fused.peak_bytes <= room.bytes:
        note = f"; it would fit ({memory.fused.peak_bytes:,} B) if each convolution were fused with its pool"
        return ("unknown" if fused is None else "fail"), message + note
    return "fail", message


def _peak_node(memory: ActivationMemory, plan: Plan) -> str | None:
    return memory.steps[plan.peak_step].name if memory.steps else None
