"""Each arithmetic against a slow reference in Python's own integers and fractions, and its properties."""

from __future__ import annotations

from fractions import Fraction
from math import floor, frexp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.profile import Requant
from edgekd.verify.integer.requant import ARITHMETICS, Term, UnfitError, arithmetic_name, finish
from edgekd.verify.integer.values import Multiplier, Output

SUMS = st.integers(-(2**23), 2**23)
SCALES = st.floats(2.0**-14, 2.0, width=32)
POWERS = st.integers(-14, 3).map(lambda exponent: 2.0**exponent)
FLOAT_NAMES = ("ort", "xnnpack", "tflm")


def multiplier(real: float, count: int = 1) -> Multiplier:
    return Multiplier((np.array(real, np.float32),), np.float32(1), np.array(count))


def requantized(name: str, total: int, real: float) -> int:
    return int(ARITHMETICS[name].requantize(np.array([total], np.float64), multiplier(real))[0])


def averaged(name: str, total: int, real: float, count: int) -> int:
    return int(ARITHMETICS[name].average(np.array([total], np.float64), multiplier(real, count), 0)[0])


def half_even(value: Fraction) -> int:
    return round(value)


def q31_reference(total: int, real: float) -> int:
    """gemmlowp: saturating rounding doubling high multiply, then a rounding right shift; with Python's integers."""
    mantissa, exponent = frexp(float(np.float32(real)))
    fixed = floor(Fraction(mantissa) * 2**31 + Fraction(1, 2))
    if fixed == 2**31:
        fixed, exponent = fixed // 2, exponent + 1
    product = (total << max(exponent, 0)) * fixed
    nudge = 2**30 if product >= 0 else 1 - 2**30
    whole = abs(product + nudge) // 2**31
    high = whole if product + nudge >= 0 else -whole
    right = max(-exponent, 0)
    mask = (1 << right) - 1
    remainder, threshold = high & mask, (mask >> 1) + (high < 0)
    return (high >> right) + (remainder > threshold)


@given(SUMS, SCALES)
def test_ort_rounds_one_float32_product_half_to_even(total: int, real: float) -> None:
    product = np.float32(total) * np.float32(real)  # one rounding, by the processor
    assert requantized("ort", total, real) == half_even(Fraction(float(product)))
    assert requantized("xnnpack", total, real) == half_even(Fraction(float(product)))


@given(SUMS, SCALES)
def test_tflm_rounds_twice(total: int, real: float) -> None:
    assert requantized("tflm", total, real) == q31_reference(total, real)


@given(SUMS, POWERS)
def test_shift_rounds_half_up(total: int, real: float) -> None:
    assert requantized("shift", total, real) == floor(total * Fraction(real) + Fraction(1, 2))


def test_the_four_disagree_on_a_half() -> None:
    ties = [-3, -1, 1, 3, 5]  # times 1/2
    assert [requantized("ort", total, 0.5) for total in ties] == [-2, 0, 0, 2, 2]
    assert [requantized("shift", total, 0.5) for total in ties] == [-1, 0, 1, 2, 3]
    assert requantized("tflm", 7, 2.0**-4) == 1  # 7/16 is rounded to 4/8, then up
    assert requantized("ort", 7, 2.0**-4) == 0


@pytest.mark.parametrize("real", [0.3, 3.0])
def test_shift_refuses_other_multipliers(real: float) -> None:
    with pytest.raises(UnfitError, match="powers of two"):
        requantized("shift", 1, real)


def test_shift_refuses_to_divide_by_25() -> None:
    with pytest.raises(UnfitError, match="count"):
        averaged("shift", 1, 1.0, 25)
    assert averaged("shift", 25, 1.0, 16) == 2


@pytest.mark.parametrize("scales", [(1,), (5, 1, 1), (700,), (300, 1)], ids=["one", "channels", "columns", "rows"])
@pytest.mark.parametrize("largest", [0.01, 1.9], ids=["below 1", "above 1"])
def test_tflm_computes_large_tensors_in_blocks(scales: tuple[int, ...], largest: float) -> None:
    random = np.random.default_rng(0)
    sums = random.integers(-(2**23), 2**23, (1, 5, 300, 700)).astype(np.float32)
    reals = Multiplier((random.uniform(0.001, largest, scales).astype(np.float32),), np.float32(1), np.array(1))
    apart = np.broadcast_to(reals.as_float64(), sums.shape)
    steps = ARITHMETICS["tflm"].requantize(sums.copy(), reals)
    for place in zip(*(random.integers(0, size, 200) for size in sums.shape), strict=True):
        assert steps[place] == q31_reference(int(sums[place]), float(apart[place]))


