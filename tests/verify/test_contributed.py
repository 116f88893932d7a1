"""Operators that onnxruntime adds cost what the operators of ONNX between quantizers cost that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekd.verify.facts import Facts, facts_of
from edgekd.verify.integer.lowering import LOWERINGS
from edgekd.verify.reading import read_graph
from edgekd.verify.rules import RULES

IMAGE = [1, 4, 6, 6]
SCALES = {
    "s": np.float32(0.25),
    "z": np.int8(0),
    "s_w": np.float32(0.125),
    "z_b": np.int32(0),
    "s_b": np.float32(2**-5),
}
CONV, DENSE, BIAS = np.ones((5, 4, 3, 3), np.int8), np.ones((144, 7), np.int8), np.ones(7, np.int32)

# Operator: how its inputs are stated on integers, the operator of ONNX, shape of the input, weights, attributes.
Case = tuple[Sequence[str], str, list[int], dict[str, NDArray[Any]], dict[str, Any]]
DATA, OUT = ("a", "s", "z"), ("s", "z")
CASES: dict[str, Case] = {
    "QLinearConv": ((*DATA, "w", "s_w", "z", *OUT), "Conv", IMAGE, {"w": CONV}, {}),
    "QLinearMatMul": ((*DATA, "w", "s_w", "z", *OUT), "MatMul", [1, 144], {"w": DENSE}, {}),
    "QGemm": ((*DATA, "w", "s_w", "z", "b", *OUT), "Gemm", [1, 144], {"w": DENSE, "b": BIAS}, {}),
    "QGemm transposed": ((*DATA, "w", "s_w", "z", "", *OUT), "Gemm", [1, 144], {"w": DENSE.T}, {"transB": 1}),
    "QLinearAdd": ((*DATA, *DATA, *OUT), "Add", IMAGE, {}, {}),
    "QLinearMul": ((*DATA, *DATA, *OUT), "Mul", IMAGE, {}, {}),
    "QLinearConcat": ((*OUT, *DATA, *DATA, *DATA), "Concat", IMAGE, {}, {"axis": 1}),
    "QLinearGlobalAveragePool": ((*DATA, *OUT), "GlobalAveragePool", IMAGE, {}, {}),
    "QLinearAveragePool": (
        (*DATA, *OUT),
        "AveragePool",
        IMAGE,
        {},
        {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    ),
}


def saved(nodes: list[onnx.NodeProto], shape: list[int], weights: dict[str, NDArray[Any]], path: Path) -> Facts:
    graph = helper.make_graph(
        nodes,
        "twin",
        [helper.make_tensor_value_info("a", TensorProto.INT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT8, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in {**SCALES, **weights}.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return facts_of(read_graph(path))


def on_integers(name: str, path: Path) -> Facts:
    inputs, _, shape, weights, attributes = CASES[name]
    op = name.split(maxsplit=1)[0]
    domain = "" if op in {"QLinearConv", "QLinearMatMul"} else "com.microsoft"
    return saved([helper.make_node(op, inputs, ["y"], name="op", domain=domain, **attributes)], shape, weights, path)


def between_quantizers(name: str, path: Path) -> Facts:
    inputs, op, shape, weights, attributes = CASES[name]
    nodes = [helper.make_node("DequantizeLinear", ["a", "s", "z"], ["a_f"], name="a")]
    for weight, quantizer in (("w", ["s_w", "z"]), ("b", ["s_b", "z_b"])):
        if weight in weights:
            nodes.append(helper.make_node("DequantizeLinear", [weight, *quantizer], [f"{weight}_f"], name=weight))
    operands = [f"{item}_f" for item in inputs if item in {"a", "w", "b"}]
    nodes.append(helper.make_node(op, operands, ["f"], name="op", **attributes))
    nodes.append(helper.make_node("QuantizeLinear", ["f", "s", "z"], ["y"], name="y"))
    return saved(nodes, shape, weights, path)


def test_every_operator_on_integers_has_a_twin() -> None:
    assert {name.split()[0] for name in CASES} == {name for name in LOWERINGS if name.startswith(("QLinear", "QGemm"))}


@pytest.mark.parametrize("name", CASES)
def test_the_twins_cost_the_same(name: str, tmp_path: Path) -> None:
    ours, twin = on_integers(name, tmp_path / "a.onnx"), between_quantizers(name, tmp_path / "b.onnx")
    assert ours.graph.value("y") == twin.graph.value("y")
    assert ours.graph.value("y").shape is not None
    costs = [(facts.costs.macs, facts.costs.parameters, facts.costs.weight_bytes) for facts in (ours, twin)]
    assert costs[0] == costs[1]
    assert not ours.costs.unknown
    plans = [facts.memory.plan for facts in (ours, twin)]
    assert plans[0] is not None
    assert plans[1] is not None
    assert plans[0].peak_bytes == plans[1].peak_bytes > 0
    assert ours.lowered.program is not None


@pytest.mark.parametrize(
    ("op", "domain", "said"),
    [("Frobnicate", "com.microsoft", "is unknown to edgekd"), ("QGemm", "com.microsoft", "shape is not known ('y')")],
)
def test_what_is_unknown_is_said(op: str, domain: str, said: str, tmp_path: Path) -> None:
    """An operator, or only the shape of its output: here of a matrix product of other sizes."""
    inputs = [*DATA, "w", "s_w", "z", "", *OUT]
    node = helper.make_node(op, inputs, ["y"], name="op", domain=domain)
    facts = saved([node], [1, 5, 5], {"w": DENSE}, tmp_path / "m.onnx")
    (finding,) = RULES["costs-known"](facts, None)  # type: ignore[arg-type]  # a rule on the file alone
    assert finding.status == "unknown"
    assert f"{domain}.{op}" in finding.message
    assert said in finding.message


def test_a_product_without_an_output_scale_leaves_floats(tmp_path: Path) -> None:
    inputs = ["a", "s", "z", "w", "s_w", "z", "b"]
    nodes = [helper.make_node("QGemm", inputs, ["f"], domain="com.microsoft")]
    nodes.append(helper.make_node("QuantizeLinear", ["f", "s", "z"], ["y"]))
    facts = saved(nodes, [1, 144], {"w": DENSE, "b": BIAS}, tmp_path / "model.onnx")
    assert (facts.graph.values["f"].dtype, facts.graph.values["f"].shape) == ("float32", (1, 7))
    assert facts.graph.values["y"].dtype == "int8"
