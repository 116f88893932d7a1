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


def target(*entries: dict[str, Any]) -> HardwareProfile:
    return HardwareProfile.model_validate({"name": "toy", "ops": [{"unlisted": "any", **entry} for entry in entries]})


def limit_failures(facts: Facts, rule: str, *entries: dict[str, Any]) -> list[Finding]:
    return [item for item in check_all(facts, target(*entries)) if (item.rule, item.status) == (rule, "fail")]


def found(facts: Facts, rule: str, *entries: dict[str, Any]) -> Finding:
    return limit_failures(facts, rule, *entries)[0]


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


def statuses(facts: Facts, *entries: dict[str, Any]) -> dict[str, str]:
    """The worst status of each rule."""
    order = ["pass", "unknown", "fail"]
    worst: dict[str, str] = {}
    for item in check_all(facts, target(*entries)):
        worst[item.rule] = max(worst.get(item.rule, "pass"), item.status, key=order.index)
    return worst


def averaged(images: Floats, *pools: int) -> Floats:
    for side in pools:
        images = run("AveragePool", images, kernel_shape=[side] * 2, strides=[side] * 2)
    return images


@pytest.mark.parametrize(
    ("side", "limits", "hint", "pools"),
    [
        (4, {"kernel_max_px": 3}, "2 AveragePools of 2x2 with stride 2 one behind the other", [2, 2]),
        (4, {"stride_max_px": 2}, "2 AveragePools of 2x2 with stride 2 one behind the other", [2, 2]),
        (6, {"kernel_area_max_px": 9}, "AveragePools of 3x3 and 2x2 one behind the other", [3, 2]),
        (8, {"kernels_px": [[4, 4], [2, 2]]}, "AveragePools of 4x4 and 2x2 one behind the other", [4, 2]),
        (9, {"dilated_kernel_area_max_px": 20}, "2 AveragePools of 3x3 with stride 3 one behind the other", [3, 3]),
    ],
)
def test_averages_of_averages(  # noqa: PLR0917 - a row of the table, and fixtures
    qcdq: type[Any], analyse: Analyse, side: int, limits: dict[str, Any], hint: str, pools: list[int]
) -> None:
    def net(*sides: int) -> Facts:
        chain = qcdq(size=18).conv(4)
        for each in sides:
            chain.op("AveragePool", kernel_shape=[each] * 2, strides=[each] * 2).quantize()
        return analyse(chain)

    entry = {"op": "AveragePool", **limits}
    rule = "stride" if "stride_max_px" in limits else "kernel"
    text = found(net(side), rule, entry).hint or ""
    assert text.startswith(hint)
    assert text.endswith("which computes the same but for rounding")
    assert {statuses(net(*pools), entry).get(name, "pass") for name in ("kernel", "stride")} == {"pass"}
    pixels = np.random.default_rng(3).integers(-9, 9, (1, 4, 19, 18)).astype(np.float32)
    np.testing.assert_allclose(averaged(pixels, side), averaged(pixels, *pools), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3], "strides": [2, 2]},
        {"kernel_shape": [5, 5], "strides": [5, 5]},
        {"kernel_shape": [4, 4], "strides": [4, 4], "pads": [1, 1, 1, 1]},
    ],
)
def test_no_averages_are_named_where_they_are_other_ones(
    qcdq: type[Any], analyse: Analyse, attributes: dict[str, Any]
) -> None:
    facts = analyse(qcdq(size=16).conv(4).op("AveragePool", **attributes).quantize())
    assert found(facts, "kernel", {"op": "AveragePool", "kernel_max_px": 2}).hint is None


