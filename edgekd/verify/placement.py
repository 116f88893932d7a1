"""What a target keeps in its activation memory, and in which banks.

A region with placement "channels" puts channel c of an image into bank (c / interleaved) mod banks, as the MAX78000
does: an image of 64 channels lies in all 16 banks, one of 3 channels in one. So a bank can be full while the region is
not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from edgekd.axes import axes_of
from edgekd.profile import HardwareProfile, Region
from edgekd.verify.facts import Facts
from edgekd.verify.graph import Graph
from edgekd.verify.memory import ActivationMemory, memory_of
from edgekd.verify.operators import Kind, kind_of
from edgekd.verify.planner import Buffer, Plan, plan_arena
from edgekd.verify.readers import computing_readers, origin


@dataclass(frozen=True)
class Spread:
    """A tensor in `banks` neighbouring banks, `bank_bytes` in each of them."""

    buffer: Buffer
    banks: int
    bank_bytes: int


@dataclass(frozen=True)
class Crowd:
    """Tensors that must share a bank at one step, and the bytes they need in it together."""

    spreads: tuple[Spread, ...]
    step: int

    @property
    def bytes(self) -> int:
        """What they take in that bank."""
        return sum(item.bank_bytes for item in self.spreads)


@lru_cache(maxsize=4)
def deployed_plan(facts: Facts, profile: HardwareProfile) -> Plan | None:
    """Return the plan of what the target stores, pools fused where the profile says so; None: a size is unknown."""
    if profile.memory.pool_conv_fused and facts.memory.plan is not None:
        return _pooled_on_reading(facts.graph, facts.memory, facts.memory.plan)
    return facts.memory.fused if profile.memory.conv_pool_fused else facts.memory.plan


def with_graph(facts: Facts, graph: Graph) -> Facts:
    """Return facts whose memory is that of another graph; nothing else in them is computed anew."""
    return replace(facts, graph=graph, memory=memory_of(graph))


def spread(buffer: Buffer, region: Region, *, planar: bool = False, axis: int = 1) -> Spread:
    """Return how banks hold a tensor (batch, ...) with its channels on `axis`; `planar`: one channel a bank."""
    channels = buffer.shape[axis] if len(buffer.shape) > axis else 1
    lanes, banks = 1 if planar else region.interleaved_channels, region.banks or 1
    plane_bytes = math.ceil(buffer.bytes / max(channels, 1))
    layers = math.ceil(channels / (lanes * banks))  # how often the channels go round all banks
    return Spread(buffer, min(banks, math.ceil(channels / lanes)), lanes * layers * plane_bytes)


def spreads_of(plan: Plan, region: Region, inputs: Sequence[str], *, planar: bool = False) -> tuple[Spread, ...]:
    """Return how the region holds every tensor of a plan; with `planar` the network's `inputs` one channel a bank."""
    return tuple(
        spread(item, region, planar=planar, axis=axes_of(item.shape).channels)
        if item.tensor in inputs
        else spread(item, region)
        for item in plan.buffers
    )


def bank_need(spreads: Sequence[Spread], region: Region) -> int | None:
    """Return the bytes that a placement takes in its fullest bank; None where none was found that fits.

    Large tensors first, each in the banks and at the offset where it ends lowest.
    """
    placed: list[tuple[Spread, int, int]] = []  # with its first bank and its offset
    for item in sorted(spreads, key=lambda item: (-item.bank_bytes, -item.banks, item.buffer.first_step)):
        starts = range((region.banks or 1) - item.banks + 1)
        options = [(_offset(item, start, placed), start) for start in starts]
        offset, start = min(options)
        placed.append((item, start, offset))
    need = max((offset + item.bank_bytes for item, _, offset in placed), default=0)
    return need if need <= (region.bank_bytes or region.bytes) else None


def fullest_crowd(spreads: Sequence[Spread], region: Region) -> Crowd:
    """Return the tensors that need most in one bank and cannot avoid each other, whatever the placement.

    Two must share a bank where they need more banks together than there are; those in every bank share all of them.
    """
    banks, best = region.banks or 1, Crowd((), 0)
    for step in sorted({item.buffer.first_step for item in spreads}):
        live = [item for item in spreads if item.buffer.first_step <= step <= item.buffer.last_step]
        everywhere = [item for item in live if item.banks == banks]
        crowds = [tuple(everywhere)]
        crowds += [(*everywhere, item) for item in live if item not in everywhere]
        large = _largest_by_banks(live)
        pairs = ((one, other) for one in large for other in large if one is not other)
        crowds += [pair for pair in pairs if pair[0].banks + pair[1].banks > banks]
        best = max([best, *(Crowd(crowd, step) for crowd in crowds)], key=lambda crowd: crowd.bytes)
    return best


def _largest_by_banks(live: Sequence[Spread]) -> list[Spread]:
    """Return the two that need most for each number of banks: no other two of that kind need more together."""
    kept: dict[int, list[Spread]] = {}
    for item in sorted(live, key=lambda item: -item.bank_bytes):
        group = kept.setdefault(item.banks, [])
        group += [item] if len(group) < 2 else []
    return [item for group in kept.values() for item in group]


def _offset(item: Spread, start: int, placed: Sequence[tuple[Spread, int, int]]) -> int:
    """Return the lowest offset that is free in the banks from `start` on while the tensor lives."""
    taken = sorted(
        (offset, offset + other.bank_bytes)
        for other, first, offset in placed
        if first < start + item.banks and start < first + other.banks and item.buffer.overlaps(other.buffer)
    )
    lowest = 0
    for low, high in taken:
        if low - lowest >= item.bank_bytes:
            break
        lowest = max(lowest, high)
    return lowest


def _pooled_on_reading(graph: Graph, memory: ActivationMemory, plan: Plan) -> Plan:
    """Plan without the pooled images that only convolutions read; what is pooled lives until the last of them ran."""
    buffers = {item.tensor: item for item in plan.buffers}
    names = frozenset(buffers)
    for pool in (node for node in memory.steps if kind_of(node) is Kind.POOL):
        pooled, readers = pool.outputs[0], computing_readers(graph, pool.outputs[0])
        source = origin(graph, pool.input(0), names)
        convolved = bool(readers) and all(kind_of(reader) is Kind.LAYER for reader in readers)
        if convolved and source in buffers and pooled in buffers and pooled not in graph.outputs:
            end = max(buffers[source].last_step, buffers.pop(pooled).last_step)
            buffers[source] = replace(buffers[source], last_step=end)
    return plan_arena(list(buffers.values())) if len(buffers) < len(plan.buffers) else plan
