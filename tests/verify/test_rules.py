from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts
from edgekd.verify.quantization import Quantization
from edgekd.verify.rules import KEYS, RULES, Finding, check_all, sentence

Analyse = Callable[[Any], Facts]
BARE: dict[str, Any] = {}


def profile(**keys: Any) -> HardwareProfile:
    return HardwareProfile.model_validate({"name": "toy", **keys})


def findings(rule: str, facts: Facts, **keys: Any) -> list[Finding]:
    return [finding for finding in check_all(facts, profile(**keys)) if finding.rule == rule]


def status(rule: str, facts: Facts, **keys: Any) -> str:
    """The one status that all findings of a rule have."""
    (only,) = {finding.status for finding in findings(rule, facts, **keys)}
    return only


def region(size: int, role: str = "activations", **more: Any) -> dict[str, Any]:
    return {"memory": {"regions": [{"name": "ram", "bytes": size, "role": role, **more}]}}


@pytest.fixture
def small(qcdq: type[Any], analyse: Analyse) -> Facts:
    """One convolution 3 -> 4 at 8x8 with its pool: 112 parameters, 124 bytes, power-of-two scales, int8."""
    return analyse(qcdq().conv(4).pool().quantize())


def test_every_rule_says_what_it_demands() -> None:
    assert len(RULES) >= 31
    for name in RULES:
        assert sentence(name).endswith("."), name
        assert len(sentence(name)) < 120


def test_a_profile_that_says_nothing_passes_nothing_that_needs_it(small: Facts) -> None:
    by_rule = {finding.rule: finding.status for finding in check_all(small, profile())}
    of_the_file = {"bit-exact", "costs-known", "integer-layers", "scales-stated", "static-shapes", "valid-scales"}
    of_entries = {rule for rule, keys in KEYS.items() if keys == ("ops",)} - {"operators"}
    silent = of_entries | {"bank-placement", "float-inputs"}  # no operators, banks or inputs to speak of
    assert not by_rule.keys() & silent
    needed = {rule for rule, keys in KEYS.items() if keys} - silent - of_the_file
    assert {rule for rule, found in by_rule.items() if found == "unknown"} >= needed
    assert not {rule for rule, found in by_rule.items() if found == "pass"} & needed


def test_all_findings_come_at_once(qcdq: type[Any], analyse: Analyse) -> None:
    facts = analyse(qcdq().conv(4, scale=0.3).conv(4, scale=0.3))
    keys = {"params": {"max": 1}, "weights": {"bits": [4], "scale": "power_of_two"}, **region(10)}
    failed = [finding.rule for finding in check_all(facts, profile(**keys)) if finding.status == "fail"]
    assert failed == ["activation-memory", "parameters", "weight-bits", "weight-bits", "weight-scale", "weight-scale"]


def test_parameters(small: Facts) -> None:
    assert status("parameters", small, params={"max": 112}) == "pass"
    (over,) = findings("parameters", small, params={"max": 100}, sources=[{"keys": ["params"], "text": "page 3"}])
    assert (over.status, over.value, over.limit, over.source) == ("fail", 112, 100, "page 3")
    assert over.message == "112 parameters exceed the cap of 100 by 12"
    assert status("parameters", small, params={"unlimited": True}) == "pass"
    assert status("parameters", small) == "unknown"


def test_layers(conv4: Callable[..., Any], analyse: Analyse) -> None:
    facts = analyse(conv4())
    assert status("layers", facts, layers={"max": 4}) == "pass"
    assert status("layers", facts, layers={"max": 3}) == "fail"


def test_weight_memory(small: Facts) -> None:
    assert status("weight-memory", small, **region(124, "weights")) == "pass"  # 108 int8 weights, 4 int32 biases
    assert status("weight-memory", small, **region(123, "weights")) == "fail"
    assert status("weight-memory", small, **region(124, "shared")) == "pass"
    assert status("weight-memory", small, **region(10_000, "activations")) == "unknown"