@pytest.mark.parametrize("op", ["Max", "Average"])
def test_a_global_pool_behind_a_smaller_window(qcdq: type[Any], analyse: Analyse, images: Floats, op: str) -> None:
    def net(size: int, *, pooled: bool = False) -> Facts:
        chain = qcdq(size=size).conv(4)
        if pooled:
            chain.op(f"{op}Pool", kernel_shape=[2, 2], strides=[2, 2]).quantize()
        return analyse(chain.op(f"Global{op}Pool").quantize())

    entries = ({"op": f"Global{op}Pool", "kernel_max_px": 5}, {"op": f"{op}Pool", "lone_channels_max": 4})
    hint = found(net(10), "kernel", *entries).hint or ""
    assert hint.startswith(f"5x5 input fits; {op}Pool of 2x2 with stride 2 before it, which computes the same")
    assert statuses(net(5), *entries)["kernel"] == statuses(net(10, pooled=True), *entries)["kernel"] == "pass"
    few = {**entries[1], "lone_channels_max": 3}
    assert found(net(10), "kernel", entries[0], few).hint == "5x5 input fits"
    even = images[:, :, :10]
    pools = {"kernel_shape": [2, 2], "strides": [2, 2]}
    whole, halved = run(f"Global{op}Pool", even), run(f"Global{op}Pool", run(f"{op}Pool", even, **pools))
    np.testing.assert_allclose(whole, halved, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "limits", "hint"),
    [
        (5, 1, {"kernel_area_max_px": 9}, "2 convolutions of 3x3 see as far as one of 5x5"),
        (5, 1, {"kernel_area_max_px": 12, "kernels_px": [[2, 2], [5, 5]]}, "4 convolutions of 2x2 see"),
        (5, 2, {"kernel_max_px": 3}, "2 convolutions of 3x3, the last with stride 2 and the others with 1, see"),
        (5, 2, {"kernel_max_px": 3, "strides_px": [2]}, None),
        (3, 1, {"kernel_area_max_px": 3}, None),
    ],
)
def test_smaller_windows_within_every_limit(  # noqa: PLR0917 - a row of the table, and fixtures
    qcdq: type[Any], analyse: Analyse, kernel: int, stride: int, limits: dict[str, Any], hint: str | None
) -> None:
    text = found(analyse(qcdq(size=16).conv(4, kernel=kernel, stride=stride)), "kernel", {"op": "Conv", **limits}).hint
    assert (text or "None").startswith(hint or "None")
    if hint:
        count, side = int(hint.split()[0]), int(hint.split()[3][0])
        assert 1 + count * (side - 1) >= kernel
        net = qcdq(size=16)
        for index in range(count):
            net.conv(4, kernel=side, stride=stride if index == count - 1 else 1)
        worst = statuses(analyse(net), {"op": "Conv", **limits})
        assert (worst["kernel"], worst.get("stride", "pass")) == ("pass", "pass")


@pytest.mark.parametrize("limits", [{"dilated_kernel_max_px": 5}, {"dilated_kernel_area_max_px": 30}])
def test_a_smaller_dilation(qcdq: type[Any], analyse: Analyse, limits: dict[str, Any]) -> None:
    def net(dilation: int) -> Facts:
        chain = qcdq(size=20).conv(4)
        conv = next(node for node in chain.nodes if node.op_type == "Conv")
        conv.attribute.append(helper.make_attribute("dilations", [dilation] * 2))
        return analyse(chain)

    entry = {"op": "Conv", **limits}
    assert found(net(4), "kernel", entry).hint == "dilation 2 in place of 4 fits, and train again"
    assert statuses(net(2), entry)["kernel"] == "pass"
    assert statuses(net(3), entry)["kernel"] == "fail"
    assert found(net(4), "kernel", {**entry, "kernel_max_px": 2}).hint is None


def test_unequal_strides(qcdq: type[Any], analyse: Analyse) -> None:
    def net(strides: list[int]) -> Any:
        chain = qcdq(size=16).conv(4)
        conv = next(node for node in chain.nodes if node.op_type == "Conv")
        del conv.attribute[[item.name for item in conv.attribute].index("strides")]
        conv.attribute.append(helper.make_attribute("strides", strides))
        return chain

    entries = ({"op": "Conv", "equal_strides": True}, {"op": "MaxPool"})
    assert found(analyse(net([2, 1])), "stride", *entries).hint == "stride 1, and a MaxPool of 2x1 behind it"
    pooled = net([1, 1]).op("MaxPool", kernel_shape=[2, 1], strides=[2, 1])
    assert statuses(analyse(pooled), *entries)["stride"] == "pass"
    equal = {"op": "MaxPool", "equal_strides": True}
    assert found(analyse(net([2, 1])), "stride", entries[0], equal).hint is None


def test_the_channels_of_a_pool_that_no_convolution_reads(
    conv4: Callable[..., Any], qcdq: type[Any], analyse: Analyse, images: Floats
) -> None:
    entries = ({"op": "MaxPool", "lone_channels_max": 5}, {"op": "Conv", "kernels_px": [[1, 1], [3, 3]]})
    lone = analyse(qcdq(size=16).conv(6).pool())
    hint = found(lone, "channels", *entries).hint or ""
    conv = "a 1x1 Conv of the identity behind it, which computes the same: 36 weights more"
    assert hint == f"Conv1-5 fits: {5 * 28} parameters; {conv}"
    for fits in (qcdq(size=16).conv(5).pool(), qcdq(size=16).conv(6).pool().conv(6, kernel=1)):
        assert statuses(analyse(fits), *entries)["channels"] == "pass"
    identity = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    np.testing.assert_array_equal(run("Conv", images, identity), images)
    assert "Conv of" not in (found(lone, "channels", entries[0], {"op": "Conv", "kernels_px": [[3, 3]]}).hint or "")


