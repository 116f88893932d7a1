"""Measures of predicted classes, of a student's activations against its teacher's, and of soft targets by T."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError, UsageError
from edgekd.manifest import Classification

Z95 = 1.96
BINS = 15
TEMPERATURES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)
COLDEST, HOTTEST = 0.01, 1_000.0

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ActivationError:
    """How far a student's activations are from the teacher's, over `rows` images; R2 is at most 1, 0 for the mean.

    `mapped`: the widths differ, so the student's were first mapped by least squares fitted on other images.
    """

    r2: float
    mse: float
    mae: float
    rows: int
    mapped: bool


@dataclass(frozen=True)
class SoftTargets:
    """softmax(u / T): the mean entropy in nats, and, where the true class is known, calibration error and NLL (nats).

    `ece` is a fraction in 0..1.
    """

    temperature: float
    entropy: float
    ece: float | None
    nll: float | None


def classification(truth: Integers, predicted: Integers, *, classes: int, dataset: str, split: str) -> Classification:
    """Compare predicted with true classes, both (n,), in 0..classes-1; a share of nothing counts as 0.

    Raises:
        DataError: there is no image, or not one prediction for each.
    """
    from sklearn.metrics import precision_recall_fscore_support

    if truth.shape != predicted.shape or truth.ndim != 1 or not len(truth):
        raise DataError(f"one prediction for each image is needed, not {predicted.shape} for {truth.shape}")
    accuracy = float((truth == predicted).mean())
    shares: dict[str, float] = {}
    for average in ("macro", "micro"):
        found = precision_recall_fscore_support(
            truth, predicted, labels=np.arange(classes), average=average, zero_division=0
        )
        names = (f"{average}_precision", f"{average}_recall", f"{average}_f1")
        shares |= {name: float(value) for name, value in zip(names, found[:3], strict=True)}
    return Classification(
        dataset=dataset,
        split=split,
        images=len(truth),
        classes=classes,
        accuracy=accuracy,
        ci95=share_ci95(accuracy, len(truth)),
        **shares,
    )


def share_ci95(share: float, n: int) -> float:
    """Return the distance from a share of `n` trials to the further end of Wilson's 95 % score interval, never 0.

    Source: E. B. Wilson: Probable Inference, the Law of Succession, and Statistical Inference, 1927,
    https://doi.org/10.1080/01621459.1927.10502953
    """
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return half + abs(centre - share)


def confusion(truth: Integers, predicted: Integers, classes: int) -> NDArray[np.int64]:
    """Count images (classes, classes): the true class by row, the predicted one by column."""
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def activation_error(student: Floats, teacher: Floats, seed: int = 0) -> ActivationError:
    """Compare activations (n, d_s) and (n, d_t) of the same n images.

    Where d_s = d_t, value by value, as they are. Else through the affine map W z_s + b of least squared error, fitted
    on a seeded half of the images and compared on the other half. R2 = 1 - sum (z_t - z)^2 / sum (z_t - mean z_t)^2
    over all values, the mean being that of each dimension: a dimension counts by its variance, a dead one not at all.

    Raises:
        DataError: not one row an image in both; too few images to fit the map; the teacher is constant.
    """
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise DataError(f"activations of the same images are needed, not {student.shape} and {teacher.shape}")
    student, teacher = student.astype(np.float64), teacher.astype(np.float64)
    mapped = student.shape[1] != teacher.shape[1]
    if mapped:
        student, teacher = _mapped(student, teacher, seed)
    spread = ((teacher - teacher.mean(axis=0)) ** 2).sum()
    if not spread > 0:
        raise DataError("the teacher's activations are the same for every image: there is nothing to explain")
    error = student - teacher
    return ActivationError(
        r2=float(1 - (error**2).sum() / spread),
        mse=float((error**2).mean()),
        mae=float(np.abs(error).mean()),
        rows=len(teacher),
        mapped=mapped,
    )


def _mapped(student: Floats, teacher: Floats, seed: int) -> tuple[Floats, Floats]:
    """Fit the affine map on half of the rows; return the other half of both, the student's mapped."""
    order = np.random.default_rng(seed).permutation(len(student))
    fitted, kept = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    if len(fitted) <= student.shape[1]:
        raise DataError(
            f"{len(student)} images are too few: a map from {student.shape[1]} to {teacher.shape[1]} values "
            f"is fitted on half of them and needs more than {student.shape[1]}"
        )
    extended = np.column_stack([student, np.ones(len(student))])
    weights = np.linalg.lstsq(extended[fitted], teacher[fitted], rcond=None)[0]
    return extended[kept] @ weights, teacher[kept]


def soft_targets(
    logits: Floats, labels: Integers | None, temperatures: Sequence[float] = TEMPERATURES
) -> tuple[SoftTargets, ...]:
    """Measure softmax(u / T) of logits (n, classes) at each temperature; `labels` (n,) where the classes are known.

    Source: Chuan Guo, Geoff Pleiss, Yu Sun, Kilian Weinberger: On Calibration of Modern Neural Networks, ICML 2017,
    https://arxiv.org/abs/1706.04599
    """
    return tuple(_soft_targets(logits, labels, temperature) for temperature in temperatures)


def _soft_targets(logits: Floats, labels: Integers | None, temperature: float) -> SoftTargets:
    logs = _log_softmax(logits, temperature)
    probabilities = np.exp(logs)
    entropy = float(-(probabilities * logs).sum(axis=1).mean())
    if labels is None:
        return SoftTargets(temperature, entropy, None, None)
    ece = expected_calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    return SoftTargets(temperature, entropy, ece, _nll(logs, labels))


def expected_calibration_error(confidence: Floats, correct: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return sum over bins of |bin| / n * |accuracy - mean confidence|, bins ((m - 1) / M, m / M] of equal width.

    Source: as `soft_targets`.
    """
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=correct - confidence, minlength=bins)  # |bin| (accuracy - confidence)
    return float(np.abs(gaps).sum() / len(confidence))


def best_temperature(logits: Floats, labels: Integers) -> float:
    """Return the temperature of least NLL: temperature scaling. COLDEST or HOTTEST where it falls on to that end.

    It does so to the cold end where every image is named right, as a colder softmax is then only surer of it. NLL is
    convex in b = 1 / T, with the slope mean(sum of softmax(b u) u - u_y), so its sign tells the way.

    Source: as `soft_targets`.
    """
    from scipy.optimize import brentq

    def slope(log_inverse: float) -> float:
        probabilities = np.exp(_log_softmax(logits, math.exp(-log_inverse)))
        return float(((probabilities * logits).sum(axis=1) - logits[np.arange(len(labels)), labels]).mean())

    hot, cold = -math.log(HOTTEST), -math.log(COLDEST)
    if slope(cold) <= 0:
        return COLDEST
    return HOTTEST if slope(hot) >= 0 else math.exp(-brentq(slope, hot, cold))


def _nll(logs: Floats, labels: Integers) -> float:
    return float(-logs[np.arange(len(labels)), labels].mean())


def _log_softmax(logits: Floats, temperature: float) -> Floats:
    if not temperature > 0:
        raise UsageError(f"a temperature is above 0, not {temperature:g}")
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    logs: Floats = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return logs
