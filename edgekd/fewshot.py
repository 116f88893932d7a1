"""Few-shot accuracy on embeddings: episodes, mean and 95 % confidence interval. The only evaluator there is.

Every image is embedded once and an episode is a draw of image indices, so one seed gives float, quantized and deployed
students the same episodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError, UsageError
from edgekd.heads import HEADS, Floats, find_head

Indices = NDArray[np.int64]
AnyFloats = NDArray[np.floating[Any]]
AnyInts = NDArray[np.integer[Any]]

__all__ = ["HEADS", "Accuracy", "Episodes", "Protocol", "episode_accuracies", "evaluate", "sample_episodes"]

# Values a chunk of episodes may gather at once (8 bytes each): a few MB stay in the cache, and memory stays flat.
_CHUNK_VALUES = 1 << 19


@dataclass(frozen=True)
class Protocol:
    """N-way K-shot: `query` counts the query images of each class, `seed` fixes every episode."""

    way: int = 5
    shot: int = 1
    query: int = 15
    episodes: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"way": 2, "shot": 1, "query": 1, "episodes": 2, "seed": 0}
        for name, bound in least.items():
            if (value := getattr(self, name)) < bound:
                raise UsageError(f"{name} must be at least {bound}, not {value}")

    def __str__(self) -> str:
        return f"{self.way}-way {self.shot}-shot with {self.query} queries"


@dataclass(frozen=True)
class Accuracy:
    """Mean accuracy over the episodes and half the width of its 95 % confidence interval, as fractions in 0..1."""

    way: int
    shot: int
    query: int
    episodes: int
    head: str
    mean: float
    ci95: float


@dataclass(frozen=True)
class Episodes:
    """A chunk of episodes as image indices: `support` (e, way, shot), `query` (e, way, query); none is in both."""

    support: Indices
    query: Indices


def sample_episodes(labels: AnyInts, protocol: Protocol, chunk: int = 256) -> Iterator[Episodes]:
    """Draw the protocol's episodes, `chunk` at a time: classes, then images, uniformly and without replacement.

    An episode depends on the labels, the seed and its number only: neither on `chunk` nor on how many are drawn.

    Raises:
        DataError: too few classes, or a class with fewer than shot + query images.
    """
    classes, counts = np.unique(labels, return_counts=True)
    _require_enough(classes, counts, protocol)
    by_class = np.argsort(labels, kind="stable")
    first = np.cumsum(counts) - counts  # where each class begins in by_class
    way, images = protocol.way, protocol.shot + protocol.query
    generator = np.random.Generator(np.random.PCG64(protocol.seed))
    for start in range(0, protocol.episodes, chunk):
        episodes = min(chunk, protocol.episodes - start)
        uniform = generator.random((episodes, way * (1 + images)))  # one row, one episode: the stream is never cut
        drawn = _draw(uniform[:, :way], np.full(episodes, len(classes))).reshape(-1)  # (e * w,)
        within = _draw(uniform[:, way:].reshape(-1, images), counts[drawn])  # (e * w, s + query)
        indices = by_class[first[drawn][:, None] + within].reshape(episodes, way, images)
        yield Episodes(indices[:, :, : protocol.shot], indices[:, :, protocol.shot :])


def _draw(uniform: Floats, sizes: Indices) -> Indices:
    """Turn each row of k uniform numbers into k different integers below its size, every ordered draw equally likely.

    Source: the first k swaps of R. A. Fisher and F. Yates' shuffle in the form of R. Durstenfeld: Algorithm 235: Random
    permutation, 1964, https://doi.org/10.1145/364520.364540
    """
    rows, k = uniform.shape
    row = np.arange(rows)
    deck = np.tile(np.arange(sizes.max(), dtype=np.int32), (rows, 1))
    for step in range(k):
        other = step + (uniform[:, step] * (sizes - step)).astype(np.int64)
        drawn = deck[row, other]
        deck[row, other] = deck[:, step]
        deck[:, step] = drawn
    return deck[:, :k].astype(np.int64)


def _require_enough(classes: AnyInts, counts: Indices, protocol: Protocol) -> None:
    if len(classes) < protocol.way:
        raise DataError(f"{protocol} needs {protocol.way} classes, there are {len(classes)}")
    needed = protocol.shot + protocol.query
    if counts.min() < needed:
        poorest = int(counts.argmin())
        raise DataError(
            f"{protocol} needs {needed} images in each class; class {classes[poorest]} has {counts[poorest]}"
        )


def evaluate(
    embeddings: AnyFloats,
    labels: AnyInts,
    protocol: Protocol,
    head: str = "cosine",
    base_mean: AnyFloats | None = None,
) -> Accuracy:
    """Measure few-shot accuracy with its confidence interval, 1.96 * std / sqrt(episodes), std with ddof 1.

    Arguments and errors are those of `episode_accuracies`.
    """
    accuracies = episode_accuracies(embeddings, labels, protocol, head, base_mean)
    ci95 = 1.96 * accuracies.std(ddof=1) / np.sqrt(len(accuracies))
    return Accuracy(
        way=protocol.way,
        shot=protocol.shot,
        query=protocol.query,
        episodes=protocol.episodes,
        head=head,
        mean=float(accuracies.mean()),
        ci95=float(ci95),
    )


def episode_accuracies(
    embeddings: AnyFloats,
    labels: AnyInts,
    protocol: Protocol,
    head: str = "cosine",
    base_mean: AnyFloats | None = None,
) -> Floats:
    """Return the accuracy of each episode (episodes,), a fraction, for embeddings (n, d) with labels (n,).

    `base_mean` (d,) is the mean embedding of the training classes; only the head 'centred' looks at it.

    Raises:
        DataError: shapes that do not fit, embeddings that are not finite, too few classes or images.
        UsageError: an unknown head, or one that needs `base_mean` without it.
    """
    chosen = find_head(head)
    _require_valid(embeddings, labels, base_mean)
    centre = None if base_mean is None else np.asarray(base_mean, np.float64)
    prepared = chosen.prepare(np.asarray(embeddings, np.float64), centre)
    way, dim = protocol.way, prepared.shape[1]
    truth = np.repeat(np.arange(way), protocol.query)  # (q,)
    most_images = np.unique(labels, return_counts=True)[1].max(initial=1)
    values = way * max((protocol.shot + protocol.query) * dim, int(most_images))  # of one episode
    correct = []
    for chunk in sample_episodes(labels, protocol, chunk=max(1, _CHUNK_VALUES // values)):
        query = chunk.query.reshape(len(chunk.query), -1)
        scores = chosen.score(prepared[chunk.support], prepared[query])  # (e, q, w)
        correct.append((scores.argmax(axis=2) == truth).mean(axis=1))
    return np.concatenate(correct)


def _require_valid(embeddings: AnyFloats, labels: AnyInts, base_mean: AnyFloats | None) -> None:
    if embeddings.ndim != 2 or labels.ndim != 1 or len(embeddings) != len(labels):
        raise DataError(
            f"embeddings must be (images, values) with one label an image, not {embeddings.shape} and {labels.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise DataError(f"{len(bad)} of {len(embeddings)} embeddings hold NaN or infinity, the first is row {bad[0]}")
    if base_mean is not None and base_mean.shape != embeddings.shape[1:]:
        raise DataError(f"base_mean has shape {base_mean.shape}, the embeddings have {embeddings.shape[1]} values")
    if base_mean is not None and not np.isfinite(base_mean).all():
        raise DataError("base_mean holds NaN or infinity")