def test_narrow_weights_fit_only_where_they_can_be_packed(qcdq: type[Any], analyse: Analyse) -> None:
    facts = analyse(qcdq().conv(4, clip=(-7, 7)))  # 54 bytes packed, 108 not, 16 of biases
    room = region(100, "weights")
    verdicts = {
        packing: status("weight-memory", facts, weights={"packing": packing}, **room) for packing in ("packed", "byte")
    }
    assert verdicts == {"packed": "pass", "byte": "fail"}
    (undecided,) = findings("weight-memory", facts, **room)
    assert undecided.status == "unknown"
    assert "weights.packing" in undecided.message


def test_activation_memory(small: Facts) -> None:
    """Pixels 192 B and conv 256 B are live together; fused, pixels 192 B and pooled 64 B."""
    assert status("activation-memory", small, **region(448)) == "pass"
    (over,) = findings("activation-memory", small, **region(447))
    assert (over.value, over.limit, over.node) == (448, 447, "Conv_3")
    assert over.message.startswith("peak 448 B exceeds ram, the largest region for activations (447 B), by 1 B")
    assert status("activation-memory", small, **region(10_000, "weights")) == "unknown"


@pytest.mark.parametrize(("fused", "expected"), [(True, "pass"), (None, "unknown"), (False, "fail")])
def test_fusing_saves_only_where_the_profile_says_so(small: Facts, fused: bool | None, expected: str) -> None:
    keys = region(256)
    keys["memory"]["conv_pool_fused"] = fused
    (found,) = findings("activation-memory", small, **keys)
    assert found.status == expected
    assert ("fused with its pool" in found.message) == (expected != "pass")


def test_an_arena_does_not_span_regions_or_banks(small: Facts) -> None:
    two = {"memory": {"regions": [{"name": name, "bytes": 250, "role": "activations"} for name in ("a", "b")]}}
    assert status("activation-memory", small, **two) == "fail"
    assert status("activation-memory", small, **region(1024, banks=4, bank_bytes=256)) == "unknown", (
        "fusing is not ruled out"
    )
    assert status("activation-memory", small, **region(1024, banks=4, bank_bytes=255)) == "fail"
    assert status("activation-memory", small, **region(1024, banks=2, bank_bytes=512)) == "pass"
    split = {"memory": {"regions": [dict(item, placement="split") for item in two["memory"]["regions"]]}}
    assert status("activation-memory", small, **split) == "unknown"


def test_a_shared_region_holds_the_weights_too(small: Facts) -> None:
    assert status("activation-memory", small, **region(448 + 124, "shared")) == "pass"
    keys = region(448 + 123, "shared")
    keys["memory"]["conv_pool_fused"] = False
    assert status("activation-memory", small, **keys) == "fail"


def test_operators(small: Facts) -> None:
    ops = [{"op": name} for name in ("Conv", "Relu", "MaxPool")]
    assert status("operators", small, ops=ops) == "pass"
    (missing,) = findings("operators", small, ops=ops[:2])
    assert (missing.status, missing.value) == ("fail", "MaxPool")


def test_costs_known(qcdq: type[Any], small: Facts, analyse: Analyse) -> None:
    assert status("costs-known", small) == "pass"
    (found,) = findings("costs-known", analyse(qcdq().op("Magic", domain="custom")))
    assert (found.status, found.value, found.node) == ("unknown", "custom.Magic", "Magic_1")


@pytest.mark.parametrize(("static", "expected"), [(True, "fail"), (None, "unknown"), (False, "pass")])
def test_an_open_batch(qcdq: type[Any], analyse: Analyse, static: bool | None, expected: str) -> None:
    (found,) = findings("static-shapes", analyse(qcdq(batch="batch").conv(4)), shapes={"static": static})
    assert (found.status, found.node, found.value) == (expected, "pixels", "batch")
    assert "open batch dimension 'batch'" in found.message
    assert "for one image" in found.message


