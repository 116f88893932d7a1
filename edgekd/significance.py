"""Is a difference between two means more than noise? p-values of two samples, and their correction for many tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

LEVEL = 0.05  # a difference whose corrected p-value is below is called beyond noise


def z_test(mean_a: float, se_a: float, mean_b: float, se_b: float) -> float | None:
    """Return the two-sided p-value of z = (a - b) / sqrt(se_a^2 + se_b^2); None where both errors are 0 and a != b.

    Where both means were measured on the same episodes, their errors rise and fall together and p is too high, never
    too low.
    """
    if mean_a == mean_b:
        return 1.0
    error = math.hypot(se_a, se_b)
    return math.erfc(abs(mean_a - mean_b) / error / math.sqrt(2)) if error > 0 else None


def welch_test(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return the two-sided p-value of Welch's t-test; None where neither sample spreads and their means differ.

    Source: B. L. Welch: The Generalization of Student's Problem when Several Different Population Variances are
    Involved, 1947, https://doi.org/10.1093/biomet/34.1-2.28
    """
    from scipy.stats import t

    var_a, var_b = stdev(a) ** 2 / len(a), stdev(b) ** 2 / len(b)
    difference = abs(fmean(a) - fmean(b))
    if difference == 0 or var_a + var_b == 0:
        return 1.0 if difference == 0 else None
    degrees = (var_a + var_b) ** 2 / (var_a**2 / (len(a) - 1) + var_b**2 / (len(b) - 1))
    return float(2 * t.sf(difference / math.sqrt(var_a + var_b), degrees))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the corrected p-values, in the given order: the i-th smallest of m times m - i + 1, never falling.

    Source: S. Holm: A Simple Sequentially Rejective Multiple Test Procedure, 1979, https://www.jstor.org/stable/4615733
    """
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected
