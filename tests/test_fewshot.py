from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekd import fewshot
from edgekd.errors import DataError, UsageError
from edgekd.fewshot import Accuracy, Episodes, Protocol, episode_accuracies, evaluate, sample_episodes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COUNTS = (20, 23, 31, 20, 27, 44, 21)  # images of each class: unequal on purpose
SMALL = Protocol(way=3, shot=2, query=4, episodes=60, seed=5)


def make_labels(counts: tuple[int, ...] = COUNTS, seed: int = 0) -> Ints:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


def make_embeddings(labels: Ints, spread: float = 1.0, dim: int = 8, seed: int = 1) -> Floats:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(labels.max() + 1, dim))
    return centres[labels] + spread * rng.normal(size=(len(labels), dim))


def all_episodes(labels: Ints, protocol: Protocol, chunk: int = 256) -> Episodes:
    chunks = list(sample_episodes(labels, protocol, chunk))
    return Episodes(np.concatenate([c.support for c in chunks]), np.concatenate([c.query for c in chunks]))


def plain_prediction(head: str, support: Floats, image: Floats, base_mean: Floats) -> int:
    """One query, one class after the other, by the words of the papers."""
    scores = []
    for shots in support:
        if head == "centred":
            prototype = np.mean([(x - base_mean) / np.linalg.norm(x - base_mean) for x in shots], axis=0)
            centred = (image - base_mean) / np.linalg.norm(image - base_mean)
            scores.append(-np.linalg.norm(centred - prototype))
        elif head == "euclid":
            scores.append(-np.linalg.norm(image - np.mean(shots, axis=0)))
        else:
            prototype = np.mean(shots, axis=0)
            scores.append(np.dot(image, prototype) / (np.linalg.norm(image) * np.linalg.norm(prototype)))
    return int(np.argmax(scores))


def plain_accuracies(head: str, embeddings: Floats, episodes: Episodes, base_mean: Floats) -> list[float]:
    accuracies = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        correct = 0
        for expected, images in enumerate(query):
            correct += sum(
                plain_prediction(head, embeddings[support], embeddings[i], base_mean) == expected for i in images
            )
        accuracies.append(correct / query.size)
    return accuracies


# ------------------------------------------------------------------------------------------------------- episodes


def test_episode_takes_distinct_images_of_distinct_classes() -> None:
    labels = make_labels()
    protocol = Protocol(way=5, shot=5, query=15, episodes=300)
    episodes = all_episodes(labels, protocol)
    assert episodes.support.shape == (300, 5, 5)
    assert episodes.query.shape == (300, 5, 15)
    images = np.concatenate([episodes.support, episodes.query], axis=2)
    classes = labels[images]
    assert (classes == classes[:, :, :1]).all()
    assert all(len(set(row)) == 5 for row in classes[:, :, 0])
    assert all(len(set(row.ravel())) == 5 * 20 for row in images)


def test_classes_and_images_are_drawn_uniformly() -> None:
    labels = make_labels()
    protocol = Protocol(way=2, shot=1, query=1, episodes=20_000)
    episodes = all_episodes(labels, protocol)
    for images in (
        episodes.support[:, 0, 0],
        episodes.support[:, 1, 0],
        episodes.query[:, 0, 0],
        episodes.query[:, 1, 0],
    ):
        expected = 20_000 / len(COUNTS) / np.array(COUNTS)[labels]  # (n,) of each image
        seen = np.bincount(images, minlength=len(labels))
        chi2 = ((seen - expected) ** 2 / expected).sum()
        degrees = len(labels) - 1
        assert abs(chi2 - degrees) < 5 * np.sqrt(2 * degrees)


def test_every_ordered_pair_is_equally_likely() -> None:
    protocol = Protocol(way=2, shot=1, query=1, episodes=24_000)
    episodes = all_episodes(np.repeat([0, 1], 4), protocol)
    first = labels_of_pair(episodes.support[:, 0, 0] % 4, episodes.query[:, 0, 0] % 4)
    seen = np.bincount(first, minlength=16)
    assert (seen[[0, 5, 10, 15]] == 0).all()
    drawn = np.delete(seen, [0, 5, 10, 15])
    assert np.abs(drawn - 2000).max() < 5 * np.sqrt(2000)