def test_fixed_shapes_pass_anywhere(small: Facts) -> None:
    assert status("static-shapes", small, shapes={"static": True}) == "pass"
    assert status("static-shapes", small) == "pass"


def test_weight_bits(qcdq: type[Any], small: Facts, analyse: Analyse) -> None:
    narrow = analyse(qcdq().conv(4, clip=(-7, 7)))
    assert status("weight-bits", small, weights={"bits": [4, 8]}) == "pass"
    assert status("weight-bits", small, weights={"bits": [4]}) == "fail"
    assert status("weight-bits", narrow, weights={"bits": [4]}) == "pass"
    (found,) = findings("weight-bits", narrow, weights={"bits": [2, 8]})
    assert (found.value, found.limit, found.node) == (4, "2 or 8", "Conv_4")


def test_activation_bits(small: Facts) -> None:
    assert status("activation-bits", small, activations={"bits": [8]}) == "pass"
    assert status("activation-bits", small, activations={"bits": [16]}) == "fail"


def test_floats_are_32_bits_wide(qcdq: type[Any], analyse: Analyse) -> None:
    facts = analyse(qcdq().op("Sigmoid").conv(4, float_weights=True))
    assert findings("weight-bits", facts, weights={"bits": [8]})[0].value == 32
    assert findings("activation-bits", facts, activations={"bits": [8]})[0].value == 32


def test_weight_granularity(qcdq: type[Any], small: Facts, analyse: Analyse) -> None:
    per_channel = analyse(qcdq().conv(4, scale=[0.5, 0.25, 0.5, 0.25]))
    assert status("weight-granularity", per_channel, weights={"granularity": "per_channel"}) == "pass"
    assert status("weight-granularity", small, weights={"granularity": "per_channel"}) == "pass"
    assert status("weight-granularity", per_channel, weights={"granularity": "per_tensor"}) == "fail"


def test_weight_and_activation_scales(qcdq: type[Any], small: Facts, analyse: Analyse) -> None:
    odd_weights, odd_activations = analyse(qcdq().conv(4, scale=0.3)), None
    assert status("weight-scale", small, weights={"scale": "power_of_two"}) == "pass"
    assert status("weight-scale", odd_weights, weights={"scale": "power_of_two"}) == "fail"
    assert status("weight-scale", odd_weights, weights={"scale": "float"}) == "pass"
    odd_activations = analyse(qcdq().conv(4, act_scale=0.3))
    assert status("activation-scale", small, activations={"scale": "power_of_two"}) == "pass"
    found = findings("activation-scale", odd_activations, activations={"scale": "power_of_two"})
    assert [item.status for item in found] == ["fail"], "the input's scale is 2^-7"


def test_symmetry(qcdq: type[Any], small: Facts, analyse: Analyse) -> None:
    shifted = analyse(qcdq().conv(4, zero_point=3))
    assert status("weight-symmetry", small, weights={"symmetric": True}) == "pass"
    assert status("weight-symmetry", shifted, weights={"symmetric": True}) == "fail"
    assert status("weight-symmetry", shifted, weights={"symmetric": False}) == "pass"
    assert status("activation-symmetry", small, activations={"symmetric": True}) == "pass"


def test_the_middle_of_an_unsigned_type_is_symmetric() -> None:
    def symmetric(zero_point: int, *, signed: bool) -> bool:
        return Quantization("n", 8, signed, np.array(1.0), np.array(zero_point)).symmetric

    assert symmetric(128, signed=False)
    assert symmetric(0, signed=False)
    assert not symmetric(127, signed=False)
    assert not symmetric(128, signed=True)


def test_integer_layers(qcdq: type[Any], small: Facts, analyse: Analyse) -> None:
    assert status("integer-layers", small) == "pass"
    facts = analyse(qcdq().conv(4).conv(4, float_weights=True))
    (found,) = findings("integer-layers", facts)
    assert (found.status, found.value) == ("fail", "float")
    assert found.message.endswith("computes in float: weights not quantized")
    assert status("integer-layers", facts, compute={"arithmetic": "any"}) == "pass"


