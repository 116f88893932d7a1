"""Which images are looked at, the map of them, and the nearest class on one draw."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.errors import DataError
from edgekd.projection import few_classes, few_images, nearest_class_confusion, tsne

LABELS = np.repeat(np.arange(12), 40)


def test_ten_classes_and_three_hundred_images() -> None:
    classes = few_classes(LABELS, seed=0)
    rows = few_images(LABELS, classes, seed=0)
    assert len(classes) == 10
    assert len(set(classes.tolist())) == 10
    assert np.bincount(LABELS[rows], minlength=12).tolist() == [30 if label in classes else 0 for label in range(12)]
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, few_images(LABELS, classes, seed=0))
    assert rows.tolist() != few_images(LABELS, classes, seed=1).tolist()
    assert few_classes(LABELS, 1).tolist() != classes.tolist()


def test_few_classes_or_images_are_all_taken() -> None:
    labels = np.array([0, 0, 3, 3, 3])
    assert few_classes(labels, 0).tolist() == [0, 3]
    assert few_images(labels, few_classes(labels, 0), 0).tolist() == [0, 1, 2, 3, 4]


def test_a_map_keeps_neighbours_and_repeats_itself() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    embeddings = 5 * np.eye(6)[labels] + random.normal(0, 0.3, (60, 6))
    points = tsne(embeddings, seed=0)
    assert points.shape == (60, 2)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(60)
    assert (labels[distance.argmin(axis=1)] == labels).all()
    np.testing.assert_array_equal(points, tsne(embeddings, seed=0))
    scaled = tsne(embeddings * random.uniform(0.5, 2, (60, 1)), seed=0)  # only directions count
    assert np.corrcoef(points[:, 0], scaled[:, 0])[0, 1] > 0.99


def test_odd_embeddings_have_a_map() -> None:
    assert np.isfinite(tsne(np.zeros((8, 3)), seed=0)).all()
    assert np.isfinite(tsne(np.arange(8.0)[:, None], seed=0)).all()
    with pytest.raises(DataError, match="3 images are too few"):
        tsne(np.zeros((3, 3)), seed=0)


def test_the_nearest_class_by_hand() -> None:
    labels = np.array([0, 0, 0, 7, 7, 7, 9])
    embeddings = np.array([[1.0, 0], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1], [1, 0.3], [5, 5]])
    for seed in range(5):
        counts = nearest_class_confusion(embeddings, labels, np.array([0, 7]), shot=1, head="cosine", seed=seed)
        assert counts.sum(axis=1).tolist() == [2, 2]
        random = np.random.default_rng(seed)
        order = [random.permutation(np.flatnonzero(labels == label)) for label in (0, 7)]
        expected = np.zeros((2, 2), int)
        for truth, rows in enumerate(order):
            for row in rows[1:]:
                unit = embeddings[row] / np.linalg.norm(embeddings[row])
                cosines = [unit @ embeddings[some[0]] / np.linalg.norm(embeddings[some[0]]) for some in order]
                expected[truth, int(np.argmax(cosines))] += 1
        np.testing.assert_array_equal(counts, expected)


def test_enrolling_every_image_leaves_none_to_ask_about() -> None:
    with pytest.raises(DataError, match="a class has 2 images: none is left after 2 are enrolled"):
        nearest_class_confusion(np.eye(4), np.array([0, 0, 1, 1]), np.array([0, 1]), shot=2, head="cosine", seed=0)
