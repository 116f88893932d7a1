"""Heads: what turns a support set and a query into a class. One function each; the name users type is its registration.

Shapes: e episodes, w way, s shot, q query images of the whole episode, d values of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import UsageError, unknown

Floats = NDArray[np.float64]
Prepare = Callable[[Floats, Floats | None], Floats]
Score = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True)
class Head:
    """A classifier built from the support set alone.

    `prepare` maps all embeddings (n, d) once, before any episode; its second argument is the mean embedding (d,) of the
    training classes. `score` maps support (e, w, s, d) and query (e, q, d) to scores (e, q, w). The highest score wins;
    on a tie, the first class of the episode, where classes stand in random order. `means_suffice` says that the support
    set counts only through the mean of each class, so that one vector a class is all a device has to keep.
    """

    prepare: Prepare
    score: Score
    means_suffice: bool

    @property
    def needs_base_mean(self) -> bool:
        """Whether `prepare` looks at the mean embedding of the training classes."""
        return self.prepare is centred_normalised


HEADS: dict[str, Head] = {}


def as_they_are(embeddings: Floats, _base_mean: Floats | None) -> Floats:
    """Return the embeddings unchanged."""
    return embeddings


def normalised(embeddings: Floats, _base_mean: Floats | None) -> Floats:
    """Scale each embedding to unit L2 norm; a zero embedding stays zero."""
    return _unit(embeddings)


def centred_normalised(embeddings: Floats, base_mean: Floats | None) -> Floats:
    """Subtract the mean embedding of the training classes, then scale to unit L2 norm.

    Raises:
        UsageError: there is no `base_mean`.
    """
    if base_mean is None:
        raise UsageError("the head 'centred' needs base_mean, the mean embedding of the training classes")
    return _unit(embeddings - base_mean)


def head(name: str, prepare: Prepare = as_they_are, *, means_suffice: bool = True) -> Callable[[Score], Score]:
    """Register a score function, with its preparation, under the name users type."""

    def register(score: Score) -> Score:
        HEADS[name] = Head(prepare, score, means_suffice)
        return score

    return register


@head("cosine")
def cosine(support: Floats, query: Floats) -> Floats:
    """Cosine between the query and the mean of the support embeddings, which are not normalised before the mean.

    A zero query or a zero mean has cosine 0 with everything.

    Source: Yinbo Chen, Zhuang Liu, Huijuan Xu, Trevor Darrell, Xiaolong Wang: Meta-Baseline: Exploring Simple
    Meta-Learning for Few-Shot Learning, ICCV 2021, https://arxiv.org/abs/2003.04390
    """
    cosines: Floats = _unit(query) @ _unit(support.mean(axis=2)).swapaxes(1, 2)
    return cosines


@head("centred", prepare=centred_normalised)
@head("euclid")
def euclid(support: Floats, query: Floats) -> Floats:
    """Minus the squared Euclidean distance between the query and the mean of the support embeddings.

    On embeddings as they are, this is the head of prototypical networks; on centred and normalised ones, CL2N.

    Source: Jake Snell, Kevin Swersky, Richard Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017,
    https://arxiv.org/abs/1703.05175; Yan Wang, Wei-Lun Chao, Kilian Weinberger, Laurens van der Maaten: SimpleShot:
    Revisiting Nearest-Neighbor Classification for Few-Shot Learning, 2019, https://arxiv.org/abs/1911.04623
    """
    means = support.mean(axis=2)  # (e, w, d)
    # -|q - m|^2 = 2 q.m - m.m - q.q
    scores: Floats = 2 * (query @ means.swapaxes(1, 2))
    scores -= _squared_norm(means)[:, None, :]
    scores -= _squared_norm(query)[:, :, None]
    return scores


@head("logistic", prepare=normalised, means_suffice=False)
def logistic(support: Floats, query: Floats) -> Floats:
    """Class probabilities of a multinomial logistic regression (L2 penalty, C = 1) fitted to each support set.

    No augmentation of the support set. Milliseconds an episode: the slow head.

    Source: Yonglong Tian, Yue Wang, Dilip Krishnan, Joshua Tenenbaum, Phillip Isola: Rethinking Few-Shot Image
    Classification: A Good Embedding Is All You Need?, ECCV 2020, https://arxiv.org/abs/2003.11539
    """
    from sklearn.linear_model import LogisticRegression

    episodes, way, shot, dim = support.shape
    labels = np.repeat(np.arange(way), shot)
    scores = np.empty((episodes, query.shape[1], way))
    for index in range(episodes):
        model = LogisticRegression(C=1.0, solver="lbfgs", max_iter=1000)
        model.fit(support[index].reshape(-1, dim), labels)
        scores[index] = model.predict_proba(query[index])
    return scores


def find_head(name: str) -> Head:
    """Return the head of that name.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    if name not in HEADS:
        raise UsageError(unknown("head", name, HEADS))
    return HEADS[name]


def _squared_norm(vectors: Floats) -> Floats:
    squares: Floats = np.einsum("...d,...d->...", vectors, vectors)
    return squares


def _unit(vectors: Floats) -> Floats:
    norm = np.sqrt(_squared_norm(vectors))[..., None]
    unit: Floats = vectors / np.where(norm > 0, norm, 1.0)
    return unit
