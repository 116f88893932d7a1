"""Measure how fast the command line answers: the median wall time of `python -m edgekd --help` over several processes.

    python tools/bench_help.py [--runs 9] [--limit 0.4] [ARGUMENT ...]

Arguments replace `--help`: `tools/bench_help.py --limit 1 -- verify model.onnx --static`. The first process warms
the disk cache and does not count. Exits 1 where the median is over the limit.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--limit", type=float, default=0.4, help="seconds")
    parser.add_argument("arguments", nargs="*", default=["--help"])
    options = parser.parse_args()
    command = [sys.executable, "-m", "edgekd", *options.arguments]
    seconds = sorted([wall_seconds(command) for _ in range(options.runs + 1)][1:])
    median = statistics.median(seconds)
    print(f"edgekd {' '.join(options.arguments)}: median {median:.3f} s of {options.runs} runs", end=" ")
    print(f"({seconds[0]:.3f} to {seconds[-1]:.3f}), limit {options.limit:g} s")
    sys.exit(0 if median <= options.limit else 1)


def wall_seconds(command: list[str]) -> float:
    """Return how long the command took; one that fails ends the benchmark with its message."""
    begin = time.perf_counter()
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if finished.returncode == 2 or finished.returncode < 0 or "Traceback" in finished.stderr:
        sys.exit(f"{' '.join(command)} failed:\n{finished.stderr}")
    return seconds


if __name__ == "__main__":
    main()
