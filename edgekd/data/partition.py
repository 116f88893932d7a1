"""Seeded splits: classes apart for few-shot learning, images apart for a closed set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgekd.data.imageset import Split
from edgekd.errors import DataError
from edgekd.text import counted

Indices = NDArray[np.intp]

VAL_FRACTION = 0.1  # of each class's training images, where a closed set comes without val


def split_classes(names: Sequence[str], seed: int) -> dict[Split, tuple[str, ...]]:
    """Give 64, 16 and 20 per cent of the classes to train, val and test, at random.

    A small set gives more to val and test, up to the five classes that a 5-way episode needs, but never its majority.

    Raises:
        DataError: fewer than three classes.
    """
    count = len(names)
    if count < 3:
        found = counted(count, "class", "classes")
        raise DataError(f"{found} cannot be split into train, val and test classes; at least 3 are needed")
    n_test = max(round(0.20 * count), min(5, count // 3))
    n_val = max(round(0.16 * count), min(5, count // 4), 2 if count >= 6 else 1)  # episodes have two classes
    shuffled = [names[index] for index in np.random.default_rng(seed).permutation(count)]
    return {
        "train": tuple(sorted(shuffled[n_test + n_val :])),
        "val": tuple(sorted(shuffled[n_test : n_test + n_val])),
        "test": tuple(sorted(shuffled[:n_test])),
    }


def take_out(
    labels: NDArray[np.int64], class_names: Sequence[str], fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Return which images stay and which `fraction` of each class is taken out, both in ascending order.

    Raises:
        DataError: there are no images, or a class has only one.
    """
    if not len(labels):
        raise DataError("there are no images to split")
    rng = np.random.default_rng(seed)
    out: list[Indices] = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        if len(of_class) < 2:
            raise DataError(f"class '{class_names[label]}' has a single image, which cannot be in two splits")
        out.append(rng.permutation(of_class)[: max(1, round(fraction * len(of_class)))])
    taken = np.sort(np.concatenate(out))
    return np.setdiff1d(np.arange(len(labels)), taken), taken