def test_an_average_that_is_not_quantized_makes_the_next_layer_float(qcdq: type[Any], analyse: Analyse) -> None:
    net = qcdq().conv(4)
    net.op("AveragePool", kernel_shape=[2, 2], strides=[2, 2]).conv(4)
    (found,) = findings("integer-layers", analyse(net))
    assert "input not quantized" in found.message


@pytest.mark.parametrize("bad", [float("nan"), 0.0, -0.5, float("inf")])
def test_scales_must_be_positive_numbers(qcdq: type[Any], analyse: Analyse, bad: float) -> None:
    (found,) = findings("valid-scales", analyse(qcdq().conv(4, act_scale=bad)))
    assert (found.status, found.value) == ("fail", str(bad))


def test_one_bad_scale_among_channels_is_found(qcdq: type[Any], analyse: Analyse) -> None:
    found = findings("valid-scales", analyse(qcdq().conv(4, scale=[0.5, 0.0, 0.5, 0.5])))
    assert {item.value for item in found} == {"0.0"}
    assert {item.node for item in found} == {"Conv_3"}


def test_operators_on_integers_are_judged_by_their_stated_scales(qcdq: type[Any], analyse: Analyse) -> None:
    net = qcdq(channels=2, size=4)
    net.nodes.clear()
    net.current = "pixels"
    one, zero = net.constant("one", np.array(0.5, np.float32)), net.constant("zero", np.array(0, np.int8))
    net.initializers.append(numpy_helper.from_array(np.ones((3, 2, 1, 1), np.int8), "w"))
    net.initializers.append(numpy_helper.from_array(np.ones(3, np.int32), "b"))
    odd = net.constant("odd", np.array(0.3, np.float32))
    net.op("QLinearConv", extra=[one, zero, "w", odd, zero, one, zero, "b"])
    facts = analyse(net)
    assert facts.flavour == "qoperator"
    assert (facts.costs.parameters, facts.costs.weight_bytes, facts.costs.macs) == (9, 6 + 12, 3 * 2 * 16)
    assert status("integer-layers", facts) == "pass"
    assert status("weight-scale", facts, weights={"scale": "power_of_two"}) == "fail"
    assert status("activation-scale", facts, activations={"scale": "power_of_two"}) == "pass"
    assert status("operators", facts, ops=[{"op": "Conv"}]) == "pass"


def test_float_pixels_of_a_target_of_integers(qcdq: type[Any], analyse: Analyse) -> None:
    """Quantized at once they are left to the host; else they are a failure; without integer arithmetic no matter."""

    def findings(first: str, **keys: Any) -> list[tuple[str, str | None]]:
        net = qcdq().op(first) if first == "Relu" else qcdq()
        net.conv(4)
        model = net.model()
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
        node = model.graph.node[0]
        if first == "Relu":
            node.op_type = "Relu"
            del node.input[1:]
        net.model = lambda: model
        found = check_all(analyse(net), profile(**keys))
        return [(item.status, item.hint) for item in found if item.rule == "float-inputs"]

    integer = {"compute": {"arithmetic": "integer"}}
    assert findings("quantizer", **integer) == [("pass", None)]
    assert findings("Relu", **integer) == [("fail", "quantize 'pixels' before anything else reads it")]
    assert findings("Relu") == []


def test_a_quantizer_is_named_with_its_layer(qcdq: type[Any], analyse: Analyse) -> None:
    found = check_all(analyse(qcdq().conv(4, act_scale=0.3)), profile(activations={"scale": "power_of_two"}))
    (failed,) = [item for item in found if item.rule == "activation-scale" and item.status == "fail"]
    assert failed.message.startswith(f"{failed.node}, behind Conv_")
