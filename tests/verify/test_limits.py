"""Rules on the attributes of operators: for each limit a graph that passes and one that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.profile import HardwareProfile, Operator, load_profile
from edgekd.verify import verify
from edgekd.verify.facts import Facts
from edgekd.verify.rules import Finding, check_all
from edgekd.verify.rules.entries import LIMITS, assess

Analyse = Callable[[Any], Facts]


def profile(*entries: dict[str, Any], **keys: Any) -> HardwareProfile:
    ops = [{"unlisted": "any", **entry} for entry in entries]
    return HardwareProfile.model_validate({"name": "toy", "ops": ops, **keys})


def found(facts: Facts, target: HardwareProfile, rule: str) -> list[Finding]:
    return [finding for finding in check_all(facts, target) if finding.rule == rule]


def conv(**attributes: Any) -> Callable[[Any], Any]:
    """One Conv of 3 -> 4 channels on 8x8 images with the given attributes."""

    def build(builder: type[Any]) -> Any:
        net = builder().conv(4, kernel=attributes.pop("kernel", 3), groups=attributes.pop("groups", 1))
        node = next(node for node in net.nodes if node.op_type == "Conv")
        for name, value in attributes.items():
            kept = [item for item in node.attribute if item.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, make_attribute(name, value)])
        return net

    return build


def make_attribute(name: str, value: Any) -> Any:
    from onnx.helper import make_attribute as make

    return make(name, value)


def pool(kernel: int = 2, stride: int = 2, **attributes: Any) -> Callable[[Any], Any]:
    shape = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, **attributes}
    return lambda builder: builder().conv(4).op("MaxPool", **shape).quantize()


def residual(builder: type[Any]) -> Any:
    net = builder(4)
    return net.add_from(net.conv(4).current)


ROWS: list[tuple[str, str, Any, Any, Any]] = [
    # rule, limit, the entry that passes, the entry that fails, graph
    ("kernel", "Conv", {"kernels_px": [[1, 1], [3, 3]]}, {"kernels_px": [[1, 1]]}, conv()),
    ("kernel", "Conv", {"kernel_max_px": 3}, {"kernel_max_px": 2}, conv()),
    ("kernel", "Conv", {"kernel_area_max_px": 9}, {"kernel_area_max_px": 8}, conv()),
    ("kernel", "Conv", {"dilated_kernel_max_px": 5}, {"dilated_kernel_max_px": 4}, conv(dilations=[2, 2])),
    ("kernel", "Conv", {"dilated_kernel_area_max_px": 25}, {"dilated_kernel_area_max_px": 24}, conv(dilations=[2, 2])),
    ("kernel", "MaxPool", {"kernel_max_px": 3}, {"kernel_max_px": 2}, pool(3)),
    ("stride", "Conv", {"strides_px": [2]}, {"strides_px": [1]}, conv(strides=[2, 2])),
    ("stride", "Conv", {"stride_max_px": 2}, {"stride_max_px": 1}, conv(strides=[1, 2])),
    ("stride", "MaxPool", {"equal_strides": True, "stride_max_px": 2}, {"stride_max_px": 1}, pool()),
    ("padding", "Conv", {"padding_max_px": 1}, {"padding_max_px": 0}, conv()),
    ("padding", "MaxPool", {"padding_max_px": 1}, {"padding_max_px": 0}, pool(pads=[1, 0, 0, 0])),
    ("dilation", "Conv", {"dilation_max_px": 2}, {"dilation_max_px": 1}, conv(dilations=[1, 2])),
    ("groups", "Conv", {"groups": ["one"]}, {"groups": ["depthwise"]}, conv()),
    ("groups", "Conv", {"groups": ["depthwise"]}, {"groups": ["one"]}, lambda b: b(4).conv(4, groups=4)),
    (
        "groups",
        "Conv",
        {"groups": ["depthwise_multiplied"]},
        {"groups": ["depthwise"]},
        lambda b: b(2).conv(4, groups=2),
    ),
    ("groups", "Conv", {"groups": ["any"]}, {"groups": ["one", "depthwise"]}, lambda b: b(4).conv(4, groups=2)),
    ("channels", "Conv", {"input_channels_max": 3}, {"input_channels_max": 2}, conv()),
    ("channels", "Conv", {"output_channels_max": 4}, {"output_channels_max": 3}, conv()),
    ("channels", "Conv", {"bias_channels_max": 4}, {"bias_channels_max": 3}, conv()),
    (
        "channels",
        "Gemm",
        {"input_channels_max": 192},
        {"input_channels_max": 191},
        lambda b: b().flatten().gemm(5, 192),
    ),
    ("channels", "Gemm", {"output_channels_max": 5}, {"output_channels_max": 4}, lambda b: b().flatten().gemm(5, 192)),
    ("channels", "MaxPool", {"lone_channels_max": 4}, {"lone_channels_max": 3}, pool()),
    ("dimensions", "Conv", {"dims": [2]}, {"dims": [1]}, conv()),
    ("dimensions", "Relu", {"rank_max": 4}, {"rank_max": 3}, conv()),
    ("image-size", "Conv", {"side_max_px": 8}, {"side_max_px": 7}, conv()),
    (
        "image-size",
        "Flatten",
        {"flat_elements_max": 192},
        {"flat_elements_max": 191},
        lambda b: b().flatten().quantize(),
    ),
    ("image-size", "Flatten", {"flat_area_max_px": 64}, {"flat_area_max_px": 63}, lambda b: b().flatten().quantize()),
    (
        "dimensions",
        "ReduceMean",
        {"reduced_axes_max": 2},
        {"reduced_axes_max": 1},
        lambda b: b().op("ReduceMean", axes=[2, -1]).quantize(),
    ),
    ("inputs", "Add", {"inputs_max": 2}, {"inputs_max": 1}, residual),
    ("batch", "Conv", {"batch_max": 2}, {"batch_max": 1}, lambda b: b(batch=2).conv(4)),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[1]}-{next(iter(row[3]))}")
def test_a_limit_passes_at_its_value_and_fails_below(qcdq: type[Any], analyse: Analyse, row: Any) -> None:
    rule, op, enough, little, build = row
    facts = analyse(build(qcdq))
    source = [{"keys": ["ops"], "text": "page 3"}]
    (passed,) = found(facts, profile({"op": op, **enough}, sources=source), rule)
    assert (passed.status, passed.source) == ("pass", "page 3")
    failed = found(facts, profile({"op": op, **little}, sources=source), rule)
    assert {finding.status for finding in failed} == {"fail"}
    assert failed[0].attribute == f"ops.{op}.{next(iter(little))}"
    assert (failed[0].node or "").startswith(op)
    assert failed[0].value is not None
    assert failed[0].limit is not None
    assert failed[0].source == "page 3"


def test_every_limit_of_the_schema_has_a_row_and_a_test() -> None:
    keys = {limit.key for limit in LIMITS}
    assert keys == set(Operator.model_fields) - {"op", "source", "unlisted"}
    assert keys - {key for row in ROWS for key in row[3]} == {"equal_strides", "weight_abs_sum_max"}


def test_strides_that_must_be_equal(qcdq: type[Any], analyse: Analyse) -> None:
    target = profile({"op": "Conv", "equal_strides": True})
    assert found(analyse(conv(strides=[2, 2])(qcdq)), target, "stride")[0].status == "pass"
    (failed,) = found(analyse(conv(strides=[1, 2])(qcdq)), target, "stride")
    assert (failed.status, failed.value, failed.limit) == ("fail", "1x2", "only")


def test_the_sum_of_absolute_weights_is_that_of_the_worst_channel(qcdq: type[Any], analyse: Analyse) -> None:
    facts = analyse(qcdq().conv(4))
    weights = facts.graph.constants["weight_1"].astype(np.int64)
    worst = int(np.abs(weights).sum((1, 2, 3)).max())
    assert found(facts, profile({"op": "Conv", "weight_abs_sum_max": worst}), "weight-sum")[0].status == "pass"
    (failed,) = found(facts, profile({"op": "Conv", "weight_abs_sum_max": worst - 1}), "weight-sum")
    assert (failed.status, failed.value) == ("fail", worst)


@pytest.mark.parametrize(
    ("zero_point", "expected"), [([3], "pass"), ([3, 3, 3, 3], "pass"), ([], "unknown"), ([1, 2], "unknown")]
)
def test_weights_are_summed_around_their_zero_point(
    qcdq: type[Any], analyse: Analyse, zero_point: list[float], expected: str
) -> None:
    """Zero points are one a tensor or one a channel; for any other number the sum is not known."""
    facts = analyse(qcdq().conv(4, zero_point=3))
    layer, entry = facts.layers[0], profile({"op": "Conv", "weight_abs_sum_max": 10_000})
    assert layer.weight_quantization is not None
    quantization = replace(
        layer.weight_quantization, zero_point=np.array(zero_point, None if 0.5 in zero_point else np.int8)
    )
    changed = replace(facts, layers=(replace(layer, weight_quantization=quantization),))
    (finding,) = found(changed, entry, "weight-sum")
    assert finding.status == expected


def test_same_padding_is_spelled_out(qcdq: type[Any], analyse: Analyse) -> None:
    """A window of 3 at stride 1 adds 2 px along each axis, one on each side."""
    build = conv(auto_pad="SAME_UPPER", pads=[0, 0, 0, 0])
    net = build(qcdq)
    node = next(node for node in net.nodes if node.op_type == "Conv")
    kept = [item for item in node.attribute if item.name != "pads"]
    del node.attribute[:]
    node.attribute.extend(kept)
    facts = analyse(net)
    assert found(facts, profile({"op": "Conv", "padding_max_px": 1}), "padding")[0].status == "pass"
    assert found(facts, profile({"op": "Conv", "padding_max_px": 0}), "padding")[0].value == "1x1"


def test_a_node_passes_where_one_of_the_entries_takes_all_of_it(qcdq: type[Any], analyse: Analyse) -> None:
    dense = {"op": "Conv", "groups": ["one"], "kernels_px": [[3, 3]]}
    depthwise = {"op": "Conv", "groups": ["depthwise"], "kernel_max_px": 9}
    facts = analyse(qcdq(4).conv(4).conv(4, groups=4, kernel=5))
    assert [item.status for item in found(facts, profile(dense, depthwise), "kernel")] == ["pass"]
    (failed,) = found(facts, profile(dense, {**depthwise, "kernel_max_px": 3}), "kernel")
    assert (failed.value, failed.limit) == ("5x5", "at most 3 px")
    assert not [item for item in found(facts, profile(dense, depthwise), "groups") if item.status != "pass"]


def test_operators_on_integers_have_their_weights_elsewhere(qcdq: type[Any], analyse: Analyse) -> None:
    net = qcdq(channels=2, size=4)
    net.nodes.clear()
    net.current = "pixels"
    one, zero = net.constant("one", np.array(0.5, np.float32)), net.constant("zero", np.array(0, np.int8))
    weight = net.constant("w", np.full((3, 2, 1, 1), -2, np.int8))
    net.op("QLinearConv", extra=[one, zero, weight, one, zero, one, zero])
    facts = analyse(net)
    taken = {"kernels_px": [[1, 1]], "input_channels_max": 2, "output_channels_max": 3, "weight_abs_sum_max": 4}
    (entry,) = assess(facts, profile({"op": "Conv", **taken}))
    assert {item.status for items in entry.findings.values() for item in items} == {"pass"}
    refused = {"kernels_px": [[3, 3]], "input_channels_max": 1, "output_channels_max": 2, "weight_abs_sum_max": 3}
    (entry,) = assess(facts, profile({"op": "Conv", **refused}))
    assert [item.value for items in entry.findings.values() for item in items] == ["1x1", 2, 3, 4]


def test_an_entry_that_fits_less_does_not_hide_one_that_takes_all(qcdq: type[Any], analyse: Analyse) -> None:
    """Else removing "one" from the first entry's groups would make a failure pass."""
    narrow, wide = {"op": "Conv", "groups": ["one"], "stride_max_px": 1}, {"op": "Conv", "stride_max_px": 2}
    facts = analyse(conv(strides=[2, 2])(qcdq))
    assert found(facts, profile(narrow, wide), "stride")[0].status == "pass"
    assert found(facts, profile(narrow), "stride")[0].status == "fail"