def test_output_channels_in_parts(qcdq: type[Any], analyse: Analyse, images: Floats, kernels: Floats) -> None:
    entries = ({"op": "Conv", "output_channels_max": 3}, {"op": "Concat"})
    facts = analyse(qcdq().conv(4).conv(7))
    (last,) = [item for item in limit_failures(facts, "channels", *entries) if item.value == 7]
    assert last.hint == "3 Convs of at most 3 output channels each and a Concat, which computes the same"
    parts = [run("Conv", images, kernels[index : index + 1]) for index in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), run("Conv", images, kernels))
    assert found(facts, "channels", entries[0]).hint is None


def test_biases_of_too_many_channels(qcdq: type[Any], analyse: Analyse) -> None:
    entry = {"op": "Conv", "bias_channels_max": 5}
    assert found(analyse(qcdq().conv(4).conv(6)), "channels", entry).hint == "leave the bias out, and train again"
    net = qcdq().conv(4).conv(6)
    for node in net.nodes:
        if node.op_type == "Conv":
            del node.input[2]
    assert statuses(analyse(net), entry)["channels"] == "pass"


def test_absolute_weights(conv4: Callable[..., Any], qcdq: type[Any], analyse: Analyse) -> None:
    """A channel sums 9 w weights of at most 128, in the first layer 27."""
    entry = {"op": "Conv", "weight_abs_sum_max": 4000}
    hint = found(analyse(conv4(width=12)), "weight-sum", entry).hint or ""
    chain, weights = hint.split("; ")
    assert chain.startswith("Conv4-3 fits: ")
    assert weights == "weights within -37..37 fit"
    within = conv4(width=12)
    for index, item in enumerate(within.initializers):
        if item.name.startswith("weight"):
            shape = tuple(item.dims)
            within.initializers[index] = helper.make_tensor(
                item.name, item.data_type, shape, [-37] * int(np.prod(shape))
            )
    assert statuses(analyse(within), entry)["weight-sum"] == "pass"
    assert statuses(analyse(conv4(width=3)), entry)["weight-sum"] == "pass"
    offset = analyse(qcdq().conv(12, zero_point=3))
    assert found(offset, "weight-sum", {"op": "Conv", "weight_abs_sum_max": 100}).hint is None


def line(qcdq: type[Any], *, flat: bool) -> Any:
    """A convolution on a line of 16, as 1-D, or as 2-D of height 1."""
    sides = [1, 16] if flat else [16]
    net = qcdq(3, 16)
    net.input_shape = [1, 3, *sides]
    weight = net.constant("w", np.ones((4, 3, *sides[:-1], 3), np.float32))
    pads = [0, 1, 0, 1] if flat else [1, 1]
    return net.op("Conv", extra=[weight], kernel_shape=[*sides[:-1], 3], pads=pads, strides=[2] * len(sides))


def test_a_line_as_an_image(qcdq: type[Any], analyse: Analyse) -> None:
    entry = {"op": "Conv", "dims": [2], "kernels_px": [[1, 3]], "equal_strides": True}
    hint = found(analyse(line(qcdq, flat=False)), "dimensions", entry).hint
    words = "as 2-D: an image of height 1, a window of 1x3 and stride 2 in both directions, which computes the same"
    assert hint == words
    rules = statuses(analyse(line(qcdq, flat=True)), entry)
    assert {rules[name] for name in ("dimensions", "kernel", "stride")} == {"pass"}
    assert found(analyse(line(qcdq, flat=False)), "dimensions", {**entry, "kernels_px": [[3, 3]]}).hint is None
    rng = np.random.default_rng(4)
    pixels, weight = (rng.integers(-9, 9, shape).astype(np.float32) for shape in ((1, 3, 16), (4, 3, 3)))
    plain = run("Conv", pixels, weight, pads=[1, 1], strides=[2])
    image = run("Conv", pixels[:, :, None], weight[:, :, None], pads=[0, 1, 0, 1], strides=[2, 2])
    np.testing.assert_array_equal(image[:, :, 0], plain)


def test_a_pool_is_named_only_where_the_target_runs_it(qcdq: type[Any], analyse: Analyse) -> None:
    facts = analyse(qcdq(3, 8).conv(6).flatten())
    limits = {"op": "Flatten", "flat_elements_max": 100}
    assert "a MaxPool of 2x2 before it" in (found(facts, "image-size", limits, {"op": "MaxPool"}).hint or "")
    few = {"op": "MaxPool", "lone_channels_max": 4}
    assert "MaxPool" not in (found(facts, "image-size", limits, few).hint or "")
    assert "MaxPool" not in (found(facts, "image-size", limits).hint or "")
