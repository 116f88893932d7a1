"""Time and quality of the memory planner on random lifetimes, beside Vela's hill climb where that is installed."""

from __future__ import annotations

import importlib
import importlib.util
import random
import statistics
import time

from edgekd.verify.planner import Buffer, plan_arena

COUNTS = (24, 40, 80, 100)
SEEDS = 10
BUDGET_S = 1.0


def main() -> None:
    """Print a line for each number of buffers."""
    print("edgekd's planner on random lifetimes: peak above the lower bound, seconds a plan")
    for count in COUNTS:
        sets = [random_buffers(count, seed) for seed in range(SEEDS)]
        line = f"  {count:>3} buffers: {measure(sets)}"
        print(line + (f"; Vela's hill climb: {measure_vela(sets)}" if importlib.util.find_spec("ethosu") else ""))
    print(f"  promised: 100 buffers under {BUDGET_S:g} s")


def measure(sets: list[list[Buffer]]) -> str:
    """Plan each set and say how it went."""
    excess, seconds = [], []
    for buffers in sets:
        start = time.perf_counter()
        plan = plan_arena(buffers)
        seconds.append(time.perf_counter() - start)
        excess.append(plan.peak_bytes / plan.lower_bound_bytes - 1)
    return _sentence(excess, seconds)


def measure_vela(sets: list[list[Buffer]]) -> str:
    """The same for the allocator of Arm's Ethos-U compiler."""
    vela = importlib.import_module("ethosu.vela.hillclimb_allocation")
    excess, seconds = [], []
    for buffers in sets:
        ranges = [VelaRange(item) for item in buffers]
        start = time.perf_counter()
        addresses = vela.allocate_live_ranges(ranges, None, 1 << 60)
        seconds.append(time.perf_counter() - start)
        peak = max(at + item.size for at, item in zip(addresses, ranges, strict=True))
        excess.append(peak / plan_arena(buffers).lower_bound_bytes - 1)
    return _sentence(excess, seconds)


class VelaRange:
    """A buffer as Vela's allocator wants it."""

    def __init__(self, item: Buffer) -> None:
        self.start_time, self.end_time, self.size = item.first_step, item.last_step, item.bytes

    def get_alignment(self) -> int:
        """Return the alignment in bytes."""
        return 16


def random_buffers(count: int, seed: int) -> list[Buffer]:
    """Lifetimes spread at random, on average a sixth of all steps long."""
    rng = random.Random(seed)  # noqa: S311 - a benchmark, not a secret
    births = [rng.randrange(count) for _ in range(count)]
    ends = [birth + rng.randrange(1, count // 3) for birth in births]
    return [
        Buffer(f"t{at}", (), 16 * rng.randint(1, 512), *span) for at, span in enumerate(zip(births, ends, strict=True))
    ]


def _sentence(excess: list[float], seconds: list[float]) -> str:
    return (
        f"median {100 * statistics.median(excess):.2f} %, worst {100 * max(excess):.2f} %, "
        f"{statistics.median(seconds):.3f} s, worst {max(seconds):.2f} s"
    )


if __name__ == "__main__":
    main()
