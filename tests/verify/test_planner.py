from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.verify.planner import Arena, Buffer, lower_bound, plan_arena


@st.composite
def buffer_sets(draw: st.DrawFn, most: int = 14) -> list[Buffer]:
    spans = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6), st.integers(0, 40)), max_size=most))
    return [Buffer(f"t{at}", (size,), size, first, first + length) for at, (first, length, size) in enumerate(spans)]


def tflm_greedy_peak(buffers: list[Buffer]) -> int:
    """TensorFlow Lite Micro's rule, written down on its own: largest first, into the first gap in time and space."""
    placed: list[tuple[Buffer, int]] = []
    for buffer in sorted(buffers, key=lambda item: (-item.bytes, item.first_step)):
        busy = sorted((at, at + other.bytes) for other, at in placed if buffer.overlaps(other))
        offset = 0
        for start, end in busy:
            if start - offset >= buffer.bytes:
                break
            offset = max(offset, end)
        placed.append((buffer, offset))
    return max((at + item.bytes for item, at in placed), default=0)


@given(buffer_sets())
@settings(max_examples=150, deadline=None)
def test_buffers_that_are_live_together_never_overlap_and_the_bound_holds(buffers: list[Buffer]) -> None:
    plan = plan_arena(buffers)
    for (a, start), (b, other) in itertools.combinations(zip(plan.buffers, plan.offsets, strict=True), 2):
        if a.overlaps(b) and a.bytes and b.bytes:
            assert start + a.bytes <= other or other + b.bytes <= start
    assert plan.lower_bound_bytes <= plan.peak_bytes <= tflm_greedy_peak(buffers)
    assert plan.peak_bytes == max((at + b.bytes for at, b in zip(plan.offsets, plan.buffers, strict=True)), default=0)
    assert sum(item.bytes for item in plan.live_at_peak()) == plan.lower_bound_bytes


@given(buffer_sets(most=6))
@settings(max_examples=60, deadline=None)
def test_no_order_of_placement_beats_the_plan(buffers: list[Buffer]) -> None:
    plan, arena = plan_arena(buffers), Arena(tuple(buffers))
    best = min(arena.peak(arena.place(order)) for order in itertools.permutations(range(len(buffers))))
    assert plan.peak_bytes == best


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_chain_reaches_the_lower_bound(sizes: list[int]) -> None:
    chain = [Buffer(f"t{step}", (size,), size, step, step + 1) for step, size in enumerate(sizes)]
    plan = plan_arena(chain)
    assert plan.peak_bytes == plan.lower_bound_bytes == max(a + b for a, b in itertools.pairwise([*sizes, 0]))


def test_the_climb_finds_what_greedy_by_size_does_not() -> None:
    spans = [(4, 1, 4), (3, 5, 7), (3, 5, 8), (4, 4, 7)]
    buffers = [Buffer(f"t{at}", (), size, first, last) for at, (size, first, last) in enumerate(spans)]
    plan = plan_arena(buffers)
    assert tflm_greedy_peak(buffers) == 11
    assert plan.peak_bytes == lower_bound(buffers)[0] == 10
    assert plan.planner == "lowest gap first, hill climb, minimal"


def test_many_buffers_come_within_two_percent_of_the_bound() -> None:
    import random

    rng = random.Random(1)
    buffers = [
        Buffer(f"t{at}", (), 16 * rng.randint(1, 512), at, at + 1 + rng.choice([0, 0, 0, 1, 2, 5, 9]))
        for at in range(80)
    ]
    plan = plan_arena(buffers)
    assert plan.peak_bytes <= 1.02 * plan.lower_bound_bytes
    assert plan == plan_arena(buffers), "the same every time"


def test_nothing_to_place() -> None:
    plan = plan_arena([])
    assert (plan.peak_bytes, plan.lower_bound_bytes, plan.live_at_peak()) == (0, 0, ())


def test_vela_finds_nothing_better() -> None:
    vela = pytest.importorskip("ethosu.vela.hillclimb_allocation")
    import random

    rng = random.Random(2)
    buffers = [
        Buffer(f"t{at}", (), 16 * rng.randint(1, 512), at, at + 1 + rng.choice([0, 0, 1, 2, 5])) for at in range(24)
    ]

    class Range:
        def __init__(self, item: Buffer) -> None:
            self.start_time, self.end_time, self.size = item.first_step, item.last_step, item.bytes

        def get_alignment(self) -> int:
            return 16

        def set_address(self, address: int) -> int:
            return address

    ranges = [Range(item) for item in buffers]
    addresses = vela.allocate_live_ranges(ranges, None, 1 << 40)
    peak = max(at + item.size for at, item in zip(addresses, ranges, strict=True))
    assert plan_arena(buffers).peak_bytes <= peak