@pytest.mark.parametrize(
    "real", [0.99999994, 0.5, 0.25, 0.375, 2.0**-3 + 2.0**-9, 0.0781, 3e-4, 2.0**-12, 2.0**-23, 2.0**-33]
)
def test_tflm_rounds_halves_and_negatives_as_the_reference_does(real: float) -> None:
    """Every small sum, where halves are common, and those next to the largest that float64 multiplies exactly."""
    edges = [sign * (2**22 + step) for sign in (-1, 1) for step in (-4097, -2049, -2048, -2, -1, 0, 1)]
    for totals in (range(-700, 701), *([edge] for edge in edges)):
        found = ARITHMETICS["tflm"].requantize(np.array(totals, np.float32), multiplier(real))
        assert found.tolist() == [q31_reference(total, real) for total in totals]


def test_tflm_refuses_sums_beyond_32_bits() -> None:
    with pytest.raises(UnfitError, match="32 bits"):
        requantized("tflm", 2**40, 0.5)


@given(SUMS, st.integers(1, 144))
def test_tflm_averages_of_one_scale_are_integer_divisions(total: int, count: int) -> None:
    exact = Fraction(abs(total), count)
    rounded = (1 if total >= 0 else -1) * floor(exact + Fraction(count // 2, count))
    assert averaged("tflm", total, 1.0, count) == rounded


@pytest.mark.parametrize("name", ["tflm", "xnnpack"])
def test_average_pooling_of_tflite_rounds_with_the_zero_point(name: str) -> None:
    sums, half = np.array([-13.0, -1.0]), multiplier(1.0, 2)  # integers -13 / 2 + 7 = 0.5, -1 / 2 + 7 = 6.5
    assert (ARITHMETICS[name].average(sums, half, 7) + 7).tolist() == [1, 7]


@given(SUMS, st.integers(1, 144))
def test_ort_averages_in_one_multiplication(total: int, count: int) -> None:
    real = np.float32(total) * (np.float32(1) / (np.float32(1) * np.float32(count)))
    assert averaged("ort", total, 1.0, count) == half_even(Fraction(float(real)))


@pytest.mark.parametrize("name", FLOAT_NAMES)
@given(SUMS, SUMS, SCALES)
def test_requantization_is_monotone(name: str, one: int, other: int, real: float) -> None:
    low, high = sorted((one, other))
    assert requantized(name, low, real) <= requantized(name, high, real)


@given(SUMS, SUMS, POWERS)
def test_shifting_is_monotone(one: int, other: int, real: float) -> None:
    low, high = sorted((one, other))
    assert requantized("shift", low, real) <= requantized("shift", high, real)


@given(st.integers(-(2**40), 2**40), st.integers(-128, 127), st.integers(-128, 127), st.integers(-128, 127))
def test_finish_saturates(steps: int, zero: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    output = Output("y", zero, low, high, -128, 127)
    assert int(finish(np.array([float(steps)]), output)[0]) == max(low, min(high, steps + zero))


@given(st.integers(-(2**40), 2**40), st.integers(-128, 127))
def test_finish_wraps_where_the_target_does_not_saturate(steps: int, zero: int) -> None:
    output = Output("y", zero, -128, 127, -128, 127)
    found = int(finish(np.array([float(steps)]), output, saturate=False)[0])
    assert found == (steps + zero + 128) % 256 - 128


def test_an_activation_clamps_even_where_the_target_wraps() -> None:
    output = Output("y", 0, 0, 127, -128, 127)
    assert finish(np.array([-5.0, 130.0]), output, saturate=False).tolist() == [0, 130 - 256]


@pytest.mark.parametrize("name", sorted(ARITHMETICS))
@given(st.integers(-128, 127), st.integers(-128, 127))
def test_additions_that_need_no_rounding_are_exact(name: str, one: int, other: int) -> None:
    terms = [
        Term(np.array([float(one)]), np.array(0.5, np.float32)),
        Term(np.array([float(other)]), np.array(0.25, np.float32)),
    ]
    assert ARITHMETICS[name].add(terms, np.float32(0.25))[0] == 2 * one + other


@pytest.mark.parametrize(
    ("requant", "name"),
    [
        (Requant(multiplier="fp32", rounding="half_even"), "ort"),
        (Requant(multiplier="q31", rounding="half_away", double_rounding=True), "tflm"),
        (Requant(multiplier="shift", rounding="half_up"), "shift"),
        (Requant(multiplier="q31", rounding="half_away"), None),
        (Requant(multiplier="shift"), None),
        (Requant(), None),
    ],
)
def test_a_profile_names_its_arithmetic(requant: Requant, name: str | None) -> None:
    assert arithmetic_name(requant) == name
