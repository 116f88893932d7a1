"""Offsets for buffers with lifetimes in one arena, so that the arena is small.

Greedy placements come first: buffers in some order, each in the lowest gap that holds it. Where the best of them is
above the lower bound, the most bytes live at one step, a search (`packing`) looks for a smaller arena and often proves
that there is none. All is deterministic.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgekd.verify.packing import Packing

MOST_SEARCHED = 400  # buffers; each decision of the search looks at all of them
NODES = 4_000  # decisions of a search, with fewer for more buffers: half a second at most
MOST_NEIGHBOURS = 200_000  # pairs of buffers live together, up to which every greedy order is tried
MOST_BYTES = 1 << 60  # of all buffers together, which the search adds up in 64 bits

Order = Sequence[int]
Offsets = tuple[int, ...]


@dataclass(frozen=True)
class Buffer:
    """A tensor that must lie in the arena from `first_step` to `last_step`, both included."""

    tensor: str
    shape: tuple[int, ...]
    bytes: int
    first_step: int
    last_step: int

    def overlaps(self, other: Buffer) -> bool:
        """Say whether both are live at some step."""
        return self.first_step <= other.last_step and other.first_step <= self.last_step


@dataclass(frozen=True)
class Plan:
    """Offsets in bytes, one a buffer. `planner` names the method, and whether the peak is proved minimal."""

    buffers: tuple[Buffer, ...]
    offsets: Offsets
    peak_bytes: int
    lower_bound_bytes: int
    peak_step: int
    planner: str

    def live_at_peak(self) -> tuple[Buffer, ...]:
        """The buffers that are live at the fullest step; their bytes add up to the lower bound."""
        return tuple(item for item in self.buffers if item.first_step <= self.peak_step <= item.last_step)


def plan_arena(buffers: Sequence[Buffer], alignment: int = 1) -> Plan:
    """Place buffers in one arena, each at a multiple of `alignment` bytes and taking a multiple of it.

    The peak is at most that of greedy-by-size (TensorFlow Lite Micro's planner). Source: Y. Pisarchyk and J. Lee,
    Efficient Memory Management for Deep Neural Net Inference, 2020, https://arxiv.org/abs/2001.03288.
    """
    unit = math.gcd(*(_padded(item.bytes, alignment) for item in buffers)) or 1
    sizes = [_padded(item.bytes, alignment) // unit for item in buffers]
    bound, step = _fullest(buffers, sizes)
    offsets, method = _greedy(buffers, sizes), "lowest gap first"
    proved = bound
    if _peak(offsets, sizes) > bound and len(buffers) <= MOST_SEARCHED and sum(sizes) < MOST_BYTES:
        offsets, proved = _search(buffers, sizes, offsets, bound)
        method = "bottom-up search"
    peak = _peak(offsets, sizes)
    proof = "minimal" if peak == proved else "not proved minimal"
    scaled = tuple(offset * unit for offset in offsets)
    return Plan(tuple(buffers), scaled, peak * unit, bound * unit, step, f"{method}, {proof}")


def lower_bound(buffers: Sequence[Buffer]) -> tuple[int, int]:
    """Return the most bytes that are live at one step, and the first such step."""
    return _fullest(buffers, [item.bytes for item in buffers])


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _peak(offsets: Iterable[int], sizes: Sequence[int]) -> int:
    return max((offset + size for offset, size in zip(offsets, sizes, strict=True)), default=0)


def _fullest(buffers: Sequence[Buffer], sizes: Sequence[int]) -> tuple[int, int]:
    """Add up what is live as the steps go by: the largest sum, and the first step that has it."""
    change: dict[int, int] = {}
    for item, size in zip(buffers, sizes, strict=True):
        change[item.first_step] = change.get(item.first_step, 0) + size
        change[item.last_step + 1] = change.get(item.last_step + 1, 0) - size
    live, best = 0, (0, min(change, default=0))
    for step in sorted(change):
        live += change[step]
        if live > best[0]:
            best = (live, step)
    return best


def _search(buffers: Sequence[Buffer], sizes: Sequence[int], offsets: Offsets, bound: int) -> tuple[Offsets, int]:
    """Return offsets with the smallest peak found, and the size below which there is proved to be none.

    The lower bound is tried first; then the sizes between what is ruled out and what is reached are halved.
    """
    packing = Packing.of(sizes, [(item.first_step, item.last_step) for item in buffers])
    budget = min(NODES, NODES * 60 // len(buffers))
    nodes, proved, least, target = budget, bound, bound, bound
    while least < _peak(offsets, sizes) and nodes > 0:
        attempt = packing.fit(target, min(nodes, budget // 2))
        nodes -= attempt.nodes
        if attempt.offsets is not None:
            offsets = tuple(attempt.offsets.tolist())
        else:
            least = target + 1
            proved = least if attempt.proved else proved
        target = (least + _peak(offsets, sizes) - 1) // 2
    return offsets, proved


def _greedy(buffers: Sequence[Buffer], sizes: Sequence[int]) -> Offsets:
    """The best of several greedy orders; of very many buffers only one placement, in order of birth."""
    near = _neighbours(buffers)
    if near is None:
        return _by_birth(buffers, sizes)
    placements = (_place(order, near, sizes) for order in _orders(buffers, sizes))
    return min(placements, key=lambda offsets: _peak(offsets, sizes))


def _neighbours(buffers: Sequence[Buffer]) -> list[list[int]] | None:
    """For each buffer the others that are live with it; None where those are too many to try orders."""
    near: list[list[int]] = [[] for _ in buffers]
    live: list[int] = []
    pairs = 0
    for index in _by_first_step(buffers):
        live = [other for other in live if buffers[other].last_step >= buffers[index].first_step]
        pairs += len(live)
        if pairs > MOST_NEIGHBOURS:
            return None
        near[index] += live
        for other in live:
            near[other].append(index)
        live.append(index)
    return near


def _by_first_step(buffers: Sequence[Buffer]) -> list[int]:
    return sorted(range(len(buffers)), key=lambda index: buffers[index].first_step)


def _orders(buffers: Sequence[Buffer], sizes: Sequence[int]) -> list[list[int]]:
    """By falling size, by size times lifetime, by lifetime, and by time of birth."""
    spans = [item.last_step - item.first_step + 1 for item in buffers]
    births = [item.first_step for item in buffers]
    indices = range(len(buffers))
    return [
        sorted(indices, key=lambda at: (-sizes[at], births[at])),
        sorted(indices, key=lambda at: (-sizes[at] * spans[at], births[at])),
        sorted(indices, key=lambda at: (-spans[at], -sizes[at])),
        sorted(indices, key=lambda at: (births[at], -sizes[at])),
    ]


def _place(order: Order, near: Sequence[Sequence[int]], sizes: Sequence[int]) -> Offsets:
    """Return offsets when buffers are placed in `order`, each in the lowest gap that holds it."""
    offsets: dict[int, int] = {}
    for index in order:
        taken = sorted((offsets[other], offsets[other] + sizes[other]) for other in near[index] if other in offsets)
        offsets[index] = _lowest_gap(taken, sizes[index])
    return tuple(offsets[index] for index in range(len(sizes)))


def _lowest_gap(taken: Iterable[tuple[int, int]], size: int) -> int:
    """Return the lowest offset with room for `size` between intervals that are sorted by their start."""
    lowest = 0
    for start, end in taken:
        if start - lowest >= size:
            break
        lowest = max(lowest, end)
    return lowest


def _by_birth(buffers: Sequence[Buffer], sizes: Sequence[int]) -> Offsets:
    """Place buffers as they are born, each in the lowest gap between those that are live then."""
    offsets = [0] * len(buffers)
    free = _Free()
    ends: list[tuple[int, int, int]] = []  # last step, start, end
    for index in _by_first_step(buffers):
        while ends and ends[0][0] < buffers[index].first_step:
            free.give(*heapq.heappop(ends)[1:])
        offsets[index] = free.take(sizes[index])
        heapq.heappush(ends, (buffers[index].last_step, offsets[index], offsets[index] + sizes[index]))
    return tuple(offsets)


class _Free:
    """The gaps below the top of an arena, sorted, none beside another."""

    def __init__(self) -> None:
        self.gaps: list[tuple[int, int]] = []
        self.top = 0

    def take(self, size: int) -> int:
        """Return where `size` fits first, and take it."""
        for at, (start, end) in enumerate(self.gaps):
            if end - start >= size or end == self.top:
                self.gaps[at : at + 1] = [(start + size, end)] if start + size < end else []
                self.top = max(self.top, start + size)
                return start
        self.top += size
        return self.top - size

    def give(self, start: int, end: int) -> None:
        """Free an interval and join it with the gaps at its sides."""
        at = bisect.bisect(self.gaps, (start, end))
        if at < len(self.gaps) and self.gaps[at][0] == end:
            end = self.gaps.pop(at)[1]
        if at and self.gaps[at - 1][1] == start:
            at -= 1
            start = self.gaps.pop(at)[0]
        if start < end:
            self.gaps.insert(at, (start, end))
