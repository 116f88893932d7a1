from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekd.errors import UsageError
from edgekd.heads import HEADS, find_head

Floats = NDArray[np.float64]

ALL = ["cosine", "euclid", "centred", "logistic"]
RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(6, 3, 1, 8))  # episodes, way, one, dim
SUPPORT: Floats = CENTRES + RNG.normal(size=(6, 3, 4, 8))  # four shots
QUERY: Floats = (CENTRES + RNG.normal(size=(6, 3, 5, 8))).reshape(6, 15, 8)
NOTHING = np.zeros(8)


def scores(name: str, support: Floats, query: Floats, base_mean: Floats | None = NOTHING) -> Floats:
    head = find_head(name)
    return head.score(head.prepare(support, base_mean), head.prepare(query, base_mean))


def test_the_heads_of_the_protocol_are_registered() -> None:
    assert sorted(HEADS) == sorted(ALL)
    assert [name for name, head in HEADS.items() if not head.means_suffice] == ["logistic"]


@pytest.mark.parametrize("way", [2, 3])
@pytest.mark.parametrize("name", ALL)
def test_scores_have_a_column_a_class_and_find_separated_ones(name: str, way: int) -> None:
    corners = np.eye(8)[:way]
    support = np.broadcast_to(corners[None, :, None], (2, way, 5, 8))
    query = np.broadcast_to(corners.repeat(4, axis=0), (2, way * 4, 8))
    found = scores(name, support, query)
    assert found.shape == (2, way * 4, way)
    np.testing.assert_array_equal(found.argmax(axis=2), [np.repeat(np.arange(way), 4)] * 2)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_equal_embeddings_cannot_tell_queries_apart(name: str, value: float) -> None:
    found = scores(name, np.full((1, 3, 2, 8), value), np.full((1, 6, 8), value))
    assert np.isfinite(found).all()
    assert len(set(found.argmax(axis=2).ravel())) == 1


@pytest.mark.parametrize("name", ["cosine", "euclid", "centred"])
def test_the_mean_of_the_support_says_as_much_as_the_support(name: str) -> None:
    head = find_head(name)
    prepared = head.prepare(SUPPORT, NOTHING)
    means = prepared.mean(axis=2, keepdims=True)
    np.testing.assert_array_equal(head.score(means, QUERY), head.score(prepared, QUERY))


def test_cosine_averages_the_support_before_it_normalises() -> None:
    support = np.array([[[[10.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]]])  # (1, 2 ways, 2 shots, 2)
    found = scores("cosine", support, np.array([[[3.0, 0.0]]]))
    np.testing.assert_allclose(found, [[[10 / np.sqrt(101), 1 / np.sqrt(2)]]])


def test_cosine_ignores_the_length_of_each_query_and_each_mean() -> None:
    lengths = RNG.uniform(0.1, 10.0, size=(6, 15, 1))
    expected = scores("cosine", SUPPORT, QUERY)
    np.testing.assert_allclose(scores("cosine", SUPPORT, QUERY * lengths), expected, rtol=1e-12)
    np.testing.assert_allclose(scores("cosine", SUPPORT * lengths[:, :3, :, None], QUERY), expected, rtol=1e-12)


def test_cosine_of_zero_is_zero() -> None:
    query = np.concatenate([QUERY[:, :1] * 0, QUERY[:, 1:]], axis=1)
    found = scores("cosine", SUPPORT, query)
    np.testing.assert_array_equal(found[:, 0], 0.0)
    np.testing.assert_array_equal(found[:, 1:], scores("cosine", SUPPORT, QUERY)[:, 1:])


def test_euclid_is_minus_the_squared_distance_to_the_mean() -> None:
    differences = QUERY[:, :, None] - SUPPORT.mean(axis=2)[:, None]  # (e, q, w, d)
    np.testing.assert_allclose(scores("euclid", SUPPORT, QUERY), -(differences**2).sum(axis=3), rtol=1e-12)


def test_euclid_ignores_translation() -> None:
    np.testing.assert_allclose(scores("euclid", SUPPORT + 5, QUERY + 5), scores("euclid", SUPPORT, QUERY), rtol=1e-9)


def test_centred_normalises_before_it_averages() -> None:
    support = np.array([[[[11.0, 1.0], [1.0, 2.0]], [[2.0, 2.0], [2.0, 2.0]]]])  # around (1, 1): the cosine test's
    found = scores("centred", support, np.array([[[4.0, 1.0]]]), np.ones(2))
    np.testing.assert_allclose(found, [[[-0.5, -(2 - np.sqrt(2))]]])  # the means are (0.5, 0.5) and (1, 1) / sqrt 2


def test_centred_ignores_a_translation_of_embeddings_and_mean() -> None:
    moved = scores("centred", SUPPORT + 5, QUERY + 5, NOTHING + 5)
    np.testing.assert_allclose(moved, scores("centred", SUPPORT, QUERY), rtol=1e-9)


def test_centred_needs_the_mean() -> None:
    with pytest.raises(UsageError, match="needs base_mean"):
        scores("centred", SUPPORT, QUERY, None)


def test_logistic_is_fitted_to_each_episode_alone() -> None:
    from sklearn.linear_model import LogisticRegression

    unit_support = SUPPORT / np.linalg.norm(SUPPORT, axis=3, keepdims=True)
    unit_query = QUERY / np.linalg.norm(QUERY, axis=2, keepdims=True)
    found = scores("logistic", SUPPORT, QUERY)
    for episode in range(6):
        model = LogisticRegression(max_iter=1000).fit(unit_support[episode].reshape(12, 8), np.repeat([0, 1, 2], 4))
        np.testing.assert_allclose(found[episode], model.predict_proba(unit_query[episode]), rtol=1e-9)


def test_unknown_head() -> None:
    with pytest.raises(UsageError, match=r"unknown head 'cosin'\. Did you mean 'cosine'"):
        find_head("cosin")
