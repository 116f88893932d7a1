"""Whether buffers fit an arena of a given size: a search that places them from the bottom up.

In some smallest packing no buffer can be pushed down, so each lies on the ground or on another that is live with it.
Placed by rising offset, each therefore lies on the skyline of those before it. The search tries the buffers in such
orders, and gives up a branch as soon as some step has no room left for what it still has to hold. All is deterministic.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NODES = 6_000  # placements tried in all attempts together: about 0.2 s for 100 buffers
_NODES_A_BUFFER = 4  # of one attempt, before another order of preference does better


@dataclass(frozen=True)
class Attempt:
    """Offsets (n,) that fit, or None; without offsets, `proved` says that there are none. `nodes` counts placements."""

    offsets: Ints | None
    nodes: int
    proved: bool = False


@dataclass(frozen=True, eq=False)
class Packing:
    """Buffers by their sizes (n,) and the steps at which they are live (n, steps); a step for each birth suffices."""

    sizes: Ints
    live: Flags

    @classmethod
    def of(cls, sizes: Sequence[int], spans: Sequence[tuple[int, int]]) -> Packing:
        """Return the packing of buffers that live from a first to a last step, both included."""
        first, last = np.array(spans, np.int64).reshape(-1, 2).T
        births = np.unique(first)  # two buffers that are ever live together are so when the later one is born
        return cls(np.array(sizes, np.int64), (first[:, None] <= births) & (births <= last[:, None]))

    @cached_property
    def load(self) -> Ints:
        """The sizes that are live at each step, added up (steps,)."""
        load: Ints = self.live.T @ self.sizes
        return load

    def fit(self, arena: int, nodes: int, seed: int = 0) -> Attempt:
        """Search for offsets in an arena of that size, with at most so many placements."""
        spent, rng, noise = 0, random.Random(seed), 0.0  # noqa: S311 - a search, not a secret
        while spent < nodes:
            most = min(nodes - spent, _NODES_A_BUFFER * len(self.sizes))
            attempt = _Search(self, arena, self._preference(rng, noise)).run(most)
            spent += attempt.nodes
            if attempt.proved or attempt.offsets is not None:
                return Attempt(attempt.offsets, spent, attempt.proved)
            noise = 0.5
        return Attempt(None, spent)

    def _preference(self, rng: random.Random, noise: float) -> Ints:
        """Rank the buffers (n,), the long-lived first, of those the large; `noise` shuffles what is nearly alike."""
        spans = self.live.sum(axis=1)
        keys = [[-value * (1 + noise * rng.random()) for value in values.tolist()] for values in (spans, self.sizes)]
        if noise and rng.random() < noise:
            keys.reverse()
        rank = np.empty(len(self.sizes), np.int64)
        rank[np.lexsort(keys[::-1])] = np.arange(len(rank))
        return rank


@dataclass
class _Level:
    """A partial packing, and the buffers to try next, the lowest first; `turn` counts those tried."""

    skyline: Ints  # (steps,)
    waiting: Ints  # (steps,): what is not yet placed, added up
    placed: Ints  # (n,): offsets, -1 where not placed
    bases: Ints  # (n,): where each would lie
    order: Ints
    turn: int = 0


class _Search:
    """One depth-first search; a level of the stack is one buffer placed."""

    def __init__(self, packing: Packing, arena: int, rank: Ints) -> None:
        self.packing = packing
        self.arena = arena
        self.rank = rank

    def run(self, most_nodes: int) -> Attempt:
        """Place buffers until all are, all orders are tried, or `most_nodes` are spent."""
        ground = np.zeros(len(self.packing.load), np.int64)
        placed = np.full(len(self.packing.sizes), -1, np.int64)
        stack = [self._level(ground, self.packing.load, placed)]
        nodes = 0
        while stack:
            if nodes == most_nodes:
                return Attempt(None, nodes)
            nodes += 1
            level = self._next(stack)
            if level is None:
                continue
            if not len(level.order):
                return Attempt(level.placed, nodes)
            stack.append(level)
        return Attempt(None, nodes, proved=True)

    def _level(self, skyline: Ints, waiting: Ints, placed: Ints) -> _Level:
        bases = np.where(self.packing.live, skyline, 0).max(axis=1, initial=0)
        unplaced = np.flatnonzero(placed < 0)
        order = unplaced[np.lexsort((self.rank[unplaced], bases[unplaced]))]
        return _Level(skyline, waiting, placed, bases, order)

    def _next(self, stack: list[_Level]) -> _Level | None:
        """Place the next buffer of the top level; None where it does not fit, and no level where none does."""
        level = stack[-1]
        chosen = level.order[level.turn]
        base, size, live = level.bases[chosen], self.packing.sizes[chosen], self.packing.live[chosen]
        needed = self.packing.live[level.order].any(axis=0)
        skyline = np.where(needed, np.maximum(level.skyline, base), level.skyline)  # the others come no lower
        if (skyline + level.waiting > self.arena).any():
            stack.pop()  # those that would come after it lie higher still
            return None
        level.turn += 1
        if level.turn == len(level.order):
            stack.pop()
        skyline[live] = base + size
        waiting = level.waiting - size * live
        if (skyline + waiting > self.arena).any():
            return None
        placed = level.placed.copy()
        placed[chosen] = base
        return self._level(skyline, waiting, placed)