def labels_of_pair(left: Ints, right: Ints) -> Ints:
    return left * 4 + right


@pytest.mark.parametrize("chunk", [1, 7, 59, 1000])
def test_episodes_do_not_depend_on_the_chunk(chunk: int) -> None:
    labels = make_labels()
    expected, found = all_episodes(labels, SMALL), all_episodes(labels, SMALL, chunk)
    np.testing.assert_array_equal(found.support, expected.support)
    np.testing.assert_array_equal(found.query, expected.query)


def test_fewer_episodes_are_the_first_of_more() -> None:
    labels = make_labels()
    more = all_episodes(labels, Protocol(way=3, shot=2, query=4, episodes=600, seed=5))
    np.testing.assert_array_equal(all_episodes(labels, SMALL).query, more.query[:60])


def test_seed_decides_the_episodes() -> None:
    labels = make_labels()
    once, again = all_episodes(labels, SMALL), all_episodes(labels, SMALL)
    other = all_episodes(labels, Protocol(way=3, shot=2, query=4, episodes=60, seed=6))
    np.testing.assert_array_equal(once.query, again.query)
    assert (once.query != other.query).any()


def test_seed_means_the_same_episodes_in_every_release() -> None:
    first = next(sample_episodes(np.repeat(np.arange(20), 120), Protocol(query=2)))
    assert first.support[0].tolist() == [[1549], [785], [240], [447], [2104]]
    assert first.query[0].tolist() == [[1513, 1528], [832, 818], [343, 245], [381, 463], [2076, 2091]]


def test_labels_may_be_any_integers() -> None:
    labels = make_labels()
    np.testing.assert_array_equal(all_episodes(labels, SMALL).query, all_episodes(labels * 10 - 30, SMALL).query)


def test_a_class_may_be_used_up_to_the_last_image() -> None:
    labels = np.repeat(np.arange(3), 6)
    episodes = all_episodes(labels, SMALL)
    for support, query in zip(episodes.support, episodes.query, strict=True):
        assert sorted([*support.ravel(), *query.ravel()]) == list(range(18))


# ------------------------------------------------------------------------------------------------------- accuracy


@pytest.mark.parametrize("head", ["cosine", "euclid", "centred"])
@pytest.mark.parametrize("shot", [1, 5])
def test_accuracy_equals_a_plain_loop(head: str, shot: int) -> None:
    labels = make_labels()
    embeddings = make_embeddings(labels, spread=1.5)
    base_mean = np.full(8, 0.3)
    protocol = Protocol(way=4, shot=shot, query=5, episodes=25, seed=2)
    expected = plain_accuracies(head, embeddings, all_episodes(labels, protocol), base_mean)
    found = episode_accuracies(embeddings, labels, protocol, head, base_mean)
    assert 0.3 < found.mean() < 0.95
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("way", [2, 5])
@pytest.mark.parametrize("head", ["cosine", "euclid", "centred", "logistic"])
def test_separated_classes_are_always_right(head: str, way: int) -> None:
    labels = make_labels()
    embeddings = np.eye(len(COUNTS), dtype=np.float32)[labels]
    accuracy = evaluate(embeddings, labels, Protocol(way=way, episodes=20), head, embeddings.mean(axis=0))
    assert accuracy == Accuracy(way, 1, 15, 20, head, mean=1.0, ci95=0.0)


def test_cosine_ignores_the_scale_of_all_and_of_each_query() -> None:
    labels = make_labels()
    embeddings = make_embeddings(labels)
    expected = episode_accuracies(embeddings, labels, SMALL, "cosine")
    np.testing.assert_array_equal(episode_accuracies(embeddings * 37.0, labels, SMALL, "cosine"), expected)


@pytest.mark.parametrize("head", ["cosine", "euclid", "centred", "logistic"])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_collapsed_embeddings_are_at_chance_exactly(head: str, value: float) -> None:
    labels = make_labels()
    accuracy = evaluate(np.full((len(labels), 4), value), labels, SMALL, head, np.zeros(4))
    assert accuracy.mean == pytest.approx(1 / 3)
    assert accuracy.ci95 == pytest.approx(0.0)


