"""Weights that are computed from constants, or come when the file runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekd.profile import HardwareProfile
from edgekd.verify.facts import Facts, facts_of
from edgekd.verify.reading import read_graph
from edgekd.verify.report import Params
from edgekd.verify.rules import check_all

SHAPE, ELEMENTS = (6, 3, 3, 3), 162
Step = tuple[str, list[str], dict[str, Any]]
Array = NDArray[Any]


def stored(*shape: int, dtype: type = np.float32) -> Array:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def conv_of(
    folder: Path, steps: Sequence[Step], constants: Mapping[str, Array], fed: Mapping[str, Sequence[int]] | None = None
) -> Facts:
    """A Conv whose weights "w" come out of `steps`; these write t0, t1, ..., the last one "w"."""
    names = [f"t{at}" for at in range(len(steps) - 1)] + ["w"]
    nodes = [helper.make_node(op, inputs, [out], **keys) for (op, inputs, keys), out in zip(steps, names, strict=False)]
    nodes.append(helper.make_node("Conv", ["x", "w"], ["y"], name="conv", kernel_shape=[3, 3]))
    inputs = {"x": [1, 3, 8, 8], **(fed or {})}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path = folder / "m.onnx"
    onnx.save(model, path)
    return facts_of(read_graph(path))


TWO, WHOLE = np.array(2, np.float32), stored(*SHAPE)
INDICES = {"a": np.array([0]), "b": np.array([6])}
FOLDED: dict[str, tuple[list[Step], dict[str, Array]]] = {
    "Mul": ([("Mul", ["v", "k"], {})], {"v": WHOLE, "k": TWO}),
    "Div": ([("Div", ["v", "k"], {})], {"v": WHOLE, "k": TWO}),
    "broadcast": ([("Mul", ["v", "k"], {})], {"v": stored(6, 3, 1, 1), "k": stored(1, 1, 3, 3)}),
    "Concat": (
        [("Concat", ["v", "u"], {"axis": 0})],
        {"v": stored(4, 3, 3, 3), "u": stored(2, 3, 3, 3)},
    ),
    "Slice": ([("Slice", ["v", "a", "b"], {})], {"v": stored(9, 3, 3, 3), **INDICES}),
    "Round and view": (
        [("Round", ["v"], {}), ("Reshape", ["t0", "s"], {})],
        {"v": stored(162), "s": np.array(SHAPE)},
    ),
    "Tanh": ([("Tanh", ["v"], {})], {"v": WHOLE}),
    "weight norm": (
        [("ReduceL2", ["v"], {"axes": [1, 2, 3]}), ("Div", ["v", "t0"], {}), ("Mul", ["t1", "g"], {})],
        {"v": WHOLE, "g": stored(6, 1, 1, 1)},
    ),
    "ConstantOfShape": ([("ConstantOfShape", ["s"], {})], {"s": np.array(SHAPE)}),
}


@pytest.mark.parametrize("case", sorted(FOLDED))
def test_computed_weights_count_as_the_tensor_that_the_layer_reads(case: str, tmp_path: Path) -> None:
    costs = conv_of(tmp_path, *FOLDED[case]).costs
    assert costs.parameters == costs.layers[0].parameters == ELEMENTS
    assert costs.weight_bytes == costs.unpacked_weight_bytes == 4 * ELEMENTS
    assert costs.unweighed == ()


def test_computed_integers_count_at_their_own_width(tmp_path: Path) -> None:
    steps: list[Step] = [("Slice", ["v", "a", "b"], {}), ("DequantizeLinear", ["t0", "s", "z"], {})]
    constants = {"v": stored(9, 3, 3, 3, dtype=np.int8), **INDICES, "s": np.float32(0.5), "z": np.int8(0)}
    costs = conv_of(tmp_path, steps, {name: np.asarray(array) for name, array in constants.items()}).costs
    assert (costs.parameters, costs.weight_bytes) == (ELEMENTS, ELEMENTS)


def profile(cap: int) -> HardwareProfile:
    region = {"name": "flash", "role": "weights", "bytes": 10_000}
    return HardwareProfile.model_validate(
        {"name": "toy", "params": {"max": cap}, "memory": {"regions": [region]}, "weights": {"packing": "byte"}}
    )


def statuses(facts: Facts, cap: int) -> dict[str, str]:
    rules = ("parameters", "weight-memory", "bias-memory")
    return {item.rule: item.status for item in check_all(facts, profile(cap)) if item.rule in rules}


def test_computed_weights_are_held_to_the_cap(tmp_path: Path) -> None:
    facts = conv_of(tmp_path, *FOLDED["Mul"])
    assert statuses(facts, ELEMENTS)["parameters"] == "pass"
    assert statuses(facts, ELEMENTS - 1)["parameters"] == "fail"


RUNTIME: dict[str, tuple[list[Step], dict[str, Array], dict[str, Sequence[int]]]] = {
    "fed": ([], {}, {"w": SHAPE}),
    "scaled": ([("Mul", ["v", "k"], {})], {"k": TWO}, {"v": SHAPE}),
}


@pytest.mark.parametrize("case", sorted(RUNTIME))
def test_weights_that_come_at_run_time_are_unknown(case: str, tmp_path: Path) -> None:
    facts = conv_of(tmp_path, *RUNTIME[case])
    assert [node.name for node in facts.costs.unweighed] == ["conv"]
    assert set(statuses(facts, 10**6).values()) == {"unknown"}
    found = next(item for item in check_all(facts, profile(10**6)) if item.rule == "parameters")
    assert "conv" in found.message


def test_a_product_of_one_input_with_itself_has_no_weights(qcdq: type[Any], analyse: Any) -> None:
    net = qcdq(channels=4, size=4)
    net.op("MatMul", extra=[net.current])
    assert analyse(net).costs.unweighed == ()


def test_what_is_not_counted_is_required_in_vain() -> None:
    from edgekd.verify.quantities import QUANTITIES

    class Stub:
        params = Params(total=0, cap=None, unknown=("conv",))

    assert QUANTITIES["params"].read(Stub(), {}) == []  # type: ignore[arg-type]  # only its parameters are read
    Stub.params = Params(total=3, cap=None)
    assert [item.value for item in QUANTITIES["params"].read(Stub(), {})] == [3]  # type: ignore[arg-type]  # as above


def reads_huge(folder: Path, op: str, source: str, elements: int = 2**16) -> Facts:
    """`op` reads x and a constant of many elements, which the file computes from a few bytes."""
    made = {
        "ConstantOfShape": helper.make_node("ConstantOfShape", ["to"], ["huge"]),
        "Expand": helper.make_node("Expand", ["one", "to"], ["huge"]),
        "Tile": helper.make_node("Tile", ["one", "to"], ["huge"]),
    }[source]
    inputs = {"Where": ["yes", "x", "huge"], "Gather": ["x", "at"], "Expand": ["x", "shape"]}.get(op, ["x", "huge"])
    more = [
        helper.make_node("Cast", ["huge"], [name], to=TensorProto.INT64) for name in ("at", "shape") if name in inputs
    ]
    keys: dict[str, Any] = {"axis": 0} if op == "Concat" else {}
    constants = {"to": np.array([elements]), "one": np.ones(1, np.float32), "yes": np.array(True)}
    graph = helper.make_graph(
        [made, *more, helper.make_node(op, inputs, ["y"], name="reads", **keys)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [elements if op == "Concat" else 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = folder / "huge.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return facts_of(read_graph(path))


@pytest.mark.parametrize("source", ["ConstantOfShape", "Expand", "Tile"])
@pytest.mark.parametrize("op", ["Add", "Max", "Where", "Concat", "Pow", "Sum"])
def test_a_huge_computed_constant_counts(tmp_path: Path, op: str, source: str) -> None:
    costs = reads_huge(tmp_path, op, source).costs
    assert (costs.parameters, costs.weight_bytes) == (2**16, 2**18)
    assert costs.uncounted == ()


def test_a_huge_constant_that_is_no_parameter_is_a_finding(tmp_path: Path) -> None:
    facts = reads_huge(tmp_path, "Gather", "Expand")
    assert facts.costs.uncounted == ("at",)
    (found,) = [item for item in check_all(facts, HardwareProfile(name="p")) if item.rule == "constants-counted"]
    assert (found.status, found.node, found.value) == ("unknown", "reads", "at")
    assert "reads the constant 'at' of 65,536 elements" in found.message


def test_small_constants_are_shapes_and_limits(tmp_path: Path) -> None:
    assert reads_huge(tmp_path, "Gather", "Expand", elements=1_024).costs.uncounted == ()
    assert reads_huge(tmp_path, "Gather", "Expand", elements=1_025).costs.uncounted == ("at",)
