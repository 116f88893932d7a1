"""Bounds of sums against brute force, what the certificate asks for, and accumulators that are too narrow."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from edgekd.verify.integer.bounds import accumulator_row, accumulators, reach_of
from edgekd.verify.integer.certificate import certify
from edgekd.verify.integer.requant import ARITHMETICS, Accumulator
from edgekd.verify.integer.simulator import Simulator
from edgekd.verify.integer.steps import Program
from edgekd.verify.integer.values import RefusedError

WEIGHT = np.array([[[[3]], [[-2]]], [[[-5]], [[1]]]], np.int8)  # (2, 2, 1, 1)
BIAS = np.array([10, -4], np.int32)


def tiny(net: Any, *, scale: float = 2.0**-6, zero: int = 2, out: float = 2.0**-3, weight: Any = WEIGHT) -> Any:
    made = net((1, weight.shape[1], 3, 3), scale, zero)
    names = [made.weights(weight, 2.0**-8), made.weights(BIAS, 2.0**-8 * scale)]
    return made.op("Conv", *names).quantize(out)


def certificate(program: Program, name: str = "ort", bits: int | None = None, **options: Any) -> Any:
    return certify(program, ARITHMETICS[name], Accumulator(bits), **options)


def test_the_bound_is_what_all_inputs_reach(net: Any, program_of: Any) -> None:
    reach = reach_of(program_of(tiny(net).model()).steps[0])
    edges = (-128 - 2, 0, 127 - 2)
    sums = [WEIGHT[:, :, 0, 0].astype(int) @ inputs + BIAS for inputs in product(edges, repeat=2)]
    assert (reach.low, reach.high) == (int(np.min(sums)), int(np.max(sums)))
    assert reach.magnitude == max(3 * 130 + 2 * 130 + 10, 5 * 130 + 130 + 4)


def test_a_relu_before_halves_the_bound(net: Any, program_of: Any) -> None:
    made = net((1, 2, 3, 3), 2.0**-6, 0)
    made.op("Relu").quantize(2.0**-6)
    made.op("Conv", made.weights(WEIGHT, 2.0**-8)).quantize(2.0**-3)
    reach = reach_of(accumulators(program_of(made.model()))[0])
    assert (reach.low, reach.high) == (-5 * 127, 3 * 127)


def test_k_576_takes_24_bits_by_its_weights_and_26_by_its_types(net: Any, program_of: Any) -> None:
    weight = np.random.default_rng(0).normal(0, 30, (2, 576, 1, 1)).clip(-127, 127).astype(np.int8)
    made = net((1, 576, 1, 1), 2.0**-6, 0, np.uint8)
    made.op("Conv", made.weights(weight, 2.0**-8)).quantize(2.0**-3)
    row = accumulator_row(accumulators(program_of(made.model()))[0], 32)
    assert row.bits <= 24
    assert row.type_bits == 26  # 576 * 255 * 128 < 2^25, and a sign
    assert row.limit_bits == 32


def test_averages_count_their_elements(net: Any, program_of: Any) -> None:
    made = net((1, 2, 3, 3), 2.0**-6, 2).op("GlobalAveragePool").quantize(2.0**-6)
    reach = reach_of(program_of(made.model()).steps[0])
    assert (reach.low, reach.high) == (9 * -130, 9 * 125)


def test_a_certificate_needs_powers_of_two(net: Any, program_of: Any) -> None:
    assert certificate(program_of(tiny(net).model())).bit_exact
    found = certificate(program_of(tiny(net, out=0.1).model()))
    assert not found.bit_exact
    assert "power of two" in found.reasons[0]


def test_a_certificate_needs_sums_below_2_to_the_24(net: Any, program_of: Any) -> None:
    weight = np.full((2, 1200, 1, 1), 127, np.int8)
    found = certificate(program_of(tiny(net, weight=weight).model()))
    assert "2^24" in found.reasons[0]


@pytest.mark.parametrize(("name", "reason"), [("tflm", "rounds twice"), ("shift", "half up")])
def test_a_target_that_rounds_otherwise_is_not_certified(name: str, reason: str, net: Any, program_of: Any) -> None:
    assert reason in certificate(program_of(tiny(net).model()), name).reasons[0]
    finer = tiny(net, out=2.0**-14)  # nothing is rounded
    assert certificate(program_of(finer.model()), name).bit_exact


def test_a_certificate_names_what_it_is_proven_for(net: Any, program_of: Any) -> None:
    found = certificate(program_of(tiny(net).model()))
    assert (found.arithmetics, found.unproven) == (("ort", "xnnpack"), ("tflm", "shift"))
    exact = certificate(program_of(tiny(net, out=2.0**-14).model()))
    assert (set(exact.arithmetics), exact.unproven) == (set(ARITHMETICS), ())
    refused = certificate(program_of(tiny(net, out=0.1).model()))
    assert (refused.arithmetics, set(refused.unproven)) == ((), set(ARITHMETICS))


AVERAGES: dict[str, tuple[dict[str, Any], int, str]] = {
    "even zero point": ({}, 2, ""),
    "an odd zero point, added before or after rounding": ({}, 3, "odd zero point"),
    "padding left out": ({"pads": [0, 1, 1, 0]}, 2, ""),
    "padding counted": ({"pads": [0, 1, 1, 0], "count_include_pad": 1}, 2, "counts its padding"),
    "ceil_mode": ({"pads": [1, 0, 0, 0], "ceil_mode": 1, "count_include_pad": 1}, 0, "ceil_mode"),
}


@pytest.mark.parametrize("case", sorted(AVERAGES))
def test_averages_on_which_onnxruntime_differs_from_itself(case: str, net: Any, program_of: Any) -> None:
    window, zero, reason = AVERAGES[case]
    made = net((1, 3, 8, 8), 2.0**-7).op("AveragePool", **{"kernel_shape": [2, 2], "strides": [2, 2], **window})
    found = certificate(program_of(made.quantize(2.0**-6, zero).model()))
    assert found.bit_exact == (not reason)
    assert reason in " ".join(found.reasons)


def test_a_zero_point_that_float32_does_not_add_exactly(net: Any, program_of: Any) -> None:
    """Steps of 2^-21 beside a zero point of 100 are no float32."""

    def build(zero: int) -> Program:
        made = net((1, 2, 1, 2), 2.0**-12).op("AveragePool", kernel_shape=[1, 2])
        program: Program = program_of(made.quantize(2.0**8, zero).model())
        return program

    assert certificate(build(0)).bit_exact
    assert "zero point" in certificate(build(100)).reasons[0]


def test_narrow_and_wrapping_targets_are_not_certified(net: Any, program_of: Any) -> None:
    program = program_of(tiny(net).model())
    assert "8" in certificate(program, bits=8).reasons[0]
    assert "saturate" in certificate(program, saturate=False).reasons[0]


@pytest.mark.parametrize(
    ("size", "out", "exact"), [(3, 2.0**-6, True), (6, 2.0**-6, False), (4, 2.0**-6, True), (3, 2.0**-5, False)]
)
def test_averages_are_certified_where_no_tie_is_divided(
    size: int, out: float, exact: bool, net: Any, program_of: Any
) -> None:
    made = net((1, 2, size, size), 2.0**-6).op("GlobalAveragePool").quantize(out)
    assert certificate(program_of(made.model())).bit_exact == exact


def test_an_addition_with_an_odd_zero_point_is_not_certified(net: Any, program_of: Any) -> None:
    def build(zero: int) -> Program:
        chain = net((1, 2, 3, 3), 2.0**-6)
        made: Program = program_of(chain.op("Add", chain.current).quantize(2.0**-3, zero).model())
        return made

    assert certificate(build(4)).bit_exact
    assert "odd zero point" in certificate(build(3)).reasons[0]


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_sums_beyond_16_bits_are_counted(overflow: Any, net: Any, program_of: Any) -> None:
    weight = np.full((2, 3, 1, 1), 127, np.int8)
    made = net((1, 3, 1, 1), 1.0)
    made.op("Conv", made.weights(weight, 2.0**-8)).quantize(1.0)
    program = program_of(made.model())
    images = np.array([[127, 127, 127], [-128, -128, -128], [1, 2, 3]], np.int8).reshape(3, 3, 1, 1)
    simulator = Simulator(program, ARITHMETICS["ort"], Accumulator(16, overflow))
    done = simulator.run({"pixels": images})
    sums = np.array([127 * 381, -128 * 381, 6 * 127])
    held = np.clip(sums, -(2**15), 2**15 - 1) if overflow == "saturate" else sums.astype(np.int16).astype(int)
    expected = np.clip(np.rint(held / 256), -128, 127)
    assert done.tensors[program.results[0].tensor][:, 0, 0, 0].tolist() == expected.tolist()
    assert sum(done.overflows.values()) == 4  # two images, two channels
    wide = Simulator(program, ARITHMETICS["ort"], Accumulator(18)).run({"pixels": images})
    assert sum(wide.overflows.values()) == 0


def test_sums_beyond_float64_are_refused(net: Any, program_of: Any) -> None:
    program = program_of(tiny(net).model())
    step = replace(program.steps[0], bias=np.full((1, 2, 1, 1), 2**53, np.int64))
    with pytest.raises(RefusedError, match="float64"):
        Simulator(replace(program, steps=(step,)), ARITHMETICS["ort"])


def test_wide_sums_are_added_in_float64(net: Any, program_of: Any, run: Any) -> None:
    weight = np.full((2, 1200, 1, 1), 127, np.int8)
    program = program_of(tiny(net, scale=2.0**-9, zero=0, out=2.0**-1, weight=weight).model())
    images = np.full((1, 1200, 3, 3), -127, np.int8)
    images[0, 0] = -126
    total = -127 * 127 * 1200 + 127 + 10
    assert int(run(program, "ort", images)[0, 0, 0, 0]) == max(-128, round(total * 2.0**-16))
