"""What a hint on an operator's limit says computes the same does so: checked on numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.rules import Finding, check_all

Analyse = Callable[[Any], Facts]
Floats = NDArray[np.float32]


def found(facts: Facts, rule: str, *entries: dict[str, Any]) -> Finding:
    ops = [{"unlisted": "any", **entry} for entry in entries]
    target = HardwareProfile.model_validate({"name": "toy", "ops": ops})
    (finding, *_) = [item for item in check_all(facts, target) if item.rule == rule]
    assert finding.status == "fail"
    return finding


def run(op: str, *inputs: Floats, **attributes: Any) -> Floats:
    """One ONNX operator on numbers."""
    names = [f"input{index}" for index in range(len(inputs))]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node(op, names, ["output"], **attributes)], "one", infos, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    (result,) = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    return np.asarray(result)


@pytest.fixture
def images() -> Floats:
    return np.random.default_rng(0).integers(-9, 9, (1, 4, 11, 10)).astype(np.float32)


@pytest.fixture
def kernels() -> Floats:
    return np.random.default_rng(1).integers(-9, 9, (2, 4, 3, 3)).astype(np.float32)


def pooled(images: Floats, *pools: tuple[int, int]) -> Floats:
    for kernel, stride in pools:
        images = run("MaxPool", images, kernel_shape=[kernel] * 2, strides=[stride] * 2)
    return images


TWO_OVERLAPPING = "2 MaxPools of 2x2 one behind the other, the last with stride 2"
THREE_OVERLAPPING = "3 MaxPools of 2x2 one behind the other, the last with stride 3"
TWO_APART = "2 MaxPools of 2x2 with stride 2 one behind the other"


@pytest.mark.parametrize(
    ("one", "limits", "hint", "pools"),
    [
        ((3, 2), {"kernel_max_px": 2}, TWO_OVERLAPPING, [(2, 1), (2, 2)]),
        ((4, 3), {"kernels_px": [[2, 2]]}, THREE_OVERLAPPING, [(2, 1), (2, 1), (2, 3)]),
        ((4, 4), {"kernel_max_px": 3}, TWO_APART, [(2, 2), (2, 2)]),
        ((4, 4), {"stride_max_px": 2}, TWO_APART, [(2, 2), (2, 2)]),
        ((4, 4), {"strides_px": [1, 2]}, TWO_APART, [(2, 2), (2, 2)]),
    ],
)
def test_pools_in_place_of_a_larger_one(  # noqa: PLR0917 - a row of the table, and fixtures
    qcdq: type[Any],
    analyse: Analyse,
    images: Floats,
    one: tuple[int, int],
    limits: dict[str, Any],
    hint: str,
    pools: list[tuple[int, int]],
) -> None:
    kernel, stride = one
    net = qcdq(size=16).conv(4).op("MaxPool", kernel_shape=[kernel] * 2, strides=[stride] * 2).quantize()
    rule = "stride" if any("stride" in key for key in limits) else "kernel"
    assert (found(analyse(net), rule, {"op": "MaxPool", **limits}).hint or "").startswith(hint)
    np.testing.assert_array_equal(pooled(images, one), pooled(images, *pools))


@pytest.mark.parametrize(
    ("attributes", "limits"),
    [
        ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, {"kernel_max_px": 2}),
        ({"kernel_shape": [3, 3], "strides": [3, 3], "ceil_mode": 1}, {"kernel_max_px": 2}),
        ({"kernel_shape": [3, 3], "strides": [2, 2]}, {"kernel_max_px": 2, "strides_px": [2]}),
        ({"kernel_shape": [3, 3], "strides": [3, 3]}, {"kernel_max_px": 2}),
    ],
)
def test_no_pools_are_named_where_they_compute_something_else(
    qcdq: type[Any], analyse: Analyse, attributes: dict[str, Any], limits: dict[str, Any]
) -> None:
    net = qcdq(size=16).conv(4).op("MaxPool", **attributes).quantize()
    assert found(analyse(net), "kernel", {"op": "MaxPool", **limits}).hint is None


def test_zeros_around_the_weights(images: Floats, kernels: Floats) -> None:
    wide = np.pad(kernels, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for stride in (1, 2):
        narrow = run("Conv", images, kernels, pads=[1] * 4, strides=[stride] * 2)
        np.testing.assert_array_equal(narrow, run("Conv", images, wide, pads=[2] * 4, strides=[stride] * 2))


def test_zeros_between_the_weights(qcdq: type[Any], analyse: Analyse, images: Floats, kernels: Floats) -> None:
    net = qcdq(size=16).conv(4)
    next(node for node in net.nodes if node.op_type == "Conv").attribute.append(
        helper.make_attribute("dilations", [2, 2])
    )
    limits = {"op": "Conv", "dilation_max_px": 1}
    hint = found(analyse(net), "dilation", {**limits, "kernel_max_px": 5}).hint
    assert hint == "zeros between the weights, 5x5 with dilation 1, which computes the same"
    assert found(analyse(net), "dilation", {**limits, "kernel_max_px": 4}).hint is None
    wide = np.zeros((2, 4, 5, 5), np.float32)
    wide[:, :, ::2, ::2] = kernels
    np.testing.assert_array_equal(run("Conv", images, kernels, dilations=[2, 2]), run("Conv", images, wide))


def test_one_group_with_zeros(qcdq: type[Any], analyse: Analyse, images: Floats, kernels: Floats) -> None:
    facts = analyse(qcdq(4).conv(4, groups=2))
    hint = found(facts, "groups", {"op": "Conv", "groups": ["one"]}).hint or ""
    assert hint.startswith("one group, with zeros for the weights between groups: 144 weights, not 72")
    assert found(facts, "groups", {"op": "Conv", "groups": ["depthwise"]}).hint is None
    dense = np.zeros_like(kernels)
    dense[0, :2], dense[1, 2:] = kernels[0, :2], kernels[1, 2:]
    grouped = np.stack([kernels[0, :2], kernels[1, 2:]])
    np.testing.assert_array_equal(run("Conv", images, grouped, group=2), run("Conv", images, dense))


def test_padding_in_front(qcdq: type[Any], analyse: Analyse) -> None:
    """Another layer than the first has no images in front of it to pad."""
    limits = {"op": "Conv", "padding_max_px": 0}
    facts = analyse(qcdq().conv(4, kernel=5).conv(4, kernel=3))
    first = found(facts, "padding", limits)
    assert (first.hint or "").startswith("padding 0, and images that come with 2 px more of their zero point")
    both = found(facts, "padding", limits, {"op": "Pad"}).hint
    assert both == "a Pad with zeros of 2 px in front of it, and padding 0, which computes the same"
    only_later = found(analyse(qcdq().conv(4, kernel=1).conv(4, kernel=3)), "padding", limits)
    assert (only_later.node, only_later.hint) == ("Conv_9", None)


def test_what_is_flattened(conv4: Callable[..., Any], qcdq: type[Any], analyse: Analyse) -> None:
    def net(width: int, size: int) -> Any:
        return qcdq(3, size).conv(width).conv(width).flatten()

    limits = {"op": "Flatten", "flat_elements_max": 300}
    hint = found(analyse(net(6, 8)), "image-size", limits, {"op": "MaxPool"}).hint
    assert hint is not None
    assert hint.split("; ")[0].startswith("Conv2-4 fits")
    assert hint.split("; ")[1:] == ["7x7 input fits", "a MaxPool of 2x2 before it, and train again"]
    area = found(analyse(net(6, 8)), "image-size", {"op": "Flatten", "flat_area_max_px": 16}).hint
    assert area == "4x4 input fits"


def test_a_pool_where_no_stride_is_listed_has_no_hint(qcdq: type[Any], analyse: Any) -> None:
    facts = analyse(qcdq(size=16).conv(4).pool())
    finding = found(facts, "stride", {"op": "MaxPool", "unlisted": "any", "strides_px": []})
    assert (finding.status, finding.hint) == ("fail", None)
