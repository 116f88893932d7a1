"""Measure the few-shot evaluator: 10,000 5-way 5-shot episodes with 15 queries on 2,400 embeddings of 64 values.

    python tools/bench_fewshot.py [--head cosine] [--episodes 10000]

Prints seconds (best of three), episodes per second and the peak memory of the process; then the ratio to a plain loop
that scores the same episodes one after the other. Exits 1 where the two find different accuracies.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgekd.fewshot import Protocol, episode_accuracies, sample_episodes
from edgekd.heads import HEADS, find_head

CLASSES, IMAGES, DIM = 20, 120, 64
LOOP_EPISODES = 1000

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--head", choices=[name for name in HEADS if name != "logistic"], default="cosine")
    parser.add_argument("--episodes", type=int, default=10_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), IMAGES)
    embeddings = 0.3 * rng.normal(size=(CLASSES, DIM))[labels] + rng.normal(size=(len(labels), DIM))
    protocol = Protocol(way=5, shot=5, query=15, episodes=options.episodes)

    seconds, fast = timed(
        lambda: episode_accuracies(embeddings, labels, protocol, options.head, embeddings.mean(axis=0)), repeats=3
    )
    print(
        f"{options.head}: {seconds:.2f} s for {protocol.episodes} episodes, {protocol.episodes / seconds:,.0f} a second"
    )
    print(f"peak memory of the process: {peak_rss_mb():.0f} MB; accuracy {fast.mean():.4f}")

    few = Protocol(way=5, shot=5, query=15, episodes=min(LOOP_EPISODES, options.episodes))
    loop_seconds, slow = timed(lambda: plain_loop(embeddings, labels, few, options.head), repeats=1)
    ratio = (loop_seconds / few.episodes) / (seconds / protocol.episodes)
    same = np.array_equal(slow, fast[: few.episodes])
    print(f"plain loop: {few.episodes / loop_seconds:,.0f} episodes a second; vectorised is {ratio:.1f} x as fast")
    print(f"same accuracies on the first {few.episodes} episodes: {'yes' if same else 'NO'}")
    sys.exit(0 if same else 1)


def timed(run: Callable[[], Floats], repeats: int) -> tuple[float, Floats]:
    """Return the shortest wall time in seconds and the result."""
    shortest = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        result = run()
        shortest = min(shortest, time.perf_counter() - begin)
    return shortest, result


def plain_loop(embeddings: Floats, labels: Labels, protocol: Protocol, name: str) -> Floats:
    """Draw and score one episode at a time."""
    head = find_head(name)
    prepared = head.prepare(embeddings, embeddings.mean(axis=0))
    truth = np.repeat(np.arange(protocol.way), protocol.query)
    accuracies = []
    for episode in sample_episodes(labels, protocol, chunk=1):
        scores = head.score(prepared[episode.support], prepared[episode.query.reshape(1, -1)])
        accuracies.append((scores[0].argmax(axis=1) == truth).mean())
    return np.array(accuracies)


def peak_rss_mb() -> float:
    """Return the largest resident set of this process so far, in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    main()
