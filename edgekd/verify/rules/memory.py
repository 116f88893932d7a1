"""Rules on memory: weights, biases and activations in the regions that the profile lists."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.memory import ActivationMemory
from edgekd.verify.placement import deployed_plan
from edgekd.verify.planner import Plan
from edgekd.verify.regions import ArenaRoom, arena_room, bias_room, stored_biases, stored_weights, weight_room
from edgekd.verify.rules.base import Finding, Status, rule, shown, unsaid
from edgekd.verify.rules.hints import chain_of, too_many, widest
from edgekd.verify.rules.narrower import arena_hints, fused, may_fuse

_KEY = "memory.regions"


@rule("weight-memory", "memory.regions")
def weight_memory(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The weights, with the biases where these have no memory of their own, fit the memory for weights."""
    packed, unpacked = (stored_weights(facts.costs, profile, packed=packed) for packed in (True, False))
    what, room = "weights" if bias_room(profile) else "weights and biases", weight_room(profile)
    if room is None:
        yield unsaid(profile, f"{_KEY} for weights", f"{packed:,} B of {what}", packed)
        return
    needed = unpacked if profile.weights.packing == "byte" else packed
    undecided = profile.weights.packing is None and packed <= room < unpacked
    status: Status = "unknown" if undecided else "pass" if needed <= room else "fail"
    message = f"{needed:,} B of {what}, {room:,} B of memory for them"
    if undecided:
        message += f"; only if packed: the profile does not say weights.packing, unpacked they take {unpacked:,} B"
    status, message = _with_unweighed(facts, status, message)
    hint = None
    if status == "fail":
        hint = _narrower(facts, profile, room) or too_many(facts, needed - room, "B")
    yield Finding(
        status=status, message=message, attribute=_KEY, value=needed, limit=room, source=profile.source(_KEY), hint=hint
    )


@rule("bias-memory", "memory.regions")
def bias_memory(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The biases fit the memory for them, or lie beside the weights."""
    needed, room = stored_biases(facts.costs, profile), bias_room(profile)
    if weight_room(profile) is None and room is None:
        yield unsaid(profile, f"{_KEY} for biases", f"{needed:,} B of biases", needed)
        return
    own = f"{needed:,} B of biases, {room:,} B of memory for them" if room is not None else "counted with the weights"
    status, message = _with_unweighed(facts, "pass" if room is None or needed <= room else "fail", own)
    yield Finding(
        status=status,
        message=message,
        attribute=_KEY,
        value=needed,
        limit=room,
        source=profile.source(_KEY),
        hint=_fewer_biases(facts, needed, room) if status == "fail" and room is not None else None,
    )


@rule("activation-memory", "memory.regions")
def activation_memory(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The activations that are live together fit the memory for activations."""
    plan, room = deployed_plan(facts, profile), arena_room(profile, facts.costs.weight_bytes)
    if plan is None:
        missing = ", ".join(facts.memory.unsized[:5])
        yield Finding(status="unknown", message=f"sizes not known: {missing}", attribute=_KEY)
    elif room is None:
        yield unsaid(profile, f"{_KEY} for activations", f"a peak of {plan.peak_bytes:,} B", plan.peak_bytes)
    else:
        status, message = _judge(facts.memory, plan, room, profile)
        yield Finding(
            status=status,
            message=message,
            node=_peak_node(facts.memory, plan),
            attribute=_KEY,
            value=plan.peak_bytes,
            limit=room.bytes,
            source=profile.source(_KEY),
            hint=_arena_hint(facts, profile, room) if status != "pass" and facts.hinted else None,
        )


def _with_unweighed(facts: Facts, status: Status, message: str) -> tuple[Status, str]:
    """What is not counted may be any size: it makes a pass unknown, and a failure no better."""
    if status != "pass" or not facts.costs.unweighed:
        return status, message
    names = shown([node.name for node in facts.costs.unweighed])
    return "unknown", f"{message}; without those of {names}, which the file does not tell"


def _judge(memory: ActivationMemory, plan: Plan, room: ArenaRoom, profile: HardwareProfile) -> tuple[Status, str]:
    """Compare a peak with the largest arena; what fusing or splitting could save is unknown where they may exist."""
    peak, largest = plan.peak_bytes, f"{room.region}, the largest region for activations ({_free(room)})"
    if peak <= room.bytes:
        return "pass", f"peak {peak:,} B fits {largest}"
    message = f"peak {peak:,} B exceeds {largest}, by {peak - room.bytes:,} B"
    if room.can_split and peak <= room.total_bytes:
        return "unknown", f"{message}; spread over all regions ({room.total_bytes:,} B) it may fit"
    if may_fuse(profile) and memory.fused and memory.fused.peak_bytes <= room.bytes:
        note = f"; it would fit ({memory.fused.peak_bytes:,} B) if each convolution were fused with its pool"
        return ("unknown" if profile.memory.conv_pool_fused is None else "fail"), message + note
    return "fail", message


def _arena_hint(facts: Facts, profile: HardwareProfile, room: ArenaRoom) -> str | None:
    """Fuse pools, a smaller input, fewer channels; where fusing alone is not enough, each of the others with it."""
    fusing, hints = facts.memory.fused if may_fuse(profile) else None, []
    if fusing and fusing.peak_bytes <= room.bytes:
        hints.append(f"fuse each convolution with its pool: {fusing.peak_bytes:,} B")
    hints += arena_hints(facts, profile)
    if fusing and fusing.peak_bytes > room.bytes:
        with_fusing = (text for text in arena_hints(facts, fused(profile)) if text not in hints)
        hints += [f"with each convolution fused with its pool, {text}" for text in with_fusing]
    return "; ".join(hints) or None


def _fewer_biases(facts: Facts, needed: int, room: int) -> str | None:
    """Name the widest network like this one whose biases fit: each takes as many bytes as now."""
    found = chain_of(facts)
    if found is None:
        return too_many(facts, needed - room, "B of biases")
    chain, width = found
    return widest(facts, lambda _weights, biases: biases * needed <= room * chain.biases(width))


def _narrower(facts: Facts, profile: HardwareProfile, room: int) -> str | None:
    """Name the widest network like this one whose weights and biases fit, stored as they are now."""
    widths = {row.kind: row.bits for row in facts.costs.by_bits}
    if len(widths) != len(facts.costs.by_bits) or len(widths) != 2:  # several widths, or no biases
        return None
    if profile.weights.packing == "byte":
        widths = {kind: 8 * math.ceil(bits / 8) for kind, bits in widths.items()}
    apart = bias_room(profile) is not None

    def fits(weights: int, biases: int) -> bool:
        padding = len(facts.layers) if widths["weights"] % 8 else 0  # each constant ends in a whole byte
        weight_bytes = math.ceil(weights * widths["weights"] / 8) + padding
        return weight_bytes + (0 if apart else biases * widths["biases"] // 8) <= room

    return widest(facts, fits)


def _peak_node(memory: ActivationMemory, plan: Plan) -> str | None:
    return memory.steps[plan.peak_step].name if memory.steps else None


def _free(room: ArenaRoom) -> str:
    return f"{room.bytes:,} B" if room.bytes else "filled by the weights"
