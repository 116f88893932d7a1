from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts, facts_of
from edgekd.verify.reading import read_graph
from edgekd.verify.regions import weight_regions
from edgekd.verify.rules import check_all

Analyse = Callable[[Any], Facts]
Case = tuple[str, dict[str, list[int]], dict[str, list[int]], dict[str, Any], int, int]


def one_node(
    folder: Path, op: str, shapes: dict[str, list[int]], weights: dict[str, list[int]], **attributes: Any
) -> Facts:
    """A graph of one float operator whose inputs are `shapes` and then `weights`."""
    domain = str(attributes.pop("domain", ""))
    graph = helper.make_graph(
        [helper.make_node(op, [*shapes, *weights], ["y"], domain=domain, **attributes)],
        "one",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("custom", 1)]
    path = folder / "one.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return facts_of(read_graph(path))


def test_conv4_64_at_84x84(conv4: Callable[..., Any], analyse: Analyse) -> None:
    costs = analyse(conv4(width=64, size=84)).costs
    # h * w * c_out * c_in * 3 * 3 of each block, at 84, 42, 21 and 10 pixels
    blocks = [84 * 84 * 64 * 3 * 9, 42 * 42 * 64 * 64 * 9, 21 * 21 * 64 * 64 * 9, 10 * 10 * 64 * 64 * 9]
    assert [cost.macs for cost in costs.layers] == blocks
    assert costs.macs == sum(blocks) == 97_164_288
    assert costs.parameters == (3 * 64 * 9 + 64) + 3 * (64 * 64 * 9 + 64) == 112_576
    assert costs.weight_bytes == (112_576 - 4 * 64) + 4 * 64 * 4  # int8 weights, int32 biases
    assert costs.unknown == ()


def test_groups_divide_the_macs(qcdq: type[Any], analyse: Analyse) -> None:
    costs = analyse(qcdq(channels=8, size=10).conv(8, groups=8)).costs
    assert costs.macs == 10 * 10 * 8 * 1 * 9
    assert costs.parameters == 8 * 9 + 8


def test_gemm(qcdq: type[Any], analyse: Analyse) -> None:
    costs = analyse(qcdq(channels=2, size=4).flatten().gemm(5, in_features=32)).costs
    assert costs.macs == 5 * 32
    assert costs.parameters == 5 * 32 + 5


def test_a_fixed_batch_counts_whole_and_an_open_one_counts_one(qcdq: type[Any], analyse: Analyse) -> None:
    one, three, open_batch = (analyse(qcdq(batch=batch).conv(4)).costs.macs for batch in (1, 3, "batch"))
    assert three == 3 * one
    assert open_batch == one


def test_weights_behind_a_clip_are_counted_at_their_width(qcdq: type[Any], analyse: Analyse) -> None:
    costs = analyse(qcdq().conv(4, clip=(-7, 7))).costs  # 4-bit weights in int8
    assert costs.weight_bytes == 4 * 3 * 9 // 2 + 4 * 4
    assert costs.unpacked_weight_bytes == 4 * 3 * 9 + 4 * 4


def test_a_shared_weight_counts_once(qcdq: type[Any], analyse: Analyse) -> None:
    net = qcdq(channels=4).conv(4).conv(4)
    convs = [node for node in net.nodes if node.op_type == "Conv"]
    convs[1].input[1] = convs[0].input[1]
    assert analyse(net).costs.parameters == 4 * 4 * 9 + 4 + 4


@pytest.mark.parametrize(
    "case",
    [
        ("MatMul", {"x": [2, 7, 3]}, {"w": [3, 5]}, {}, 2 * 7 * 5 * 3, 15),
        ("Gemm", {"x": [3, 7]}, {"w": [3, 5], "b": [5]}, {"transA": 1}, 7 * 5 * 3, 20),
        ("ConvTranspose", {"x": [1, 4, 5, 5]}, {"w": [4, 6, 2, 2]}, {"strides": [2, 2]}, 100 * 6 * 4, 96),
        ("Conv", {"x": [1, 4, 9]}, {"w": [6, 4, 3]}, {"kernel_shape": [3]}, 7 * 6 * 4 * 3, 72),
        ("Add", {"x": [1, 8]}, {"b": [8]}, {}, 0, 8),
        ("Mul", {"x": [1, 8]}, {"s": [1]}, {}, 0, 0),
        ("PRelu", {"x": [1, 8]}, {"slope": [8]}, {}, 0, 8),
    ],
    ids=lambda case: case[0],
)
def test_costs_of_float_operators(tmp_path: Path, case: Case) -> None:
    op, shapes, weights, attributes, macs, parameters = case
    costs = one_node(tmp_path, op, shapes, weights, **attributes).costs
    assert (costs.macs, costs.parameters) == (macs, parameters)
    assert costs.weight_bytes == 4 * parameters