def test_a_limit_that_an_entry_does_not_mention_is_unknown_unless_it_lists_all(
    qcdq: type[Any], analyse: Analyse
) -> None:
    facts = analyse(qcdq().conv(4))
    bare = HardwareProfile.model_validate({"name": "toy", "ops": [{"op": "Conv", "stride_max_px": 1}, {"op": "Relu"}]})
    (unknown,) = found(facts, bare, "limits-stated")
    assert unknown.status == "unknown"
    assert "groups, kernel, padding" in unknown.message
    assert "stride" not in unknown.message
    assert found(facts, bare, "stride")[0].status == "pass"
    assert not found(facts, profile({"op": "Conv", "stride_max_px": 1}), "limits-stated")


def test_what_the_file_does_not_tell_is_unknown(qcdq: type[Any], analyse: Analyse) -> None:
    net = qcdq().op("Magic", domain="custom")
    net.op("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    (finding,) = found(analyse(net), profile({"op": "MaxPool", "side_max_px": 9}), "image-size")
    assert finding.status == "unknown"
    assert "does not tell the side" in finding.message


def test_a_pool_before_a_convolution_is_not_alone(qcdq: type[Any], analyse: Analyse) -> None:
    target = profile({"op": "MaxPool", "lone_channels_max": 2})
    assert found(analyse(qcdq().conv(4).pool().conv(4)), target, "channels")[0].status == "pass"
    assert found(analyse(qcdq().conv(4).pool().quantize()), target, "channels")[0].status == "fail"


def test_a_global_pool_has_a_window_of_the_whole_image(qcdq: type[Any], analyse: Analyse) -> None:
    facts = analyse(qcdq().conv(4).global_pool())
    assert found(facts, profile({"op": "GlobalAveragePool", "kernel_max_px": 8}), "kernel")[0].status == "pass"
    assert found(facts, profile({"op": "GlobalAveragePool", "kernel_max_px": 7}), "kernel")[0].value == "8x8"


def test_the_entries_of_the_max78000_refuse_what_its_readme_does(qcdq: type[Any], analyse: Analyse) -> None:
    target = load_profile("max78000")
    assert found(analyse(qcdq().conv(4, kernel=5)), target, "kernel")[0].limit == "1x1 or 3x3 px"
    assert found(analyse(conv(strides=[2, 2])(qcdq)), target, "stride")[0].status == "fail"
    assert found(analyse(qcdq(4).conv(4, groups=4)), target, "groups")[0].status == "fail"
    assert found(analyse(qcdq(4).conv(4, groups=4)), load_profile("max78002"), "groups")[0].status == "pass"
    assert found(analyse(conv(dilations=[2, 2])(qcdq)), target, "dilation")[0].status == "fail"
    assert found(analyse(conv(dilations=[2, 2])(qcdq)), load_profile("max78002"), "dilation")[0].status == "pass"


def test_a_new_target_is_one_file_for_verify_too(qcdq: type[Any], tmp_path: Path) -> None:
    model = qcdq().conv(4, kernel=5).save(tmp_path / "model.onnx")
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[[ops]]\nop = "Conv"\nkernel_max_px = 3\n[[ops]]\nop = "Relu"')
    report = verify(model, str(path), static=True)
    assert report.verdict == "fail"
    assert [(item.rule, item.value) for item in report.findings if item.status == "fail"] == [("kernel", "5x5")]
