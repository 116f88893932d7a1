from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgekd.errors import DataError
from edgekd.siamese import sample_triplets, triplet_accuracy

RANDOM = np.random.default_rng(0)


def test_it_is_near_the_share_of_all_triplets() -> None:
    embeddings, labels = RANDOM.normal(size=(12, 2)), np.repeat(np.arange(3), 4)
    shares = []
    for a in range(12):
        same = [p for p in range(12) if labels[p] == labels[a] and p != a]
        other = [n for n in range(12) if labels[n] != labels[a]]
        near = [
            ((embeddings[a] - embeddings[p]) ** 2).sum() < ((embeddings[a] - embeddings[n]) ** 2).sum()
            for p, n in itertools.product(same, other)
        ]
        shares.append(np.mean(near))
    assert triplet_accuracy(embeddings, labels, triplets=50_000) == pytest.approx(np.mean(shares), abs=0.01)


def test_triplets_are_what_they_are_called() -> None:
    labels = RANDOM.permutation(np.array([0, 0, 0, 5, 7, 7]))
    anchor, positive, negative = sample_triplets(labels, 2000, seed=1)
    assert (labels[anchor] == labels[positive]).all()
    assert (anchor != positive).all()
    assert (labels[anchor] != labels[negative]).all()
    assert set(anchor) == set(np.flatnonzero(labels != 5))  # one image of class 5 has no other
    assert set(negative) == set(range(6))


def test_a_seed_fixes_the_triplets() -> None:
    embeddings, labels = RANDOM.normal(size=(30, 4)), np.arange(30) % 5
    first = triplet_accuracy(embeddings, labels, triplets=100)
    assert triplet_accuracy(embeddings, labels, triplets=100) == first
    assert len({triplet_accuracy(embeddings, labels, triplets=100, seed=seed) for seed in range(5)}) > 1


@pytest.mark.parametrize(("spread", "expected"), [(0.0, 1.0), (None, 0.0)], ids=["classes are points", "all alike"])
def test_the_ends_of_the_scale(spread: float | None, expected: float) -> None:
    labels = np.arange(20) % 4
    embeddings = np.zeros((20, 4)) if spread is None else np.eye(4)[labels]
    assert triplet_accuracy(embeddings, labels) == expected


@pytest.mark.parametrize("labels", [np.zeros(6, np.int64), np.arange(6)], ids=["one class", "one image each"])
def test_no_triplets(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="triplets need two classes"):
        triplet_accuracy(np.zeros((6, 2)), labels)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"not \(6, 2\) and \(5,\)"):
        triplet_accuracy(np.zeros((6, 2)), np.zeros(5, np.int64))
