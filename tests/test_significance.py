"""p-values against formulas, integrals and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from edgekd.significance import holm, welch_test, z_test


def test_the_z_test_by_the_normal_integral() -> None:
    z = (0.52 - 0.50) / math.sqrt(0.006**2 + 0.008**2)
    grid = np.linspace(z, z + 30, 300_001)
    tail = np.trapezoid(np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi), grid)
    assert z_test(0.52, 0.006, 0.50, 0.008) == pytest.approx(2 * tail, rel=1e-6)
    assert z_test(0.50, 0.008, 0.52, 0.006) == z_test(0.52, 0.006, 0.50, 0.008)


def test_welch_by_its_formula_and_the_density_of_t() -> None:
    a, b = [0.50, 0.54, 0.52], [0.60, 0.61, 0.59, 0.64]
    va, vb = np.var(a, ddof=1) / 3, np.var(b, ddof=1) / 4
    t, nu = abs(np.mean(a) - np.mean(b)) / math.sqrt(va + vb), (va + vb) ** 2 / (va**2 / 2 + vb**2 / 3)
    grid = np.linspace(t, t + 3000, 3_000_001)
    scale = math.gamma((nu + 1) / 2) / math.gamma(nu / 2) / math.sqrt(nu * math.pi)
    tail = np.trapezoid(scale * (1 + grid**2 / nu) ** (-(nu + 1) / 2), grid)
    assert welch_test(a, b) == pytest.approx(2 * tail, rel=1e-4)
    assert welch_test(a, b) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert welch_test(a, b) == welch_test(b, a)


def test_without_any_spread_nothing_can_be_told() -> None:
    assert z_test(0.5, 0.0, 0.5, 0.0) == 1.0
    assert z_test(0.5, 0.0, 0.6, 0.0) is None
    assert welch_test([0.5, 0.5], [0.5, 0.5]) == 1.0
    assert welch_test([0.5, 0.5], [0.6, 0.6]) is None
    assert welch_test([0.5, 0.5], [0.6, 0.7]) == pytest.approx(
        stats.ttest_ind([0.5, 0.5], [0.6, 0.7], equal_var=False).pvalue
    )


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9, 0.7]) == [1.0, 1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_lies_between_nothing_and_bonferroni() -> None:
    p = np.random.default_rng(0).uniform(0, 0.2, 20)
    corrected = np.array(holm(list(p)))
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, 20 * p) + 1e-15).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()
