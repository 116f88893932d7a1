"""The measure of siamese networks: are two images of a class nearer than two of different classes?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError
from edgekd.text import counted

DRAWN = 10_000  # triplets, however many there are

Indices = NDArray[np.int64]


def triplet_accuracy(
    embeddings: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], *, triplets: int = DRAWN, seed: int = 0
) -> float:
    """Return the share of random triplets in which |a - p|^2 < |a - n|^2, for embeddings (n, d) with labels (n,).

    p is another image of the anchor's class, n an image of another class, each drawn with equal chances. A tie counts
    as wrong, so that embeddings that are all alike score 0.

    Raises:
        DataError: shapes that do not fit, fewer than two classes, or no class with two images.
    """
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise DataError(
            f"embeddings must be (images, values) with one label an image, not {embeddings.shape} and {labels.shape}"
        )
    values = np.asarray(embeddings, np.float64)
    anchor, positive, negative = (values[rows] for rows in sample_triplets(labels, triplets, seed))
    near = np.square(anchor - positive).sum(axis=1)
    far = np.square(anchor - negative).sum(axis=1)
    return float((near < far).mean())


def sample_triplets(labels: NDArray[np.integer[Any]], triplets: int, seed: int) -> tuple[Indices, Indices, Indices]:
    """Draw rows of anchors, positives and negatives, each (triplets,); an anchor is any image of a class of two.

    Raises:
        DataError: fewer than two classes, or no class with two images.
    """
    order = np.argsort(labels, kind="stable")  # images class by class
    _, first, count = np.unique(labels[order], return_index=True, return_counts=True)
    place_class = np.repeat(np.arange(len(count)), count)  # the class at each place of `order`
    candidates = np.flatnonzero(count[place_class] >= 2)
    if len(count) < 2 or not len(candidates):
        raise DataError(
            f"triplets need two classes, one of them with two images; of {counted(len(count), 'class', 'classes')} "
            f"{int((count >= 2).sum())} have two images"
        )
    random = np.random.default_rng(seed)
    anchor = random.choice(candidates, triplets)
    start, size = first[place_class[anchor]], count[place_class[anchor]]
    positive = start + (anchor - start + 1 + random.integers(0, size - 1)) % size
    negative = (start + size + random.integers(0, len(labels) - size)) % len(labels)
    return order[anchor], order[positive], order[negative]