@pytest.mark.parametrize("head", ["cosine", "euclid", "centred"])
def test_embeddings_without_information_are_at_chance(head: str) -> None:
    labels = np.repeat(np.arange(100), 100)
    embeddings = np.random.default_rng(3).normal(size=(10_000, 16))
    accuracy = evaluate(embeddings, labels, Protocol(episodes=2000), head, np.zeros(16))
    assert abs(accuracy.mean - 1 / 5) < 2 * accuracy.ci95 < 0.02


def test_interval_is_196_standard_errors() -> None:
    labels = make_labels()
    embeddings = make_embeddings(labels)
    values = episode_accuracies(embeddings, labels, SMALL).tolist()
    mean = sum(values) / 60
    std = (sum((value - mean) ** 2 for value in values) / 59) ** 0.5
    accuracy = evaluate(embeddings, labels, SMALL)
    assert accuracy.mean == pytest.approx(mean, rel=1e-12)
    assert accuracy.ci95 == pytest.approx(1.96 * std / 60**0.5, rel=1e-12)


@pytest.mark.parametrize("head", ["cosine", "euclid"])
def test_accuracy_does_not_depend_on_the_chunk(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = make_labels()
    embeddings = make_embeddings(labels)
    expected = episode_accuracies(embeddings, labels, SMALL, head)
    monkeypatch.setattr(fewshot, "_CHUNK_VALUES", 1000)
    np.testing.assert_array_equal(episode_accuracies(embeddings, labels, SMALL, head), expected)


def test_the_evaluator_and_the_runtime_load_without_heavy_packages() -> None:
    heavy = "{'torch', 'sklearn', 'onnxruntime', 'onnx'}"
    code = f"import sys, edgekd.fewshot, edgekd.runtime; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("images", [12, 19])
def test_too_few_images_name_the_class_and_the_arithmetic(images: int) -> None:
    labels = np.repeat([3, 5, 7, 8, 9], [20, 20, images, 20, 20])
    with pytest.raises(
        DataError, match=f"5-way 5-shot with 15 queries needs 20 images in each class; class 7 has {images}"
    ):
        evaluate(np.ones((len(labels), 2)), labels, Protocol(shot=5))


@pytest.mark.parametrize("counts", [(), (20,), (20, 20, 20)])
def test_too_few_classes(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), np.array(counts, dtype=int))
    with pytest.raises(DataError, match=f"needs 5 classes, there are {len(counts)}"):
        evaluate(np.ones((len(labels), 2)), labels, Protocol())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite(value: float) -> None:
    labels = make_labels()
    embeddings = make_embeddings(labels)
    embeddings[[17, 40], 2] = value
    with pytest.raises(DataError, match=r"2 of 186 embeddings hold NaN or infinity, the first is row 17"):
        evaluate(embeddings, labels, SMALL)


@pytest.mark.parametrize("shape", [(185, 4), (186,), (186, 2, 2)], ids=str)
def test_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="one label an image"):
        evaluate(np.ones(shape), make_labels(), SMALL)


@pytest.mark.parametrize(("base_mean", "message"), [(np.zeros(7), "shape"), (np.full(8, np.nan), "NaN")])
def test_base_mean_that_does_not_fit(base_mean: Floats, message: str) -> None:
    with pytest.raises(DataError, match=f"base_mean .*{message}"):
        evaluate(make_embeddings(make_labels()), make_labels(), SMALL, "centred", base_mean)


@pytest.mark.parametrize(
    "field", [{"way": 1}, {"shot": 0}, {"query": 0}, {"episodes": 1}, {"seed": -1}], ids=lambda field: next(iter(field))
)
def test_protocol_out_of_range(field: dict[str, int]) -> None:
    name, value = next(iter(field.items()))
    with pytest.raises(UsageError, match=f"{name} must be at least {value + 1}, not {value}"):
        Protocol(**field)
