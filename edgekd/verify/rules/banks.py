"""The rule on banks: a region can have room enough, and yet no bank that holds what must lie in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgekd.profile import HardwareProfile, Region
from edgekd.verify.facts import Facts
from edgekd.verify.graph import Graph
from edgekd.verify.placement import Crowd, Spread, bank_need, deployed_plan, fullest_crowd, spreads_of, with_graph
from edgekd.verify.planner import Plan
from edgekd.verify.rules.base import Finding, Status, rule
from edgekd.verify.rules.hints import smaller_input
from edgekd.verify.rules.narrower import fused, may_fuse, narrower

_KEY = "memory.regions"
_PLANAR = "the input one channel a bank"
MOST_TENSORS = 300  # placing takes the square of that, and a check must not take seconds


@rule("bank-placement", _KEY)
def bank_placement(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The activations fit the banks that their channels lie in."""
    regions, plan = (
        [item for item in profile.memory.regions if item.placement == "channels"],
        deployed_plan(facts, profile),
    )
    for region in regions:
        if plan is None:
            yield _undecided(f"sizes not known: {', '.join(facts.memory.unsized[:5])}", region)
        elif len(plan.buffers) > MOST_TENSORS:
            yield _undecided(
                f"{len(plan.buffers):,} tensors are more than the {MOST_TENSORS} that edgekd places", region
            )
        else:
            yield _in_banks(facts, profile, plan, region)


def _undecided(message: str, region: Region) -> Finding:
    return Finding(status="unknown", message=message, attribute=f"{_KEY}.{region.name}", limit=region.bank_bytes)


def _in_banks(facts: Facts, profile: HardwareProfile, plan: Plan, region: Region) -> Finding:
    """Look for a placement, with the input one channel a bank where the region allows it; else tell what collides."""
    common = {"attribute": f"{_KEY}.{region.name}", "limit": region.bank_bytes, "source": profile.source(_KEY)}
    layouts = list(_layouts(facts.graph, plan, region))
    for order, spreads in layouts:
        need = bank_need(spreads, region)
        if need is not None:
            message = f"{need:,} B in the fullest of {region.banks} banks of {region.bank_bytes:,} B{order}"
            return Finding.model_validate({"status": "pass", "message": message, "value": need, **common})
    crowds = [fullest_crowd(spreads, region) for _, spreads in layouts]
    proven = all(crowd.bytes > (region.bank_bytes or 0) for crowd in crowds)
    status: Status = "fail" if proven else "unknown"
    found = {
        "status": status,
        "message": _collision(plan, crowds[0], region),
        "node": facts.memory.steps[crowds[0].step].name if facts.memory.steps else None,
        "value": crowds[0].bytes,
        "hint": _hint(facts, profile, region) if proven and facts.hinted else None,
    }
    return Finding.model_validate(found | common)


def _layouts(graph: Graph, plan: Plan, region: Region) -> Iterator[tuple[str, Sequence[Spread]]]:
    yield "", spreads_of(plan, region, graph.inputs)
    if region.planar_input:
        yield f", with {_PLANAR}", spreads_of(plan, region, graph.inputs, planar=True)


def _collision(plan: Plan, crowd: Crowd, region: Region) -> str:
    """Spell out which tensors meet in a bank, beside the total of that step, which may well fit."""
    terms = " + ".join(f"{item.bank_bytes:,} ({item.buffer.tensor})" for item in crowd.spreads)
    live = sum(item.bytes for item in plan.buffers if item.first_step <= crowd.step <= item.last_step)
    total = f"the activations take {live:,} of {region.bytes:,} B"
    if crowd.bytes <= (region.bank_bytes or 0):
        return f"{total}, but no placement was found in {region.banks} banks of {region.bank_bytes:,} B"
    return f"{total}, yet one bank of {region.bank_bytes:,} B would have to hold {terms} = {crowd.bytes:,} B"


def _hint(facts: Facts, profile: HardwareProfile, region: Region) -> str | None:
    """Name what has room in the banks: fused pools, a smaller input, fewer channels; each with the pools fused too."""
    fusing = fused(profile) if may_fuse(profile) and facts.memory.fused else None
    hints = []
    if fusing and _holds(facts, fusing, region, planar=False):
        hints.append("fuse each convolution with its pool")
    elif fusing and region.planar_input and _holds(facts, fusing, region, planar=True):
        hints.append(f"fuse each convolution with its pool, and {_PLANAR}")
    alone = _changes(facts, profile, region)
    if fusing and not hints:
        both = [text for text in _changes(facts, fusing, region) if text not in alone]
        return "; ".join([*alone, *(f"with each convolution fused with its pool, {text}" for text in both)]) or None
    return "; ".join([*hints, *alone]) or None


def _changes(facts: Facts, profile: HardwareProfile, region: Region) -> list[str]:
    """Name the largest input and the widest network that fit, and those with the input one channel a bank."""
    plain, plain_chain = _largest(facts, profile, region, planar=False)
    hints = [f"{plain}x{plain} input fits" if plain else None, plain_chain]
    if region.planar_input:
        wide, wide_chain = _largest(facts, profile, region, planar=True)
        hints.append(f"{wide}x{wide} input fits one channel a bank" if wide and wide > (plain or 0) else None)
        hints.append(f"with {_PLANAR}, {wide_chain}" if wide_chain and wide_chain != plain_chain else None)
    return [text for text in hints if text]


def _largest(facts: Facts, profile: HardwareProfile, region: Region, *, planar: bool) -> tuple[int | None, str | None]:
    """Return the side of the largest input that fits, and the widest chain in words."""
    side = smaller_input(facts.graph, lambda graph: _holds(with_graph(facts, graph), profile, region, planar=planar))
    return side, narrower(facts, lambda changed: _holds(changed, profile, region, planar=planar))


def _holds(facts: Facts, profile: HardwareProfile, region: Region, *, planar: bool) -> bool:
    plan = deployed_plan(facts, profile)
    return (
        plan is not None and bank_need(spreads_of(plan, region, facts.graph.inputs, planar=planar), region) is not None
    )
