"""Resizing a graph gives the shapes that inference gives for the file with the other input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgekd.verify.facts import Facts
from edgekd.verify.graph import Attribute
from edgekd.verify.memory import memory_of
from edgekd.verify.resizing import resized, square_side

Analyse = Callable[[Any], Facts]


def plain(size: int, builder: type[Any]) -> Any:
    net = builder(3, size)
    for _ in range(3):
        net.conv(5).pool()
    return net.global_pool()


def odd(size: int, builder: type[Any]) -> Any:
    """Overlapping windows, a dilation, groups, a residual, ceil mode, average pooling and same padding."""
    net = builder(4, size).conv(4, groups=4, kernel=5)
    before = net.current
    net.conv(4).add_from(before)
    net.op("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]).quantize()
    net.op("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1).quantize()
    net.op("MaxPool", kernel_shape=[2, 2], strides=[1, 1], dilations=[2, 2]).quantize()
    net.op("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER").quantize()
    return net.flatten()


def branched(size: int, builder: type[Any]) -> Any:
    """Concatenation, equal and broadcast operands, clips, padding both ways, an order of axes, a reshape."""
    net = builder(4, size).conv(4)
    before = net.current
    net.conv(4).op("Concat", extra=[before], axis=1).quantize()
    net.op("Pad", extra=[net.constant("pads", np.array([0, 0, 1, 0, 0, 0, 2, 3], np.int64))]).quantize()
    net.op("Mul", extra=[net.constant("gains", np.ones((8, 1, 1), np.float32))]).op("Identity")
    net.op("Clip", extra=[net.constant("low", np.array(0, np.float32))]).op("Relu").quantize()
    net.op("Concat", extra=[net.current], axis=-1).quantize()
    net.op("GlobalMaxPool") if size % 2 else net.op("Transpose", perm=[0, 2, 3, 1])
    net.quantize()
    return net.op("Reshape", extra=[net.constant("flat", np.array([0, -1], np.int64))])


@pytest.mark.parametrize("build", [plain, odd, branched])
@pytest.mark.parametrize("side", [16, 17, 23, 30, 31])
def test_shapes_are_those_of_inference(
    qcdq: type[Any], analyse: Analyse, build: Callable[[int, type[Any]], Any], side: int
) -> None:
    small = resized(analyse(build(33 if side % 2 else 32, qcdq)).graph, side)
    again = analyse(build(side, qcdq)).graph
    assert small is not None
    live = [name for name in again.values if name not in again.fixed]
    assert {name: small.value(name).shape for name in live} == {name: again.value(name).shape for name in live}
    ours, theirs = memory_of(small).plan, memory_of(again).plan
    assert ours is not None
    assert theirs is not None
    assert ours.peak_bytes == theirs.peak_bytes


def test_what_allows_one_size_only_is_not_resized(qcdq: type[Any], analyse: Analyse) -> None:
    graph = analyse(qcdq().conv(4).flatten().gemm(3, 256)).graph
    assert square_side(graph) == 8
    assert resized(graph, 7) is None
    assert resized(graph, 8) is not None


def test_images_too_small_and_operators_nobody_knows_are_not_resized(qcdq: type[Any], analyse: Analyse) -> None:
    assert resized(analyse(plain(32, qcdq)).graph, 7) is None, "three pools leave nothing"
    assert resized(analyse(qcdq().conv(4).op("Magic", domain="custom")).graph, 4) is None


def test_a_vector_has_no_side(qcdq: type[Any], analyse: Analyse) -> None:
    net = qcdq().flatten().gemm(5, 192)
    net.input_shape = [1, 192]
    net.nodes = [node for node in net.nodes if node.op_type != "Flatten"]
    net.nodes[-3].input[0] = net.nodes[0].output[0]
    assert square_side(analyse(net).graph) is None


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": (2,)},
        {"kernel_shape": (2, 2), "strides": (2,)},
        {"kernel_shape": (2, 2), "strides": (0, 1)},
        {"kernel_shape": (2, 2), "pads": (1, 1)},
        {"kernel_shape": (2, 2, 2)},
        {},
    ],
)
def test_attributes_that_contradict_the_image_are_not_resized(
    qcdq: type[Any], analyse: Analyse, attributes: dict[str, Attribute]
) -> None:
    graph = analyse(qcdq().conv(4).op("MaxPool", kernel_shape=[2, 2])).graph
    pool = next(node for node in graph.nodes if node.op == "MaxPool")
    nodes = tuple(replace(node, attributes=attributes) if node is pool else node for node in graph.nodes)
    assert resized(graph, 6) is not None
    assert resized(replace(graph, nodes=nodes), 6) is None


@pytest.mark.parametrize("side", [16, 23])
def test_an_image_with_its_channels_last_is_resized(qcdq: type[Any], analyse: Analyse, side: int) -> None:
    def last(size: int) -> Any:
        net = qcdq(3, size).op("Transpose", perm=[0, 3, 1, 2]).conv(4).pool().global_pool()
        net.input_shape = [1, size, size, 3]
        return net

    small, again = resized(analyse(last(32)).graph, side), analyse(last(side)).graph
    assert square_side(again) == side
    assert small is not None
    live = [name for name in again.values if name not in again.fixed]
    assert {name: small.value(name).shape for name in live} == {name: again.value(name).shape for name in live}