def test_a_product_of_two_activations_has_macs_but_no_parameters(tmp_path: Path) -> None:
    costs = one_node(tmp_path, "MatMul", {"q": [4, 8], "k": [8, 4]}, {}).costs
    assert (costs.macs, costs.parameters) == (4 * 4 * 8, 0)


def test_batchnorm_counts_its_two_learned_vectors(tmp_path: Path) -> None:
    vectors = {name: [4] for name in ("scale", "bias", "mean", "var")}
    assert one_node(tmp_path, "BatchNormalization", {"x": [1, 4, 2, 2]}, vectors).costs.parameters == 8


def test_an_unknown_operator_is_not_free_but_unknown(tmp_path: Path) -> None:
    costs = one_node(tmp_path, "Magic", {"x": [1, 8]}, {"w": [8, 8]}, domain="custom").costs
    assert [node.op for node in costs.unknown] == ["Magic"]
    assert costs.parameters == 64, "every array of an unknown operator is taken for a parameter"


def test_narrow_weights_count_at_the_width_that_the_manifest_declares(qcdq: type[Any], tmp_path: Path) -> None:
    from edgekd.verify.layers import layers_of

    net = qcdq().conv(4)
    weights = next(item for item in net.initializers if item.name.startswith("weight"))
    weights.CopyFrom(numpy_helper.from_array(np.full((4, 3, 3, 3), -7, np.int8), weights.name))
    graph = read_graph(net.save(tmp_path / "m.onnx"))
    found = [layers_of(graph, bits)[0].weight for bits in (None, 4, 3)]
    assert [item and item.bits for item in found] == [8, 4, 8], "-7 needs 4 bits"


def test_weight_bytes_by_width_biases_apart(qcdq: type[Any], analyse: Callable[[Any], Facts]) -> None:
    """108 4-bit weights, 36 8-bit weights of 1x1 windows, 4 + 9 biases of 32 bits."""
    costs = analyse(qcdq().conv(4, clip=(-7, 7)).conv(9, kernel=1)).costs
    rows = {(row.kind, row.bits): (row.elements, row.bytes) for row in costs.by_bits}
    assert rows == {("weights", 4): (108, 54), ("weights", 8): (36, 36), ("biases", 32): (13, 52)}
    assert sum(row.bytes for row in costs.by_bits) == costs.weight_bytes == 142
    assert costs.bias_bytes == 52


def test_regions_are_filled_their_own_before_shared_ones(qcdq: type[Any], analyse: Callable[[Any], Facts]) -> None:
    """108 B of weights and 16 B of biases, which the target stores in 8 bits where they have a memory of their own."""
    costs = analyse(qcdq().conv(4)).costs

    def used(*regions: tuple[str, int], **keys: Any) -> list[tuple[str, int]]:
        items = [{"name": role, "role": role, "bytes": size} for role, size in regions]
        profile = HardwareProfile.model_validate({"name": "toy", "memory": {"regions": items}, **keys})
        return [(row.region, row.used_bytes) for row in weight_regions(costs, profile)]

    assert used(("shared", 100), ("weights", 100)) == [("weights", 100), ("shared", 24)]
    assert used(("activations", 100)) == []
    own = used(("biases", 8), ("weights", 200), biases={"bits": [8]})
    assert own == [("weights", 108), ("biases", 4)]


def test_biases_in_a_memory_of_their_own(qcdq: type[Any], analyse: Callable[[Any], Facts]) -> None:
    facts = analyse(qcdq().conv(4))
    for room, bits, expected in ((4, 8, "pass"), (3, 8, "fail"), (16, 32, "pass"), (15, 32, "fail")):
        region = {"name": "b", "role": "biases", "bytes": room}
        tree = {"name": "toy", "memory": {"regions": [region]}, "biases": {"bits": [bits]}}
        found = [item for item in check_all(facts, HardwareProfile.model_validate(tree)) if item.rule == "bias-memory"]
        assert [item.status for item in found] == [expected]
