"""Every operator that the simulator claims, on the ONNX backend's node tests.

Where their data are floats, the same node runs on integers behind scales of 1, against `onnx.reference`. The cases are
made by the `onnx` package itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekd.verify.integer.lowering import LOWERINGS
from edgekd.verify.integer.values import RefusedError

Array = NDArray[Any]
OF_ONNXRUNTIME = {name for name in LOWERINGS if name.startswith(("QLinear", "QGemm"))} - {
    "QLinearConv",
    "QLinearMatMul",
}
STATED = {"QLinearConv", "QLinearMatMul", "QuantizeLinear", "DequantizeLinear"}  # their cases are quantized already
CLAIMED = sorted(set(LOWERINGS) - OF_ONNXRUNTIME)
WEIGHTED = {"Conv", "Gemm", "MatMul"}  # operands after the first become weights
JOINING = {"Add", "Mul", "Concat"}  # every operand is an activation
OLDEST = 13  # opset: before it some operators had other attributes, and the quantizers need 21
STEP = 8.0  # of the output: a sum is rounded to it


@cache
def cases() -> dict[str, list[Any]]:
    """The node tests of each claimed operator, with one node and no subgraph."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found: dict[str, list[Any]] = {name: [] for name in CLAIMED}
        for case in collect_testcases(None):
            nodes = list(case.model.graph.node) if case.model else []
            if (
                len(nodes) == 1
                and (nodes[0].op_type in STATED or opset(case) >= OLDEST)
                and nodes[0].op_type in found
                and not nodes[0].domain
                and case.data_sets
                and all(np.size(array) for array in case.data_sets[0][0])  # a graph without elements is refused
            ):
                found[nodes[0].op_type].append(case)
    return found


def integral(array: Array, rng: np.random.Generator) -> Array:
    return rng.integers(-20, 21, array.shape).astype(np.float32)


def quantized_model(case: Any) -> tuple[onnx.ModelProto, list[Array], Array]:
    """The case between quantizers: the model, int8 inputs, and what the reference makes of them in float."""
    node, inputs = case.model.graph.node[0], list(case.data_sets[0][0])
    rng = np.random.default_rng(len(case.name))
    names = [str(item.name) for item in case.model.graph.input]
    feeds = {name: np.asarray(array) for name, array in zip(names, inputs, strict=True)}
    data: list[str] = list(node.input) if node.op_type in JOINING else [node.input[0]]
    weights: list[str] = [name for name in node.input[1:] if name in feeds and node.op_type in WEIGHTED]
    for name in [*data, *weights]:
        feeds[name] = integral(feeds[name], rng)
    if node.op_type == "Pad":
        feeds = {name: np.rint(array).astype(array.dtype) for name, array in feeds.items()}
    outputs: Any = ReferenceEvaluator(case.model).run(None, feeds)
    expected = outputs[0]
    scalars = {"one": np.float32(1), "zero": np.int8(0), "step": np.float32(STEP), "far": np.int16(0)}
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in scalars.items()]
    nodes = []
    for name, array in feeds.items():
        if name in (*data, *weights):
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}_int8", "one", "zero"], [name]))
        integers = name in weights
        if name not in data:
            stored = array.astype(np.int8) if integers else array
            constants.append(numpy_helper.from_array(stored, f"{name}_int8" if integers else name))
    nodes += [node, helper.make_node("QuantizeLinear", [node.output[0], "step", "far"], ["y_int16"])]
    graph = helper.make_graph(
        nodes,
        "case",
        [helper.make_tensor_value_info(f"{name}_int8", TensorProto.INT8, feeds[name].shape) for name in data],
        [helper.make_tensor_value_info("y_int16", TensorProto.INT16, expected.shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", max(21, opset(case)))], ir_version=10)
    return model, [feeds[name].astype(np.int8) for name in data], np.asarray(expected, np.float64)


def opset(case: Any) -> int:
    return max((item.version for item in case.model.opset_import if not item.domain), default=0)


def stated_model(case: Any) -> tuple[onnx.ModelProto, list[Array], Array]:
    """A case that is quantized already: every input but the first becomes a constant."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs = list(case.data_sets[0][0])
    names = [item.name for item in case.model.graph.input]
    for name, array in zip(names[1:], inputs[1:], strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    del model.graph.input[1:]
    return model, [np.asarray(inputs[0])], np.asarray(case.data_sets[0][1][0], np.float64)


def ran(op: str, program_of: Any, run: Callable[..., Array]) -> tuple[list[str], list[str]]:
    """The cases of an operator that were computed, each compared, and those refused with a reason."""
    done, refused = [], []
    for case in cases()[op]:
        if op in {"DequantizeLinear", "QuantizeLinear"} and ("float" in case.name or "blocked" in case.name):
            continue
        try:
            made = stated_model(case) if op in STATED else quantized_model(case)
        except (ValueError, NotImplementedError, TypeError):  # the reference does not compute this case
            continue
        model, images, expected = made
        try:
            found = run(program_of(model), "ort", *images)
        except RefusedError as refusal:
            refused.append(f"{case.name}: {refusal.reason}")
            continue
        if op == "DequantizeLinear":
            form = program_of(model).results[0].format
            found = (found.astype(np.int64) - form.zero_point) * form.scale
        elif op not in STATED:
            expected = np.clip(np.rint(expected.astype(np.float32) / np.float32(STEP)), -(2**15), 2**15 - 1)
        np.testing.assert_array_equal(found, expected, err_msg=case.name)
        done.append(case.name)
    return done, refused


@pytest.mark.parametrize("op", CLAIMED)
def test_node_cases(op: str, program_of: Any, run: Callable[..., Array]) -> None:
    done, refused = ran(op, program_of, run)
    assert done, refused
    assert all(text.partition(": ")[2] for text in refused)


def test_the_table_of_claims_is_the_registry() -> None:
    promised = "Conv Gemm MatMul Add Mul Concat Relu Clip MaxPool AveragePool GlobalAveragePool GlobalMaxPool Flatten "
    promised += (
        "Reshape Squeeze Unsqueeze Transpose Pad Identity QuantizeLinear DequantizeLinear QLinearConv QLinearMatMul"
    )
    assert set(promised.split()) <= set(CLAIMED)
    assert {
        "QGemm",
        "QLinearAdd",
        "QLinearMul",
        "QLinearConcat",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
    } == OF_ONNXRUNTIME
