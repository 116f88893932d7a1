"""A few classes of a test set to look at: their map in two dimensions, and which class is taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError
from edgekd.heads import Floats, find_head
from edgekd.measures import confusion

MOST_CLASSES = 10
MOST_POINTS = 300

Integers = NDArray[np.int64]
AnyFloats = NDArray[np.floating[Any]]


def few_classes(labels: Integers, seed: int) -> Integers:
    """Return at most ten of the classes, drawn at random, ascending."""
    classes = np.unique(labels)
    return np.sort(np.random.default_rng(seed).permutation(classes)[:MOST_CLASSES])


def few_images(labels: Integers, classes: Integers, seed: int) -> Integers:
    """Return the rows of at most 300 images, as many of each of `classes`, drawn at random, ascending."""
    random, each = np.random.default_rng(seed), MOST_POINTS // len(classes)
    rows = [random.permutation(np.flatnonzero(labels == label))[:each] for label in classes]
    return np.sort(np.concatenate(rows)).astype(np.int64)


def tsne(embeddings: AnyFloats, seed: int) -> Floats:
    """Map embeddings (n, d), scaled to unit length, to the plane (n, 2); one seed gives one map.

    Perplexity 30, or a third of the points where they are few; it starts from the first two principal components.

    Source: Laurens van der Maaten, Geoffrey Hinton: Visualizing Data using t-SNE, JMLR 9, 2008,
    https://www.jmlr.org/papers/v9/vandermaaten08a.html

    Raises:
        DataError: fewer than four images.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no annotations

    if len(embeddings) < 4:
        raise DataError(f"{len(embeddings)} images are too few for a map; 4 are needed")
    norm = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = (embeddings / np.where(norm > 0, norm, 1)).astype(np.float64)
    perplexity = min(30.0, (len(unit) - 1) / 3)
    with threadpool_limits(1):  # sums over several threads differ in their last bits, which t-SNE magnifies
        points: Floats = TSNE(perplexity=perplexity, init=_start(unit), random_state=seed).fit_transform(unit)
    return points


def _start(unit: Floats) -> Floats:
    """Return the two leading principal components (n, 2), small; each points to its largest value's side."""
    centred = unit - unit.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    start = left[:, :2] * values[:2]
    start = np.pad(start, ((0, 0), (0, 2 - start.shape[1])))
    start *= np.where(start[np.abs(start).argmax(axis=0), [0, 1]] < 0, -1, 1)
    return (start / max(float(start[:, 0].std()), 1e-12) * 1e-4).astype(np.float64)


def nearest_class_confusion(
    embeddings: AnyFloats, labels: Integers, classes: Integers, *, shot: int, head: str, seed: int
) -> Integers:
    """Enrol `shot` random images of each class and name the class of all others: counts (way, way), the truth by row.

    Raises:
        DataError: a class has no image left to ask about.
        UsageError: an unknown head, or one that needs the mean of the training classes.
    """
    chosen = find_head(head)
    prepared = chosen.prepare(np.asarray(embeddings, np.float64), None)
    random = np.random.default_rng(seed)
    rows = [random.permutation(np.flatnonzero(labels == label)) for label in classes]
    if (least := min(map(len, rows))) <= shot:
        raise DataError(f"a class has {least} images: none is left after {shot} are enrolled")
    support = np.stack([prepared[some[:shot]] for some in rows])  # (w, s, d)
    query = np.concatenate([some[shot:] for some in rows])
    truth = np.concatenate([np.full(len(some) - shot, place) for place, some in enumerate(rows)])
    predicted = chosen.score(support[None], prepared[query][None])[0].argmax(axis=1)
    return confusion(truth, predicted, len(classes))
