"""A hint is verified by taking it: the rule that failed passes then, and a step further it fails."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.rules import Finding, check_all
from edgekd.verify.rules.narrower import narrowed

Analyse = Callable[[Any], Facts]


def profile(**keys: Any) -> HardwareProfile:
    return HardwareProfile.model_validate({"name": "toy", **keys})


def found(facts: Facts, rule: str, **keys: Any) -> Finding:
    (finding, *_) = [item for item in check_all(facts, profile(**keys)) if item.rule == rule]
    return finding


def number(pattern: str, hint: str | None) -> int:
    match = re.search(pattern, hint or "")
    assert match, hint
    return int(match[1])


def sram(size: int, role: str = "activations", **memory: Any) -> dict[str, Any]:
    return {"memory": {"regions": [{"name": "ram", "bytes": size, "role": role}], **memory}}


@pytest.mark.parametrize("cap", [2_000, 1_000, 150])
def test_the_widest_network_under_a_parameter_cap(conv4: Callable[..., Any], analyse: Analyse, cap: int) -> None:
    """w (27 + 1) + 3 w (9 w + 1) parameters."""
    hint = found(analyse(conv4(width=12)), "parameters", params={"max": cap}).hint
    width = number(r"^Conv4-(\d+) fits", hint)
    assert width * 28 + 3 * width * (9 * width + 1) <= cap
    assert found(analyse(conv4(width=width)), "parameters", params={"max": cap}).status == "pass"
    assert found(analyse(conv4(width=width + 1)), "parameters", params={"max": cap}).status == "fail"


def test_no_network_is_named_where_none_fits_or_the_widths_differ(
    conv4: Callable[..., Any], qcdq: type[Any], analyse: Analyse
) -> None:
    """6 filters of 4x3x3 and their biases; 3 of 256 features and theirs."""
    none = found(analyse(conv4(width=12)), "parameters", params={"max": 40}).hint or ""
    assert none.startswith("4,220 parameters must go; the largest layer is Conv_")
    two = found(analyse(qcdq().conv(4).conv(6)), "parameters", params={"max": 200}).hint
    assert two == "134 parameters must go; the largest layer is Conv_9 (222 parameters, 240 B)"
    dense = found(analyse(qcdq().conv(4).flatten().gemm(3, 256)), "parameters", params={"max": 200}).hint
    assert dense == "683 parameters must go; the largest layer is Gemm_10 (771 parameters, 780 B)"


def test_the_bytes_that_must_go(qcdq: type[Any], analyse: Analyse) -> None:
    """108 + 216 weights and 10 biases of 4 B are 364 B."""
    hint = found(analyse(qcdq().conv(4).conv(6)), "weight-memory", **sram(300, "weights")).hint
    assert hint == "64 B must go; the largest layer is Conv_9 (222 parameters, 240 B)"


@pytest.mark.parametrize("packing", ["packed", "byte"])
@pytest.mark.parametrize("clip", [None, (-7, 7)])
def test_the_widest_network_that_the_weight_memory_holds(
    qcdq: type[Any], analyse: Analyse, packing: str, clip: tuple[int, int] | None
) -> None:
    def facts(width: int) -> Facts:
        return analyse(qcdq().conv(width, clip=clip).conv(width, clip=clip))

    keys = {"weights": {"packing": packing}, **sram(700, "weights")}
    width = number(r"^Conv2-(\d+) fits", found(facts(16), "weight-memory", **keys).hint)
    assert found(facts(width), "weight-memory", **keys).status == "pass"
    assert found(facts(width + 1), "weight-memory", **keys).status == "fail"


def test_the_largest_input_and_fused_pools(conv4: Callable[..., Any], analyse: Analyse) -> None:
    """The input and the first convolution take 7 B a pixel: 2,268 B at 18x18, 2,527 B at 19x19."""
    target = sram(2_300, conv_pool_fused=False)
    finding = found(analyse(conv4(width=4, size=20)), "activation-memory", **target)
    assert finding.status == "fail"
    side = number(r"(\d+)x\1 input fits", finding.hint)
    assert side == 18
    assert found(analyse(conv4(width=4, size=side)), "activation-memory", **target).status == "pass"
    assert found(analyse(conv4(width=4, size=side + 1)), "activation-memory", **target).status == "fail"


def test_fusing_is_named_with_its_bytes_and_then_fits(conv4: Callable[..., Any], analyse: Analyse) -> None:
    facts = analyse(conv4(width=4, size=20))
    peak = facts.memory.fused.peak_bytes if facts.memory.fused else 0
    hint = found(facts, "activation-memory", **sram(peak, conv_pool_fused=False)).hint
    assert (hint or "").startswith(f"fuse each convolution with its pool: {peak:,} B")
    assert found(facts, "activation-memory", **sram(peak, conv_pool_fused=True)).status == "pass"
    less = found(facts, "activation-memory", **sram(peak - 1, conv_pool_fused=False)).hint
    assert "fuse each" not in (less or "")


@pytest.mark.parametrize("role", ["activations", "shared"])
@pytest.mark.parametrize("fused", [False, True])
def test_the_widest_network_that_the_activation_memory_holds(
    conv4: Callable[..., Any], analyse: Analyse, role: str, fused: bool
) -> None:
    """In shared memory the weights of the narrower network leave more room too."""
    target = sram(3_000, role, conv_pool_fused=fused)
    finding = found(analyse(conv4(width=40, size=16)), "activation-memory", **target)
    width = number(r"(?:^|; )Conv4-(\d+) fits", finding.hint)
    assert found(analyse(conv4(width=width, size=16)), "activation-memory", **target).status == "pass"
    assert found(analyse(conv4(width=width + 1, size=16)), "activation-memory", **target).status == "fail"


def test_fusing_together_with_a_smaller_input_or_fewer_channels(conv4: Callable[..., Any], analyse: Analyse) -> None:
    """Neither is enough alone: fused, 20x20x12 leaves 3 x 400 + 12 x 100 B."""
    finding = found(analyse(conv4(width=12, size=20)), "activation-memory", **sram(2_000, conv_pool_fused=False))
    both = "with each convolution fused with its pool, "
    side = number(both + r"(\d+)x\1 input fits", finding.hint)
    width = number(both + r"Conv4-(\d+) fits", finding.hint)
    target = sram(2_000, conv_pool_fused=True)
    for good, bad in (((12, side), (12, side + 1)), ((width, 20), (width + 1, 20))):
        statuses = [
            found(analyse(conv4(width=channels, size=size)), "activation-memory", **target).status
            for channels, size in (good, bad)
        ]
        assert statuses == ["pass", "fail"]


@pytest.mark.parametrize("width", [1, 5, 11])
def test_a_narrowed_chain_has_the_shapes_of_inference(conv4: Callable[..., Any], analyse: Analyse, width: int) -> None:
    small, again = narrowed(analyse(conv4(width=12)), width), analyse(conv4(width=width))
    assert small is not None
    live = [name for name in again.graph.values if name not in again.graph.fixed]
    assert {name: small.graph.value(name).shape for name in live} == {
        name: again.graph.value(name).shape for name in live
    }
    assert small.memory.plan == again.memory.plan
    assert small.costs.weight_bytes == again.costs.weight_bytes


def test_other_networks_are_not_narrowed(qcdq: type[Any], analyse: Analyse) -> None:
    assert narrowed(analyse(qcdq().conv(4).conv(6)), 2) is None
    assert narrowed(analyse(qcdq(2).conv(4, groups=2).conv(4)), 3) is None


def test_no_input_is_named_for_weights_that_allow_one_size(qcdq: type[Any], analyse: Analyse) -> None:
    facts = analyse(qcdq().conv(4).flatten().gemm(3, 256))
    assert found(facts, "activation-memory", **sram(100, conv_pool_fused=True)).hint is None


@pytest.mark.parametrize(
    "case",
    [
        (
            "weight-scale",
            {"weights": {"scale": "power_of_two"}},
            "power-of-two scales",
            {"scale": 0.3},
            {"scale": 0.25},
        ),
        (
            "activation-scale",
            {"activations": {"scale": "power_of_two"}},
            "power-of-two scales",
            {"act_scale": 0.3},
            {"act_scale": 0.25},
        ),
        (
            "weight-granularity",
            {"weights": {"granularity": "per_tensor"}},
            "per_tensor weights",
            {"scale": [0.5, 0.25, 0.5, 0.5]},
            {"scale": 0.5},
        ),
        ("weight-bits", {"weights": {"bits": [4]}}, "quantize the weights to 4 bits", {}, {"clip": (-7, 7)}),
        (
            "weight-symmetry",
            {"weights": {"symmetric": True}},
            "every zero point 0",
            {"zero_point": 3},
            {"zero_point": 0},
        ),
        ("integer-layers", {}, "quantize its weights", {"float_weights": True}, {}),
    ],
    ids=lambda case: case[0],
)
def test_formats(qcdq: type[Any], analyse: Analyse, case: tuple[str, Any, str, Any, Any]) -> None:
    rule, keys, hint, bad, good = case
    failed = found(analyse(qcdq().conv(4, **bad)), rule, **keys)
    assert (failed.status, hint in (failed.hint or "")) == ("fail", True)
    assert found(analyse(qcdq().conv(4, **good)), rule, **keys).status == "pass"


def test_an_open_batch(qcdq: type[Any], analyse: Analyse) -> None:
    keys = {"shapes": {"static": True}}
    failed = found(analyse(qcdq(batch="n").conv(4)), "static-shapes", **keys)
    assert failed.hint == "store a fixed batch in the file"
    other = qcdq().conv(4)
    other.input_shape = [1, 3, "height", 8]
    assert found(analyse(other), "static-shapes", **keys).hint == "store a fixed size in the file"
    assert found(analyse(qcdq(batch=1).conv(4)), "static-shapes", **keys).status == "pass"


OTHER = "another network: {} in place of {}, and train again, since it computes something else"
GLOBAL = "replace GlobalAveragePool: AveragePool with a window of the whole image"


@pytest.mark.parametrize(
    ("op", "legal", "hint"),
    [
        (
            "GlobalAveragePool",
            ["AveragePool"],
            GLOBAL,
        ),
        ("GlobalAveragePool", ["Conv"], None),
        ("Sigmoid", ["Clip"], OTHER.format("Clip", "Sigmoid")),
        ("AveragePool", ["MaxPool"], OTHER.format("MaxPool", "AveragePool")),
        ("Relu", ["Clip"], "replace Relu: Clip with min 0"),
        ("Identity", [], "remove it: it does nothing"),
        ("Dropout", [], "drop it: it does nothing at inference"),
        ("Tile", ["Conv"], None),
    ],
)
def test_what_replaces_an_operator(qcdq: type[Any], analyse: Analyse, op: str, legal: list[str], hint: str) -> None:
    net = qcdq().op(op, **({"kernel_shape": [2, 2]} if op == "AveragePool" else {})) if op != "Tile" else qcdq()
    if op == "Tile":
        net.op("Tile", extra=[net.constant("repeats", np.ones(4, np.int64))])
    failed = found(analyse(net), "operators", ops=[{"op": name} for name in legal])
    assert (failed.status, failed.value, failed.hint) == ("fail", op, hint)


def test_biases_rounded_as_the_hint_says_fit(qcdq: type[Any], analyse: Analyse) -> None:
    keys = {"biases": {"bits": [8], "shift_bits": 7}}
    net = qcdq().conv(4)
    failed = found(analyse(net), "bias-bits", **keys)
    assert failed.hint == "round the biases to multiples of 128 within -16,384..16,256"
    index = next(i for i, item in enumerate(net.initializers) if item.name.startswith("bias"))
    name = net.initializers[index].name
    for values, status in (([128, -16_384, 16_256, 0], "pass"), ([128, 0, 0, 16_384], "fail"), ([1, 0, 0, 0], "fail")):
        net.initializers[index] = numpy_helper.from_array(np.array(values, np.int32), name)
        assert found(analyse(net), "bias-bits", **keys).status == status


def test_scales_must_be_constants(qcdq: type[Any], analyse: Analyse) -> None:
    assert found(analyse(qcdq().conv(4)), "scales-stated").status == "pass"
    net = qcdq().conv(4)
    half = net.constant("half", np.array(0.5, np.float32))
    net.op("ReduceMax", keepdims=0)
    computed, zero = net.current, net.constant("zero", np.array(0, np.int8))
    net.current = "Relu_4_out"
    net.op("QuantizeLinear", extra=[computed, zero]).op("DequantizeLinear", extra=[half, zero])
    failed = found(analyse(net), "scales-stated")
    assert (failed.status, failed.attribute, failed.value) == ("fail", "scale", "is not constant")
    assert "quantize statically" in (failed.hint or "")


def test_a_layer_cap_names_the_chain_that_fits(conv4: Callable[..., Any], analyse: Analyse) -> None:
    """8 (27 + 1) + 2 x 8 (72 + 1) parameters in three layers."""
    finding = found(analyse(conv4(width=8)), "layers", layers={"max": 3})
    assert finding.hint == f"Conv3-8 fits: {8 * 28 + 2 * 8 * 73:,} parameters"
    assert found(analyse(conv4(width=8)), "layers", layers={"max": 4}).hint is None


def entry(op: str = "Conv", **limits: Any) -> dict[str, Any]:
    return {"ops": [{"op": op, "unlisted": "any", **limits}]}


def test_channels_name_the_chain_that_fits(conv4: Callable[..., Any], analyse: Analyse) -> None:
    hint = found(analyse(conv4(width=12)), "channels", **entry(output_channels_max=9)).hint
    width = number(r"^Conv4-(\d+) fits", hint)
    assert width == 9
    assert found(analyse(conv4(width=9)), "channels", **entry(output_channels_max=9)).status == "pass"


@pytest.mark.parametrize(
    ("kernel", "limits", "hint"),
    [
        (5, {"kernel_max_px": 3}, "2 convolutions of 3x3 see as far as one of 5x5"),
        (7, {"kernels_px": [[1, 1], [3, 3]]}, "3 convolutions of 3x3 see as far as one of 7x7"),
        (3, {"kernels_px": [[1, 1]]}, None),
        (3, {"kernels_px": [[1, 1], [5, 5]]}, "zeros around the weights, 5x5 with padding 2, which computes the same"),
        (3, {"kernels_px": [[5, 5]], "padding_max_px": 1}, None),
        (3, {"kernels_px": [[4, 4]]}, None),
    ],
)
def test_smaller_windows(
    qcdq: type[Any], analyse: Analyse, kernel: int, limits: dict[str, Any], hint: str | None
) -> None:
    finding = found(analyse(qcdq(size=16).conv(4, kernel=kernel)), "kernel", **entry(**limits))
    assert (finding.status, finding.hint) == ("fail", hint)


@pytest.mark.parametrize("limits", [{"stride_max_px": 1}, {"strides_px": [1]}])
def test_pooling_instead_of_a_stride(qcdq: type[Any], analyse: Analyse, limits: dict[str, Any]) -> None:
    keys = entry(**limits)
    keys["ops"].append({"op": "MaxPool", "kernel_max_px": 2})
    finding = found(analyse(qcdq(size=16).conv(4, stride=2)), "stride", **keys)
    assert (finding.status, finding.hint) == ("fail", "stride 1, and a MaxPool of 2x2 behind it")
    pooled = analyse(qcdq(size=16).conv(4).pool())
    assert {item.status for item in check_all(pooled, profile(**keys)) if item.rule in {"stride", "kernel"}} == {"pass"}
    keys["ops"][1] = {"op": "MaxPool", "kernel_max_px": 1}
    assert found(analyse(qcdq(size=16).conv(4, stride=2)), "stride", **keys).hint is None


def test_the_largest_image_side(conv4: Callable[..., Any], analyse: Analyse) -> None:
    limits = entry(side_max_px=19)
    side = number(r"^(\d+)x\1 input fits$", found(analyse(conv4(width=4, size=32)), "image-size", **limits).hint)
    assert side == 19
    assert found(analyse(conv4(width=4, size=side)), "image-size", **limits).status == "pass"


def test_sums_of_any_weights_fit_a_narrower_accumulator(conv4: Callable[..., Any], analyse: Analyse) -> None:
    """Sums of 20 bits hold 32 products of 127 and -128: the first layer has 27 of -128 and -128, the others 9 w."""
    finding = found(analyse(conv4(width=40)), "accumulator-width", accumulator_bits=20)
    assert finding.status == "fail"
    width = number(r"^Conv4-(\d+) fits: [\d,]+ parameters, whatever its weights", finding.hint)
    assert width == 3
    assert found(analyse(conv4(width=width)), "accumulator-width", accumulator_bits=20).status == "pass"
    assert "Conv4" not in (found(analyse(conv4(width=8)), "accumulator-width", accumulator_bits=15).hint or "")


def test_sums_of_narrower_weights_fit(qcdq: type[Any], analyse: Analyse) -> None:
    """360 x 127 x 2^(b - 1) is below 2^19 where b is at most 4."""
    finding = found(analyse(qcdq().conv(40).conv(6)), "accumulator-width", accumulator_bits=20)
    bits = number(r"^weights of (\d+) bits fit, whatever their values$", finding.hint)
    assert bits == 4
    narrow = analyse(qcdq().conv(40, clip=(-8, 7)).conv(6, clip=(-8, 7)))
    assert found(narrow, "accumulator-width", accumulator_bits=20).status == "pass"


@pytest.mark.parametrize("room", [100, 64, 47])
def test_the_widest_network_whose_biases_fit(conv4: Callable[..., Any], analyse: Analyse, room: int) -> None:
    """4 layers of w biases."""
    regions = [{"name": name, "bytes": size, "role": name} for name, size in (("weights", 9_999), ("biases", room))]
    keys = {"memory": {"regions": regions}, "biases": {"bits": [8]}}
    width = number(r"^Conv4-(\d+) fits", found(analyse(conv4(width=30)), "bias-memory", **keys).hint)
    assert found(analyse(conv4(width=width)), "bias-memory", **keys).status == "pass"
    assert found(analyse(conv4(width=width + 1)), "bias-memory", **keys).status == "fail"


GLOBAL_POOL: dict[str, Any] = {"op": "GlobalAveragePool", "unlisted": "any"}
AVERAGE_POOL: dict[str, Any] = {"op": "AveragePool", "unlisted": "any"}


@pytest.mark.parametrize(
    ("mean", "entries", "hint"),
    [
        ({"axes": [2, 3]}, [GLOBAL_POOL], "a GlobalAveragePool computes the same"),
        ({"axes": [-1, -2]}, [GLOBAL_POOL, AVERAGE_POOL], "a GlobalAveragePool computes the same"),
        ({"axes": [2, 3]}, [AVERAGE_POOL], "an AveragePool with a window of the whole image computes the same"),
        (
            {"axes": [2, 3]},
            [AVERAGE_POOL | {"kernel_max_px": 8}],
            "an AveragePool with a window of the whole image computes",
        ),
        ({"axes": [2, 3]}, [{**AVERAGE_POOL, "kernel_max_px": 7}], None),
        ({"axes": [2, 3]}, [{**GLOBAL_POOL, "kernel_max_px": 7}], None),
        ({"axes": [2, 3], "keepdims": 0}, [GLOBAL_POOL], None),
        (
            {"axes": [2, 3], "keepdims": 0},
            [GLOBAL_POOL, {"op": "Flatten"}],
            "a GlobalAveragePool, then Flatten, computes",
        ),
        ({"axes": [1, 2]}, [GLOBAL_POOL], None),
        ({}, [GLOBAL_POOL], None),
        ({"axes": [2, 3]}, [], None),
    ],
)
def test_a_mean_over_the_image_is_a_global_pool_where_the_target_runs_it(
    qcdq: type[Any], analyse: Analyse, mean: dict[str, Any], entries: list[Any], hint: str | None
) -> None:
    facts = analyse(qcdq().op("ReduceMean", **mean).quantize())
    told = found(facts, "operators", ops=[{"op": "Relu"}, *entries]).hint
    assert told is None if hint is None else (told or "").startswith(hint)
