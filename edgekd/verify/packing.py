"""Whether buffers fit an arena of a given size: a search that places them from the bottom up.

In some smallest packing no buffer can be pushed down, so each lies on the ground or on another that is live with it.
Take the buffer that could lie lowest: either it lies there, or on one not yet placed, and so at least as high as
the lowest of these could end. The search decides this for one buffer after another, and gives up a branch as soon as
some step has no room left for what it still has to hold. All is deterministic.
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

_NODES_A_BUFFER = 4  # of one attempt, before another order of preference does better
_NOWHERE = 1 << 62


@dataclass(frozen=True)
class Attempt:
    """Offsets (n,) that fit, or None; without offsets, `proved` says that there are none. `nodes` counts decisions."""

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

    @cached_property
    def near(self) -> Flags:
        """Which buffers are ever live together (n, n); none is with itself."""
        near: Flags = (self.live.astype(np.int32) @ self.live.T.astype(np.int32)) > 0
        np.fill_diagonal(near, val=False)
        return near

    def fit(self, arena: int, nodes: int, seed: int = 0) -> Attempt:
        """Search for offsets in an arena of that size, with at most so many decisions."""
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


@dataclass(frozen=True, eq=False)
class _State:
    """What is decided so far."""

    skyline: Ints  # (steps,): nothing that waits lies below it
    waiting: Ints  # (steps,): the sizes not yet placed, added up
    placed: Ints  # (n,): offsets, -1 where not placed
    floors: Ints  # (n,): at least so high each must lie


class _Search:
    """One depth-first search in an arena of a given size; of equals the first in `rank` is decided first."""

    def __init__(self, packing: Packing, arena: int, rank: Ints) -> None:
        self.packing = packing
        self.arena = arena
        self.rank = rank

    def run(self, most_nodes: int) -> Attempt:
        """Decide until all are placed, nothing is left to decide, or `most_nodes` are spent."""
        count, steps = self.packing.live.shape
        start = np.zeros(count, np.int64)
        stack = [_State(np.zeros(steps, np.int64), self.packing.load, start - 1, start)]
        nodes = 0
        while stack:
            if nodes == most_nodes:
                return Attempt(None, nodes)
            nodes += 1
            state = stack.pop()
            if (state.placed >= 0).all():
                return Attempt(state.placed, nodes)
            stack += self._decide(state)
        return Attempt(None, nodes, proved=True)

    def _decide(self, state: _State) -> list[_State]:
        """The lowest buffer left out of its place, and put there; nothing where some step or buffer has no room."""
        unplaced = state.placed < 0
        bases = self._bases(state, unplaced, state.skyline)
        lowest = np.where(self.packing.live, bases[:, None], _NOWHERE).min(axis=0)
        skyline = np.where(lowest < _NOWHERE, np.maximum(state.skyline, lowest), state.skyline)
        bases = self._bases(state, unplaced, skyline)
        full = (skyline + state.waiting > self.arena).any()
        if full or (bases[unplaced] + self.packing.sizes[unplaced] > self.arena).any():
            return []
        chosen = int(np.lexsort((self.rank, bases))[0])
        put = self._put(state, skyline, chosen, int(bases[chosen]))
        others = self.packing.near[chosen] & unplaced
        if not others.any():
            return [put]
        floors = state.floors.copy()
        floors[chosen] = (bases + self.packing.sizes)[others].min()
        return [_State(skyline, state.waiting, state.placed, floors), put]

    def _bases(self, state: _State, unplaced: Flags, skyline: Ints) -> Ints:
        """How low each buffer could lie (n,)."""
        bases = np.maximum(np.where(self.packing.live, skyline, 0).max(axis=1), state.floors)
        return np.where(unplaced, bases, _NOWHERE)

    def _put(self, state: _State, skyline: Ints, chosen: int, base: int) -> _State:
        live, size = self.packing.live[chosen], self.packing.sizes[chosen]
        placed = state.placed.copy()
        placed[chosen] = base
        return _State(np.where(live, base + size, skyline), state.waiting - size * live, placed, state.floors)
