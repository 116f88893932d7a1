"""Offsets for buffers with lifetimes in one arena, so that the arena is small.

Every placement here is "lowest gap first" in some order. Some order is optimal: push each buffer of an optimal packing
down until none moves, and placing them again by rising offset gives the same packing. So the search is over orders:
a few greedy ones, and from the best of them a hill climb until the lower bound is reached. All is deterministic.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

CLIMB_PLACEMENTS = 60_000  # buffers placed in all trials together: about 0.1 s

Order = tuple[int, ...]
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


@dataclass(frozen=True)
class Arena:
    """The buffers to place, and how an order becomes offsets."""

    buffers: tuple[Buffer, ...]

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """For each buffer the others that are live with it."""
        count = range(len(self.buffers))
        return tuple(tuple(j for j in count if i != j and self.buffers[i].overlaps(self.buffers[j])) for i in count)

    def place(self, order: Order) -> Offsets:
        """Return offsets when buffers are placed in `order`, each in the lowest gap that holds it."""
        offsets: dict[int, int] = {}
        for index in order:
            offsets[index] = self.lowest_gap(offsets, index)
        return tuple(offsets[index] for index in range(len(self.buffers)))

    def lowest_gap(self, offsets: Mapping[int, int], index: int) -> int:
        """Return the lowest offset at which a buffer fits among those placed."""
        placed = [near for near in self.neighbours[index] if near in offsets]
        lowest = 0
        for start, end in sorted((offsets[near], offsets[near] + self.buffers[near].bytes) for near in placed):
            if start - lowest >= self.buffers[index].bytes:
                break
            lowest = max(lowest, end)
        return lowest

    def peak(self, offsets: Offsets) -> int:
        """Return the size of the arena in bytes."""
        return max((start + item.bytes for start, item in zip(offsets, self.buffers, strict=True)), default=0)


def plan_arena(buffers: Sequence[Buffer]) -> Plan:
    """Place buffers in one arena; the peak is at most that of greedy-by-size (TensorFlow Lite Micro's planner).

    Source: Y. Pisarchyk and J. Lee, Efficient Memory Management for Deep Neural Net Inference, 2020,
    https://arxiv.org/abs/2001.03288.
    """
    arena = Arena(tuple(buffers))
    bound, step = lower_bound(buffers)
    order = min(_greedy_orders(arena.buffers), key=lambda order: arena.peak(arena.place(order)))
    offsets, method = arena.place(order), "greedy"
    if arena.peak(offsets) > bound:
        offsets, method = _climb(arena, order, bound), "hill climb"
    peak = arena.peak(offsets)
    proof = "minimal" if peak == bound else "not proved minimal"
    return Plan(arena.buffers, offsets, peak, bound, step, f"lowest gap first, {method}, {proof}")


def lower_bound(buffers: Sequence[Buffer]) -> tuple[int, int]:
    """Return the most bytes that are live at one step, and the first such step."""
    steps = sorted({buffer.first_step for buffer in buffers}) or [0]  # the live set grows only at births
    live = [sum(item.bytes for item in buffers if item.first_step <= step <= item.last_step) for step in steps]
    return max(live), steps[live.index(max(live))]


def _greedy_orders(buffers: Sequence[Buffer]) -> list[Order]:
    """By falling size, by size times lifetime, by lifetime, and by time of birth."""
    keys = [
        [(-item.bytes, item.first_step) for item in buffers],
        [(-item.bytes * (item.last_step - item.first_step + 1), item.first_step) for item in buffers],
        [(item.first_step - item.last_step, -item.bytes) for item in buffers],
        [(item.first_step, -item.bytes) for item in buffers],
    ]
    return [tuple(sorted(range(len(buffers)), key=key.__getitem__)) for key in keys]


def _climb(arena: Arena, order: Order, bound: int) -> Offsets:
    """Let a buffer that reaches the peak, and any other, take an earlier turn; keep what is not worse."""
    rng = random.Random(0)  # noqa: S311 - a search, not a secret
    best = arena.place(order)
    for _ in range(CLIMB_PLACEMENTS // len(order)):
        peak = arena.peak(best)
        if peak == bound:
            break
        highest = [at for at, index in enumerate(order) if best[index] + arena.buffers[index].bytes == peak]
        tried = list(order)
        for turn in (rng.choice(highest), rng.randrange(len(order))):
            tried.insert(rng.randrange(turn + 1), tried.pop(turn))
        offsets = arena.place(tuple(tried))
        if arena.peak(offsets) <= peak:
            order, best = tuple(tried), offsets
    return best
