"""How far exported files are from the networks that they are of: many small ones of random weights, with float scales.

    python tools/bench_parity.py

Random weights are the hard case: nothing keeps channels from lying half way between two integers. Prints each file that
`edgekd export` would refuse, and how many are off by how many LSB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from edgekd.bound import Bound
from edgekd.data import Splits, load_splits
from edgekd.distill.untrained import untrained_student
from edgekd.export import Parity, compare, to_integer_onnx
from edgekd.profile import load_profile
from edgekd.recipe import load_recipe

SIZES = (16, 32)
SEEDS = range(6)
IMAGES = 64
PROFILE = "tu_accel_150k"
STUDENTS = (
    "conv4-16",
    "conv4-64",
    "convnet:8-8/1",
    "convnet:16-24-32/2",
    "convnet:16-16-16-16-16-32/3",
    "convnet:16-24-24-32-32-48/4/signed",
    "convnet:8-8-8-8-8-8-8-8/3/signed",
)


def main() -> None:
    """Export and compare every student at every size from every seed."""
    lsb: Counter[int] = Counter()
    shares, refused = [], 0
    for size in SIZES:
        splits = load_splits("glyphs", size=size)
        for name, parity, bound in parities(splits):
            lsb[parity.max_lsb] += 1
            shares.append(parity.share)
            if not bound.allows(parity.max_lsb, parity.share):
                refused += 1
                print(f"{name} at {size}x{size}: {parity}")
    print(f"{len(shares)} networks, {refused} refused")
    print("largest difference: " + ", ".join(f"{count} by {step} LSB" for step, count in sorted(lsb.items())))
    middle, high = np.percentile(shares, (50, 95))
    print(f"share of integers that differ: median {middle:.3%}, 95th percentile {high:.3%}, largest {max(shares):.3%}")


def parities(splits: Splits) -> Iterator[tuple[str, Parity, Bound]]:
    """Yield each student from each seed, how far its file is off, and how far it may be."""
    profile = load_profile(PROFILE)
    for spec in STUDENTS:
        for seed in SEEDS:
            recipe = load_recipe(None, [f"student.backbone={spec}", f"seed={seed}"])
            made = untrained_student(recipe, profile, splits)
            parity = compare(made.network, to_integer_onnx(made.network, splits.train), splits.test.images[:IMAGES])
            yield f"{spec}, seed {seed}", parity, Bound.of_onnxruntime(made.scheme)


if __name__ == "__main__":
    main()
