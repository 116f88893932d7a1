from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.verify.facts import facts_of
from edgekd.verify.packing import Packing
from edgekd.verify.planner import MOST_BYTES, MOST_NEIGHBOURS, MOST_SEARCHED, Buffer, Plan, lower_bound, plan_arena
from edgekd.verify.reading import read_graph

ZOO = sorted((Path(__file__).parents[2] / "models").glob("*/model.onnx"))


@st.composite
def buffer_sets(draw: st.DrawFn, most: int = 14) -> list[Buffer]:
    spans = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6), st.integers(0, 40)), max_size=most))
    return [Buffer(f"t{at}", (size,), size, first, first + length) for at, (first, length, size) in enumerate(spans)]


def random_buffers(count: int, seed: int, kind: str) -> list[Buffer]:
    """Lifetimes like those of a network with skips, spread at random, or crowded into twenty steps."""
    rng = random.Random(f"{seed} {kind}")

    def span(at: int) -> tuple[int, int]:
        if kind == "skips":
            return at, 1 + rng.choice([0, 0, 0, 1, 2, 5, 9])
        births, longest = (count, count // 3) if kind == "spread" else (12, 8)
        return rng.randrange(births), rng.randrange(1, max(2, longest))

    made = [(*span(at), 16 * rng.randint(1, 512)) for at in range(count)]
    return [Buffer(f"t{at}", (), size, first, first + length) for at, (first, length, size) in enumerate(made)]


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


def best_peak_of_any_order(buffers: list[Buffer]) -> int:
    """Push the buffers of an optimal packing down: placed anew by rising offset, some order gives that packing."""

    def peak(order: tuple[Buffer, ...]) -> int:
        placed: list[tuple[Buffer, int]] = []
        for buffer in order:
            busy = sorted((at, at + other.bytes) for other, at in placed if buffer.overlaps(other))
            offset = 0
            for start, end in busy:
                if start - offset >= buffer.bytes:
                    break
                offset = max(offset, end)
            placed.append((buffer, offset))
        return max((at + item.bytes for item, at in placed), default=0)

    return min(peak(order) for order in itertools.permutations(buffers))


def require_sound(plan: Plan, alignment: int = 1) -> None:
    """Nothing that is live together overlaps, the peak is what the offsets say and not below the bound."""
    placed = list(zip(plan.buffers, plan.offsets, strict=True))
    for (a, start), (b, other) in itertools.combinations(placed, 2):
        if a.overlaps(b) and a.bytes and b.bytes:
            assert start + a.bytes <= other or other + b.bytes <= start
    assert all(offset >= 0 and offset % alignment == 0 for _, offset in placed)
    top = max((offset + -(-item.bytes // alignment) * alignment for item, offset in placed), default=0)
    assert plan.peak_bytes == top >= plan.lower_bound_bytes


@given(buffer_sets())
@settings(max_examples=150, deadline=None)
def test_buffers_that_are_live_together_never_overlap_and_the_bound_holds(buffers: list[Buffer]) -> None:
    plan = plan_arena(buffers)
    require_sound(plan)
    assert plan.peak_bytes <= tflm_greedy_peak(buffers)
    assert (plan.lower_bound_bytes, plan.peak_step) == lower_bound(buffers)
    assert sum(item.bytes for item in plan.live_at_peak()) == plan.lower_bound_bytes


@given(buffer_sets(), st.sampled_from([2, 4, 16]))
@settings(max_examples=60, deadline=None)
def test_offsets_are_aligned_where_asked(buffers: list[Buffer], alignment: int) -> None:
    plan = plan_arena(buffers, alignment)
    require_sound(plan, alignment)
    assert plan.peak_bytes >= plan_arena(buffers).lower_bound_bytes


@given(buffer_sets(most=6))
@settings(max_examples=60, deadline=None)
def test_no_order_of_placement_beats_the_plan(buffers: list[Buffer]) -> None:
    plan = plan_arena(buffers)
    assert plan.peak_bytes == best_peak_of_any_order(buffers)
    assert plan.planner.endswith(", minimal"), "few buffers are searched to the end"


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_chain_reaches_the_lower_bound(sizes: list[int]) -> None:
    chain = [Buffer(f"t{step}", (size,), size, step, step + 1) for step, size in enumerate(sizes)]
    plan = plan_arena(chain)
    assert plan.peak_bytes == plan.lower_bound_bytes == max(a + b for a, b in itertools.pairwise([*sizes, 0]))


def test_the_search_finds_what_greedy_by_size_does_not() -> None:
    spans = [(4, 1, 4), (3, 5, 7), (3, 5, 8), (4, 4, 7)]
    buffers = [Buffer(f"t{at}", (), size, first, last) for at, (size, first, last) in enumerate(spans)]
    plan = plan_arena(buffers)
    assert tflm_greedy_peak(buffers) == 11
    assert plan.peak_bytes == lower_bound(buffers)[0] == 10
    assert plan.planner.endswith(", minimal")


def test_a_bound_that_no_packing_reaches_is_proved_so() -> None:
    # 17 bytes are live at most, but these lifetimes interlock: 18 is the optimum, by trying every order.
    spans = [(10, 5, 10), (7, 1, 3), (5, 1, 9), (3, 3, 5), (4, 6, 6), (2, 9, 12), (7, 2, 4), (5, 4, 4)]
    buffers = [Buffer(f"t{at}", (), size, first, last) for at, (size, first, last) in enumerate(spans)]
    plan = plan_arena(buffers)
    assert plan.peak_bytes == best_peak_of_any_order(buffers)
    assert "minimal" in plan.planner


def test_the_search_says_when_nothing_fits_and_when_it_does_not_know() -> None:
    packing = Packing.of([4, 3, 3, 4], [(1, 4), (5, 7), (5, 8), (4, 7)])
    assert packing.fit(10, 100).offsets is not None
    nothing = packing.fit(9, 100)
    assert nothing.offsets is None
    assert nothing.proved
    hasty = packing.fit(10, 2)
    assert hasty.offsets is None
    assert not hasty.proved
    assert hasty.nodes == 2


@pytest.mark.parametrize("kind", ["skips", "spread", "crowded"])
def test_a_hundred_buffers_come_within_two_percent_of_the_bound(kind: str) -> None:
    buffers = random_buffers(100, 1, kind)
    plan = plan_arena(buffers)
    require_sound(plan)
    assert plan.peak_bytes <= 1.02 * plan.lower_bound_bytes
    assert plan == plan_arena(buffers), "the same every time"


def test_nothing_to_place_and_nothing_to_store() -> None:
    plan = plan_arena([])
    assert (plan.peak_bytes, plan.lower_bound_bytes, plan.live_at_peak()) == (0, 0, ())
    assert plan_arena([Buffer("empty", (0,), 0, 0, 3)]).peak_bytes == 0


@pytest.mark.parametrize("last", [3, 10**6], ids=["a chain with skips", "all live to the end"])
def test_very_many_buffers_are_placed_in_order_of_birth(last: int) -> None:
    count = 2 * MOST_SEARCHED
    buffers = [Buffer(f"t{at}", (), 1 + at * 7919 % 77, at, max(last, at + 1 + at % 13)) for at in range(count)]
    require_sound(plan_arena(buffers))
    crowd = [Buffer(f"t{at}", (), 1 + at % 7, at // 50, at // 50 + at % 40) for at in range(int(MOST_NEIGHBOURS**0.5))]
    require_sound(plan_arena(crowd + buffers))


def test_sizes_beyond_64_bits_do_not_overflow() -> None:
    huge = [Buffer(item.tensor, (), MOST_BYTES * item.bytes + 1, item.first_step, item.last_step)
            for item in random_buffers(20, 0, "crowded")]  # fmt: skip
    require_sound(plan_arena(huge))


def vela_peak(buffers: list[Buffer]) -> int:
    """What the hill climb of Arm's Ethos-U compiler reaches."""
    vela = pytest.importorskip("ethosu.vela.hillclimb_allocation")

    class Range:
        def __init__(self, item: Buffer) -> None:
            self.start_time, self.end_time, self.size = item.first_step, item.last_step, item.bytes

        def get_alignment(self) -> int:
            return 16

    ranges = [Range(item) for item in buffers]
    addresses = vela.allocate_live_ranges(ranges, None, 1 << 60)
    return int(max(at + item.size for at, item in zip(addresses, ranges, strict=True)))


@pytest.mark.parametrize("kind", ["skips", "spread", "crowded"])
@pytest.mark.parametrize("count", [12, 24, 40, 80])
def test_vela_finds_nothing_better(count: int, kind: str) -> None:
    for seed in range(3):
        buffers = random_buffers(count, seed, kind)
        assert plan_arena(buffers, alignment=16).peak_bytes <= vela_peak(buffers), seed


@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.parent.name)
def test_vela_finds_nothing_better_for_the_released_models(path: Path) -> None:
    memory = facts_of(read_graph(path)).memory
    for plan in (memory.plan, memory.fused):
        assert plan is not None
        require_sound(plan)
        assert plan.peak_bytes == plan.lower_bound_bytes <= vela_peak(list(plan.buffers))


def optimum(buffers: list[Buffer]) -> int:
    """The smallest arena, by OR-tools' CP-SAT: rectangles of fixed time that must not overlap."""
    cp_model: Any = pytest.importorskip("ortools.sat.python.cp_model")
    model = cp_model.CpModel()
    most = sum(item.bytes for item in buffers) // 16
    arena = model.new_int_var(lower_bound(buffers)[0] // 16, most, "arena")
    times, places = [], []
    for at, item in enumerate(buffers):
        size, offset = item.bytes // 16, model.new_int_var(0, most, f"offset{at}")
        times.append(model.new_fixed_size_interval_var(item.first_step, item.last_step - item.first_step + 1, f"t{at}"))
        places.append(model.new_fixed_size_interval_var(offset, size, f"p{at}"))
        model.add(offset + size <= arena)
    model.add_no_overlap_2d(times, places)
    model.minimize(arena)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    assert solver.solve(model) == cp_model.OPTIMAL
    return 16 * int(solver.objective_value)


@pytest.mark.parametrize("kind", ["skips", "spread", "crowded"])
@pytest.mark.parametrize("count", [8, 16, 30])
def test_the_plan_is_the_optimum_that_constraint_programming_proves(count: int, kind: str) -> None:
    for seed in range(3):
        buffers = random_buffers(count, seed, kind)
        assert plan_arena(buffers).peak_bytes == optimum(buffers), seed
