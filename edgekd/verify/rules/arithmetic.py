"""Rules on integer arithmetic: whether it can be computed, the width of the sums, and whether it is bit-exact."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.integer.requant import arithmetic_name
from edgekd.verify.integer.static import (
    DEFAULT,
    Unshiftable,
    accumulator_rows,
    certificate_of,
    chosen_arithmetic,
    simulator_of,
    unshiftable,
)
from edgekd.verify.integer.values import RefusedError
from edgekd.verify.rules.base import Finding, rule, unsaid
from edgekd.verify.rules.sums import sums_hint

_POT = "power-of-two scales: export with --pot"
_SCALES = "power-of-two scales: quantize again with scales that are 2^k"


@rule("integer-arithmetic", "requant")
def integer_arithmetic(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """Every operator is computed in integers, and rounded as the target rounds."""
    program = facts.lowered.program
    if program is None:
        yield _not_lowered(facts)
        return
    if profile.requant.multiplier == "shift" and (unfit := unshiftable(program)):
        yield from (_unfit(item, facts, profile) for item in unfit)
        return
    name = arithmetic_name(profile.requant)
    if name is None:
        has = f"{len(program.steps)} integer steps, simulated as '{DEFAULT}'"
        yield unsaid(profile, "requant", has)
        return
    try:
        simulator_of(program, profile, chosen_arithmetic(profile))
    except RefusedError as refusal:
        yield Finding(status="unknown", message=str(refusal), node=refusal.node, attribute="requant", limit=name)
        return
    message = f"{len(program.steps)} integer steps, and the target {chosen_arithmetic(profile).sentence}"
    yield Finding(
        status="pass", message=message, attribute="requant", value=name, limit=name, source=profile.source("requant")
    )


def _unfit(found: Unshiftable, facts: Facts, profile: HardwareProfile) -> Finding:
    """A node that a target which only shifts cannot rescale, and the scales that it would take."""
    why = "the number of elements that it averages is" if found.averages else "its scales are"
    hint = "average a power of two of elements" if found.averages else _POT if facts.manifest else _SCALES
    return Finding(
        status="fail",
        message=f"{found.node} multiplies sums by {found.factor:.6g}, the target only by 2^k: {why} no power of two",
        node=found.node,
        attribute="requant.multiplier",
        value=found.factor,
        limit="shift",
        source=profile.source("requant.multiplier"),
        hint=hint,
    )


@rule("accumulator-width", "accumulator_bits")
def accumulator_width(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target's accumulators hold every sum that the weights and the input's range can make."""
    if facts.lowered.program is None:
        yield _not_lowered(facts)
        return
    rows, limit = accumulator_rows(facts.lowered, profile), profile.accumulator_bits
    widest = max((row.bits for row in rows), default=0)
    if limit is None:
        yield unsaid(profile, "accumulator_bits", f"sums of up to {widest} bits", widest)
        return
    source, hint = (
        profile.source("accumulator_bits"),
        sums_hint(facts, limit) if widest > limit and facts.hinted else None,
    )
    for row in rows:
        if row.bits > limit:
            message = f"the sums of {row.node} reach {row.low}..{row.high}: {row.bits} bits, the target has {limit}"
            yield Finding(
                status="fail",
                message=message,
                node=row.node,
                attribute="accumulator_bits",
                value=row.bits,
                limit=limit,
                source=source,
                hint=hint,
            )
    if widest <= limit:
        message = f"sums of up to {widest} bits, the target has {limit}"
        yield Finding(
            status="pass", message=message, attribute="accumulator_bits", value=widest, limit=limit, source=source
        )


@rule("bit-exact")
def bit_exact(facts: Facts, profile: HardwareProfile) -> Iterator[Finding]:
    """The target's arithmetic gives the same integers as onnxruntime: said where proved, demanded of none."""
    found = certificate_of(facts.lowered, profile)
    if found.bit_exact:
        message = "certified: onnxruntime at every optimization level, where its kernels do not saturate, and the "
        message += f"arithmetic {', '.join(found.arithmetics)} give the same integers"
        yield Finding(status="pass", message=message, attribute="certificate", value=True)


def _not_lowered(facts: Facts) -> Finding:
    refusal = facts.lowered.refusal
    assert refusal is not None  # a graph that is not lowered has a reason
    return Finding(
        status="unknown",
        message=f"not computed in integers: {refusal}",
        node=refusal.node,
        attribute="operator",
    )
