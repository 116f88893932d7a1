"""Each measure against arithmetic written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekd.errors import DataError, UsageError
from edgekd.measures import (
    activation_error,
    best_temperature,
    classification,
    confusion,
    expected_calibration_error,
    share_ci95,
    soft_targets,
)

TRUTH = np.array([0, 0, 0, 1, 1, 2, 2, 2])
PREDICTED = np.array([0, 0, 1, 1, 2, 2, 2, 0])


def test_shares_of_predicted_classes() -> None:
    found = classification(TRUTH, PREDICTED, classes=3, dataset="toys", split="test")
    # correct of each class 2, 1, 2; true 3, 2, 3; predicted 3, 2, 3
    precision = recall = (2 / 3, 1 / 2, 2 / 3)
    f1 = [2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True)]
    assert (found.images, found.classes) == (8, 3)
    assert found.accuracy == 5 / 8
    assert found.macro_precision == pytest.approx(sum(precision) / 3)
    assert found.macro_recall == pytest.approx(sum(recall) / 3)
    assert found.macro_f1 == pytest.approx(sum(f1) / 3)
    assert found.micro_f1 == found.micro_precision == found.micro_recall == pytest.approx(5 / 8)


def test_macro_is_not_micro_where_classes_differ_in_size() -> None:
    truth, predicted = np.array([0, 0, 0, 1]), np.zeros(4, np.int64)
    found = classification(truth, predicted, classes=2, dataset="toys", split="test")
    assert (found.macro_precision, found.macro_recall) == (0.75 / 2, 0.5)
    assert found.macro_f1 == pytest.approx((2 * 0.75 / 1.75) / 2)
    assert found.micro_f1 == 0.75


def test_a_class_that_is_never_predicted_and_never_there_counts_as_nothing() -> None:
    found = classification(TRUTH, TRUTH, classes=4, dataset="toys", split="test")
    assert (found.accuracy, found.macro_f1) == (1.0, 0.75)


def test_predictions_that_do_not_fit_are_refused() -> None:
    for truth, predicted in ((TRUTH, PREDICTED[:3]), (TRUTH[:0], PREDICTED[:0]), (TRUTH[:, None], TRUTH[:, None])):
        with pytest.raises(DataError, match="one prediction for each image"):
            classification(truth, predicted, classes=3, dataset="toys", split="test")


@pytest.mark.parametrize(("share", "n"), [(0.5, 100), (0.98, 200), (1.0, 50), (0.0, 50), (1.0, 1)])
def test_the_interval_of_a_share_reaches_wilsons_ends(share: float, n: int) -> None:
    z = 1.96
    # the ends solve (p - share)^2 = z^2 p (1 - p) / n
    a, b, c = 1 + z * z / n, -(2 * share + z * z / n), share * share
    ends = [(-b + sign * math.sqrt(max(0.0, b * b - 4 * a * c))) / (2 * a) for sign in (-1, 1)]
    assert share_ci95(share, n) == pytest.approx(max(abs(end - share) for end in ends))
    assert share_ci95(share, n) > 0


def test_confusion_counts_every_image() -> None:
    expected = np.zeros((3, 3), np.int64)
    for truth, predicted in zip(TRUTH, PREDICTED, strict=True):
        expected[truth, predicted] += 1
    np.testing.assert_array_equal(confusion(TRUTH, PREDICTED, 3), expected)


def test_activations_of_one_width_are_compared_as_they_are() -> None:
    student, teacher = np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 1.0], [4.0, 1.0]])
    found = activation_error(student, teacher)
    assert found.mse == (1 + 1 + 1 + 1) / 4
    assert found.mae == 1.0
    assert found.r2 == 1 - 4 / 8  # the second value of the teacher is the same for both: it spreads nothing
    assert (found.rows, found.mapped) == (2, False)


def test_the_mean_explains_nothing_and_the_teacher_everything() -> None:
    teacher = np.random.default_rng(0).normal(size=(20, 3))
    assert activation_error(np.tile(teacher.mean(axis=0), (20, 1)), teacher).r2 == pytest.approx(0)
    assert activation_error(teacher, teacher).r2 == 1
    assert activation_error(-50 * teacher, teacher).r2 < -2000


def test_activations_of_other_widths_are_mapped_first_on_other_images() -> None:
    random = np.random.default_rng(0)
    student = random.normal(size=(40, 3)).astype(np.float32)
    teacher = student @ random.normal(size=(3, 5)).astype(np.float32) + 7
    found = activation_error(student, teacher)
    assert (found.rows, found.mapped) == (20, True)
    assert found.r2 == pytest.approx(1)
    noise = activation_error(random.normal(size=(40, 6)), teacher)
    assert noise.r2 < 0  # on the images of the fit it would be above
    assert activation_error(student, teacher, seed=1) != found


def test_activations_that_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="of the same images"):
        activation_error(np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(DataError, match="nothing to explain"):
        activation_error(np.zeros((3, 2)), np.ones((3, 2)))
    with pytest.raises(DataError, match="12 images are too few: a map from 6 to 4 values"):
        activation_error(np.zeros((12, 6)), np.zeros((12, 4)))


LOGITS, LABELS = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5], [3.0, 1.0, 0.0], [0.2, 0.1, 0.0]]), np.array([0, 2, 0, 1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_targets_by_loops(temperature: float) -> None:
    entropy = nll = 0.0
    bins: dict[int, list[float]] = {}
    for row, label in zip(LOGITS, LABELS, strict=True):
        exponents = [math.exp(value / temperature) for value in row]
        shares = [value / sum(exponents) for value in exponents]
        entropy -= sum(share * math.log(share) for share in shares) / 4
        nll -= math.log(shares[label]) / 4
        place = math.ceil(max(shares) * 15)  # ((m - 1) / 15, m / 15]
        bins.setdefault(place, []).append(float(shares.index(max(shares)) == label) - max(shares))
    (found,) = soft_targets(LOGITS, LABELS, [temperature])
    assert found.temperature == temperature
    assert found.entropy == pytest.approx(entropy)
    assert found.nll == pytest.approx(nll)
    assert found.ece == pytest.approx(sum(abs(sum(gaps)) for gaps in bins.values()) / 4)


def test_classes_that_are_not_known_leave_the_entropy() -> None:
    (hot,) = soft_targets(LOGITS, None, [1e6])
    assert hot.entropy == pytest.approx(math.log(3))
    assert (hot.ece, hot.nll) == (None, None)


def test_confidences_on_an_edge_belong_below_it() -> None:
    confidence = np.array([0.5, 0.75, 1.0])
    correct = np.array([True, False, True])
    # two bins: (0, 1/2] holds the first, (1/2, 1] the others
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx((0.5 + 0.75) / 3)


def test_the_best_temperature_undoes_a_scale() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 5))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(5, p=row) for row in shares])
    found = best_temperature(7 * logits, labels)
    assert found == pytest.approx(7, rel=0.15)
    nll = [soft_targets(7 * logits, labels, [found * factor])[0].nll for factor in (0.99, 1, 1.01)]
    assert min((value, index) for index, value in enumerate(nll) if value is not None)[1] == 1


def test_a_temperature_below_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="above 0, not -1"):
        soft_targets(LOGITS, LABELS, [-1.0])
