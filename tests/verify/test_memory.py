from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgekd.verify.facts import Facts

Analyse = Callable[[Any], Facts]


def peaks(facts: Facts) -> tuple[int, int]:
    assert facts.memory.plan
    assert facts.memory.fused
    return facts.memory.plan.peak_bytes, facts.memory.fused.peak_bytes


@pytest.mark.parametrize(("size", "expected"), [(84, (564_480, 141_120)), (32, (81_920, 20_480))])
def test_conv4_64(conv4: Callable[..., Any], analyse: Analyse, size: int, expected: tuple[int, int]) -> None:
    assert peaks(analyse(conv4(width=64, size=size))) == expected


def test_the_live_set_at_the_peak_is_the_arithmetic(conv4: Callable[..., Any], analyse: Analyse) -> None:
    plan = analyse(conv4(width=64, size=84)).memory.plan
    assert plan
    assert [item.shape for item in plan.live_at_peak()] == [(1, 64, 84, 84), (1, 64, 42, 42)]
    assert [item.bytes for item in plan.live_at_peak()] == [64 * 84 * 84, 64 * 42 * 42]
    assert plan.peak_bytes == plan.lower_bound_bytes


def test_dequantizers_relus_and_views_take_no_memory(qcdq: type[Any], analyse: Analyse) -> None:
    facts = analyse(qcdq(channels=1, size=4).conv(2).flatten().gemm(3, in_features=32))
    assert facts.memory.plan
    assert [item.bytes for item in facts.memory.plan.buffers] == [16, 32, 3]  # pixels, conv, gemm: all int8
    assert [node.op for node in facts.memory.steps] == ["Conv", "Gemm"]


def test_what_is_read_twice_stays_until_its_last_reader(qcdq: type[Any], analyse: Analyse) -> None:
    net = qcdq(channels=2, size=4).conv(2)
    branch = net.current
    facts = analyse(net.conv(2).add_from(branch))
    assert facts.memory.plan
    pixels, first, second, added = facts.memory.plan.buffers
    assert (first.first_step, first.last_step) == (0, 2)
    assert (second.first_step, second.last_step) == (1, 2)
    assert added.bytes == pixels.bytes == 2 * 16
    assert peaks(facts) == (3 * 32, 3 * 32)  # both operands and the sum


def test_a_relu_does_not_overwrite_what_another_operator_reads(qcdq: type[Any], analyse: Analyse) -> None:
    net = qcdq(channels=2, size=4).conv(2)
    branch = net.current
    net.op("Relu").op("QuantizeLinear", extra=net._format(0.5, __import__("numpy").int8(0)))
    net.op("DequantizeLinear", extra=list(net.nodes[-1].input[1:]))
    facts = analyse(net.add_from(branch))
    assert facts.memory.plan
    assert len(facts.memory.plan.buffers) == 4, "pixels, conv, relu, sum"


def test_a_float_graph_stores_floats(qcdq: type[Any], analyse: Analyse) -> None:
    facts = analyse(qcdq(channels=1, size=4).op("Sigmoid").op("Softmax"))
    assert facts.memory.plan
    assert [item.bytes for item in facts.memory.plan.buffers] == [16, 64, 64]


def test_a_dequantizer_that_ends_the_graph_makes_a_float_tensor(qcdq: type[Any], analyse: Analyse) -> None:
    net = qcdq(channels=1, size=4).conv(1).op("Identity")
    facts = analyse(net)
    assert facts.memory.plan
    assert facts.memory.plan.buffers[-1].bytes == 4 * 16


def test_overlapping_pools_are_not_fused(qcdq: type[Any], analyse: Analyse) -> None:
    plain, fused = peaks(analyse(qcdq(channels=1, size=8).conv(4).pool(kernel=3, stride=2)))
    assert plain == fused


def test_a_pool_behind_a_branch_is_not_fused(qcdq: type[Any], analyse: Analyse) -> None:
    net = qcdq(channels=4, size=8).conv(4)
    branch = net.current
    net.pool(kernel=1, stride=1).conv(4).add_from(branch)
    plain, fused = peaks(analyse(net))
    assert plain == fused


def test_unknown_shapes_make_the_memory_unknown(qcdq: type[Any], analyse: Analyse) -> None:
    memory = analyse(qcdq().op("Magic", domain="custom")).memory
    assert memory.plan is None
    assert memory.unsized == ("Magic_1_out",)


def test_an_open_batch_is_planned_for_one_image(qcdq: type[Any], analyse: Analyse) -> None:
    assert peaks(analyse(qcdq(batch="batch").conv(4).pool())) == peaks(analyse(qcdq(batch=1).conv(4).pool()))
